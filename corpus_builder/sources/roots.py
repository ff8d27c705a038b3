"""Finds a recipe's sources on this machine, and gives the recipe as it is published, with root names for folders.

Every source goes by a root: its own name, or the `root` it names. A path in a plan is relative to its root. A published
recipe says `dir: "@train"` (or `"@librispeech/train-clean"` where several folders share a root); the digest is taken of
that form, so that it does not depend on where a lab keeps its files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.corpus.layout import LOCAL_ROOTS
from manifests.errors import BadDocumentError, MissingFileError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.json_yaml import safe_relative
from manifests.io.place import Place, no_folder, place_of
from manifests.plan.plan import LocalRoots
from manifests.recipe.noises import DividedNoise, RecordedNoise
from manifests.recipe.recipe import Recipe
from manifests.recipe.rooms import RecordedBank, ResponseSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifests.recipe.speech import SpeechSource


@dataclass(frozen=True)
class Located:
    """A source of files, found on this machine.

    Attributes:
        name: In the recipe; `<noise>-<split>` for a divided noise.
        root: Name of its root.
        source: As the recipe has it.
        place: The real folder of the root; None where it follows from the manifest's recordings.
        prefix: The folder that is listed, below the root; empty for the root itself.
        manifest: The lhotse manifest, or None.
        table: The CSV of labels, or None.
        strip: Prefix of the manifest's absolute paths that is the root; None for the deepest common folder.
    """

    name: str
    root: str
    source: SpeechSource
    place: Place | None
    prefix: str = ""
    manifest: Path | None = None
    table: Place | None = None
    strip: str | None = None

    @property
    def folder(self) -> Place:
        """The folder that is listed."""
        assert self.place is not None
        return self.place / self.prefix


def read_roots(folder: Path) -> dict[str, str]:
    """The roots of this machine as an earlier command wrote them; none if there is no such file."""
    path = folder / LOCAL_ROOTS
    return dict(LocalRoots.read(path, needed="the roots").roots) if path.exists() else {}


def write_roots(folder: Path, roots: Mapping[str, Place | str]) -> None:
    """Write the folders of the roots on this machine; never packed, never part of a digest."""
    plain = {name: str(place) for name, place in sorted(roots.items())}
    LocalRoots.parse({"schema": LocalRoots.SCHEMA, "roots": plain}, where=LOCAL_ROOTS).write(folder / LOCAL_ROOTS)


def parse_roots(options: tuple[str, ...]) -> dict[str, Place]:
    """`NAME=DIR` options as absolute folders, or URLs.

    Raises:
        UsageError: If one has another form.
        MissingFileError: If a folder does not exist.
        NotAFolderError: If it is a file.
    """
    roots: dict[str, Place] = {}
    for option in options:
        name, equals, folder = option.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"--root {printable(option)!r}: expected NAME=DIR, such as --root train=/data/train")
        place = place_of(folder)
        if not place.is_dir():
            raise no_folder(place, needed=f"--root {printable(name)} should name a folder")
        absolute_place = Path(os.path.abspath(place)) if isinstance(place, Path) else place  # noqa: PTH100 (resolve() would follow links)
        roots[name] = absolute_place
    return roots


def locate(recipe: Recipe, *, beside: Path, roots: Mapping[str, Place]) -> dict[str, Located]:
    """Find every source of files.

    Args:
        recipe: As read.
        beside: The folder of the recipe: its relative paths start there.
        roots: Given by `--root` or found in `roots.local.json`.

    Returns:
        By name of the source.

    Raises:
        UsageError: If a given root is no root of the recipe, or one is missing.
        MissingFileError: If a folder or manifest does not exist.
    """
    known = {source.root or name for name, source in recipe.file_sources()}
    for name in roots:
        if name not in known:
            raise UsageError(
                f"--root {printable(name)}: the recipe has no such root; it has {', '.join(sorted(known))}"
            )
    shared = shared_folders(recipe, beside)
    return {name: located(name, source, beside, roots, shared) for name, source in recipe.file_sources()}


def absolute(path: str, beside: Path) -> Path:
    """A recipe's path, relative to the recipe, without `..` in it."""
    return Path(os.path.abspath(beside / Path(path).expanduser()))  # noqa: PTH100 (links stay as they are)


