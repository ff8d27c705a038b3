"""Which folder is the root of a source, and the path of each of its files below it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corpus_builder.sources.lhotse_manifest import utterances
from corpus_builder.sources.utterance import Utterance
from manifests.errors import BadDocumentError, UsageError, printable
from manifests.io.json_yaml import safe_relative
from manifests.io.place import Place, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corpus_builder.sources.roots import Located


class FoundRoot(NamedTuple):
    """The folder of a root, as one source has it.

    Attributes:
        taken: What names it where the recipe does not, for a person; empty where it does.
    """

    source: str
    root: str
    folder: Place
    taken: str = ""


def root_folders(found: Iterable[FoundRoot]) -> dict[str, Place]:
    """The folder of each root.

    Raises:
        UsageError: If two sources have the same root in two folders.
    """
    folders: dict[str, Place] = {}
    for source, root, folder, _ in found:
        if folders.setdefault(root, folder) != folder:
            raise UsageError(
                f"{printable(source)}: its root {root!r} is {printable(folder)} here and {printable(folders[root])} for "
                "another source; give both manifests the same strip, or roots of their own"
            )
    return folders


def taken_lines(found: Iterable[FoundRoot]) -> list[str]:
    """A line for each root whose folder the recipe does not name: which was taken, for which sources."""
    sources: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if one.taken:
            sources.setdefault((one.root, one.taken), []).append(one.source)
    return [f"{', '.join(names)}: root {root!r} {taken}" for (root, taken), names in sources.items()]


def folders_of(sources: Iterable[Located]) -> dict[str, Place]:
    """The folder of each root on this machine; manifests are read through only if nothing else names it."""
    commons: dict[str, str] = {}
    finders = [RootFinder(located, commons) for located in sources]
    for finder in finders:
        if finder.located.place is None and finder.located.strip is None:
            for found in utterances(finder.located):
                if isinstance(found, Utterance):
                    finder.add(found.path)
    return root_folders(finder.found() for finder in finders)


class RootFinder:
    """Finds the root of a source from the paths that it names.

    A folder is its own root. A manifest's absolute paths lose their `strip` prefix, else the deepest folder that all of them
    share, with those of other sources of the same root; its relative paths stay as they are, below the manifest's folder if they
    exist there, else the current one.

    Args:
        located: The source.
        commons: The deepest common folder of each root so far, of all sources that share them; its own by default.
    """

    def __init__(self, located: Located, commons: dict[str, str] | None = None) -> None:
        self.located = located
        self.commons = {} if commons is None else commons
        self.first_relative: str | None = None

    @property
    def common(self) -> str | None:
        """The deepest folder that all absolute paths of the root share so far."""
        return self.commons.get(self.located.root)

    def add(self, path: str) -> str:
        """Take a path into account; all must be added before `relative` and `folder` are used.

        Returns:
            The path without `.` and `..`, as `relative` takes it.

        Raises:
            UnsafePathError: If it leads out of where it begins, or is no plain path.
            BadDocumentError: If the source has both absolute and relative paths, or one does not begin with the prefix to strip.
        """
        manifest = self.located.manifest
        if manifest is None:
            return path
        normal = os.path.normpath(path)
        safe_relative(normal.lstrip("/"), where=manifest)
        if not normal.startswith("/"):
            self.first_relative = self.first_relative or normal
        elif self.located.strip is None:
            self.commons[self.located.root] = common_folder(self.common, normal)
        elif not normal.startswith(self.located.strip.rstrip("/") + "/"):
            prefix = printable(self.located.strip)
            raise BadDocumentError(manifest, f"path {printable(path)} does not begin with strip: {prefix}")
        if self.common is not None and self.first_relative is not None:
            raise BadDocumentError(
                manifest,
                f"names files by absolute paths ({printable(self.common)}) and relative ones ({printable(self.first_relative)}); "
                "give it a strip prefix, or make them all of one kind",
            )
        return normal

    def relative(self, path: str) -> str:
        """The path below the root, of a path that `add` returned."""
        if self.located.manifest is None or not path.startswith("/"):
            return path
        prefix = self.common if self.located.strip is None else self.located.strip
        assert prefix is not None, "every path was added"
        rest = path[len(prefix.rstrip("/")) + 1 :]
        begins_oddly = (
            rest[:1] in {"", "~"} or rest[1:2] == ":" or rest.startswith("pipe:")
        )  # `add` has checked the rest
        return safe_relative(rest, where=self.located.manifest) if begins_oddly else rest

    @property
    def folder(self) -> Place:
        """The folder of the root on this machine."""
        if self.located.place is not None:
            return self.located.place
        assert self.located.manifest is not None
        if self.located.strip is not None:
            return place_of(self.located.strip)
        if self.first_relative is not None:
            manifest = self.located.manifest
            if manifest.is_dir():  # a Shar directory: its tars are in it
                return manifest
            beside = manifest.parent
            return beside if (beside / self.first_relative).exists() else Path.cwd()
        return Path(self.common or "/")

    def found(self) -> FoundRoot:
        """The root with its folder, for `root_folders`."""
        return FoundRoot(self.located.name, self.located.root, self.folder, self.taken)

    @property
    def taken(self) -> str:
        """How the folder was found if the recipe does not name it; empty if it does."""
        place, manifest, common = self.located.place, self.located.manifest, self.common
        if manifest is None or self.located.strip is not None:
            return ""
        if common is not None:
            below = "" if place is None else f", looked for at {printable(place)}"
            shared = f"is {printable(common)}, the deepest folder that all its paths share{below}"
            return f"{shared}; `strip: {printable(common)}` in the recipe names it"
        if self.first_relative is None or place is not None or manifest.is_dir():
            return ""
        option = f"--root {self.located.root}=DIR"
        return (
            f"is {printable(self.folder)}, where relative paths of its manifest lead to files; {option} names another"
        )


def common_folder(folder: str | None, path: str) -> str:
    """The deepest folder that holds both a folder (None for none yet) and an absolute path."""
    own = os.path.dirname(path)  # noqa: PTH120 (called for every utterance)
    if folder is None or own == folder:
        return own
    return folder if own.startswith(folder.rstrip("/") + "/") else os.path.commonpath([folder, own])
