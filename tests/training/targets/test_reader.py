"""A teacher's outputs, kept: training on them is training with the teacher."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from manifests.errors import BadDocumentError, LockedError, UsageError
from manifests.io.digest import bytes_digest, digest
from manifests.io.json_yaml import read_json, write_json
from manifests.io.lock import writing
from tests.training.conftest import write_corpus, write_teacher
from tests.training.test_loop import assert_same_run, config_of, journal
from training import loop, setup
from training.cli import targets_command
from training.config.model import StudentShape
from training.config.schema import Crops
from training.data.joined_corpus import open_corpus
from training.data.sampler import Batching, Crop, CropGrid, cropped
from training.data.tar_reader import DamagedShardError
from training.precompute import (
    OtherTargetsError,
    Stretch,
    TargetSettings,
    TooLargeError,
    check_conditions,
    check_space,
    compute_targets,
    is_finished,
    like_lengths,
    outputs,
    target_plan,
)
from training.runs.distributed import Ranks
from training.runs.folder import OtherConfigError, SourceChangedError
from training.stream import Sources, pairs
from training.targets.reader import (
    NoTargetsError,
    TargetsMisfitError,
    TargetsReader,
    check_layers,
    check_split,
    check_targets,
)
from training.teacher import load_teacher, weights_digest

ASKED = {"layers": (1, 3), "conditions": ("noise", "phone", "room"), "crop_s": 0.9, "crop_sets": 2}


@pytest.fixture(scope="module", name="made")
def corpus_teacher_targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    write_corpus(folder / "corpus", shards=3, samples=6, lengths_s=(0.5, 2.0))
    write_teacher(folder / "teacher")
    asked = TargetSettings(str(folder / "teacher"), **ASKED)
    assert compute_targets(folder / "corpus", folder / "targets", asked, report=str) is None
    return folder


def config(made, **keys):
    teacher = {"name": str(made / "teacher"), "layers": [1, 3]}
    return config_of(made / "corpus", made / "teacher", **{"teacher": teacher, "log_every": 1, "steps": 8, **keys})


def numbers(run, *names):
    return {name: [line[name] for line in journal(run) if name in line] for name in names}


def test_losses_are_those_with_the_teacher_but_for_rounding(tmp_path, made):
    """Two epochs with other crops, validations and a critic; the teacher is not read, not even its files."""
    assert loop.distil(config(made, crops={"sets": 2}), tmp_path / "taught", report=str) == "done"
    (made / "teacher").rename(made / "away")
    try:
        assert loop.distil(config(made, targets=str(made / "targets")), tmp_path / "kept", report=str) == "done"
    finally:
        (made / "away").rename(made / "teacher")
    assert max(numbers(tmp_path / "kept", "epoch")["epoch"]) > 0
    names = ("loss", "l1", "cosine", "val_loss", "val_noise")
    taught, kept = (numbers(tmp_path / name, *names) for name in ("taught", "kept"))
    for name in names:
        assert kept[name] == pytest.approx(taught[name], rel=1e-4)
    assert taught["loss"] != kept["loss"], "float16 rounds"
    assert numbers(tmp_path / "kept", "teacher_audio_s")["teacher_audio_s"][-1] == 0
    assert numbers(tmp_path / "kept", "audio_s") == numbers(tmp_path / "taught", "audio_s")


def test_a_critic_that_compares_views_reads_kept_layers(tmp_path, made):
    keys = {"preset": "cdm2-dat-paper", "adversary": {"layers": [1]}, "student": {"layers": 2}, "steps": 3}
    assert loop.distil(config(made, crops={"sets": 2}, **keys), tmp_path / "taught", report=str) == "done"
    assert loop.distil(config(made, targets=str(made / "targets"), **keys), tmp_path / "kept", report=str) == "done"
    taught, kept = (numbers(tmp_path / name, "loss", "domain_loss") for name in ("taught", "kept"))
    assert kept["loss"] == pytest.approx(taught["loss"], rel=1e-4)
    assert kept["domain_loss"] == pytest.approx(taught["domain_loss"], rel=1e-3)
    keys["adversary"] = {"layers": [2]}
    with pytest.raises(TargetsMisfitError, match="are of layers 1, 3, this run has layer 2"):
        loop.distil(config(made, targets=str(made / "targets"), **keys), tmp_path / "other", report=str)


def test_a_run_on_targets_stops_and_goes_on_bit_for_bit_with_any_workers(tmp_path, made):
    straight = config(made, targets=str(made / "targets"))
    assert loop.distil(straight, tmp_path / "straight", report=str) == "done"

    class Stop(loop.StopSignals):
        def __enter__(self):
            super().__enter__()
            self.received = signal.SIGTERM
            return self

    stopped, workers = loop.StopSignals, 0
    for outcome in ("preempted", "preempted", "done"):
        loop.StopSignals = Stop if outcome == "preempted" else stopped
        workers = 1 - workers
        try:
            assert (
                loop.distil(straight.model_copy(update={"workers": workers}), tmp_path / "run", report=str) == outcome
            )
        finally:
            loop.StopSignals = stopped
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_a_target_is_what_the_teacher_gives_for_that_stretch(made):
    teacher = load_teacher(made / "teacher")
    stream = pairs(made / "corpus", views="cdm2", utterances=4, lanes=2, crop_s=0.9, epochs=3)
    with TargetsReader(made / "targets") as targets, open_corpus(made / "corpus") as reader:
        object.__setattr__(stream.batching, "grid", targets.plan.grid)
        stream.target_layers = (3, 1)
        stored = list(stream.micro_batches(Sources(reader, targets)))
        for batch, decoded in zip(stored, stream.micro_batches(Sources(reader)), strict=True):
            assert batch.keys == decoded.keys
            assert batch.teacher_wave.numel() == 0
            assert torch.equal(batch.student_wave, decoded.student_wave)
            expected, num_frames = teacher.layers(decoded.teacher_wave, decoded.num_samples, only=(3, 1))
            for row, frames in enumerate(num_frames.tolist()):
                found = batch.target[row, :, :frames].float()
                assert not batch.target[row, :, frames:].any()
                assert torch.allclose(found, expected[row, :, :frames], rtol=2e-3, atol=2e-3)


def test_targets_are_computed_in_the_precision_that_their_plan_says(tmp_path, made):
    """Rounded to 8 bits of mantissa in every product: off by more than float16's rounding, and by less than a few per cent."""
    settings = TargetSettings(
        str(made / "teacher"), layers=(3,), splits=("dev",), crop_s=0.9, crop_sets=1, precision="bfloat16"
    )
    assert compute_targets(made / "corpus", tmp_path / "rough", settings, report=str) is None
    teacher = load_teacher(made / "teacher")
    stream = pairs(made / "corpus", split="dev", views="none", utterances=1, crop_s=0.9)
    with TargetsReader(tmp_path / "rough") as targets, open_corpus(made / "corpus") as reader:
        assert targets.plan.precision == "bfloat16"
        object.__setattr__(stream.batching, "grid", targets.plan.grid)
        stream.target_layers = (3,)
        stored = list(stream.micro_batches(Sources(reader, targets)))
        assert stored
        for batch, decoded in zip(stored, stream.micro_batches(Sources(reader)), strict=True):
            exact, _ = teacher.layers(decoded.teacher_wave, decoded.num_samples, only=(3,))
            off = (batch.target.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
            assert 1e-3 < float(off) < 0.05


def test_targets_of_whole_utterances_are_refused_in_one_line(tmp_path, made):
    """An older Stillroom could make them; they are another method."""
    shutil.copytree(made / "targets", tmp_path / "targets")
    document = read_json(tmp_path / "targets/targets.json", needed="test")
    document["plan"]["context"] = "whole"
    write_json(tmp_path / "targets/targets.json", document)
    with pytest.raises(
        BadDocumentError, match=r"plan.context: targets made with `--context whole` .* compute them again"
    ) as caught:
        loop.distil(config(made, targets=str(tmp_path / "targets")), tmp_path / "run", report=str)
    assert "\n" not in str(caught.value)


def test_planned_crops_stand_on_the_grid_and_come_back(made):
    with open_corpus(made / "corpus") as reader:
        name = reader.shards("train")[0].name
        for sets, epochs in ((1, (0, 1, 5)), (3, (1, 4, 7)), (None, (2, 2))):
            batching = Batching(lanes=1, crop_samples=3200, grid=CropGrid(320, sets=sets, seed=9))
            for sample in reader.samples(name):
                places = {cropped(name, sample, batching, seed=4, epoch=epoch).start for epoch in epochs}
                assert len(places) == 1
                assert all(start % 320 == 0 and start + 3200 <= sample.num_samples for start in places)
        batching = Batching(lanes=1, crop_samples=3200, grid=CropGrid(320, sets=40))
        sample = max(reader.samples(name), key=lambda sample: sample.num_samples)
        assert len({cropped(name, sample, batching, seed=seed, epoch=3).start for seed in range(9)}) == 1
        assert len({cropped(name, sample, batching, seed=0, epoch=epoch).start for epoch in range(40)}) > 5


def test_what_was_stopped_goes_on_at_its_shard_and_ends_in_the_same_bytes(tmp_path, made):
    asked = TargetSettings(str(made / "teacher"), **ASKED)
    shards = tmp_path / "out" / "shards"

    def stop(_module, _given):
        """While the teacher hears something of the third shard."""
        if len(list(shards.glob("*.json"))) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(stop)
    try:
        assert compute_targets(made / "corpus", tmp_path / "out", asked, report=str) is signal.SIGTERM
    finally:
        handle.remove()
    before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert len(before) == 6, "three shards of four with their indexes, and no half of the last"
    with pytest.raises(NoTargetsError, match=r"has no targets\.json"):
        loop.distil(config(made, targets=str(tmp_path / "out")), tmp_path / "run", report=str)
    assert compute_targets(made / "corpus", tmp_path / "out", asked, report=str) is None
    assert {name: (shards / name).stat().st_mtime_ns for name in before} == before, "they were not computed again"
    files = {path.relative_to(made / "targets") for path in (made / "targets").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for path in files - {file for file in files if file.name == "provenance.json"}:
        assert (tmp_path / "out" / path).read_bytes() == (made / "targets" / path).read_bytes(), path


def test_slices_end_in_the_same(tmp_path, made):
    said = []
    asked = TargetSettings(str(made / "teacher"), **ASKED)
    for number in (2, 1, 3):
        compute_targets(made / "corpus", tmp_path / "out", asked, part=(number, 3), report=said.append)
    assert any("are left to other slices" in line for line in said)
    ours, theirs = (
        json.loads((folder / "targets.json").read_text()) for folder in (tmp_path / "out", made / "targets")
    )
    assert ours == theirs


def test_a_plain_reader_can_read_them(made):
    with tarfile.open(made / "targets/shards/train-000000.tar") as tar:
        member = tar.getmembers()[0]
        array = np.load(io.BytesIO(tar.extractfile(member).read()), allow_pickle=False)
    assert array.dtype == np.float16
    assert array.shape[0] == 2
    assert array.shape[2] == 24
    assert member.name.endswith(".npy")


@pytest.mark.parametrize(
    ("change", "keys", "error", "message"),
    [
        ({}, {"teacher": {"layers": [2]}}, TargetsMisfitError, r"are of layers 1, 3, this run has layer 2"),
        ({}, {"crop_s": 0.8}, TargetsMisfitError, "crops of 14400 samples, this run has crop_s of 12800"),
        ({}, {"crops": {"sets": 3}}, UsageError, "sets=3 .*configured, those of the targets .* sets=2"),
        (
            {"corpus_sha256": "0" * 64},
            {},
            TargetsMisfitError,
            "of the corpus tiny of SHA-256 000000000000, this run has tiny",
        ),
        (
            {"weights_sha256": "1" * 64},
            {},
            TargetsMisfitError,
            "of the teacher teacher with weights of SHA-256 111111111111",
        ),
        ({"conditions": ["noise"]}, {}, UsageError, "none of condition phone, which the teacher gets in views cdm2"),
    ],
)
def test_targets_of_something_else_are_one_line(tmp_path, made, change, keys, error, message):
    shutil.copytree(made / "targets", tmp_path / "targets")
    told = read_json(tmp_path / "targets/targets.json", needed="test")
    told["plan"] |= change
    write_json(tmp_path / "targets/targets.json", told)
    teacher = {"name": str(made / "teacher"), "layers": [1, 3], **keys.pop("teacher", {})}
    with pytest.raises(error, match=message) as caught:
        loop.distil(
            config(made, targets=str(tmp_path / "targets"), teacher=teacher, **keys), tmp_path / "run", report=str
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_teacher_of_the_same_name_is_noticed_where_its_weights_are(tmp_path, made):
    write_teacher(tmp_path / "teacher", seed=7)
    teacher = {"name": str(tmp_path / "teacher"), "layers": [1, 3]}
    with pytest.raises(TargetsMisfitError, match="with weights of SHA-256"):
        loop.distil(config(made, targets=str(made / "targets"), teacher=teacher), tmp_path / "run", report=str)
    shutil.rmtree(tmp_path / "teacher")
    kept = config(made, targets=str(made / "targets"), teacher=teacher, steps=1)
    assert loop.distil(kept, tmp_path / "run", report=str) == "done", "the teacher need not be on this machine"


def test_a_run_does_not_change_between_the_two_ways(tmp_path, made):
    kept = config(made, targets=str(made / "targets"), steps=2)
    assert loop.distil(kept, tmp_path / "run", report=str) == "done"
    shutil.copytree(made / "targets", tmp_path / "moved")
    assert (
        loop.distil(kept.model_copy(update={"targets": str(tmp_path / "moved")}), tmp_path / "run", report=str)
        == "done"
    )
    other = config(made, crops={"sets": 3}, steps=2)
    with pytest.raises(OtherConfigError, match=r"crops\.sets is 2, not 3"):
        loop.distil(other, tmp_path / "run", report=str)
    told = read_json(tmp_path / "moved/targets.json", needed="test")
    told["splits"]["dev"][0]["bytes"] += 1
    write_json(tmp_path / "moved/targets.json", told)
    with pytest.raises(SourceChangedError, match="the targets"):
        loop.distil(kept.model_copy(update={"targets": str(tmp_path / "moved")}), tmp_path / "run", report=str)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tar, _: os.truncate(tar, 4096), "ends at byte"),
        (lambda tar, _: tar.write_bytes(b"\0" * tar.stat().st_size), r"is not a \.npy of float16"),
        (lambda _, told: told["samples"][0].update(targets=[]), "there is no target of"),
        (
            lambda _, told: [one.update(size=one["size"] + 2) for one in told["samples"][0]["targets"]],
            "the index gives it",
        ),
    ],
)
def test_damaged_targets_are_named(tmp_path, made, damage, message):
    shutil.copytree(made / "targets", tmp_path / "targets")
    for path in (tmp_path / "targets/shards").glob("train*.tar"):
        told = read_json(path.with_suffix(".json"), needed="test")
        damage(path, told)
        write_json(path.with_suffix(".json"), told)
    with pytest.raises(DamagedShardError, match=message):
        loop.distil(config(made, targets=str(tmp_path / "targets")), tmp_path / "run", report=str)


