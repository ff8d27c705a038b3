"""Random generators named by seed, split, utterance, copy and step, and the draws of a recipe's distributions.

The same name gives the same numbers in any process and in any order. Only planning draws; rendering is given numbers.
"""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifests.recipe.distributions import Draw


class NamedSeed(np.random.bit_generator.ISeedSequence):
    """A seed that is a digest already: numpy's own mixing of seeds costs 12 microseconds a generator and adds nothing here."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray[Any, Any]:
        """The first words of the digest; PCG64 takes four of 64 bits."""
        if dtype is np.uint64 and sys.byteorder == "little":  # nearly always, in a third of the time
            return np.frombuffer(self.digest, np.uint64, n_words)
        return np.frombuffer(self.digest, np.dtype(dtype).newbyteorder("<"))[:n_words].astype(dtype)


def rng_for(seed: int, split: str, utterance_id: str, copy: str, step: str) -> np.random.Generator:
    """Random generator of one step ("0.snr_db") of one copy ("noise-1"): free of order, workers and shard size."""
    name = f"{seed}\x1f{split}\x1f{utterance_id}\x1f{copy}\x1f{step}".encode("utf-8", "surrogatepass")
    return np.random.Generator(
        np.random.PCG64(cast("np.random.SeedSequence", NamedSeed(hashlib.blake2b(name, digest_size=32).digest())))
    )


def keyed_hash(seed: int, *names: str) -> int:
    """64 bits that depend on the seed and the names, for assigning and ordering."""
    text = "\x1f".join((str(seed), *names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def index_below(count: int, rng: np.random.Generator) -> int:
    """A random whole number in [0, count), each equally likely."""
    return min(int(rng.random() * count), count - 1)


def weighted_index(weights: Sequence[float], rng: np.random.Generator) -> int:
    """A random index of one of several weights, with a probability in proportion to it; a weight of 0 is never drawn."""
    aim = rng.random() * math.fsum(weights)
    reached = 0.0
    for index, weight in enumerate(weights):
        reached += weight
        if weight > 0.0 and aim < reached:
            return index
    return max(index for index, weight in enumerate(weights) if weight > 0.0)  # the sum was rounded down


def drawn(draw: Draw, rng: np.random.Generator, *, decimals: int = 2) -> float | int | str:
    """A value of a recipe's draw; numbers are rounded, so that the number in the plan is the number that is applied.

    Args:
        draw: Constant, range or choice.
        rng: Its own generator.
        decimals: To how many a drawn number of a continuous range is rounded; it never leaves the range.
    """
    match draw.spread:
        case "constant":
            return draw.values[0]
        case "choice":
            return draw.values[index_below(len(draw.values), rng)]
        case "uniform_int":
            low, high = (int(value) for value in draw.values)
            return low + index_below(high - low + 1, rng)
        case "uniform":
            low_value, high_value = (float(value) for value in draw.values)
            value = low_value + (high_value - low_value) * rng.random()
            return min(max(round(value, decimals), low_value), high_value)
        case "log_uniform":
            low_value, high_value = (float(value) for value in draw.values)
            value = math.exp(math.log(low_value) + math.log(high_value / low_value) * rng.random())
            return min(max(round(value, decimals), low_value), high_value)
        case _:
            assert_never(draw.spread)


def drawn_number(draw: Draw, rng: np.random.Generator, *, decimals: int = 2) -> float:
    """A drawn value that the recipe's checks hold to be a number."""
    return float(drawn(draw, rng, decimals=decimals))


@dataclass(frozen=True)
class SeededRandom:
    """The named random generators of one copy of one utterance."""

    seed: int
    split: str
    utterance: str
    copy: str

    def rng(self, step: str) -> np.random.Generator:
        """The generator of one step."""
        return rng_for(self.seed, self.split, self.utterance, self.copy, step)

    def value(self, draw: Draw, step: str) -> float | int | str:
        """A value of a recipe's draw; a constant needs no generator."""
        return draw.values[0] if draw.spread == "constant" else drawn(draw, self.rng(step))
