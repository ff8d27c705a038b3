"""A sealed corpus, on a disk or behind any fsspec URL: its manifest, its indexes, and bytes by offset."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from manifests.digest import digest
from manifests.errors import BadDocumentError, MissingFileError, StillroomError, UsageError, printable
from manifests.files import MAX_DOCUMENT_BYTES, parse_json, read_bytes
from manifests.sample import Sample
from manifests.shards import Corpus, ShardIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manifests.shards import IndexedSample, ShardEntry

OPEN_SHARDS = 64
ATTEMPTS = 4
FIRST_WAIT_S = 0.5


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


class UnreachableError(StillroomError, OSError):
    """A URL that could not be read after several attempts."""

    def __init__(self, url: object, why: object) -> None:
        super().__init__(f"{printable(url)} could not be read after {ATTEMPTS} attempts: {printable(why)}")


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
        self.remote: tuple[Any, str] | None = remote_folder(self.url) if "://" in self.url else None
        self.handles: OrderedDict[str, int] = OrderedDict()
        try:
            content = self.document("corpus.json")
        except FileNotFoundError:
            raise NotSealedError(self.url) from None
        where = f"{self.url}/corpus.json"
        self.manifest = Corpus.parse(parse_json(content, where=where), where=where)
        self.digest = digest(self.manifest)

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
            index = ShardIndex.parse(parse_json(self.document(f"shards/{name}.json"), where=where), where=where)
        except FileNotFoundError:
            raise MissingFileError(where, needed=f"corpus.json lists the shard {name}") from None
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
        content = self.contents(shard, sample, ["json"])["json"]
        try:
            return [Sample.model_validate_json(content)]
        except ValueError:  # five times as fast as to look for every fault; where there is one, it is told
            return [Sample.parse(parse_json(content, where=where), where=where)]

    def document(self, relative: str) -> bytes:
        """A whole small file."""
        if self.remote is None:
            return read_bytes(Path(self.url) / relative, needed="part of a corpus")
        system, root = self.remote
        content: bytes = attempted(lambda: system.cat_file(f"{root}/{relative}"), f"{self.url}/{relative}")
        if len(content) > MAX_DOCUMENT_BYTES:
            raise BadDocumentError(f"{self.url}/{relative}", f"is larger than {MAX_DOCUMENT_BYTES} bytes; refused")
        return content

    def span(self, name: str, start: int, end: int) -> bytes:
        """Bytes start to end of a shard's tar, in one read.

        Raises:
            DamagedShardError: If the tar ends before.
        """
        where = f"{self.url}/shards/{name}.tar"
        if self.remote is None:
            content = read_at(self.handle(name), start, end - start)
        else:
            system, root = self.remote
            content = attempted(lambda: system.cat_file(f"{root}/shards/{name}.tar", start=start, end=end), where)
        if len(content) != end - start:
            raise DamagedShardError(where, f"ends at byte {start + len(content)}, its index goes on to {end}")
        return content

    def handle(self, name: str) -> int:
        """An open file descriptor of a local shard; the least recently used of 64 is closed for it."""
        if name in self.handles:
            self.handles.move_to_end(name)
            return self.handles[name]
        path = Path(self.url) / "shards" / f"{name}.tar"
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


def remote_folder(url: str) -> tuple[Any, str]:
    """The file system and the path of a URL.

    Raises:
        UsageError: If no installed library reads such URLs.
    """
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as problem:
        raise UsageError(f"{printable(url)} cannot be opened: {printable(problem)}") from None
    return system, str(root)


def attempted(read: Callable[[], bytes], where: str) -> bytes:
    """The result of a remote read, tried four times with growing waits.

    Raises:
        UnreachableError: With the last reason.
    """
    wait_s = FIRST_WAIT_S
    for left in range(ATTEMPTS - 1, -1, -1):
        try:
            return read()
        except FileNotFoundError:
            raise
        except OSError as problem:
            if not left:
                raise UnreachableError(where, problem) from None
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("unreachable")


def clean_digests(corpus: str | Path, split: str) -> Iterator[tuple[str, str]]:
    """Key and SHA-256 of the clean PCM (64 hex digits) of every utterance of a split, from the indexes alone."""
    with open_corpus(corpus) as reader:
        for entry in reader.shards(split):
            for sample in reader.samples(entry.name):
                sha256 = sample.members["clean"].pcm_sha256
                if sha256 is not None:
                    yield sample.key, sha256
