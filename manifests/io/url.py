"""Files behind URLs, read and written through fsspec.

A `Url` is used like a `pathlib.Path`; `manifests.io.place` has functions that take either. It holds no connection: it is a text that can
be sent to any process, and fsspec's file system is opened (and cached) where it is used.

Every read is tried four times with growing waits and requests bytes by range, so a stream goes on where a broken connection left it.
The size of what was written is checked, and files appear whole or not at all: object stores do so by themselves, elsewhere a
hidden file is renamed.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import socket
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

from manifests.errors import MissingFileError, StillroomError, UnsafePathError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ATTEMPTS = 4
FIRST_WAIT_S = 0.5
RANGE_BYTES = 1 << 20
WHOLE_OBJECTS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"}
LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
FINAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, FileExistsError)
NO_CREDENTIALS = {"NoCredentialsError", "DefaultCredentialsError", "PartialCredentialsError"}  # boto's and Google's
Result = TypeVar("Result")


class UnreachableError(StillroomError, OSError):
    """A URL that could not be read or written after several attempts."""

    def __init__(self, url: object, why: object, *, doing: str = "read") -> None:
        reason = f"{type(why).__name__}: {why}" if isinstance(why, Exception) and str(why) else repr(why)
        super().__init__(
            f"{printable(url)} could not be {doing} after {ATTEMPTS} attempts ({printable(reason)}); finished files are "
            "not lost: check the connection and run the same command again"
        )


class NoAccessError(StillroomError, PermissionError):
    """A URL to which the store refuses access."""

    def __init__(self, url: object, why: object) -> None:
        super().__init__(f"{printable(url)}: access was refused ({printable(why)}); check credentials and permissions")


class CutShortError(StillroomError, OSError):
    """Fewer bytes than expected were read from or written to a URL."""

    def __init__(self, url: object, *, expected: int, found: object) -> None:
        super().__init__(
            f"{printable(url)}: {found} bytes were transferred, expected {expected}; run the same command again"
        )


@dataclass(frozen=True)
class Url:
    """A file or folder behind a URL that fsspec knows; its names are used like those of a `Path`.

    Args:
        text: Such as `s3://bucket/corpus`, without a slash at its end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, below: str) -> Url:
        return Url(f"{self.text}/{below.strip('/')}") if below.strip("/") else self

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """From the last dot of the name on."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> Url:
        """The folder above."""
        return Url(self.text.rpartition("/")[0])

    @property
    def system(self) -> Any:
        """The file system of this process; fsspec keeps one for each kind and its settings.

        Raises:
            UsageError: If no installed library reads such URLs.
        """
        return system_and_path(self.text)[0]

    @property
    def path(self) -> str:
        """Its path within the file system."""
        return system_and_path(self.text)[1]

    def info(self) -> dict[str, Any] | None:
        """What the store knows of it now, without cached listings; None if nothing is there."""

        def look() -> dict[str, Any]:
            self.system.invalidate_cache()
            found: dict[str, Any] = self.system.info(self.path)
            return found

        try:
            return attempted(look, self)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return self.info() is not None

    def is_dir(self) -> bool:
        """Whether it is a folder: in an object store, whether there are files below it."""
        found = self.info()
        return found is not None and found.get("type") == "directory"

    def is_file(self) -> bool:
        """Whether it is a file."""
        found = self.info()
        return found is not None and found.get("type") == "file"

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """Its bytes, or those from start to end; fewer only if it ends before.

        Raises:
            FileNotFoundError: If it is not there.
        """
        content: bytes = attempted(lambda: self.system.cat_file(self.path, start=start, end=end), self)
        return content

    def whole_range(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`, all of them.

        Raises:
            CutShortError: If fewer came.
        """
        content = self.read(start, end)
        if len(content) != end - start:
            raise CutShortError(self, expected=end - start, found=len(content))
        return content

    def put(self, content: bytes) -> None:
        """Write the whole file; it appears whole or not at all."""
        self.written(lambda path: self.system.pipe_file(path, content), len(content))

    def put_file(self, local: Path) -> None:
        """Send a local file; it appears whole or not at all."""
        self.written(lambda path: self.system.put_file(str(local), path), local.stat().st_size)

    def written(self, write: Callable[[str], object], size: int) -> None:
        """Write through `write`, check the size, and rename the file into place where the store does not write atomically itself.

        Raises:
            MissingFileError: If there is no bucket or server to write to.
            UnreachableError: If it could not be written.
            CutShortError: If fewer bytes arrived.
        """
        system, path = system_and_path(self.text)
        whole = self.text.partition("://")[0] in WHOLE_OBJECTS
        folder, _, name = path.rpartition("/")
        target = path if whole else f"{folder}/.{name}.{os.getpid()}.part"

        def send() -> None:
            if not whole:
                system.makedirs(folder, exist_ok=True)
            write(target)
            system.invalidate_cache()
            found = system.info(target).get("size")
            if found != size:
                raise CutShortError(self, expected=size, found=found)
            if not whole:
                system.mv(target, path)

        try:
            attempted(send, self, doing="written")
        except FileNotFoundError:
            raise MissingFileError(self, needed="the bucket or folder to write to") from None

    def check_writable(self) -> None:
        """Check that files can be written below it, by writing and removing a hidden one.

        Raises:
            MissingFileError: If there is no such bucket or server.
            NoAccessError: If the store refuses.
            UsageError: If URLs of this kind can only be read.
        """
        probe = self / f".writable.{socket.gethostname()}-{os.getpid()}.part"
        probe.put(b"")
        with contextlib.suppress(NoAccessError):  # it may be written, not removed
            probe.remove()

    def fetch(self, local: Path) -> Path:
        """Copy the file to a local path, a range at a time.

        Raises:
            FileNotFoundError: If it is not there.
        """
        with self.open() as stream, local.open("wb") as target:
            while piece := stream.read(8 * RANGE_BYTES):
                target.write(piece)
        return local

    def remove(self) -> None:
        """Remove the file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            attempted(lambda: self.system.rm_file(self.path), self, doing="removed")

    def open(self) -> IO[bytes]:
        """A seekable stream of the file, read by range, that goes on after a broken connection.

        Raises:
            FileNotFoundError: If it is not there.
        """
        found = self.info()
        if found is None:
            raise FileNotFoundError(self.text)
        if found.get("type") == "directory":
            raise IsADirectoryError(self.text)
        size = found.get("size")
        if size is None:
            raise UnreachableError(self, "the server does not give its size")
        return io.BufferedReader(RangedStream(self.whole_range, int(size)), RANGE_BYTES)


def system_and_path(text: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path within it.

    Raises:
        UnsafePathError: If the URL chains file systems.
        UsageError: If no installed library reads such URLs.
    """
    import fsspec

    if "::" in text:  # fsspec would open another file system inside this one
        raise UnsafePathError(text, where="a URL")
    try:
        system, path = fsspec.core.url_to_fs(text)
    except (ImportError, ValueError) as problem:
        library = LIBRARIES.get(text.partition("://")[0])
        what = f"; pip install {library}" if library else ""
        raise UsageError(f"{printable(text)} cannot be opened: {printable(problem)}{what}") from None
    return system, str(path)


def attempted(work: Callable[[], Result], url: object, *, doing: str = "read") -> Result:
    """The result of work on a URL, tried four times with growing waits.

    Raises:
        FileNotFoundError: At once, like other errors that a second attempt would not change.
        NoAccessError: If the store refuses.
        UnreachableError: With the reason of the last attempt.
    """
    wait_s = FIRST_WAIT_S
    for left in range(ATTEMPTS - 1, -1, -1):
        try:
            return work()
        except PermissionError as problem:
            raise NoAccessError(url, problem) from None
        except (*FINAL, UsageError, UnsafePathError):
            raise
        except NotImplementedError:
            raise UsageError(f"{printable(url)} cannot be {doing}: URLs of this kind can only be read") from None
        except Exception as problem:  # noqa: BLE001 (each store's library has errors of its own)
            if type(problem).__name__ in NO_CREDENTIALS:
                raise NoAccessError(url, problem) from None
            if not left:
                raise UnreachableError(url, problem, doing=doing) from None
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("unreachable")


class RangedStream(io.RawIOBase):
    """A seekable stream over a file that is read by range, such as one behind a URL.

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
        """Offset of the next byte that is read."""
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set where the next byte is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("an offset before the beginning of the file")
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
