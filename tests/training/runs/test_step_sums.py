"""The vector of a step: what is at which place of it, and that the host reads it only when it has arrived."""

from __future__ import annotations

import math
import signal
from types import SimpleNamespace

import pytest
import torch

from training.data.sampler import Cursor
from training.runs.step_sums import COUNTS, LOSSES, LOST_FRAMES, HostCopy, StepSums

CPU = torch.device("cpu")
SUMS = StepSums(("clean", "noise", "room"), rate_hz=100, device=CPU)
KNOWN = {"fell_back": 6.0, "lost": 7.0, "lost_frames": 8.0, "lost_samples": 9.0}
KNOWN |= {"domain.room": 12.0, "domain.clean": 10.0, "domain.noise": 11.0}


def test_a_vector_has_losses_counts_domains_and_signals_in_turn():
    losses = [torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([0.5, 0.0, 0.0, 0.0, 0.25])]
    vector = SUMS.vector(losses, KNOWN, signal=signal.SIGUSR1)
    assert vector.tolist() == [1.5, 2, 3, 4, 5.25, 6, 7, 8, 9, 10, 11, 12, 0, 1, 0]
    assert vector.dtype == torch.float32
    assert SUMS.classified(vector) == 33
    assert vector[LOST_FRAMES] == 8
    assert SUMS.vector([], KNOWN, signal=None).tolist() == [0] * 5 + [6, 7, 8, 9, 10, 11, 12, 0, 0, 0]
    assert (("loss", "l1", "cosine", "domain", "right"), tuple(KNOWN)[:4]) == (LOSSES, COUNTS)


def test_what_is_read_has_its_own_name_and_the_audio_is_without_what_was_lost():
    batch = SimpleNamespace(cursor=Cursor(2, 3, 4), global_lengths=(300, 200, 100) * 4)
    vector = SUMS.vector([torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])], KNOWN, signal=signal.SIGINT)
    unread = SUMS.sent(17, batch, vector, torch.tensor(13.0), torch.tensor([14.0]))
    found = SUMS.read(unread)
    assert found.sums == {
        "loss": 1, "l1": 2, "cosine": 3, "domain": 4, "right": 5, **KNOWN, "gradient_norm": 13, "critic_norm": 14,
        "utterances": 12 - 7, "audio_s": (2400 - 9) / 100,
    }  # fmt: skip
    assert (found.step, found.cursor, found.problem, found.signal) == (17, (2, 3, 4), None, signal.SIGINT)


@pytest.mark.parametrize(
    ("loss", "norm", "problem"), [(math.nan, 1.0, "loss"), (math.inf, math.nan, "loss"), (1.0, -math.inf, "gradient")]
)
def test_a_loss_that_is_not_finite_is_the_cause_of_a_gradient_that_is_not(loss, norm, problem):
    batch = SimpleNamespace(cursor=Cursor(), global_lengths=(300,))
    vector = SUMS.vector([torch.tensor([1.0, 1.0, loss, 1.0, 1.0])], dict.fromkeys(KNOWN, 0.0), signal=None)
    assert SUMS.read(SUMS.sent(1, batch, vector, torch.tensor(norm), torch.tensor(0.0))).problem == problem


def test_numbers_of_a_gpu_are_copied_without_waiting_and_waited_for_where_they_are_read(monkeypatch):
    """On a GPU that is not there, by the order of what it would be given."""
    events = []
    host = SimpleNamespace(tolist=lambda: events.append("read") or [1.5])

    class Event:
        def record(self):
            events.append("recorded")

        def synchronize(self):
            events.append("waited for")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    tensor = SimpleNamespace(
        device=SimpleNamespace(type="cuda"), to=lambda *to, **how: events.append(("copied", *to, how)) or host
    )
    copy = HostCopy(tensor)
    assert events == [("copied", "cpu", {"non_blocking": True}), "recorded"]
    assert copy.numbers() == [1.5]
    assert events[2:] == ["waited for", "read"]
    assert HostCopy(torch.tensor([2.5])).numbers() == [2.5]
    assert len(events) == 4, "nothing is waited for on the CPU"
