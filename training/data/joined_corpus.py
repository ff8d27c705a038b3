"""Several corpora as one: an edition adds copies of the same utterances without rendering the first ones again.

The first corpus says which utterances there are, their shards, and so the order (law 5). The same utterance (the same key) in
a later corpus adds its copies, by name. Where a later corpus assigned its utterances to shards of the same names, as an edition
of the same recipe and seed does, one index more is read for each shard; otherwise all its indexes of the split are read once
and stay in memory (about 1 kB an utterance).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifests.corpus.shard_index import IndexedSample
from manifests.errors import StillroomError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.place import one_or_several
from training.data.corpus import CorpusReader, NeededMembers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from manifests.corpus.sample import Sample, SampleCopy
    from manifests.corpus.sample_view import CopyOutline
    from manifests.corpus.shard_index import Member
    from training.data.node_cache import SourceShard
    from training.data.tar_reader import TarBytes


class ClashingCopiesError(StillroomError, ValueError):
    """Two corpora that are to be joined both have copies of one name."""

    def __init__(self, first: object, second: object, *, name: str, where: str) -> None:
        super().__init__(
            f"{printable(first)} and {printable(second)} both have copies {printable(name)!r} of {printable(where)}, "
            "so they cannot be joined: give the edition's conditions names of their own"
        )


class DifferentSpeechError(StillroomError, ValueError):
    """An utterance is not the same in two corpora that are to be joined."""

    def __init__(self, first: object, second: object, *, key: str) -> None:
        super().__init__(
            f"the clean speech of utterance {printable(key)} in {printable(second)} is not that in {printable(first)}, "
            "so they cannot be joined: build both from the same source"
        )


class NotAnEditionError(StillroomError, ValueError):
    """A later corpus has nothing of the first one's utterances."""

    def __init__(self, first: object, second: object, *, split: str) -> None:
        super().__init__(
            f"{printable(second)} has no utterance of the split {split} of {printable(first)}, so there is nothing to join: "
            "list corpora of the same speech"
        )


class Part(NamedTuple):
    """Where an utterance is in one corpus."""

    reader: CorpusReader
    shard: str
    sample: IndexedSample


class JoinedSample(IndexedSample):
    """An utterance with the members of all its parts; offsets count in the part that has the member."""

    _parts: tuple[Part, ...] = ()

    @property
    def span(self) -> tuple[int, int]:
        """Of the first part, which holds the clean utterance."""
        return self._parts[0].sample.span

    @property
    def parts(self) -> tuple[Part, ...]:
        """The first corpus's, then those of later ones that have it."""
        return self._parts


