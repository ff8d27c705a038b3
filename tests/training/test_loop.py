"""distil(): what stops and goes on is as if it had never stopped."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from manifests.errors import BadDocumentError, LockedError, NoSpaceLeftError, StillroomError, UsageError
from manifests.io.json_yaml import read_json, write_json, write_yaml
from manifests.io.lock import writing
from tests.oracles.updates import before_update, recorded_updates
from tests.training.conftest import write_corpus, write_teacher
from training import loop
from training.config.load import resolved
from training.data.joined_corpus import open_corpus
from training.data.sampler import Batching, global_batches
from training.distillation.domains import OneDomainError
from training.export.write import export_run
from training.models.encoder import Encoder
from training.models.student import Heads
from training.runs.checkpoint import load_run, read_tensors
from training.runs.distributed import Ranks, TooManyRanksError
from training.runs.folder import NotARunError, OtherConfigError, SourceChangedError
from training.runs.resume import OtherRunsCheckpointError
from training.teacher import load_teacher

TIMES = {"audio_s_per_s", "waiting_share"}
HOUSE = Path(__file__).parents[2]
LONGER = {"steps": 30, "checkpoint_every": 3, "validate_every": 15}


def config_of(corpus, teacher_folder, **keys):
    return resolved(
        {
            "preset": "cdm2-dat",
            "corpus": str(corpus),
            "teacher": {"name": str(teacher_folder)},
            "student": {"layers": 2},
            "batch": {"seconds": 4, "lanes": 2},
            "crop_s": 0.9,
            "steps": 7,
            "log_every": 2,
            "checkpoint_every": 2,
            "validate_every": 3,
            "validate_utterances": 4,
            "optimiser": {"learning_rate": 3e-3},
            "workers": 0,
            "seed": 4,
            **keys,
        },
        where="test",
    )


def journal(run):
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def last_tensors(run):
    return read_tensors(max((run / "checkpoints").glob("*.safetensors")))


def assert_same_run(one, two):
    assert journal(one) == journal(two)
    tensors, others = last_tensors(one), last_tensors(two)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert load_run(one, checkpoint="best").digest == load_run(two, checkpoint="best").digest


@pytest.fixture(scope="module", name="straight")
def run_straight_through(tmp_path_factory, corpus, teacher_folder):
    run = tmp_path_factory.mktemp("runs") / "straight"
    torch.set_num_threads(1)
    assert loop.distil(config_of(corpus, teacher_folder), run, report=str) == "done"
    return run


def test_a_run_folder_says_what_it_is(straight, corpus, teacher_folder):
    assert {path.name for path in straight.iterdir()} == {
        "config.yaml", "provenance.json", "heard.txt", "journal.jsonl", "status.json", "checkpoints", "best",
    }  # fmt: skip
    assert read_json(straight / "status.json", needed="test") == {
        "schema": "stillroom/status/1",
        "state": "done",
        "step": 7,
        "steps": 7,
    }
    student = load_run(straight)
    assert student.num_layers == 2
    assert len(student.trained_on) == 3 * 8 + 1
    assert load_teacher(teacher_folder).trained_on < student.trained_on
    assert student.facts["views"] == "cdm2"
    assert student.facts["steps"] == 7
    assert student.facts["audio_s"] > 5
    assert student.facts["audio_s"] == journal(straight)[-2]["audio_s"]
    assert 0 < student.facts["wall_s"] != student.facts["audio_s"]
    assert str(corpus.parent) not in json.dumps(student.facts) + (straight / "provenance.json").read_text()


def test_a_record_of_the_run_that_is_no_mapping_is_one_line(straight, tmp_path, corpus, teacher_folder):
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "provenance.json").write_text("[1]")
    with pytest.raises(BadDocumentError, match="the key corpus_sha256 is missing"):
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str)


def test_the_journal_has_what_a_person_looks_for(straight):
    lines = journal(straight)
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4, 6, 7]
    for line in logged:
        assert line["loss"] == pytest.approx(line["l1"] + line["cosine"], rel=1e-6)
        assert 0 <= line["domain_accuracy"] <= 1
        assert 0 < line["domain_majority"] <= 1
        assert line["reversal"] > 0
    validated = [line for line in lines if "val_loss" in line]
    assert [line["step"] for line in validated] == [3, 6, 7]
    assert [line["step"] for line in lines if "domain_visible" in line] == [0]
    for line in logged:
        assert line["utterances"] >= line["distinct_utterances"] > 0
        assert line["distinct_utterances"] <= 24
        assert line["audio_s"] == line["teacher_audio_s"]
    assert logged[-1]["distinct_utterances"] == min(24, logged[-1]["utterances"])
    for line in validated:
        assert 0 <= line["domain_fresh"] <= 1
        assert line["domain_fresh_majority"] == 1 / 4, "clean and three conditions, as often"
        assert "loss" not in line
        parts = [line[f"val_{name}"] for name in ("clean", "noise", "phone", "room")]
        assert line["val_loss"] == pytest.approx(sum(parts) / 4)
    assert validated[-1]["val_loss"] < validated[0]["val_loss"], "it learns"
    assert (
        load_run(straight, checkpoint="best").facts["steps"]
        == min(validated, key=lambda line: line["val_loss"])["step"]
    )


def die():
    raise InterruptedError


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_that_dies_goes_on_bit_for_bit(tmp_path, corpus, teacher_folder, straight, step):
    config = config_of(corpus, teacher_folder)
    with before_update(step, die), pytest.raises(InterruptedError):
        loop.distil(config, tmp_path / "run")
    assert loop.distil(config, tmp_path / "run") == "done"
    assert_same_run(tmp_path / "run", straight)


def test_a_run_that_is_done_says_so_and_is_left_as_it_is(corpus, teacher_folder, straight):
    said: list[str] = []
    journal = (straight / "journal.jsonl").read_bytes()
    assert loop.distil(config_of(corpus, teacher_folder), straight, report=said.append) == "done"
    assert "steps were done before" in said[-1]
    assert (straight / "journal.jsonl").read_bytes() == journal


def test_a_resumed_game_has_the_critic_that_it_had(tmp_path, corpus, teacher_folder):
    """Its moments after three updates a step, what it standardises by, and what was counted."""
    adversary = {"objective": "game", "critic_steps": 3, "standardise": True, "layers": [1, 2], "strength": 0.5}
    config = config_of(corpus, teacher_folder, adversary=adversary)
    assert loop.distil(config, tmp_path / "straight", report=str) == "done"
    with before_update(5, die), pytest.raises(InterruptedError):
        loop.distil(config, tmp_path / "run", report=str)
    assert loop.distil(config, tmp_path / "run", report=str) == "done"
    assert_same_run(tmp_path / "run", tmp_path / "straight")
    assert last_tensors(tmp_path / "run")["critic.centre"].abs().sum() > 0


@pytest.mark.parametrize(
    ("number", "outcome"),
    [(signal.SIGTERM, "preempted"), (signal.SIGUSR1, "preempted"), (signal.SIGINT, "interrupted")],
)
def test_a_signal_writes_a_checkpoint_and_the_run_goes_on(tmp_path, corpus, teacher_folder, straight, number, outcome):
    config = config_of(corpus, teacher_folder)
    before = signal.getsignal(number)
    with before_update(3, lambda: os.kill(os.getpid(), number)):
        assert loop.distil(config, tmp_path / "run") == outcome
    assert signal.getsignal(number) is before
    status = read_json(tmp_path / "run" / "status.json", needed="test")
    assert (status["state"], status["step"]) == ("preempted", 3)
    assert loop.distil(config, tmp_path / "run") == "done"
    assert_same_run(tmp_path / "run", straight)


def test_a_signal_at_the_last_step_leaves_a_run_that_is_done(tmp_path, corpus, teacher_folder):
    config = config_of(corpus, teacher_folder, steps=2, adversary=None, dev="none", checkpoint_every=50, log_every=50)
    with before_update(2, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert loop.distil(config, tmp_path / "run", report=str) == "done"
    assert status_of(tmp_path / "run") == {"schema": "stillroom/status/1", "state": "done", "step": 2, "steps": 2}
    assert [line["step"] for line in journal(tmp_path / "run")] == [2], "the last step is logged whatever log_every"


def test_a_torn_checkpoint_is_said_and_the_one_before_it_used(tmp_path, corpus, teacher_folder, straight):
    shutil.copytree(straight, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-100])
    said = []
    assert loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=said.append) == "done"
    torn, start = said
    assert "torn checkpoint step-000000007 left aside; goes on from step 6" in torn
    assert ", 1 updates to the end" in start
    assert_same_run(tmp_path / "run", straight)


def test_a_finished_run_is_left_alone(tmp_path, corpus, teacher_folder, straight):
    shutil.copytree(straight, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    said = []
    assert loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=said.append) == "done"
    assert said == [f"{tmp_path / 'run'}: all 7 steps were done before"]
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_run_of_another_method_is_refused_and_kept(straight, corpus, teacher_folder):
    with pytest.raises(OtherConfigError, match=r"optimiser.learning_rate is 0.003, not 0.001\): choose another folder"):
        loop.distil(config_of(corpus, teacher_folder, optimiser={"learning_rate": 1e-3}), straight)
    with pytest.raises(OtherConfigError, match=r"steps is 7, not 9\): begin another run with student\.init=.*straight"):
        loop.distil(config_of(corpus, teacher_folder, steps=9), straight)
    assert load_run(straight).facts["steps"] == 7


def test_a_folder_that_is_no_run_is_refused(tmp_path, corpus, teacher_folder):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(NotARunError, match=r"thesis\.tex"):
        loop.distil(config_of(corpus, teacher_folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_corpus_or_teacher_that_changed_is_refused(tmp_path, corpus, teacher_folder, straight):
    write_corpus(tmp_path / "other", shards=2, seed=9)
    with pytest.raises(SourceChangedError, match=r"the corpus .* changed since"):
        loop.distil(config_of(tmp_path / "other", teacher_folder), straight)
    shutil.copytree(teacher_folder, tmp_path / "moved")
    shutil.copytree(corpus, tmp_path / "corpus")
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    moved = config_of(tmp_path / "corpus", teacher_folder)
    assert loop.distil(moved, run) == "done", "a corpus may move"
    config = config_of(corpus, teacher_folder)
    shutil.rmtree(tmp_path / "moved")
    write_teacher(tmp_path / "moved", seed=5)
    text = (run / "config.yaml").read_text().replace(str(teacher_folder), str(tmp_path / "moved"))
    (run / "config.yaml").write_text(text)
    with pytest.raises(SourceChangedError, match=r"the teacher .* changed since"):
        loop.distil(
            config.model_copy(update={"teacher": config.teacher.model_copy(update={"name": str(tmp_path / "moved")})}),
            run,
        )


def test_a_run_of_an_earlier_nano_is_read_and_exported_but_not_resumed(tmp_path, corpus, teacher_folder, monkeypatch):
    monkeypatch.setattr("training.teacher.NANO_FOLDER", teacher_folder)
    config, run = config_of(corpus, "nano", steps=2, checkpoint_every=1), tmp_path / "run"
    assert loop.distil(config, run, report=str) == "done"
    before = load_run(run).digest
    write_teacher(tmp_path / "later", seed=5)
    monkeypatch.setattr("training.teacher.NANO_FOLDER", tmp_path / "later")
    with pytest.raises(
        SourceChangedError, match=r"the teacher nano changed .* with the Stillroom that began it"
    ) as caught:
        loop.distil(config, run, report=str)
    assert "\n" not in str(caught.value)
    shutil.rmtree(tmp_path / "later")  # neither reading nor exporting needs the teacher's weights
    assert load_run(run).digest == before
    export_run(run, tmp_path / "out", form="torchaudio")
    assert load_teacher(tmp_path / "out").digest == before


def test_a_checkpoint_of_another_run_is_refused_and_nothing_overwritten(tmp_path, corpus, teacher_folder, straight):
    keys = {"optimiser": {"learning_rate": 1e-3}}
    loop.distil(config_of(corpus, teacher_folder, steps=2, **keys), tmp_path / "other", report=str)
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    shutil.copytree(tmp_path / "other/checkpoints", tmp_path / "run/checkpoints")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(OtherRunsCheckpointError, match="the checkpoint step-000000002 is of another run"):
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_checkpoint_without_a_name_that_does_not_fit_is_one_line_too(tmp_path, corpus, teacher_folder, straight):
    loop.distil(config_of(corpus, teacher_folder, steps=2, student={"layers": 1}), tmp_path / "other", report=str)
    for path in (tmp_path / "other/checkpoints").glob("*.json"):
        path.write_text(path.read_text().replace('"run_sha256"', '"best_loss"').replace('"best_loss": "', '"x": "'))
        document = json.loads(path.read_text())
        document.pop("x")
        path.write_text(json.dumps(document))
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    shutil.copytree(tmp_path / "other/checkpoints", tmp_path / "run/checkpoints")
    with pytest.raises(OtherRunsCheckpointError, match="is of another run") as caught:
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str)
    assert "\n" not in str(caught.value)


def test_a_domain_that_cannot_be_seen_is_warned_of_once(tmp_path, monkeypatch, corpus, teacher_folder):
    from training.validation.domain_probe import Accuracy, DomainProbe

    monkeypatch.setattr(DomainProbe, "accuracy", lambda *_, **__: Accuracy(0.3, 0.25))
    said = []
    assert loop.distil(config_of(corpus, teacher_folder, steps=2), tmp_path / "run", report=said.append) == "done"
    _, question, warning = said
    assert "can a new classifier name the domain (condition) from layer 2 of the untrained student?" in question
    assert "fitted on 4 utterances and tested on 4 others, each in 4 copies" in question
    assert "there is hardly anything to hide in these layers" in warning
    first = journal(tmp_path / "run")[0]
    assert first == {"step": 0, "domain_visible": 0.3, "domain_visible_majority": 0.25, "warning": warning}
    loop.distil(config_of(corpus, teacher_folder, steps=2), tmp_path / "run", report=said.append)
    assert len(said) == 4, "not asked again on resume"


def fail_at_checkpoint(monkeypatch, problem):
    """The disk fails at the tensors of step 4."""
    replace = os.replace

    def broken(source, target, **options):
        if Path(target).name == "step-000000004.safetensors":
            raise problem
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", broken)


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before_and_says_so(tmp_path, monkeypatch, corpus, teacher_folder):
    fail_at_checkpoint(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(NoSpaceLeftError, match="finished files stay"):
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str)
    monkeypatch.undo()
    assert load_run(tmp_path / "run").facts["steps"] == 2
    assert loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str) == "done"


def status_of(run):
    return read_json(run / "status.json", needed="test")


@pytest.mark.parametrize("problem", [NoSpaceLeftError("x"), RuntimeError("a bug\nof two lines"), KeyboardInterrupt()])
def test_a_run_that_an_error_ended_says_so_until_it_goes_on(tmp_path, monkeypatch, corpus, teacher_folder, problem):
    fail_at_checkpoint(monkeypatch, problem)
    with pytest.raises(type(problem)):
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str)
    monkeypatch.undo()
    status = status_of(tmp_path / "run")
    assert (status["state"], status["step"], status["steps"]) == ("failed", 2, 7), "it goes on from step 2"
    assert type(problem).__name__ in status["problem"]
    assert "\n" not in status["problem"]
    assert loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str) == "done"
    assert status_of(tmp_path / "run") == {"schema": "stillroom/status/1", "state": "done", "step": 7, "steps": 7}


def test_an_error_before_the_first_step_of_a_requeued_run_is_no_reason_to_requeue_it_again(
    tmp_path, corpus, teacher_folder, straight
):
    shutil.copytree(straight, tmp_path / "run")
    preempted = {"schema": "stillroom/status/1", "state": "preempted", "step": 4, "steps": 7}
    write_json(tmp_path / "run/status.json", preempted)
    gone = config_of(tmp_path / "gone", teacher_folder)
    with pytest.raises(StillroomError):
        loop.distil(gone.model_copy(update={"seed": 99}), tmp_path / "run", report=str)
    with pytest.raises(TooManyRanksError):
        loop.distil(gone.model_copy(update={"seed": 99}), tmp_path / "run", report=str, ranks=Ranks(0, 9))
    assert status_of(tmp_path / "run") == preempted, "that was another run's config: nothing is overwritten"
    with pytest.raises(TooManyRanksError):
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run", report=str, ranks=Ranks(0, 9))
    assert status_of(tmp_path / "run")["state"] == "failed"
    write_json(tmp_path / "run/status.json", preempted)
    with pytest.raises(StillroomError):
        loop.distil(gone, tmp_path / "run", report=str)
    assert status_of(tmp_path / "run")["state"] == "failed"
    assert status_of(tmp_path / "run")["step"] == 4
    assert "gone" in status_of(tmp_path / "run")["problem"]


def test_an_edition_trains_and_a_run_notices_when_it_is_gone(tmp_path, corpus, teacher_folder):
    write_corpus(tmp_path / "edition", copies=("music-0",))
    one = config_of(corpus, teacher_folder, steps=3)
    both = one.model_copy(update={"corpus": (str(corpus), str(tmp_path / "edition"))})
    assert loop.distil(both, tmp_path / "run", report=str) == "done"
    assert json.loads((tmp_path / "run/provenance.json").read_text())["corpus"] == "tiny"
    assert "val_music" in next(line for line in journal(tmp_path / "run") if "val_loss" in line)
    with pytest.raises(SourceChangedError, match="the corpus"):
        loop.distil(config_of(corpus, teacher_folder, steps=3), tmp_path / "run", report=str)


def test_a_run_whose_heard_file_was_cut_is_refused(tmp_path, straight):
    shutil.copytree(straight, tmp_path / "run")
    lines = (tmp_path / "run/heard.txt").read_text().splitlines(keepends=True)
    (tmp_path / "run/heard.txt").write_text("".join(lines[:-1]))
    with pytest.raises(BadDocumentError, match=r"heard\.txt: SHA-256 is"):
        load_run(tmp_path / "run")


def test_a_second_process_on_a_run_is_told(tmp_path, corpus, teacher_folder):
    with writing(tmp_path / "run"), pytest.raises(LockedError):
        loop.distil(config_of(corpus, teacher_folder), tmp_path / "run")


def test_what_does_not_fit_is_said_before_a_step(tmp_path, teacher_folder):
    write_corpus(tmp_path / "one", shards=1, samples=3, copies=("noise-0",), splits=("train",))
    for keys, error, message in (
        ({}, UsageError, "views cdm2 needs 2"),
        (
            {"preset": "cdm1-dat", "views": {"clean_share": 0}},
            OneDomainError,
            "noise; raise views.clean_share above 0",
        ),
        (
            {"preset": "cdm1", "teacher": {"name": str(teacher_folder), "layers": [9]}},
            UsageError,
            "layers 1 to 3, not 9",
        ),
        ({"preset": "cdm1", "student": {"layers": 5}}, UsageError, "student.layers: 5"),
        ({"preset": "cdm1", "crop_s": 3}, UsageError, "cannot hold the longest crop"),
    ):
        said = []
        with pytest.raises(error, match=message):
            loop.distil(config_of(tmp_path / "one", teacher_folder, **keys), tmp_path / "run", report=said.append)
        assert not (tmp_path / "run" / "config.yaml").exists()


def test_without_a_dev_split_it_trains_and_says_so(tmp_path, teacher_folder):
    write_corpus(tmp_path / "one", shards=1, samples=3, copies=("noise-0",), splits=("train",))
    said = []
    config = config_of(tmp_path / "one", teacher_folder, preset="cdm1", steps=2)
    assert loop.distil(config, tmp_path / "run", report=said.append) == "done"
    assert len(said) == 2
    assert "has no split 'dev': trained without validation" in said[0]
    assert not any("val_loss" in line for line in journal(tmp_path / "run"))


@contextlib.contextmanager
def predictions_changed(number, change):
    """Changes what the student's heads give at their call of that number, by torch's hook for every module."""
    calls = 0

    def hook(module, _given, output):
        nonlocal calls
        if not isinstance(module, Heads):
            return output
        calls += 1
        return change(output) if calls == number else output

    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_a_loss_that_is_no_number_stops_and_names_step_and_utterances(tmp_path, corpus, teacher_folder):
    """Two lanes a step, after eight calls of the domain probe: the second lane of step 3. It is read after step 4, and changes nothing."""
    config = config_of(corpus, teacher_folder, validate_every=100, log_every=100)
    with open_corpus(corpus) as reader:
        batching = Batching(lanes=2, crop_samples=14_400, lane_samples=32_000)
        shards = [entry.name for entry in reader.shards("train")]
        third = list(itertools.islice(global_batches(shards, reader.samples, batching, seed=4), 3))[-1]
        ids = [reader.records(crop.shard, crop.sample)[0].id for lane in third.lanes for crop in lane]
    with (
        predictions_changed(14, lambda output: output * math.nan),
        recorded_updates() as updates,
        pytest.raises(
            loop.NonFiniteLossError, match=r"step 3 is not finite; its utterances are train/\d/utt\.\d, train/"
        ) as caught,
    ):
        loop.distil(config, tmp_path / "run")
    shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    assert str(caught.value) == (
        f"the loss of step 3 is not finite; its utterances are {shown}: lower optimiser.learning_rate, or listen to those; the last "
        "checkpoint is kept"
    )
    assert load_run(tmp_path / "run").facts["steps"] == 2
    _, second, third, fourth = updates.weights
    assert all(torch.equal(one, other) for one, other in zip(second, third, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(third, fourth, strict=True))
    critics = dict(updates.critic)
    assert all(torch.equal(one, other) for one, other in zip(critics[2], critics[3], strict=True))


def test_a_gradient_that_is_no_number_stops_before_it_spoils_a_weight(tmp_path, corpus, teacher_folder):
    """Of a finite loss too, as that of a square root at nought; else step 4 would be blamed, and step 3's checkpoint kept."""
    config = config_of(corpus, teacher_folder, adversary=None, checkpoint_every=1, validate_every=100)
    with (
        predictions_changed(6, lambda output: output + (output - output).sqrt()),
        pytest.raises(
            loop.NonFiniteLossError, match=r"the gradient of step 3 is not finite; its utterances are train/"
        ),
    ):
        loop.distil(config, tmp_path / "run")
    tensors = last_tensors(tmp_path / "run")
    assert load_run(tmp_path / "run").facts["steps"] == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_teacher_that_is_not_finite_in_bfloat16_is_named_at_the_first_step(
    tmp_path, corpus, teacher_folder, monkeypatch
):
    layers = Encoder.layers

    def overflowing(self, *given, **options):
        outputs, frames = layers(self, *given, **options)
        if torch.is_autocast_enabled("cpu"):
            outputs[:, 1] = torch.nan
        return outputs, frames

    monkeypatch.setattr(Encoder, "layers", overflowing)
    config = config_of(corpus, teacher_folder, adversary=None, precision="bfloat16", dev="none")
    found = r"the loss of step 1 is not finite, as layer 2 of the teacher small gives numbers that are not, in bfloat16; its .* precision: float32"
    with pytest.raises(loop.NonFiniteLossError, match=found) as caught:
        loop.distil(config, tmp_path / "run", report=str)
    assert "\n" not in str(caught.value)


