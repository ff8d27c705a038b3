"""Lock files, so that one process at a time writes a corpus or run (law 4); each holds host, process and time.

The lock of a process that has ended on this host is taken over. Processes of other hosts cannot be looked up: the holder touches the
file while it works, and a lock that was not touched for ten minutes is taken over too.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from manifests.errors import LockedError
from manifests.io.atomic import full_disk_named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOUCH_EVERY_S = 60.0
STALE_AFTER_S = 600.0


def process_start(pid: int) -> str | None:
    """Start time of a process of this host, in clock ticks; None if there is none. It differs for a reused process id."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:  # noqa: PTH123
            return stream.read().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return ""


def holder_lives(path: Path) -> tuple[bool, str]:
    """Whether the process named in a lock file still runs, and its name for a message."""
    try:
        content = json.loads(path.read_bytes())
        host, pid, start = str(content["host"]), int(content["pid"]), content.get("start")
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False, "nobody"
    except (ValueError, KeyError, TypeError):
        return False, "an unreadable lock"
    name = f"process {pid} on {host} since {content.get('time', '?')}"
    if host == socket.gethostname():
        found = process_start(pid)
        return (found is not None and (not start or not found or found == start)), name
    return age_s < STALE_AFTER_S, name


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while writing to it; a folder created for it is removed again if it stays empty.

    Raises:
        LockedError: If another living process holds it.
    """
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    content = json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": process_start(os.getpid()),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    ).encode()
    claim = folder / f".lock.{socket.gethostname()}-{os.getpid()}"
    try:
        with full_disk_named(claim):
            claim.write_bytes(content)
        for _ in range(3):
            try:
                os.link(claim, path)  # atomic, on network disks too
                break
            except FileExistsError:
                lives, name = holder_lives(path)
                if lives:
                    raise LockedError(folder, holder=name) from None
                path.unlink(missing_ok=True)
        else:
            raise LockedError(folder, holder="several processes at once")
    finally:
        claim.unlink(missing_ok=True)
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(TOUCH_EVERY_S):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=touch, daemon=True, name="lock").start()
    try:
        yield
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            if path.read_bytes() == content:
                path.unlink()
        if not was_there:
            with contextlib.suppress(OSError):  # it holds what was written
                folder.rmdir()
