"""Which batch comes when: a pure function of (seed, epoch, corpus) (law 5).

An epoch is the split's shards in a drawn order, cut into *windows*. A window's shards are assigned to *lanes*; each lane sorts
its utterances by length, fills micro-batches with neighbours, as few as can be and all alike, and shuffles those. A *global batch* takes
one micro-batch of every lane; lanes that have fewer than the fullest leave gaps, which are spread over the window's global batches, so that
none is much smaller than another. So what is trained on does not know how many ranks or workers there are: rank r of n takes
whole lanes, and a rank with several accumulates.

Only `corpus.json` and the indexes of one window are in memory. A window is closed: nothing carries over to the next, so a cursor
(epoch, window, batch) is all that a restart needs, and finding its place costs one window. Random numbers come from keyed hashes of
names: they are the same on every machine and for ever, and do not depend on the order in which they are drawn.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from manifests.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manifests.corpus.shard_index import IndexedSample

# A cursor is a place in one order: a change of what comes when is a new number, and runs of another one are not resumed.
ORDER = 2
LENGTH_JITTER = 0.02
TOP = 1 << 64


class Cursor(NamedTuple):
    """The place of a global batch; as the state of a run, that of the next one."""

    epoch: int = 0
    window: int = 0
    batch: int = 0


class Crop(NamedTuple):
    """One utterance in a batch, and which stretch of it is used, in samples; both views share the stretch."""

    shard: str
    sample: IndexedSample
    start: int
    length: int


@dataclass(frozen=True)
class GlobalBatch:
    """What one optimiser step sees.

    Attributes:
        cursor: Its place.
        lanes: One micro-batch a lane; it may be empty.
    """

    cursor: Cursor
    lanes: tuple[tuple[Crop, ...], ...]

    @property
    def lengths(self) -> list[int]:
        """Samples of every crop of every lane."""
        return [crop.length for lane in self.lanes for crop in lane]


@dataclass(frozen=True)
class CropGrid:
    """Crops that begin where a frame of the teacher begins, so that its outputs can be stored.

    Attributes:
        hop_samples: Samples from one frame to the next.
        sets: Epoch e has the crops of set e modulo so many, whatever the run's seed; None draws new ones for every epoch.
        seed: Of the sets.
    """

    hop_samples: int
    sets: int | None = 1
    seed: int = 0


@dataclass(frozen=True)
class Batching:
    """How batches are filled.

    Attributes:
        lanes: Micro-batches in a global batch.
        crop_samples: Longer utterances are cut to this at a drawn place.
        lane_samples: Most samples of a micro-batch with its padding; or
        lane_utterances: how many utterances it has.
        window_shards: Shards a lane mixes at a time. Shards are random draws from the split already (the builder assigns
            utterances by hash), so one would do; two mix lengths better.
        grid: Where crops may begin; at any sample by default.
    """

    lanes: int
    crop_samples: int
    lane_samples: int | None = None
    lane_utterances: int | None = None
    window_shards: int = 2
    grid: CropGrid | None = None


def filled_batching(
    *, seconds: float | None, utterances: int | None, lanes: int, crop_s: float, rate_hz: int, window_shards: int = 2
) -> Batching:
    """Batching from what a person configures.

    Raises:
        UsageError: If there is no lane, a lane cannot hold the longest crop, or utterances cannot be divided evenly among lanes.
    """
    if lanes < 1:
        raise UsageError(f"lanes: expected 1 or more, got {lanes}")
    crop_samples = round(crop_s * rate_hz)
    if seconds is not None:
        lane_samples = int(seconds * rate_hz / lanes)
        if lane_samples < crop_samples:
            raise UsageError(
                f"batch.seconds / batch.lanes = {seconds:g} / {lanes} = {seconds / lanes:g} s cannot hold the longest crop, "
                f"crop_s = {crop_s:g} s: raise seconds, or lower lanes or crop_s"
            )
        return Batching(lanes=lanes, crop_samples=crop_samples, lane_samples=lane_samples, window_shards=window_shards)
    if utterances is None or utterances % lanes:
        raise UsageError(
            f"batch.utterances = {utterances} cannot be divided evenly among batch.lanes = {lanes}: make it a multiple"
        )
    return Batching(
        lanes=lanes, crop_samples=crop_samples, lane_utterances=utterances // lanes, window_shards=window_shards
    )


def named_number(seed: int, *names: object) -> int:
    """A number below 2**64 for a purpose: free of order, workers, library versions and every other purpose."""
    text = "\x1f".join(str(name) for name in (seed, *names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def named_share(seed: int, *names: object) -> float:
    """A number in [0, 1) for a purpose."""
    return (named_number(seed, *names) >> 11) / (1 << 53)


def named_choice(count: int, seed: int, *names: object) -> int:
    """A number in range(count) for a purpose; the bias is below count / 2**64."""
    return named_number(seed, *names) * count // TOP


def windows(shards: Sequence[str], batching: Batching, *, seed: int, epoch: int) -> list[tuple[str, ...]]:
    """The epoch's shards in their drawn order, cut into windows.

    A window has a multiple of `lanes` shards, so that lanes are filled alike; those left over (fewer than lanes) make the
    last one, where utterances are assigned to lanes instead of shards.
    """
    order = sorted(shards, key=lambda name: (named_number(seed, "shard", epoch, name), name))
    even = len(order) - len(order) % batching.lanes
    size = batching.lanes * batching.window_shards
    cuts = [*range(0, even, size), even]
    parts = [tuple(order[start:end]) for start, end in itertools.pairwise(cuts)]
    return [part for part in [*parts, tuple(order[even:])] if part]


def lane_shards(window: Sequence[str], lanes: Sequence[int], batching: Batching) -> list[str]:
    """The shards of a window that some lanes read: their own, or all where utterances are assigned one by one."""
    if len(window) < batching.lanes:
        return list(window)
    return [name for number, name in enumerate(window) if number % batching.lanes in lanes]


def window_lanes(
    window: Sequence[str],
    samples_of: Callable[[str], Sequence[IndexedSample]],
    batching: Batching,
    *,
    seed: int,
    epoch: int,
) -> list[list[Crop]]:
    """The utterances of a window, cropped and assigned to lanes: by shard, or one by one where shards are too few."""
    lanes: list[list[Crop]] = [[] for _ in range(batching.lanes)]
    shards = [
        [cropped(name, sample, batching, seed=seed, epoch=epoch) for sample in samples_of(name)] for name in window
    ]
    if len(window) >= batching.lanes:
        for number, crops in enumerate(shards):
            lanes[number % batching.lanes].extend(crops)
    else:
        every = [crop for crops in shards for crop in crops]
        every.sort(key=lambda crop: (named_number(seed, "deal", epoch, crop.sample.key), crop.shard))
        for number, crop in enumerate(every):
            lanes[number % batching.lanes].append(crop)
    return lanes


def cropped(shard: str, sample: IndexedSample, batching: Batching, *, seed: int, epoch: int) -> Crop:
    """The stretch of an utterance that is used in an epoch."""
    length = min(sample.num_samples, batching.crop_samples)
    grid = batching.grid
    if grid is None:
        start = named_choice(sample.num_samples - length + 1, seed, "crop", epoch, sample.key)
    else:
        names = (seed, "crop", epoch) if grid.sets is None else (grid.seed, "crop", epoch % grid.sets)
        places = (sample.num_samples - length) // grid.hop_samples + 1
        start = grid.hop_samples * named_choice(places, *names, sample.key)
    return Crop(shard, sample, start, length)


def micro_batches(crops: Sequence[Crop], batching: Batching, *, seed: int, epoch: int) -> list[tuple[Crop, ...]]:
    """One lane's utterances as batches of like lengths, in a drawn order.

    Lengths are jittered by 2 % before sorting, so that neighbours differ between epochs; it costs about 1 % of padding.
    """

    def near_length(crop: Crop) -> tuple[float, str, str]:
        jitter = 1 + LENGTH_JITTER * named_share(seed, "jitter", epoch, crop.sample.key)
        return crop.length * jitter, crop.sample.key, crop.shard

    ordered = sorted(crops, key=near_length)
    ends = even_ends([crop.length for crop in ordered], batching)
    batches = [tuple(ordered[start:end]) for start, end in itertools.pairwise((0, *ends))]
    return sorted(batches, key=lambda batch: (named_number(seed, "batch", epoch, batch[0].sample.key), batch[0].shard))


def filled(lengths: Iterable[int], batching: Batching) -> int:
    """How many utterances, of these lengths in turn, fill a micro-batch; at least one."""
    longest = 0
    count = -1
    for count, length in enumerate(lengths):
        longest = max(longest, length)
        too_long = batching.lane_samples is not None and longest * (count + 1) > batching.lane_samples
        too_many = batching.lane_utterances is not None and count + 1 > batching.lane_utterances
        if count and (too_long or too_many):
            return count
    return count + 1


def even_ends(lengths: Sequence[int], batching: Batching) -> list[int]:
    """Where a lane's utterances are cut: into as few micro-batches as hold them, with as like shares of the whole as these allow.

    Filled to the brim one after another, the last would be whatever is left, and a step with it as small. So each is filled up to its
    share, of the samples or of the utterances, but no later cut lies before the place from which the rest would still fit.

    Args:
        lengths: Of the utterances, in the order in which they are cut.
        batching: What a micro-batch holds.
    """
    latest = [len(lengths)]  # the first place from which the rest fits into none, one, two ... micro-batches
    while latest[-1] > 0:
        latest.append(latest[-1] - filled(reversed(lengths[: latest[-1]]), batching))
    count = len(latest) - 1
    sizes = lengths if batching.lane_samples is not None else [1] * len(lengths)
    reached = list(itertools.accumulate(sizes))
    ends = [0]
    for number in range(1, count + 1):
        share = bisect.bisect_left(reached, reached[-1] * number / count) + 1
        most = ends[-1] + filled(itertools.islice(lengths, ends[-1], None), batching)
        later = count - number  # micro-batches, each of which has an utterance
        ends.append(max(latest[later], ends[-1] + 1, min(share, most, len(lengths) - later)))
    return ends[1:]


def spread(lanes: Sequence[Sequence[tuple[Crop, ...]]]) -> list[tuple[tuple[Crop, ...], ...]]:
    """The global batches of a window from its lanes' micro-batches: as many as the fullest lane has.

    A lane with fewer leaves gaps. Laid one after another round the window, those of all lanes fall on each global batch as often, or once more.
    """
    count = max(map(len, lanes))
    rows: list[list[tuple[Crop, ...]]] = [[] for _ in range(count)]
    gap = 0
    for batches in lanes:
        gaps = {(gap + further) % count for further in range(count - len(batches))}
        gap += len(gaps)
        left = iter(batches)
        for place, row in enumerate(rows):
            row.append(() if place in gaps else next(left))
    return [tuple(row) for row in rows]


def window_batches(
    window: Sequence[str],
    samples_of: Callable[[str], Sequence[IndexedSample]],
    batching: Batching,
    *,
    seed: int,
    epoch: int,
) -> list[tuple[tuple[Crop, ...], ...]]:
    """The global batches of a window, each a micro-batch a lane."""
    lanes = window_lanes(window, samples_of, batching, seed=seed, epoch=epoch)
    return spread([micro_batches(crops, batching, seed=seed, epoch=epoch) for crops in lanes])


def global_batches(
    shards: Sequence[str],
    samples_of: Callable[[str], Sequence[IndexedSample]],
    batching: Batching,
    *,
    seed: int,
    cursor: Cursor = Cursor(),  # noqa: B008 (a tuple)
    epochs: int | None = None,
) -> Iterator[GlobalBatch]:
    """Every global batch from a cursor on.

    Args:
        shards: Names of the split's shards, in any order.
        samples_of: Gives the index of a shard; called only for the window at hand.
        batching: How batches are filled.
        seed: Of the run.
        cursor: Where to begin.
        epochs: Stop after that many epochs, counted from the cursor's; None goes on for ever.

    Raises:
        ValueError: If an endless order is wanted of shards without an utterance.
    """
    epoch = cursor.epoch
    while epochs is None or epoch < cursor.epoch + epochs:
        found = 0
        for number, window in enumerate(windows(shards, batching, seed=seed, epoch=epoch)):
            if (epoch, number) < cursor[:2]:
                found += 1
                continue
            batches = window_batches(window, samples_of, batching, seed=seed, epoch=epoch)
            found += len(batches)
            first = cursor.batch if (epoch, number) == cursor[:2] else 0
            for batch in range(first, len(batches)):
                yield GlobalBatch(Cursor(epoch, number, batch), batches[batch])
        if not found and epochs is None:
            raise ValueError("the shards hold no utterance")
        epoch += 1
