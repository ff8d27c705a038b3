"""Staging: shards are copied once a node, checked, let go, and what is damaged is named."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from manifests.errors import MissingFileError, UsageError
from manifests.io.url import Url
from tests.corpus_builder.shards.test_s3 import Server
from tests.training.conftest import write_corpus
from tests.training.test_loop import HOUSE, assert_same_run, config_of, journal
from training import loop
from training.config.schema import Staging
from training.data import node_cache
from training.data.joined_corpus import open_corpus
from training.data.node_cache import NodeCache
from training.data.sampler import windows
from training.data.tar_reader import DamagedShardError
from training.dataloader import loader
from training.precompute import TargetSettings, compute_targets
from training.runs.journal import TooMuchDamageError
from training.stream import pairs
from training.targets.reader import TargetsReader


@pytest.fixture(scope="module", name="made")
def corpus_and_its_pcm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage") / "corpus"
    write_corpus(folder, shards=6, samples=5, lengths_s=(0.3, 1.2))
    return folder


@pytest.fixture(name="fetched")
def names_of_fetched_shards(monkeypatch):
    names = []
    copied = NodeCache.copied

    def counted(self, source, stream, one):
        names.append(one.name)
        return copied(self, source, stream, one)

    monkeypatch.setattr(NodeCache, "copied", counted)
    return names


def staged_stream(corpus, stage, *, gigabytes=None, **options):
    stream = pairs(corpus, views="cdm2", utterances=4, lanes=2, crop_s=0.5, **options)
    stream.stage = Staging(dir=str(stage), gigabytes=gigabytes)
    return stream


def same(first, second):
    return first.keys == second.keys and torch.equal(first.teacher_wave, second.teacher_wave)


def test_what_is_read_is_the_same_and_each_shard_is_fetched_once(made, tmp_path, fetched):
    plain = list(pairs(made, views="cdm2", utterances=4, lanes=2, crop_s=0.5, epochs=2))
    staged = list(staged_stream(made, tmp_path / "stage", epochs=2))
    assert len(plain) == len(staged)
    assert all(map(same, plain, staged))
    assert sorted(fetched) == sorted(entry.name for entry in open_corpus(made).shards("train")), (
        "the disk holds both epochs"
    )
    for path in (tmp_path / "stage").glob("*.tar"):
        assert any(path.read_bytes() == shard.read_bytes() for shard in made.glob("shards/*.tar"))
    assert not list((tmp_path / "stage").glob("*.part"))


def test_a_rank_fetches_its_lanes_alone(made, tmp_path, fetched):
    stream = staged_stream(made, tmp_path / "stage")
    stream.lanes = (1,)
    list(stream)
    assert len(fetched) == len(set(fetched)) == 3


def sizes_of(stage):
    for path in stage.glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):  # let go meanwhile
            yield path.stat().st_size


def test_a_small_disk_holds_the_windows_at_hand_and_lets_the_rest_go(made, tmp_path, fetched):
    """Windows of two shards, this and the next: with room for four, each is fetched once an epoch."""
    sizes = sorted(path.stat().st_size for path in made.glob("shards/train*.tar"))
    stream = staged_stream(made, tmp_path / "stage", gigabytes=sum(sizes[-4:]) / 1e9, epochs=3)
    object.__setattr__(stream.batching, "window_shards", 1)
    most = 0
    for _ in stream:
        most = max(most, sum(sizes_of(tmp_path / "stage")))
    assert most <= sum(sizes[-4:])
    assert len(fetched) < 3 * 6 + 1
    assert len(set(fetched)) == 6


def test_without_room_shards_are_read_from_afar_and_that_is_said(made, tmp_path, fetched, capsys):
    plain = list(pairs(made, views="cdm2", utterances=4, lanes=2, crop_s=0.5))
    staged = list(staged_stream(made, tmp_path / "stage", gigabytes=1e-6))
    assert all(map(same, plain, staged))
    assert fetched == []
    assert capsys.readouterr().err.count("has no room for the shard") == 1


def test_several_processes_of_a_node_share_the_stage(made, tmp_path):
    """That they do is counted by a server, below; here they get what one process gets."""
    stream = staged_stream(made, tmp_path / "stage", epochs=2)
    together = list(loader(stream, workers=2))
    alone = list(pairs(made, views="cdm2", utterances=4, lanes=2, crop_s=0.5, epochs=2))
    assert len(together) == len(alone)
    assert all(map(same, together, alone))
    assert len(list((tmp_path / "stage").glob("*.tar"))) == 6


def test_threads_that_want_one_shard_fetch_it_once_and_hold_it_against_eviction(made, tmp_path, fetched):
    with open_corpus(made) as reader:
        name = reader.shards("train")[0].name
        stages = [NodeCache(tmp_path / "stage", report=str) for _ in range(4)]
        found = []
        threads = [
            threading.Thread(target=lambda stage=stage: found.append(stage.handle(reader.tars, name)))
            for stage in stages
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fetched == [name]
        assert len({os.fstat(handle).st_ino for handle in found}) == 1
        assert not stages[0].evict()
        for stage in stages:
            stage.window([])
        assert stages[0].evict()
        assert not list((tmp_path / "stage").glob("*.tar"))
        for stage in stages:
            stage.close()


def test_a_copy_that_was_cut_off_is_fetched_again(made, tmp_path, fetched):
    with open_corpus(made) as reader:
        entry = reader.shards("train")[0]
        stage = NodeCache(tmp_path / "stage", report=str)
        (tmp_path / "stage" / f"{entry.sha256}.tar").write_bytes(b"half")
        (tmp_path / "stage" / f"{entry.sha256}.part").write_bytes(b"left by a process that was killed")
        handle = stage.handle(reader.tars, entry.name)
        assert os.fstat(handle).st_size == entry.bytes
        assert fetched == [entry.name]
        stage.close()


@pytest.fixture(name="copy")
def own_copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_shard_that_is_not_what_the_corpus_says_is_named(copy, tmp_path):
    path = copy / "shards" / "train-000001.tar"
    content = bytearray(path.read_bytes())
    content[-3000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedShardError, match=r"train-000001\.tar: has \d+ bytes of SHA-256 \w{12}, its corpus says"):
        list(staged_stream(copy, tmp_path / "stage"))
    path.unlink()
    with pytest.raises(MissingFileError, match=r"train-000001\.tar does not exist"):
        list(staged_stream(copy, tmp_path / "stage"))
    for thread in threading.enumerate():
        if thread.name == "stage":  # it finishes the copy that it had begun
            thread.join(30)
    assert not list((tmp_path / "stage").glob("*.part"))


def test_a_shard_that_is_damaged_or_gone_is_named_with_what_was_found_and_stays_so_until_it_is_not_wanted(
    copy, tmp_path, fetched
):
    path = copy / "shards" / "train-000001.tar"
    whole = path.read_bytes()
    with open_corpus(copy) as reader:
        (entry,) = (one for one in reader.shards("train") if one.name == "train-000001")
        stage = NodeCache(tmp_path / "stage", report=str)
        path.write_bytes(whole[:-512])
        found = hashlib.sha256(whole[:-512]).hexdigest()[:12]
        for _ in range(2):
            with pytest.raises(DamagedShardError) as damaged:
                stage.handle(reader.tars, entry.name)
            assert (
                f"{path}: has {entry.bytes - 512} bytes of SHA-256 {found}, its corpus says {entry.bytes} of {entry.sha256[:12]};"
                in str(damaged.value)
            )
        assert fetched == [entry.name] * 2, "tried twice, and then remembered"
        assert not list((tmp_path / "stage").glob("*.part"))
        path.write_bytes(whole + bytes(512))
        stage.window([])
        with pytest.raises(DamagedShardError, match=f"has {entry.bytes + 512} bytes"):
            stage.handle(reader.tars, entry.name)
        path.unlink()
        stage.window([])
        for _ in range(2):
            with pytest.raises(MissingFileError, match=r"train-000001\.tar does not exist") as gone:
                stage.handle(reader.tars, entry.name)
            assert "corpus.json lists the shard train-000001" in str(gone.value)
            path.write_bytes(whole)
        stage.window([])
        assert os.fstat(stage.handle(reader.tars, entry.name)).st_size == entry.bytes
        assert stage.handle(reader.tars, "train-000099") is None, "no shard of the corpus"
        assert not list((tmp_path / "stage").glob("*.part"))
        stage.close()


GIB = 1 << 30


@pytest.mark.parametrize(
    ("total", "spare", "gigabytes", "left_over"),
    [
        (1000 * GIB, GIB, None, 0), (10 * GIB, GIB // 2, None, 0),
        (1000 * GIB, 0, 3e-6, 0), (1000 * GIB, 0, 3e-6, 1),
    ],
)  # fmt: skip
def test_room_is_what_the_disk_or_the_config_leaves_and_halves_that_were_left_over_make_way(
    made, tmp_path, monkeypatch, total, spare, gigabytes, left_over
):
    """A disk keeps 1 GiB or a twentieth free, whichever is less; 3e-6 gigabytes are 3000 bytes, here of a shard and a half one."""
    said = []
    with open_corpus(made) as reader:
        entry, larger, *_ = sorted(reader.shards("train"), key=lambda one: one.bytes)
        disk = {"free": 10 * total if gigabytes else entry.bytes + spare - 1}
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=total, free=disk["free"]))
        stage = NodeCache(tmp_path / "stage", gigabytes=gigabytes, report=said.append)
        if gigabytes:
            assert stage.most_bytes == 3000
            stage.most_bytes = entry.bytes + 100
            half = tmp_path / "stage" / f"{'0' * 64}.part"
            half.write_bytes(bytes(101))
            if left_over:  # of a process that still writes it
                with stage.locked("0" * 64):
                    assert stage.handle(reader.tars, entry.name) is None
                assert half.exists()
            assert stage.handle(reader.tars, entry.name) is not None
            assert not half.exists()
        else:
            assert stage.handle(reader.tars, entry.name) is None
            assert stage.handle(reader.tars, larger.name) is None
            disk["free"] += 1
            assert stage.handle(reader.tars, entry.name) is not None
        assert len(said) == (0 if gigabytes and not left_over else 1)
        assert all(f"stage: {tmp_path / 'stage'} has no room for the shard {entry.name}: read" in line for line in said)
        stage.close()


def test_a_disk_that_is_full_after_all_is_no_room(made, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with open_corpus(made) as reader:
        stage = NodeCache(tmp_path / "stage", report=str)
        assert stage.handle(reader.tars, reader.shards("train")[0].name) is None
        assert not list((tmp_path / "stage").glob("*.[pt]ar*"))
        stage.close()


def test_a_stage_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"stage: .*file/stage cannot be written to \(Not a directory\)"):
        NodeCache(tmp_path / "file" / "stage", report=str)


def test_a_run_finds_that_before_it_leaves_anything(tmp_path, copy, teacher_folder):
    (tmp_path / "file").write_text("")
    config = config_of(copy, teacher_folder, stage=str(tmp_path / "file" / "stage"), workers=1)
    with pytest.raises(UsageError, match=r"stage: .*file/stage cannot be written to") as caught:
        loop.distil(config, tmp_path / "run", report=str)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def damaged_config(copy, teacher_folder, **keys):
    return config_of(copy, teacher_folder, **{"steps": 12, "log_every": 1, "adversary": None, "preset": "cdm2", **keys})


@pytest.mark.parametrize("staged", [False, True])
def test_damaged_shards_are_left_out_and_counted_if_the_config_says_so(tmp_path, copy, teacher_folder, staged, capfd):
    stage = {"stage": str(tmp_path / "stage")} if staged else {}
    (copy / "shards" / "train-000002.tar").unlink()
    os.truncate(copy / "shards" / "train-000004.tar", 2000)
    with pytest.raises((MissingFileError, DamagedShardError), match=r"train-00000[24]\.tar"):
        loop.distil(damaged_config(copy, teacher_folder, **stage), tmp_path / "fatal", report=str)
    with pytest.raises(
        TooMuchDamageError, match=r"2 shards cannot be read, damaged_shards: 1 are allowed; the last one: "
    ):
        loop.distil(damaged_config(copy, teacher_folder, damaged_shards=1, **stage), tmp_path / "one", report=str)
    config = damaged_config(copy, teacher_folder, damaged_shards=2, **stage)
    assert loop.distil(config, tmp_path / "run", report=str) == "done"
    said = capfd.readouterr().err
    assert len(re.findall(r"left out \(damaged_shards: \d of at most 2\): .*train-000002\.tar", said)) == 1
    assert len(re.findall(r"left out \(damaged_shards: \d of at most 2\): .*train-000004\.tar", said)) == 1
    lines = journal(tmp_path / "run")
    assert {line["damaged_shard"] for line in lines if "damaged_shard" in line} == {"train-000002", "train-000004"}
    assert sum(line.get("lost", 0) for line in lines) >= 10
    assert loop.distil(config.model_copy(update={"workers": 1}), tmp_path / "again", report=str) == "done"
    assert_same_run(tmp_path / "run", tmp_path / "again")


def test_what_is_left_out_does_not_count_in_the_mean(tmp_path, copy, teacher_folder):
    """Two utterances of which one cannot be read train like the other one alone."""
    found = []
    for name, samples in (("one", 1), ("two", 2)):
        write_corpus(
            tmp_path / name, shards=2, samples=samples, copies=("noise-0",), splits=("train",), lengths_s=(0.5, 0.5)
        )
        if samples == 2:
            for path in (tmp_path / name / "shards").glob("*.json"):
                told = json.loads(path.read_text())
                told["samples"][0] = json.loads((tmp_path / "one/shards" / path.name).read_text())["samples"][0]
                shutil.copy(tmp_path / "one/shards" / f"{path.stem}.tar", path.with_suffix(".tar"))
                told["bytes"] = max(told["bytes"], 10**7)
                told["samples"][1]["members"]["clean"]["offset"] += 10**6
                path.write_text(json.dumps(told))
        keys = {
            "preset": "cdm1",
            "views": {"kind": "none"},
            "student": {"layers": 2, "dropout": 0},
            "damaged_shards": 9,
            "workers": 0,
        }
        batch = {"utterances": 2 * samples, "lanes": 2}
        config = damaged_config(tmp_path / name, teacher_folder, batch=batch, crop_s=0.5, **{**keys, "steps": 2})
        loop.distil(config, tmp_path / f"run-{name}", report=str)
        found.append([line["loss"] for line in journal(tmp_path / f"run-{name}") if "loss" in line])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_targets_are_staged_beside_the_audio(made, tmp_path, teacher_folder, fetched):
    asked = TargetSettings(str(teacher_folder), layers=(3,), conditions=("noise", "phone", "room"), crop_s=0.5)
    compute_targets(made, tmp_path / "targets", asked, report=str)
    stream = staged_stream(made, tmp_path / "stage")
    stream.targets, stream.target_layers = str(tmp_path / "targets"), (3,)
    with open_corpus(made):
        object.__setattr__(stream.batching, "grid", TargetsReader(tmp_path / "targets").plan.grid)
    assert all(batch.target.any() for batch in stream)
    assert len(fetched) == 12
    assert len(list((tmp_path / "stage").glob("*.tar"))) == 12


@pytest.fixture(scope="module", name="server")
def running_server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.end()


@pytest.fixture(name="bucket")
def corpus_at_s3(server, made, monkeypatch):
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    for path in made.rglob("*"):
        if path.is_file():
            (Url("s3://bucket/staged") / str(path.relative_to(made))).put_file(path)
    return "s3://bucket/staged"


def tar_reads(server, since=0):
    return re.findall(r"GET \S*/staged/shards/(train-\d+)\.tar", server.log.read_text()[since:])


@pytest.mark.slow
def test_from_s3_a_sample_is_one_read_with_its_record(server, bucket, made):
    before = len(server.log.read_text())
    for views, reads in (("cdm1", 30), ("cdm2", 30)):
        staged = list(pairs(bucket, views=views, utterances=4, lanes=2, crop_s=0.5))
        here = list(pairs(made, views=views, utterances=4, lanes=2, crop_s=0.5))
        assert all(map(same, staged, here))
        assert len(tar_reads(server, before)) == reads, "30 utterances"
        before = len(server.log.read_text())


STREAM = """
import sys
from training.config.schema import Staging
from training.dataloader import loader
from training.stream import pairs

