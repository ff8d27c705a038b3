"""What a model costs, against a count by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from evaluation.measures import efficiency
from evaluation.measures.efficiency import measured_efficiency
from evaluation.models import LogMel
from training.models.encoder import Encoder, EncoderConfig

SHAPE = {
    "extractor_mode": "layer_norm", "extractor_conv_layer_config": [[8, 10, 5], [16, 3, 2]], "extractor_conv_bias": False,
    "encoder_embed_dim": 24, "encoder_projection_dropout": 0.0, "encoder_pos_conv_kernel": 4, "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2, "encoder_num_heads": 2, "encoder_attention_dropout": 0.0, "encoder_ff_interm_features": 48,
    "encoder_ff_interm_dropout": 0.0, "encoder_dropout": 0.0, "encoder_layer_norm_first": False, "encoder_layer_drop": 0.0,
}  # fmt: skip


def test_macs_are_those_of_a_hand_count():
    config = EncoderConfig.parse({**SHAPE, "sample_rate": 1000}, where="test")
    found = measured_efficiency(Encoder(config.build(), config, name="small"))
    first = (10_000 - 10) // 5 + 1
    frames = (first - 3) // 2 + 1
    convolutions = first * 8 * 10 + frames * 16 * 8 * 3 + (frames + 1) * 24 * (24 // 2) * 4
    layer = frames * (4 * 24 * 24 + 2 * 24 * 48) + 2 * frames * frames * 24
    expected = convolutions + frames * 16 * 24 + 2 * layer
    assert found.macs_per_s * found.measured_s == pytest.approx(expected, rel=0.01)
    extractor = 8 * 10 + 2 * 8 + 16 * 8 * 3 + 2 * 16  # no bias, a layer norm each
    projection = 2 * 16 + 16 * 24 + 24
    positions = 24 * (24 // 2) * 4 + 4 + 24  # weight norm keeps a length for each of the 4 taps
    of_layer = 4 * (24 * 24 + 24) + 2 * 24 * 48 + 48 + 24 + 2 * 2 * 24
    parameters = extractor + projection + positions + 2 * 24 + 2 * of_layer
    assert found.size_mb == pytest.approx(4e-6 * parameters)
    assert found.real_time_factor > 0


def test_threads_are_given_back():
    before = torch.get_num_threads()
    measured_efficiency(LogMel(8000))
    assert torch.get_num_threads() == before


def test_time_is_the_median_of_three_runs_on_ten_seconds_and_one_thread(monkeypatch):
    """By a clock that says 0 to 1, 10 to 12, 20 to 26 s; the run that counts operations is before them."""
    ticks, runs = iter([0.0, 1.0, 10.0, 12.0, 20.0, 26.0]), []
    monkeypatch.setattr(efficiency, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))

    class Mixed(torch.nn.Module):
        sample_rate, num_parameters = 200, 3_000_000

        def layers(self, wave, length):
            runs.append(
                (wave.shape, length.tolist(), torch.get_num_threads(), wave.requires_grad, torch.is_grad_enabled())
            )
            return wave @ torch.ones(2000, 7)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = measured_efficiency(Mixed())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert runs == [((1, 2000), [2000], 1, False, False)] * 4
    assert list(ticks) == []
    assert found == efficiency.Efficiency(macs_per_s=1400.0, real_time_factor=0.2, size_mb=12.0, measured_s=10.0)


def test_log_mel_hears_a_tone_in_its_band_and_has_the_frames_of_its_family():
    floor = LogMel(16000)
    assert [floor.config.num_frames(n) for n in (399, 400, 719, 720)] == [0, 1, 1, 2]
    time_s = torch.arange(16000) / 16000
    wave = torch.stack([torch.sin(2 * torch.pi * pitch * time_s) for pitch in (300.0, 3000.0)])
    features, frames = floor.layers(wave, torch.tensor([16000, 8000]))
    assert features.shape == (2, 1, 49, 80)
    assert frames.tolist() == [49, 24]
    loudest = features[:, 0, 10].argmax(dim=-1)
    assert loudest[0] < loudest[1]
    assert LogMel(16000).digest == floor.digest != LogMel(8000).digest
