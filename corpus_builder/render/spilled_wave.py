"""A wave that is needed again and again: in memory, or, a long one, in an unnamed temporary file.

Every copy begins with the clean wave, and few need it after their first step. Ten minutes are 77 MB beside those of the step.
"""

from __future__ import annotations

import tempfile
import weakref
from typing import IO, TYPE_CHECKING

import numpy as np

from corpus_builder.sources.utterance import LONG_UTTERANCE_SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from corpus_builder.audio.levels import Wave


class KeptWave:
    """A wave, given as it was as often as it is asked for.

    Args:
        wave: Shape (time,), float64, never written to.
        scratch: Where a long one lies; the system's own folder for such by default.

    Raises:
        OSError: If there is no space for it.
    """

    def __init__(self, wave: Wave, *, scratch: Path | None = None) -> None:
        self.size = wave.size
        self.held: Wave | None = wave
        self.file: IO[bytes] | None = None
        if wave.size > LONG_UTTERANCE_SAMPLES:
            self.file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (closed by the next line)
            weakref.finalize(self, self.file.close)
            self.file.write(wave.data)
            self.file.flush()
            self.held = None

    def get(self) -> Wave:
        """The wave, shape (time,), never to be written to."""
        if self.file is None:
            assert self.held is not None
            return self.held
        self.file.seek(0)
        wave = np.fromfile(self.file, np.float64)
        assert wave.size == self.size
        return wave
