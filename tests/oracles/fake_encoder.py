"""Encoders that are fast and whose features are known: a filter bank, a constant, one that hides everything but length."""

from __future__ import annotations

import hashlib
import threading

import torch
from torch import Tensor, nn

WINDOW, HOP = 400, 320


class FakeEncoder(nn.Module):
    """The interface of `training.models.encoder.Encoder` over log energies in 20 bands, mixed by a fixed matrix a layer."""

    def __init__(
        self,
        name: str = "fake",
        *,
        num_layers: int = 3,
        num_features: int = 16,
        trained_on: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(len(name) + num_layers)
        self.mixing = nn.Parameter(torch.randn(num_layers, 20, num_features, generator=generator), requires_grad=False)
        self.name, self.sample_rate, self.num_layers, self.num_features = name, 16000, num_layers, num_features
        self.trained_on, self.facts = trained_on, {"steps": 3}
        self.num_parameters = self.mixing.numel()
        self.digest = hashlib.sha256(self.mixing.numpy().tobytes()).hexdigest()
        self.calls = 0  # how many waves it was given; several threads count
        self.counting = threading.Lock()
        object.__setattr__(self, "config", self)

    @staticmethod
    def num_frames(num_samples: int) -> int:
        return max(0, (num_samples - WINDOW) // HOP + 1)

    def bands(self, wave: Tensor) -> Tensor:
        frames = wave.unfold(-1, WINDOW, HOP)
        spectrum = torch.fft.rfft(frames * torch.hann_window(WINDOW), dim=-1).abs()[..., :200]
        return spectrum.reshape(*spectrum.shape[:-1], 20, 10).mean(-1).add(1e-3).log()

    def layers(self, wave: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        with self.counting:
            self.calls += len(wave)
        bands = self.bands(wave)
        features = torch.stack([torch.tanh(0.05 * (bands + 2.0) @ matrix) + 1.0 for matrix in self.mixing], dim=1)
        return features, (((num_samples - WINDOW) // HOP) + 1).clamp(min=0)


class ConstantEncoder(FakeEncoder):
    """The same features always, but for float32's rounding."""

    def layers(self, wave: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        features, num_frames = super().layers(wave, num_samples)
        return torch.full_like(features, 3.7) * (1 + 1e-7 * features.sign() * (features * 1e4).frac()), num_frames


class HidingEncoder(FakeEncoder):
    """Features that tell how long an utterance is and nothing else: all copies look alike."""

    def layers(self, wave: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        features, num_frames = super().layers(wave, num_samples)
        grid = torch.arange(self.num_features) + 1.0
        return torch.sin(grid * num_samples[:, None] / 997.0)[:, None, None, :].expand(
            features.shape
        ).clone(), num_frames