def test_what_float16_cannot_hold_is_named(tmp_path, made):
    folder = write_teacher(tmp_path / "large", first=True)
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    weights["encoder.transformer.layers.2.feed_forward.output_dense.weight"] *= 1e7
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    with pytest.raises(TooLargeError, match="layer 3 of the teacher gives numbers beyond 65504"):
        compute_targets(made / "corpus", tmp_path / "out", TargetSettings(str(folder), **ASKED), report=str)


def test_a_folder_with_something_else_is_left_alone(tmp_path, made):
    asked = TargetSettings(str(made / "teacher"), **ASKED)
    with pytest.raises(OtherTargetsError, match=r"holds corpus\.json and no begun\.json"):
        compute_targets(made / "corpus", made / "corpus", asked, report=str)
    with pytest.raises(OtherTargetsError, match=r"holds targets whose layers is \[1, 3\], not \[1\]"):
        compute_targets(made / "corpus", made / "targets", asked._replace(layers=(1,)), report=str)
    for wrong, message in (
        ({"conditions": ("far",)}, "has no copies of 'far'; it has noise, phone, room"),
        ({"layers": (1, 9)}, "has layers 1 to 3, not 9"),
        ({"splits": ("test",)}, "no utterances in a split 'test'"),
        ({"crop_s": 0.01}, "hold no frame"),
    ):
        with pytest.raises(Exception, match=message):
            compute_targets(made / "corpus", tmp_path / "out", asked._replace(**wrong), report=str)
        assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_said_before_hours_are_spent(tmp_path, made, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(UsageError, match=r"take about 0\.0 GB, 0\.0 GB are free"):
        compute_targets(made / "corpus", tmp_path / "out", TargetSettings(str(made / "teacher")), report=str)


def test_the_command_reads_its_words(tmp_path, made):
    words = [str(made / "corpus"), str(tmp_path / "out"), "--teacher", str(made / "teacher"), "--layers", "3,1"]
    done = CliRunner().invoke(
        targets_command, [*words, "--split", "dev", "--conditions", "noise,room", "--crop-s", "0.5"]
    )
    assert done.exit_code == 0, done.output
    told = read_json(tmp_path / "out/targets.json", needed="test")
    assert told["plan"]["layers"] == [3, 1]
    assert told["plan"]["conditions"] == ["noise", "room"]
    assert list(told["splits"]) == ["dev"]
    for wrong in (["--layers", "four"], ["--slice", "4/3"], ["--crops", "0"]):
        assert CliRunner().invoke(targets_command, [*words, *wrong]).exit_code == 2


def test_a_split_or_condition_that_was_not_computed_is_named_with_what_computes_it(tmp_path, made):
    """The student's conditions are not the teacher's; validation needs targets of its own split."""
    settings = TargetSettings(str(made / "teacher"), **{**ASKED, "conditions": ("noise",)}, splits=("train",))
    said = []
    assert compute_targets(made / "corpus", tmp_path / "part", settings, report=said.append) is None
    size = sum(path.stat().st_size for path in (tmp_path / "part/shards").glob("*.tar"))
    assert said[-1] == (
        f"{tmp_path / 'part'}: targets of train, {size / 1e9:.2f} GB; train with `targets: {tmp_path / 'part'}`"
    )
    views = {"kind": "cdm2", "teacher": {"conditions": ["noise"]}}
    with pytest.raises(UsageError) as caught:
        loop.distil(config(made, targets=str(tmp_path / "part"), views=views), tmp_path / "run", report=str)
    assert str(caught.value) == (
        f"targets: {tmp_path / 'part'} have none of split dev: run `stillroom targets` with --split dev too"
    )
    for kind, named in (("cdm2", "phone"), ("same", "phone")):
        views = {"kind": kind, "student": {"conditions": ["noise"]}}
        with pytest.raises(UsageError) as caught:
            loop.distil(
                config(made, targets=str(tmp_path / "part"), views=views, dev="none"), tmp_path / "run", report=str
            )
        assert str(caught.value) == (
            f"targets: {tmp_path / 'part'} have none of condition {named}, which the teacher gets in views {kind}: compute them with "
            "--conditions noise,phone,room, or set views.teacher.conditions"
        )
    views = {"kind": "same", "clean_share": 1.0}
    found = config(
        made, targets=str(tmp_path / "part"), views=views, dev="none", preset="cdm1", adversary=None, steps=1
    )
    assert loop.distil(found, tmp_path / "run", report=str) == "done", "clean speech alone needs no copies"
    assert (
        compute_targets(made / "corpus", tmp_path / "part", settings._replace(splits=("dev",)), report=said.append)
        is None
    )
    assert said[-1].startswith(f"{tmp_path / 'part'}: targets of train, dev, "), "what was computed before stays listed"


def test_targets_of_another_teacher_are_known_by_its_name_where_weights_are_not_here(made):
    with TargetsReader(made / "targets") as targets, open_corpus(made / "corpus") as reader:
        own = {"name": "teacher", "weights_sha256": targets.plan.weights_sha256, "crop_samples": 14400}
        for keys in ({}, {"weights_sha256": None}, {"name": "renamed"}):
            check_targets(targets, reader, **{**own, **keys})
        where = f"targets: {made / 'targets'} are of"
        for keys, line in (
            ({"weights_sha256": None, "name": "hubert_base"}, "the teacher teacher, this run has hubert_base: compute"),
            ({"weights_sha256": "2" * 64, "name": "moved"},
             f"the teacher teacher with weights of SHA-256 {targets.plan.weights_sha256[:12]}, this run has moved with weights of SHA-256 222222222222: "),
            ({"crop_samples": 14399}, "crops of 14400 samples, this run has crop_s of 14399 samples: "),
            ({"crop_samples": 14401}, "crops of 14400 samples, this run has crop_s of 14401 samples: "),
        ):  # fmt: skip
            with pytest.raises(TargetsMisfitError) as caught:
                check_targets(targets, reader, **{**own, **keys})
            assert str(caught.value).startswith(f"{where} {line}")
        with pytest.raises(TargetsMisfitError, match=r"are of layers 1, 3, this run has layer 2: "):
            check_layers(targets, (3, 2, 9))
        other = SimpleNamespace(digest="4" * 64, manifest=SimpleNamespace(name="other"))
        with pytest.raises(TargetsMisfitError) as caught:
            check_targets(targets, other, **own)
        assert str(caught.value).startswith(
            f"{where} the corpus tiny of SHA-256 {targets.plan.corpus_sha256[:12]}, this run has other of SHA-256 444444444444: "
        )
        assert [targets.plan.has(copy) for copy in ("clean", "noise-0", "room-3", "far-0")] == [True, True, True, False]


def test_the_folder_of_targets_says_where_they_are_from(made):
    teacher = load_teacher(made / "teacher")
    record = read_json(made / "targets/provenance.json", needed="test")
    with TargetsReader(made / "targets") as targets, open_corpus(made / "corpus") as reader:
        assert (record["corpus"], record["teacher"], record["plan_sha256"]) == ("tiny", "teacher", digest(targets.plan))
        for split in ("train", "dev"):
            entries = targets.manifest.splits[split]
            assert [(one.name, one.samples, one.seconds) for one in entries] == [
                (one.name, one.samples, one.seconds) for one in reader.shards(split)
            ]
            for entry in entries:
                content = (made / f"targets/shards/{entry.name}.tar").read_bytes()
                assert (entry.bytes, entry.sha256) == (len(content), bytes_digest(content))
        stored = targets.teacher()
        assert (stored.name, stored.digest, stored.trained_on) == ("teacher", teacher.digest, teacher.trained_on)
        again = stored.weights()
        assert (again.name, again.digest, again.trained_on) == ("teacher", teacher.digest, teacher.trained_on)
        student = setup.make_student(StudentShape(), stored, target_layers=(1, 3), seed=0)
        layers = [module.trunk.encoder.transformer.layers for module in (student, teacher)]
        assert torch.equal(layers[0][1].final_layer_norm.weight, layers[1][1].final_layer_norm.weight)
        assert torch.equal(layers[0][0].attention.q_proj.weight, layers[1][0].attention.q_proj.weight)
        assert targets.places_of("train-000001")
        targets.hold(["train-000001", "train-000002"])
        assert list(targets.indexes) == ["train-000001"]
        targets.hold(["train-000000"])
        assert not targets.indexes


def test_a_plan_has_every_setting_and_refuses_what_has_no_meaning(made):
    teacher = load_teacher(made / "teacher")
    asked = TargetSettings(
        str(made / "teacher"),
        layers=(3, 1),
        conditions=("room", "noise", "room"),
        crop_s=0.5,
        crop_sets=4,
        precision="bfloat16",
    )
    with open_corpus(made / "corpus") as reader:
        plan = target_plan(reader, teacher, asked)
        assert (plan.layers, plan.conditions, plan.crop_samples, plan.crop_sets) == ((3, 1), ("noise", "room"), 8000, 4)
        assert (plan.precision, plan.teacher_sha256, plan.corpus_sha256) == ("bfloat16", teacher.digest, reader.digest)
        assert plan.weights_sha256 == weights_digest(str(made / "teacher"))
        with pytest.raises(UsageError, match=r"^--layers: 3, 1, 3 names a layer twice$"):
            target_plan(reader, teacher, asked._replace(layers=(3, 1, 3)))
        receptive = teacher.config.receptive_samples / 16000
        target_plan(reader, teacher, asked._replace(crop_s=receptive))
        with pytest.raises(UsageError, match=r"^--crop-s: 0.02 s hold no frame of teacher$"):
            target_plan(reader, teacher, asked._replace(crop_s=0.02))
        check_conditions(reader, ("train", "dev"), ("room", "noise"))
        with pytest.raises(UsageError) as caught:
            check_conditions(reader, ("train", "dev"), ("room", "far", "music"))
        assert str(caught.value) == (
            f"--conditions: {made / 'corpus'}, split train, has no copies of 'far'; it has noise, phone, room"
        )
        thin = SimpleNamespace(url="thin", conditions=lambda split: ["noise"] if split == "train" else [])
        with pytest.raises(UsageError, match=r"^--conditions: thin, split dev, has no copies of 'noise'; it has none$"):
            check_conditions(thin, ("train", "dev"), ("noise",))


@pytest.mark.parametrize(("sets", "is_refused"), [(1, True), (2, False)])
def test_room_for_targets_is_counted_by_hand(tmp_path, made, monkeypatch, sets, is_refused):
    """7200 s in two shards at 50 frames a second, 2 layers of 24 numbers of 2 bytes, clean and three conditions, 2 % more."""
    size = 7200 * 50 * 2 * 24 * 2 * 4 * 1.02
    with open_corpus(made / "corpus") as reader:
        settings = TargetSettings(str(made / "teacher"), **{**ASKED, "crop_sets": sets})
        plan = target_plan(reader, load_teacher(made / "teacher"), settings)
        entries = [
            entry.model_copy(update={"seconds": seconds})
            for entry, seconds in zip(reader.shards("train"), (1800.0, 5400.0), strict=False)
        ]
    free, said = [size + 1], []
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, free[0]))
    check_space(tmp_path, plan, [], report=said.append)
    check_space(tmp_path, plan, entries, report=said.append)
    more = ", 2 times for long utterances" if sets == 2 else ""
    assert said == [f"2 shards, 2.00 h of speech: about {size / 1e9:.2f} GB of targets at most{more}"]
    free[0] = size - 1
    with (
        pytest.raises(UsageError, match=r"targets of 2.0 h take about 0.1 GB, 0.1 GB are free")
        if is_refused
        else contextlib.nullcontext()
    ):
        check_space(tmp_path, plan, entries, report=said.append)
    assert len(said) == (1 if is_refused else 2)


