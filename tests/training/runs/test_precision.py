"""A new run on a GPU computes in bfloat16 where there is any, and keeps what it began with; on the CPU nothing is chosen."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from manifests.errors import UsageError
from manifests.io.json_yaml import write_yaml
from tests.oracles import made_step
from training.config.load import resolved
from training.models.encoder import Encoder, EncoderConfig
from training.runs.distributed import Ranks
from training.runs.precision import backpropagate, computed_in, hold_matrices, precision_name, with_precision
from training.step import forward_backward

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


def made_encoder(family, mode):
    shape = {
        "family": family, "extractor_mode": mode, "extractor_conv_layer_config": [[16, 10, 5], [16, 3, 2]],
        "extractor_conv_bias": mode == "layer_norm", "encoder_embed_dim": 32, "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 8, "encoder_pos_conv_groups": 2, "encoder_num_layers": 2, "encoder_num_heads": 4,
        "encoder_attention_dropout": 0.0, "encoder_ff_interm_features": 64, "encoder_ff_interm_dropout": 0.0, "encoder_dropout": 0.0,
        "encoder_layer_norm_first": mode == "layer_norm", "encoder_layer_drop": 0.0,
        **({"encoder_num_buckets": 32, "encoder_max_distance": 80} if family == "wavlm" else {}),
    }  # fmt: skip
    config = EncoderConfig.parse(shape, where="test")
    return Encoder(config.build(), config, name=family)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
def test_a_teacher_whose_matrices_are_held_in_bfloat16_gives_what_autocast_gives(family, mode):
    torch.manual_seed(0)
    teacher = made_encoder(family, mode)
    wave, num_samples = torch.randn(3, 8000), torch.tensor([8000, 6000, 4000])
    for row, length in enumerate(num_samples):
        wave[row, length:] = 0
    with computed_in("bfloat16", torch.device("cpu")):
        expected, _ = teacher.layers(wave, num_samples)
    held = copy.deepcopy(teacher)
    hold_matrices(held, "bfloat16")
    found, _ = held.layers(wave, num_samples)  # in validation there is no autocast around it
    assert torch.equal(found, expected)
    matrices = {one.dtype for name, one in held.named_parameters() if one.numel() > 1000 and "pos_conv" not in name}
    assert matrices == {torch.bfloat16}
    norms = [one for name, one in held.named_parameters() if "layer_norm" in name]
    assert norms
    assert all(one.dtype == torch.float32 for one in norms)
    plain = copy.deepcopy(teacher)
    hold_matrices(plain, "float32")
    assert {one.dtype for one in plain.parameters()} == {torch.float32}


@pytest.mark.parametrize("sent", ["float32", "bfloat16"])
def test_ranks_but_the_first_compute_in_what_it_sends_and_do_not_look_at_their_own_disk(tmp_path, monkeypatch, sent):
    own = "float32" if sent == "bfloat16" else "bfloat16"
    write_yaml(tmp_path / "config.yaml", config_of(precision=own).model_dump(mode="json", by_alias=True))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    calls = []
    ranks = SimpleNamespace(
        device=torch.device("cuda"), is_first=False, broadcast=lambda precision: calls.append(precision) or sent
    )
    found = with_precision(config_of(), tmp_path, ranks=ranks)
    assert found.precision == sent
    assert calls == [config_of().precision]
    assert found == config_of().model_copy(update={"precision": sent})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_of_float32_convolutions_are_computed_without_onednn_and_only_those(precision):
    torch.manual_seed(0)
    convolution = torch.nn.Conv1d(32, 32, 3)
    wave = torch.randn(2, 32, 500)
    expected = torch.autograd.grad(convolution(wave).square().sum(), convolution.weight)[0]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        with computed_in(precision, torch.device("cpu")):
            loss = convolution(wave).float().square().sum()
        backpropagate(loss, precision)
    operators = {event.key for event in profile.key_averages()}
    assert ("aten::_slow_conv2d_backward" in operators) == (precision == "float32")
    assert torch.backends.mkldnn.enabled
    tolerance = 1e-5 if precision == "float32" else 3e-2
    torch.testing.assert_close(
        convolution.weight.grad, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )


def test_a_backward_pass_that_fails_leaves_onednn_as_it_was():
    with pytest.raises(RuntimeError, match="does not require grad"):
        backpropagate(torch.zeros(()), "float32")
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_has_its_gradients_so(teacher_folder, precision):
    config = made_step.config_of(teacher_folder, precision=precision)
    models, seen = made_step.models_of(config), set()
    for parameter in models.student.parameters():
        parameter.register_hook(lambda _: seen.add(torch.backends.mkldnn.enabled))
    forward_backward(models, made_step.ragged_batch(3), config, step=1)
    assert seen == {precision == "bfloat16"}
