"""What a process does to its disk, in order, as Python's own audit events tell it: nothing of the product is patched."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Event(NamedTuple):
    """`written` (opened for writing), `synced`, `renamed` (to that path) or `removed`."""

    what: str
    path: str


LISTENERS: list[list[Event]] = []
WRITING = os.O_WRONLY | os.O_RDWR


def hear(event: str, told: tuple[Any, ...]) -> None:
    if not LISTENERS:
        return
    if event == "os.rename":
        note("renamed", told[1])
    elif event == "os.remove":
        note("removed", told[0])
    elif event == "open" and isinstance(told[0], str | os.PathLike) and told[2] & WRITING:
        note("written", told[0])


def note(what: str, path: Any) -> None:
    for events in LISTENERS:
        events.append(Event(what, os.fspath(path)))


sys.addaudithook(hear)  # can never be taken away again; it does nothing while nobody listens


@contextlib.contextmanager
def disk_log() -> Iterator[list[Event]]:
    """Everything that this process writes, syncs, renames and removes while this is entered."""
    events: list[Event] = []
    sync = os.fsync

    def synced(handle: int) -> None:
        note("synced", Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    LISTENERS.append(events)
    os.fsync = synced  # of no audit event
    try:
        yield events
    finally:
        os.fsync = sync
        LISTENERS.remove(events)


def came(events: list[Event], folder: Path) -> list[str]:
    """Every file that appeared below a folder under its own name, in the order in which they did."""
    paths = [Path(event.path) for event in events if event.what == "renamed"]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)]
