"""The utterances of an evaluation by role (train, dev, test), listed and checked before any model runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifests.errors import StillroomError, printable
from manifests.io.digest import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evaluation.config import EvaluationConfig, Splits
    from manifests.corpus.sample import Sample
    from training.data.corpus import CorpusReader
    from training.models.encoder import Encoder

REFERENCE_UTTERANCES = 500


class UnknownSplitError(StillroomError, ValueError):
    """A split that the corpus does not have."""

    def __init__(self, corpus: str, *, role: str, split: str, known: Iterable[str]) -> None:
        super().__init__(
            f"splits.{role}: corpus {printable(corpus)} has no split {printable(split)!r}, only {', '.join(known)}"
        )


class EmptyConditionError(StillroomError, ValueError):
    """A condition of the recipe that no utterance has a copy of."""

    def __init__(self, *, split: str, condition: str | None, purpose: str) -> None:
        what = f"condition {condition!r} has no utterance" if condition else "there is no distorted copy"
        super().__init__(f"{purpose}: {what} in split {split!r}; give the recipe copies.{split} and build again")


class TooShortError(StillroomError, ValueError):
    """A split without an utterance that is long enough."""

    def __init__(self, model: str, *, split: str) -> None:
        super().__init__(f"split {split!r}: every utterance is shorter than one frame of model {model!r}")


class TooFewFramesError(StillroomError, ValueError):
    """A task with too little left, without utterances that are shorter than one frame and frames that have no label."""

    def __init__(self, task: str, left: str) -> None:
        super().__init__(
            f"task {printable(task, limit=80)!r}: {left}, without the utterances that are shorter than one frame; give it longer ones"
        )


class TrainedOnTestError(StillroomError, ValueError):
    """A model that was trained on test utterances."""

    def __init__(self, model: str, *, count: int, total: int, split: str, first: str) -> None:
        super().__init__(
            f"model {model!r} was trained on {count} of the {total} utterances of split {split!r} (such as "
            f"{printable(first, limit=60)!r}); test on others, or a model that was not trained on them"
        )


def under_limit(limit: int | None) -> str:
    """An addition to messages about what utterances lack, where a limit was set."""
    return "" if limit is None else f" (of which limit: {limit} takes {limit} utterances at most)"


class OtherRateError(StillroomError, ValueError):
    """A model for another sample rate than the corpus has."""

    def __init__(self, model: str, *, rate_hz: int, corpus_rate_hz: int) -> None:
        super().__init__(
            f"model {model!r} takes waves at {rate_hz} Hz, the corpus has {corpus_rate_hz} Hz; "
            f"build the corpus with sample_rate: {rate_hz}"
        )


@dataclass(frozen=True)
class ListedUtterance:
    """One utterance of a split.

    Attributes:
        sample: Its record, from the JSON member.
        pcm_sha256: Digest of its clean PCM, from the shard index.
    """

    sample: Sample
    pcm_sha256: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.sample.num_samples / self.sample.sample_rate


@dataclass(frozen=True)
class EvaluationSet:
    """The utterances of an evaluation by role, under the limit, by sample key.

    Attributes:
        conditions: Of the test split, sorted.
        reference: Keys of the train utterances that features are centred and scaled on, and that the domain probe is trained on.
        limit: At most so many utterances of each split were taken; None for all.
        data_sha256: Digest over the shards of the splits and, of a linked corpus, over the members that it has of them.
    """

    corpus: str
    data_sha256: str
    sample_rate: int
    splits: Splits
    limit: int | None
    conditions: tuple[str, ...]
    train: dict[str, ListedUtterance]
    dev: dict[str, ListedUtterance]
    test: dict[str, ListedUtterance]
    reference: frozenset[str]

    def of(self, role: str) -> dict[str, ListedUtterance]:
        """The utterances of a role."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[role]

    def split_of(self, role: str) -> str:
        """Name of the split of a role."""
        split = {"train": self.splits.train, "dev": self.splits.dev, "test": self.splits.test}[role]
        assert split is not None
        return split


