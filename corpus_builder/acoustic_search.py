"""Recordings that hold the same sound: fingerprints looked up by equal 32 bits, and compared bit by bit where they meet.

Haitsma and Kalker's search: two stretches of the same recording have some frames without any wrong bit; each such pair of frames
proposes an alignment, and the share of wrong bits over 256 aligned frames (3 s) tells. Fewer frames, of a short recording, must
agree better: see `most_wrong`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from corpus_builder.acoustic import BITS, FRAME_S, HOP_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK: Final = 256
FEWEST: Final = 64
SPREAD: Final = 0.015  # of the share of wrong bits over 256 frames of unrelated recordings
DEVIATIONS: Final = 10.0
NEIGHBOURS: Final = 32
AT_ONCE: Final = 512
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
    """Two recordings that hold the same sound.

    Attributes:
        first: Number of the recording in the library.
        wrong: Share of wrong bits in the best block.
        seconds: About how long the sound is that both hold.
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
        """Every pair of recordings of different groups that hold the same sound, each once.

        Args:
            groups: A number for each recording; two of one group are not compared. None compares all.
        """
        if self.starts[-1] == 0:
            return
        flat = np.memmap(self.path, dtype="<u4", mode="r")
        starts = np.array(self.starts)
        known: set[tuple[int, int]] = set()
        for first, second in meetings(flat, starts, groups):
            yield from verified(flat, starts, first, second, known)


def meetings(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places of frames with equal bits in two recordings, some at a time.

    The frames are gone through once for each range of values, so that about four million are sorted at a time. Of a value that
    one recording has often the first frame stands for all; of one that many recordings have, each meets its 32 neighbours.
    """
    passes = 1 << max(0, int(np.ceil(np.log2(flat.size / FRAMES_A_PASS))))
    width = (1 << BITS) // passes
    for lowest in range(0, 1 << BITS, width):
        pieces = []
        for first in range(0, flat.size, FRAMES_A_PASS):
            values = flat[first : first + FRAMES_A_PASS]
            pieces.append(first + np.flatnonzero((values >= max(lowest, 1)) & (values <= lowest + width - 1)))
        places = np.concatenate(pieces)
        values = flat[places]
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


def verified(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64],
    known: set[tuple[int, int]],
) -> Iterator[SameSound]:  # fmt: skip
    """Of proposed alignments, those under which a block of frames is the same."""
    count = starts.size - 1
    owners = tuple(np.searchsorted(starts, places, side="right") - 1 for places in (first, second))
    lags = (second - starts[owners[1]]) - (first - starts[owners[0]])
    order = np.lexsort((first, lags, owners[1], owners[0]))
    near = np.ones(order.size, dtype=bool)  # of the meetings of one alignment, one every 64 frames is looked at
    near[1:] = np.any(
        [np.diff(owners[0][order]) != 0, np.diff(owners[1][order]) != 0, np.diff(lags[order]) != 0,
         np.diff(first[order] // FEWEST) != 0], axis=0,
    )  # fmt: skip
    chosen = order[near]
    for begin in range(0, chosen.size, AT_ONCE):
        items = chosen[begin : begin + AT_ONCE]
        pairs = owners[0][items] * count + owners[1][items]
        items = items[~np.isin(pairs, [one * count + other for one, other in known])]
        held = owners[0][items], owners[1][items]
        wrong, same = block_shares(flat, starts, (first[items], second[items]), held)
        for item in np.flatnonzero(same):
            pair = int(held[0][item]), int(held[1][item])
            if pair in known:
                continue
            known.add(pair)
            lag = int(lags[items[item]])
            seconds = same_seconds(flat, starts, pair, lag)
            yield SameSound(*pair, wrong=float(wrong[item]), seconds=seconds, lag_s=lag * HOP_S)


def block_shares(
    flat: NDArray[np.uint32], starts: NDArray[np.int64], places: tuple[NDArray[np.int64], NDArray[np.int64]],
    owners: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:  # fmt: skip
    """Smallest share of wrong bits over the 256 frames before, around and after each meeting, and whether one is enough."""
    best = np.ones(places[0].size)
    same = np.zeros(places[0].size, dtype=bool)
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
        same |= better
    return best, same


def same_seconds(flat: NDArray[np.uint32], starts: NDArray[np.int64], pair: tuple[int, int], lag: int) -> float:
    """About how long two aligned recordings are the same: their blocks of 64 frames with at most 0.35 wrong bits."""
    one, other = (flat[starts[number] : starts[number + 1]] for number in pair)
    begin, end = max(0, -lag), min(one.size, other.size - lag)
    one, other = one[begin:end], other[begin + lag : end + lag]
    count = max(1, one.size // FEWEST)
    seconds = 0.0
    for first, second in zip(np.array_split(one, count), np.array_split(other, count), strict=True):
        told = (first != 0) & (second != 0)
        wrong = np.bitwise_count(first[told] ^ second[told]).sum()
        if told.any() and wrong <= 0.35 * BITS * told.sum():
            seconds += first.size * HOP_S
    return round(seconds + FRAME_S, 2)
