"""What a run does around its updates: validation, the domain probe, crops, precision, ranks and where it stops."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from manifests.corpus.shard_index import IndexedSample, Member
from manifests.errors import MissingFileError
from manifests.io.json_yaml import write_yaml
from tests.oracles.training_steps import distances, predicted
from tests.training.conftest import write_corpus, write_teacher
from training import loop
from training.config.load import resolved
from training.config.schema import Adversary
from training.data.joined_corpus import open_corpus
from training.data.sampler import Batching, CropGrid, cropped, filled_batching
from training.data.view_keys import Views
from training.data.views import Copy, drawn_pair
from training.runs.checkpoint import load_run, read_tensors, restore_module
from training.setup import make_student
from training.stream import PairStream, pairs
from training.teacher import load_teacher
from training.validation.domain_probe import DomainProbe, LabelledFeatures, fitted_predictions, probe_accuracy
from training.validation.utterances import FixedUtterances
from training.validation.validator import Validator

COPIES = ("noise-0", "noise-1", "phone-0", "room-0")
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="made")
def corpus_and_teacher(tmp_path_factory):
    """Utterances of a dev split that are no longer than a crop, so that a test can read them whole."""
    folder = tmp_path_factory.mktemp("wiring")
    write_corpus(folder / "corpus", shards=5, samples=5, copies=COPIES, lengths_s=(0.3, 0.8))
    write_teacher(folder / "teacher", first=True)
    return folder


def config_of(made, **keys):
    teacher = {"name": str(made / "teacher"), "layers": [1, 3], **keys.pop("teacher", {})}
    return resolved(
        {
            "corpus": str(made / "corpus"), "crop_s": 0.8, "batch": {"utterances": 8, "lanes": 2}, "steps": 4, "log_every": 1,
            "validate_utterances": 4, "validate_every": 2, "workers": 0, "seed": 3, "views": {"kind": "cdm2", "clean_share": 0.1},
            "optimiser": {"learning_rate": 1e-3, "clip": 1.0}, **keys, "teacher": teacher,
        },
        where="test",
    )  # fmt: skip


def lines_of(run):
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def decoded(corpus, shard, sample, name):
    """One member of a sample, cut out of its tar by hand."""
    member = sample.members[name]
    with (corpus / "shards" / f"{shard}.tar").open("rb") as stream:
        stream.seek(member.offset)
        wave, _ = soundfile.read(io.BytesIO(stream.read(member.size)), dtype="float32")
    return torch.from_numpy(wave)


def test_validation_is_without_dropout_and_against_the_clean_teacher(tmp_path, made):
    """By hand, an utterance at a time: no padding, no fixed, the student as its checkpoint says."""
    config = config_of(
        made, student={"layers": 2, "dropout": 0.5}, loss={"l1": 0.5, "cosine": 2.0}, teacher={"standardise": True}
    )
    assert loop.distil(config, tmp_path / "run", report=str) == "done"
    teacher = load_teacher(made / "teacher")
    student = make_student(config.student, teacher, target_layers=(1, 3), seed=config.seed)
    restore_module(student, read_tensors(max((tmp_path / "run/checkpoints").glob("*.safetensors"))), prefix="student")
    student.eval()
    with open_corpus(made / "corpus") as reader:
        fixed = FixedUtterances(reader, split="dev", utterances=4, crop_samples=12800)
        crops = [crop for batch in fixed.batches for crop in batch]
    assert len(crops) == 4
    found = {}
    with torch.no_grad():
        for name in ("clean", "noise-0", "phone-0", "room-0"):
            sums, frames = 0.0, 0
            for crop in crops:
                clean, wave = (
                    decoded(made / "corpus", crop.shard, crop.sample, copy)[None] for copy in ("clean", name)
                )
                length = torch.tensor([wave.shape[1]])
                targets, num_frames = teacher.layers(clean, length, only=(1, 3))
                layers = student(wave, length).layers
                l1, cosine = distances(predicted(student, layers, config), targets, num_frames.tolist(), config)
                sums, frames = sums + float(0.5 * l1 + 2.0 * cosine), frames + int(num_frames)
            found[f"val_{name.partition('-')[0]}"] = sums / frames
    last = next(line for line in lines_of(tmp_path / "run") if line["step"] == 4 and "val_loss" in line)
    assert {key: last[key] for key in found} == pytest.approx(found, rel=1e-5)
    assert last["val_loss"] == pytest.approx(sum(found.values()) / 4, rel=1e-5)
    assert [line["step"] for line in lines_of(tmp_path / "run") if "val_loss" in line] == [2, 4]


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(tmp_path, made):
    """A learning rate that is far too high: the first validation is not the worst, nor the last the best."""
    keys = {"optimiser": {"learning_rate": 0.3, "warmup_share": 0.9, "clip": 100.0}, "steps": 6, "validate_every": 1}
    assert loop.distil(config_of(made, **keys), tmp_path / "run", report=str) == "done"
    losses = {line["step"]: line["val_loss"] for line in lines_of(tmp_path / "run") if "val_loss" in line}
    best = min(losses, key=losses.get)
    assert best != 6
    assert load_run(tmp_path / "run", checkpoint="best").facts["steps"] == best
    (path,) = (tmp_path / "run/best").glob("*.safetensors")
    assert all(name.startswith("student.") for name in read_tensors(path)), "the student alone"
    assert load_run(tmp_path / "run").facts["steps"] == 6


def test_a_probe_is_tested_on_rows_that_it_was_not_fitted_to():
    """Random labels are learnt by heart from 40 rows of 60 features, which does not help on others."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(240, 60, generator=generator), torch.randint(2, (240,), generator=generator)
    fit, others = LabelledFeatures(features[:40], labels[:40]), LabelledFeatures(features[40:], labels[40:])
    assert probe_accuracy(fit, fit, classes=2, seed=0).accuracy == 1
    assert probe_accuracy(fit, others, classes=2, seed=0).accuracy < 0.65


