"""Which folder is the root of a source, and where below it each of its files lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.sources.lhotse_manifest import common_folder, utterances
from corpus_builder.sources.utterance import Utterance
from manifests.errors import BadDocumentError, UsageError, printable
from manifests.io.json_yaml import safe_relative
from manifests.io.place import Place, place_of

if TYPE_CHECKING:
    from corpus_builder.sources.roots import Located


def remember_place(places: dict[str, Place], rooting: Rooting) -> None:
    """Note where a root lies.

    Raises:
        UsageError: If another source found the same root elsewhere.
    """
    root, place = rooting.located.root, rooting.place
    if places.setdefault(root, place) != place:
        raise UsageError(
            f"{printable(rooting.located.name)}: its root {root!r} is {printable(place)} here and {printable(places[root])} for "
            "another source; give both manifests the same strip, or roots of their own"
        )


def root_place(located: Located) -> Place:
    """Where the root of a source lies on this machine; its manifest is read through only if nothing else tells."""
    rooting = Rooting(located)
    if located.place is None and located.strip is None:
        for found in utterances(located):
            if isinstance(found, Utterance):
                rooting.see(found.path)
    return rooting.place


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

    def see(self, path: str) -> str:
        """Take note of a path; all must be seen before `below` and `place` are asked.

        Returns:
            The path as `below` takes it: without `.` and `..`.

        Raises:
            UnsafePathError: If it leads out of where it begins, or is no plain path.
            BadDocumentError: If absolute and relative paths stand beside each other, or one does not begin with the prefix to strip.
        """
        manifest = self.located.manifest
        if manifest is None:
            return path
        normal = os.path.normpath(path)
        safe_relative(normal.lstrip("/"), where=manifest)
        if not normal.startswith("/"):
            self.relative = self.relative or normal
        elif self.located.strip is None:
            self.common = common_folder(self.common, normal)
        elif not normal.startswith(self.located.strip.rstrip("/") + "/"):
            prefix = printable(self.located.strip)
            raise BadDocumentError(manifest, f"path {printable(path)} does not begin with strip: {prefix}")
        if self.common is not None and self.relative is not None:
            raise BadDocumentError(
                manifest,
                f"names files by absolute paths ({printable(self.common)}) and relative ones ({printable(self.relative)}); "
                "give it a strip prefix, or make them all of one kind",
            )
        return normal

    def below(self, path: str) -> str:
        """The path below the root, of a path that `see` gave."""
        if self.located.manifest is None or not path.startswith("/"):
            return path
        prefix = self.common if self.located.strip is None else self.located.strip
        assert prefix is not None, "every path was seen"
        rest = path[len(prefix.rstrip("/")) + 1 :]
        begins_oddly = (
            rest[:1] in {"", "~"} or rest[1:2] == ":" or rest.startswith("pipe:")
        )  # `see` has checked the rest
        return safe_relative(rest, where=self.located.manifest) if begins_oddly else rest

    @property
    def place(self) -> Place:
        """The real folder of the root on this machine."""
        if self.located.place is not None:
            return self.located.place
        assert self.located.manifest is not None
        if self.located.strip is not None:
            return place_of(self.located.strip)
        if self.relative is not None:
            manifest = self.located.manifest
            if manifest.is_dir():  # a Shar directory: its tars lie in it
                return manifest
            beside = manifest.parent
            return beside if (beside / self.relative).exists() else Path.cwd()
        return Path(self.common or "/")
