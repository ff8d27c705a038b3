"""A fingerprint of a wave in 32 bytes, from which the size of another wave's deviation from it can be estimated.

Derivation, tolerances and measurements are in docs/fingerprint.md. In short: samples get random signs, keyed by the
utterance, and are added up in K interleaved sums. For any deviation d the sum over k of the squared difference of two waves'
sums is an unbiased estimate of |d|^2 with a relative standard deviation of sqrt(2 / K) (the "AMS sketch" of Alon, Matias and
Szegedy 1996, one bucket a sample as in Charikar, Chen and Farach-Colton 2002), whatever d looks like, at the cost of one
addition a sample. Waves are whole numbers, so the sums are the same bits on every machine.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from corpus_builder.audio.levels import FULL_SCALE
from manifests.errors import BadDocumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave

BLOCK_BYTES = 32
LEVEL_STEPS_PER_DB = 100

FINE_TOLERANCE_LSB = 0.5
FINE_TOLERANCE_DB = -84.0
CODED_TOLERANCE_DB = -5.0
CODED_LEVEL_TOLERANCE_DB = 1.0
MOST_LAG = 8
SHIFTED_BELOW = 0.6  # of the deviation's energy
ROWS_AT_ONCE = 256  # numpy adds long rows several times faster than rows of 14

Grain = Literal["fine", "coded"]
SUMS: dict[Grain, int] = {"fine": 14, "coded": 28}
HIGHEST: dict[Grain, int] = {"fine": 32767, "coded": 127}
STORED: dict[Grain, np.dtype[Any]] = {"fine": np.dtype("<i2"), "coded": np.dtype("i1")}
MARKS: dict[Grain, int] = {"fine": 1, "coded": 2}


@dataclass(frozen=True)
class Sketch:
    """The sums of one wave, exact or as they were stored.

    Attributes:
        sums: Shape (K,), whole numbers in steps of the 16-bit scale (LSB).
        step: They were rounded to multiples of it; 0 if they are exact.
        energy_db: ``10 * log10(1 + sum of squares)``, in dB over one LSB squared.
    """

    grain: Grain
    sums: NDArray[np.float64]
    step: float
    energy_db: float


@dataclass(frozen=True)
class Deviation:
    """How far one wave is from another, estimated.

    Attributes:
        rms_lsb: Root mean square of the difference, in steps of the 16-bit scale.
        relative_db: Energy of the difference over that of the first wave, in dB.
        level_db: Level of the second over the first, in dB, to 0.01 dB.
    """

    rms_lsb: float
    relative_db: float
    level_db: float


def signs(key: str, num_samples: int) -> NDArray[np.int8]:
    """The signs of an utterance, +1 or -1, shape (num_samples,): the bits of SHAKE-256 of its key, most significant first."""
    stream = hashlib.shake_256(b"stillroom/fingerprint/1\x1f" + key.encode()).digest(-(-num_samples // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=num_samples)
    return np.asarray(2 * bits.astype(np.int8) - 1, dtype=np.int8)


def sketch(wave: NDArray[np.int16] | Wave, sign: NDArray[np.int8], *, grain: Grain) -> Sketch:
    """The exact sums of a wave; 0.2 ms for 10 s at 16 kHz.

    Args:
        wave: Shape (time,): whole 16-bit steps, or float64 with full scale at +-1, which is rounded to such steps, not clipped.
        sign: From `signs`, shape (time,).
        grain: How many sums, and how finely they are stored.
    """
    count = SUMS[grain]
    wide = count * ROWS_AT_ONCE
    at_once = wide * 8  # a block stays in the processor's cache; whole waves would cost page faults
    sums = np.zeros(wide)
    energy = 0.0
    for start in range(0, wave.size, at_once):
        block = wave[start : start + at_once]
        steps = np.rint(block * FULL_SCALE) if block.dtype == np.float64 else block.astype(np.float64)
        energy += float(np.dot(steps, steps))
        steps *= sign[start : start + at_once]
        whole = steps.size - steps.size % wide
        sums += steps[:whole].reshape(-1, wide).sum(axis=0)
        sums[: steps.size - whole] += steps[whole:]
    return Sketch(grain, sums.reshape(-1, count).sum(axis=0), 0.0, 10.0 * math.log10(1.0 + energy))


def packed(exact: Sketch) -> bytes:
    """A sketch in 32 bytes: mark, exponent, level (2 bytes), sums divided by 2 ** exponent and rounded; little-endian."""
    highest = HIGHEST[exact.grain]
    largest = float(np.abs(exact.sums).max())
    exponent = max(0, math.ceil(math.log2(largest / highest))) if largest > highest else 0
    rounded = np.rint(exact.sums / 2.0**exponent)
    level = min(round(LEVEL_STEPS_PER_DB * exact.energy_db), 0xFFFF)
    return (
        bytes([MARKS[exact.grain], exponent])
        + level.to_bytes(2, "little")
        + rounded.astype(STORED[exact.grain]).tobytes()
    )


def unpacked(block: bytes) -> Sketch:
    """A stored sketch.

    Raises:
        ValueError: If the bytes are no stored sketch.
    """
    grain = next((grain for grain, mark in MARKS.items() if mark == block[0]), None)
    if grain is None or block[1] > 64:
        raise ValueError("an unknown kind of block, or the fingerprint of a later Stillroom")
    step = 2.0 ** block[1]
    sums = np.frombuffer(block[4:], STORED[grain]).astype(np.float64) * step
    level = int.from_bytes(block[2:4], "little") / LEVEL_STEPS_PER_DB
    return Sketch(grain, sums, step if block[1] else 0.0, level)


def fingerprint(pcm: NDArray[np.int16], sign: NDArray[np.int8], *, uncoded: Wave | None = None) -> str:
    """The fingerprint of one copy, in base64: 32 bytes, or 64 where a codec is among its steps.

    Args:
        pcm: The copy, shape (time,).
        sign: The signs of its utterance, shape (time,).
        uncoded: The wave that entered the first codec, shape (time,).

    Returns:
        Base64 of a fine block of the last wave before any codec, then, if there was a codec, a coarse one of the copy.
    """
    if uncoded is None:
        blocks = packed(sketch(pcm, sign, grain="fine"))
    else:
        blocks = packed(sketch(uncoded, sign, grain="fine")) + packed(sketch(pcm, sign, grain="coded"))
    return base64.b64encode(blocks).decode()


def blocks_of(text: str, *, where: object) -> list[Sketch]:
    """The blocks of a stored fingerprint: a fine one, and a coded one if there was a codec.

    Raises:
        BadDocumentError: If the text is no fingerprint.
    """
    try:
        content = base64.b64decode(text, validate=True)
        blocks = [unpacked(content[at : at + BLOCK_BYTES]) for at in range(0, len(content), BLOCK_BYTES)]
    except (ValueError, IndexError) as problem:
        raise BadDocumentError(where, f"expected a fingerprint: {problem}") from None
    if [block.grain for block in blocks] not in (["fine"], ["fine", "coded"]):
        raise BadDocumentError(where, "expected a fingerprint of a fine block, or of a fine and a coded one")
    return blocks


def deviation(first: Sketch, second: Sketch, *, num_samples: int) -> Deviation:
    """How far the second wave is from the first.

    The rounding of the stored sums, uniform in a step, adds ``K * step ** 2 / 12`` to the expected square; it is taken off.

    Args:
        first: The reference.
        second: Of the same utterance, grain and length.
        num_samples: Length of both waves.
    """
    rounding = first.sums.size * (first.step**2 + second.step**2) / 12.0
    energy = max(float(np.sum((first.sums - second.sums) ** 2)) - rounding, 0.0)
    rms_lsb = math.sqrt(energy / max(num_samples, 1))
    relative_db = 10.0 * math.log10(energy / 10.0 ** (first.energy_db / 10.0)) if energy else -math.inf
    return Deviation(rms_lsb, relative_db, second.energy_db - first.energy_db)


def is_near_fine(found: Deviation) -> bool:
    """Whether a wave before any codec is near: at most 0.5 LSB rms away, or 84 dB below the wave."""
    return found.rms_lsb <= FINE_TOLERANCE_LSB or found.relative_db <= FINE_TOLERANCE_DB


def is_near_coded(found: Deviation) -> bool:
    """Whether the output of a codec for a near wave is near: at most -5 dB of deviation, and 1 dB of level."""
    return found.relative_db <= CODED_TOLERANCE_DB and abs(found.level_db) <= CODED_LEVEL_TOLERANCE_DB


def best_lag(stored: Sketch, pcm: NDArray[np.int16], key: str) -> int:
    """By how many samples a wave is late against a stored one: the shift within +-8 whose deviation is least.

    It counts only if it takes 40 % off the energy of the deviation: two builds of a coder may differ by a part of a sample, and
    then neighbouring shifts fit about as well.
    """
    sign = signs(key, pcm.size)
    energies = {}
    most = min(MOST_LAG, pcm.size - 1)
    for lag in sorted(range(-most, most + 1), key=abs):
        moved = np.zeros_like(pcm)
        overlap = pcm[max(lag, 0) : pcm.size + min(lag, 0)]
        moved[max(-lag, 0) : max(-lag, 0) + overlap.size] = overlap
        energies[lag] = float(np.sum((stored.sums - sketch(moved, sign, grain=stored.grain).sums) ** 2))
    best = min(energies, key=lambda lag: (energies[lag], abs(lag)))
    return best if energies[best] < SHIFTED_BELOW * energies[0] else 0