def test_the_domain_probe_is_tested_on_held_out_utterances(made):
    """Its accuracy is that of a classifier fitted to one set of utterances and tested on the other."""
    teacher = load_teacher(made / "teacher")
    config = config_of(made)
    student = make_student(config.student, teacher, target_layers=(1, 3), seed=1)
    with open_corpus(made / "corpus") as reader:
        sets = [FixedUtterances(reader, split=split, utterances=5, crop_samples=8000) for split in ("train", "dev")]
        accuracies = []
        for fit, held_out in (sets, sets[::-1]):
            probe = DomainProbe(Adversary(), layers=(1,), views=Views(kind="cdm2"), fit=fit, held_out=held_out, seed=3)
            learnt, tested = (probe.features(these, student, teacher, device=CPU) for these in (fit, held_out))
            predictions = fitted_predictions(learnt, tested.features, classes=4, seed=3)
            shares = [float((predictions == tested.labels)[tested.labels == one].float().mean()) for one in range(4)]
            found = probe.accuracy(student, teacher, device=CPU)
            assert found.accuracy == pytest.approx(np.mean(shares))
            assert found.majority == 1 / 4
            accuracies.append(found.accuracy)
        assert accuracies[0] != accuracies[1]


@pytest.mark.parametrize("splits", [("train", "dev"), ("train",)])
def test_the_domain_probe_of_a_run_shares_no_utterance_between_its_sets(tmp_path, made, splits):
    write_corpus(tmp_path / "corpus", shards=1, samples=9, copies=COPIES, splits=splits)
    config = config_of(made, corpus=str(tmp_path / "corpus"), validate_utterances=6, adversary={})
    teacher = load_teacher(made / "teacher")
    student = make_student(config.student, teacher, target_layers=(1, 3), seed=1)
    batching = Batching(lanes=2, crop_samples=12800, lane_utterances=4)
    with open_corpus(config.corpus) as reader:
        probe = Validator(
            config, reader, student, teacher, batching=batching, targets=None, layers=(1, 3), device=CPU, report=str
        ).probe  # fmt: skip
        fit, held_out = (
            {crop.sample.key: crop.shard.partition("-")[0] for batch in fixed.batches for crop in batch}
            for fixed in (probe.fit, probe.held_out)
        )
    assert len(fit) == len(held_out) == (6 if len(splits) == 2 else 4)
    assert not fit.keys() & held_out.keys()
    assert set(fit.values()) == {"train"}
    assert set(held_out.values()) == {splits[-1]}


@pytest.mark.parametrize("damaged_shards", [0, 1])
def test_a_validation_that_cannot_be_read_ends_the_run_or_is_reported(tmp_path, made, damaged_shards):
    """With `damaged_shards` the utterances that cannot be read when it begins are left out; later ones make a warning."""
    write_corpus(tmp_path / "corpus", shards=1, samples=6, copies=COPIES)
    config = config_of(
        made, corpus=str(tmp_path / "corpus"), damaged_shards=damaged_shards, validate_utterances=6, adversary={}
    )
    teacher = load_teacher(made / "teacher")
    student = make_student(config.student, teacher, target_layers=(1, 3), seed=1)
    batching, said = Batching(lanes=2, crop_samples=12800, lane_utterances=4, grid=CropGrid(320, sets=1, seed=3)), []
    path = tmp_path / "corpus/shards/dev-000000.tar"
    if damaged_shards:  # the record of the last utterance stays, its copies are gone
        with open_corpus(config.corpus) as reader:
            last = max(reader.samples("dev-000000"), key=lambda sample: sample.span[0])
        os.truncate(path, last.members["room-0"].offset + 10)
    with open_corpus(config.corpus) as reader:
        validator = Validator(
            config, reader, student, teacher, (1, 3), batching=batching, targets=None, device=CPU, report=said.append
        )
        assert sum(map(len, validator.utterances.batches)) == 6 - damaged_shards
        found = validator.measure(2)
        assert (found["domain_fresh_majority"], said) == (1 / 4, [])
        assert found["val_loss"] > 0
        again = validator.probe.accuracy(student, teacher, device=CPU)
        assert (found["domain_fresh"], found["domain_fresh_majority"]) == again
        crops = [crop for batch in (*validator.utterances.batches, *validator.probe.fit.batches) for crop in batch]
        assert all(crop.start % 320 == 0 for crop in crops)
        reader.close()
        path.unlink()
        if not damaged_shards:
            with pytest.raises(MissingFileError, match=r"dev-000000\.tar"):
                validator.measure(4)
            return
        warning = validator.measure(4)
    assert list(warning) == ["warning"]
    assert said == [f"step 4 is not validated: {warning['warning']}"]
    assert "dev-000000.tar" in warning["warning"]


