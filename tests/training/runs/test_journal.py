"""The journal."""

from __future__ import annotations

import io
import json
import math
import os
import signal as signal_module
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import Mock, call

import pytest
import torch

from manifests.errors import UsageError
from manifests.io.progress import Progress
from training.data.sampler import Cursor
from training.runs import journal as journal_module
from training.runs.journal import (
    Board,
    Journal,
    TooMuchDamageError,
    TrainingLog,
    journal_line,
    progress_note,
    speeds,
    training_log,
)
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
    line = journal_line(2, {**sums, "fell_back": 0.0, "lost": 0.0}, domains=())
    assert not {"fell_back", "lost"} & set(line)


@pytest.fixture(name="log")
def log_of_two_domains(tmp_path):
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


def test_of_signals_to_several_ranks_the_largest_counts(log):
    """Sums of three ranks, as they are added up."""
    received = (signal_module.SIGUSR1, signal_module.SIGTERM, None)
    sums = torch.stack([log.sums(signal=one) for one in received]).sum(dim=0)
    log.end_step(1, Batch((600,), Cursor()), sums, torch.tensor(1.0), torch.tensor(1.0))
    (found,) = log.read(every=True)
    assert (found.signal, log.signal) == (signal_module.SIGTERM, signal_module.SIGTERM)


def test_what_was_lost_is_no_audio_that_was_trained_on(log):
    log.add_damage(Batch((), Cursor(), lost=(150, 50), damage=()), frames=3, step=1, most=9)
    do_step(log, 1)
    (found,) = log.read(every=True)
    assert (found.sums["utterances"], found.sums["audio_s"], found.sums["lost_frames"]) == (0, 8.0, 3)


def test_utterances_that_were_classified_are_those_of_all_domains(log):
    log.add_damage(Batch((), Cursor(), lost=(150, 50)), frames=3, step=1, most=9)
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


@pytest.mark.parametrize("place", range(5))
def test_each_loss_that_is_not_finite_is_a_problem_of_the_loss_and_each_norm_one_of_the_gradient(log, place):
    losses = torch.tensor([1.0, 0.5, 0.25, 2.0, 1.0])
    losses[place] = math.inf
    for given, norms, problem in ((losses, (1.0, 1.0), "loss"), (torch.ones(5), (1.0, math.nan), "gradient")):
        log.add(Batch((600,), Cursor()), given, (1, 0))
        log.end_step(3, Batch((600,), Cursor()), log.sums(signal=None), *map(torch.tensor, norms))
        (found,) = log.read(every=True)
        assert (found.step, found.problem) == (3, problem)


def test_damage_is_named_once_a_shard_up_to_what_is_allowed(log, tmp_path, capsys):
    damage = [(f"train-{number}", f"train-{number}.tar: gone") for number in (4, 2, 7)]
    log.add_damage(Batch((), Cursor(), lost=(300,), damage=(damage[0],)), frames=3, step=5, most=2)
    log.add_damage(Batch((), Cursor(), lost=(200, 100), damage=tuple(damage[:2])), frames=4, step=6, most=2)
    with pytest.raises(TooMuchDamageError) as caught:
        log.add_damage(Batch((), Cursor(), lost=(50,), damage=(damage[0], damage[2])), frames=1, step=8, most=2)
    assert str(caught.value) == (
        "3 shards cannot be read, damaged_shards: 2 are allowed; the last one: train-7.tar: gone; the last checkpoint is kept"
    )
    assert capsys.readouterr().err.splitlines() == [
        "stillroom: left out (damaged_shards: 1 of at most 2): train-4.tar: gone",
        "stillroom: left out (damaged_shards: 2 of at most 2): train-2.tar: gone",
    ]
    assert lines(tmp_path / "journal.jsonl") == [
        {"step": 5, "damaged_shard": "train-4", "warning": "train-4.tar: gone"},
        {"step": 6, "damaged_shard": "train-2", "warning": "train-2.tar: gone"},
    ]
    do_step(log, 8, lengths=(600, 400, 300, 200, 100, 50))
    (found,) = log.read(every=True)
    assert {name: found.sums[name] for name in ("lost", "lost_frames", "lost_samples")} == {
        "lost": 4, "lost_frames": 8, "lost_samples": 650,
    }  # fmt: skip
    assert (found.sums["utterances"], found.sums["audio_s"]) == (2, 10.0)


