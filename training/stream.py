"""The one door to audio: a corpus and an order become padded batches of pairs, or utterances one after another.

A sample's members lie side by side in its shard, so one read by offset brings the two copies that are heard, and no other
copy is decoded. Workers of a DataLoader take micro-batches in turn, so what arrives is the same with none, one or many.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError
from manifests.io.progress import stderr_line
from training.data.audio import Utterance, batch_waves, recorded_copies, student_waves, utterances
from training.data.batch import PairBatch
from training.data.corpus import Asked, CorpusReader
from training.data.joined_corpus import clean_digests, open_corpus
from training.data.node_cache import Stage
from training.data.sampler import Batching, Crop, Cursor, global_batches, lane_shards, windows
from training.data.tar_reader import UNREADABLE
from training.data.views import Copy, Pair, ViewKind, Views, check_copies, drawn_pair
from training.targets.reader import TargetsReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.config.schema import Staging
    from training.data.sampler import GlobalBatch


__all__ = [
    "PairStream",
    "Utterance",
    "clean_digests",
    "open_corpus",
    "pairs",
    "utterances",
]


class Heard(NamedTuple):
    """What is heard of one utterance, and the family of the student's copy (empty if nobody asked)."""

    pair: Pair
    family: str


class PairStream(IterableDataset[PairBatch]):
    """Micro-batches of (teacher's view, student's view) in the order of `training.data.sampler`, for a plain DataLoader.

    Args:
        corpus: Folder or URL, or several that are joined.
        split: Which split.
        views: What each model hears.
        batching: How batches are filled.
        seed: Of order, crops and views.
        cursor: The global batch to begin with.
        epochs: How many epochs; None goes on for ever.
        lanes: Which lanes to read (a rank's share); all by default.
        targets: Where a teacher's outputs are kept, if they take its place; `target_layers` says which layers are wanted.
        stage: A disk of this machine that shards are copied to first.
        damaged_shards: Whether crops that cannot be read are left out, and told, instead of being an error; a number for
            whoever counts.
        families: Whether batches tell the family of each copy that the student hears.

    Raises:
        NotSealedError: If the corpus is not finished.
        NoSuchSplitError: If it has no such split.
        UsageError: If its utterances have too few copies for the views, or the stage cannot be written to.
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
        targets: str | None = None,
        stage: Staging | None = None,
        damaged_shards: int = 0,
    ) -> None:
        super().__init__()
        with open_corpus(corpus) as reader:
            self.shards = [entry.name for entry in reader.shards(split)]
            check_copies(views, reader.copies(split), where=f"{reader.url}, split {split}")
        if stage is not None:
            Stage(stage.dir, say=stderr_line).close()  # where it cannot be written to is said now, not by a worker
        self.corpus = str(corpus) if isinstance(corpus, str | Path) else tuple(map(str, corpus))
        self.reads_records = families or views.need_records
        self.split = split
        self.views = views
        self.batching = batching
        self.seed = seed
        self.cursor = cursor
        self.epochs = epochs
        self.lanes = tuple(range(batching.lanes) if lanes is None else lanes)
        self.targets, self.stage, self.damaged_shards = targets, stage, damaged_shards
        self.target_layers: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[PairBatch]:
        """Decode this worker's share, opening everything in this process."""
        worker = get_worker_info()
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(open_corpus(self.corpus))
            targets = stack.enter_context(TargetsReader(self.targets)) if self.targets is not None else None
            stage = None
            if self.stage is not None:
                stage = Stage(self.stage.dir, gigabytes=self.stage.gigabytes, say=stderr_line)
                stack.callback(stage.close)
                reader.use_cache(stage.handle)
                if targets is not None:
                    targets.tars.cached = stage.handle
            turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
            yield from self.lanes_from(reader, self.cursor, turn=turn, turns=turns, targets=targets, stage=stage)

    def lanes_from(
        self,
        reader: CorpusReader,
        cursor: Cursor = Cursor(),  # noqa: B008 (a tuple)
        *,
        turn: int = 0,
        turns: int = 1,
        targets: TargetsReader | None = None,
        stage: Stage | None = None,
    ) -> Iterator[PairBatch]:
        """Decode every `turns`-th micro-batch of these lanes, from a cursor on; with targets, the student's view alone."""
        number = 0
        window: tuple[int, int] | None = None
        for batch in self.batches_from(reader, cursor):
            if window != batch.cursor[:2]:
                window = batch.cursor[:2]
                self.enter(*window, reader=reader, targets=targets, stage=stage)
            filled = [lane for lane in self.lanes if batch.lanes[lane]] or list(self.lanes[:1])
            for lane in filled:
                if number % turns == turn:
                    yield self.decoded(reader, batch, lane, ends_step=lane == filled[-1], targets=targets)
                number += 1

    def enter(
        self, epoch: int, window: int, *, reader: CorpusReader, targets: TargetsReader | None, stage: Stage | None
    ) -> None:
        """Begin a window: what was held for the last one is let go, and the next one's shards are fetched ahead."""
        if targets is None and stage is None:
            return
        every = windows(self.shards, self.batching, seed=self.seed, epoch=epoch)
        here = lane_shards(every[window], self.lanes, self.batching)
        later = every[window + 1 :]
        if not later and (self.epochs is None or epoch + 1 < self.cursor.epoch + self.epochs):
            later = windows(self.shards, self.batching, seed=self.seed, epoch=epoch + 1)
        after = lane_shards(later[0], self.lanes, self.batching) if later else []
        if targets is not None:
            targets.keep(here)
        if stage is not None:
            stage.window(
                one
                for shards in (here, after)
                for one in (*reader.sources(shards), *(targets.sources(shards) if targets is not None else ()))
            )

    def decoded(
        self,
        reader: CorpusReader,
        batch: GlobalBatch,
        lane: int,
        *,
        ends_step: bool,
        targets: TargetsReader | None = None,
    ) -> PairBatch:
        """One lane of a global batch as tensors; what cannot be read is left out if that is asked for."""
        crops = batch.lanes[lane]
        tensors = functools.partial(self.tensors, reader, batch, lane, ends_step=ends_step, targets=targets)
        try:
            return tensors(crops)
        except UNREADABLE:
            if not self.damaged_shards:
                raise
        damage: dict[str, str] = {}
        lost: list[int] = []
        readable: list[Crop] = []
        for crop in crops:
            try:
                tensors([crop])
                readable.append(crop)
            except UNREADABLE as problem:
                damage.setdefault(crop.shard, str(problem))
                lost.append(crop.length)
        return replace(tensors(readable), lost=tuple(lost), damage=tuple(damage.items()))

    def tensors(
        self,
        reader: CorpusReader,
        batch: GlobalBatch,
        lane: int,
        crops: Sequence[Crop],
        *,
        ends_step: bool,
        targets: TargetsReader | None,
    ) -> PairBatch:
        """Some crops of a lane as tensors."""
        try:
            return self.read(reader, batch, lane, crops, ends_step=ends_step, targets=targets)
        finally:
            reader.forget()

    def read(
        self,
        reader: CorpusReader,
        batch: GlobalBatch,
        lane: int,
        crops: Sequence[Crop],
        *,
        ends_step: bool,
        targets: TargetsReader | None,
    ) -> PairBatch:
        """Some crops of a lane as tensors, with what was fetched for them."""
        if self.reads_records:
            reader.fetch([Asked(crop.shard, crop.sample) for crop in crops])
        chosen = [self.heard(reader, crop, batch.cursor.epoch) for crop in crops]
        pairs = [heard.pair for heard in chosen]
        if not self.reads_records:
            heard_by = [({pair.student} if targets is not None else {*pair[:2]}) for pair in pairs]
            reader.fetch(
                [Asked(crop.shard, crop.sample, frozenset(names)) for crop, names in zip(crops, heard_by, strict=True)]
            )
        target = None
        if targets is None:
            teacher_wave, student_wave = batch_waves(reader, crops, pairs)
        else:
            teacher_wave, student_wave = torch.zeros(len(crops), 0), student_waves(reader, crops, pairs)
            target = targets.batch(crops, [pair.teacher for pair in pairs], layers=self.target_layers)
        return PairBatch(
            teacher_wave=teacher_wave,
            student_wave=student_wave,
            target=target,
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
        found = []
        for crop, epoch in itertools.islice(crops, count):
            try:
                found.append((crop, self.heard(reader, crop, epoch)))
            except UNREADABLE:
                if not self.damaged_shards:
                    raise
        return found


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
