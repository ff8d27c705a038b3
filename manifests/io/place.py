"""Paths on a disk and URLs alike: functions that open, measure, list and copy files at both."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from manifests.errors import BadDocumentError, MissingFileError, NotAFolderError, NotAPathError, UsageError, printable
from manifests.io.url import Url, attempted

if TYPE_CHECKING:
    from collections.abc import Iterator


Place: TypeAlias = Path | Url
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar")


def no_folder(path: Place, *, needed: str) -> MissingFileError | NotAFolderError:
    """The error for a path that is not a folder."""
    if not path.exists():
        return MissingFileError(path, needed=needed)
    return NotAFolderError(path, needed=needed + ("; unpack it first" if path.name.endswith(ARCHIVES) else ""))


def place_of(text: str | Path | Url) -> Place:
    """A path or URL from text: a `Url` if it begins with a scheme, the path of a `file://`.

    Raises:
        NotAPathError: If it is no text and no path.
        UsageError: If it chains file systems of fsspec, which can run code.
    """
    if isinstance(text, Path | Url):
        return text
    if not isinstance(text, str):
        return local_path(text)
    if "::" in text and "://" in text:
        raise UsageError(
            f"{printable(text)}: URLs chained by :: are not read; name the file system that holds the files"
        )
    if text.startswith(("file://", "local://")):
        return Path(text.partition("://")[2])
    if match := re.match(r"(s3a?|gc?s|az|abfss?|hf|https?|ftp):/(?!/)", text):
        raise UsageError(f"{printable(text)}: a URL has two slashes after its colon; write {printable(match[1])}://…")
    return Url(text.rstrip("/")) if re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://.", text) else Path(text)


def local_path(given: str | os.PathLike[str]) -> Path:
    """A path on this machine, as the caller of a public function gave it.

    Raises:
        NotAPathError: If it is no text and no path.
    """
    if not isinstance(given, str | os.PathLike):
        raise NotAPathError(given)
    return Path(given)


def one_or_several(given: object) -> list[Any]:
    """The paths that the caller of a public function gave: one, or any number of them.

    Raises:
        NotAPathError: If it is neither.
    """
    if isinstance(given, str | os.PathLike | Url):
        return [given]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise NotAPathError(given)
    return list(given)


def places_of(texts: Mapping[str, str | Place] | None) -> dict[str, Place]:
    """Places by name, such as the roots of a recipe; none for None."""
    return {name: place_of(text) for name, text in (texts or {}).items()}


def refuse_pipe(path: Path) -> None:
    """Refuse a pipe or socket in place of a file, since opening it can block for ever; a shell's own pipes (`/dev/fd/63`) may be read.

    Raises:
        BadDocumentError: If it is one.
        OSError: If it does not exist or cannot be inspected.
    """
    mode = path.stat().st_mode
    if (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and not str(path).startswith("/dev/"):
        raise BadDocumentError(path, "is a pipe or a socket, not a file")


def opened(place: Place) -> IO[bytes]:
    """A binary, seekable stream of a file.

    Raises:
        FileNotFoundError: If it is not there.
        BadDocumentError: If it is a pipe or a socket.
    """
    if not isinstance(place, Path):
        return place.open()
    refuse_pipe(place)
    return place.open("rb")


def size_of(place: Place) -> int | None:
    """Size of a file in bytes; None if no file is there."""
    if isinstance(place, Path):
        return place.stat().st_size if place.is_file() else None
    found = place.info()
    return int(found["size"]) if found is not None and found.get("type") == "file" else None


def span(place: Place, start: int, end: int) -> bytes:
    """Bytes start to end of a file in one read; fewer only if it ends before."""
    if isinstance(place, Url):
        return place.read(start, end)
    with opened(place) as stream:
        stream.seek(start)
        return stream.read(end - start)


def sizes_below(folder: Place) -> dict[str, int]:
    """The size of every file below a folder, by relative path, without cached listings; none if there is no such folder."""
    if isinstance(folder, Path):
        return {
            path.relative_to(folder).as_posix(): path.lstat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_symlink() or path.is_file()
        }
    prefix = folder.path.rstrip("/") + "/"

    def listing() -> dict[str, Any]:
        folder.system.invalidate_cache()
        found: dict[str, Any] = folder.system.find(folder.path, detail=True)
        return found

    try:
        found = attempted(listing, folder)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        name.removeprefix(prefix): int(entry["size"] or 0)
        for name, entry in sorted(found.items())
        if name.startswith(prefix) and entry.get("type") == "file"
    }


@contextlib.contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """A file as a local path: itself, or a copy in a temporary folder for as long as this is entered.

    Raises:
        FileNotFoundError: If it is not there.
    """
    if isinstance(place, Path):
        yield place
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
        yield place.fetch(Path(folder) / place.name)