if __name__ == "__main__":
    stream = pairs(sys.argv[1], views="cdm2", utterances=4, lanes=2, crop_s=0.5, epochs=2)
    stream.stage = Staging(dir=sys.argv[2])
    print(sum(float(batch.student_wave.abs().sum()) for batch in loader(stream, workers=2)))
"""


@pytest.mark.slow
def test_from_s3_several_processes_of_a_node_fetch_each_shard_once(server, bucket, made, tmp_path):
    """Two streams with two workers each share the stage; what arrives is what a folder gives."""
    (tmp_path / "stream.py").write_text(STREAM)
    before = len(server.log.read_text())
    words = [sys.executable, tmp_path / "stream.py", bucket, tmp_path / "stage"]
    environment = {**os.environ, **server.settings, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)}
    running = [subprocess.Popen(words, cwd=HOUSE, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    heard = [float(process.communicate(timeout=300)[0]) for process in running]
    due = sum(
        float(batch.student_wave.abs().sum())
        for batch in pairs(made, views="cdm2", utterances=4, lanes=2, crop_s=0.5, epochs=2)
    )
    assert heard == [due, due]
    assert max(path.stat().st_size for path in made.glob("shards/train*.tar")) < 1 << 20, "a fetch is one read"
    assert sorted(tar_reads(server, before)) == [f"train-{number:06d}" for number in range(6)]


@pytest.mark.slow
def test_a_trainer_stages_from_s3(server, bucket, made, tmp_path, teacher_folder):
    keys = {"steps": 6, "log_every": 1}
    staged = config_of(bucket, teacher_folder, stage=str(tmp_path / "stage"), workers=1, **keys)
    assert loop.distil(staged, tmp_path / "there", report=str) == "done"
    assert loop.distil(config_of(made, teacher_folder, **keys), tmp_path / "here", report=str) == "done"
    assert_same_run(tmp_path / "there", tmp_path / "here")


def test_of_copies_that_nobody_reads_the_longest_unused_goes_and_room_that_is_just_enough_is_enough(
    made, tmp_path, fetched
):
    with open_corpus(made) as reader:
        first, second, third = reader.shards("train")[:3]
        stage = NodeCache(tmp_path / "stage", report=str)
        for entry, time_s in ((first, 1000), (second, 2000)):
            stage.handle(reader.tars, entry.name)
            os.utime(tmp_path / "stage" / f"{entry.sha256}.tar", (time_s, time_s))
        stage.close()
        stage = NodeCache(tmp_path / "stage", report=str)
        stage.most_bytes = first.bytes + max(second.bytes, third.bytes)
        stage.handle(reader.tars, first.name)  # it is read again, and so the newest
        stage.close()
        stage = NodeCache(tmp_path / "stage", report=str)
        stage.most_bytes = first.bytes + max(second.bytes, third.bytes)
        assert stage.handle(reader.tars, third.name) is not None
        stage.close()
        stage = NodeCache(tmp_path / "full", report=str)
        stage.most_bytes = third.bytes
        assert stage.handle(reader.tars, third.name) is not None
        stage.close()
    assert {path.stem for path in (tmp_path / "stage").glob("*.tar")} == {first.sha256, third.sha256}
    assert fetched == [first.name, second.name, third.name, third.name]


def test_a_shard_that_arrives_damaged_is_fetched_once_more(made, tmp_path, monkeypatch):
    copied, times = NodeCache.copied, []

    def damaged_at_first(self, source, stream, one):
        size, sha256 = copied(self, source, stream, one)
        times.append(one.name)
        return size, sha256 if len(times) > 1 else "0" * 64

    monkeypatch.setattr(NodeCache, "copied", damaged_at_first)
    with open_corpus(made) as reader:
        stage = NodeCache(tmp_path / "stage", report=str)
        assert stage.handle(reader.tars, reader.shards("train")[0].name) is not None
        stage.close()
    assert len(times) == 2


def test_a_stage_is_named_the_window_at_hand_and_the_next_across_epochs_and_none_after_the_last(
    made, tmp_path, monkeypatch
):
    named = []
    monkeypatch.setattr(NodeCache, "window", lambda _, shards: named.append([one.name for one in shards]))
    stream = staged_stream(made, tmp_path / "stage", epochs=2)
    list(stream)
    order = [
        list(window)
        for epoch in (0, 1)
        for window in windows(stream.shards, stream.batching, seed=stream.seed, epoch=epoch)
    ]
    assert named == [[*here, *after] for here, after in itertools.zip_longest(order, order[1:], fillvalue=())]


def descriptors_of(folder):
    """How many of this process's open files are below a folder, removed ones too."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of this listing itself
            found += str(link.readlink()).startswith(f"{folder}/")
    return found


