"""What distil() does at which step, with models of one weight and parts that only note what they are given; and how a step is looked into."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from training import loop
from training.config.load import resolved
from training.data.sampler import Cursor
from training.runs.distributed import Ranks
from training.runs.journal import Journal, TrainingLog
from training.step import Losses, Models, not_finite, teacher_outputs

CPU = torch.device("cpu")
STREAM = SimpleNamespace(one_step=lambda *_: ())
VAL_LOSSES = {3: 0.7, 5: 0.6}


class Adversary:
    """Its module is a critic; it has nothing to add."""

    modules = {"critic": torch.nn.Linear(2, 2)}

    def update(self, *, is_spoilt, utterances):
        return torch.zeros(())

    def journal_facts(self, *, progress):
        return {"progress": progress}


class Parts:
    """A run's parts; `events` has what they were given, in order, and `said` the lines for a person."""

    def __init__(self, monkeypatch, run, **config):
        self.events, self.said, self.run = [], [], run
        self.has_losses, self.mark, self.act, self.lost, self.losses = True, None, {}, {}, {}
        keys = {"steps": 5, "log_every": 2, "validate_every": 3, "checkpoint_every": 4, "workers": 7, **config}
        self.config = resolved({"corpus": "/nowhere", "teacher": {"name": "nano"}, **keys}, where="test")
        self.student = torch.nn.Linear(1, 1)
        self.student.config = SimpleNamespace(num_frames=lambda samples: samples // 10)
        note = self.events.append
        for name in ("full_ids", "not_finite"):
            monkeypatch.setattr(loop, name, lambda *_, name=name, **__: None if name == "not_finite" else "u7")
        monkeypatch.setattr(
            loop, "with_precision", lambda config, run, *, ranks: config.model_copy(update={"precision": "bfloat16"})
        )
        monkeypatch.setattr(loop, "set_up", self.set_up)
        monkeypatch.setattr(loop, "loader", self.loader)
        monkeypatch.setattr(loop, "forward_backward", self.forward_backward)
        monkeypatch.setattr(
            loop, "correct_for_lost", lambda sums, trained, batch, student: note(("corrected", batch.step))
        )
        monkeypatch.setattr(
            loop, "write_status", lambda run, state, *, step, steps: note(("status", state, step, steps))
        )
        monkeypatch.setattr(Journal, "sync", lambda _: note("sync"))
        monkeypatch.setattr(
            TrainingLog,
            "add_damage",
            lambda _, batch, *, frames, step, most: note(("damage", batch.lost, frames, step, most)),
        )

    def ranks(self, number, count):
        note = self.events.append

        class Connected(Ranks):
            def broadcast_modules(self, *modules):
                note(("broadcast", *map(type, modules), len(modules)))

        return Connected(number, count)

    def set_up(self, config, run, *, ranks, report, stack):
        report("set up")
        assert (config.precision, run) == ("bfloat16", self.run)
        trained = list(self.student.parameters())
        note = self.events.append
        self.all_reduced = []
        return SimpleNamespace(
            config=config, done=self.mark.step if self.mark else 0, mark=self.mark, trained=trained, stream=STREAM, reader=None,
            models=SimpleNamespace(student=self.student, adversary=Adversary(), device=CPU),
            optimiser=torch.optim.AdamW(trained, lr=9.0, fused=True),
            all_reduce=lambda sums: self.all_reduced.append(sums) or sums,
            validator=SimpleNamespace(
                has_losses=self.has_losses, before_training=lambda adversary: [{"domain_visible": len(adversary.modules)}],
                measure=lambda step: note(("measure", step)) or {"val_loss": VAL_LOSSES[step]},
            ),
            checkpoints=SimpleNamespace(write=lambda folder, **mark: note((folder, mark))),
            log_facts=lambda report: {
                "domains": (), "rate_hz": 100, "runs_teacher": True, "split_utterances": 50, "device": CPU,
                "time_left": SimpleNamespace(step_done=lambda step: None),
            },
        )  # fmt: skip

    def loader(self, stream, *, workers, device, give_up):
        assert (stream, workers, device) == (STREAM, 7, CPU)
        for step in itertools.count(self.mark.step + 1 if self.mark else 1):
            self.act.get(step, lambda: None)()
            for lane in (0, 1):
                lost = self.lost.get((step, lane), ())
                yield SimpleNamespace(
                    step=step, keys=() if lost else ("u7",), lost=lost, ends_step=lane == 1, cursor=Cursor(0, 1, step),
                    next_cursor=Cursor(0, 1, step + 1), global_lengths=(100, 300), fell_back=0,
                )  # fmt: skip

    def forward_backward(self, models, batch, config, *, step):
        assert step == batch.step
        torch.manual_seed(1000 + step)
        for one in self.student.parameters():
            one.grad = torch.ones_like(one)
        return Losses(torch.full((5,), self.losses.get(step, 1.0)), [])

    def distil(self, number=0, count=1):
        return loop.distil(self.config, self.run, ranks=self.ranks(number, count), report=self.said.append)

    def lines(self):
        return [json.loads(line) for line in (self.run / "journal.jsonl").read_text().splitlines()]


def written(events):
    """The events, with step, place and best loss of each checkpoint."""
    return [
        (event[0], event[1]["step"], event[1]["cursor"], event[1]["best_loss"])
        if event[0] in {"best", "checkpoints"}
        else event
        for event in events
    ]


BROADCAST = ("broadcast", torch.nn.Linear, torch.nn.Linear, 2)


def test_steps_are_logged_validated_and_saved_in_their_turns_and_the_last_is_always(monkeypatch, tmp_path):
    parts = Parts(monkeypatch, tmp_path / "run")
    before = torch.get_rng_state()
    assert parts.distil() == "done"
    assert torch.equal(torch.get_rng_state(), before), "a caller's random numbers are its own"
    assert parts.said == ["set up"]
    assert all(one.grad is None for one in parts.student.parameters()), "a parameter without a gradient is not decayed"
    assert written(parts.events) == [
        BROADCAST,
        ("measure", 3), "sync", ("best", 3, (0, 1, 4), 0.7),
        "sync", ("checkpoints", 4, (0, 1, 5), 0.7), ("status", "running", 4, 5),
        ("measure", 5), "sync", ("best", 5, (0, 1, 6), 0.6),
        "sync", ("checkpoints", 5, (0, 1, 6), 0.6), ("status", "done", 5, 5),
    ]  # fmt: skip
    marks = [event[1] for event in parts.events if event[0] == "checkpoints"]
    assert [mark["counts"]["utterances"] for mark in marks] == [2 * 4, 2 * 5]
    assert [mark["training_audio"]["audio_s"] for mark in marks] == [4.0 * 4, 4.0 * 5]
    assert (
        0 < marks[0]["training_audio"]["wall_s"] < marks[1]["training_audio"]["wall_s"] == marks[1]["counts"]["wall_s"]
    )
    (best, *_) = [event[1] for event in parts.events if event[0] == "best"]
    assert (best["sums"]["steps"], best["counts"]["utterances"], marks[0]["sums"]) == (1, 6, {})
    assert [line for line in parts.lines() if "loss" not in line] == [
        {"step": 0, "domain_visible": 1}, {"step": 3, "val_loss": 0.7}, {"step": 5, "val_loss": 0.6},
    ]  # fmt: skip
    logged = [line for line in parts.lines() if "loss" in line]
    assert [(line["step"], line["loss"], line["progress"]) for line in logged] == [
        (2, 2.0, 0.4),
        (4, 2.0, 0.8),
        (5, 2.0, 1.0),
    ]
    assert all(line["waiting_share"] > 0 for line in logged)


@pytest.mark.parametrize(("best_loss", "saved"), [(None, [3, 5]), (0.65, [5]), (0.6, [])])
def test_a_run_that_goes_on_knows_its_best_and_does_not_repeat_what_comes_before_the_first_step(
    monkeypatch, tmp_path, best_loss, saved
):
    parts = Parts(monkeypatch, tmp_path / "run")
    parts.mark = SimpleNamespace(
        step=1, best_loss=best_loss, sums={"steps": 1, "loss": 8.0}, counts={"utterances": 2.0}, cursor=(0, 1, 2)
    )
    assert parts.distil() == "done"
    best = [event[1] for event in parts.events if event[0] == "best"]
    assert [mark["step"] for mark in best] == saved
    last = next(event[1] for event in parts.events[::-1] if event[0] == "checkpoints")
    assert (last["best_loss"], last["counts"]["utterances"]) == (0.6, 10)
    assert next((line["step"], line["loss"]) for line in parts.lines() if "loss" in line) == (2, (8.0 + 2.0) / 2)
    assert 0 not in [line["step"] for line in parts.lines()]


def test_without_a_dev_split_nothing_is_validated_and_no_student_is_the_best(monkeypatch, tmp_path):
    parts = Parts(monkeypatch, tmp_path / "run")
    parts.has_losses = False
    assert parts.distil() == "done"
    assert [event[:2] for event in written(parts.events) if event not in {"sync", BROADCAST}] == [
        ("checkpoints", 4), ("status", "running"), ("checkpoints", 5), ("status", "done"),
    ]  # fmt: skip


def test_a_run_may_be_given_by_the_paths_of_its_config_and_folder_and_says_what_it_does_on_standard_error(
    monkeypatch, tmp_path, capsys
):
    parts = Parts(monkeypatch, tmp_path / "run")
    read = []
    monkeypatch.setattr(loop, "load_config", lambda path: read.append(path) or parts.config)
    monkeypatch.setattr(loop, "alone", lambda: parts.ranks(0, 1))
    assert loop.distil("mine.yaml", str(tmp_path / "run")) == "done"
    assert read == ["mine.yaml"]
    assert parts.events[0] == BROADCAST
    assert "stillroom: set up" in capsys.readouterr().err.splitlines()
    parts.mark = SimpleNamespace(step=5)
    assert loop.distil(parts.config, tmp_path / "run", report=parts.said.append) == "done"
    assert parts.said == ["set up", f"{tmp_path / 'run'}: all 5 steps were done before"]


def test_a_rank_that_is_not_the_first_writes_says_and_validates_nothing(monkeypatch, tmp_path):
    parts = Parts(monkeypatch, tmp_path / "run")
    assert parts.distil(1, 2) == "done"
    assert (parts.events, parts.said, parts.run.exists()) == ([BROADCAST], [], False)
    assert len(parts.all_reduced) == 5


@pytest.mark.parametrize(("number", "count", "stopped"), [(0, 1, 3), (0, 2, 4), (1, 2, 4)])
def test_a_signal_to_one_rank_stops_all_behind_the_step_that_all_have_read(
    monkeypatch, tmp_path, number, count, stopped
):
    """Alone at the step at hand; with others when the sums that it is in are read, a step later; the checkpoint is of that step."""
    parts = Parts(monkeypatch, tmp_path / "run", checkpoint_every=100, validate_every=100, log_every=100)
    parts.act[3] = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert parts.distil(number, count) == "interrupted"
    assert len(parts.all_reduced) == stopped
    assert written(parts.events)[1:] == (
        []
        if number
        else ["sync", ("checkpoints", stopped, (0, 1, stopped + 1), None), ("status", "preempted", stopped, 5)]
    )
    (mark,) = [event[1] for event in parts.events if event[0] == "checkpoints"] or [{"sums": {"steps": stopped}}]
    assert mark["sums"]["steps"] == stopped, "every step is in the sums"


def test_a_run_that_is_stopped_at_a_step_that_is_not_finite_ends_with_that(monkeypatch, tmp_path):
    parts = Parts(monkeypatch, tmp_path / "run")
    parts.losses[3] = math.nan
    parts.act[3] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    parts.config = parts.config.model_copy(update={"validate_every": 100})
    with pytest.raises(loop.NonFiniteLossError, match="the loss of step 3 is not finite; its utterances are u7: lower"):
        parts.distil()
    assert not any(event[0] == "checkpoints" for event in parts.events)


@pytest.mark.parametrize("allowed", [0, 3])
def test_what_is_lost_is_counted_in_frames_and_every_step_is_corrected_where_it_is_allowed(
    monkeypatch, tmp_path, allowed
):
    """Frames are counted crop by crop: of 19 and 25 samples there are 1 and 2; a lane that lost all adds nothing."""
    parts = Parts(monkeypatch, tmp_path / "run", damaged_shards=allowed, steps=2, validate_every=100)
    parts.config = parts.config.model_copy(update={"validate_every": 100})
    parts.lost[2, 0] = (19, 25)
    monkeypatch.setitem(VAL_LOSSES, 2, 0.5)
    assert parts.distil() == "done"
    damage = ("damage", (19, 25), 3, 2, allowed)
    found = [event for event in parts.events if event[0] in {"damage", "corrected"}]
    assert found == ([("corrected", 1), damage, ("corrected", 2)] if allowed else [damage])
    assert [float(sums[0]) for sums in parts.all_reduced] == [2.0, 1.0]


@pytest.mark.parametrize("targets", [None, "/kept"])
def test_of_steps_that_are_read_the_first_that_was_not_taken_is_named_and_its_teacher_run_again(monkeypatch, targets):
    """Not where its outputs are stored: they were finite when they were written."""
    calls = []
    config = SimpleNamespace(targets=targets, precision="bfloat16")
    stream = SimpleNamespace(one_step=lambda reader, cursor: [("lane", reader, cursor)])
    setup = SimpleNamespace(stream=stream, reader="reader", models="models", config=config)
    monkeypatch.setattr(
        loop, "full_ids", lambda *given: "u1, u2" if given == (stream, "reader", (0, 0, 2)) else "others"
    )
    monkeypatch.setattr(
        loop,
        "not_finite",
        lambda models, lanes, *, precision: calls.append((models, list(lanes), precision)) or "layer 3 is bad",
    )
    results = [
        SimpleNamespace(step=step, cursor=(0, 0, step), problem=problem)
        for step, problem in ((1, None), (2, "gradient"), (3, "loss"))
    ]
    with pytest.raises(loop.NonFiniteLossError) as caught:
        loop.check_finite(results, setup)
    assert str(caught.value) == (
        "the gradient of step 2 is not finite, as layer 3 is bad; its utterances are u1, u2: set precision: float32, or choose other "
        "layers, or listen to those; the last checkpoint is kept"
    )
    assert calls == [("models", [] if targets else [("lane", "reader", (0, 0, 2))], "bfloat16")]
    calls.clear()
    loop.check_finite(results[:1], setup)
    assert calls == []


class Teacher:
    """Its layer 8 is infinite for utterances whose wave holds a 2, its layer 4 for those with a 3; it notes what it was given."""

    name = "mine"

    def __init__(self):
        self.given = []

    def layers(self, wave, num_samples, *, only):
        self.given.append((wave, num_samples, only, torch.is_autocast_enabled("cpu")))
        outputs = torch.ones(len(wave), len(only), 3, 2)
        for number, layer in ((2, 8), (3, 4)):
            if layer in only and bool((wave == number).any()):
                outputs[-1, only.index(layer), 2, 1] = math.inf
        return outputs, None


def batch_of(*rows, target=None):
    wave = torch.tensor(rows, dtype=torch.float32)
    batch = SimpleNamespace(teacher_wave=wave, num_samples=torch.tensor([2] * len(rows)), target=target)
    batch.to = lambda device: batch if device == CPU else None
    return batch


def test_the_first_layer_that_is_not_finite_is_named_by_its_number():
    """Layers as a step needs them: those of the student's targets in their order, then those of the critic."""
    teacher = Teacher()
    models = Models(None, teacher, (4, 12), SimpleNamespace(teacher_layers=(8, 2)), CPU)
    good, critics, targets = batch_of([0, 1], [1, 1]), batch_of([0, 1], [0, 2]), batch_of([2, 3], [1, 1])
    assert not_finite(models, [good, good], precision="float32") is None
    assert not_finite(models, [], precision="float32") is None
    assert [given[2:] for given in teacher.given] == [((4, 12, 8, 2), False)] * 2
    line = "layer {} of the teacher mine gives numbers that are not, in {}"
    assert not_finite(models, [good, critics, targets], precision="bfloat16") == line.format(8, "bfloat16")
    assert (len(teacher.given), teacher.given[-1][3]) == (4, True), "it ends at the first"
    assert not_finite(models, [targets, critics], precision="float32") == line.format(4, "float32")


def test_stored_outputs_stand_in_for_the_teacher_in_full_precision():
    teacher = Teacher()
    models = Models(None, teacher, (4,), SimpleNamespace(teacher_layers=()), CPU)
    stored = torch.rand(2, 1, 3, 2).half()
    found = teacher_outputs(models, batch_of([0, 1], [1, 1], target=stored))
    assert (found.dtype, teacher.given) == (torch.float32, [])
    assert torch.equal(found, stored.float())
    batch = batch_of([0, 1], [1, 1])
    assert teacher_outputs(models, batch).shape == (2, 1, 3, 2)
    ((wave, num_samples, *_),) = teacher.given
    assert wave is batch.teacher_wave
    assert num_samples is batch.num_samples
