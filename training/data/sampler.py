"""Which batch comes when: a pure function of (seed, epoch, corpus) (law 5).

An epoch is the split's shards in a drawn order, cut into *windows*. A window's shards are assigned to *lanes*; each lane sorts
its utterances by length, fills micro-batches with neighbours and shuffles those. *Global batch* i of a window is the i-th
micro-batch of every lane. So what is trained on does not know how many ranks or workers there are: rank r of n takes whole
lanes, and a rank with several accumulates.

Only `corpus.json` and the indexes of one window are in memory. A window is closed: nothing carries over to the next, so a cursor
(epoch, window, batch) is all that a restart needs, and finding its place costs one window. Random numbers come from keyed hashes of
names: they are the same on every machine and for ever, and do not depend on the order in which they are drawn.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from manifests.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manifests.corpus.shard_index import IndexedSample

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
        lanes: One micro-batch a lane; at a window's end it may be empty.
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
        UsageError: If a lane cannot hold the longest crop, or utterances cannot be divided evenly among lanes.
    """
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

    batches: list[tuple[Crop, ...]] = []
    filling: list[Crop] = []
    longest = 0
    for crop in sorted(crops, key=near_length):
        longest = max(longest, crop.length)
        too_long = batching.lane_samples is not None and longest * (len(filling) + 1) > batching.lane_samples
        too_many = batching.lane_utterances is not None and len(filling) + 1 > batching.lane_utterances
        if filling and (too_long or too_many):
            batches.append(tuple(filling))
            filling, longest = [], crop.length
        filling.append(crop)
    if filling:
        batches.append(tuple(filling))
    return sorted(batches, key=lambda batch: (named_number(seed, "batch", epoch, batch[0].sample.key), batch[0].shard))


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
            lanes = [
                micro_batches(crops, batching, seed=seed, epoch=epoch)
                for crops in window_lanes(window, samples_of, batching, seed=seed, epoch=epoch)
            ]
            count = max(len(lane) for lane in lanes)
            found += count
            first = cursor.batch if (epoch, number) == cursor[:2] else 0
            for batch in range(first, count):
                row = tuple(lane[batch] if batch < len(lane) else () for lane in lanes)
                yield GlobalBatch(Cursor(epoch, number, batch), row)
        if not found and epochs is None:
            raise ValueError("the shards hold no utterance")
        epoch += 1
