from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.build import scheduler
from corpus_builder.build.build_corpus import ShardStoppedError, Slice, build
from corpus_builder.build.scheduler import Dispatcher
from corpus_builder.rooms import build_banks
from corpus_builder.shards.writer import ShardOutcome, ShardTask
from corpus_builder.sources.roots import read_roots
from corpus_builder.workers.stale_files import clear_leftovers
from manifests.corpus.shard_index import Corpus
from manifests.errors import (
    DigestMismatchError,
    LockedError,
    MissingFileError,
    NoSpaceLeftError,
    OtherRecipeError,
    UsageError,
)
from manifests.io.atomic import temporary_path
from manifests.io.digest import file_digest
from manifests.io.json_yaml import read_json_lines
from manifests.io.lock import writing
from tests.corpus_builder.conftest import Inline, Lab, furnish, write_wave

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(__file__).resolve().parents[3]


def tars(corpus: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted((corpus / "shards").glob("*.tar"))}


def command(lab: Lab, *words: str) -> list[str]:
    return [sys.executable, "-m", "stillroom", "build", str(lab.folder / "recipe.yaml"), *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"}


def children(pid: int) -> list[int]:
    """Processes that a process started, by /proc; the ones that track resources left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in words:
            found.append(int(entry.name))
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(what: Any, *, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Enough small shards that a build can be caught in the middle; `straight` is the corpus that is due."""
    lab = furnish(tmp_path_factory.mktemp("many"))
    for number in range(8, 36):
        lab.speech("train", f"s{number % 4}", f"u{number}", seed=number, seconds=1.5)
    lab.without_rooms()
    lab.recipe["shards"]["samples"] = 2
    assert lab.build("straight").corpus is not None
    return lab


def test_a_built_corpus_is_sealed_and_complete(built_lab: Lab) -> None:
    corpus = built_lab.folder / "corpus"
    sealed = Corpus.read(corpus / "corpus.json", needed="the seal")
    assert sealed.totals.samples == 12
    assert sealed.copies == {"train": {"noise": 2, "far": 1, "phone": 1}, "test": {"noise": 1, "far": 1}}
    names = {path.relative_to(corpus).as_posix() for path in corpus.rglob("*") if path.is_file()}
    assert {"recipe.yaml", "refused.jsonl", "SHA256SUMS", "README.md", "rooms/cell.jsonl", "plan/plan.json"} <= names
    assert not [name for name in names if ".part" in name or "/." in name or name.startswith(".")]
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=corpus, check=False, capture_output=True
    )
    assert checked.returncode == 0


def test_one_worker_two_workers_and_another_shard_size_of_another_split_give_the_same_tars(built_lab: Lab) -> None:
    corpus = built_lab.folder / "corpus"
    assert built_lab.build("two", workers=2, executor=None).corpus is not None
    assert tars(built_lab.folder / "two") == tars(corpus)
    moved = Lab(built_lab.folder / "moved")
    for name in ("speech", "noise"):
        shutil.copytree(built_lab.folder / name, moved.folder / name)
    for number in range(4, 9):
        moved.speech("test", "t9", f"v{number}", seed=number)
    moved.build()
    ours, theirs = tars(moved.folder / "corpus"), tars(corpus)
    assert {name: one for name, one in ours.items() if name.startswith("train")} == {
        name: one for name, one in theirs.items() if name.startswith("train")
    }
    assert {name for name in ours if name.startswith("test")} != {name for name in theirs if name.startswith("test")}


def test_killed_in_the_middle_and_run_again_gives_the_same_tars_and_leaves_no_worker(many: Lab) -> None:
    corpus = many.folder / "killed"
    process = subprocess.Popen(
        command(many, str(corpus), "--workers", "2"), env=environment(), stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(list((corpus / "shards").glob("*.json"))) >= 2)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(lives(pid) for pid in workers), seconds=5.0)
    finished = {path: path.stat().st_mtime_ns for path in (corpus / "shards").glob("*.json")}
    assert not (corpus / "corpus.json").exists()
    assert len(finished) < 20
    again = subprocess.run(
        command(many, str(corpus), "--workers", "1"), env=environment(), check=False, capture_output=True
    )
    assert again.returncode == 0, again.stderr
    assert tars(corpus) == tars(many.folder / "straight")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not [path for path in corpus.rglob(".*") if ".part" in path.name]


