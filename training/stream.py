"""The one door to audio: a corpus and an order become padded batches of pairs, or utterances one after another.

A sample's members lie side by side in its shard, so one read by offset brings the two copies that are heard, and no other
copy is decoded. Workers of a DataLoader take micro-batches in turn, so what arrives is the same with none, one or many.
"""

from __future__ import annotations

import itertools
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from manifests.errors import UsageError
from manifests.sample import CLEAN
from manifests.shards import ABOUT
from training.batch import PairBatch, padded
from training.corpus import CorpusReader, clean_digests, open_corpus
from training.members import decoded_wave, members_at, pair_waves, recorded_copies, sample_record
from training.order import Batching, Crop, Cursor, global_batches
from training.views import Copy, Pair, ViewKind, Views, check_copies, drawn_pair

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from manifests.sample import Sample
    from training.order import GlobalBatch

__all__ = [
    "PairStream",
    "Utterance",
    "clean_digests",
    "loader",
    "open_corpus",
    "pair_waves",
    "pairs",
    "sample_record",
    "utterances",
]

PREFETCHED = 4


@dataclass(frozen=True)
class Utterance:
    """One utterance, read whole.

    Attributes:
        sample: Its record: id, text, speaker, what was done to each copy.
        waves: `clean` and `<condition>-<n>`, each float32 of shape (time,) in [-1, 1), all of one length.
    """

    sample: Sample
    waves: dict[str, NDArray[np.float32]]


class Heard(NamedTuple):
    """What is heard of one utterance, and the family of the student's copy (empty if nobody asked)."""

    pair: Pair
    family: str


class PairStream(IterableDataset[PairBatch]):
    """Micro-batches of (teacher's view, student's view) in the order of `training.order`, for a plain DataLoader.

    Args:
        corpus: Folder or URL, or several that are joined.
        split: Which split.
        views: What each model hears.
        batching: How batches are filled.
        seed: Of order, crops and views.
        cursor: The global batch to begin with.
        epochs: How many epochs; None goes on for ever.
        lanes: Which lanes to read (a rank's share); all by default.
        families: Whether batches tell the family of each copy that the student hears.

    Raises:
        NotSealedError: If the corpus is not finished.
        NoSuchSplitError: If it has no such split.
        UsageError: If its utterances have too few copies for the views.
    """

    def __init__(
        self,
        corpus: str | Path | Sequence[str | Path],
        *,
        split: str,
        views: Views,
        batching: Batching,
        seed: int,
        cursor: Cursor = Cursor(),  # noqa: B008 (a tuple)
        epochs: int | None = 1,
        lanes: Sequence[int] | None = None,
        families: bool = False,
    ) -> None:
        super().__init__()
        with open_corpus(corpus) as reader:
            self.shards = [entry.name for entry in reader.shards(split)]
            check_copies(views, reader.manifest.copies.get(split, {}), where=f"{reader.url}, split {split}")
        self.corpus = str(corpus) if isinstance(corpus, str | Path) else tuple(map(str, corpus))
        self.reads_records = families or views.need_records
        self.split = split
        self.views = views
        self.batching = batching
        self.seed = seed
        self.cursor = cursor
        self.epochs = epochs
        self.lanes = tuple(range(batching.lanes) if lanes is None else lanes)

    def __iter__(self) -> Iterator[PairBatch]:
        """Decode this worker's share, opening the corpus in this process."""
        worker = get_worker_info()
        with open_corpus(self.corpus) as reader:
            yield from self.lanes_from(
                reader, self.cursor, turn=worker.id if worker else 0, turns=worker.num_workers if worker else 1
            )

    def lanes_from(
        self,
        reader: CorpusReader,
        cursor: Cursor = Cursor(),  # noqa: B008 (a tuple)
        *,
        turn: int = 0,
        turns: int = 1,
    ) -> Iterator[PairBatch]:
        """Decode every `turns`-th micro-batch of these lanes, from a cursor on."""
        number = 0
        for batch in self.batches_from(reader, cursor):
            filled = [lane for lane in self.lanes if batch.lanes[lane]] or list(self.lanes[:1])
            for lane in filled:
                if number % turns == turn:
                    yield self.decoded(reader, batch, lane, ends_step=lane == filled[-1])
                number += 1

    def decoded(self, reader: CorpusReader, batch: GlobalBatch, lane: int, *, ends_step: bool) -> PairBatch:
        """One lane of a global batch as tensors."""
        crops = batch.lanes[lane]
        chosen = [self.heard(reader, crop, batch.cursor.epoch) for crop in crops]
        waves = [pair_waves(reader, crop, heard.pair) for crop, heard in zip(crops, chosen, strict=True)]
        teacher_wave = padded([wave for wave, _ in waves])
        same = all(heard.pair.teacher == heard.pair.student for heard in chosen)
        return PairBatch(
            teacher_wave=teacher_wave,
            student_wave=teacher_wave if same else padded([wave for _, wave in waves]),
            num_samples=torch.tensor([crop.length for crop in crops], dtype=torch.int64),
            keys=tuple(crop.sample.key for crop in crops),
            teacher_copies=tuple(heard.pair.teacher for heard in chosen),
            student_copies=tuple(heard.pair.student for heard in chosen),
            cursor=batch.cursor,
            lane=lane,
            ends_step=ends_step,
            global_lengths=tuple(batch.lengths),
            student_families=tuple(heard.family for heard in chosen),
            fell_back=sum(heard.pair.fell_back for heard in chosen),
        )

    def heard(self, reader: CorpusReader, crop: Crop, epoch: int) -> Heard:
        """What is heard of one utterance; its record is read only where views or families need it."""
        if self.reads_records:
            copies = recorded_copies(reader, crop.shard, crop.sample)
        else:
            copies = [Copy(name) for name in crop.sample.copies]
        pair = drawn_pair(self.views, copies, seed=self.seed, epoch=epoch, key=crop.sample.key)
        families = {copy.name: copy.family for copy in copies}
        return Heard(pair, families.get(pair.student, CLEAN))

    def batches_from(self, reader: CorpusReader, cursor: Cursor) -> Iterator[GlobalBatch]:
        """The global batches from a cursor on, without their audio."""
        return global_batches(
            self.shards, reader.samples, self.batching, seed=self.seed, cursor=cursor, epochs=self.epochs
        )

    def first_heard(self, reader: CorpusReader, count: int) -> list[tuple[Crop, Heard]]:
        """What is heard of the first utterances of the order, without their audio."""
        crops = (
            (crop, batch.cursor.epoch)
            for batch in global_batches(self.shards, reader.samples, self.batching, seed=self.seed, epochs=1)
            for lane in batch.lanes
            for crop in lane
        )
        return [(crop, self.heard(reader, crop, epoch)) for crop, epoch in itertools.islice(crops, count)]


