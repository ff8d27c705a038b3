"""The node's cache: whole shards are copied to a disk of this machine before they are read, once for all its processes.

Each process names the shards of its window and of its next one; a thread fetches those ahead. Processes are kept apart by locks of the
operating system (`flock`), which end with a process however it ends: an exclusive lock on one file a shard while it is fetched, a shared lock
on the copy while it is read. A copy is named by the shard's SHA-256, checked while it is copied. Where the disk is full, the copies
longest unused are removed first; where all are in use, a shard is read from its source.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from manifests.errors import MissingFileError, StillroomError, UsageError, printable
from manifests.io.place import opened
from training.data.tar_reader import DamagedShardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from training.data.tar_reader import TarBytes

PIECE_BYTES = 8 << 20
SPARE_BYTES = 1 << 30
SPARE_SHARE = 0.05
BUSY_S = 0.2


class SourceShard(NamedTuple):
    """One shard of one of several sources."""

    tars: TarBytes
    name: str

    @property
    def sha256(self) -> str:
        """Of its tar."""
        return self.tars.entries[self.name].sha256


class NodeCache:
    """The folder of copies, as one process sees it.

    Args:
        folder: Made if it is not there.
        gigabytes: Most that it holds; by default what the disk has room for.
        report: Gets a line where a shard has no room.

    Raises:
        UsageError: If it cannot be written to.
    """

    def __init__(self, folder: str | Path, *, gigabytes: float | None = None, report: Callable[[str], None]) -> None:
        self.folder, self.report = Path(folder), report
        self.most_bytes = None if gigabytes is None else int(gigabytes * 1e9)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.locked("room"):
                pass
        except OSError as problem:
            why = problem.strerror or type(problem).__name__
            raise UsageError(
                f"stage: {printable(folder)} cannot be written to ({why}): name a folder on a disk of each node"
            ) from None
        self.handles: dict[str, int] = {}
        self.failed: dict[str, StillroomError] = {}
        self.wanted: dict[str, SourceShard] = {}
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.closed = self.is_reported = False

    def window(self, shards: Iterable[SourceShard]) -> None:
        """Name the shards that are read from now on, in this order; all others are released, and missing ones fetched meanwhile."""
        with self.changed:
            self.wanted = {one.sha256: one for one in shards}
            for sha256 in [sha256 for sha256 in self.handles if sha256 not in self.wanted]:
                os.close(self.handles.pop(sha256))
            self.failed = {sha256: problem for sha256, problem in self.failed.items() if sha256 in self.wanted}
            if self.thread is None:
                self.thread = threading.Thread(target=self.fetch_ahead, daemon=True, name="stage")
                self.thread.start()
            self.changed.notify()

    def handle(self, tars: TarBytes, name: str) -> int | None:
        """An open file descriptor of a shard's copy, fetched if need be; None if there is no room for it.

        Raises:
            DamagedShardError: If the shard is not what the corpus says.
            MissingFileError: If it is gone.
        """
        if name not in tars.entries:
            return None
        one = SourceShard(tars, name)
        found = self.handles.get(one.sha256)
        if found is None:
            if one.sha256 in self.failed:
                raise self.failed[one.sha256]
            try:
                found = self.opened_handle(one, wait=True)
            except (DamagedShardError, MissingFileError) as problem:
                self.failed[one.sha256] = problem
                raise
        return found

    def fetch_ahead(self) -> None:
        """The thread: fetch the named shards that are missing; those that another process fetches are not waited for while there are others."""
        while True:
            with self.changed:
                todo = [
                    one
                    for one in self.wanted.values()
                    if one.sha256 not in self.handles and one.sha256 not in self.failed
                ]
                if self.closed:
                    return
                if not todo:
                    self.changed.wait()
                    continue
            gained = False
            for one in todo:
                if one.sha256 not in self.wanted or self.closed:
                    continue
                try:
                    gained |= self.opened_handle(one, wait=False) is not None
                except (StillroomError, OSError) as problem:
                    if isinstance(problem, DamagedShardError | MissingFileError):
                        self.failed[one.sha256] = problem
            if not gained:
                with self.changed:
                    self.changed.wait(BUSY_S)

    def opened_handle(self, one: SourceShard, *, wait: bool) -> int | None:
        """A shard's copy under a shared lock, so that it is not removed; None if there is no room, or (without `wait`) another process fetches it."""
        try:
            with self.locked(one.sha256, wait=wait):
                handle = self.opened_copy(one)
                if handle is None and self.fetch(one):
                    handle = self.opened_copy(one)
        except BlockingIOError:
            return None
        if handle is None:
            if wait and not self.is_reported:
                self.is_reported = True
                self.report(
                    f"stage: {printable(self.folder)} has no room for the shard {one.name}: read from its source, as others may be"
                )
            return None
        with self.changed:
            if self.closed or one.sha256 in self.handles:
                os.close(handle)
            else:
                self.handles[one.sha256] = handle
            return self.handles.get(one.sha256)

    def opened_copy(self, one: SourceShard) -> int | None:
        """A whole copy that is here, under a shared lock."""
        path = self.folder / f"{one.sha256}.tar"
        while True:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            fcntl.flock(handle, fcntl.LOCK_SH)
            found = os.fstat(handle)
            if found.st_nlink and found.st_size == one.tars.entries[one.name].bytes:
                with contextlib.suppress(OSError):
                    os.utime(path)
                return handle
            os.close(handle)
            if found.st_nlink:  # of another length: not ours
                path.unlink(missing_ok=True)
                return None

    def fetch(self, one: SourceShard) -> bool:
        """Copy a shard, checked; False if there is no room. The caller holds its lock.

        Raises:
            DamagedShardError: If it is not what the corpus says, twice.
            MissingFileError: If it is gone.
        """
        entry = one.tars.entries[one.name]
        part = self.folder / f"{one.sha256}.part"
        source = one.tars.place / one.tars.path(one.name)
        try:
            for _ in range(2):
                with part.open("wb") as stream:
                    if not self.reserve(stream, entry.bytes):
                        return False
                    size, sha256 = self.copied(source, stream, one)
                    os.fsync(stream.fileno())
                if sha256 == entry.sha256:
                    part.replace(self.folder / f"{one.sha256}.tar")
                    return True
        finally:
            part.unlink(missing_ok=True)
        found = f"has {size} bytes of SHA-256 {sha256[:12]}, its corpus says {entry.bytes} of {entry.sha256[:12]}"
        raise DamagedShardError(source, found)

    def copied(self, source: object, stream: IO[bytes], one: SourceShard) -> tuple[int, str]:
        """Copy the bytes; gives how many, and their SHA-256."""
        hashed, size = hashlib.sha256(), 0
        try:
            with opened(source) as remote:  # type: ignore[arg-type]  # a place
                while piece := remote.read(PIECE_BYTES):
                    stream.write(piece)
                    hashed.update(piece)
                    size += len(piece)
        except FileNotFoundError:
            raise MissingFileError(source, needed=f"{one.tars.needed} the shard {one.name}") from None
        stream.truncate(size)
        return size, hashed.hexdigest()

    def reserve(self, stream: IO[bytes], size: int) -> bool:
        """Reserve room for a shard, removing copies that nobody reads; False if there is not enough."""
        with self.locked("room"):
            while True:
                used = sum(self.sizes().values())
                disk = shutil.disk_usage(self.folder)
                free = disk.free - min(SPARE_BYTES, int(disk.total * SPARE_SHARE))
                if size <= free and (self.most_bytes is None or used + size <= self.most_bytes):
                    break
                if not self.evict():
                    return False
            try:
                os.posix_fallocate(stream.fileno(), 0, size)
            except OSError:
                return False
        return True

    def sizes(self) -> dict[Path, int]:
        """The files of the folder and their sizes."""
        found = {}
        for path in self.folder.iterdir():
            if path.suffix in {".tar", ".part"}:
                with contextlib.suppress(FileNotFoundError):
                    found[path] = path.stat().st_size
        return found

    def evict(self) -> bool:
        """Remove the copy that was longest unused of those that nobody reads; False if all are read."""
        copies = []
        for path in self.folder.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):
                copies.append((path.stat().st_mtime, path))
        for _, path in sorted(copies):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                path.unlink()
                return True
        for path in self.folder.glob("*.part"):  # of a process that ended in the middle of it
            with contextlib.suppress(FileNotFoundError, BlockingIOError), self.locked(path.stem, wait=False):
                path.unlink()
                return True
        return False

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold an exclusive lock among all processes of this machine.

        Raises:
            BlockingIOError: If it is taken and not waited for.
        """
        handle = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(handle)

    def close(self) -> None:
        """Release everything; the copies stay for the next process."""
        with self.changed:
            self.closed = True
            self.changed.notify()
            while self.handles:
                os.close(self.handles.popitem()[1])
