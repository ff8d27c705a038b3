"""A micro-batch on its way to a device: every tensor that goes there, and none that stays."""

from __future__ import annotations

import pytest
import torch

from training.data.batch import PairBatch, on_device
from training.data.sampler import Cursor


def batch_of(*, shared=False, target=True):
    teacher, student = torch.full((2, 3), 1.0), torch.full((2, 3), 2.0)
    return PairBatch(
        teacher_wave=teacher, student_wave=teacher if shared else student, num_samples=torch.tensor([3, 2]), keys=("a", "b"),
        teacher_copies=("clean",) * 2, student_copies=("noise-0",) * 2, cursor=Cursor(4, 3, 2), lane=1, ends_step=True,
        global_lengths=(3, 2, 9), target=torch.full((1,), 7.0, dtype=torch.float16) if target else None,
    )  # fmt: skip


def plus_ten(tensor):
    return tensor + 10


@pytest.fixture(name="pinned")
def tensors_that_are_pinned(monkeypatch):
    """Without a GPU no memory can be pinned: a pinned tensor is ten larger here, and listed."""
    found = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: found.append(tensor) or plus_ten(tensor))
    return found


@pytest.mark.parametrize("is_pinned", [False, True])
def test_both_views_and_the_target_are_moved_each_from_its_own_and_lengths_stay(pinned, is_pinned):
    batch = batch_of()
    moved = batch.pin_memory() if is_pinned else batch.moved(plus_ten)
    assert (float(moved.teacher_wave[0, 0]), float(moved.student_wave[0, 0]), float(moved.target)) == (11, 12, 17)
    assert moved.num_samples is batch.num_samples, "lengths are read on the CPU"
    assert (moved.keys, moved.cursor, moved.global_lengths) == (batch.keys, batch.cursor, batch.global_lengths)
    assert len(pinned) == (3 if is_pinned else 0)


def test_views_that_are_one_tensor_are_moved_once_and_stay_one():
    moved = []
    batch = batch_of(shared=True, target=False).moved(lambda tensor: moved.append(tensor) or plus_ten(tensor))
    assert batch.student_wave is batch.teacher_wave
    assert batch.target is None
    assert len(moved) == 1


def test_a_batch_goes_to_any_device_but_the_one_where_it_is():
    batch = batch_of()
    assert batch.to(torch.device("cpu")) is batch
    sent = batch.to(torch.device("meta"))
    assert {one.device.type for one in (sent.teacher_wave, sent.student_wave, sent.target)} == {"meta"}
    assert sent.num_samples.device.type == "cpu"


@pytest.mark.parametrize(
    ("device", "is_there", "pins"), [("cuda", True, 1), ("cuda", False, 0), ("meta", True, 0), ("cpu", True, 0)]
)
def test_a_tensor_is_pinned_on_its_way_to_a_gpu_that_is_there(monkeypatch, pinned, device, is_there, pins):
    sent = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *to, **how: sent.append((tensor.tolist(), *to, how)))
    on_device(torch.tensor([1, 2]), torch.device(device))
    assert sent == [([11, 12] if pins else [1, 2], torch.device(device), {"non_blocking": True})]
    assert len(pinned) == pins


def test_a_run_goes_on_with_the_next_batch_of_the_same_window():
    assert batch_of().next_cursor == Cursor(4, 3, 3)
