"""Searches recordings that have the same sound: fingerprints are looked up by equal bits, then compared bit by bit.

Haitsma and Kalker's search: two stretches of the same recording have some frames without any wrong bit; each such pair of frames
proposes an alignment, which the share of wrong bits over 256 aligned frames (3 s) confirms or rejects. Fewer frames, of a short
recording, must agree better: see `most_wrong`.

A coarse coder leaves hardly a frame of 32 right bits, but seldom changes all bands; so alignments are also proposed by 8 bits, of
one quarter of the bands, that are equal in three frames 0.19 s apart. Steady sounds have such bits by chance: an alignment proposed this
way must also be better than the same frames in another order (`beats_other_orders`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from corpus_builder.audit.audio_fingerprint import BITS, FRAME_S, HOP_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK: Final = 256
FEWEST: Final = 64
SPREAD: Final = 0.015  # of the share of wrong bits over 256 frames of unrelated recordings
DEVIATIONS: Final = 10.0
DEVIATIONS_OUT: Final = 9.0
NEIGHBOURS: Final = 32
AT_ONCE: Final = 512
QUARTERS: Final = (0, 8, 16, 24)
QUARTER_BITS: Final = 8
APART: Final = (0, 16, 32)
NEARBY: Final = np.arange(-32, 33, 8)
NEARBY_WRONG: Final = 0.42
FRAMES_A_PASS: Final = 1 << 22
SHORTEST_S: Final = FRAME_S + FEWEST * HOP_S


def most_wrong(frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest share of wrong bits at which so many aligned frames are called the same.

    Unrelated frames share half of their bits. Over 256 frames the share of wrong bits spreads by 0.015 (it would by 0.0055 if
    the bits were independent; frames that overlap are not), over T frames by ``0.015 * sqrt(256 / T)``. Ten such deviations
    below one half are 0.35 for 256 frames, as in the paper, and 0.20 for 64; fewer than 64 frames are never called the same.
    """
    shares = 0.5 - DEVIATIONS * SPREAD * np.sqrt(BLOCK / np.maximum(frames, 1))
    return np.where(frames >= FEWEST, shares, -1.0)


@dataclass(frozen=True)
class SameSound:
    """Two recordings that have the same sound.

    Attributes:
        first: Number of the recording in the library.
        wrong: Share of wrong bits in the best block.
        seconds: About how long the common sound is.
        lag_s: Where the first recording begins in the second.
    """

    first: int
    second: int
    wrong: float
    seconds: float
    lag_s: float


@dataclass
class Library:
    """Fingerprints of many recordings, one after the other in a file, so that memory stays small.

    Args:
        path: A file to write them to.
    """

    path: Path
    starts: list[int] = field(default_factory=lambda: [0])

    def add(self, prints: NDArray[np.uint32]) -> int:
        """Append one recording; its number."""
        with self.path.open("ab") as stream:
            stream.write(np.ascontiguousarray(prints, dtype="<u4").tobytes())
        self.starts.append(self.starts[-1] + prints.size)
        return len(self.starts) - 2

    def matches(self, groups: NDArray[np.int64] | None = None) -> Iterator[SameSound]:
        """Every pair of recordings of different groups that have the same sound, each once.

        Args:
            groups: A number for each recording; two of one group are not compared. None compares all.
        """
        if self.starts[-1] == 0:
            return
        flat = np.memmap(self.path, dtype="<u4", mode="r")
        starts = np.array(self.starts)
        known: set[tuple[int, int]] = set()
        for first, second, strict in proposals(flat, starts, groups):
            yield from verified(flat, starts, first, second, known, strict=strict)


def proposals(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """Positions of equal frames of two recordings, some at a time, and whether only a quarter of the bands, in three frames, is equal."""
    for first, second in equal_frames(flat, starts, groups, None):
        yield first, second, False
    for quarter in QUARTERS:
        for first, second in equal_frames(flat, starts, groups, quarter):
            likely = is_likely(flat, starts, first, second)
            yield first[likely], second[likely], True


def values_from(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], first: int, quarter: int | None
) -> NDArray[np.uint32]:
    """The values by which frames from `first` on are looked up; 0 for none.

    Args:
        flat: All frames.
        starts: Where each recording begins, and the end.
        first: The first frame of a pass.
        quarter: The lowest bit of a quarter of the bands; None looks frames up by all their bits.
    """
    last = min(first + FRAMES_A_PASS, flat.size)
    if quarter is None:
        return flat[first:last]
    frames = np.zeros(last - first + APART[-1], dtype=np.uint32)
    frames[: min(frames.size, flat.size - first)] = flat[first : last + APART[-1]]
    values = np.zeros(last - first, dtype=np.uint32)
    is_complete = np.ones(last - first, dtype=bool)
    for number, apart in enumerate(APART):
        one = frames[apart : apart + values.size]
        is_complete &= one != 0
        values |= (one >> np.uint32(quarter) & np.uint32((1 << QUARTER_BITS) - 1)) << np.uint32(number * QUARTER_BITS)
    ends = starts[1:][(starts[1:] > first) & (starts[1:] < last + APART[-1])]
    for end in ends - first:
        is_complete[max(0, end - APART[-1]) : end] = False
    values[~is_complete] = 0
    return values


