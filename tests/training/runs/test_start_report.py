"""What a run reports when it starts."""

from __future__ import annotations

import re

import pytest
import torch

from training import loop
from training.runs import start_report
from training.runs.distributed import Ranks
from training.runs.start_report import TIMED_STEPS, TimeLeft, start_line


def test_the_first_line_has_device_precision_sizes_and_updates(monkeypatch):
    """By hand: 3 steps with 9 utterances of 2 s and 3 of 1 s; 400 utterances are 100 updates of 4."""
    lengths = [[32000] * 3 + [16000]] * 3
    facts = {"precision": "bfloat16", "rate_hz": 16000, "split_utterances": 400, "done": 1000, "steps": 3000}
    line = start_line(Ranks(), lengths, **facts)
    assert line == (
        "training on cpu (1 thread) in bfloat16: 4.0 utterances and 7 s of audio a step, about 100 updates an epoch, 2,000 updates to the end "
        "(20.0 epochs)"
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"A card {device.index}")
    line = start_line(Ranks(0, 32, torch.device("cuda", 3)), lengths, **facts)
    assert line.startswith("training on 32 ranks of cuda (A card 3) in bfloat16: ")


def test_threads_and_updates_are_counted(monkeypatch):
    """399 utterances are 99.75 updates of 4."""
    facts = {"precision": "float32", "rate_hz": 16000, "split_utterances": 399, "done": 0, "steps": 50}
    for threads, ranks, device in (
        (4, Ranks(), "cpu (4 threads)"), (1, Ranks(0, 3), "3 ranks of cpu (1 thread each)"), (2, Ranks(0, 3), "3 ranks of cpu (2 threads each)"),
    ):  # fmt: skip
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        line = start_line(ranks, [[16000] * 4], **facts)
        assert line.startswith(
            f"training on {device} in float32: 4.0 utterances and 4 s of audio a step, about 100 updates an epoch"
        )
    said = []
    time_left = TimeLeft(TIMED_STEPS + 1, report=said.append)
    for step in range(1, TIMED_STEPS + 2):
        time_left.step_done(step)
    assert said == [], "nothing is left"


def test_hours_to_the_end_are_those_of_the_first_steps_but_one(monkeypatch):
    """The first step takes 100 s, the others 9 s each; 1000 of those are 2.5 hours."""
    now_s, said = [0.0], []
    monkeypatch.setattr(start_report.time, "monotonic", lambda: now_s[0])
    time_left = TimeLeft(1000 + 21 + TIMED_STEPS, report=said.append)
    for step in range(21, 21 + 3 * TIMED_STEPS):
        now_s[0] += 100 if step == 21 else 9
        time_left.step_done(step)
    assert said == ["9.00 s a step in the first 4: about 2h30m to the end, without validations"]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_run_says_it_before_its_first_step(tmp_path, corpus, teacher_folder, lanes):
    from tests.training.test_loop import config_of

    said = []
    keys = {
        "adversary": None,
        "dev": "none",
        "batch": {"utterances": 4, "lanes": lanes},
        "steps": 6,
        "checkpoint_every": 6,
    }
    assert loop.distil(config_of(corpus, teacher_folder, **keys), tmp_path / "run", report=said.append) == "done"
    _, start, hours = said
    assert (
        ": 4.0 utterances and 3 s of audio a step, about 6 updates an epoch, 6 updates to the end (1.0 epochs)" in start
    )
    assert re.fullmatch(r"\d\.\d\d s a step in the first 4: about \ds to the end, without validations", hours)


def test_of_steps_unlike_each_other_the_means_are_given_and_of_none_nothing_is_divided_by():
    """Two steps, of 3 utterances in 6 s and of 5 in 4 s; 1 utterance is less than a step, and so one update an epoch."""
    facts = {"precision": "float32", "rate_hz": 100, "done": 3, "steps": 10}
    line = start_line(Ranks(), [[200, 300, 100], [50, 100, 50, 100, 100]], split_utterances=1, **facts)
    assert line.endswith(
        "in float32: 4.0 utterances and 5 s of audio a step, about 1 updates an epoch, 7 updates to the end (7.0 epochs)"
    )
    line = start_line(Ranks(), [], split_utterances=2500, **facts)
    assert line.endswith(
        "0.0 utterances and 0 s of audio a step, about 2,500 updates an epoch, 7 updates to the end (0.0 epochs)"
    )
