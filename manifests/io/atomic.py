"""Atomic writes: a temporary file in the target's own folder, flushed, renamed, then the folder flushed (law 4)."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from typing import TYPE_CHECKING

from manifests.errors import NoSpaceLeftError, UsageError, printable
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.io.place import Place


BEING_WRITTEN: set[Path] = set()


def remove_temporary_files() -> None:
    """Remove what this process is just writing; for a process that ends in the middle of it."""
    for path in tuple(BEING_WRITTEN):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A hidden sibling of `path` that no other process, here or on another host, would choose."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it is synced and renamed to `path`, on failure removed.

    Raises:
        NoSpaceLeftError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    BEING_WRITTEN.add(part)
    try:
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as problem:
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceLeftError(path) from problem
        raise
    finally:
        part.unlink(missing_ok=True)
        BEING_WRITTEN.discard(part)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give the name of a temporary folder to make; on success it becomes `folder`, new or empty until then, on failure it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(folder)
    BEING_WRITTEN.add(part)
    try:
        yield part
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        BEING_WRITTEN.discard(part)


def refuse_linked_folders(folder: Path, *names: str) -> None:
    """What is written below a folder stays below it: a link in it could send shards or checkpoints anywhere.

    Args:
        folder: That is written in; it may be a link itself, or not be there.
        names: Of its own folders that are written in.

    Raises:
        UsageError: If one of them is a link to a folder.
    """
    for place in (folder / name for name in names):
        if place.is_symlink() and place.is_dir():
            raise UsageError(
                f"{printable(place)} is a link to {printable(place.resolve())}: what is written there would lie outside of "
                f"{printable(folder)}; put a folder in its place, or make {printable(folder)} itself the link"
            )


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:  # some network file systems cannot sync a folder
        if problem.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def write_bytes(path: Place, content: bytes) -> None:
    """Write a whole file atomically, on a disk or behind a URL."""
    if isinstance(path, Url):
        path.put(content)
        return
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Place, text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode())
