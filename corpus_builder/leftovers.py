"""Temporary files that processes left behind when they were killed."""

from __future__ import annotations

import re
import shutil
import socket
import time
from typing import TYPE_CHECKING

from manifests.lock import process_start

if TYPE_CHECKING:
    from pathlib import Path

LEFTOVER = re.compile(r"^\..+\.(?P<host>[^/]+)-(?P<pid>[0-9]+)\.part$")
FORGOTTEN_AFTER_S = 24 * 3600.0


def clear_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that are gone: of this host at once, of other hosts after a day.

    Args:
        folder: Where files are written; not its subfolders.
    """
    if not folder.is_dir():
        return
    for path in folder.glob(".*.part"):
        match = LEFTOVER.match(path.name)
        if match is None:
            continue
        if match["host"].endswith(socket.gethostname()):
            gone = process_start(int(match["pid"])) is None
        else:
            gone = time.time() - path.stat().st_mtime > FORGOTTEN_AFTER_S
        if gone and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif gone:
            path.unlink(missing_ok=True)
