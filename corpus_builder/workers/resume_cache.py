"""What an interrupted planning has found out already, a line each: noises read, rooms calibrated."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from manifests.errors import BadDocumentError
from manifests.io.json_yaml import parse_json

if TYPE_CHECKING:
    from pathlib import Path


class PartialResults:
    """Results by key, in a JSON lines file that grows while the work goes on and is removed when it is done.

    Args:
        path: The file; the torn last line of a killed run is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Any] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(BadDocumentError, KeyError, TypeError):
                    entry = parse_json(line, where=path)
                    self.known[entry["key"]] = entry["result"]

    def add(self, key: str, result: Any) -> None:
        """Remember one result."""
        with self.path.open("ab") as stream:
            stream.write(json.dumps({"key": key, "result": result}).encode() + b"\n")

    def remove(self) -> None:
        """The work is done; what counts stands elsewhere."""
        self.path.unlink(missing_ok=True)
