"""`logmel`, the floor under every table: log-mel energies, which nobody trained."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOOR = "logmel"
NUM_BANDS = 80
WINDOW_S = 0.025
HOP_S = 0.02
ENERGY_FLOOR = 1e-10


class LogMelShape:
    """Frames of 25 ms every 20 ms, as the wav2vec 2.0 family has them.

    Attributes:
        sample_rate: In Hz.
        receptive_samples: Length of a frame.
        hop_samples: From one frame to the next.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.receptive_samples = round(WINDOW_S * sample_rate)
        self.hop_samples = round(HOP_S * sample_rate)

    def num_frames(self, num_samples: int) -> int:
        """How many frames an utterance of so many samples gives."""
        return max(0, (num_samples - self.receptive_samples) // self.hop_samples + 1)


class LogMel(nn.Module):
    """80 log-mel energies a frame, behind the interface of `training.encoder.Encoder`: one layer, no parameters.

    Args:
        sample_rate: Of the corpus, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.config = LogMelShape(sample_rate)
        self.name = FLOOR
        self.sample_rate = sample_rate
        self.num_layers = 1
        self.num_features = NUM_BANDS
        self.num_parameters = 0
        self.heard: frozenset[str] = frozenset()
        self.facts: dict[str, Any] = {}
        self.digest = hashlib.sha256(f"{FLOOR} {NUM_BANDS} {WINDOW_S} {HOP_S} {sample_rate}".encode()).hexdigest()
        self.num_bins = 1 << (self.config.receptive_samples - 1).bit_length()
        self.register_buffer("window", torch.hann_window(self.config.receptive_samples), persistent=False)
        banks = melscale_fbanks(self.num_bins // 2 + 1, 0.0, sample_rate / 2, NUM_BANDS, sample_rate, mel_scale="htk")
        self.register_buffer("banks", banks, persistent=False)

    @torch.no_grad()
    def layers(self, wave: Tensor, num_samples: Tensor, *, only: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Log-mel energies, shape (batch, 1, frame, band), and the number of real frames, shape (batch,)."""
        shape = self.config
        if wave.shape[1] < shape.receptive_samples:
            wave = nn.functional.pad(wave, (0, shape.receptive_samples - wave.shape[1]))
        frames = wave.unfold(-1, shape.receptive_samples, shape.hop_samples) * self.get_buffer("window")
        power = torch.fft.rfft(frames, n=self.num_bins).abs().square()
        energies = (power @ self.get_buffer("banks")).clamp(min=ENERGY_FLOOR).log()
        num_frames = torch.tensor([shape.num_frames(int(length)) for length in num_samples], device=wave.device)
        return energies[:, None].expand(-1, len(only or (1,)), -1, -1), num_frames
