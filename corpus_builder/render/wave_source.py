"""What rendering needs: waves of speech, noise, talkers, responses and spectra, from any source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave
    from corpus_builder.distortions import additive_noise
    from manifests.plan.plan import PlanRow
    from manifests.plan.steps import FileSpan


class Waves(Protocol):
    """Gives rendering its waves: float64 at the corpus rate, mono, full scale at +-1."""

    def speech(self, row: PlanRow) -> Wave:
        """The clean utterance, shape (row.num_samples,)."""
        ...

    def noise(self, root: str, path: str) -> additive_noise.Recording:
        """A whole noise file, shape (time,)."""
        ...

    def talker(self, file: FileSpan) -> Wave:
        """An utterance of another speaker, shape (time,)."""
        ...

    def response(self, name: str) -> tuple[NDArray[np.float32], int]:
        """A room response, shape (taps,), and its `direct_sample`."""
        ...

    def spectrum(self, split: str) -> NDArray[np.float64]:
        """Long-term spectrum of a split's speech in dB, at equally spaced frequencies from 0 Hz to half the rate."""
        ...