class JoinedReader(CorpusReader):
    """Reads several corpora as the first one with more copies.

    Args:
        urls: Folders or URLs; the first gives utterances and order.

    Raises:
        NotSealedError: If one has no `corpus.json`.
        UsageError: If one is named twice, or their sample rates differ.
        ClashingCopiesError: If two have a condition of one name.
    """

    def __init__(self, urls: Sequence[str | Path]) -> None:
        super().__init__(urls[0])
        self.others = [CorpusReader(url) for url in urls[1:]]
        copies = {split: dict(counts) for split, counts in self.manifest.copies.items()}
        seen: list[CorpusReader] = []
        for other in self.others:
            if other.digest in {self.digest, *(reader.digest for reader in seen)}:
                raise UsageError(f"corpus: {printable(other.url)} is listed twice")
            if other.manifest.sample_rate != self.manifest.sample_rate:
                raise UsageError(
                    f"corpus: {printable(self.url)} has {self.manifest.sample_rate} Hz and {printable(other.url)} "
                    f"{other.manifest.sample_rate} Hz; corpora of one rate can be joined"
                )
            for split, there in copies.items():
                added = {name: count for name, count in other.manifest.copies.get(split, {}).items() if count}
                clash = sorted(name for name in added if there.get(name))
                if clash:
                    raise ClashingCopiesError(self.url, other.url, name=clash[0], where=f"split {split}")
                there.update(added)
            seen.append(other)
        self.digest = digest([self.digest, *(reader.digest for reader in seen)])
        self.manifest = self.manifest.model_copy(update={"copies": copies})
        self.parts: dict[tuple[int, str], dict[str, Part]] = {}
        self.related: set[tuple[int, str]] = set()

    def samples(self, name: str) -> tuple[IndexedSample, ...]:
        """The samples of a shard of the first corpus, each with the copies that later ones have of it."""
        index = self.index(name)
        added = [
            self.added(number, name, split=index.split, keys=[sample.key for sample in index.samples])
            for number in range(len(self.others))
        ]
        return tuple(
            self.joined(Part(self, name, sample), [parts[sample.key] for parts in added if sample.key in parts])
            for sample in index.samples
        )

    def added(self, number: int, name: str, *, split: str, keys: Sequence[str]) -> dict[str, Part]:
        """Where a later corpus has the utterances of a shard of the first."""
        other = self.others[number]
        entries = [entry.name for entry in other.manifest.splits.get(split, ()) if entry.samples]
        if not entries or not keys:
            return {}
        found: dict[str, Part] = {}
        if name in entries:
            found = {sample.key: Part(other, name, sample) for sample in other.samples(name)}
        if any(key not in found for key in keys):
            if (number, split) not in self.parts:
                self.parts[number, split] = {
                    sample.key: Part(other, entry, sample) for entry in entries for sample in other.samples(entry)
                }
            found = self.parts[number, split]
            if found.keys().isdisjoint(keys):  # an edition may lack a whole shard, as a subset of one does
                self.check_related(number, split=split)
        return found

    def check_related(self, number: int, *, split: str) -> None:
        """A later corpus has at least one utterance of a split of the first.

        Raises:
            NotAnEditionError: If not.
        """
        if (number, split) in self.related:
            return
        mine = (sample.key for entry in self.manifest.splits[split] for sample in self.index(entry.name).samples)
        if self.parts[number, split].keys().isdisjoint(mine):
            raise NotAnEditionError(self.url, self.others[number].url, split=split)
        self.related.add((number, split))

    def joined(self, first: Part, others: Sequence[Part]) -> JoinedSample:
        """One utterance of several corpora.

        Raises:
            DifferentSpeechError: If its clean waves differ.
            ClashingCopiesError: If two copies have one name.
        """
        members: dict[str, Member] = dict(first.sample.members)
        clean = members["clean"]
        for part in others:
            other = part.sample.members["clean"]
            if part.sample.num_samples != first.sample.num_samples or other.pcm_sha256 != clean.pcm_sha256:
                raise DifferentSpeechError(self.url, part.reader.url, key=first.sample.key)
            for copy in part.sample.copies:
                if copy in members:
                    raise ClashingCopiesError(self.url, part.reader.url, name=copy, where=first.sample.key)
                members[copy] = part.sample.members[copy]
        sample = JoinedSample.model_construct(
            key=first.sample.key, num_samples=first.sample.num_samples, members=members
        )
        sample._parts = (first, *others)  # noqa: SLF001 (its own module)
        return sample

    def fetch(self, needed: Sequence[NeededMembers]) -> None:
        """Fetch members of some samples, from every corpus that has any of them."""
        for reader in (self, *self.others):
            mine = [
                NeededMembers(part.shard, part.sample, names)
                for _, sample, names in needed
                for part in (sample.parts if isinstance(sample, JoinedSample) else ())
                if part.reader is reader and (names is None or not names.isdisjoint(part.sample.members))
            ]
            CorpusReader.fetch(reader, mine)

    def forget(self) -> None:
        """Free what was fetched."""
        super().forget()
        for other in self.others:
            other.forget()

    def contents(self, shard: str, sample: IndexedSample, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of some members of a sample, in one read of each corpus that has any of them."""
        if not isinstance(sample, JoinedSample):
            return super().contents(shard, sample, names)
        left = list(names)
        found: dict[str, bytes] = {}
        for part in sample.parts:
            here = [name for name in left if name in part.sample.members]
            left = [name for name in left if name not in part.sample.members]
            if here:
                found |= part.reader.contents(part.shard, part.sample, here)
        return found if not left else super().contents(shard, sample, left)

    def records(self, shard: str, sample: IndexedSample) -> list[Sample]:
        """The `.json` members of all parts of an utterance."""
        if not isinstance(sample, JoinedSample):
            return super().records(shard, sample)
        return [record for part in sample.parts for record in part.reader.records(part.shard, part.sample)]

    def copy_outlines(self, shard: str, sample: IndexedSample) -> Sequence[CopyOutline | SampleCopy]:
        """The copies of the records of all parts of an utterance."""
        if not isinstance(sample, JoinedSample):
            return super().copy_outlines(shard, sample)
        return [copy for part in sample.parts for copy in part.reader.copy_outlines(part.shard, part.sample)]

    def sources(self, shards: Sequence[str]) -> list[SourceShard]:
        """The tars of some shards, and of those of the same names in later corpora."""
        return super().sources(shards) + [one for other in self.others for one in other.sources(shards)]

    def use_cache(self, cached: Callable[[TarBytes, str], int | None]) -> None:
        """Read the shards of all corpora from their copies there."""
        super().use_cache(cached)
        for other in self.others:
            other.use_cache(cached)

    def close(self) -> None:
        """Close what is open."""
        super().close()
        for other in self.others:
            other.close()


def open_corpus(corpus: str | Path | Sequence[str | Path]) -> CorpusReader:
    """A reader of the corpus in a folder or at a URL; several are joined (see `training.data.joined_corpus`)."""
    parts = one_or_several(corpus)
    return JoinedReader(parts) if len(parts) > 1 else CorpusReader(parts[0])


def clean_digests(corpus: str | Path, split: str) -> Iterator[tuple[str, str]]:
    """Key and SHA-256 of the clean PCM (64 hex digits) of every utterance of a split, from the indexes alone."""
    with open_corpus(corpus) as reader:
        for entry in reader.shards(split):
            for sample in reader.samples(entry.name):
                sha256 = sample.members["clean"].pcm_sha256
                if sha256 is not None:
                    yield sample.key, sha256