def equal_frames(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], groups: NDArray[np.int64] | None, quarter: int | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions of frames of two recordings that are looked up by the same value.

    The frames are gone through once for each range of values, so that about four million are sorted at a time. Of a value that
    one recording has often the first frame is taken; of one that many recordings have, each is paired with its 32 neighbours.
    """
    bits = BITS if quarter is None else QUARTER_BITS * len(APART)
    passes = 1 << max(0, int(np.ceil(np.log2(flat.size / FRAMES_A_PASS))))
    width = (1 << bits) // passes
    for lowest in range(0, 1 << bits, width):
        pieces, found = [], []
        for first in range(0, flat.size, FRAMES_A_PASS):
            values = values_from(flat, starts, first, quarter)
            inside = np.flatnonzero((values >= max(lowest, 1)) & (values <= lowest + width - 1))
            pieces.append(first + inside)
            found.append(values[inside])
        places, values = np.concatenate(pieces), np.concatenate(found)
        owners = np.searchsorted(starts, places, side="right") - 1
        order = np.lexsort((places, owners, values))
        places, values, owners = places[order], values[order], owners[order]
        again = np.zeros(places.size, dtype=bool)
        again[1:] = (values[1:] == values[:-1]) & (owners[1:] == owners[:-1])
        places, values, owners = places[~again], values[~again], owners[~again]
        for distance in range(1, NEIGHBOURS + 1):
            equal = np.flatnonzero(values[distance:] == values[:-distance])
            if not equal.size:
                break
            if groups is not None:
                equal = equal[groups[owners[equal]] != groups[owners[equal + distance]]]
            yield places[equal], places[equal + distance]


def is_likely(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which pairs to compare: nine frames around them have at most 0.42 wrong bits, as one in a hundred unrelated pairs has."""
    likely = np.zeros(first.size, dtype=bool)
    for begin in range(0, first.size, FRAMES_A_PASS // 16):
        places = [frames[begin : begin + FRAMES_A_PASS // 16, None] + NEARBY for frames in (first, second)]
        inside = np.ones(places[0].shape, dtype=bool)
        for place in places:
            owner = np.searchsorted(starts, place[:, NEARBY.size // 2], side="right")
            inside &= (place >= starts[owner - 1][:, None]) & (place < starts[owner][:, None])
        prints = [flat[np.clip(place, 0, flat.size - 1)] for place in places]
        inside &= (prints[0] != 0) & (prints[1] != 0)
        wrong = np.where(inside, np.bitwise_count(prints[0] ^ prints[1]), 0).sum(axis=1)
        likely[begin : begin + wrong.size] = wrong <= NEARBY_WRONG * BITS * inside.sum(axis=1)
    return likely


def verified(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64],
    known: set[tuple[int, int]], *, strict: bool,
) -> Iterator[SameSound]:  # fmt: skip
    """Of proposed alignments, those under which a block of frames is the same; if `strict`, more so than in other orders."""
    count = starts.size - 1
    owners = tuple(np.searchsorted(starts, places, side="right") - 1 for places in (first, second))
    lags = (second - starts[owners[1]]) - (first - starts[owners[0]])
    order = np.lexsort((first, lags, owners[1], owners[0]))
    near = np.ones(order.size, dtype=bool)  # of the pairs of one alignment, one every 64 frames is compared
    near[1:] = np.any(
        [np.diff(owners[0][order]) != 0, np.diff(owners[1][order]) != 0, np.diff(lags[order]) != 0,
         np.diff(first[order] // FEWEST) != 0], axis=0,
    )  # fmt: skip
    chosen = order[near]
    for begin in range(0, chosen.size, AT_ONCE):
        items = chosen[begin : begin + AT_ONCE]
        pairs = owners[0][items] * count + owners[1][items]
        items = items[~np.isin(pairs, [one * count + other for one, other in known])]
        item_owners = owners[0][items], owners[1][items]
        wrong, begins = block_shares(flat, starts, (first[items], second[items]), item_owners)
        for item in np.flatnonzero(wrong < 1):
            pair = int(item_owners[0][item]), int(item_owners[1][item])
            if pair in known:
                continue
            if strict and not beats_other_orders(
                *aligned_block(flat, starts, pair, int(lags[items[item]]), int(first[items[item]] + begins[item]))
            ):
                continue
            known.add(pair)
            lag = int(lags[items[item]])
            seconds = same_seconds(flat, starts, pair, lag)
            yield SameSound(*pair, wrong=float(wrong[item]), seconds=seconds, lag_s=lag * HOP_S)


def block_shares(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], places: tuple[NDArray[np.int64], NDArray[np.int64]],
    owners: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:  # fmt: skip
    """Smallest share of wrong bits, if enough, over the 256 frames before, around and after each pair; and where those begin.

    Returns:
        The share, 1.0 where none is small enough; how far from the pair its frames begin.
    """
    best = np.ones(places[0].size)
    begins = np.zeros(places[0].size, dtype=np.int64)
    for shift in (-BLOCK + 1, -BLOCK // 2, 0):
        steps = np.arange(shift, shift + BLOCK)
        inside = np.ones((places[0].size, BLOCK), dtype=bool)
        prints = []
        for place, owner in zip(places, owners, strict=True):
            index = place[:, None] + steps
            inside &= (index >= starts[owner][:, None]) & (index < starts[owner + 1][:, None])
            prints.append(flat[np.clip(index, 0, flat.size - 1)])
        inside &= (prints[0] != 0) & (prints[1] != 0)
        frames = inside.sum(axis=1)
        wrong = np.where(inside, np.bitwise_count(prints[0] ^ prints[1]), 0).sum(axis=1) / (
            BITS * np.maximum(frames, 1)
        )
        better = (wrong <= most_wrong(frames)) & (wrong < best)
        best[better] = wrong[better]
        begins[better] = shift
    return best, begins


def aligned_block(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], pair: tuple[int, int], lag: int, begin: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The frames of two recordings in 256 aligned ones, where both have any.

    Args:
        flat: All frames.
        starts: Where each recording begins, and the end.
        pair: Numbers of the recordings.
        lag: Where the first begins in the second.
        begin: The first frame of the block, of the first recording, in `flat`.
    """
    one, other = (flat[starts[number] : starts[number + 1]] for number in pair)
    first = max(begin - int(starts[pair[0]]), 0, -lag)
    last = min(begin - int(starts[pair[0]]) + BLOCK, one.size, other.size - lag)
    return one[first:last], other[first + lag : last + lag]


def beats_other_orders(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> bool:
    """Whether aligned frames agree better than when the second's are rotated by a quarter, a half, three quarters.

    Two hums of one pitch agree in any order; 9 of the deviations of `most_wrong` are required. Measured: `docs/audit.md`.
    """
    both = (one != 0) & (other != 0)
    one, other = one[both], other[both]
    wrong = [
        float(np.bitwise_count(one ^ np.roll(other, one.size * turn // 4)).sum()) / (BITS * one.size)
        for turn in range(4)
    ]
    return sum(wrong[1:]) / 3 - wrong[0] >= DEVIATIONS_OUT * SPREAD * math.sqrt(BLOCK / one.size)


def same_seconds(flat: NDArray[np.uint32], starts: NDArray[np.int64], pair: tuple[int, int], lag: int) -> float:
    """About how long two aligned recordings are the same: their blocks of 64 frames with at most 0.35 wrong bits."""
    one, other = (flat[starts[number] : starts[number + 1]] for number in pair)
    begin, end = max(0, -lag), min(one.size, other.size - lag)
    one, other = one[begin:end], other[begin + lag : end + lag]
    count = max(1, one.size // FEWEST)
    seconds = 0.0
    for first, second in zip(np.array_split(one, count), np.array_split(other, count), strict=True):
        both = (first != 0) & (second != 0)
        wrong = np.bitwise_count(first[both] ^ second[both]).sum()
        if both.any() and wrong <= 0.35 * BITS * both.sum():
            seconds += first.size * HOP_S
    return round(seconds + FRAME_S, 2)