def until(is_so):
    """Whether something comes to be; it is waited for as long as a slow machine may need."""
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)
    return is_so()


@pytest.fixture(name="train")
def training_shards(made):
    with open_corpus(made) as reader:
        yield reader.sources([entry.name for entry in reader.shards("train")])


@pytest.fixture(name="stage")
def stage_that_is_closed(tmp_path):
    stage = NodeCache(tmp_path / "far/stage", report=str)
    yield stage
    stage.close()
    if stage.thread is not None:
        stage.thread.join(20)
        assert not stage.thread.is_alive(), "it ends when the stage is closed"


def test_shards_of_a_window_are_fetched_before_they_are_read_and_held_until_the_next_window(
    train, stage, fetched, monkeypatch
):
    opened, tried = NodeCache.opened_handle, []
    monkeypatch.setattr(
        NodeCache, "opened_handle", lambda self, one, *, wait: tried.append(one.name) or opened(self, one, wait=wait)
    )
    stage.window(train[:2])
    assert until(lambda: len(stage.handles) == 2)
    assert fetched == [one.name for one in train[:2]], "in the order in which they are read"
    assert not stage.evict(), "both are held"
    stage.window([train[1], train[4]])
    assert until(lambda: {one.sha256 for one in (train[1], train[4])} == set(stage.handles))
    assert fetched == tried == [train[place].name for place in (0, 1, 4)], "what is held is not looked for again"
    assert stage.evict()
    assert not stage.evict()
    assert {path.stem for path in stage.folder.glob("*.tar")} == {train[1].sha256, train[4].sha256}


