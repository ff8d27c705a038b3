"""Temporary files of processes that were killed, and the folder where a user's temporary files are."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path

from manifests.errors import UsageError, printable
from manifests.io.lock import process_start

LEFTOVER = re.compile(r"^\..+\..+-(?P<pid>[0-9]+)\.part$")
STALE_AFTER_S = 24 * 3600.0


def clear_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that have ended: of this host at once, of other hosts after a day.

    Args:
        folder: Its subfolders are not searched.
    """
    if not folder.is_dir():
        return
    for path in folder.glob(".*.part"):
        match = LEFTOVER.match(path.name)
        if match is None:
            continue
        if path.name.endswith(f".{socket.gethostname()}-{match['pid']}.part"):
            gone = process_start(int(match["pid"])) is None
        else:
            gone = time.time() - path.stat().st_mtime > STALE_AFTER_S
        if gone and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif gone:
            path.unlink(missing_ok=True)


def private_folder() -> Path:
    """A folder for temporary files that belongs to this user alone.

    Raises:
        UsageError: If it belongs to another user.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    folder = Path(tempfile.gettempdir()) / f"stillroom-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise UsageError(f"{printable(folder)} belongs to another user; name another temporary folder with --scratch")
    return folder