def stretch_of(length, key, *, copy="clean", start=0):
    return Stretch(SimpleNamespace(length=length, start=start, sample=SimpleNamespace(key=key)), copy)


def test_stretches_are_computed_the_longest_first_in_batches_of_64_s():
    rate_hz = 10
    every = [stretch_of(200, f"a{number}") for number in range(4)] + [
        stretch_of(150, "b"),
        stretch_of(320, "c"),
        stretch_of(320, "d"),
    ]
    batches = [[one.crop.sample.key for one in batch] for batch in like_lengths(every[::-1], rate_hz)]
    assert batches == [["c", "d"], ["a0", "a1", "a2"], ["a3", "b"]]
    assert list(like_lengths([], rate_hz)) == []


class GivesInfinity:
    """A teacher whose layers 5 and 7 give one number in the padding, and one in a frame, that float16 cannot hold."""

    def __init__(self, row, layer, frame):
        self.place = row, layer, frame

    def layers(self, wave, lengths, *, only):
        given = torch.zeros(len(lengths), len(only), 4, 2)
        given[self.place] = 1e6
        return given, torch.tensor([4, 2])


@pytest.mark.parametrize(("place", "line"), [((0, 1, 3), "layer 7"), ((1, 0, 1), "layer 5"), ((1, 1, 2), None)])
def test_what_float16_cannot_hold_is_named_by_layer_utterance_and_copy(made, place, line):
    with open_corpus(made / "corpus") as reader:
        entry = reader.shards("train")[0]
        first, second, *_ = reader.samples(entry.name)
        batch = [
            Stretch(Crop(entry.name, sample, 0, 100), copy) for sample, copy in ((first, "clean"), (second, "room-0"))
        ]
        plan = SimpleNamespace(layers=(5, 7), precision="float32")
        computed = outputs(reader, batch, plan, teacher=GivesInfinity(*place), device=torch.device("cpu"))
        if line is None:
            assert [tuple(one.shape) for one in computed] == [(2, 4, 2), (2, 2, 2)]
            return
        which = f"{first.key}.clean" if place[0] == 0 else f"{second.key}.room-0"
        with pytest.raises(
            TooLargeError, match=rf"^{line} of the teacher gives numbers beyond 65504, or none, for {which}:"
        ):
            list(computed)


