"""Builds a corpus from a recipe or plan: rooms are simulated once, then each shard is a task, then the corpus is sealed.

An interrupted build continues from what is finished: a room by its files, a shard by its index, a corpus by `corpus.json`, which is
written last of all.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.build.preflight import check_places, plan_for
from corpus_builder.build.scheduler import Dispatcher
from corpus_builder.plan.make_plan import check_target, no_empty_folder
from corpus_builder.rooms.build_banks import build_rooms, check_rooms
from corpus_builder.shards.destination import Target
from corpus_builder.shards.seal import seal
from corpus_builder.shards.writer import ShardTask, finished_index
from corpus_builder.sources.roots import read_roots
from corpus_builder.workers.stale_files import clear_leftovers, private_folder
from manifests.corpus.layout import CORPUS, FOLDERS, PLAN, SHARDS_FOLDER
from manifests.corpus.shard_index import Corpus
from manifests.errors import NoSpaceLeftError, OtherRecipeError, StillroomError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.lock import writing
from manifests.io.place import place_of, places_of
from manifests.io.progress import Progress
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from corpus_builder.shards.writer import ShardOutcome
    from corpus_builder.workers.preemption import Stop
    from manifests.io.place import Place
    from manifests.plan.plan import Plan, PlanFile


class ShardStoppedError(StillroomError, RuntimeError):
    """A shard met an error that a person must fix."""

    def __init__(self, outcome: ShardOutcome) -> None:
        super().__init__(f"shard {printable(outcome.name)}: {printable(outcome.message, limit=800)}")


class FullDiskError(NoSpaceLeftError):
    """A worker found the disk full."""

    def __init__(self, message: str) -> None:
        StillroomError.__init__(self, message)


@dataclass(frozen=True)
class Slice:
    """One of several parts of a build that run independently of each other; `number` counts from 1."""

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
            raise UsageError(f"--slice: expected I/N with I from 1 to N, such as 1/8, got {printable(text)!r}")
        return cls(int(number), int(count))


@dataclass(frozen=True)
class Built:
    """The result of a build.

    Attributes:
        corpus: What was sealed; None if shards are left, or only a part was requested.
        undone: Name of each shard that could not be rendered on this machine, and why.
        left: How many shards are left to other slices, or to the next run.
        was_sealed: The corpus was finished before.
        stopped: The reason why it was stopped early; empty if it was not.
    """

    plan: Plan
    corpus: Corpus | None
    undone: tuple[tuple[str, str], ...] = ()
    left: int = 0
    was_sealed: bool = False
    stopped: str = ""


@dataclass(frozen=True)
class Rendering:
    """How shards are rendered.

    Attributes:
        workers: Number of processes, for everything that is done on this machine.
        executor: Where shards are rendered; a pool of processes by default.
        stop: Once it is true no other shard is begun.
        progress: Show how far it is.
    """

    workers: int = 1
    executor: Executor | None = None
    stop: Stop | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        """A build without a process would never end."""
        if self.workers < 1:
            raise UsageError(f"workers: expected 1 process or more, got {self.workers}")


def build(
    source: str | Place,
    corpus: str | Place,
    *,
    roots: Mapping[str, str | Place] | None = None,
    workers: int = 1,
    limit: int | None = None,
    part: Slice | None = None,
    only_rooms: bool = False,
    executor: Executor | None = None,
    scratch: str | Path | None = None,
    stop: Stop | None = None,
    progress: bool = True,
) -> Built:
    """Build a corpus from a recipe or a plan, or continue an interrupted build.

    Args:
        source: A recipe, or the folder of a finished plan (the corpus itself may be one).
        corpus: The folder or URL to build in.
        roots: Folder or URL of each root, as `--root` gives them.
        workers: Number of processes.
        limit: Only so many utterances a split, by keyed hash of their ids; for a recipe.
        part: Only every N-th shard; plan and rooms must be finished.
        only_rooms: Stop after the rooms.
        executor: Where shards are rendered; a pool of processes by default.
        scratch: Parent of the working folder of a corpus at a URL.
        stop: Once it is true, the shards that were begun are finished and no other is begun.
        progress: Show how far it is.

    Raises:
        LockedError: If another process builds here.
        OtherRecipeError: If the corpus is made from another recipe or plan.
        NoSpaceLeftError: If the disk is full; finished shards stay.
        StillroomError: If recipe, plan or sources are missing or damaged.
    """
    source, corpus = place_of(source), place_of(corpus)
    given_roots = places_of(roots)
    target = Target.at(corpus, scratch=None if scratch is None else Path(scratch))
    rendering = Rendering(workers, executor, stop, progress)
    with contextlib.ExitStack() as stack:
        lock(target, part, stack)
        target.fetch()
        plan_source = target.work if source == corpus else source
        if isinstance(plan_source, Url):
            raise UsageError(f"expected a recipe or a plan on a disk, or the corpus's own URL, got {printable(source)}")
        check_target(target.work, plan_source)
        plan = find_plan(plan_source, target, roots=given_roots, limit=limit, part=part, rendering=rendering)
        all_roots = places_of(read_roots(target.work)) | given_roots
        check_places(plan, target.work, all_roots, changed=bool(roots))
        for folder in (private_folder(), target.work, *(target.work / name for name in FOLDERS)):
            clear_leftovers(folder)
        if part is None:
            target.send_plan()
            build_rooms(target.work, roots=all_roots, rate_hz=plan.sample_rate, workers=workers, progress=progress)
            target.send_rooms()
        else:
            check_rooms(target.work, part=f"{part.number}/{part.count}")
        if only_rooms:
            return Built(plan, None, left=len(plan.files))
        return build_shards(plan, target, all_roots, part=part, rendering=rendering)


def lock(target: Target, part: Slice | None, stack: contextlib.ExitStack) -> None:
    """Lock the folder, or that of a slice, until the stack is left; empty folders and temporary files are removed then."""
    stack.enter_context(no_empty_folder(target.work))
    if part is None:
        stack.enter_context(writing(target.work))
    else:
        own = target.work / f".slice-{part.number}-of-{part.count}"
        stack.enter_context(no_empty_folder(own))
        stack.enter_context(writing(own))
    stack.callback(clear_leftovers, target.work / SHARDS_FOLDER)


def find_plan(
    source: Path,
    target: Target,
    *,
    roots: Mapping[str, Place],
    limit: int | None,
    part: Slice | None,
    rendering: Rendering,
) -> Plan:
    """The plan of the corpus; the working folder of a URL is cleared if it has the plan of an earlier corpus."""

    def attempt() -> Plan:
        return plan_for(
            source,
            target.work,
            roots=roots,
            workers=rendering.workers,
            limit=limit,
            sliced=part is not None,
            progress=rendering.progress,
        )

    try:
        return attempt()
    except OtherRecipeError:
        if target.url is None or (target.url / PLAN).exists():
            raise
        target.clear()
        return attempt()


def build_shards(
    plan: Plan, target: Target, roots: Mapping[str, Place], *, part: Slice | None, rendering: Rendering
) -> Built:
    """Render the shards that are not finished, and seal the corpus when none is left.

    Raises:
        NoSpaceLeftError: If the disk is full.
        ShardStoppedError: If a shard met an error that a person must fix.
    """
    (target.work / SHARDS_FOLDER).mkdir(exist_ok=True)
    files = [file for at, file in enumerate(plan.files) if part is None or at % part.count == part.number - 1]
    sizes = target.shard_sizes()
    missing = [
        file for file in files if finished_index(target, file.name, plan_sha256=file.sha256, sizes=sizes) is None
    ]
    corpus_json = target.work / CORPUS
    if not missing and part is None and corpus_json.exists():
        mend = "remove it and run the same command again"
        sealed = Corpus.read(corpus_json, needed="the mark of a sealed corpus", repair=mend)
        if sealed.plan_sha256 == digest(plan):
            remove_working_folder(target)
            return Built(plan, sealed, was_sealed=True)
    if missing:
        target.unseal()
    undone, num_finished = render_missing(plan, target, roots, files=files, missing=missing, rendering=rendering)
    in_other_slices = len(plan.files) - len(files)
    if rendering.stop and num_finished < len(missing):
        left = len(missing) - num_finished + in_other_slices
        return Built(plan, None, undone=tuple(undone), left=left, stopped=rendering.stop.reason)
    if undone or part is not None:
        return Built(plan, None, undone=tuple(undone), left=in_other_slices)
    sealed = seal(plan, target)
    remove_working_folder(target)
    return Built(plan, sealed)


def render_missing(
    plan: Plan,
    target: Target,
    roots: Mapping[str, Place],
    *,
    files: list[PlanFile],
    missing: list[PlanFile],
    rendering: Rendering,
) -> tuple[list[tuple[str, str]], int]:
    """Render shards.

    Args:
        plan: Of the corpus.
        target: Where the corpus is written.
        roots: Folder or URL of each root.
        files: Of all shards of this build.
        missing: Those of the shards that are not finished.
        rendering: How they are rendered.

    Returns:
        Name of each shard that was left undone, and why; and how many were finished.
    """
    plain_roots = tuple(sorted((name, str(place)) for name, place in roots.items()))
    url = str(target.url or "")
    # so that no worker is left with a long one at the end
    longest_first = sorted(missing, key=lambda file: -file.seconds)
    tasks = [
        ShardTask(str(target.work), file.name, file.split, file.sha256, plan.sample_rate, file.rows, plain_roots, url)
        for file in longest_first
    ]
    total = sum(file.rows for file in files)
    done = total - sum(file.rows for file in missing)
    undone: list[tuple[str, str]] = []
    num_finished = 0
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(
            Progress("rendering", total=total, unit="utterances", done=done, shown=rendering.progress)
        )
        display.show()  # the first utterances take a while
        if rendering.stop is not None:
            stack.enter_context(rendering.stop.waiting_for_shards())
        dispatcher = Dispatcher(
            workers=min(rendering.workers, max(len(tasks), 1)),
            executor=rendering.executor,
            stop=rendering.stop,
            on_progress=lambda in_progress: display.reach(done + in_progress),
        )
        for outcome in stack.enter_context(contextlib.closing(dispatcher.outcomes(tasks))):
            match outcome.state:
                case "full":
                    raise FullDiskError(outcome.message)
                case "stopped":
                    raise ShardStoppedError(outcome)
                case "undone":
                    undone.append((outcome.name, outcome.message))
                case "done":
                    num_finished += 1
                    done += outcome.rows
        display.reach(done)
    return undone, num_finished


def remove_working_folder(target: Target) -> None:
    """Remove the working folder of a sealed corpus at a URL."""
    if target.url is not None:
        shutil.rmtree(target.work, ignore_errors=True)