def test_without_a_dev_split_that_is_named(made):
    config = config_of(made, dev="test", adversary={})
    teacher = load_teacher(made / "teacher")
    student = make_student(config.student, teacher, target_layers=(1, 3), seed=1)
    batching, said = Batching(lanes=2, crop_samples=12800, lane_utterances=4), []
    with open_corpus(config.corpus) as reader:
        validator = Validator(
            config, reader, student, teacher, (1, 3), batching=batching, targets=None, device=CPU, report=said.append
        )
    assert not validator.has_losses
    assert said == [
        f"{made / 'corpus'} has no split 'test': trained without validation, and no best checkpoint is written"
    ]
    assert (validator.probe.seed, validator.probe.announcement()) == (3, (
        "before the first step: can a new classifier name the domain (condition) from layer 2 of the untrained student? It is fitted on 4 "
        "utterances and tested on 4 others, each in 4 copies"
    ))  # fmt: skip


def test_the_domain_probe_is_given_the_student_without_dropout(made):
    config = config_of(made, student={"layers": 2, "dropout": 0.5})
    teacher = load_teacher(made / "teacher")
    student = make_student(config.student, teacher, target_layers=(1, 3), seed=1).train()
    with open_corpus(made / "corpus") as reader:
        fixed = FixedUtterances(reader, split="dev", utterances=3, crop_samples=8000)
        probe = DomainProbe(Adversary(), layers=(2,), views=Views(kind="cdm2"), fit=fixed, held_out=fixed, seed=0)
        rows = probe.features(fixed, student, teacher, device=CPU)
        assert student.training
        student.eval()
        wave, num_samples = fixed.waves(fixed.batches[0], "clean")
        with torch.no_grad():
            hidden, num_frames = student(wave, num_samples)[0], [student.config.num_frames(int(n)) for n in num_samples]
    for row, frames in enumerate(num_frames):
        mean = hidden[row, :frames].mean(dim=0)
        torch.testing.assert_close(rows.features[row, : len(mean)], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [None, CropGrid(hop_samples=10, sets=None)])
def test_every_place_of_a_crop_is_drawn_alike_from_the_first_to_the_last(grid):
    """An utterance of 45 samples and crops of 5 (or, with a hop of 10, of 4): 41 places, or 0, 10, 20, 30, 40."""
    batching = Batching(lanes=1, crop_samples=5, lane_utterances=1, grid=grid)
    sample = IndexedSample(key="utt", num_samples=45, members={"clean": Member(offset=0, size=1)})
    starts = Counter(cropped("train-000000", sample, batching, seed=1, epoch=epoch).start for epoch in range(4100))
    places = range(41) if grid is None else range(0, 41, 10)
    assert sorted(starts) == list(places)
    expected = 4100 / len(places)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in starts.values())


def test_a_crop_is_the_stretch_that_it_says(made):
    """Both views of each pair are cut from the waves by hand, at the place that the order names."""
    corpus = made / "corpus"
    views = Views(kind="cdm2", clean_share=0.3)
    stream = pairs(corpus, views=views, utterances=4, lanes=2, crop_s=0.25, seed=5, epochs=2)
    with open_corpus(corpus) as reader:
        crops = {
            (batch.cursor, lane): batch.lanes[lane]
            for batch in stream.batches_from(reader, stream.cursor)
            for lane in (0, 1)
        }
    moved = 0
    epochs = set()
    for batch in stream:
        epochs.add(batch.cursor.epoch)
        for row, crop in enumerate(crops[batch.cursor, batch.lane]):
            every = [Copy(name) for name in COPIES]
            drawn = drawn_pair(views, every, seed=5, epoch=batch.cursor.epoch, key=crop.sample.key)
            assert (batch.teacher_copies[row], batch.student_copies[row]) == drawn[:2]
            for wave, copies in (
                (batch.teacher_wave, batch.teacher_copies),
                (batch.student_wave, batch.student_copies),
            ):
                whole = decoded(corpus, crop.shard, crop.sample, copies[row])
                assert torch.equal(wave[row, : crop.length], whole[crop.start : crop.start + crop.length])
                assert not wave[row, crop.length :].any()
            moved += crop.start > 0
    assert moved > 10
    assert epochs == {0, 1}


