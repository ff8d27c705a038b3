"""Atomic writes: a temporary file in the folder of the target, synced, renamed, then the folder synced (law 4)."""

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
    """Remove the files that this process has not finished writing; for a process that ends early."""
    for path in tuple(BEING_WRITTEN):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A hidden path in the same folder that no other process, on this or another host, uses."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")


@contextlib.contextmanager
def full_disk_named(path: object) -> Iterator[None]:
    """Name what is written where the disk is full: an error of `write` names no file.

    Raises:
        NoSpaceLeftError: If the disk is full.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceLeftError(path) from problem
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on success it is synced and renamed to `path`, on failure removed.

    Raises:
        NoSpaceLeftError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    BEING_WRITTEN.add(part)
    try:
        with full_disk_named(path):
            yield part
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)
        BEING_WRITTEN.discard(part)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """The path of a temporary folder to create; on success it is renamed to `folder` (absent or empty until then), on failure removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(folder)
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed: in a container each has the same number
    BEING_WRITTEN.add(part)
    try:
        with full_disk_named(folder):
            yield part
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        BEING_WRITTEN.discard(part)


def refuse_linked_folders(folder: Path, *names: str) -> None:
    """Refuse links to folders in a folder that is written to: they could send shards or checkpoints anywhere.

    Args:
        folder: Where files are written; it may be a link itself, or not exist.
        names: Its subfolders that are written to.

    Raises:
        UsageError: If one of them is a link to a folder.
    """
    for place in (folder / name for name in names):
        if place.is_symlink() and place.is_dir():
            raise UsageError(
                f"{printable(place)} is a link to {printable(place.resolve())}: files written there would be outside "
                f"{printable(folder)}; put a folder in its place, or make {printable(folder)} itself the link"
            )


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder, so that a rename survives a power cut."""
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