def test_a_shard_that_is_computed_again_has_no_index_while_it_is(tmp_path, made):
    """Its tar is another one by then: an index of the old one beside it would pass for finished."""
    shutil.copytree(made / "targets", tmp_path / "targets")
    index = tmp_path / "targets/shards/train-000001.json"
    os.truncate(index.with_suffix(".tar"), 1024)
    seen = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: seen.append(index.exists()))
    try:
        assert compute_targets(
            made / "corpus", tmp_path / "targets", TargetSettings(str(made / "teacher"), **ASKED), report=str
        ) is None  # fmt: skip
    finally:
        handle.remove()
    assert set(seen) == {False}
    assert index.read_bytes() == (made / "targets/shards/train-000001.json").read_bytes()


def test_slices_are_locked_by_themselves_and_say_what_they_leave(tmp_path, made):
    asked, said = TargetSettings(str(made / "teacher"), **ASKED), []
    out = tmp_path / "out"
    with writing(out / ".slice-2-of-3"):
        compute_targets(made / "corpus", out, asked, part=(1, 3), report=said.append)
        assert said[-1] == f"{out}: 2 of 3 shards of split train are left to other slices"
        with pytest.raises(LockedError):
            compute_targets(made / "corpus", out, asked, part=(2, 3), report=said.append)
    assert sorted(path.stem for path in (out / "shards").glob("*.json")) == ["dev-000000", "train-000000"]