def test_a_stream_names_the_family_of_the_students_copy(made):
    batching = Batching(lanes=1, crop_samples=4000, lane_utterances=5)
    stream = PairStream(
        made / "corpus", split="train", views=Views(kind="cdm2"), batching=batching, seed=2, families=True
    )
    family = {"noise-0": "noise", "noise-1": "noise", "phone-0": "codec", "room-0": "room"}
    found = [
        (copy, name)
        for batch in stream
        for copy, name in zip(batch.student_copies, batch.student_families, strict=True)
    ]
    assert found == [(copy, family[copy]) for copy, _ in found]
    assert {name for _, name in found} == {"noise", "codec", "room"}


def test_the_size_of_a_batch_is_that_of_all_its_lanes(made):
    by_count = filled_batching(seconds=None, utterances=24, lanes=4, crop_s=1.0, rate_hz=16000)
    assert (by_count.lane_utterances, by_count.lane_samples) == (6, None)
    by_time = filled_batching(seconds=40.0, utterances=None, lanes=4, crop_s=1.0, rate_hz=16000)
    assert (by_time.lane_utterances, by_time.lane_samples) == (None, 160_000)
    batches = list(pairs(made / "corpus", utterances=6, lanes=2, crop_s=0.2))
    assert max(len(batch.keys) for batch in batches) == 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_models_compute_in_the_precision_of_the_config(tmp_path, made, precision):
    """By torch's hook for every module: which types come out of the linear layers of teacher and student."""
    seen = Counter()
    held = set()

    def hook(module, _given, output):
        if isinstance(module, torch.nn.Linear) and module.in_features == 24:  # the trunks; not the probes
            seen[output.dtype, torch.is_inference_mode_enabled()] += 1
            held.add((module.weight.dtype, torch.is_inference_mode_enabled()))

    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        keys = {"precision": precision, "dev": "none", "steps": 1}
        assert loop.distil(config_of(made, **keys), tmp_path / "run", report=str) == "done"
    finally:
        handle.remove()
    dtype = getattr(torch, precision)
    assert {kind for kind, _ in seen} == {dtype}
    assert seen[dtype, True] > 0, "the teacher"
    assert seen[dtype, False] > 0, "the student"
    assert held == {(dtype, True), (torch.float32, False)}, "the frozen teacher's matrices are rounded once"
    tensors = read_tensors(max((tmp_path / "run/checkpoints").glob("*.safetensors")))
    assert {one.dtype for name, one in tensors.items() if name.startswith(("student.", "optimiser."))} == {
        torch.float32
    }


def test_two_ranks_train_the_student_that_one_trains(tmp_path, made):
    """Processes of the command over gloo; the run of one rank is held against written-out steps in `test_method`."""
    config = config_of(
        made, batch={"utterances": 8, "lanes": 4}, views={"kind": "cdm2", "student": {"clean_share": 0.3}},
        adversary={"strength": 1.0}, dev="none", optimiser={"learning_rate": 1e-3, "clip": 1.0},
    )  # fmt: skip
    assert loop.distil(config, tmp_path / "alone", report=str) == "done"
    write_yaml(tmp_path / "config.yaml", config.model_dump(mode="json", by_alias=True))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "stillroom", "train", tmp_path / "config.yaml", tmp_path / "run"],
            cwd=ROOT,
            env={
                **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    ours, theirs = ([line for line in lines_of(tmp_path / name) if "loss" in line] for name in ("alone", "run"))
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        for name in ("loss", "l1", "cosine"):
            assert other[name] == pytest.approx(one[name], rel=1e-6), name
        for name in ("gradient_norm", "domain_loss"):
            assert other[name] == pytest.approx(one[name], rel=1e-4), name
        for name in (
            "domain_accuracy",
            "domain_majority",
            "audio_s",
            "utterances",
            "distinct_utterances",
            "learning_rate",
            "epoch",
        ):
            assert other[name] == one[name], name
    alone, together = (
        read_tensors(max((tmp_path / name / "checkpoints").glob("*.safetensors"))) for name in ("alone", "run")
    )
    for name, one in alone.items():
        if name.startswith(("student.", "critic.")) and "k_proj.bias" not in name:
            torch.testing.assert_close(together[name], one, rtol=1e-3, atol=2e-6)
