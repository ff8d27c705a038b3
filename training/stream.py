"""Reads a corpus in the order of `training.data.sampler`: padded micro-batches of pairs of differently distorted copies.

A sample's members are side by side in its shard, so one read by offset brings the two copies of a pair, and no other
copy is decoded. Workers of a DataLoader take micro-batches in turn, so what arrives is the same with none, one or many.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from manifests.io.progress import stderr_line
from training.data.audio import Utterance, batch_waves, recorded_copies, utterances
from training.data.batch import PairBatch
from training.data.corpus import CorpusReader, NeededMembers
from training.data.joined_corpus import clean_digests, open_corpus
from training.data.node_cache import NodeCache
from training.data.sampler import (
    Batching,
    Crop,
    Cursor,
    filled_batching,
    global_batches,
    lane_shards,
    window_batches,
    windows,
)
from training.data.tar_reader import UNREADABLE
from training.data.view_keys import ViewKind, Views, check_copies
from training.data.views import Copy, Pair, drawn_pair
from training.targets.reader import TargetsReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.config.schema import Staging
    from training.data.sampler import GlobalBatch


__all__ = ["PairStream", "Utterance", "clean_digests", "open_corpus", "pairs", "utterances"]


class Sources(NamedTuple):
    """What one process reads from.

    Attributes:
        corpus: The audio.
        targets: The teacher's stored outputs, if they take its place.
        cache: Copies of shards on a disk of this machine, if there are any.
    """

    corpus: CorpusReader
    targets: TargetsReader | None = None
    cache: NodeCache | None = None


class PairStream(IterableDataset[PairBatch]):
    """Micro-batches of (teacher's view, student's view), for a plain DataLoader.

    Args:
        corpus: Folder or URL, or several that are joined.
        split: Which split.
        views: Which copies each model gets.
        batching: How batches are filled.
        seed: Of order, crops and views.
        cursor: The global batch to begin with.
        epochs: How many epochs; None goes on for ever.
        lanes: Which lanes to read (a rank's share); all by default.
        targets: Folder of a teacher's outputs, if they take its place; `target_layers` says which layers are wanted.
        stage: A disk of this machine that shards are copied to first.
        damaged_shards: Whether crops that cannot be read are left out, and named in the batch, instead of being an error; a
            number for whoever counts.
        families: Whether batches name the family of each of the student's copies.

    Attributes:
        passed_over: Micro-batches of the first global batch that are not read.

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
            NodeCache(
                stage.dir, report=stderr_line
            ).close()  # where it cannot be written to is an error now, not in a worker
        self.corpus = str(corpus) if isinstance(corpus, str | Path) else tuple(map(str, corpus))
        self.names_families = families
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
        self.passed_over = 0

    def after(self, batch: PairBatch, *, of_step: int) -> PairStream:
        """The same stream, from the micro-batch on that follows one of its own.

        Args:
            batch: That one.
            of_step: How many micro-batches of its global batch came, it too.
        """
        found = copy.copy(self)
        found.cursor, found.passed_over = (batch.next_cursor, 0) if batch.ends_step else (batch.cursor, of_step)
        if self.epochs is not None:
            found.epochs = self.epochs - (found.cursor.epoch - self.cursor.epoch)
        return found

    def __iter__(self) -> Iterator[PairBatch]:
        """Decode this worker's share, opening everything in this process."""
        worker = get_worker_info()
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(open_corpus(self.corpus))
            targets = stack.enter_context(TargetsReader(self.targets)) if self.targets is not None else None
            cache = None
            if self.stage is not None:
                cache = NodeCache(self.stage.dir, gigabytes=self.stage.gigabytes, report=stderr_line)
                stack.callback(cache.close)
                reader.use_cache(cache.handle)
                if targets is not None:
                    targets.tars.cached = cache.handle
            turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
            yield from self.micro_batches(Sources(reader, targets, cache), self.cursor, turn=turn, turns=turns)

    def micro_batches(
        self,
        sources: Sources,
        cursor: Cursor = Cursor(),  # noqa: B008 (a tuple)
        *,
        turn: int = 0,
        turns: int = 1,
    ) -> Iterator[PairBatch]:
        """Every `turns`-th micro-batch of this stream's lanes, from a cursor on."""
        number = 0
        window: tuple[int, int] | None = None
        for batch in self.batches_from(sources.corpus, cursor):
            if window != batch.cursor[:2]:
                window = batch.cursor[:2]
                self.begin_window(sources, *window)
            filled = [lane for lane in self.lanes if batch.lanes[lane]] or list(self.lanes[:1])
            passed_over = self.passed_over if batch.cursor == cursor else 0
            for lane in filled[passed_over:]:
                if number % turns == turn:
                    yield self.micro_batch(sources, batch, lane, ends_step=lane == filled[-1])
                number += 1

    def begin_window(self, sources: Sources, epoch: int, window: int) -> None:
        """Release what the last window's shards hold, and let the cache fetch this window's and the next one's."""
        targets, cache = sources.targets, sources.cache
        if targets is None and cache is None:
            return
        every = windows(self.shards, self.batching, seed=self.seed, epoch=epoch)
        here = lane_shards(every[window], self.lanes, self.batching)
        later = every[window + 1 :]
        if not later and (self.epochs is None or epoch + 1 < self.cursor.epoch + self.epochs):
            later = windows(self.shards, self.batching, seed=self.seed, epoch=epoch + 1)
        after = lane_shards(later[0], self.lanes, self.batching) if later else []
        if targets is not None:
            targets.hold(here)
        if cache is not None:
            cache.window(
                one
                for shards in (here, after)
                for one in (*sources.corpus.sources(shards), *(targets.sources(shards) if targets is not None else ()))
            )

    def micro_batch(self, sources: Sources, batch: GlobalBatch, lane: int, *, ends_step: bool) -> PairBatch:
        """One lane of a global batch; with `damaged_shards`, without the crops that cannot be read."""
        crops = batch.lanes[lane]
        try:
            return self.read(sources, batch, lane, crops, ends_step=ends_step)
        except UNREADABLE:
            if not self.damaged_shards:
                raise
        damage: dict[str, str] = {}
        lost: list[int] = []
        readable: list[Crop] = []
        for crop in crops:
            try:
                self.read(sources, batch, lane, [crop], ends_step=ends_step)
                readable.append(crop)
            except UNREADABLE as problem:
                damage.setdefault(crop.shard, str(problem))
                lost.append(crop.length)
        found = self.read(sources, batch, lane, readable, ends_step=ends_step)
        return replace(found, lost=tuple(lost), damage=tuple(damage.items()))

    def read(
        self, sources: Sources, batch: GlobalBatch, lane: int, crops: Sequence[Crop], *, ends_step: bool
    ) -> PairBatch:
        """Read crops of a lane: choose the pair of each, fetch its members, decode them, and with targets read those."""
        reader, targets = sources.corpus, sources.targets
        try:
            if self.reads_records:
                reader.fetch([NeededMembers(crop.shard, crop.sample) for crop in crops])
            chosen = [self.pair(reader, crop, batch.cursor.epoch) for crop in crops]
            if not self.reads_records:
                names = [frozenset({pair.student} if targets is not None else {*pair[:2]}) for pair in chosen]
                reader.fetch(
                    [NeededMembers(crop.shard, crop.sample, two) for crop, two in zip(crops, names, strict=True)]
                )
            target = None
            if targets is None:
                teacher_wave, student_wave = batch_waves(reader, crops, chosen)
            else:
                teacher_wave = torch.zeros(len(crops), 0)
                _, student_wave = batch_waves(reader, crops, [Pair(pair.student, pair.student) for pair in chosen])
                target = targets.batch(crops, [pair.teacher for pair in chosen], layers=self.target_layers)
        finally:
            reader.forget()
        return PairBatch(
            teacher_wave=teacher_wave,
            student_wave=student_wave,
            target=target,
            num_samples=torch.tensor([crop.length for crop in crops], dtype=torch.int64),
            keys=tuple(crop.sample.key for crop in crops),
            teacher_copies=tuple(pair.teacher for pair in chosen),
            student_copies=tuple(pair.student for pair in chosen),
            cursor=batch.cursor,
            lane=lane,
            ends_step=ends_step,
            global_lengths=tuple(batch.lengths),
            student_families=tuple(pair.student_family for pair in chosen),
            fell_back=sum(pair.fell_back for pair in chosen),
        )

    def pair(self, reader: CorpusReader, crop: Crop, epoch: int) -> Pair:
        """The copies that both models get of one utterance; its record is read only where views or families need it."""
        if self.reads_records:
            copies = recorded_copies(reader, crop.shard, crop.sample)
        else:
            copies = [Copy(name) for name in crop.sample.copies]
        return drawn_pair(self.views, copies, seed=self.seed, epoch=epoch, key=crop.sample.key)

    def batches_from(self, reader: CorpusReader, cursor: Cursor) -> Iterator[GlobalBatch]:
        """The global batches from a cursor on, without their audio."""
        return global_batches(
            self.shards, reader.samples, self.batching, seed=self.seed, cursor=cursor, epochs=self.epochs
        )

    def one_step(self, reader: CorpusReader, cursor: Cursor) -> Iterator[PairBatch]:
        """The micro-batches of one global batch, those of all lanes."""
        whole = copy.copy(self)
        whole.lanes, whole.passed_over = tuple(range(self.batching.lanes)), 0
        batches = whole.micro_batches(Sources(reader), cursor)
        return itertools.takewhile(lambda batch: batch.cursor == cursor, batches)

    def window_lengths(self, reader: CorpusReader, cursor: Cursor) -> list[list[int]]:
        """Samples of every utterance of each global batch of the window that a cursor is in."""
        order = {"seed": self.seed, "epoch": cursor.epoch}
        window = windows(self.shards, self.batching, **order)[cursor.window]
        batches = window_batches(window, reader.samples, self.batching, **order)
        return [[crop.length for lane in lanes for crop in lane] for lanes in batches]

    def first_pairs(self, reader: CorpusReader, count: int) -> list[tuple[Crop, Pair]]:
        """The pairs of the first utterances of the order, without their audio."""
        crops = (
            (crop, batch.cursor.epoch)
            for batch in global_batches(self.shards, reader.samples, self.batching, seed=self.seed, epochs=1)
            for lane in batch.lanes
            for crop in lane
        )
        found = []
        for crop, epoch in itertools.islice(crops, count):
            try:
                found.append((crop, self.pair(reader, crop, epoch)))
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
    chosen = Views.parse({"kind": views}, where="views") if isinstance(views, str) else views
    return PairStream(
        corpus, split=split, views=chosen, batching=batching, seed=seed, cursor=Cursor(epoch), epochs=epochs
    )
