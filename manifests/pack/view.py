"""One view of a corpus, a pack or a plan, for `diff` and `audit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from manifests.corpus.fingerprints import DecodedSource
from manifests.corpus.layout import (
    CORPUS,
    PACKED_SOURCES,
    PLAN,
    index_name,
    noise_levels,
    plain_rows,
    plan_rows_name,
    read_plan,
    read_recipe,
    sources_name,
)
from manifests.corpus.shard_index import read_corpus, read_index
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, UsageError, printable
from manifests.io.digest import digest, file_digest
from manifests.pack.fetched import fetched
from manifests.pack.read import is_pack, open_pack
from manifests.pack.validate import check_index, check_rows
from manifests.plan.references import files_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.corpus.shard_index import Corpus
    from manifests.io.place import Place
    from manifests.plan.plan import Plan
    from manifests.recipe.recipe import Recipe

Kind = Literal["corpus", "pack", "plan"]
SourceRow = tuple[str, str, str, str | None, str | None]
NEEDED = "the folder of a corpus or a finished plan, or a pack, is needed"


@dataclass(frozen=True)
class View:
    """A corpus, pack or plan, opened for reading.

    Attributes:
        place: What was opened.
        folder: Where its files are, in the layout of a corpus or plan; without tars, if it was at a URL or is a pack.
        description: What it is, in one line.
    """

    kind: Kind
    place: Place
    folder: Path
    description: str
    plan: Plan
    recipe: Recipe

    @property
    def has_waves(self) -> bool:
        """Whether it has digests of waves."""
        return self.kind != "plan"

    def source_lists(self) -> list[str]:
        """Paths of the lists of source stretches: the one of a pack (also one unpacked by other means), or those of a corpus."""
        if (self.folder / PACKED_SOURCES).exists():
            return [PACKED_SOURCES]
        return [sources_name(file.name) for file in self.plan.files]

    def sources(self) -> Iterator[SourceRow]:
        """Root, path, stretch, digest of the file and of its PCM; unknown digests are None."""
        names = self.source_lists()
        if self.has_waves and all((self.folder / name).exists() for name in names):
            for name in names:
                for one in DecodedSource.read_lines(self.folder / name, needed="sources", where=name):
                    yield one.root, one.path, str(one.stretch[2:]), one.sha256, one.pcm_sha256
            return
        levels = {(level.root, level.path): level.sha256 for level in noise_levels(self.folder)}
        seen = {file for one in self.plan.files for row in plain_rows(self.folder, one.name) for file in files_of(row)}
        for root, path in sorted(seen):
            yield root, path, "", levels.get((root, path)), None


def open_view(place: Place, scratch: Path) -> View:
    """Open a corpus, a pack or a plan.

    Args:
        place: A folder or a pack, or the URL of one.
        scratch: Folder to create and unpack a pack in; what is at a URL is copied beside it.

    Raises:
        MissingFileError: If it does not exist.
        StillroomError: If it is damaged, or something else.
    """
    shown = printable(place)
    path = fetched(place, scratch.with_name(f"{scratch.name}-fetched"), needed=NEEDED)
    if is_pack(path):
        opened = open_pack(path, scratch)
        description = (
            f"{shown}: pack of {opened.pack.name}, {opened.pack.samples} utterances, {opened.pack.waves} waves"
        )
        return View("pack", place, opened.folder, description, opened.plan, opened.recipe)
    if path.is_file():
        raise BadDocumentError(place, "is neither a pack (.tar.gz) nor the folder of a corpus or plan")
    if not path.exists():
        raise MissingFileError(path, needed=NEEDED)
    sealed = read_corpus(path) if (path / CORPUS).exists() else None
    if sealed is not None and sealed.borrowed is not None:
        raise UsageError(
            f"{shown} is a subset or an index, which has no plan: compare the corpora that it was made from"
        )
    if not (path / PLAN).is_file():
        raise MissingFileError(place / PLAN, needed=NEEDED)
    plan, recipe = read_plan(path), read_recipe(path)
    for file in plan.files:
        found = file_digest(path / plan_rows_name(file.name))
        if found != file.sha256:
            raise DigestMismatchError(place / plan_rows_name(file.name), expected=file.sha256, found=found)
        if sealed is None:
            check_rows(path, file, recipe, where=place)
    rows = sum(file.rows for file in plan.files)
    if sealed is None:
        return View("plan", place, path, f"{shown}: plan of {plan.name}, {rows} utterances", plan, recipe)
    if digest(plan) != sealed.plan_sha256:
        raise BadDocumentError(place / PLAN, "is not the plan that the corpus was sealed with")
    check_indexes(path, sealed, plan, recipe, where=place)
    description = (
        f"{shown}: corpus {sealed.name}, {sealed.totals.samples} utterances, {sealed.totals.seconds / 3600:.2f} h"
    )
    return View("corpus", place, path, description, plan, recipe)


def check_indexes(folder: Path, sealed: Corpus, plan: Plan, recipe: Recipe, *, where: Place) -> None:
    """Check that each index is that of its shard as sealed and planned, before its digests are used.

    Args:
        folder: Where the files are.
        sealed: The corpus.
        plan: Its plan.
        recipe: Its recipe.
        where: What a message names: the corpus as the user did.

    Raises:
        BadDocumentError: If not.
    """
    files = {file.name: file for file in plan.files}
    entries = [entry for entries in sealed.splits.values() for entry in entries]
    if files.keys() != {entry.name for entry in entries}:
        raise BadDocumentError(where / CORPUS, "names other shards than the plan")
    for entry in entries:
        path, index = where / index_name(entry.name), read_index(folder, entry.name)
        if (index.bytes, index.sha256, len(index.samples)) != (entry.bytes, entry.sha256, entry.samples):
            raise BadDocumentError(path, "is the index of another tar than corpus.json names")
        rows = check_rows(folder, files[entry.name], recipe, where=where)
        check_index(index, files[entry.name], plan.sample_rate, rows, where=path)
