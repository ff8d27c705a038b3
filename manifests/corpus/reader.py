"""Reads a sealed corpus: indexes, records and members of its tars, own or linked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manifests.corpus.external_sample import record_of
from manifests.corpus.layout import LOCAL_ROOTS, index_name
from manifests.corpus.shard_index import ABOUT, IndexedSample, ShardEntry, ShardIndex, read_corpus, read_index
from manifests.errors import BadDocumentError, BadTarError, StillroomError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.json_yaml import parse_json, read_bytes
from manifests.io.place import Place, place_of, span
from manifests.io.url import Url
from manifests.plan.plan import LocalRoots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifests.corpus.sample import Sample
    from manifests.corpus.shard_index import Corpus


class NoSuchSplitError(StillroomError, KeyError):
    """The corpus has no such split."""

    def __init__(self, corpus: object, split: str, *, found: list[str]) -> None:
        self.line = f"{printable(corpus)} has no split {printable(split)!r}; it has {', '.join(found) or 'none'}"
        super().__init__(self.line)

    def __str__(self) -> str:
        return self.line


class StoredUtterance(NamedTuple):
    """One utterance of a corpus: its split, its shard, its entry in the index, and its record."""

    split: str
    entry: ShardEntry
    sample: IndexedSample
    record: Sample


class OpenCorpus:
    """A sealed corpus, opened for reading; it holds no open file, so it can be sent to another process.

    Args:
        place: Its folder or URL.

    Raises:
        MissingFileError: If it is not sealed.
        UnknownRootError: If its tars are in another folder, and nothing says where that is on this machine.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.sealed = read_corpus(place)
        self.tars = tar_folder(
            place, self.sealed, read=lambda name: read_bytes(place / name, needed="the folder of the shards")
        )
        self.is_external = self.sealed.borrowed is not None and self.sealed.borrowed.foreign

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical `corpus.json`."""
        return digest(self.sealed)

    def splits(self, wanted: tuple[str, ...] = ()) -> list[str]:
        """Some splits, or all, in the order of the corpus.

        Raises:
            NoSuchSplitError: If there is no such split.
        """
        for split in wanted:
            if split not in self.sealed.splits:
                raise NoSuchSplitError(self.place, split, found=list(self.sealed.splits))
        return [split for split in self.sealed.splits if not wanted or split in wanted]

    def index(self, entry: ShardEntry) -> ShardIndex:
        """The index of a shard, its offsets checked.

        Raises:
            BadDocumentError: If it is the index of another shard.
            BadTarError: If it points outside the tar.
        """
        path = self.place / index_name(entry.name)
        index = read_index(self.place, entry.name)
        if index.name != entry.name:
            raise BadDocumentError(path, f"is the index of the shard {printable(index.name)!r}")
        for sample in index.samples:
            if "clean" not in sample.members or sample.span[1] > index.bytes:
                raise BadTarError(path, f"{printable(sample.key)} has no clean member or is outside the tar")
        return index

    def tar(self, entry: ShardEntry) -> Place:
        """Path or URL of a shard's tar."""
        return self.tars / entry.tar_path

    def contents(self, entry: ShardEntry, sample: IndexedSample, names: list[str]) -> dict[str, bytes]:
        """The bytes of some members, in one read.

        Raises:
            BadTarError: If the tar is missing or ends before.
        """
        members = {name: sample.members[name] for name in names}
        if not members:
            return {}
        first = min(member.offset for member in members.values())
        end = max(member.offset + member.size for member in members.values())
        place = self.tar(entry)
        try:
            content = span(place, first, end)
        except FileNotFoundError:
            raise BadTarError(place, "is missing, though corpus.json lists it") from None
        if len(content) != end - first:
            raise BadTarError(place, f"ends at byte {first + len(content)}, its index goes on to {end}")
        return {
            name: content[member.offset - first : member.offset - first + member.size]
            for name, member in members.items()
        }

    def record(self, split: str, entry: ShardEntry, sample: IndexedSample) -> Sample:
        """The record of an utterance, with the copies that the index has."""
        return record_of(
            sample,
            self.contents(entry, sample, [name for name in sample.members if name in ABOUT]),
            external=self.is_external,
            split=split,
            sample_rate=self.sealed.sample_rate,
            where=f"{entry.name}.tar: {printable(sample.key)}.json",
        )

    def utterances(self, *splits: str) -> Iterator[StoredUtterance]:
        """Every utterance of some splits, or of all, in the order of the shards."""
        for split in self.splits(splits):
            for entry in self.sealed.splits[split]:
                for sample in self.index(entry).samples:
                    yield StoredUtterance(split, entry, sample, self.record(split, entry, sample))


def refuse_occupied(place: Place, *, what: str) -> None:
    """Refuse to write into something that exists.

    Raises:
        UsageError: If the place is a URL, a file, or a folder that is not empty.
    """
    if isinstance(place, Url):
        raise UsageError(f"{printable(place)}: {what} is written to a folder on a disk")
    if place.is_symlink() or place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise UsageError(f"{printable(place)} exists already: name a new folder for {what}, or remove this one first")


class UnknownRootError(StillroomError, KeyError):
    """The tars of a linked corpus are below a root that is not known on this machine."""

    def __init__(self, corpus: object, root: str) -> None:
        self.line = (
            f"{printable(corpus)} reads shards of another folder, the root {printable(root)!r}, and its {LOCAL_ROOTS} does "
            f'not say where that is on this machine: write {{"schema": "{LocalRoots.SCHEMA}", "roots": {{"{printable(root)}": "/the/folder"}}}}'
        )
        super().__init__(self.line)

    def __str__(self) -> str:
        return self.line  # a KeyError would print its repr


def tar_folder(corpus: Place, sealed: Corpus, *, read: Callable[[str], bytes]) -> Place:
    """The folder or URL that `ShardEntry.tar_path` is relative to.

    Args:
        corpus: Folder or URL of the corpus.
        sealed: Its `corpus.json`.
        read: Gives the content of a file of the corpus by its relative path.

    Raises:
        UnknownRootError: If the root is not known on this machine.
        BadDocumentError: If `roots.local.json` cannot be read.
    """
    if sealed.borrowed is None or sealed.borrowed.root is None:
        return corpus
    root = sealed.borrowed.root
    try:
        content = read(LOCAL_ROOTS)
    except FileNotFoundError:
        raise UnknownRootError(corpus, root) from None
    where = f"{corpus}/{LOCAL_ROOTS}"
    roots = LocalRoots.parse(parse_json(content, where=where), where=where).roots
    if root not in roots:
        raise UnknownRootError(corpus, root)
    place = place_of(roots[root])
    if isinstance(place, Url) or place.is_absolute():
        return place
    if isinstance(corpus, Url):
        raise UnknownRootError(corpus, root)
    return Path(os.path.normpath(corpus / place))
