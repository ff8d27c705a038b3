"""Turns a recipe and its sources into a plan: files of rows in which every parameter is a number. Nothing is drawn after it.

In this order: utterances are stored, noises read through once, rooms calibrated, utterances assigned to shards and their copies
drawn. `plan.json` is written last. An interrupted plan begins again, but reads no noise and calibrates no room twice.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from corpus_builder.plan.planner import PlanJob, write_plan
from corpus_builder.sources.relative_paths import folders_of
from corpus_builder.sources.roots import locate, published, published_digest, read_roots, write_roots
from corpus_builder.workers.resume_cache import PartialResults
from corpus_builder.workers.stale_files import clear_leftovers
from manifests.corpus.layout import PLAN, PLAN_FOLDER, RECIPE, SHARDS_FOLDER, top_names
from manifests.errors import OtherRecipeError, UsageError, printable
from manifests.io.atomic import refuse_linked_folders
from manifests.io.json_yaml import write_yaml
from manifests.io.lock import writing
from manifests.io.place import Place, local_path, place_of, places_of
from manifests.plan.plan import Plan
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from corpus_builder.sources.roots import Located


def recipe_at(path: Path) -> tuple[Recipe, Path]:
    """Read a recipe, or that of a plan folder.

    Returns:
        The recipe and the folder that its relative paths start from.
    """
    if path.is_dir():
        path = path / RECIPE
    return Recipe.read(path, needed="a recipe (YAML) or the folder of a plan"), path.parent


def finished_plan(folder: Path) -> Plan | None:
    """The plan of a folder if it is finished.

    Raises:
        OlderPlanError: If it is of an earlier version, which is not rendered.
    """
    path = folder / PLAN
    if not path.exists():
        return None
    repair = "remove it and run the same command again: what was planned with the same recipe is planned the same"
    plan = Plan.read(path, needed="the index of a plan", repair=repair)
    plan.check_current(where=path)
    return plan


def check_target(folder: Path, recipe_path: Path) -> None:
    """A plan or corpus folder is new, or holds a plan or corpus; no other file is overwritten.

    Raises:
        UsageError: If the folder holds something else, the recipe itself, or a link to a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{printable(folder)} is a file; name a folder that is new, or holds a plan")
    if not folder.exists():
        return
    strange = sorted(
        entry.name for entry in folder.iterdir() if entry.name not in top_names() and not entry.name.startswith(".")
    )
    if strange or (recipe_path.parent.resolve() == folder.resolve() and not (folder / PLAN_FOLDER).exists()):
        what = strange[0] if strange else recipe_path.name
        raise UsageError(
            f"{printable(folder)} holds {printable(what)!r}, which is not of a plan or corpus; choose a new folder"
        )
    refuse_linked_folders(folder, *(entry.name for entry in folder.iterdir()))


@contextlib.contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Leave no empty folder behind when a command fails early."""
    try:
        yield
    finally:
        for empty in (folder / PLAN_FOLDER, folder / SHARDS_FOLDER, folder):
            with contextlib.suppress(OSError):  # it does not exist, or is not empty
                empty.rmdir()


def check_same(plan: Plan, *, recipe_sha256: str, limit: int | None, folder: Path) -> None:
    """A finished plan was made from the same recipe with the same limit.

    Raises:
        OtherRecipeError: If not.
    """
    if plan.recipe_sha256 != recipe_sha256:
        raise OtherRecipeError(folder, what="recipe", found=plan.recipe_sha256, wanted=recipe_sha256)
    if plan.limit != limit:
        raise OtherRecipeError(folder, what="--limit", found=str(plan.limit), wanted=str(limit))


def new_job(
    recipe: Recipe, sources: Mapping[str, Located], folder: Path, *, limit: int | None, workers: int, progress: bool
) -> PlanJob:
    """A job that begins again in its folder, with what an interrupted one has read and calibrated."""
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)
    for stale in folder.glob("*-[0-9]*.jsonl"):
        stale.unlink()
    return PlanJob(
        recipe,
        sources,
        folder,
        noise_cache=PartialResults(folder / ".noises.partial"),
        room_cache=PartialResults(folder / ".rooms.partial"),
        header_cache=PartialResults(folder / ".headers.partial"),
        limit=limit,
        workers=workers,
        progress=progress,
    )


def plan(
    recipe: str | Path,
    folder: str | Path,
    *,
    roots: Mapping[str, str | Place] | None = None,
    limit: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> tuple[Plan, bool]:
    """Decide everything that a recipe leaves open, and write it down.

    Args:
        recipe: A recipe, or the folder of a plan, whose recipe is taken.
        folder: Where to: `folder/plan/`, `folder/recipe.yaml`, `folder/roots.local.json`.
        roots: Folder or URL of each root, as `--root` gives them.
        limit: Only so many utterances a split, by keyed hash of their ids.
        workers: Number of processes that read noises and calibrate rooms.
        progress: Show how far it is.

    Returns:
        The plan, and whether it existed already.

    Raises:
        LockedError: If another process plans here.
        OtherRecipeError: If the folder has the plan of another recipe.
        StillroomError: If recipe or sources are missing or damaged.
    """
    recipe, folder = local_path(recipe), local_path(folder)
    check_target(folder, recipe)
    with no_empty_folder(folder), writing(folder):
        return plan_locked(recipe, folder, roots=places_of(roots), limit=limit, workers=workers, progress=progress)


def plan_locked(
    recipe_path: Path,
    folder: Path,
    *,
    roots: Mapping[str, Place],
    limit: int | None,
    workers: int,
    progress: bool,
) -> tuple[Plan, bool]:
    """As `plan`, in a folder whose lock the caller holds."""
    recipe, beside = recipe_at(recipe_path)
    names = {source.root or name for name, source in recipe.file_sources()}
    remembered = {**read_roots(beside), **read_roots(folder)}
    known_roots = {name: place_of(place) for name, place in remembered.items() if name in names} | dict(roots)
    sources = locate(recipe, beside=beside, roots=known_roots)
    recipe_sha256 = published_digest(recipe, sources)
    existing = finished_plan(folder)
    if existing is not None:
        check_same(existing, recipe_sha256=recipe_sha256, limit=limit, folder=folder)
        if not read_roots(folder):  # it was fetched from a URL, or copied without what belongs to a machine
            write_roots(folder, folders_of(sources.values()))
        return existing, True
    job = new_job(recipe, sources, folder / PLAN_FOLDER, limit=limit, workers=workers, progress=progress)
    document, found_roots = write_plan(job, recipe_sha256=recipe_sha256)
    write_yaml(folder / RECIPE, published(recipe, sources))
    write_roots(folder, found_roots)
    made = Plan.parse(document, where=folder)
    made.write(folder / PLAN)
    job.header_cache.remove()
    job.noise_cache.remove()
    job.room_cache.remove()
    return made, False