def test_a_shard_that_a_split_gained_is_missed():
    targets = SimpleNamespace(
        url="targets", manifest=SimpleNamespace(splits={"train": [SimpleNamespace(name="train-0")]})
    )
    check_split(targets, split="train", shards=["train-0"])
    with pytest.raises(UsageError, match="none of split train"):
        check_split(targets, split="train", shards=["train-0", "train-1"])


def test_the_seed_of_crops_goes_from_the_settings_to_the_plan_and_from_there_to_a_run(made, monkeypatch):
    teacher = load_teacher(made / "teacher")
    with open_corpus(made / "corpus") as reader:
        plan = target_plan(reader, teacher, TargetSettings(str(made / "teacher"), crop_seed=7, crop_sets=3))
        assert (plan.crop_seed, plan.grid) == (7, CropGrid(teacher.config.hop_samples, sets=3, seed=7))
        monkeypatch.setattr(setup, "check_targets", lambda *_, **__: None)
        monkeypatch.setattr(setup, "check_split", lambda *_, **__: None)
        targets = SimpleNamespace(url="targets", plan=plan)
        found = setup.with_targets(config(made, views={"kind": "none"}), targets, reader, rate_hz=16000)
    assert found.crops == Crops(sets=3, seed=7)


def test_targets_of_a_shard_that_were_cut_off_are_not_finished(tmp_path, made):
    shutil.copytree(made / "targets", tmp_path / "targets")
    with TargetsReader(made / "targets") as reader:
        entry, plan = reader.manifest.splits["train"][0], reader.plan
    assert is_finished(tmp_path / "targets", entry, plan)
    assert not is_finished(tmp_path / "targets", entry, plan.model_copy(update={"crop_seed": 7}))
    os.truncate(tmp_path / "targets" / "shards" / f"{entry.name}.tar", 1024)
    assert not is_finished(tmp_path / "targets", entry, plan)


