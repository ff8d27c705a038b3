"""Bytes by offset of the tars of a corpus, on a disk or behind a URL, or from their copies on a disk of this machine."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.corpus.layout import tar_name
from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manifests.corpus.shard_index import ShardEntry
    from manifests.io.place import Place

OPEN_SHARDS = 64


class DamagedShardError(StillroomError, ValueError):
    """A shard does not hold what its index says."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(
            f"{printable(where)}: {what}; run `stillroom verify` on the corpus, or build this shard again (remove its .json first)"
        )


UNREADABLE = (DamagedShardError, MissingFileError, BadDocumentError)  # what reading a damaged or missing shard raises


class TarBytes:
    """Reads tars; opened anew in each process.

    Args:
        place: The folder or URL that they are below.
        entries: The shards.
        needed: What a missing one was needed for, for the message.

    Attributes:
        cached: Gives an open file descriptor of a shard's copy on a disk of this machine, or None if there is none; see `training.data.node_cache`.
    """

    def __init__(self, place: Place, entries: Iterable[ShardEntry], *, needed: str = "corpus.json lists") -> None:
        self.place, self.needed = place, needed
        self.entries = {entry.name: entry for entry in entries}
        self.handles: OrderedDict[str, int] = OrderedDict()
        self.cached: Callable[[TarBytes, str], int | None] | None = None

    @property
    def is_near(self) -> bool:
        """Whether a read is one of a disk, or of what is mounted like one."""
        return self.cached is not None or isinstance(self.place, Path)

    def path(self, name: str) -> str:
        """Path of a shard's tar, below the place."""
        return self.entries[name].tar_path if name in self.entries else tar_name(name)

    def span(self, name: str, start: int, end: int) -> bytes:
        """Bytes start to end of a shard's tar, in one read.

        Raises:
            DamagedShardError: If the tar ends before.
            MissingFileError: If it is not there.
        """
        where = f"{self.place}/{self.path(name)}"
        copy = self.cached(self, name) if self.cached is not None else None
        if copy is not None:
            content = read_at(copy, start, end - start)
        elif isinstance(self.place, Path):
            content = read_at(self.handle(name), start, end - start)
        else:
            try:
                content = (self.place / self.path(name)).read(start, end)
            except FileNotFoundError:
                raise MissingFileError(where, needed=f"{self.needed} the shard {name}") from None
        if len(content) != end - start:
            raise DamagedShardError(where, f"ends at byte {start + len(content)}, its index goes on to {end}")
        return content

    def handle(self, name: str) -> int:
        """An open file descriptor of a local shard; the least recently used of 64 is closed for it."""
        if name in self.handles:
            self.handles.move_to_end(name)
            return self.handles[name]
        path = Path(str(self.place)) / self.path(name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MissingFileError(path, needed=f"{self.needed} the shard {name}") from None
        self.handles[name] = handle
        if len(self.handles) > OPEN_SHARDS:
            os.close(self.handles.popitem(last=False)[1])
        return handle

    def close(self) -> None:
        """Close what is open."""
        while self.handles:
            os.close(self.handles.popitem()[1])


def read_at(handle: int, start: int, size: int) -> bytes:
    """Bytes of a local file; fewer than `size` only at its end."""
    pieces: list[bytes] = []
    while size > 0:
        piece = os.pread(handle, size, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
