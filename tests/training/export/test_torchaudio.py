"""What is written for torchaudio alone: arguments of its builder, and what it does not know."""

from __future__ import annotations

import json

import pytest
import torch

from tests.training.conftest import encoder_config, random_encoder
from training.export.torchaudio import write_torchaudio

CASES = {
    "wav2vec2": ({}, {"projection_norm": False, "sample_rate": 8000}),
    "wavlm": ({"family": "wavlm", "normalise": True}, {"normalize_epsilon": 0.01}),
}


@pytest.mark.parametrize("family", CASES)
def test_the_record_has_the_builders_arguments_and_how_waves_are_taken(tmp_path, family):
    """The epsilon is as large as the variance of the wave, so that another one would show."""
    shape, changes = CASES[family]
    encoder = random_encoder(**shape, changes=changes)
    written = write_torchaudio(encoder, tmp_path)
    record = json.loads((tmp_path / "torchaudio.json").read_text())
    given = {**encoder_config(**shape), **changes}
    arguments = {key: value for key, value in given.items() if key.startswith(("extractor", "encoder", "aux"))}
    if family == "wav2vec2":
        del arguments["encoder_num_buckets"], arguments["encoder_max_distance"]
    assert record == {
        "schema": "stillroom/torchaudio/1", "builder": f"{family}_model", "arguments": arguments, "sample_rate": given["sample_rate"],
        "normalize_waveform": family == "wavlm", "normalize_epsilon": given.get("normalize_epsilon", 1e-5),
        "projection_norm": family == "wavlm",
    }  # fmt: skip
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert state.keys() == encoder.trunk.state_dict().keys()
    wave = 0.1 * torch.randn(3000, generator=torch.Generator().manual_seed(1)) + 0.02
    expected = encoder.layers(wave[None], torch.tensor([3000]))[0][0]
    torch.testing.assert_close(written.outputs(wave), expected, atol=1e-5, rtol=1e-4)
    assert (written.name, written.loads) == ("", "load() of {path}/load.py")
    assert (written.note, written.is_rounded) == ("", False)