def test_a_folder_of_targets_is_named_without_its_last_stroke_and_closes_what_it_opened(made, monkeypatch):
    closed = []
    with TargetsReader(f"{made / 'targets'}/") as targets:
        monkeypatch.setattr(targets.tars, "close", lambda: closed.append(True))
        assert targets.url == str(made / "targets")
        assert [(one.tars, one.name) for one in targets.sources(["train-000001", "elsewhere", "dev-000000"])] == [
            (targets.tars, "train-000001"), (targets.tars, "dev-000000"),
        ]  # fmt: skip
        assert closed == []
    assert closed == [True]


def test_the_index_of_a_shard_is_read_once_while_it_is_held(made, monkeypatch):
    with TargetsReader(made / "targets") as targets:
        read = []
        document = targets.document
        monkeypatch.setattr(targets, "document", lambda relative: read.append(relative) or document(relative))
        first = targets.places_of("dev-000000")
        assert targets.places_of("dev-000000") is first
        targets.hold(["train-000000", "dev-000000"])
        targets.places_of("dev-000000")
        assert read == ["shards/dev-000000.json"]
        index = read_json(made / "targets/shards/dev-000000.json", needed="test")
        listed = {
            (one["key"], target["name"], target["start"]): (target["length"], target["offset"], target["size"])
            for one in index["samples"]
            for target in one["targets"]
        }
        assert {key: tuple(place) for key, place in first.items()} == listed
        targets.hold([])
        targets.places_of("dev-000000")
        assert len(read) == 2


