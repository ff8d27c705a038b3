"""What `stillroom targets` computes, in which order, and what it leaves in its folder; see also `targets/test_reader.py`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from manifests.corpus.shard_index import IndexedSample, ShardEntry
from manifests.errors import BadDocumentError, UsageError
from manifests.io.digest import digest
from manifests.io.json_yaml import read_json
from tests.training.conftest import write_teacher
from training import precompute
from training.data.joined_corpus import open_corpus
from training.data.sampler import CropGrid
from training.precompute import (
    OtherTargetsError,
    Stretch,
    TargetSettings,
    begin,
    check_space,
    compute_targets,
    finish,
    finished_entry,
    is_finished,
    like_lengths,
    stretches,
    target_plan,
    trained_on_text,
    write_shard,
)
from training.runs.distributed import Ranks
from training.targets.schema import Targets
from training.teacher import load_teacher

META = torch.device("meta")
SETTINGS = {"layers": (1, 3), "conditions": ("noise",), "crop_s": 0.9}


def entry_of(name, *, samples=1, seconds=1.0):
    return ShardEntry(name=name, samples=samples, seconds=seconds, bytes=10, sha256="0" * 64)


@pytest.fixture(name="parts")
def parts_of_the_command(monkeypatch):
    """`parts(splits)`: what the command's parts are given, with a corpus of these splits and nothing finished but `done`."""
    events = []

    def made(splits, *, done=(), stop_at=None):
        reader = SimpleNamespace(has_split=lambda name: bool(splits.get(name)), shards=lambda name: splits[name])
        note = events.append
        plan = SimpleNamespace(name="plan")

        class Progress:
            def __init__(self, what, *, total, unit):
                note(("progress", what, total, unit))

            def __enter__(self):
                return self

            def __exit__(self, *_):
                note("end of progress")

            def advance(self, seconds):
                note(("advanced", seconds))

        def shard(out, reader, split, entry, plan, *, teacher, device, stop):
            if entry.name == stop_at:
                stop.request()
                raise precompute.StoppedError
            assert teacher.weight.device == device == META
            note(("shard", split, entry.name))

        stand_ins = {
            "alone": lambda: Ranks(device=META),
            "open_corpus": lambda _: contextlib.nullcontext(reader),
            "writing": lambda folder: note(("lock", folder.name)) or contextlib.nullcontext(),
            "check_conditions": lambda reader, splits, conditions: note(("conditions", splits, conditions)),
            "load_teacher": lambda name: torch.nn.Linear(1, 1),
            "target_plan": lambda *_: plan,
            "begin": lambda *_: note("begun"),
            "is_finished": lambda out, entry, plan: entry.name in done,
            "check_space": lambda out, plan, entries, *, report: note(("space", [one.name for one in entries])),
            "write_shard": shard,
            "finish": lambda out, reader, plan, *, splits, report: note(("finish", splits)),
            "Progress": Progress,
        }
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(precompute, name, stand_in)
        return events

    return made


SPLITS = {
    "train": [entry_of("t0", seconds=10.25), entry_of("t1", seconds=20.5), entry_of("t2", seconds=40.25)],
    "dev": [entry_of("d0", seconds=80.0)],
    "test": [entry_of("x0")],
}


