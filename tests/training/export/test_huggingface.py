"""A folder of Hugging Face says all that its library needs, and is compared as the run takes its waves."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import safetensors
import safetensors.torch
import torch

from manifests.errors import UsageError
from tests.training.conftest import random_encoder
from training.export.huggingface import layers_of, loaded, quiet, write_huggingface

transformers = pytest.importorskip("transformers")
LARGE = {"mode": "layer_norm", "first": True}


def wave_of(num_samples=3000):
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(1)) + 0.02


def layers(encoder, wave):
    return encoder.layers(wave[None], torch.tensor([len(wave)]))[0][0]


def prepared(folder):
    return json.loads((folder / "preprocessor_config.json").read_text())


def test_the_files_of_a_folder_say_how_waves_are_taken_and_who_reads_them(tmp_path):
    """The epsilon is as large as the variance of the wave, so that another one would show."""
    encoder = random_encoder(**LARGE, normalise=True, changes={"sample_rate": 8000, "normalize_epsilon": 0.01})
    written = write_huggingface(encoder, tmp_path)
    assert (written.name, written.loads, written.is_rounded) == (
        "",
        "transformers.HubertModel.from_pretrained({path})",
        False,
    )
    assert written.note == (
        "its extractor adds 1e-07 to a wave's variance before it divides, the run 0.01: of quiet speech the features differ a little more"
    )
    torch.testing.assert_close(written.outputs(wave_of()), layers(encoder, wave_of()), atol=1e-5, rtol=1e-4)
    assert prepared(tmp_path) == {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "sampling_rate": 8000, "padding_side": "right",
        "padding_value": 0.0, "do_normalize": True, "return_attention_mask": True,
    }  # fmt: skip
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architectures"], config["torch_dtype"], config["hidden_size"]) == (["HubertModel"], "float32", 24)
    assert "sampling_rate=8000" in written.code
    with safetensors.safe_open(tmp_path / "model.safetensors", framework="pt") as stream:
        assert stream.metadata() == {"format": "pt"}
        assert stream.get_tensor("masked_spec_embed").shape == (24,)


@pytest.mark.parametrize(
    ("shape", "changes", "has_mask"),
    [
        ({"mode": "layer_norm", "normalise": True}, {"normalize_epsilon": 1e-7}, True),
        (LARGE, {"normalize_epsilon": 0.01}, True),
        ({"normalise": True}, {"normalize_epsilon": 1e-7}, False),
        ({}, {}, False),
    ],
)
def test_no_note_where_both_divide_alike_or_not_at_all_and_no_mask_for_group_norms(tmp_path, shape, changes, has_mask):
    encoder = random_encoder(**shape, changes=changes)
    written = write_huggingface(encoder, tmp_path)
    assert written.note == ""
    found = prepared(tmp_path)
    assert (found["do_normalize"], found["return_attention_mask"]) == (bool(shape.get("normalise")), has_mask)
    torch.testing.assert_close(written.outputs(wave_of()), layers(encoder, wave_of()), atol=1e-5, rtol=1e-4)


def test_a_weight_that_one_side_lacks_is_noticed_and_hooks_do_not_stay(tmp_path):
    write_huggingface(random_encoder(), tmp_path)
    model, _ = loaded(tmp_path, "HubertModel")
    assert not model.training
    assert layers_of(model, wave_of()[None]).shape[0] == 3
    assert not any(layer._forward_hooks for layer in model.encoder.layers)
    path = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**state, "encoder.more": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(AssertionError, match=r"encoder\.more"):
        loaded(tmp_path, "HubertModel")
    del state["encoder.layer_norm.bias"]
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(AssertionError, match=r"encoder\.layer_norm\.bias"):
        loaded(tmp_path, "HubertModel")


@pytest.mark.parametrize("was_on", [True, False])
def test_progress_bars_are_off_while_it_loads_and_then_as_before(was_on):
    state = [was_on]
    logging = SimpleNamespace(
        is_progress_bar_enabled=lambda: state[-1],
        disable_progress_bar=lambda: state.append(False),
        enable_progress_bar=lambda: state.append(True),
    )
    with pytest.raises(ZeroDivisionError), quiet(SimpleNamespace(utils=SimpleNamespace(logging=logging))):
        assert state[-1] is False
        raise ZeroDivisionError
    assert state[-1] is was_on


def test_without_transformers_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"^--to huggingface compares .* not installed: pip install transformers$"):
        write_huggingface(random_encoder(), tmp_path)
