"""A sealed corpus, on a disk or behind any fsspec URL: its manifest, its indexes, and bytes by offset."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from manifests.borrowed import tar_folder
from manifests.digest import digest
from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable
from manifests.files import MAX_JSON_BYTES, parse_json, read_bytes
from manifests.foreign import record_of
from manifests.sample import Sample
from manifests.shards import ABOUT, Corpus, ShardIndex
from manifests.storage import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manifests.shards import IndexedSample, ShardEntry

OPEN_SHARDS = 64


class NotSealedError(StillroomError, FileNotFoundError):
    """The folder or URL has no `corpus.json`, the mark of a finished corpus."""

    def __init__(self, corpus: object) -> None:
        super().__init__(
            f"{printable(corpus)} has no corpus.json, so it is not a finished corpus: "
            "name a folder that `stillroom build` made, or run that build again to its end"
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


class DamagedShardError(StillroomError, ValueError):
    """A shard does not hold what its index says."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(
            f"{printable(where)}: {what}; run `stillroom verify` on the corpus, or build this shard again (remove its .json first)"
        )


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
        self.handles: OrderedDict[str, int] = OrderedDict()
        try:
            content = self.document("corpus.json")
        except FileNotFoundError:
            raise NotSealedError(self.url) from None
        where = f"{self.url}/corpus.json"
        self.manifest = Corpus.parse(parse_json(content, where=where), where=where)
        self.digest = digest(self.manifest)
        self.foreign = self.manifest.borrowed is not None and self.manifest.borrowed.foreign
        self.tar_place = tar_folder(self.place, self.manifest, read=self.document)
        self.tars = str(self.tar_place)
        self.tar_paths = {
            entry.name: entry.tar_path for entries in self.manifest.splits.values() for entry in entries if entry.tar
        }

    def shards(self, split: str) -> list[ShardEntry]:
        """The shards of a split that hold an utterance.

        Raises:
            NoSuchSplitError: If there are none.
        """
        held = {name: [entry for entry in entries if entry.samples] for name, entries in self.manifest.splits.items()}
        if not held.get(split):
            raise NoSuchSplitError(self.url, split, found=sorted(name for name, entries in held.items() if entries))
        return held[split]

    def conditions(self, split: str) -> list[str]:
        """Conditions that every utterance of a split has copies of, sorted; `clean` is not one."""
        return sorted(name for name, count in self.manifest.copies.get(split, {}).items() if count)

    def index(self, name: str) -> ShardIndex:
        """The index of a shard, its offsets checked against the tar's size.

        Raises:
            DamagedShardError: If it points outside the tar.
        """
        where = f"{self.url}/shards/{name}.json"
        try:
            content = self.document(f"shards/{name}.json")
        except FileNotFoundError:
            raise MissingFileError(where, needed=f"corpus.json lists the shard {name}") from None
        try:
            index = ShardIndex.model_validate_json(content)
        except ValueError:  # several times as fast as to look for every fault; where there is one, it is told
            index = ShardIndex.parse(parse_json(content, where=where), where=where)
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
        first = min(member.offset for member in members.values())
        content = self.span(shard, first, max(member.offset + member.size for member in members.values()))
        return {
            name: content[member.offset - first : member.offset - first + member.size]
            for name, member in members.items()
        }

    def records(self, shard: str, sample: IndexedSample) -> list[Sample]:
        """The `.json` member of a sample; in a joined corpus, that of each part."""
        where = f"{shard}.tar: {sample.key}.json"
        if self.foreign:
            return [
                self.record(
                    self.contents(shard, sample, [name for name in sample.members if name in ABOUT]), sample, where
                )
            ]
        content = self.contents(shard, sample, ["json"])["json"]
        try:
            return [Sample.model_validate_json(content)]
        except ValueError:  # five times as fast as to look for every fault; where there is one, it is told
            return [Sample.parse(parse_json(content, where=where), where=where)]

    def record(self, contents: dict[str, bytes], sample: IndexedSample, where: str, split: str = "train") -> Sample:
        """What is said of an utterance, from its members that are not audio; in a subset, with the copies that it has."""
        rate_hz = self.manifest.sample_rate
        return record_of(sample, contents, foreign=self.foreign, split=split, sample_rate=rate_hz, where=where)

    def tar_path(self, name: str) -> str:
        """Where a shard's tar lies, below `tars`."""
        return self.tar_paths.get(name, f"shards/{name}.tar")

    def document(self, relative: str) -> bytes:
        """A whole small file."""
        if isinstance(self.place, Path):
            return read_bytes(self.place / relative, needed="part of a corpus", limit=MAX_JSON_BYTES)
        content = (self.place / relative).read()
        if len(content) > MAX_JSON_BYTES:
            raise BadDocumentError(f"{self.url}/{relative}", f"is larger than {MAX_JSON_BYTES} bytes; refused")
        return content

    def span(self, name: str, start: int, end: int) -> bytes:
        """Bytes start to end of a shard's tar, in one read.

        Raises:
            DamagedShardError: If the tar ends before.
        """
        where = f"{self.tars}/{self.tar_path(name)}"
        if isinstance(self.tar_place, Path):
            content = read_at(self.handle(name), start, end - start)
        else:
            try:
                content = (self.tar_place / self.tar_path(name)).read(start, end)
            except FileNotFoundError:
                raise MissingFileError(where, needed=f"corpus.json lists the shard {name}") from None
        if len(content) != end - start:
            raise DamagedShardError(where, f"ends at byte {start + len(content)}, its index goes on to {end}")
        return content

    def handle(self, name: str) -> int:
        """An open file descriptor of a local shard; the least recently used of 64 is closed for it."""
        if name in self.handles:
            self.handles.move_to_end(name)
            return self.handles[name]
        path = Path(self.tars) / self.tar_path(name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MissingFileError(path, needed=f"corpus.json lists the shard {name}") from None
        self.handles[name] = handle
        if len(self.handles) > OPEN_SHARDS:
            os.close(self.handles.popitem(last=False)[1])
        return handle

    def close(self) -> None:
        """Close what is open."""
        while self.handles:
            os.close(self.handles.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_corpus(corpus: str | Path | Sequence[str | Path]) -> CorpusReader:
    """A reader of the corpus in a folder or at a URL; several are joined (see `training.editions`)."""
    if isinstance(corpus, str | Path):
        return CorpusReader(corpus)
    from training.editions import JoinedReader

    return JoinedReader(corpus) if len(corpus) > 1 else CorpusReader(corpus[0])


def read_at(handle: int, start: int, size: int) -> bytes:
    """Bytes of a local file; fewer than asked only at its end."""
    pieces: list[bytes] = []
    while size > 0:
        piece = os.pread(handle, size, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def clean_digests(corpus: str | Path, split: str) -> Iterator[tuple[str, str]]:
    """Key and SHA-256 of the clean PCM (64 hex digits) of every utterance of a split, from the indexes alone."""
    with open_corpus(corpus) as reader:
        for entry in reader.shards(split):
            for sample in reader.samples(entry.name):
                sha256 = sample.members["clean"].pcm_sha256
                if sha256 is not None:
                    yield sample.key, sha256
