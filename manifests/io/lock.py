"""One writer for a corpus or a run (law 4): a lock file with host, process and time.

A process on this host that is gone loses its lock to the next. A lock from another host cannot be probed: its holder
touches it while it works, and one that has not been touched for ten minutes counts as gone.
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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOUCH_EVERY_S = 60.0
STALE_AFTER_S = 600.0


def process_start(pid: int) -> str | None:
    """When a process of this host started, in its own clock; None if there is none (a recycled pid differs)."""
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
    """Whether the writer named in a lock file still works, and its name for a message."""
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
    """Hold the lock of a folder while writing to it; a folder made for it is taken away again if nothing came of it.

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
    claim.write_bytes(content)
    try:
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
