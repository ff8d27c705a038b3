"""Audio behind a URL: a stream that a decoder in C can read, and a cache of whole files on the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import threading
import weakref
from collections import OrderedDict
from typing import IO, TYPE_CHECKING

from corpus_builder.workers.stale_files import private_folder
from manifests.errors import NoSpaceLeftError
from manifests.io.atomic import BEING_WRITTEN, temporary_path
from manifests.io.place import opened
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.io.place import Place

CACHE_BYTES = 4 << 30


class DecoderStream:
    """What libsndfile reads a URL through.

    It ignores what a stream raises and takes it for the end of the file, so a broken connection would look like a truncated file;
    the error is saved here instead.

    Args:
        stream: Binary and seekable.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.problem: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Bytes; none after an error."""
        if self.problem is None:
            try:
                return self.stream.read(size)
            except Exception as problem:  # noqa: BLE001 (raised again by `decodable`)
                self.problem = problem
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Offset of the next byte."""
        return self.stream.tell()


@contextlib.contextmanager
def decodable(place: Place | str) -> Iterator[str | DecoderStream]:
    """What soundfile opens for a file: a local path as it is, a URL as a stream.

    Raises:
        FileNotFoundError: If the URL does not exist.
        UnreachableError: If the connection breaks while it is decoded.
    """
    if not isinstance(place, Url):
        yield str(place)
        return
    with opened(place) as plain:
        stream = DecoderStream(plain)
        try:
            yield stream
        finally:
            if stream.problem is not None:
                raise stream.problem from None  # whatever the decoder reported


class SourceCache:
    """Whole files from URLs on the disk, up to so many bytes of them, for as long as the process lives.

    Args:
        above: The folder that it is made in; this user's folder for temporary files by default.
        most_bytes: Size of the cache; the file in use stays.
    """

    def __init__(self, above: Path | None = None, *, most_bytes: int = CACHE_BYTES) -> None:
        above = private_folder() if above is None else above
        self.folder = temporary_path(above / f"sources-{threading.get_ident()}")
        self.most_bytes = most_bytes
        self.cached: OrderedDict[Url, tuple[Path, int]] = OrderedDict()
        self.num_bytes = 0

    def path(self, url: Url) -> Path:
        """A file as a local path, valid until the next call.

        Raises:
            FileNotFoundError: If the URL does not exist.
            UnreachableError: If it cannot be read.
            NoSpaceLeftError: If the disk is full.
        """
        if url in self.cached:
            self.cached.move_to_end(url)
            return self.cached[url][0]
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            BEING_WRITTEN.add(self.folder)
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        path = self.folder / (hashlib.sha256(url.text.encode()).hexdigest()[:24] + url.suffix)
        try:
            url.fetch(path)
        except OSError as problem:
            if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoSpaceLeftError(path) from problem
            raise
        size = path.stat().st_size
        self.cached[url] = (path, size)
        self.num_bytes += size
        while self.num_bytes > self.most_bytes and len(self.cached) > 1:
            _, (old, dropped) = self.cached.popitem(last=False)
            self.num_bytes -= dropped
            old.unlink(missing_ok=True)
        return path