def test_what_is_wrong_with_a_target_is_named_by_utterance_and_copy(made):
    with TargetsReader(made / "targets") as targets, open_corpus(made / "corpus") as reader:
        name = "dev-000000"
        sample = max(reader.samples(name), key=lambda sample: sample.num_samples)
        (length, offset, size), key, start = min(
            (place, key, start)
            for (key, copy, start), place in targets.places_of(name).items()
            if copy == "room-0" and key == sample.key
        )
        crop = Crop(name, sample, start, length)
        frames = targets.plan.encoder.num_frames(length)
        where = f"{made / 'targets'}/shards/{name}.tar: {sample.key}.room-0"
        assert targets.read(crop, "room-0", [1, 0]).shape == (2, frames, 24)
        places = targets.places_of(name)
        for change, copy, line in (
            ({}, "room-1", f"there is no target of {length} samples from {start} on"),
            ({"length": length - 1}, "room-0", f"there is no target of {length} samples from {start} on"),
            (
                {"size": size - 2},
                "room-0",
                rf"the index gives it {size - 2} bytes, expected (2, {frames}, 24) numbers of float16",
            ),
            ({"offset": offset + 1}, "room-0", f"is not a .npy of float16 of shape (2, {frames}, 24)"),
        ):
            targets.indexes[name] = {**places, (key, "room-0", start): places[key, "room-0", start]._replace(**change)}
            with pytest.raises(DamagedShardError) as caught:
                targets.read(crop, copy, [0, 1])
            assert line in str(caught.value)
            assert where.replace("room-0", copy) in str(caught.value)


