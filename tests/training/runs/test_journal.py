"""The journal."""

from __future__ import annotations

import io
import json
import math
import signal as signal_module
from dataclasses import dataclass

import pytest
import torch

from manifests.errors import UsageError
from manifests.io.progress import Progress
from training.data.sampler import Cursor
from training.runs.journal import Board, Journal, TrainingLog, journal_line, progress_note, speeds
from training.runs.start_report import TimeLeft


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_floats_are_written_in_full(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, step=0) as journal:
        journal.write({"step": 1, "loss": 0.1 + 0.2})
    assert lines(path) == [{"step": 1, "loss": 0.30000000000000004}]


def test_lines_after_the_checkpoint_and_a_torn_one_are_cut(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, step=0) as journal:
        for step in range(1, 7):
            journal.write({"step": step})
    with path.open("a") as stream:
        stream.write('{"step": 7, "lo')
    with Journal(path, step=4) as journal:
        journal.write({"step": 5, "again": True})
    assert lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4}, {"step": 5, "again": True}]
    with Journal(path, step=0):
        pass
    assert lines(path) == []


def test_a_torn_line_within_the_checkpoint_is_cut(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2')
    with Journal(path, step=9) as journal:
        journal.write({"step": 10})
    assert lines(path) == [{"step": 1}, {"step": 10}]


def test_a_number_that_is_none_is_not_written(tmp_path):
    with Journal(tmp_path / "journal.jsonl", step=0) as journal, pytest.raises(ValueError, match="JSON"):
        journal.write({"step": 1, "loss": float("nan")})


def test_a_line_says_how_the_critic_did_against_always_guessing_the_most_frequent():
    sums = {"steps": 2, "loss": 3.0, "l1": 2.0, "cosine": 1.0, "gradient_norm": 1.0, "domain": 0.5, "right": 3}
    sums |= {"domain.clean": 1, "domain.noise": 5}
    line = journal_line(8, sums, domains=("clean", "noise"))
    assert (line["loss"], line["domain_loss"], line["domain_accuracy"]) == (1.5, 0.25, 0.5)
    assert line["domain_majority"] == pytest.approx(5 / 6)
    assert "domain_accuracy" not in journal_line(8, sums, domains=())


def test_the_progress_note_says_what_matters():
    line = {"loss": 1.5, "domain_accuracy": 0.31, "domain_majority": 0.4, **speeds(960.0, waited_s=1.0, spent_s=8.0)}
    assert progress_note(line) == "loss 1.5000, domain 31% (majority 40%), 120 s/s, waiting 12%"


def test_pairs_that_fell_back_on_clean_speech_are_logged_as_a_share():
    sums = {"steps": 2.0, "utterances": 8.0, "fell_back": 2.0}
    assert journal_line(2, sums, domains=())["fell_back"] == 0.25
    assert "fell_back" not in journal_line(2, {**sums, "fell_back": 0.0}, domains=())


@pytest.fixture(name="log")
def training_log(tmp_path):
    progress = Progress("training", total=2, unit="steps", stream=io.StringIO())
    with Journal(tmp_path / "journal.jsonl", step=0) as journal:
        yield TrainingLog(
            journal, progress, domains=("clean", "noise"), rate_hz=100, runs_teacher=True, split_utterances=100, mark=None,
            device=torch.device("cpu"), time_left=TimeLeft(1, report=str),
        )  # fmt: skip


@dataclass
class Batch:
    """What a log reads of a micro-batch."""

    global_lengths: tuple
    cursor: Cursor
    fell_back: int = 0
    lost: tuple = ()
    damage: tuple = ()


def do_step(log, step, *, losses=(1.0,), norm=1.0, lengths=(600, 400), epoch=0, signal=None, domains=(1, 1)):
    for loss in losses:
        log.add(Batch(lengths, Cursor(epoch), fell_back=1), torch.tensor([loss, 0.5, 0.25, 2.0, 1.0]), domains)
    log.end_step(step, Batch(lengths, Cursor(epoch)), log.sums(signal=signal), torch.tensor(norm), torch.tensor(3.0))


def test_a_step_is_read_when_the_next_one_is_done_or_when_every_one_must_be(log):
    do_step(log, 1, losses=(1.0, 2.0), norm=5.0)
    assert not list(log.read(every=False)), "the host does not wait for the step at hand"
    do_step(log, 2)
    (first,) = log.read(every=False)
    assert (first.step, first.problem, first.signal) == (1, None, 0)
    assert first.sums == {
        "loss": 3.0, "l1": 1.0, "cosine": 0.5, "domain": 4.0, "right": 2.0, "gradient_norm": 5.0, "critic_norm": 3.0, "fell_back": 2.0,
        "lost": 0.0, "lost_frames": 0.0, "lost_samples": 0.0, "domain.clean": 2.0, "domain.noise": 2.0, "utterances": 2.0,
        "audio_s": 10.0,
    }  # fmt: skip
    assert (log.since_line["steps"], log.since_line["loss"], log.since_line["gradient_norm"]) == (1, 3.0, 5.0)
    assert [result.step for result in log.read(every=True)] == [2]
    assert (log.since_line["steps"], log.since_line["loss"], log.in_all["audio_s"]) == (2, 4.0, 20.0)


@pytest.mark.parametrize(("values", "problem"), [({"losses": (math.nan,)}, "loss"), ({"norm": math.inf}, "gradient")])
def test_a_step_that_is_not_finite_is_named_though_others_came_after_it(log, values, problem):
    do_step(log, 7, **values)
    do_step(log, 8)
    assert [(result.step, result.problem) for result in log.read(every=True)] == [(7, problem), (8, None)]


def test_the_largest_signal_is_remembered(log):
    for step, signal in enumerate((None, signal_module.SIGUSR1, signal_module.SIGTERM, None)):
        do_step(log, step, signal=signal)
    assert [result.signal for result in log.read(every=True)] == [0, 10, 15, 0]
    assert log.signal == signal_module.SIGTERM


def test_what_was_lost_is_no_audio_that_was_trained_on(log):
    log.add_damage(Batch((), Cursor(), lost=(150, 50), damage=()), frames=3, step=1, most=9)
    do_step(log, 1)
    (found,) = log.read(every=True)
    assert (found.sums["utterances"], found.sums["audio_s"], found.sums["lost_frames"]) == (0, 8.0, 3)


def test_utterances_that_were_classified_are_those_of_all_domains(log):
    log.add(Batch((), Cursor()), torch.zeros(5), (3, 4))
    assert float(log.step_sums.classified(log.sums(signal=signal_module.SIGINT))) == 7


def test_distinct_utterances_are_those_of_the_first_epoch_until_it_is_over(log):
    do_step(log, 1, lengths=(200,) * 30)
    list(log.read(every=True))
    expected = {"audio_s": 60.0, "teacher_audio_s": 60.0, "utterances": 30, "distinct_utterances": 30}
    assert log.training_audio() == expected
    log.runs_teacher = False
    do_step(log, 2, lengths=(4,) * 75, epoch=1)
    list(log.read(every=True))
    expected = {"audio_s": 63.0, "teacher_audio_s": 60.0, "utterances": 105, "distinct_utterances": 100}
    assert log.training_audio() == expected


def test_tensorboard_gets_the_numbers_of_the_journal(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Board(tmp_path, step=0) as board, Journal(tmp_path / "journal.jsonl", step=0) as journal:
        journal.board = board
        journal.write({"step": 1, "loss": 2.5, "warning": "words"})
        journal.write({"step": 2, "loss": 1.5})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.5), (2, 1.5)]


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install tensorboard"):
        Board(tmp_path, step=0)


def test_each_line_has_the_speed_of_its_own_audio_and_seconds_of_work_add_up(log, tmp_path, monkeypatch):
    """By a clock that is set: batches are awaited for 1 s each and worked on for 3 s."""
    now = [100.0]
    monkeypatch.setattr("training.runs.journal.time.monotonic", lambda: now[0])

    def awaited():
        while True:
            now[0] += 1.0
            yield None

    batches = log.timed(awaited())
    for step, lengths in enumerate(((600, 400), (1600,), (400,)), 1):
        next(batches)
        now[0] += 3.0
        do_step(log, step, lengths=lengths)
        list(log.read(every=True))
        log.write_line({"step": step, "learning_rate": 0.1})
    found = lines(tmp_path / "journal.jsonl")
    assert [line["audio_s_per_s"] for line in found] == [10 / 4, 16 / 4, 4 / 4]
    assert [line["waiting_share"] for line in found] == [0.25, 0.25, 0.25]
    assert log.in_all["wall_s"] == 12.0
