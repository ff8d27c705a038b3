"""Ranged reads as a stream."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class RangedStream(io.RawIOBase):
    """A file that is read by range, such as one behind a URL, as a seekable stream.

    Args:
        read: Gives the bytes from one place to another, all of them.
        size: Of the file in bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self.read_range, self.size, self.place = read, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go elsewhere; nothing is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning of the file")
        self.place = base + offset
        return self.place

    def readinto(self, buffer: Any, /) -> int:
        """One ranged read."""
        wanted = min(len(buffer), self.size - self.place)
        if wanted <= 0:
            return 0
        buffer[:wanted] = self.read_range(self.place, self.place + wanted)
        self.place += wanted
        return wanted