def test_a_batch_of_targets_is_padded_with_noughts_and_has_the_layers_in_their_order(made):
    crops = [SimpleNamespace(length=length) for length in (400, 1040, 720)]
    plan = SimpleNamespace(
        layers=(5, 2, 9), encoder=SimpleNamespace(num_frames=lambda samples: samples // 320, encoder_embed_dim=1)
    )

    def read(crop, copy, rows):
        number = float(copy.partition("-")[2])
        return np.array([[[number + row]] * (crop.length // 320) for row in rows], dtype=np.float16)

    given = SimpleNamespace(plan=plan, read=read)
    found = TargetsReader.batch(given, crops, ["a-10", "a-20", "a-30"], layers=(9, 5))
    assert found.dtype == torch.float16
    assert found[..., 0].tolist() == [
        [[12, 0, 0], [10, 0, 0]], [[22, 22, 22], [20, 20, 20]], [[32, 32, 0], [30, 30, 0]],
    ]  # fmt: skip
    assert TargetsReader.batch(given, [], [], layers=(9, 5)).shape == (0, 2, 0, 1)
    with pytest.raises(ValueError, match="not in tuple"):
        TargetsReader.batch(given, crops, ["a-1"] * 3, layers=(1,))


def test_a_stored_teacher_at_a_url_has_no_weights_to_begin_with(made):
    with TargetsReader(made / "targets") as targets:
        stored = targets.teacher()
        assert (stored.sample_rate, stored.num_layers, stored.num_features) == (16000, 3, 24)
        assert all(one.is_meta for one in stored.trunk.parameters()), "they take no memory"
        with pytest.raises(AssertionError, match="no weights to run"):
            stored.layers(torch.zeros(1, 400), torch.tensor([400]))
        stored.targets_url = "memory://bucket/targets"
        with pytest.raises(UsageError) as caught:
            setup.make_student(StudentShape(), stored, target_layers=(1, 3), seed=0)
        assert str(caught.value) == (
            "student.init: teacher, and the targets are at memory://bucket/targets: copy its folder teacher/ to a disk and name that in "
            "student.init"
        )
        student = setup.make_student(StudentShape(init="random"), stored, target_layers=(1, 3), seed=0)
        assert student.config.encoder_num_layers == 2


def test_teachers_are_compared_by_their_weights_where_both_are_known(made):
    """By name where the targets, or this machine, do not know them."""
    with TargetsReader(made / "targets") as targets, open_corpus(made / "corpus") as reader:
        own = {"weights_sha256": targets.plan.weights_sha256, "crop_samples": 14400}
        plan = targets.plan
        targets.plan = plan.model_copy(update={"weights_sha256": None})
        check_targets(targets, reader, name="teacher", **own)
        with pytest.raises(TargetsMisfitError, match="are of the teacher teacher, this run has other: "):
            check_targets(targets, reader, name="other", **own)
        targets.plan = plan.model_copy(update={"layers": (5, 2)})
        check_layers(targets, (2, 5))
        with pytest.raises(TargetsMisfitError, match=r"are of layers 5, 2, this run has layer 1: "):
            check_layers(targets, (2, 1, 3))
        check_split(targets, split="dev", shards=["dev-000000"])
        with pytest.raises(UsageError, match="have none of split test: run `stillroom targets` with --split test too"):
            check_split(targets, split="test", shards=["test-000000"])


@pytest.mark.parametrize(("key", "is_frozen"), [("targets", False), (None, True)])
def test_a_teacher_is_compiled_where_it_is_run(tmp_path, made, monkeypatch, key, is_frozen):
    compiled = []
    monkeypatch.setattr(setup, "check_first_batch", lambda *_, **__: None)
    monkeypatch.setattr(
        setup,
        "compile_layers",
        lambda teacher, student, *, precision, device, report: compiled.append((teacher, student, precision, device)),
    )
    (tmp_path / "run").mkdir()
    keys = {"compile": True, "precision": "bfloat16", "dev": "none", **({key: str(made / "targets")} if key else {})}
    with contextlib.ExitStack() as stack:
        ready = setup.set_up(config(made, **keys), tmp_path / "run", ranks=Ranks(), report=str, stack=stack)
        assert ready.log_facts(str)["runs_teacher"] == is_frozen
    assert compiled == [
        (ready.models.teacher if is_frozen else None, ready.models.student, "bfloat16", torch.device("cpu"))
    ]


def test_targets_lack_what_the_teacher_gets_and_no_more(made):
    """Conditions of its own, or all of the split; copies of the student alone are not looked for."""
    with TargetsReader(made / "targets") as targets, open_corpus(made / "corpus") as reader:
        targets.plan = targets.plan.model_copy(update={"conditions": ("noise",)})
        for views, missing in (
            ({"kind": "cdm2"}, "phone"), ({"kind": "same"}, "phone"), ({"kind": "cdm1"}, None), ({"kind": "none"}, None),
            ({"kind": "cdm2", "teacher": {"conditions": ["noise"]}}, None), ({"kind": "cdm2", "teacher": {"conditions": ["room", "noise"]}}, "room"),
            ({"kind": "cdm2", "clean_share": 0.99}, "phone"), ({"kind": "cdm2", "clean_share": 1.0}, None),
        ):  # fmt: skip
            given = config(made, preset="distilhubert", views=views)
            with (
                contextlib.nullcontext()
                if missing is None
                else pytest.raises(UsageError, match=f"none of condition {missing}, which")
            ):
                assert setup.with_targets(given, targets, reader, rate_hz=16000).crops == Crops(sets=2, seed=0)
