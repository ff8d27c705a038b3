"""Which utterances are heard for what, and what they are called: decided, and checked, before any model runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifests.digest import digest
from manifests.errors import StillroomError, printable
from training.stream import sample_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evaluation.config import EvaluationConfig, Splits
    from manifests.sample import Sample
    from training.corpus import CorpusReader
    from training.encoder import Encoder

REFERENCE_UTTERANCES = 500


class UnknownSplitError(StillroomError, ValueError):
    """A split that the corpus does not have."""

    def __init__(self, corpus: str, *, role: str, split: str, known: Iterable[str]) -> None:
        super().__init__(
            f"splits.{role}: corpus {printable(corpus)} has no split {printable(split)!r}, only {', '.join(known)}"
        )


class EmptyConditionError(StillroomError, ValueError):
    """A condition that was asked for in the recipe, and of which there is nothing to hear."""

    def __init__(self, *, split: str, condition: str | None, purpose: str) -> None:
        what = f"condition {condition!r} has no utterance" if condition else "there is no distorted copy"
        super().__init__(f"{purpose}: {what} in split {split!r}; give the recipe copies.{split} and build again")


class HeardTestError(StillroomError, ValueError):
    """A model was trained on what it is to be tested on."""

    def __init__(self, model: str, *, heard: int, total: int, split: str, first: str) -> None:
        super().__init__(
            f"model {model!r} was trained on {heard} of the {total} utterances of split {split!r} (such as "
            f"{printable(first, limit=60)!r}); test on others, or on a model that has not heard them"
        )


class OtherRateError(StillroomError, ValueError):
    """A model for another sample rate than the corpus has."""

    def __init__(self, model: str, *, rate_hz: int, corpus_rate_hz: int) -> None:
        super().__init__(
            f"model {model!r} takes waves at {rate_hz} Hz, the corpus has {corpus_rate_hz} Hz; "
            f"build the corpus with sample_rate: {rate_hz}"
        )


@dataclass(frozen=True)
class Listed:
    """One utterance of a split.

    Attributes:
        sample: Its JSON.
        pcm_sha256: Digest of its clean PCM, from the shard index.
    """

    sample: Sample
    pcm_sha256: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.sample.num_samples / self.sample.sample_rate


@dataclass(frozen=True)
class Roster:
    """The utterances of an evaluation by role, under the limit, by sample key.

    Attributes:
        conditions: Of the test split, sorted.
        reference: Keys of train utterances that features are centred and scaled on, and that train the domain probe.
        data_sha256: Digest over the shards of the splits.
    """

    corpus: str
    data_sha256: str
    sample_rate: int
    splits: Splits
    conditions: tuple[str, ...]
    train: dict[str, Listed]
    dev: dict[str, Listed]
    test: dict[str, Listed]
    reference: frozenset[str]

    def of(self, role: str) -> dict[str, Listed]:
        """The utterances of a role."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[role]

    def split_of(self, role: str) -> str:
        """The split of a role that the corpus has."""
        split = {"train": self.splits.train, "dev": self.splits.dev, "test": self.splits.test}[role]
        assert split is not None
        return split


def keyed_order(keys: Iterable[str], *, seed: int, purpose: str) -> list[str]:
    """Keys in an order that depends on nothing but the seed, the purpose and themselves."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\x1f{purpose}\x1f{key}".encode()).digest())


def resolved_splits(splits: Splits, reader: CorpusReader) -> Splits:
    """The splits by name; dev is filled in where the corpus has a split of that name.

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


def call_roll(reader: CorpusReader, config: EvaluationConfig) -> Roster:
    """List the utterances of every role from indexes and JSON members alone; no audio is read.

    Raises:
        UnknownSplitError: If the corpus lacks a split that is named.
        NoSuchSplitError: If a split has no utterance.
        EmptyConditionError: If a condition of the test split has none, or a measure needs copies and there are none.
    """
    splits = resolved_splits(config.splits, reader)
    roles = {split: listed(reader, split, config=config) for split in (splits.train, splits.dev, splits.test) if split}
    conditions = tuple(reader.conditions(splits.test))
    there = {copy.condition for entry in roles[splits.test].values() for copy in entry.sample.copies}
    for condition in conditions:
        if condition not in there:
            raise EmptyConditionError(split=splits.test, condition=condition, purpose="conditions")
    if config.measures and not conditions:
        raise EmptyConditionError(split=splits.test, condition=None, purpose=f"measures {', '.join(config.measures)}")
    shards = {split: [shard.sha256 for shard in reader.manifest.splits[split]] for split in roles}
    order = keyed_order(roles[splits.train], seed=config.seed, purpose="reference")
    return Roster(
        corpus=reader.manifest.name,
        data_sha256=digest(shards),
        sample_rate=reader.manifest.sample_rate,
        splits=splits,
        conditions=conditions,
        train=roles[splits.train],
        dev=roles[splits.dev] if splits.dev else {},
        test=roles[splits.test],
        reference=frozenset(order[:REFERENCE_UTTERANCES]),
    )


def listed(reader: CorpusReader, split: str, *, config: EvaluationConfig) -> dict[str, Listed]:
    """The utterances of one split under the limit, in the corpus's order."""
    found = {
        sample.key: (shard.name, sample) for shard in reader.shards(split) for sample in reader.samples(shard.name)
    }
    kept = set(keyed_order(found, seed=config.seed, purpose="limit")[: config.limit])
    entries = {}
    for key, (shard, indexed) in found.items():
        if key in kept:
            first, end = indexed.members["json"].offset, indexed.members["json"].offset + indexed.members["json"].size
            sample = sample_record(reader.span(shard, first, end), indexed, shard, first)
            entries[key] = Listed(sample, indexed.members["clean"].pcm_sha256 or "")
    return entries


def check_model(name: str, encoder: Encoder, roster: Roster) -> None:
    """A model fits the corpus, and has not heard the test.

    Raises:
        OtherRateError: If its sample rate is another.
        HeardTestError: If it, or the teacher it was distilled from, was trained on test utterances.
    """
    if encoder.sample_rate != roster.sample_rate:
        raise OtherRateError(name, rate_hz=encoder.sample_rate, corpus_rate_hz=roster.sample_rate)
    heard = [entry.sample.id for entry in roster.test.values() if entry.pcm_sha256[:16] in encoder.heard]
    if heard:
        raise HeardTestError(name, heard=len(heard), total=len(roster.test), split=roster.splits.test, first=heard[0])
