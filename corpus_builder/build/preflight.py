"""Checks before anything is rendered: the plan is the requested one and whole, and its sources exist."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from corpus_builder.audio.tar_members import audio_exists
from corpus_builder.plan.make_plan import finished_plan, plan_locked
from corpus_builder.sources.roots import read_roots, write_roots
from manifests.corpus.layout import PLAN, RECIPE, plain_rows, planned_digests, read_recipe, roots_needed
from manifests.errors import DigestMismatchError, MissingFileError, OtherRecipeError, UsageError, printable
from manifests.io.atomic import replacing
from manifests.io.digest import digest, file_digest
from manifests.io.place import no_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from manifests.io.place import Place
    from manifests.plan.plan import Plan, PlanFile


def plan_for(
    source: Path,
    corpus: Path,
    *,
    roots: Mapping[str, Place],
    workers: int,
    limit: int | None,
    sliced: bool,
    progress: bool,
) -> Plan:
    """The plan of a corpus: made from a recipe, or copied from the folder of a plan."""
    if not source.is_dir():
        if sliced and finished_plan(corpus) is None:
            raise UsageError(
                "--slice needs a finished plan that all slices share: run `stillroom plan RECIPE PLAN`, "
                "then `stillroom build PLAN CORPUS --rooms`, then the slices"
            )
        plan, _ = plan_locked(source, corpus, roots=roots, limit=limit, workers=workers, progress=progress)
        return plan
    planned = finished_plan(source)
    if planned is None:
        raise MissingFileError(source / PLAN, needed="a recipe or the folder of a finished plan")
    if limit is not None and limit != planned.limit:
        raise UsageError("--limit belongs to planning: this plan was made " + limit_text(planned.limit))
    copy_plan(planned, source, corpus)
    return planned


def limit_text(limit: int | None) -> str:
    """The limit that a plan was made with, for a message."""
    return "without one" if limit is None else f"with --limit {limit}"


def copy_plan(planned: Plan, source: Path, corpus: Path) -> None:
    """Copy a plan into the corpus, its index last.

    Raises:
        OtherRecipeError: If the corpus has another plan.
    """
    if source.resolve() == corpus.resolve():
        return
    existing = finished_plan(corpus)
    if existing is not None:
        if digest(existing) != digest(planned):
            raise OtherRecipeError(corpus, what="plan", found=digest(existing), wanted=digest(planned))
        return
    for name in (RECIPE, *planned_digests(planned), PLAN):
        with replacing(corpus / name) as part:
            shutil.copyfile(source / name, part)
    write_roots(corpus, read_roots(source))


def known_roots(plan: Plan, corpus: Path, places: Mapping[str, Place]) -> set[str]:
    """Names of the roots of a plan.

    Raises:
        UsageError: If the folder of one that the plan reads from is not known on this machine.
    """
    known = set(read_roots(corpus)) or set(read_recipe(corpus).source_roots())
    if known <= places.keys():
        return known
    unknown = sorted((known - places.keys()) & roots_needed(corpus, plan))
    if unknown:  # a plan without its roots.local.json, such as one from another machine
        options = " ".join(f"--root {printable(name)}=DIR" for name in unknown)
        raise UsageError(
            f"{printable(corpus)}: the folders of its sources on this machine are not known; add {options}"
        )
    return known


def check_places(plan: Plan, corpus: Path, places: Mapping[str, Place], *, changed: bool) -> None:
    """Check that roots, plan files and the first utterance of each split exist.

    Raises:
        UsageError: If the plan has no such root, or the folder of one is not known.
        MissingFileError: If a root or the first file of a split does not exist: most likely a root is wrong.
        DigestMismatchError: If a plan file was changed.
    """
    known = known_roots(plan, corpus, places)
    for name, place in places.items():
        if name not in known:
            raise UsageError(f"--root {printable(name)}: the plan has no such root; it has {', '.join(sorted(known))}")
        if not place.is_dir():
            needed = f"root {name!r} holds the sources; say --root {name}=DIR if it is elsewhere"
            raise no_folder(place, needed=needed)
    first: dict[str, PlanFile] = {}
    for name, expected in planned_digests(plan).items():
        path = corpus / name
        if not path.exists():
            raise MissingFileError(path, needed="a file of the plan")
        if (found := file_digest(path)) != expected:
            raise DigestMismatchError(path, expected=expected, found=found)
    for file in plan.files:
        first.setdefault(file.split, file)
    for file in first.values():
        span = next(plain_rows(corpus, file.name))["source"]
        place = places[span["root"]] / span["path"]
        if not audio_exists(place):
            raise MissingFileError(
                place, needed=f"an utterance of {file.split!r}; say --root {span['root']}=DIR if they are elsewhere"
            )
    if changed:
        write_roots(corpus, places)