def pairs(
    corpus: str | Path | Sequence[str | Path],
    *,
    split: str = "train",
    views: Views | ViewKind = "none",
    seed: int = 0,
    epoch: int = 0,
    epochs: int | None = 1,
    seconds: float | None = None,
    utterances: int | None = None,
    lanes: int = 1,
    crop_s: float = 15.625,
) -> PairStream:
    """Batches of pairs of differently distorted copies of the same speech, for any trainer.

    ```python
    stream = pairs("corpus", split="train", views="cdm2", seconds=48)
    for batch in torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2):
        batch.teacher_wave, batch.student_wave, batch.num_samples
    ```

    Args:
        corpus: A finished corpus: a folder, or a URL that fsspec reads; several are joined.
        split: Which split.
        views: `none`, `cdm1`, `cdm2`, `same`, or `Views` with shares of clean speech and the conditions of either model.
        seed: Of order, crops and views.
        epoch: The first epoch; another epoch is another order, other crops and other views.
        epochs: How many; None goes on for ever.
        seconds: Most audio in a global batch, padding included; or
        utterances: how many a global batch has.
        lanes: Micro-batches that a global batch is cut into; each is one item of the stream.
        crop_s: Longer utterances are cut to this.

    Raises:
        UsageError: If the numbers do not fit each other.
    """
    with open_corpus(corpus) as reader:
        rate_hz = reader.manifest.sample_rate
    if seconds is None and utterances is None:
        utterances = 8 * lanes
    batching = filled_batching(seconds=seconds, utterances=utterances, lanes=lanes, crop_s=crop_s, rate_hz=rate_hz)
    chosen = Views(kind=views) if isinstance(views, str) else views
    return PairStream(
        corpus, split=split, views=chosen, batching=batching, seed=seed, cursor=Cursor(epoch), epochs=epochs
    )


def filled_batching(
    *, seconds: float | None, utterances: int | None, lanes: int, crop_s: float, rate_hz: int, window_shards: int = 2
) -> Batching:
    """Batching from what a person asks for.

    Raises:
        UsageError: If a lane cannot hold the longest crop, or utterances cannot be dealt evenly.
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
        raise UsageError(f"batch.utterances = {utterances} cannot be dealt evenly to batch.lanes = {lanes}")
    return Batching(
        lanes=lanes, crop_samples=crop_samples, lane_utterances=utterances // lanes, window_shards=window_shards
    )


def loader(stream: PairStream, *, workers: int) -> DataLoader[PairBatch]:
    """A DataLoader whose workers start by spawn, leave signals to their parent, and end with it.

    Not by forkserver: a scheduler's SIGTERM would end its server process, and the workers with it.
    """
    options: dict[str, Any] = {}
    if workers:
        options = {
            "multiprocessing_context": "spawn",
            "prefetch_factor": PREFETCHED,
            "worker_init_fn": leave_signals_to_parent,
        }
    return DataLoader(stream, batch_size=None, num_workers=workers, **options)


def leave_signals_to_parent(_: int) -> None:
    """A terminal's Ctrl-C and a scheduler's warning reach the whole process group; the parent decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def utterances(
    corpus: str | Path, split: str, *, members: Sequence[str] | None = None, keys: Container[str] | None = None
) -> Iterator[Utterance]:
    """The utterances of a split, shard after shard, each read at once by its offsets.

    Args:
        corpus: Folder or URL.
        split: Which split.
        members: Which copies to decode (`clean`, `noise-0`); all by default. One that a sample lacks is left out.
        keys: Only samples with these keys are read; all by default.
    """
    with open_corpus(corpus) as reader:
        rate_hz = reader.manifest.sample_rate
        for entry in reader.shards(split):
            for sample in reader.samples(entry.name):
                if keys is not None and sample.key not in keys:
                    continue
                first, end = sample.span
                content = reader.span(entry.name, first, end)
                waves = {}
                for name in (CLEAN, *sample.copies):
                    if name not in sample.members or (members is not None and name not in members):
                        continue
                    member = sample.members[name]
                    flac = content[member.offset - first : member.offset - first + member.size]
                    where = f"{entry.name}.tar: {sample.key}.{name}"
                    waves[name] = decoded_wave(flac, sample, rate_hz=rate_hz, where=where)
                if reader.manifest.borrowed is None:
                    record = sample_record(content, sample, entry.name, first)
                else:
                    about = members_at(content, sample, first, names=ABOUT)
                    record = reader.record(about, sample, f"{entry.name}.tar: {sample.key}.json", split)
                yield Utterance(record, waves)
