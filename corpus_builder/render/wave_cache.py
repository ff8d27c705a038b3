"""A bounded cache of decoded waves, and long noises that are decoded a segment at a time."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.resample import at_rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave
    from manifests.recipe.speech import Channel


Array = TypeVar("Array", bound="NDArray[Any]")


class WaveCache(Generic[Array]):
    """The arrays used last, up to a number of bytes, so that a worker's memory does not grow with the corpus.

    Args:
        most_bytes: Size of the cache.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.cached: OrderedDict[object, Array] = OrderedDict()
        self.num_bytes = 0

    def get(self, key: object, make: Callable[[], Array]) -> Array:
        """The array of a key, made if it is not cached."""
        if key in self.cached:
            self.cached.move_to_end(key)
            return self.cached[key]
        array = make()
        if array.nbytes > self.most_bytes:
            return array
        self.cached[key] = array
        self.num_bytes += array.nbytes
        while self.num_bytes > self.most_bytes:
            _, dropped = self.cached.popitem(last=False)
            self.num_bytes -= dropped.nbytes
        return array


class LongNoise:
    """A noise file that is too long to be held in memory: its segments are read when they are needed.

    Args:
        place: A local file.
        note: Called with each decoded stretch and its first frame.
        name: What to call it in a message.
        num_samples: Its length at the corpus rate.
        channel: Which channel, or `mix` for the mean of all; None of a mono file.
        from_hz: Its own rate.
        to_hz: The corpus rate.
    """

    def __init__(
        self,
        place: Path,
        note: Callable[[Wave, int], None],
        *,
        name: str,
        num_samples: int,
        channel: Channel | None,
        from_hz: int,
        to_hz: int,
    ) -> None:
        self.note = note
        self.place, self.name, self.size, self.channel = place, name, num_samples, channel
        self.from_hz, self.to_hz = from_hz, to_hz

    def __getitem__(self, wanted: slice) -> Wave:
        """Samples at the corpus rate, shape (time,).

        At another rate the segment is resampled by itself, with a second of the file on both sides, from a frame that falls on a
        sample.
        """
        first, end, _ = wanted.indices(self.size)
        if end <= first:
            return np.zeros(0)
        common = math.gcd(self.from_hz, self.to_hz)
        frames_a_turn, samples_a_turn = self.from_hz // common, self.to_hz // common
        if self.from_hz == self.to_hz:
            start, frames = first, end - first
        else:
            turns = max(0, first - self.to_hz) // samples_a_turn
            start, first, end = turns * frames_a_turn, first - turns * samples_a_turn, end - turns * samples_a_turn
            whole = self.size * self.from_hz // self.to_hz  # the last frame may be missing here, never too many
            frames = min((end + self.to_hz) * self.from_hz // self.to_hz, whole - start)
        wave = read_stretch(
            self.place, name=self.name, start=start, num_frames=frames, channel=self.channel, rate_hz=self.from_hz
        )
        self.note(wave, start)
        if self.from_hz == self.to_hz:
            return wave
        wave = at_rate(wave, from_hz=self.from_hz, to_hz=self.to_hz)
        return np.pad(wave, (0, max(0, end - wave.size)))[first:end]
