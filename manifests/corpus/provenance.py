"""Provenance records: software, platform and command, without user name, absolute paths or host name."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from pathlib import Path, PurePath
from typing import Any

LIBRARIES = (
    "stillroom", "torch", "torchaudio", "lhotse", "webdataset", "pyroomacoustics", "numpy", "scipy", "soundfile", "soxr", "av",
    "fast-mp3-augment", "scikit-learn", "rapidfuzz", "pydantic", "click",
)  # fmt: skip


def software() -> dict[str, str]:
    """Versions of Python and of every library that can touch a sample or a score; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, str]:
    """Operating system and processor kind, nothing that names the machine."""
    return {"system": platform.system(), "processor": platform.machine()}


def home_folder() -> Path | None:
    """The user's home folder; None if there is none, as in a container whose user has no name."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def public_argument(argument: str) -> str:
    """A command's argument without folders and without the user's name: `--root=x=/home/ann/data` becomes `--root=x=data`."""
    before, equals, last = argument.rpartition("=")
    if not {"/", "\\", "~"} & set(last):
        return argument
    name, home = PurePath(last.replace("\\", "/")).name, home_folder()
    is_private = name in {"", ".", "..", "~"} or name[0] == "~" or (home is not None and name == home.name)
    return f"{before}{equals}{'...' if is_private else name}"


def provenance(**facts: Any) -> dict[str, Any]:
    """A provenance record: software, machine, time and command line, with absolute paths cut to their last name."""
    return {
        "schema": "stillroom/provenance/1",
        "software": software(),
        "machine": machine(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": ["stillroom", *(public_argument(argument) for argument in sys.argv[1:])],
        **facts,
    }
