"""A new run on a GPU computes in bfloat16 where there is any, and keeps what it began with; on the CPU nothing is chosen."""

from __future__ import annotations

import pytest
import torch

from manifests.errors import UsageError
from manifests.io.json_yaml import write_yaml
from training.config.load import resolved
from training.runs.distributed import Ranks
from training.runs.precision import precision_name, with_precision

GPU = Ranks(device=torch.device("cuda"))


def config_of(**keys):
    return resolved({"corpus": "corpus", "teacher": {"name": "nano"}, **keys}, where="test")


@pytest.fixture(params=[True, False], ids=["with bfloat16", "without"])
def has_bfloat16(request, monkeypatch):
    def supported(*, including_emulation):
        return request.param or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
    return request.param


def test_a_new_run_gets_bfloat16_where_the_gpu_has_it(tmp_path, has_bfloat16):
    found = with_precision(config_of(), tmp_path, ranks=GPU)
    assert found.precision == ("bfloat16" if has_bfloat16 else "float32")
    assert with_precision(config_of(precision="float32"), tmp_path, ranks=GPU).precision == "float32"
    assert with_precision(config_of(), tmp_path, ranks=Ranks()).precision == "float32"


def test_a_run_keeps_the_precision_that_it_began_with(tmp_path, has_bfloat16):
    write_yaml(tmp_path / "config.yaml", config_of(precision="float32").model_dump(mode="json", by_alias=True))
    assert with_precision(config_of(), tmp_path, ranks=GPU).precision == "float32"
    begun = with_precision(config_of(), tmp_path / "new", ranks=GPU)
    write_yaml(tmp_path / "config.yaml", begun.model_dump(mode="json", by_alias=True))
    assert with_precision(config_of(), tmp_path, ranks=GPU) == begun


def test_bfloat16_of_a_gpu_without_it_is_one_line(tmp_path, has_bfloat16):
    config = config_of(precision="bf16")
    if has_bfloat16:
        assert with_precision(config, tmp_path, ranks=GPU) == config
        return
    with pytest.raises(UsageError, match="bfloat16, which Tesla V100 does not have: set precision: float32") as caught:
        with_precision(config, tmp_path, ranks=GPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("matrices", "convolutions"), [(True, False), (False, True)])
def test_float32_on_a_gpu_says_whether_it_is_tf32(matrices, convolutions):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    words = {True: "on", False: "off"}
    try:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matrices, convolutions
        found = precision_name("float32", GPU.device)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert found == f"float32 (TF32 {words[matrices]} for matrices, {words[convolutions]} for convolutions)"
    assert precision_name("bfloat16", GPU.device) == "bfloat16"
    assert precision_name("float32", torch.device("cpu")) == "float32"
