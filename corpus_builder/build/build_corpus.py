"""A plan becomes a corpus: rooms simulated once, then a task a shard, then the seal.

Everything is resumed by what is finished: a room by its files, a shard by its index, a corpus by `corpus.json`, which is
written last of all.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
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
from manifests.io.place import place_of
from manifests.io.progress import Progress
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from corpus_builder.shards.writer import ShardOutcome
    from corpus_builder.workers.preemption import Stop
    from manifests.io.place import Place
    from manifests.plan.plan import Plan, PlanFile


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
        left: How many shards are left to others, or to the next run.
        was_sealed: Nothing was to be done.
        stopped: Why it was stopped before its end; empty if it was not.
    """

    plan: Plan
    corpus: Corpus | None
    undone: tuple[tuple[str, str], ...] = ()
    left: int = 0
    was_sealed: bool = False
    stopped: str = ""


@dataclass(frozen=True)
class Hands:
    """Who renders the shards, and until when.

    Attributes:
        workers: Number of processes, for everything that is done on this machine.
        executor: Where shards are rendered; a pool of processes by default.
        stop: Once it is true no shard is begun any more.
        progress: Show how far it is.
    """

    workers: int = 1
    executor: Executor | None = None
    stop: Stop | None = None
    progress: bool = True


def build(
    source: Place,
    corpus: Place,
    *,
    roots: Mapping[str, Place] | None = None,
    workers: int = 1,
    limit: int | None = None,
    part: Slice | None = None,
    only_rooms: bool = False,
    executor: Executor | None = None,
    scratch: Path | None = None,
    stop: Stop | None = None,
    progress: bool = True,
) -> Built:
    """Build a corpus from a recipe or a plan, or go on with one.

    Args:
        source: A recipe, or the folder of a finished plan (the corpus itself may be one).
        corpus: The folder or URL to build in.
        roots: Where roots lie, by `--root`: folders or URLs.
        workers: Number of processes.
        limit: Only so many utterances a split, by keyed hash of their ids; for a recipe.
        part: Only every N-th shard; the plan and the rooms must be there.
        only_rooms: Stop after the rooms.
        executor: Where shards are rendered; a pool of processes by default.
        scratch: Where the place of work of a corpus at a URL is made.
        stop: Once it is true, the shards in hand are finished and no other is begun.
        progress: Show how far it is.

    Raises:
        LockedError: If another process builds here.
        OtherRecipeError: If the corpus is made from something else.
        NoSpaceLeftError: If the disk is full; finished shards stay.
        StillroomError: By what is wrong with recipe, plan or sources.
    """
    target = Target.at(corpus, scratch=scratch)
    hands = Hands(workers, executor, stop, progress)
    with contextlib.ExitStack() as stack:
        hold(target, part, stack)
        target.fetch()
        if source == corpus:
            source = target.work
        if isinstance(source, Url):
            raise UsageError(f"{printable(source)}: a recipe or a plan on a disk is due here, or the corpus's own URL")
        check_target(target.work, source)
        plan = planned(source, target, roots=roots or {}, limit=limit, part=part, hands=hands)
        places = {**{name: place_of(place) for name, place in read_roots(target.work).items()}, **(roots or {})}
        check_places(plan, target.work, places, changed=bool(roots))
        for folder in (
            private_folder(),
            target.work,
            *(target.work / name for name in FOLDERS),
        ):
            clear_leftovers(folder)
        if part is None:
            target.send_plan()
            build_rooms(target.work, roots=places, rate_hz=plan.sample_rate, workers=workers, progress=progress)
            target.send_rooms()
            if only_rooms:
                return Built(plan, None, left=len(plan.files))
        else:
            check_rooms(target.work, part=f"{part.number}/{part.count}")
        return build_shards(plan, target, places, part=part, hands=hands)


def hold(target: Target, part: Slice | None, stack: contextlib.ExitStack) -> None:
    """Hold the lock of the folder, or that of a slice, and leave nothing behind that came to nothing."""
    stack.enter_context(no_empty_folder(target.work))
    if part is None:
        stack.enter_context(writing(target.work))
    else:
        own = target.work / f".slice-{part.number}-of-{part.count}"
        stack.enter_context(no_empty_folder(own))
        stack.enter_context(writing(own))
    stack.callback(clear_leftovers, target.work / SHARDS_FOLDER)