def test_a_worker_that_is_killed_is_replaced(many: Lab) -> None:
    corpus = many.folder / "wounded"
    process = subprocess.Popen(command(many, str(corpus), "--workers", "2"), env=environment(), stderr=subprocess.PIPE)
    wait_until(lambda: len(list((corpus / "shards").glob("*.json"))) >= 2)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert tars(corpus) == tars(many.folder / "straight")


def test_ctrl_c_stops_within_seconds_and_the_same_command_goes_on(many: Lab) -> None:
    corpus = many.folder / "stopped"
    kept = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a job in the background has it ignored, and hands that down
    try:
        process = subprocess.Popen(
            command(many, str(corpus), "--workers", "2"),
            env=environment(),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, kept)
    wait_until(lambda: len(list((corpus / "shards").glob("*.json"))) >= 1)
    os.killpg(process.pid, signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - begun < 15
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert many.build("stopped").corpus is not None


class Deadly:
    """A pool whose worker dies on some shards."""

    def __init__(self, poison: dict[str, int], ran: list[str]) -> None:
        self.poison, self.ran, self.broken = poison, ran, False

    def submit(self, _: Any, task: ShardTask) -> Future[ShardOutcome]:
        if self.broken:
            raise BrokenProcessPool
        future: Future[ShardOutcome] = Future()
        self.ran.append(task.name)
        if self.poison.get(task.name, 0) > 0:
            self.poison[task.name] -= 1
            self.broken = True
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(ShardOutcome(task.name, 1, "done"))
        return future

    def shutdown(self, **_: Any) -> None:
        pass


def shard_tasks(count: int) -> list[ShardTask]:
    return [ShardTask("c", f"train-{number:06d}", "train", "0" * 64, 16_000, 1, ()) for number in range(count)]


@pytest.mark.parametrize(("deaths", "state"), [(1, "done"), (3, "done"), (4, "undone"), (99, "undone")])
def test_a_shard_that_kills_its_worker_is_done_again_three_times_and_the_others_finish(
    monkeypatch: pytest.MonkeyPatch, deaths: int, state: str
) -> None:
    poison, ran = {"train-000001": deaths}, []  # type: ignore[var-annotated]
    monkeypatch.setattr(scheduler, "new_pool", lambda _: Deadly(poison, ran))
    outcomes = {one.name: one for one in Dispatcher(workers=2).outcomes(shard_tasks(5))}
    assert len(outcomes) == 5
    assert outcomes["train-000001"].state == state
    assert all(one.state == "done" for name, one in outcomes.items() if name != "train-000001")
    assert ran.count("train-000001") == min(deaths + 1, 4)
    assert ran.count("train-000000") <= 2


def test_an_undone_shard_is_named_and_the_corpus_is_not_sealed(many: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneFails(Inline):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            if args and args[0].name == "train-000003":
                future: Future[Any] = Future()
                future.set_result(ShardOutcome(args[0].name, 1, "undone", message="MemoryError: "))
                return future
            return super().submit(function, *args, **named)

    built = many.build("undone", executor=OneFails())
    assert built.corpus is None
    assert built.undone == (("train-000003", "MemoryError: "),)
    assert not (many.folder / "undone" / "corpus.json").exists()
    assert many.build("undone").corpus is not None


def test_a_full_disk_ends_the_build_with_one_line_and_keeps_what_is_finished(many: Lab) -> None:
    class Fills(Inline):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            if len(list((many.folder / "filled" / "shards").glob("*.json"))) < 3:
                return super().submit(function, *args, **named)
            future: Future[Any] = Future()
            future.set_result(
                ShardOutcome(
                    args[0].name, 1, "full", message="no space left while writing x; what was finished is kept"
                )
            )
            return future

    with pytest.raises(NoSpaceLeftError, match="no space left while writing") as caught:
        many.build("filled", executor=Fills())
    assert "\n" not in str(caught.value)
    finished = tars(many.folder / "filled")
    assert len(finished) == 3
    many.build("filled")
    assert finished.items() <= tars(many.folder / "filled").items()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_real_full_disk_is_one_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from manifests.io import atomic

    lab.without_rooms()
    real = temporary_path

    def to_full(path: Path) -> Path:
        if path.name != "train-000000.tar":
            return real(path)
        link = path.with_name(f".{path.name}.full")
        link.symlink_to("/dev/full")
        return link

    monkeypatch.setattr(atomic, "temporary_path", to_full)
    with pytest.raises(NoSpaceLeftError, match=r"no space left while writing .*train-000000.tar"):
        lab.build()
    assert not list((lab.folder / "corpus" / "shards").glob("train-000000*"))


def test_building_again_does_nothing(built_lab: Lab) -> None:
    corpus = built_lab.folder / "corpus"
    before = {path: path.stat().st_mtime_ns for path in (corpus / "shards").iterdir()}
    seal = (corpus / "corpus.json").read_bytes()
    built = built_lab.build()
    assert built.was_sealed
    assert {path: path.stat().st_mtime_ns for path in (corpus / "shards").iterdir()} == before
    assert (corpus / "corpus.json").read_bytes() == seal


def test_a_plan_folder_builds_the_same_corpus_as_its_recipe(built_lab: Lab) -> None:
    built_lab.plan("planned")
    built_lab.build("from_plan", source=built_lab.folder / "planned")
    ours, theirs = built_lab.folder / "from_plan", built_lab.folder / "corpus"
    assert tars(ours) == tars(theirs)
    assert (ours / "SHA256SUMS").read_text() == (theirs / "SHA256SUMS").read_text()
    with pytest.raises(UsageError, match="--limit belongs to planning"):
        built_lab.build("from_plan", source=built_lab.folder / "planned", limit=2)
    with pytest.raises(MissingFileError, match="a recipe or the folder of a finished plan"):
        built_lab.build("other", source=built_lab.folder / "speech")
    assert not (built_lab.folder / "other").exists()


def test_slices_need_the_rooms_and_together_make_the_corpus(built_lab: Lab) -> None:
    built_lab.plan("for_slices")
    source, folder = built_lab.folder / "for_slices", built_lab.folder / "sliced"
    with pytest.raises(UsageError, match=r"room bank 'cell' is not built yet; run .* --rooms"):
        built_lab.build("sliced", source=source, part=Slice(1, 2))
    assert built_lab.build("sliced", source=source, only_rooms=True).corpus is None
    for number in (2, 1):
        built = built_lab.build("sliced", source=source, part=Slice(number, 2))
        assert built.corpus is None
        assert not (folder / "corpus.json").exists()
    assert tars(folder) == tars(built_lab.folder / "corpus")
    assert built_lab.build("sliced", source=source).corpus is not None
    assert not list(folder.glob(".slice*"))
    with pytest.raises(UsageError, match="--slice needs a finished plan"):
        built_lab.build("unplanned", part=Slice(1, 2))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2", "1/2/3", ""])
def test_a_slice_is_told_as_one_of_several(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        Slice.parse(text)


def test_rooms_that_are_there_are_not_simulated_again(
    built_lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", corpus)
    calls: list[int] = []
    real = build_banks.make_room

    def counted(job: build_banks.RoomJob) -> Any:
        calls.append(job.room.room)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(build_banks, "make_room", counted)
    build_banks.build_rooms(corpus, rate_hz=16_000, workers=1, progress=False)
    assert calls == []
    before = {path.name: file_digest(path) for path in (corpus / "rooms").iterdir()}
    shutil.rmtree(corpus / "rooms")
    with pytest.raises(KeyboardInterrupt):
        build_banks.build_rooms(corpus, rate_hz=16_000, workers=1, progress=False)
    build_banks.build_rooms(corpus, rate_hz=16_000, workers=1, progress=False)
    assert calls == [0, 1, 1]
    assert {path.name: file_digest(path) for path in (corpus / "rooms").iterdir()} == before


@pytest.mark.parametrize("key", ["size_m", "absorption", "microphone_m", "sources_m"])
def test_a_bank_that_was_made_for_other_rooms_is_not_finished(built_lab: Lab, tmp_path: Path, key: str) -> None:
    """The files of a bank have the same names whatever rooms they were made for; its rows say for which."""
    shutil.copytree(built_lab.folder / "corpus" / "rooms", tmp_path / "rooms")
    rooms = list(read_json_lines(built_lab.folder / "corpus" / "plan" / "rooms.jsonl", needed="rooms"))
    (tmp_path / "plan").mkdir()

    def plan_rooms() -> None:
        lines = "".join(json.dumps(room) + "\n" for room in rooms)
        (tmp_path / "plan" / "rooms.jsonl").write_text(lines)

    plan_rooms()
    build_banks.check_rooms(tmp_path, part="1/2")
    other = {"size_m": [3.1, 3.2, 2.5], "absorption": 0.4321, "microphone_m": [1.0, 1.1, 1.2]}
    rooms[1][key] = rooms[1]["sources_m"][::-1] if key == "sources_m" else other[key]
    plan_rooms()
    with pytest.raises(UsageError, match="room bank 'cell' is not built yet"):
        build_banks.check_rooms(tmp_path, part="1/2")


def test_a_second_process_is_told_and_a_dead_one_loses_its_lock(lab: Lab) -> None:
    lab.without_rooms()
    with writing(lab.folder / "corpus"), pytest.raises(LockedError, match="is being written by process"):
        lab.build()
    (lab.folder / "corpus").mkdir(exist_ok=True)
    import socket

    lock = {"host": socket.gethostname(), "pid": 2**22 + 1, "start": "1", "time": "now"}
    (lab.folder / "corpus" / ".lock").write_text(json.dumps(lock))
    assert lab.build().corpus is not None


def test_a_corpus_of_another_recipe_or_plan_is_refused(lab: Lab) -> None:
    lab.without_rooms()
    lab.build()
    lab.recipe["seed"] = 9
    with pytest.raises(OtherRecipeError, match="was made from another recipe"):
        lab.build()
    lab.plan("other")
    with pytest.raises(OtherRecipeError, match="was made from another plan"):
        lab.build(source=lab.folder / "other")


def test_a_changed_plan_file_is_found_before_rendering(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("planned")
    path = next((lab.folder / "planned" / "plan").glob("train-*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"snr_db":1', b'"snr_db":2'))
    if b'"snr_db":2' not in path.read_bytes():
        path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DigestMismatchError):
        lab.build(source=lab.folder / "planned")


def test_a_plan_without_its_roots_says_which_to_name_and_then_builds(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("planned")
    places = {name: Path(place) for name, place in read_roots(lab.folder / "planned").items()}
    (lab.folder / "planned" / "roots.local.json").unlink()
    with pytest.raises(UsageError, match=r"are not known; add .*--root train=DIR"):
        lab.build(source=lab.folder / "planned")
    assert lab.build(source=lab.folder / "planned", roots=places).corpus is not None


def test_a_wrong_root_is_found_before_rendering(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("planned")
    with pytest.raises(MissingFileError, match="an utterance of 'train'; say --root train=DIR"):
        lab.build(source=lab.folder / "planned", roots={"train": lab.folder / "noise"})
    with pytest.raises(MissingFileError, match="an utterance of 'test'; say --root test=DIR"):
        lab.build(source=lab.folder / "planned", roots={"test": lab.folder / "noise"})
    with pytest.raises(UsageError, match="the plan has no such root"):
        lab.build(source=lab.folder / "planned", roots={"trian": lab.folder})
    shutil.move(lab.folder / "speech" / "train", lab.folder / "elsewhere")
    with pytest.raises(MissingFileError, match="root 'train' holds the sources"):
        lab.build(source=lab.folder / "planned")
    assert lab.build(source=lab.folder / "planned", roots={"train": lab.folder / "elsewhere"}).corpus is not None
    assert read_roots(lab.folder / "corpus")["train"] == str(lab.folder / "elsewhere")


def bad_files(lab: Lab) -> Iterator[tuple[str, str]]:
    """Files whose header is fine and whose content is not, and the reason that is due."""
    folder = lab.folder / "speech" / "train" / "s9"
    wave = np.random.RandomState(0).standard_normal(8000) * 0.1
    write_wave(folder / "zeros.wav", np.zeros(8000))
    yield "zeros", "digital silence"
    wave[4000] = np.nan
    write_wave(folder / "nan.wav", wave, subtype="FLOAT")
    yield "nan", "NaN or infinite"
    whole = write_wave(folder / "cut.flac", np.random.RandomState(1).standard_normal(80_000) * 0.1).read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    yield "cut", "cannot be decoded|was cut off"
    (folder / "gone.wav").write_bytes((lab.folder / "noise" / "n0.wav").read_bytes())
    yield "gone", "does not exist"
    write_wave(folder / "shrunk.wav", np.ones(9000) * 0.1)
    yield "shrunk", "was cut off"


def test_bad_files_are_refused_with_their_reason_and_nothing_else_is_lost(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["speech"]["train"]["fields"] = None
    del lab.recipe["speech"]["train"]["fields"]
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["hum", "white"]
    due = dict(bad_files(lab))
    lab.plan("planned")
    folder = lab.folder / "speech" / "train" / "s9"
    (folder / "gone.wav").unlink()
    write_wave(folder / "shrunk.wav", np.ones(800) * 0.1)
    built = lab.build(source=lab.folder / "planned")
    assert built.corpus is not None
    assert built.corpus.refused == {"train": 5}
    refused = {
        line["id"].removeprefix("s9/"): line["reason"]
        for line in read_json_lines(lab.folder / "corpus" / "refused.jsonl", needed="x")
    }
    assert set(refused) == set(due)
    assert list(refused) == sorted(refused), "in the order of their ids, whichever shards they are of"
    for name, reason in due.items():
        assert any(word in refused[name] for word in reason.split("|")), refused[name]
    assert built.corpus.totals.samples == 12


def test_a_root_that_vanishes_stops_the_build_instead_of_refusing_everything(lab: Lab) -> None:
    lab.without_rooms()

    class Unmounts(Inline):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            shutil.rmtree(lab.folder / "speech" / "train", ignore_errors=True)
            return super().submit(function, *args, **named)

    with pytest.raises(ShardStoppedError, match="is a disk not mounted"):
        lab.build(executor=Unmounts())


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    import socket

    host = socket.gethostname()
    dead, living, strange = (
        tmp_path / f".a.tar.{name}.part" for name in (f"{host}-{2**22 + 1}", f"{host}-{os.getpid()}", "other-1")
    )
    for path in (dead, living, strange):
        path.write_bytes(b"x")
    clear_leftovers(tmp_path)
    assert not dead.exists()
    assert living.exists()
    assert strange.exists()


def test_any_executor_will_do(lab: Lab) -> None:
    from concurrent.futures import ThreadPoolExecutor

    lab.without_rooms()
    lab.build("inline")
    with ThreadPoolExecutor(1) as threads:
        lab.build("threads", executor=threads, workers=3)
        assert threads.submit(lambda: 1).result() == 1
    assert tars(lab.folder / "inline") == tars(lab.folder / "threads")


def test_other_rates_and_channels_become_the_corpus_rate_mono(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["speech"]["train"]["channel"] = 0
    wave = np.random.RandomState(0).standard_normal((44_100, 2)) * 0.1
    write_wave(lab.folder / "speech/train/s1/stereo.wav", wave, rate_hz=44_100)
    lab.build()
    row = next(row for row in lab.rows("corpus") if row.id == "stereo")
    assert (row.num_samples, row.source.rate_hz, row.source.channel) == (16_000, 44_100, 0)
    for tar in (lab.folder / "corpus" / "shards").glob("train*.tar"):
        import io
        import tarfile

        with tarfile.open(tar) as opened:
            if f"{row.key}.clean.flac" in opened.getnames():
                packed = opened.extractfile(f"{row.key}.clean.flac")
                assert packed is not None
                pcm, _ = soundfile.read(io.BytesIO(packed.read()))
                assert pcm.shape == (16_000,)
                return
    pytest.fail("the stereo file is in no shard")


def test_the_built_corpus_can_be_built_in_place_from_its_own_plan(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("corpus")
    built = build(lab.folder / "corpus", lab.folder / "corpus", executor=Inline(), progress=False)
    assert built.corpus is not None