def keyed_order(keys: Iterable[str], *, seed: int, purpose: str) -> list[str]:
    """Keys in pseudo-random order, by hash of seed, purpose and key, so that other keys do not change it."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\x1f{purpose}\x1f{key}".encode()).digest())


def resolved_splits(splits: Splits, reader: CorpusReader) -> Splits:
    """The splits by role; dev is filled in where the corpus has a split of that name.

    Raises:
        UnknownSplitError: If the corpus lacks a split that is named.
    """
    known = reader.manifest.splits
    if splits.dev is None and "dev" in known and "dev" not in {splits.train, splits.test}:
        splits = splits.model_copy(update={"dev": "dev"})
    for role, split in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
        if split is not None and split not in known:
            raise UnknownSplitError(reader.manifest.name, role=role, split=split, known=known)
    return splits


def list_utterances(reader: CorpusReader, config: EvaluationConfig) -> EvaluationSet:
    """List the utterances of every role from indexes and JSON members alone; no audio is read.

    Raises:
        UnknownSplitError: If the corpus lacks a split that is named.
        NoSuchSplitError: If a split has no utterance.
        EmptyConditionError: If a condition of the test split has none, or a measure needs copies and there are none.
    """
    splits = resolved_splits(config.splits, reader)
    roles = {
        split: utterances_of(reader, split, config=config) for split in (splits.train, splits.dev, splits.test) if split
    }
    conditions = tuple(sorted(name for name, count in reader.copies(splits.test).items() if count))
    found = {copy.condition for entry in roles[splits.test].values() for copy in entry.sample.copies}
    for condition in conditions:
        if condition not in found:
            raise EmptyConditionError(split=splits.test, condition=condition, purpose="conditions")
    if config.measures and not conditions:
        raise EmptyConditionError(split=splits.test, condition=None, purpose=f"measures {', '.join(config.measures)}")
    order = keyed_order(roles[splits.train], seed=config.seed, purpose="reference")
    return EvaluationSet(
        corpus=reader.manifest.name,
        data_sha256=digest({split: data_of(reader, split) for split in roles}),
        sample_rate=reader.manifest.sample_rate,
        splits=splits,
        limit=config.limit,
        conditions=conditions,
        train=roles[splits.train],
        dev=roles[splits.dev] if splits.dev else {},
        test=roles[splits.test],
        reference=frozenset(order[:REFERENCE_UTTERANCES]),
    )


def data_of(reader: CorpusReader, split: str) -> list[object]:
    """What identifies the data of a split: digests of its shards and, of a linked corpus, the members that it has of them."""
    shards: list[object] = [shard.sha256 for shard in reader.manifest.splits[split]]
    if reader.manifest.borrowed is None:
        return shards
    members = [
        [sample.key, *sorted(sample.members)] for shard in reader.shards(split) for sample in reader.samples(shard.name)
    ]
    return [*shards, members]


def check_conditions(task: str, keys: Iterable[str], dataset: EvaluationSet) -> None:
    """Check that some utterance of a task has a copy of each condition of the test.

    Raises:
        EmptyConditionError: If none has.
    """
    found = {copy.condition for key in keys for copy in dataset.test[key].sample.copies}
    for condition in dataset.conditions:
        if condition not in found:
            purpose = f"task {printable(task, limit=80)!r}"
            raise EmptyConditionError(split=dataset.splits.test, condition=condition, purpose=purpose)


def utterances_of(reader: CorpusReader, split: str, *, config: EvaluationConfig) -> dict[str, ListedUtterance]:
    """The utterances of one split under the limit, in the corpus's order."""
    found = {
        sample.key: (shard.name, sample) for shard in reader.shards(split) for sample in reader.samples(shard.name)
    }
    taken = set(keyed_order(found, seed=config.seed, purpose="limit")[: config.limit])
    entries = {}
    for key, (shard, indexed) in found.items():
        if key in taken:
            sample = reader.whole_record(shard, indexed, split=split)
            entries[key] = ListedUtterance(sample, indexed.members["clean"].pcm_sha256 or "")
    return entries


def check_model(name: str, encoder: Encoder, dataset: EvaluationSet) -> None:
    """Check that a model fits the corpus and was not trained on test utterances.

    Raises:
        OtherRateError: If its sample rate is another.
        TrainedOnTestError: If it, or the teacher that it was distilled from, was trained on test utterances.
    """
    if encoder.sample_rate != dataset.sample_rate:
        raise OtherRateError(name, rate_hz=encoder.sample_rate, corpus_rate_hz=dataset.sample_rate)
    trained_on = [entry.sample.id for entry in dataset.test.values() if entry.pcm_sha256[:16] in encoder.trained_on]
    if trained_on:
        raise TrainedOnTestError(
            name, count=len(trained_on), total=len(dataset.test), split=dataset.splits.test, first=trained_on[0]
        )