def test_a_shard_that_another_process_fetches_is_waited_for_after_all_others(tmp_path, train, stage, fetched):
    """The other process ends without it, and so it is fetched here."""
    other = NodeCache(tmp_path / "far/stage", report=str)
    with other.locked(train[0].sha256):
        stage.window(train[:3])
        assert until(lambda: len(stage.handles) == 2)
        assert fetched == [train[1].name, train[2].name]
    assert until(lambda: len(stage.handles) == 3)
    other.close()


def test_a_window_that_is_over_is_not_fetched_to_its_end(train, stage, monkeypatch):
    names, copied, begun, may_go_on = [], NodeCache.copied, threading.Event(), threading.Event()

    def slow(self, source, stream, one):
        names.append(one.name)
        begun.set()
        assert may_go_on.wait(20)
        return copied(self, source, stream, one)

    monkeypatch.setattr(NodeCache, "copied", slow)
    stage.window(train[:3])
    assert begun.wait(20)
    stage.window(train[3:4])
    may_go_on.set()
    assert until(lambda: train[3].sha256 in stage.handles)
    assert names == [train[0].name, train[3].name]
    may_go_on.clear()
    begun.clear()
    stage.window(train[4:])
    assert begun.wait(20)
    stage.close()
    may_go_on.set()
    stage.thread.join(20)
    assert not stage.thread.is_alive()
    assert names == [train[place].name for place in (0, 3, 4)], "nor is that of a stage that is closed"
    assert descriptors_of(stage.folder) == 0


