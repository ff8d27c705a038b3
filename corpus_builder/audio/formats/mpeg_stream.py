"""Decodes any stretch of an MP3 by libsndfile, from a view of the file that holds only the frames it needs.

A frame's bits may begin up to 511 bytes before it (the bit reservoir), and its samples overlap those of the frame before, so the
view begins some frames early, and what they decode to is dropped. libsndfile guesses the length of what has no header from its number
of bytes, and reads no further, so the view says that it has more; and with the headers, tags and junk of the file it leaves out all
that libsndfile's decoder writes warnings of, which name no file.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from typing import TYPE_CHECKING

from corpus_builder.audio.formats.views import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.audio.formats.mpeg_frames import Frames, Part
    from corpus_builder.audio.formats.views import Source

RESERVOIR_BYTES = 511
OVERLAPPING_FRAMES = 4
LARGEST_OVER_SMALLEST = 45  # sizes of two frames of one stream, at most
TAG_BYTES = 128


class LargeView(View):
    """A view that calls itself larger than it is; only its end, where a decoder looks for tags, can be read besides."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; fewer only at the end."""
        if self.place >= self.size * LARGEST_OVER_SMALLEST - TAG_BYTES:
            return bytes(min(size, TAG_BYTES))
        return super().read(size) if self.place < self.size else b""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""
        self.place = offset + (0, self.place, self.size * LARGEST_OVER_SMALLEST)[whence]
        return self.place


def part_view(source: Source, frames: Frames, part: Part, *, start: int) -> tuple[View, int]:
    """What libsndfile decodes a part from, beginning at a sample of it.

    Args:
        source: The file.
        frames: All its frames.
        part: The part.
        start: First sample, of those that the part decodes to without its delay.

    Returns:
        The view, and how many of its first samples are to be dropped.
    """
    begin, _ = part.span(frames.shape.num_samples)
    wanted = start + begin
    first = part.first + wanted // frames.shape.num_samples - OVERLAPPING_FRAMES
    held, overhead = 0, 6 + frames.shape.side_bytes
    while first > part.first and held < RESERVOIR_BYTES:
        first -= 1
        held += max(0, frames.sizes[first] - overhead)
    first = max(first, part.first)
    return LargeView(source, runs(frames, first, part.end)), wanted - (first - part.first) * frames.shape.num_samples


def runs(frames: Frames, first: int, end: int) -> Iterator[tuple[int, int]]:
    """Frames as stretches of the file."""
    begin = stop = frames.offsets[first]
    for number in range(first, end):
        if frames.offsets[number] != stop:
            yield begin, stop
            begin = frames.offsets[number]
        stop = frames.offsets[number] + frames.sizes[number]
    yield begin, stop


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Let C libraries write nothing to standard error meanwhile, as libsndfile's MP3 decoder does of damaged frames, without a file's name.

    Only the C library's own variable is turned to /dev/null: what Python and other programs write to standard error is not touched.
    """
    with SILENCED.lock:
        SILENCED.depth += 1
        if SILENCED.depth == 1:
            SILENCED.begin()
    try:
        yield
    finally:
        with SILENCED.lock:
            SILENCED.depth -= 1
            if SILENCED.depth == 0:
                SILENCED.end()


class Silenced:
    """The C library's `stderr`, which glibc and macOS let a program assign; of other C libraries nothing is silenced."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.variable: ctypes.c_void_p | None = None
        self.usual: int | None = None
        self.nowhere: int | None = None

    def begin(self) -> None:
        """Turn it to /dev/null."""
        if self.nowhere is None:
            library = ctypes.CDLL(None)
            known = hasattr(library, "gnu_get_libc_version") or sys.platform == "darwin"
            if known:
                self.variable = ctypes.c_void_p.in_dll(library, "__stderrp" if sys.platform == "darwin" else "stderr")
            library.fopen.restype = ctypes.c_void_p
            self.nowhere = library.fopen(b"/dev/null", b"w") or 0
        if self.variable is not None and self.nowhere:
            self.usual, self.variable.value = self.variable.value, self.nowhere

    def end(self) -> None:
        """Turn it back."""
        if self.variable is not None and self.nowhere:
            self.variable.value = self.usual


SILENCED = Silenced()
