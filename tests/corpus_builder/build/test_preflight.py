"""What is asked of a worker for each shard, and what is found before anything is rendered; nothing is rendered here."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.build.build_corpus import Built, FullDiskError, ShardStoppedError, Slice
from corpus_builder.build.preflight import limit_text
from corpus_builder.build.scheduler import Dispatcher, ExecutorLostError
from corpus_builder.shards.writer import ShardOutcome, ShardTask
from corpus_builder.sources.roots import read_roots, write_roots
from corpus_builder.workers.pool import WorkerDiedError
from corpus_builder.workers.preemption import Stop
from manifests.errors import DigestMismatchError, MissingFileError, NotAFolderError, OtherRecipeError, UsageError
from manifests.io.digest import digest
from tests.corpus_builder.conftest import Inline, Lab

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.plan.plan import Plan


class Notes(Inline):
    """An executor that notes what each shard is asked for, and gives one outcome for it."""

    def __init__(self, state: Any = "undone", message: str = "why", *, most: int = 1000) -> None:
        self.tasks: list[ShardTask] = []
        self.state, self.message, self.most = state, message, most
        self.stop: Stop | None = None

    def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
        del function, named
        task: ShardTask = args[0]
        self.tasks.append(task)
        if self.stop is not None and len(self.tasks) == self.most:
            self.stop.reason = "SIGUSR1"
        future: Future[Any] = Future()
        future.set_result(ShardOutcome(task.name, task.rows, self.state, message=self.message))
        return future


@pytest.fixture
def small(tmp_path: Path) -> Lab:
    """Two splits of a root of another name at 8 kHz, a shard each for every two utterances or so."""
    lab = Lab(tmp_path)
    lab.recipe = {
        "schema": "stillroom/recipe/1", "name": "small", "sample_rate": 8000,
        "speech": {split: {"dir": f"speech/{split}", "root": "voices"} for split in ("train", "dev")},
        "noises": {"white": {"colour": "white"}},
        "conditions": {"noise": {"steps": [{"kind": "noise", "from": ["white"], "snr_db": 5}]}},
        "copies": {"train": {"noise": 1}}, "shards": {"samples": 2},
    }  # fmt: skip
    for number in range(9):
        lab.speech("train", "s", f"u{number}", seed=number, seconds=0.1 + 0.03 * number)
    for number in range(3):
        lab.speech("dev", "s", f"v{number}", seed=number, seconds=0.2)
    return lab


def test_every_shard_is_asked_for_once_the_longest_first_as_the_plan_has_it(small: Lab) -> None:
    plan, _ = small.plan()
    notes = Notes()
    built = small.build(source=small.folder / "plan", executor=notes)
    assert built == Built(plan, None, undone=tuple((task.name, "why") for task in notes.tasks))
    seconds = {file.name: file.seconds for file in plan.files}
    asked = [seconds[task.name] for task in notes.tasks]
    assert len(set(asked)) > 2
    assert asked == sorted(asked, reverse=True)
    roots = (("voices", str(small.folder / "speech")),)
    assert {task.name: task for task in notes.tasks} == {
        file.name: ShardTask(str(small.folder / "corpus"), file.name, file.split, file.sha256, 8000, file.rows, roots)
        for file in plan.files
    }  # fmt: skip


def test_the_slices_of_a_plan_are_every_n_th_shard_from_the_i_th(small: Lab) -> None:
    plan, _ = small.plan()
    names = [file.name for file in plan.files]
    assert len(names) > 4
    asked = {}
    for number in (1, 2, 3):
        notes = Notes()
        built = small.build(source=small.folder / "plan", executor=notes, part=Slice(number, 3))
        asked[number] = {task.name for task in notes.tasks}
        assert built.left == len(names) - len(asked[number])
    assert asked == {1: set(names[0::3]), 2: set(names[1::3]), 3: set(names[2::3])}
    assert Slice.parse("3/3") == Slice(3, 3)


@pytest.mark.parametrize("part", [None, Slice(1, 2)])
def test_a_build_that_is_stopped_says_how_many_shards_are_left_of_all(small: Lab, part: Slice | None) -> None:
    plan, _ = small.plan()
    notes, stop = Notes("done", most=2), Stop()
    notes.stop = stop
    built = small.build(source=small.folder / "plan", executor=notes, stop=stop, part=part)
    assert len(notes.tasks) == 2
    assert (built.corpus, built.left, built.stopped) == (None, len(plan.files) - 2, "SIGUSR1")
    undone = Notes(most=1)
    again = Stop()
    undone.stop = again
    built = small.build(source=small.folder / "plan", executor=undone, stop=again, part=part)
    assert built.undone == ((undone.tasks[0].name, "why"),)
    assert built.left == len(plan.files)


def test_rooms_alone_leave_all_shards(small: Lab) -> None:
    plan, _ = small.plan()
    notes = Notes()
    assert small.build(source=small.folder / "plan", executor=notes, only_rooms=True) == Built(
        plan, None, left=len(plan.files)
    )
    assert not notes.tasks


def test_a_disk_that_is_full_and_an_error_for_a_person_end_a_build_each_by_its_name(small: Lab) -> None:
    with pytest.raises(FullDiskError, match=r"^no space$"):
        small.build(executor=Notes("full", "no space"))
    with pytest.raises(ShardStoppedError, match=r"^shard (train|dev)-00000\d: the root is gone$"):
        small.build(executor=Notes("stopped", "the root is gone"))


def test_the_limit_of_a_build_is_that_of_its_plan(small: Lab) -> None:
    built = small.build(executor=Notes(), limit=2)
    assert built.plan.limit == 2
    assert sum(file.rows for file in built.plan.files) == 4
    small.plan("all")
    assert [limit_text(limit) for limit in (None, 7)] == ["without one", "with --limit 7"]
    with pytest.raises(UsageError, match="this plan was made without one"):
        small.build("other", source=small.folder / "all", limit=3, executor=Notes())
    small.plan("few", limit=2)
    with pytest.raises(UsageError, match="this plan was made with --limit 2"):
        small.build("other", source=small.folder / "few", limit=3, executor=Notes())
    assert small.build("other", source=small.folder / "few", limit=2, executor=Notes()).plan.limit == 2


def test_a_plan_is_copied_with_its_roots_and_another_is_not_put_over_it(small: Lab) -> None:
    first, _ = small.plan()
    small.build(source=small.folder / "plan", executor=Notes())
    corpus = small.folder / "corpus"
    assert read_roots(corpus) == {"voices": str(small.folder / "speech")}
    for path in (small.folder / "plan" / "plan").iterdir():
        assert (corpus / "plan" / path.name).read_bytes() == path.read_bytes()
    second, _ = small.plan("second", limit=1)
    with pytest.raises(OtherRecipeError, match=rf"another plan \({digest(first)[:12]}, now {digest(second)[:12]}\)"):
        small.build(source=small.folder / "second", executor=Notes())


def without_roots(small: Lab, **more: str) -> Plan:
    """A plan as from another machine, whose recipe has one more root, which no row reads from."""
    small.recipe["speech"]["dev"]["root"] = "calls"
    small.recipe["noises"]["unused"] = {"dir": "speech", "split": "shared"}
    plan, _ = small.plan()
    path = small.folder / "plan" / "roots.local.json"
    path.unlink()
    if more:
        write_roots(small.folder / "plan", more)
    return plan


def test_roots_that_are_not_known_are_named_together_unless_nothing_is_read_from_them(small: Lab) -> None:
    without_roots(small)
    speech = small.folder / "speech"
    with pytest.raises(UsageError, match=r"are not known; add --root calls=DIR --root voices=DIR$"):
        small.build(source=small.folder / "plan", executor=Notes())
    with pytest.raises(UsageError, match=r"are not known; add --root calls=DIR$"):
        small.build(source=small.folder / "plan", roots={"voices": speech / "train"}, executor=Notes())
    with pytest.raises(UsageError, match=r"--root din: the plan has no such root; it has calls, unused, voices"):
        roots = {"voices": speech / "train", "calls": speech / "dev", "din": speech}
        small.build(source=small.folder / "plan", roots=roots, executor=Notes())
    notes = Notes()
    small.build(
        source=small.folder / "plan", roots={"voices": speech / "train", "calls": speech / "dev"}, executor=notes
    )
    assert {task.roots for task in notes.tasks} == {(("calls", str(speech / "dev")), ("voices", str(speech / "train")))}


def test_a_root_that_is_given_wins_and_is_remembered_and_others_are_not_written_again(small: Lab) -> None:
    small.plan()
    shutil.copytree(small.folder / "speech", small.folder / "moved")
    corpus = small.folder / "corpus"
    small.build(source=small.folder / "plan", executor=Notes())
    before = (corpus / "roots.local.json").stat().st_mtime_ns
    small.build(source=small.folder / "plan", executor=Notes())
    assert (corpus / "roots.local.json").stat().st_mtime_ns == before
    notes = Notes()
    small.build(source=small.folder / "plan", executor=notes, roots={"voices": small.folder / "moved"})
    assert {task.roots for task in notes.tasks} == {(("voices", str(small.folder / "moved")),)}
    assert read_roots(corpus) == {"voices": str(small.folder / "moved")}


def test_a_root_that_is_a_file_and_a_plan_that_lacks_a_file_or_has_another_are_found(small: Lab) -> None:
    small.plan()
    source = small.folder / "plan"
    (small.folder / "file").write_text("x")
    with pytest.raises(NotAFolderError, match="root 'voices' holds the sources; say --root voices=DIR"):
        small.build(source=source, executor=Notes(), roots={"voices": small.folder / "file"})
    with pytest.raises(MissingFileError, match="an utterance of 'train'; say --root voices=DIR if they are elsewhere"):
        small.build(source=source, executor=Notes(), roots={"voices": small.folder})
    shutil.rmtree(small.folder / "speech" / "dev")
    with pytest.raises(MissingFileError, match="an utterance of 'dev'; say --root voices=DIR"):
        small.build(source=source, executor=Notes())
    corpus = small.folder / "corpus"
    path = corpus / "plan" / "levels.jsonl"
    path.write_text("other")
    listed = json.loads((corpus / "plan" / "plan.json").read_text())["levels_sha256"]
    with pytest.raises(
        DigestMismatchError, match=rf"levels.jsonl.* SHA-256 is d9298a10d1b07358…, its manifest says {listed[:16]}…"
    ):
        small.build(source=source, executor=Notes())
    path.unlink()
    with pytest.raises(MissingFileError, match=r"plan/levels.jsonl does not exist: a file of the plan"):
        small.build(source=source, executor=Notes())


class Failing(Inline):
    """An executor whose futures all end with one error, or wait for ever."""

    def __init__(self, problem: BaseException | None) -> None:
        self.problem, self.futures = problem, []  # type: ignore[var-annotated]

    def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
        del function, args, named
        future: Future[Any] = Future()
        if self.problem is not None:
            future.set_exception(self.problem)
        self.futures.append(future)
        return future


def tasks_of(count: int) -> list[ShardTask]:
    return [ShardTask("c", f"train-{number:06d}", "train", "0" * 64, 16_000, 4, ()) for number in range(count)]


def test_an_error_of_a_given_executor_leaves_its_shard_undone_or_ends_the_build() -> None:
    found = list(Dispatcher(workers=1, executor=Failing(KeyError("odd"))).outcomes(tasks_of(1)))
    assert found == [ShardOutcome("train-000000", 4, "undone", message="KeyError: 'odd'")]
    with pytest.raises(ExecutorLostError, match="finished shards are saved: run the same command again"):
        list(Dispatcher(workers=1, executor=Failing(CancelledError())).outcomes(tasks_of(1)))
    from concurrent.futures.process import BrokenProcessPool

    with pytest.raises(WorkerDiedError):
        list(Dispatcher(workers=1, executor=Failing(BrokenProcessPool())).outcomes(tasks_of(1)))


def test_what_a_given_executor_has_not_begun_is_cancelled_by_a_stop_and_by_an_end() -> None:
    waiting, stop = Failing(None), Stop()

    def noted(_: int) -> None:
        stop.reason = "SIGTERM"

    assert list(Dispatcher(workers=1, executor=waiting, stop=stop, on_progress=noted).outcomes(tasks_of(5))) == []
    assert len(waiting.futures) == 5, "a given executor of unknown size has all of them at once"
    assert all(future.cancelled() for future in waiting.futures)
    left = Failing(None)

    def broken(_: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        list(Dispatcher(workers=1, executor=left, on_progress=broken).outcomes(tasks_of(3)))
    assert all(future.cancelled() for future in left.futures)