def test_ahead_of_time_a_damaged_shard_is_remembered_and_a_failure_of_the_disk_is_not(train, stage, monkeypatch):
    copied, failures, names = NodeCache.copied, {train[0].name: "damaged", train[1].name: "a full network"}, []

    def fail(self, source, stream, one):
        names.append(one.name)
        found = copied(self, source, stream, one)
        if failures.get(one.name) == "damaged":
            return found[0], "0" * 64
        if failures.pop(one.name, None):
            raise OSError("for once")
        return found

    monkeypatch.setattr(NodeCache, "copied", fail)
    stage.window(train[:3])
    assert until(lambda: len(stage.handles) == 2)
    assert set(stage.failed) == {train[0].sha256}
    assert [names.count(one.name) for one in train[:3]] == [2, 2, 1], "a damaged one is fetched twice, and never again"
    with pytest.raises(DamagedShardError):
        stage.handle(*train[0])
    assert stage.handle(*train[1]) is not None
    stage.window(train[1:3])
    assert not stage.failed


def test_a_shard_is_held_by_one_descriptor_whoever_comes_for_it_and_none_is_left_open(tmp_path, train, fetched):
    stage = NodeCache(tmp_path / "stage", report=str)
    handle = stage.opened_handle(train[0], wait=True)
    assert stage.opened_handle(train[0], wait=False) == handle == stage.handle(*train[0])
    assert descriptors_of(stage.folder) == 1
    (tmp_path / "stage" / f"{train[1].sha256}.tar").write_bytes(b"half")
    assert stage.opened_copy(train[1]) is None
    assert not (tmp_path / "stage" / f"{train[1].sha256}.tar").exists(), "it is in the way"
    assert descriptors_of(stage.folder) == 1
    assert fetched == [train[0].name]
    stage.close()
    assert descriptors_of(stage.folder) == 0
    assert not stage.handles


