"""A plan becomes a corpus: rooms simulated once, then a task a shard, then the seal.

Everything is resumed by what is finished: a room by its files, a shard by its index, a corpus by `corpus.json`, which is
written last of all.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.dispatch import Dispatcher
from corpus_builder.leftovers import clear_leftovers
from corpus_builder.plan import check_target, finished_plan, make_plan, no_empty_folder
from corpus_builder.room_step import build_rooms, check_rooms
from corpus_builder.roots import read_roots, write_roots
from corpus_builder.seal import seal
from corpus_builder.shard import ShardTask, finished_index
from manifests.digest import digest, file_digest
from manifests.errors import (
    DigestMismatchError,
    MissingFileError,
    NoSpaceLeftError,
    OtherRecipeError,
    StillroomError,
    UsageError,
    printable,
)
from manifests.files import read_json_lines, replacing
from manifests.lock import writing
from manifests.progress import Progress
from manifests.recipe import Recipe
from manifests.shards import Corpus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from corpus_builder.shard import ShardOutcome
    from manifests.plan import Plan, PlanFile


class ShardStoppedError(StillroomError, RuntimeError):
    """A shard met something that a person must mend."""

    def __init__(self, outcome: ShardOutcome) -> None:
        super().__init__(f"shard {printable(outcome.name)}: {printable(outcome.message, limit=800)}")


class FullDiskError(NoSpaceLeftError):
    """A worker found the disk full."""

    def __init__(self, message: str) -> None:
        StillroomError.__init__(self, message)


@dataclass(frozen=True)
class Slice:
    """One of several parts of a build that run without knowing of each other; `number` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Read `I/N`.

        Raises:
            UsageError: If it is not of that form, or I is not in 1 to N.
        """
        number, slash, count = text.partition("/")
        if (
            not slash
            or not number.isdecimal()
            or not count.isdecimal()
            or not 1 <= int(number) <= int(count) <= 1_000_000
        ):
            raise UsageError(f"--slice {printable(text)!r}: I/N with I from 1 to N is due here, such as --slice 1/8")
        return cls(int(number), int(count))


@dataclass(frozen=True)
class Built:
    """What a build came to.

    Attributes:
        corpus: What was sealed; None if shards are left, or only a part was asked for.
        undone: Name of each shard that the machine failed, and why.
        left: How many shards are left to others.
        was_sealed: Nothing was to be done.
    """

    plan: Plan
    corpus: Corpus | None
    undone: tuple[tuple[str, str], ...] = ()
    left: int = 0
    was_sealed: bool = False


def build(
    source: Path,
    corpus: Path,
    *,
    roots: Mapping[str, Path] | None = None,
    workers: int = 1,
    limit: int | None = None,
    part: Slice | None = None,
    only_rooms: bool = False,
    executor: Executor | None = None,
    progress: bool = True,
) -> Built:
    """Build a corpus from a recipe or a plan, or go on with one.

    Args:
        source: A recipe, or the folder of a finished plan (the corpus itself may be one).
        corpus: The folder to build in.
        roots: Where roots lie, by `--root`.
        workers: Number of processes.
        limit: Only so many utterances a split, by keyed hash of their ids; for a recipe.
        part: Only every N-th shard; the plan and the rooms must be there.
        only_rooms: Stop after the rooms.
        executor: Where shards are rendered; a pool of processes by default.
        progress: Show how far it is.

    Raises:
        LockedError: If another process builds here.
        OtherRecipeError: If the corpus is made from something else.
        NoSpaceLeftError: If the disk is full; finished shards stay.
        StillroomError: By what is wrong with recipe, plan or sources.
    """
    check_target(corpus, source)
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_empty_folder(corpus))
        if part is None:
            stack.enter_context(writing(corpus))
        else:
            own = corpus / f".slice-{part.number}-of-{part.count}"
            stack.enter_context(no_empty_folder(own))
            stack.enter_context(writing(own))
        stack.callback(clear_leftovers, corpus / "shards")
        plan = plan_for(source, corpus, roots=roots or {}, workers=workers, limit=limit, part=part, progress=progress)
        places = {**{name: Path(place) for name, place in read_roots(corpus).items()}, **(roots or {})}
        check_places(plan, corpus, places, changed=bool(roots))
        for folder in (corpus, corpus / "plan", corpus / "rooms", corpus / "shards"):
            clear_leftovers(folder)
        if part is None:
            build_rooms(corpus, rate_hz=plan.sample_rate, workers=workers, progress=progress)
            if only_rooms:
                return Built(plan, None, left=len(plan.files))
        else:
            check_rooms(corpus, part=f"{part.number}/{part.count}")
        return build_shards(plan, corpus, places, part=part, workers=workers, executor=executor, progress=progress)


def plan_for(
    source: Path,
    corpus: Path,
    *,
    roots: Mapping[str, Path],
    workers: int,
    limit: int | None,
    part: Slice | None,
    progress: bool,
) -> Plan:
    """The corpus's plan: made from a recipe, or copied from a plan's folder."""
    if not source.is_dir():
        if part is not None and finished_plan(corpus) is None:
            raise UsageError(
                "--slice needs a finished plan that all slices share: run `stillroom plan RECIPE PLAN`, "
                "then `stillroom build PLAN CORPUS --rooms`, then the slices"
            )
        plan, _ = make_plan(source, corpus, roots=roots, limit=limit, workers=workers, progress=progress)
        return plan
    planned = finished_plan(source)
    if planned is None:
        raise MissingFileError(
            source / "plan" / "plan.json", needed="a recipe or the folder of a finished plan is due here"
        )
    if limit is not None and limit != planned.limit:
        raise UsageError("--limit belongs to planning: this plan was made " + limit_text(planned.limit))
    copy_plan(planned, source, corpus)
    return planned


def limit_text(limit: int | None) -> str:
    """With which limit a plan was made."""
    return "without one" if limit is None else f"with --limit {limit}"


def copy_plan(planned: Plan, source: Path, corpus: Path) -> None:
    """Copy a plan into the corpus, its index last.

    Raises:
        OtherRecipeError: If the corpus has another plan.
    """
    if source.resolve() == corpus.resolve():
        return
    here = finished_plan(corpus)
    if here is not None:
        if digest(here) != digest(planned):
            raise OtherRecipeError(corpus, what="plan", found=digest(here), asked=digest(planned))
        return
    names = [
        "recipe.yaml",
        "plan/levels.jsonl",
        "plan/rooms.jsonl",
        *(f"plan/{file.name}.jsonl" for file in planned.files),
    ]
    for name in [*names, "plan/plan.json"]:
        with replacing(corpus / name) as part:
            shutil.copyfile(source / name, part)
    write_roots(corpus, read_roots(source))


def check_places(plan: Plan, corpus: Path, places: Mapping[str, Path], *, changed: bool) -> None:
    """Roots, plan files and the first utterance of each split are where they should be.

    Raises:
        UsageError: If a root is not known to the plan, or nothing says where one lies.
        MissingFileError: If a root or a split's first file is not there: most likely a root is wrong.
        DigestMismatchError: If a plan file was changed.
    """
    known = set(read_roots(corpus)) or set(Recipe.read(corpus / "recipe.yaml", needed="the recipe").source_roots())
    lost = sorted(known - places.keys())
    if lost:  # a plan that came without its roots.local.json, such as one from another machine
        asked = " ".join(f"--root {printable(name)}=DIR" for name in lost)
        raise UsageError(f"{printable(corpus)}: nothing says where its sources lie on this machine; add {asked}")
    for name, place in places.items():
        if name not in known:
            raise UsageError(f"--root {printable(name)}: the plan has no such root; it has {', '.join(sorted(known))}")
        if not place.is_dir():
            raise MissingFileError(
                place, needed=f"root {name!r} holds the sources; say --root {name}=DIR if it lies elsewhere"
            )
    first: dict[str, PlanFile] = {}
    digests = {"levels": plan.levels_sha256, "rooms": plan.rooms_sha256} | {
        file.name: file.sha256 for file in plan.files
    }
    for name, expected in digests.items():
        path = corpus / "plan" / f"{name}.jsonl"
        if not path.exists():
            raise MissingFileError(path, needed="a file of the plan")
        if (found := file_digest(path)) != expected:
            raise DigestMismatchError(path, expected=expected, found=found)
    for file in plan.files:
        first.setdefault(file.split, file)
    for file in first.values():
        rows = read_json_lines(corpus / "plan" / f"{file.name}.jsonl", needed="a file of the plan")
        span = next(iter(rows))["source"]
        place = places[span["root"]] / span["path"]
        if not place.exists():
            raise MissingFileError(
                place, needed=f"an utterance of {file.split!r}; say --root {span['root']}=DIR if they lie elsewhere"
            )
    if changed:
        write_roots(corpus, places)


def build_shards(
    plan: Plan,
    corpus: Path,
    places: Mapping[str, Path],
    *,
    part: Slice | None,
    workers: int,
    executor: Executor | None,
    progress: bool,
) -> Built:
    """Render what is not finished, and seal the corpus when nothing is left.

    Raises:
        NoSpaceLeftError: If the disk is full.
        ShardStoppedError: If a shard met something that a person must mend.
    """
    (corpus / "shards").mkdir(exist_ok=True)
    mine = [file for at, file in enumerate(plan.files) if part is None or at % part.count == part.number - 1]
    missing = [file for file in mine if finished_index(corpus, file.name, plan_sha256=file.sha256) is None]
    if not missing and part is None and (corpus / "corpus.json").exists():
        sealed = Corpus.read(corpus / "corpus.json", needed="the seal")
        if sealed.plan_sha256 == digest(plan):
            return Built(plan, sealed, was_sealed=True)
    if missing:
        (corpus / "corpus.json").unlink(missing_ok=True)
    roots = tuple(sorted((name, str(place)) for name, place in places.items()))
    tasks = [
        ShardTask(str(corpus), file.name, file.split, file.sha256, plan.sample_rate, file.rows, roots)
        for file in missing
    ]
    rows = sum(file.rows for file in mine)
    done = rows - sum(file.rows for file in missing)
    undone: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        shown = None
        if progress:
            shown = stack.enter_context(Progress("rendering", total=rows, unit="utterances", done=done))
            shown.show()  # the first shard takes a while
        outcomes = Dispatcher(workers=min(workers, max(len(tasks), 1)), executor=executor).outcomes(tasks)
        stack.enter_context(contextlib.closing(outcomes))
        for outcome in outcomes:
            match outcome.state:
                case "full":
                    raise FullDiskError(outcome.message)
                case "stopped":
                    raise ShardStoppedError(outcome)
                case "undone":
                    undone.append((outcome.name, outcome.message))
                case "done" if shown is not None:
                    shown.advance(outcome.rows, note=outcome.name)
                case _:
                    pass
    if undone or part is not None:
        return Built(plan, None, undone=tuple(undone), left=len(plan.files) - len(mine))
    return Built(plan, seal(plan, corpus))