def planned(
    source: Path,
    target: Target,
    *,
    roots: Mapping[str, Place],
    limit: int | None,
    part: Slice | None,
    hands: Hands,
) -> Plan:
    """The plan of the corpus. What an earlier corpus left in a URL's place of work does not stand in its way."""

    def found() -> Plan:
        return plan_for(
            source,
            target.work,
            roots=roots,
            workers=hands.workers,
            limit=limit,
            sliced=part is not None,
            progress=hands.progress,
        )

    try:
        return found()
    except OtherRecipeError:
        if target.url is None or (target.url / PLAN).exists():
            raise
        target.forget()
        return found()


def build_shards(plan: Plan, target: Target, places: Mapping[str, Place], *, part: Slice | None, hands: Hands) -> Built:
    """Render what is not finished, and seal the corpus when nothing is left.

    Raises:
        NoSpaceLeftError: If the disk is full.
        ShardStoppedError: If a shard met something that a person must mend.
    """
    (target.work / SHARDS_FOLDER).mkdir(exist_ok=True)
    mine = [file for at, file in enumerate(plan.files) if part is None or at % part.count == part.number - 1]
    sizes = target.shard_sizes()
    missing = [file for file in mine if finished_index(target, file.name, plan_sha256=file.sha256, sizes=sizes) is None]
    seal_path = target.work / CORPUS
    if not missing and part is None and seal_path.exists():
        repair = "remove it and run the same command again"
        sealed = Corpus.read(seal_path, needed="the seal", repair=repair)
        if sealed.plan_sha256 == digest(plan):
            discard(target)
            return Built(plan, sealed, was_sealed=True)
    if missing:
        target.unseal()
    undone, rendered = render_missing(plan, target, places, mine=mine, missing=missing, hands=hands)
    elsewhere = len(plan.files) - len(mine)
    if hands.stop and rendered < len(missing):
        left = len(missing) - rendered + elsewhere
        return Built(plan, None, undone=tuple(undone), left=left, stopped=hands.stop.reason)
    if undone or part is not None:
        return Built(plan, None, undone=tuple(undone), left=elsewhere)
    sealed = seal(plan, target)
    discard(target)
    return Built(plan, sealed)


def render_missing(
    plan: Plan,
    target: Target,
    places: Mapping[str, Place],
    *,
    mine: list[PlanFile],
    missing: list[PlanFile],
    hands: Hands,
) -> tuple[list[tuple[str, str]], int]:
    """Render shards.

    Returns:
        Name of each shard that was left undone, and why; and how many were done.
    """
    roots = tuple(sorted((name, str(place)) for name, place in places.items()))
    url = str(target.url or "")
    # so that no worker is left with a long one at the end
    longest_first = sorted(missing, key=lambda file: -file.seconds)
    tasks = [
        ShardTask(str(target.work), file.name, file.split, file.sha256, plan.sample_rate, file.rows, roots, url)
        for file in longest_first
    ]
    rows = sum(file.rows for file in mine)
    done = rows - sum(file.rows for file in missing)
    undone: list[tuple[str, str]] = []
    finished = 0
    with contextlib.ExitStack() as stack:
        shown = None
        if hands.progress:
            shown = stack.enter_context(Progress("rendering", total=rows, unit="utterances", done=done))
            shown.show()  # the first utterances take a while
        if hands.stop is not None:
            stack.enter_context(hands.stop.waiting_for_shards())
        listen = (lambda in_hand: shown.reach(done + in_hand)) if shown is not None else None
        dispatcher = Dispatcher(
            workers=min(hands.workers, max(len(tasks), 1)), executor=hands.executor, stop=hands.stop, listen=listen
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
                    finished += 1
                    done += outcome.rows
        if listen is not None:
            listen(0)
    return undone, finished


def discard(target: Target) -> None:
    """A sealed corpus at a URL needs its place of work no more."""
    if target.url is not None:
        shutil.rmtree(target.work, ignore_errors=True)