def test_a_copy_that_is_removed_while_it_is_opened_is_opened_anew(train, stage, monkeypatch):
    """Between opening it and the lock another process removes it and fetches it again: what is read has a name."""
    stage.handle(*train[0])
    stage.window([])
    path = stage.folder / f"{train[0].sha256}.tar"
    flock, shared = fcntl.flock, []

    def removed_first(handle, kind):
        if kind == fcntl.LOCK_SH:
            shared.append(handle)
            if len(shared) == 1:
                content = path.read_bytes()
                path.unlink()
                path.write_bytes(content)
        flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    found = stage.opened_copy(train[0])
    assert os.fstat(found).st_ino == path.stat().st_ino
    assert len(shared) == 2
    os.close(found)


def test_a_copy_is_on_the_disk_before_it_has_its_name_and_room_is_counted_by_one_process_at_a_time(
    train, stage, monkeypatch
):
    events, fsync, locked = [], os.fsync, NodeCache.locked

    def synced(number):
        path = Path(f"/proc/self/fd/{number}").readlink()
        events.append((path.name, path.with_suffix(".tar").exists()))
        fsync(number)

    @contextlib.contextmanager
    def noted(self, name, *, wait=True):
        with locked(self, name, wait=wait):
            events.append(f"{name} begins")
            yield
        events.append(f"{name} ends")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(NodeCache, "locked", noted)
    stage.handle(*train[0])
    digest = train[0].sha256
    assert events == [f"{digest} begins", "room begins", "room ends", (f"{digest}.part", False), f"{digest} ends"]