def test_a_line_has_the_means_of_its_steps_and_the_next_begins_anew(log, tmp_path, monkeypatch):
    monkeypatch.setattr("training.runs.journal.time.monotonic", lambda: 50.0)
    log.logged_s = 48.0
    log.waited_s = 0.5
    log.add_damage(Batch((), Cursor(), lost=(100,)), frames=1, step=1, most=0)
    do_step(log, 1, losses=(1.0, 3.0), norm=4.0, lengths=(600, 400, 300, 100), domains=(3, 1))
    do_step(log, 2, losses=(2.0,), norm=1.0, lengths=(200,), epoch=1, domains=(0, 1))
    list(log.read(every=True))
    log.write_line({"step": 2, "learning_rate": 0.25, "reversal": 0.5})
    do_step(log, 3, losses=(8.0,), norm=7.0, lengths=(900,), epoch=1, domains=(1, 0))
    list(log.read(every=True))
    assert log.since_line == {
        "steps": 1, "loss": 8.0, "l1": 0.5, "cosine": 0.25, "domain": 2.0, "right": 1.0, "fell_back": 1.0, "lost": 0.0,
        "domain.clean": 1.0, "domain.noise": 0.0, "gradient_norm": 7.0, "utterances": 1.0,
    }  # fmt: skip
    (line,) = lines(tmp_path / "journal.jsonl")
    assert line == {
        "step": 2, "loss": 3.0, "l1": 0.75, "cosine": 0.375, "gradient_norm": 2.5, "domain_loss": 3.0, "domain_accuracy": 3 / 9,
        "domain_majority": 6 / 9, "fell_back": 3 / 4, "lost": 1.0, "learning_rate": 0.25, "epoch": 1, "audio_s": 15.0,
        "teacher_audio_s": 15.0, "utterances": 4, "distinct_utterances": 100, "reversal": 0.5, "audio_s_per_s": 7.5,
        "waiting_share": 0.25,
    }  # fmt: skip
    assert log.note == "loss 3.0000, domain 33% (majority 67%), 8 s/s, waiting 25%"
    assert log.in_all == {"audio_s": 24.0, "teacher_audio_s": 24.0, "utterances": 5.0, "wall_s": 2.0}


def mark_of(step):
    return SimpleNamespace(
        step=step, cursor=(3, 1, 2), sums={"steps": 1, "loss": 9.0}, counts={"audio_s": 7.0, "utterances": 5, "wall_s": 2.0}
    )  # fmt: skip


def facts_of():
    return {
        "domains": (), "rate_hz": 100, "runs_teacher": False, "split_utterances": 4, "device": torch.device("cpu"),
        "time_left": TimeLeft(1, report=str),
    }  # fmt: skip


def opened(run, mark, *, is_first=True, steps=9):
    config = SimpleNamespace(tensorboard=False, steps=steps)
    return training_log(run, config, mark=mark, ranks=SimpleNamespace(is_first=is_first), **facts_of())


def test_a_run_goes_on_with_the_lines_and_sums_of_its_checkpoint(tmp_path, capsys):
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in (0, 2, 4, 6)))
    with opened(tmp_path, mark_of(4)) as log:
        assert lines(path) == [{"step": 0}, {"step": 2}, {"step": 4}]
        assert (log.epoch, log.since_line, log.in_all) == (3, mark_of(4).sums, mark_of(4).counts)
        assert log.training_audio() == {
            "audio_s": 7.0, "teacher_audio_s": 0.0, "utterances": 5, "distinct_utterances": 4,
        }  # fmt: skip
        do_step(log, 5, domains=())
    assert capsys.readouterr().err.startswith("training 5/9 steps, ")


