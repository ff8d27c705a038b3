"""Reads audio inside a tar, as lhotse's Shar stores it: the path `recording.000000.tar/utt-1.flac` is the member `utt-1.flac` of that tar.

A tar is indexed once in a process; after that a member is one seek and one read.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manifests.io.digest import bytes_digest, file_digest
from manifests.io.place import span
from manifests.io.tar import entries

if TYPE_CHECKING:
    from manifests.io.place import Place

MARK = ".tar/"
MOST_TARS = 512
TABLES: OrderedDict[tuple[str, int, int], dict[str, tuple[int, int]]] = OrderedDict()


class Member(NamedTuple):
    """A file inside a tar on a disk."""

    tar: Path
    name: str

    def span(self) -> tuple[int, int]:
        """Its offset in the tar and its size.

        Raises:
            FileNotFoundError: If the tar has no such member.
            BadTarError: If the tar is damaged.
        """
        table = table_of(self.tar)
        if self.name not in table:
            raise FileNotFoundError(f"{self.tar} has no member {self.name}")
        return table[self.name]

    def content(self) -> bytes:
        """Its bytes.

        Raises:
            FileNotFoundError: If the tar has no such member.
            BadTarError: If the tar is damaged.
        """
        offset, size = self.span()
        return span(self.tar, offset, offset + size)


def member_of(place: Place | str) -> Member | None:
    """The member that a path names; None for a file of its own, also below a folder whose name ends in `.tar`."""
    if MARK not in (text := str(place)) or not isinstance(place, Path | str):
        return None
    at = text.find(MARK)
    while at >= 0:
        tar = Path(text[: at + len(MARK) - 1])
        if tar.is_file():
            return Member(tar, text[at + len(MARK) :])
        at = text.find(MARK, at + 1)
    return None


def table_of(tar: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of each member of a tar; those of the 512 tars used last are cached, about 100 bytes a member."""
    status = tar.stat()
    key = (str(tar), status.st_size, status.st_mtime_ns)
    if key not in TABLES:
        TABLES[key] = {entry.name: (entry.offset, entry.size) for entry in entries(tar)}
    TABLES.move_to_end(key)
    while len(TABLES) > MOST_TARS:
        TABLES.popitem(last=False)
    return TABLES[key]


def audio_digest(path: Place) -> str:
    """SHA-256 of a file or of a member of a tar, 64 hex digits.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    member = member_of(path)
    return file_digest(path) if member is None else bytes_digest(member.content())


def audio_exists(path: Place) -> bool:
    """Whether a file, or a member of a tar, exists."""
    member = member_of(path)
    return path.exists() if member is None else member.name in table_of(member.tar)
