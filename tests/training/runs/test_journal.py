"""The journal."""

from __future__ import annotations

import io
import json

import pytest

from manifests.errors import UsageError
from manifests.io.progress import Progress
from training.runs.journal import Board, Journal, TrainingLog, journal_line, progress_note, speeds


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


def test_distinct_utterances_are_those_of_the_first_epoch_until_it_is_over(tmp_path):
    progress = Progress("training", total=2, unit="steps", stream=io.StringIO())
    with Journal(tmp_path / "journal.jsonl", step=0) as journal:
        log = TrainingLog(
            journal, progress, domains=(), rate_hz=16000, runs_teacher=True, split_utterances=100, mark=None
        )
        sums = dict.fromkeys(("loss", "l1", "cosine", "domain", "right", "fell_back", "lost", "lost_frames"), 0.0)
        log.end_step({**sums, "utterances": 30.0, "audio_s": 60.0}, epoch=0, gradient_norm=1.0, write=None)
        expected = {"audio_s": 60.0, "teacher_audio_s": 60.0, "utterances": 30, "distinct_utterances": 30}
        assert log.training_audio() == expected
        log.runs_teacher = False
        log.end_step({**sums, "utterances": 75.0, "audio_s": 4.0}, epoch=1, gradient_norm=1.0, write=None)
        expected = {"audio_s": 64.0, "teacher_audio_s": 60.0, "utterances": 105, "distinct_utterances": 100}
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