def test_a_run_without_a_checkpoint_begins_its_journal_anew(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n')
    with opened(tmp_path, None) as log:
        assert path.read_bytes() == b""
        assert (log.epoch, log.since_line, log.in_all) == (0, {}, {})
        log.write_line({"step": 1, "learning_rate": 1.0})
        assert log.note.startswith("loss 0.0000, 0 s/s")
        assert "domain_loss" not in lines(path)[0]


def test_ranks_but_the_first_write_and_show_nothing(tmp_path, capsys):
    with opened(tmp_path, None, is_first=False) as log:
        do_step(log, 1, domains=())
        log.write_line({"step": 1, "learning_rate": 1.0})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_names_of_a_journal_are_readable(tmp_path):
    with Journal(tmp_path / "journal.jsonl", step=-1) as journal:
        journal.write({"step": 1, "warning": "Gr\u00fc\u00dfe.tar"})
    assert (tmp_path / "journal.jsonl").read_text(encoding="utf-8") == '{"step": 1, "warning": "Gr\u00fc\u00dfe.tar"}\n'


def test_a_board_that_goes_on_hides_what_came_after_its_checkpoint(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for begun, steps, loss in ((0, range(1, 7), 1.0), (4, (5,), 2.0)):
        with Board(tmp_path, step=begun) as board:
            for step in steps:
                board.write({"step": step, "loss": loss})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0),
    ]  # fmt: skip


def test_a_line_is_whole_though_each_write_takes_a_part_of_it_and_the_file_is_closed_at_the_end(tmp_path, monkeypatch):
    write = os.write
    with Journal(tmp_path / "journal.jsonl", step=-1) as journal:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", lambda handle, content: write(handle, bytes(content[:7])))
            journal.write({"step": 1, "warning": "of many words"})
        journal.write({"step": 2})
        synced = []
        monkeypatch.setattr(os, "fsync", synced.append)
        journal.sync()
        assert synced == [journal.handle]
    assert lines(tmp_path / "journal.jsonl") == [{"step": 1, "warning": "of many words"}, {"step": 2}]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(journal.handle)


@pytest.mark.parametrize(
    "line", ['{"loss": 1}', "[1]", "7", '{"step": null}', '{"step": 1, "x": "' + "long" * 9 + '"}', "{"]
)
def test_from_a_line_that_is_none_of_a_journal_on_it_is_cut(tmp_path, monkeypatch, line):
    monkeypatch.setattr(journal_module, "MAX_LINE_BYTES", 30)
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"step": 1, "loss": 2.25}}\n{line}\n{{"step": 2}}\n')
    with Journal(path, step=9):
        pass
    assert path.read_text() == '{"step": 1, "loss": 2.25}\n'


@pytest.mark.parametrize(("wanted", "is_first"), [(True, True), (True, False), (False, True)])
def test_a_board_is_opened_by_the_first_rank_where_the_config_says_so_and_goes_on_from_the_checkpoint(
    tmp_path, monkeypatch, wanted, is_first
):
    events = []

    class Kept:
        def __init__(self, folder, *, step):
            events.append((folder, step))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            events.append("closed")

        def write(self, line):
            events.append(line["step"])

    monkeypatch.setattr(journal_module, "Board", Kept)
    config = SimpleNamespace(tensorboard=wanted, steps=9)
    ranks = SimpleNamespace(is_first=is_first)
    with training_log(tmp_path, config, mark=mark_of(4), ranks=ranks, **facts_of()) as log:
        log.write_line({"step": 5, "learning_rate": 1.0})
    assert events == ([(tmp_path, 4), 5, "closed"] if wanted and is_first else [])


def test_a_step_that_is_done_moves_the_progress_with_the_note_of_the_last_line_and_counts_towards_the_time_left(
    tmp_path,
):
    progress, done = Mock(), Mock()
    mark = mark_of(4)
    with Journal(tmp_path / "journal.jsonl", step=-1) as journal:
        log = TrainingLog(journal, progress, mark=mark, **{**facts_of(), "time_left": done})
        do_step(log, 5, domains=(), epoch=4)
        assert progress.advance.mock_calls == [call(note="")]
        list(log.read(every=True))
        assert log.epoch == 4
        assert mark.sums == {"steps": 1, "loss": 9.0}, "the mark itself stays as it was"
        assert mark.counts["audio_s"] == 7.0
        log.write_line({"step": 5, "learning_rate": 1.0})
        do_step(log, 7, domains=())
    assert progress.advance.mock_calls[1:] == [call(note=log.note)]
    assert log.note.startswith("loss 5.0000, ")
    assert done.step_done.mock_calls == [call(5), call(7)]


def test_speeds_are_over_the_seconds_spent_however_few():
    assert speeds(3.0, waited_s=0.125, spent_s=0.5) == {"audio_s_per_s": 6.0, "waiting_share": 0.25}
    assert speeds(0.0, waited_s=0.0, spent_s=0.0) == {"audio_s_per_s": 0.0, "waiting_share": 0.0}
