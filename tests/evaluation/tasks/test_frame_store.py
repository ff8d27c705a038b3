"""Frames on disk: what is stored, in which precision, and how much it is."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from evaluation.config import CtcTask, FramesTask, LayerFeatures
from evaluation.data.alignments import AlignedTask
from evaluation.data.transcripts import TextTask
from evaluation.features import UtteranceFeatures
from evaluation.tasks.frame_store import FrameStore, limited, stored_bytes, stored_members


def texts(*, train, dev=0, test=1, probe="clean", features="sum"):
    task = CtcTask(kind="ctc", probe=probe, features=features)
    labels = {
        role: {f"{role}{n}": ("a",) for n in range(count)}
        for role, count in (("train", train), ("dev", dev), ("test", test))
    }
    return TextTask("letters", task, labels["train"], labels["dev"], labels["test"], (), ("a",))


def half(values):
    """Rounded to eleven significant bits, as numpy does it."""
    return torch.from_numpy(values.numpy().astype(np.float16).astype(np.float32))


def test_frames_come_back_from_their_file_in_half_precision(tmp_path):
    store = FrameStore(tmp_path / "frames", "sum+heads")
    frames, heads = torch.randn(3, 7, 4), torch.randn(2, 7, 4)
    store.add(UtteranceFeatures("a", 1.0, {"clean": torch.randn(3, 5, 4)}, {"clean": torch.randn(2, 5, 4)}), "clean")
    store.add(UtteranceFeatures("b", 1.0, {"clean": frames}, {"clean": heads}), "clean")
    assert torch.equal(store.states("b", "clean", "sum+heads", num_layers=3), half(torch.cat([frames, heads])))
    assert torch.equal(store.states("b", "clean", "sum", num_layers=3), half(frames))
    assert torch.equal(store.states("b", "clean", "last", num_layers=3), half(frames[2:]))
    assert torch.equal(store.states("b", "clean", LayerFeatures(layer=2), num_layers=3), half(frames[1:2]))
    second = FrameStore(tmp_path / "second", LayerFeatures(layer=2))
    second.add(UtteranceFeatures("b", 1.0, {"clean": frames}, {"clean": heads}), "clean")
    assert torch.equal(second.states("b", "clean", LayerFeatures(layer=2), num_layers=3), half(frames[1:2]))
    assert (tmp_path / "frames").stat().st_size == 2 * 5 * (5 + 7) * 4
    assert (
        stored_bytes([50, 70], num_frames=lambda samples: samples // 10, num_states=5, width=4) == 2 * 5 * (5 + 7) * 4
    )


def test_what_is_too_large_for_half_precision_stays_finite(tmp_path):
    store = FrameStore(tmp_path / "frames", "last")
    store.add(UtteranceFeatures("a", 1.0, {"clean": torch.tensor([[[1e5, -1e6, 3.0]]])}), "clean")
    assert store.states("a", "clean", "last", num_layers=1).tolist() == [[[65504.0, -65504.0, 3.0]]]


def test_few_enough_utterances_are_all_used():
    task = texts(train=3000, dev=200)
    assert limited(task, seed=0) == task


def test_of_more_utterances_a_fixed_part_is_used_and_said():
    task = texts(train=3005, dev=201, test=5000)
    part = limited(task, seed=0)
    assert (len(part.train), len(part.dev), len(part.test)) == (3000, 200, 5000)
    assert part.notes == ("letters: trained on 3000 of its 3005 utterances, chosen by hash",)
    assert set(limited(texts(train=3004, dev=201), seed=0).train) >= set(part.train) - {"train3004"}  # others stay
    assert set(limited(task, seed=1).train) != set(part.train)


@pytest.mark.parametrize("dev", [0, 2])
def test_only_what_a_probe_is_trained_or_chosen_on_is_stored(dev):
    chosen = {"train0": "noise-0", "train1": "room-1"}
    clean = {("train0", "clean"), ("train1", "clean")}
    distorted = set(chosen.items())
    on_dev = {(f"dev{n}", "clean") for n in range(dev)}
    assert stored_members([texts(train=2, dev=dev)], {}) == {"train": clean, "dev": on_dev}
    found = stored_members([texts(train=2, dev=dev, probe="distorted")], chosen)
    assert found == {
        "train": distorted if dev else distorted | clean,
        "dev": on_dev,
    }  # without dev, the rate is chosen on clean train
    segments = {"train2": ((0.0, 1.0, "a"),)}
    phones = AlignedTask("phones", FramesTask(kind="frames"), segments, {"dev9": ()}, {}, (), ("a", "b"))
    both = stored_members([texts(train=2, dev=dev), phones, object()], {})
    assert both == {"train": clean | {("train2", "clean")}, "dev": on_dev | {("dev9", "clean")}}


def test_librispeech_with_hubert_base_takes_less_than_forty_gigabytes():
    """960 hours: 281,241 utterances of 12.3 s on average, at most 35 s; dev-clean has 2,703 of 7.2 s."""
    rng = random.Random(0)
    task = limited(texts(train=281_241, dev=2703), seed=0)
    longest_train, longest_dev = [], []
    for keys, lengths, mean_s in ((task.train, longest_train, 12.3), (task.dev, longest_dev, 7.2)):
        lengths += [int(16_000 * rng.uniform(mean_s / 2, 1.5 * mean_s)) for _ in keys]
    members = stored_members([task], {})
    assert sum(map(len, members.values())) == 3200
    taken = stored_bytes(longest_train + longest_dev, num_frames=lambda n: (n - 80) // 320, num_states=12, width=768)
    assert 30e9 < taken < 40e9
