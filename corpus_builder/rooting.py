"""Which folder is the root of a source, and where below it each of its files lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.sources import common_folder
from manifests.errors import BadDocumentError, printable
from manifests.files import safe_relative

if TYPE_CHECKING:
    from corpus_builder.roots import Located


class Rooting:
    """Finds the root of a source from the paths that it names.

    A folder is its own root. A manifest's absolute paths lose their `strip` prefix, else the deepest folder that all of them
    share; its relative paths stand as they are, below the manifest's folder if they exist there, else the current one.

    Args:
        located: The source.
    """

    def __init__(self, located: Located) -> None:
        self.located = located
        self.common: str | None = None
        self.relative: str | None = None

    def see(self, path: str) -> None:
        """Take note of a path; all must be seen before `below` and `place` are asked."""
        if self.located.manifest is None or self.located.strip is not None:
            return
        if os.path.isabs(path):  # noqa: PTH117 (called for every utterance)
            self.common = common_folder(self.common, os.path.normpath(path))
        elif self.relative is None:
            self.relative = path
        if self.common is not None and self.relative is not None:
            raise BadDocumentError(
                self.located.manifest,
                f"names files by absolute paths ({printable(self.common)}) and relative ones ({printable(self.relative)}); "
                "give it a strip prefix, or make them all of one kind",
            )

    def below(self, path: str) -> str:
        """The path below the root.

        Raises:
            BadDocumentError: If an absolute path does not begin with the prefix to strip.
            UnsafePathError: If a relative one leads out of the root.
        """
        if self.located.manifest is None:
            return path
        if not os.path.isabs(path):  # noqa: PTH117
            return safe_relative(os.path.normpath(path), where=self.located.manifest)
        prefix = (self.located.strip if self.located.strip is not None else self.common or "").rstrip("/") + "/"
        normal = os.path.normpath(path)
        if not normal.startswith(prefix):
            raise BadDocumentError(
                self.located.manifest, f"path {printable(path)} does not begin with strip: {printable(prefix)}"
            )
        return safe_relative(normal[len(prefix) :], where=self.located.manifest)

    @property
    def place(self) -> Path:
        """The real folder of the root on this machine."""
        if self.located.place is not None:
            return self.located.place
        assert self.located.manifest is not None
        if self.located.strip is not None:
            return Path(self.located.strip)
        if self.relative is not None:
            beside = self.located.manifest.parent
            return beside if (beside / self.relative).exists() else Path.cwd()
        return Path(self.common or "/")
