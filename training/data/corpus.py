"""A sealed corpus, on a disk or behind any fsspec URL: its manifest, its indexes, and bytes by offset."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from manifests.corpus.external_sample import record_of
from manifests.corpus.layout import CORPUS, index_name
from manifests.corpus.reader import tar_folder
from manifests.corpus.sample import Sample
from manifests.corpus.sample_view import SampleOutline
from manifests.corpus.shard_index import ABOUT, Corpus, IndexedSample, ShardIndex, found_instead
from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable
from manifests.io.digest import digest
from manifests.io.json_yaml import MAX_JSON_BYTES, parse_json, read_bytes, refuse_heavy_json
from manifests.io.place import place_of
from training.data.node_cache import SourceShard
from training.data.tar_reader import DamagedShardError, TarBytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from manifests.corpus.sample import SampleCopy
    from manifests.corpus.sample_view import CopyOutline
    from manifests.corpus.shard_index import Member, ShardEntry
    from manifests.io.place import Place


READS_AT_ONCE = 8


class NotSealedError(StillroomError, FileNotFoundError):
    """The folder or URL has no `corpus.json`, the mark of a finished corpus."""

    def __init__(self, corpus: Place) -> None:
        super().__init__(
            f"{printable(corpus)} has no corpus.json, so it is not a finished corpus: {found_instead(corpus)}"
        )


class NoSuchSplitError(StillroomError, KeyError):
    """The corpus has no such split, or nothing in it."""

    def __init__(self, corpus: object, split: str, *, found: list[str]) -> None:
        self.line = (
            f"{printable(corpus)} has no utterances in a split {printable(split)!r}; "
            f"those with utterances: {', '.join(map(printable, found)) or 'none'}"
        )
        super().__init__(self.line)

    def __str__(self) -> str:
        return self.line  # a KeyError would print its repr


class NeededMembers(NamedTuple):
    """Members of a sample that are about to be read; all by default."""

    shard: str
    sample: IndexedSample
    names: frozenset[str] | None = None


class CorpusReader:
    """Reads a corpus; cheap to open, and opened anew in each process.

    Args:
        url: A folder, or any URL that fsspec reads (`s3://...` with the extra `s3`).

    Attributes:
        manifest: `corpus.json`.
        digest: SHA-256 of its canonical JSON: it changes when anything in the corpus does.

    Raises:
        NotSealedError: If there is no `corpus.json`.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url).removeprefix("file://").rstrip("/") or "/"
        self.place = place_of(self.url)
        try:
            content = self.document(CORPUS)
        except (FileNotFoundError, NotADirectoryError):
            raise NotSealedError(self.place) from None
        where = f"{self.url}/{CORPUS}"
        self.manifest = Corpus.parse(parse_json(content, where=where), where=where)
        self.digest = digest(self.manifest)
        self.is_external = self.manifest.borrowed is not None and self.manifest.borrowed.foreign
        self.fetched: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.tars = TarBytes(
            tar_folder(self.place, self.manifest, read=self.document),
            (entry for entries in self.manifest.splits.values() for entry in entries),
        )

    def shards(self, split: str) -> list[ShardEntry]:
        """The shards of a split that hold an utterance.

        Raises:
            NoSuchSplitError: If there are none.
        """
        filled = {name: [entry for entry in entries if entry.samples] for name, entries in self.manifest.splits.items()}
        if not filled.get(split):
            raise NoSuchSplitError(self.url, split, found=sorted(name for name, entries in filled.items() if entries))
        return filled[split]

    def has_split(self, split: str) -> bool:
        """Whether it has utterances in a split."""
        return any(entry.samples for entry in self.manifest.splits.get(split, ()))

    def conditions(self, split: str) -> list[str]:
        """Conditions that every utterance of a split has copies of, sorted; `clean` is not one."""
        return sorted(name for name, count in self.manifest.copies.get(split, {}).items() if count)

    def copies(self, split: str) -> dict[str, int]:
        """How many copies of each condition there are of an utterance of a split.

        Every utterance has them. Of a part of a corpus it is the most that one of them has, from its indexes: a subset by SNR leaves hardly a
        condition to all, and an utterance without a copy that fits is used clean.
        """
        if self.manifest.borrowed is None:
            return self.manifest.copies.get(split, {})
        most: Counter[str] = Counter()
        for entry in self.shards(split):
            for sample in self.samples(entry.name):
                most |= Counter(name.rpartition("-")[0] for name in sample.copies)
        return dict(most)

    def index(self, name: str) -> ShardIndex:
        """The index of a shard, its offsets checked against the tar's size.

        Raises:
            DamagedShardError: If it points outside the tar.
        """
        where = f"{self.url}/{index_name(name)}"
        try:
            content = self.document(index_name(name))
        except FileNotFoundError:
            raise MissingFileError(where, needed=f"corpus.json lists the shard {name}") from None
        index = ShardIndex.parse_text(content, where=where)
        for sample in index.samples:
            if "clean" not in sample.members or sample.span[1] > index.bytes:
                raise DamagedShardError(where, f"{sample.key} has no clean member or lies outside the tar")
        return index

    def samples(self, name: str) -> tuple[IndexedSample, ...]:
        """The samples of a shard's index."""
        return self.index(name).samples

    def contents(self, shard: str, sample: IndexedSample, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of some members of a sample, in one read of the stretch that holds them.

        Raises:
            DamagedShardError: If the index lists no such member, or the tar ends before it.
        """
        missing = [name for name in names if name not in sample.members]
        if missing:
            raise DamagedShardError(f"{shard}.tar: {sample.key}.{missing[0]}", "the index has no such member")
        members = {name: sample.members[name] for name in names}
        fetched = self.fetched.get((shard, sample.key))
        first, content = (
            fetched
            if fetched is not None and holds(fetched, members.values())
            else self.stretch(shard, members.values())
        )
        return {
            name: content[member.offset - first : member.offset - first + member.size]
            for name, member in members.items()
        }

    def stretch(self, shard: str, members: Collection[Member]) -> tuple[int, bytes]:
        """Where the stretch that holds some members begins, and its bytes, in one read."""
        first = min(member.offset for member in members)
        return first, self.span(shard, first, max(member.offset + member.size for member in members))

    def fetch(self, needed: Sequence[NeededMembers]) -> None:
        """Where each read goes over a network: fetch members of some samples, one read each, several at a time.

        They stay in memory until `forget`, and are not read again before it.
        """
        if self.tars.is_near or not needed:
            return
        members = [
            [member for name, member in sample.members.items() if names is None or name in names]
            for _, sample, names in needed
        ]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            found = list(pool.map(self.stretch, [shard for shard, _, _ in needed], members))
        for (shard, sample, _), stretch in zip(needed, found, strict=True):
            self.fetched[shard, sample.key] = stretch

    def forget(self) -> None:
        """Free what was fetched."""
        self.fetched.clear()

    def records(self, shard: str, sample: IndexedSample) -> list[Sample]:
        """The `.json` member of a sample; in a joined corpus, that of each part."""
        if self.is_external:
            return [self.whole_record(shard, sample, split="train")]
        content = self.contents(shard, sample, ["json"])["json"]
        return [Sample.parse_text(content, where=f"{shard}.tar: {sample.key}.json")]

    def copy_outlines(self, shard: str, sample: IndexedSample) -> Sequence[CopyOutline | SampleCopy]:
        """The copies of a sample's record, as far as views depend on them; in a joined corpus, those of each part."""
        if self.is_external:
            return self.records(shard, sample)[0].copies
        content = self.contents(shard, sample, ["json"])["json"]
        where = f"{shard}.tar: {sample.key}.json"
        refuse_heavy_json(content, where=where)
        try:
            return SampleOutline.model_validate_json(content).copies
        except ValueError:
            return Sample.parse(parse_json(content, where=where), where=where).copies

    def whole_record(self, shard: str, sample: IndexedSample, *, split: str) -> Sample:
        """The record of an utterance, with the copies that the index has of it; of external tars, made from their members."""
        names = [name for name in sample.members if name in ABOUT]
        contents = self.contents(shard, sample, names) if names else {}
        return self.record(contents, sample, f"{shard}.tar: {sample.key}.json", split)

    def record(self, contents: dict[str, bytes], sample: IndexedSample, where: str, split: str) -> Sample:
        """The record of an utterance from its members that are not audio; in a subset, with the copies that it has."""
        rate_hz = self.manifest.sample_rate
        return record_of(sample, contents, external=self.is_external, split=split, sample_rate=rate_hz, where=where)

    def document(self, relative: str) -> bytes:
        """A whole small file."""
        if isinstance(self.place, Path):
            return read_bytes(self.place / relative, needed="part of a corpus", limit=MAX_JSON_BYTES)
        content = (self.place / relative).read()
        if len(content) > MAX_JSON_BYTES:
            raise BadDocumentError(f"{self.url}/{relative}", f"is larger than {MAX_JSON_BYTES} bytes; refused")
        return content

    def span(self, name: str, start: int, end: int) -> bytes:
        """Bytes start to end of a shard's tar, in one read; see `TarBytes.span`."""
        return self.tars.span(name, start, end)

    def sources(self, shards: Sequence[str]) -> list[SourceShard]:
        """The tars of some shards, for a node's cache."""
        return [SourceShard(self.tars, name) for name in shards if name in self.tars.entries]

    def use_cache(self, cached: Callable[[TarBytes, str], int | None]) -> None:
        """Read shards from their copies on this machine."""
        self.tars.cached = cached

    def close(self) -> None:
        """Close what is open."""
        self.tars.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def holds(stretch: tuple[int, bytes], members: Iterable[Member]) -> bool:
    """Whether a stretch that begins at an offset holds some members whole."""
    first, content = stretch
    return all(first <= member.offset and member.offset + member.size <= first + len(content) for member in members)