def test_an_error_that_nobody_foresaw_leaves_no_worker_that_would_keep_the_command_from_ending(
    tmp_path, corpus, teacher_folder
):
    def unforeseen(_):
        raise ZeroDivisionError

    config = config_of(corpus, teacher_folder, dev="none", workers=1, adversary=None)
    with predictions_changed(1, unforeseen), pytest.raises(ZeroDivisionError) as caught:
        loop.distil(config, tmp_path / "run", report=str)
    assert caught.tb is not None, "its frames are held, as Python holds those of an error that ends it"
    assert not multiprocessing.active_children()


def test_lanes_change_nothing_but_rounding_where_nothing_is_padded(tmp_path, teacher_folder):
    """The mean is over the frames of the global batch, so two micro-batches train like one of twice the size."""
    write_corpus(tmp_path / "even", shards=1, samples=4, copies=("noise-0",), splits=("train",), lengths_s=(0.5, 0.5))
    found = []
    for lanes in (1, 2, 4):
        keys = {"preset": "cdm1", "student": {"layers": 2, "dropout": 0}, "steps": 3, "log_every": 1}
        config = config_of(tmp_path / "even", teacher_folder, batch={"utterances": 4, "lanes": lanes}, **keys)
        loop.distil(config, tmp_path / str(lanes), report=str)
        found.append([line["loss"] for line in journal(tmp_path / str(lanes))])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_methods_with_one_seed_hear_the_same_first_student_batch(tmp_path, corpus, teacher_folder, straight):
    """cdm1 and cdm2 differ in the teacher's view alone: with a reversal of zero the adversary changes nothing either."""
    config = config_of(corpus, teacher_folder, adversary={"strength": 0})
    loop.distil(config, tmp_path / "still")
    loop.distil(config_of(corpus, teacher_folder, adversary=None), tmp_path / "none")
    losses = [[line["loss"] for line in journal(tmp_path / name) if "loss" in line] for name in ("still", "none")]
    assert losses[0] == losses[1]
    assert losses[0] != [line["loss"] for line in journal(straight) if "loss" in line]


