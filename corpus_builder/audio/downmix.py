"""Takes one channel of a file's blocks, or the mean of all of them, which is refused where channels cancel each other.

The mean of N unrelated channels of equal power has 1/N of their mean power, that of one active channel beside N - 1 silent ones too. A
mean that is another 10 dB lower is of channels that cancel, such as the two wires of a balanced line. Powers are taken without the mean
of the samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.errors import ChannelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave
    from manifests.recipe.speech import Channel

CANCELS_DB = 10.0


class Downmix:
    """Takes the wanted channel from blocks of a stretch, one after another.

    Args:
        channel: Number of the channel, or `mix`; None of a mono file.
    """

    def __init__(self, channel: Channel | None) -> None:
        self.channel = channel
        self.count = 0
        self.sums: NDArray[np.float64] = np.zeros(0)  # of each channel, and of their mean
        self.squares: NDArray[np.float64] = np.zeros(0)

    def take(self, block: NDArray[np.float64]) -> Wave:
        """Samples of a block of shape (time, channel), shape (time,), in memory of their own."""
        if self.channel != "mix":
            return np.ascontiguousarray(block[:, self.channel or 0])
        mixed: Wave = block.mean(axis=1)
        waves = np.column_stack([block, mixed])
        self.count += block.shape[0]
        self.sums = self.sums + waves.sum(axis=0) if self.sums.size else waves.sum(axis=0)
        squares = np.einsum("tc,tc->c", waves, waves)
        self.squares = self.squares + squares if self.squares.size else squares
        return mixed

    def check(self, *, name: object) -> None:
        """Check that the channels of all blocks together did not cancel each other.

        Raises:
            ChannelError: If they did.
        """
        if not self.count:
            return
        powers = np.maximum(self.squares / self.count - (self.sums / self.count) ** 2, 0.0)
        own, mixed, num_channels = float(powers[:-1].mean()), float(powers[-1]), powers.size - 1
        if own > 0.0 and mixed * num_channels < own * 10.0 ** (-CANCELS_DB / 10.0):
            below = f"{10.0 * math.log10(own / mixed):.0f} dB below them" if mixed > 0.0 else "silent"
            raise ChannelError(
                name,
                f"has {num_channels} channels that cancel each other (their mean is {below}); choose one with channel: 0 to "
                f"{num_channels - 1} in the recipe",
            )