def shared_folders(recipe: Recipe, beside: Path) -> dict[str, Path]:
    """The common folder of each root that several folders share by `root: NAME`."""
    folders: dict[str, list[Path]] = {}
    for name, source in recipe.file_sources():
        root = source.root or name
        if source.dir is not None and not source.dir.startswith("@") and "://" not in source.dir:
            folders.setdefault(root, []).append(absolute(source.dir, beside))
    return {root: Path(os.path.commonpath(places)) for root, places in folders.items()}


def located(
    name: str, source: SpeechSource, beside: Path, roots: Mapping[str, Place], shared: Mapping[str, Path]
) -> Located:
    """Find one source of files."""
    root = source.root or name
    if source.dir is not None:
        return located_folder(name, source, beside, roots, shared)
    listed = source.list if isinstance(source, ResponseSource) and source.list is not None else source.cuts
    assert listed is not None
    manifest = absolute(listed, beside)
    if not manifest.is_file() and not (source.cuts is not None and manifest.is_dir()):  # a folder is lhotse's Shar
        raise MissingFileError(manifest, needed=f"the manifest of {printable(name)!r} in the recipe")
    strip = source.strip
    if strip is not None and strip.startswith("@"):
        strip = str(needed_root(root, roots, name))
    return Located(name, root, source, roots.get(root), manifest=manifest, strip=strip)


def located_folder(
    name: str, source: SpeechSource, beside: Path, roots: Mapping[str, Place], shared: Mapping[str, Path]
) -> Located:
    """Find a source that is a folder."""
    assert source.dir is not None
    root = source.root or name
    if source.dir.startswith("@"):
        named, _, prefix = source.dir[1:].partition("/")
        if named != root:
            raise BadDocumentError("recipe", f"{name}.dir: root {printable(named)!r} is not its own root {root!r}")
        if prefix:
            safe_relative(prefix, where=f"{name}.dir")
        place = needed_root(root, roots, name)
    elif "://" in source.dir:
        prefix, place = "", roots.get(root, place_of(source.dir))
    else:
        prefix = absolute(source.dir, beside).relative_to(shared[root]).as_posix()
        prefix = "" if prefix == "." else prefix
        place = roots.get(root, shared[root])
    folder = place / prefix
    if not folder.is_dir():
        raise no_folder(folder, needed=f"the folder of {printable(name)!r}; say --root {root}=DIR if it is elsewhere")
    table = None
    if source.table is not None:
        tables: tuple[Place, ...] = (folder / source.table, absolute(source.table, beside))
        table = next((path for path in tables if path.is_file()), None)
        if table is None:
            raise MissingFileError(folder / source.table, needed=f"the table of {printable(name)!r} in the recipe")
    return Located(name, root, source, place, prefix=prefix, table=table)


def needed_root(root: str, roots: Mapping[str, Place], name: str) -> Place:
    """The folder of a root that a published recipe leaves open."""
    if root not in roots:
        raise UsageError(
            f"{printable(name)}: the recipe does not name the folder of root {root!r}; say --root {root}=DIR"
        )
    return roots[root]


def published(recipe: Recipe, sources: Mapping[str, Located]) -> dict[str, Any]:
    """The recipe with every path replaced by a root name, as plain data."""

    def anonymous(name: str, plain: dict[str, Any]) -> dict[str, Any]:
        source = sources[name]
        result = dict(plain)
        if source.source.dir is not None:
            result["dir"] = "@" + "/".join(part for part in (source.root, source.prefix) if part)
        else:
            listing = "cuts" if source.source.cuts is not None else "list"
            result[listing] = Path(plain[listing]).name
        if "strip" in result:
            result["strip"] = "@" + source.root
        if "table" in result:
            result["table"] = Path(plain["table"]).name
        return result

    plain = recipe.plain()
    plain["speech"] = {name: anonymous(name, source) for name, source in plain["speech"].items()}
    for name, noise in recipe.noises.items():
        if isinstance(noise, RecordedNoise):
            plain["noises"][name] = anonymous(name, plain["noises"][name])
        elif isinstance(noise, DividedNoise):
            plain["noises"][name] = {
                split: anonymous(f"{name}-{split}", source) for split, source in plain["noises"][name].items()
            }
    for name, bank in recipe.rooms.items():
        if isinstance(bank, RecordedBank):
            plain["rooms"][name]["responses"] = anonymous(name, plain["rooms"][name]["responses"])
    return plain


def published_digest(recipe: Recipe, sources: Mapping[str, Located]) -> str:
    """The digest that a plan and a corpus carry: that of the published recipe with all defaults written out."""
    return digest(Recipe.parse(published(recipe, sources), where="recipe").plain())