@pytest.fixture(name="command")
def written_config(tmp_path, corpus, teacher_folder):
    config = config_of(corpus, teacher_folder, **LONGER)
    write_yaml(tmp_path / "config.yaml", config.model_dump(mode="json", by_alias=True))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}

    def start(run, *options):
        arguments = [sys.executable, "-m", "stillroom", "train", tmp_path / "config.yaml", tmp_path / run, *options]
        with (tmp_path / "said.txt").open("w") as said:
            return subprocess.Popen(arguments, cwd=HOUSE, env=environment, stderr=said)

    return start


def wait_for_step(run, step, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, (run.parent / "said.txt").read_text()
        if (run / "journal.jsonl").exists() and any(line["step"] >= step for line in whole_lines(run)):
            return
        time.sleep(0.02)
    raise TimeoutError


def whole_lines(run):
    return [json.loads(line) for line in (run / "journal.jsonl").read_bytes().split(b"\n")[:-1] if line]


def test_the_command_goes_on_after_sigkill_and_sigterm_as_if_never_stopped(tmp_path, command, corpus, teacher_folder):
    loop.distil(config_of(corpus, teacher_folder, **LONGER), tmp_path / "straight")
    process = command("run", "--set", "workers=1")
    wait_for_step(tmp_path / "run", 6, process)
    process.kill()
    process.wait()
    process = command("run")
    wait_for_step(tmp_path / "run", 14, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75, (tmp_path / "said.txt").read_text()
    assert "stopped, with a checkpoint; the same command goes on from it\n" in (tmp_path / "said.txt").read_text()
    assert read_json(tmp_path / "run" / "status.json", needed="test")["state"] == "preempted"
    process = command("run")
    assert process.wait(timeout=180) == 0, (tmp_path / "said.txt").read_text()
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_the_command_says_one_line_for_a_wrong_key(tmp_path, command):
    process = command("run", "--set", "views.kind=cdm7")
    assert process.wait(timeout=60) == 2
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert len(lines) == 1
    assert "views.kind" in lines[0]
    assert not (tmp_path / "run").exists()