def test_shards_that_are_left_are_counted_in_seconds_and_computed_in_their_order(tmp_path, parts):
    events = parts(SPLITS, done={"t1"})
    settings = TargetSettings("nano", conditions=("room", "noise"))
    assert compute_targets("corpus", tmp_path / "out", settings, report=str) is None
    assert events == [
        ("conditions", ("train", "dev"), ("room", "noise")), ("lock", "out"), "begun", ("space", ["t0", "t2", "d0"]),
        ("progress", "targets", 130, "s of speech"),
        ("shard", "train", "t0"), ("advanced", 10.25), ("shard", "train", "t2"), ("advanced", 40.25), ("shard", "dev", "d0"),
        ("advanced", 80.0), "end of progress", ("finish", ("train", "dev")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("there", "requested", "computed"),
    [
        (("train", "dev", "test"), ("test", "train"), ("test", "train")),
        (("train", "test"), (), ("train",)),
        (("dev", "test"), (), ("dev",)),
    ],
)
def test_splits_are_those_named_or_train_and_dev_as_far_as_they_are_there(tmp_path, parts, there, requested, computed):
    events = parts({name: SPLITS[name] for name in there})
    compute_targets("corpus", tmp_path / "out", TargetSettings("nano", splits=requested), report=str)
    assert events[-1] == ("finish", computed)
    assert [event[1] for event in events if event[0] == "shard"] == [name for name in computed for _ in SPLITS[name]]


def test_a_corpus_without_train_and_dev_is_searched_for_train(tmp_path, parts):
    """Its reader says which splits there are."""
    parts({"test": SPLITS["test"]})
    with pytest.raises(KeyError, match="train"):
        compute_targets("corpus", tmp_path / "out", TargetSettings("nano"), report=str)


@pytest.mark.parametrize(("part", "names"), [((1, 3), ["t0", "d0"]), ((2, 3), ["t1"]), ((3, 3), ["t2"])])
def test_a_slice_takes_every_nth_shard_of_all_splits_and_a_stop_is_no_end(tmp_path, parts, part, names):
    events = parts(SPLITS)
    compute_targets("corpus", tmp_path / "out", TargetSettings("nano"), part=part, report=str)
    assert [event[2] for event in events if event[0] == "shard"] == names
    assert [event for event in events if event[0] == "lock"] == [("lock", f".slice-{part[0]}-of-3")]
    events.clear()
    parts(SPLITS, stop_at=names[-1])
    stopped = compute_targets("corpus", tmp_path / "out", TargetSettings("nano"), part=part, report=str)
    assert stopped.name == "SIGTERM"
    assert [event[2] for event in events if event[0] == "shard"] == names[:-1]
    assert events[-1] == "end of progress", "it is not said to be finished"


def test_the_teachers_training_audio_is_a_line_each_in_one_order():
    names = [f"{number:016x}" for number in range(40)]
    teacher = SimpleNamespace(trained_on=frozenset(names))
    assert trained_on_text(teacher) == "".join(f"{name}\n" for name in names)


@pytest.fixture(name="plan_of", scope="module")
def plans(corpus, tmp_path_factory):
    """(plan, teacher, reader) of a teacher that was trained on several utterances."""
    folder = write_teacher(tmp_path_factory.mktemp("precompute") / "mine")
    (folder / "heard.txt").write_text("".join(f"{number:016x}\n" for number in range(40)))
    teacher = load_teacher(folder)
    with open_corpus(corpus) as reader:
        yield target_plan(reader, teacher, TargetSettings(str(folder), **SETTINGS)), teacher, reader


def test_a_plan_has_the_shape_that_the_outputs_have_and_not_that_of_pruned_weights(monkeypatch, plan_of):
    """Of a teacher whose heads were pruned: its outputs are those of the whole shape, from which a student is made."""
    _, teacher, reader = plan_of
    monkeypatch.setattr(type(teacher.config), "whole", lambda self: self.model_copy(update={"encoder_dropout": 0.25}))
    plan = target_plan(reader, teacher, TargetSettings("nano", **SETTINGS))
    assert plan.encoder == teacher.config.model_copy(update={"encoder_dropout": 0.25})
    assert (plan.corpus, plan.teacher, plan.crop_samples) == ("tiny", "mine", 14_400)


def test_a_folder_begins_with_the_teacher_and_its_plan_comes_last(tmp_path, monkeypatch, plan_of):
    """So a start that was cut off begins anew; locks of slices and a teacher alone are no targets of something else."""
    plan, teacher, _ = plan_of
    (tmp_path / ".slice-1-of-2").mkdir()
    write_json = precompute.write_json

    def cut_off(path, data):
        if path.name == "begun.json":
            raise InterruptedError
        write_json(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(precompute, "write_json", cut_off)
        with pytest.raises(InterruptedError):
            begin(tmp_path, plan, teacher)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".slice-1-of-2", "teacher"]
    begin(tmp_path, plan, teacher)
    heard = (tmp_path / "teacher/heard.txt").read_bytes()
    assert heard.decode().split() == sorted(teacher.trained_on)
    assert read_json(tmp_path / "teacher/card.json", needed="test") == {
        "name": "mine", "heard_sha256": hashlib.sha256(heard).hexdigest(),
    }  # fmt: skip
    assert plan.heard_sha256 == hashlib.sha256(heard).hexdigest()
    weights = safetensors.torch.load_file(tmp_path / "teacher/weights.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in teacher.trunk.state_dict().items())
    again = load_teacher(tmp_path / "teacher")
    assert (again.digest, again.trained_on, again.config) == (teacher.digest, teacher.trained_on, teacher.config)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    begin(tmp_path, plan, None)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    other = plan.model_copy(update={"crop_sets": 9, "crop_seed": 5})
    with pytest.raises(OtherTargetsError) as caught:
        begin(tmp_path, other, None)
    assert str(caught.value) == (
        f"{tmp_path} holds targets whose crop_sets is 1, not 9: choose another folder, or remove this one"
    )


@pytest.mark.parametrize("name", ["teacher", "shards"])
def test_a_folder_of_targets_that_leads_elsewhere_is_refused_before_anything_is_written(tmp_path, plan_of, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=rf"out/{name} is a link"):
        begin(tmp_path / "out", *plan_of[:2])
    assert not any((tmp_path / "elsewhere").iterdir())


class Gives:
    """A teacher whose layer k of an utterance's frame f is k + f / 100 everywhere."""

    sample_rate = 16000

    def __init__(self, config):
        self.config = config

    def layers(self, wave, lengths, *, only):
        frames = [self.config.num_frames(int(length)) for length in lengths]
        numbers = torch.tensor(only)[:, None] + torch.arange(max(frames)) / 100
        return numbers[None, :, :, None].expand(len(lengths), -1, -1, 24), torch.tensor(frames)


def test_a_shard_of_targets_is_indexed_as_that_of_the_audio(tmp_path, plan_of):
    plan, teacher, reader = plan_of
    (entry,) = reader.shards("dev")
    stop = SimpleNamespace(received=None)
    given = {"teacher": Gives(teacher.config), "device": torch.device("cpu")}
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path, reader, "dev", entry, plan, **given, stop=stop)
    path = tmp_path / "shards/dev-000000.json"
    index = read_json(path, needed="test")
    content = path.with_suffix(".tar").read_bytes()
    samples = reader.samples("dev-000000")
    assert {key: value for key, value in index.items() if key != "samples"} == {
        "schema": "stillroom/target-shard/1", "name": "dev-000000", "split": "dev", "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "plan_sha256": digest(plan), "seconds": entry.seconds,
    }  # fmt: skip
    assert [one["key"] for one in index["samples"]] == [sample.key for sample in samples]
    for sample, one in zip(samples, index["samples"], strict=True):
        assert sorted(target["name"] for target in one["targets"]) == ["clean", "noise-0"]
        for target in one["targets"]:
            assert target["length"] == min(sample.num_samples, 14_400)
            assert (target["start"] % 320, target["start"] + target["length"] <= sample.num_samples) == (0, True)
            name = content[target["offset"] - 512 :][:100].rstrip(b"\0").decode()
            assert name == f"{sample.key}.{target['name']}.{target['start']}.npy"
    assert is_finished(tmp_path, entry, plan)
    assert finished_entry(tmp_path, entry.model_copy(update={"bytes": 1, "sha256": "1" * 64})) == ShardEntry(
        name="dev-000000", samples=len(samples), seconds=entry.seconds, bytes=len(content), sha256=index["sha256"]
    )
    stop.received = "a signal"
    with pytest.raises(precompute.StoppedError):
        write_shard(tmp_path, reader, "dev", entry, plan, **given, stop=stop)
    assert not is_finished(tmp_path, entry, plan), "of a shard that is computed again nothing is left"
    for here in (path, path.with_suffix(".tar")):
        here.write_text("{}")
        for gone in (path, path.with_suffix(".tar")):
            if gone != here:
                gone.unlink(missing_ok=True)
        assert not is_finished(tmp_path, entry, plan), "an index or a tar alone is not finished"
    path.write_text("{")
    with pytest.raises(BadDocumentError, match=r"dev-000000\.json.*remove it, its shard is computed again") as caught:
        is_finished(tmp_path, entry, plan)
    assert "\n" not in str(caught.value)


def indexed(key, num_samples, *copies):
    member = {"offset": 0, "size": 1}
    return IndexedSample.model_validate(
        {"key": key, "num_samples": num_samples, "members": dict.fromkeys(("clean", *copies), member)}
    )


def test_the_teacher_is_given_each_crop_of_the_clean_utterance_and_of_copies_of_the_conditions_once():
    """A short utterance is one crop whatever the sets; of a longer one those of all sets, without what is drawn twice."""
    plan = SimpleNamespace(
        crop_samples=40, crop_sets=30, conditions=("noise", "double"), grid=CropGrid(hop_samples=10, sets=30, seed=3)
    )
    samples = [indexed("short", 35, "noise-0", "room-0", "noisex-0"), indexed("long", 65, "double-1", "noise-2")]
    found = list(stretches("train-7", samples, plan))
    assert {one.crop.shard for one in found} == {"train-7"}
    assert [(one.crop.sample.key, one.copy, one.crop.start, one.crop.length) for one in found] == [
        ("short", "clean", 0, 35), ("short", "noise-0", 0, 35),
        *(("long", copy, start, 40) for copy in ("clean", "double-1", "noise-2") for start in (0, 10, 20)),
    ]  # fmt: skip


def test_stretches_of_one_length_are_by_utterance_copy_and_start():
    """So that a shard's bytes do not depend on the order in which they were listed."""
    every = [
        Stretch(SimpleNamespace(length=5, start=start, sample=SimpleNamespace(key=key)), copy)
        for key in "ab"
        for copy in ("clean", "noise-0")
        for start in (9, 10)
    ]
    (batch,) = like_lengths(every[::-1], 16000)
    assert batch == every


def test_all_splits_that_are_whole_are_listed_whatever_was_requested(tmp_path, monkeypatch, plan_of):
    """Shards without an utterance have no targets, nor has a split of nothing else."""
    plan, _, _ = plan_of
    splits = {
        "train": [entry_of("t0"), entry_of("t1", samples=0)], "dev": [entry_of("d0"), entry_of("d1")], "none": [],
        "void": [entry_of("v0", samples=0)], "test": [entry_of("x0"), entry_of("x1"), entry_of("x2")],
    }  # fmt: skip
    finished = {"t0", "d0", "d1", "x1"}
    monkeypatch.setattr(precompute, "is_finished", lambda out, entry, plan: entry.name in finished)
    monkeypatch.setattr(
        precompute, "finished_entry", lambda out, entry: entry.model_copy(update={"bytes": 4_000_000_000, "samples": 7})
    )
    reader, said = SimpleNamespace(manifest=SimpleNamespace(splits=splits)), []
    finish(tmp_path, reader, plan, splits=("train", "test"), report=said.append)
    assert said == [f"{tmp_path}: 2 of 3 shards of split test are left to other slices"]
    assert not (tmp_path / "targets.json").exists()
    finish(tmp_path, reader, plan, splits=("train",), report=said.append)
    document = json.loads((tmp_path / "targets.json").read_text())
    assert {split: [one["name"] for one in entries] for split, entries in document["splits"].items()} == {
        "train": ["t0"], "dev": ["d0", "d1"],
    }  # fmt: skip
    assert Targets.read(tmp_path / "targets.json", needed="test").plan == plan
    assert said[1] == f"{tmp_path}: targets of train, dev, 12.00 GB; train with `targets: {tmp_path}`"
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert (record["corpus"], record["teacher"], record["plan_sha256"]) == ("tiny", "mine", digest(plan))


def test_the_room_that_is_looked_for_is_that_of_the_folders_disk(tmp_path, monkeypatch, plan_of):
    calls = []
    monkeypatch.setattr("shutil.disk_usage", lambda path: calls.append(path) or SimpleNamespace(free=10**12))
    check_space(tmp_path, plan_of[0], [entry_of("t0")], report=str)
    assert calls == [tmp_path]