def test_only_whoever_waits_for_a_shard_says_that_there_is_no_room(tmp_path, train):
    said = []
    stage = NodeCache(tmp_path / "stage", gigabytes=1e-9, report=said.append)
    assert stage.opened_handle(train[0], wait=False) is None
    assert stage.opened_handle(train[1], wait=True) is None
    assert stage.opened_handle(train[2], wait=True) is None
    assert said == [
        f"stage: {tmp_path / 'stage'} has no room for the shard {train[1].name}: read from its source, as others may be"
    ]
    stage.close()


def test_a_shard_of_several_pieces_is_one_copy_of_its_own_digest(train, stage, monkeypatch):
    monkeypatch.setattr(node_cache, "PIECE_BYTES", 1000)
    handle = stage.handle(*train[0])
    assert hashlib.sha256(os.pread(handle, 1 << 24, 0)).hexdigest() == train[0].sha256
    assert [path.name for path in stage.folder.glob("*.tar")] == [f"{train[0].sha256}.tar"]


def test_what_a_stage_cannot_be_written_to_for_has_a_reason_though_the_system_gives_none(tmp_path, monkeypatch):
    def fail(*_):
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(UsageError, match=r"cannot be written to \(BlockingIOError\): name a folder"):
        NodeCache(tmp_path / "stage", report=str)
