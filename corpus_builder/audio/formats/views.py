"""A file as a decoder should see it: with a corrected header, or only some stretches of it, without a copy."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Piece: TypeAlias = bytes | tuple[int, int]
"""Bytes of its own, or the first and the last but one offset in the file."""

LARGEST_OFFSET = 1 << 40  # systems differ in what they seek to


class Source(Protocol):
    """A binary, seekable stream: a file, a member of a tar, or what is behind a URL."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; fewer only at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""
        ...

    def tell(self) -> int:
        """Offset of the next byte."""
        ...


class View:
    """Pieces of a file, one after another, as a stream.

    Args:
        source: The file.
        pieces: What it should consist of.
    """

    def __init__(self, source: Source, pieces: Iterable[Piece]) -> None:
        self.source, self.pieces = source, list(pieces)
        self.starts: list[int] = []
        self.size = self.place = 0
        for piece in self.pieces:
            self.starts.append(self.size)
            self.size += len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; fewer only at the end."""
        left = self.size - self.place if size < 0 else min(size, self.size - self.place)
        parts: list[bytes] = []
        while left > 0:
            number = bisect.bisect_right(self.starts, self.place) - 1
            piece, offset = self.pieces[number], self.place - self.starts[number]
            if isinstance(piece, bytes):
                part = piece[offset : offset + left]
            else:
                self.source.seek(piece[0] + offset)
                part = self.source.read(min(left, piece[1] - piece[0] - offset))
            if not part:
                break
            parts.append(part)
            self.place += len(part)
            left -= len(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""
        self.place = max(0, offset + (0, self.place, self.size)[whence])
        return self.place

    def tell(self) -> int:
        """Offset of the next byte."""
        return self.place


def size_of(source: Source) -> int:
    """Number of bytes of a stream."""
    return source.seek(0, 2)


def at(source: Source, offset: int, size: int) -> bytes:
    """Some bytes of a stream; fewer if it ends before, none from an offset that no file has."""
    if offset > LARGEST_OFFSET:
        return b""
    source.seek(offset)
    return source.read(size)


def patched(source: Source, offset: int, new: bytes, *, size: int) -> View:
    """A file with some of its bytes replaced."""
    return View(source, ((0, offset), new, (offset + len(new), size)))
