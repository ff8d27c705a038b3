"""Features of utterances: in their order, in batches without padding, on as many threads as there are cores; what is dead stays zero."""

from __future__ import annotations

import os
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation import features as stage
from evaluation.config import LayerFeatures
from evaluation.features import PooledRows, Scaling, UtteranceFeatures, condition_of, features_of, utterance_features


def test_a_condition_is_a_member_without_its_number():
    names = ("clean", "noise-0", "far-noise-12", "two-words")
    assert [condition_of(name) for name in names] == ["clean", "noise", "far-noise", "two"]


def test_the_states_that_a_probe_reads_are_layers_then_heads():
    layers, heads = torch.arange(12.0).reshape(3, 2, 2), -torch.ones(2, 2, 2)
    with_heads = UtteranceFeatures("u", 1.0, {"clean": layers, "noise-0": 10 * layers}, {"noise-0": heads})
    for member, scale in (("clean", 1), ("noise-0", 10)):
        assert torch.equal(with_heads.states(member, "last"), scale * layers[2:])
        assert torch.equal(with_heads.states(member, "sum"), scale * layers)
        for number in (1, 2, 3):
            assert torch.equal(with_heads.states(member, LayerFeatures(layer=number)), scale * layers[[number - 1]])
    assert torch.equal(with_heads.states("noise-0", "sum+heads"), torch.cat([10 * layers, heads]))
    assert torch.equal(with_heads.states("clean", "sum+heads"), layers)


class Pool:
    """A pool that runs what it is given at once and writes down how it was made and closed."""

    made: list[Pool] = []

    def __init__(self, workers, initializer=None, initargs=()):
        self.workers, self.initializer, self.initargs = workers, initializer, initargs
        self.submitted, self.closed = [], None
        Pool.made.append(self)

    def submit(self, function, *given):
        self.submitted.append(given)
        future = Future()
        future.set_result(function(*given))
        return future

    def shutdown(self, *, cancel_futures):
        self.closed = cancel_futures


@pytest.fixture
def pools(monkeypatch):
    monkeypatch.setattr(Pool, "made", [])
    monkeypatch.setattr(stage, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(stage, "available_cores", lambda: 5)
    monkeypatch.setattr(
        stage,
        "utterance_features",
        lambda _, utterance, heads: SimpleNamespace(key=utterance, seconds=2.0 ** int(utterance)),
    )
    return Pool.made


def on(device):
    return torch.nn.Linear(1, 1, device=device)


def test_features_come_in_order_and_seconds_are_counted_as_they_are_done(pools):
    seconds = []
    found = features_of(on("cpu"), iter("0123456"), advance=seconds.append, workers=2, heads="heads")
    assert next(found).key == "0"
    [pool] = pools
    assert [given[1:] for given in pool.submitted] == [(number, "heads") for number in "012"]  # one more than at once
    assert seconds == [1.0]
    assert [one.key for one in found] == list("123456")
    assert seconds == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    assert (pool.workers, pool.initializer, pool.initargs) == (2, torch.set_num_threads, (1,))
    assert pool.closed is True


def test_as_many_utterances_run_at_once_as_there_are_cores_and_one_on_another_device(pools):
    assert [list(features_of(on(device), ())) for device in ("cpu", "meta")] == [[], []]
    assert [pool.workers for pool in pools] == [5, 1]
    list(features_of(on("meta"), (), workers=3))
    assert pools[2].workers == 3


def test_what_still_waits_is_given_up_where_a_reader_stops(pools):
    found = features_of(on("cpu"), iter("0123456"), workers=1)
    next(found)
    found.close()
    assert (pools[0].closed, len(pools[0].submitted)) == (True, 2)


def test_cores_are_those_that_a_process_may_use_and_eight_at_most(monkeypatch):
    for count, due in ((3, 3), (8, 8), (20, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: set(range(count)), raising=False)
        assert stage.available_cores() == due
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, due in ((6, 6), (64, 8), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert stage.available_cores() == due


class Ramp(torch.nn.Module):
    """Frames of two samples: layer l has the sums of the two times l; longer output than there are frames, as of padded models."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.num_layers, self.num_features = 10, 3, 1
        self.config = SimpleNamespace(num_frames=lambda count: count // 2)
        self.batches = []

    def layers(self, wave, num_samples):
        self.batches.append(tuple(wave.shape))
        assert num_samples.tolist() == [wave.shape[1]] * len(wave)
        sums = wave.unfold(1, 2, 2).sum(-1)
        sums = torch.cat([sums, torch.full((len(wave), 1), 99.0)], dim=1)
        return torch.stack([number * sums for number in (1, 2, 3)], dim=1)[..., None], num_samples // 2


def spoken(num_samples, *names):
    waves = {name: np.arange(num_samples, dtype=np.float32) + 100 * place for place, name in enumerate(names)}
    return SimpleNamespace(key="u", sample=SimpleNamespace(num_samples=num_samples), waves=waves)


@pytest.mark.parametrize(("most_s", "batches"), [(0.8, [(2, 4), (1, 4)]), (0.1, [(1, 4)] * 3), (60.0, [(3, 4)])])
def test_members_go_through_a_model_in_batches_of_some_seconds_and_keep_their_own_frames(monkeypatch, most_s, batches):
    monkeypatch.setattr(stage, "MAX_BATCH_S", most_s)
    encoder = Ramp()

    def heads(layers):
        assert len(layers) == 3
        return torch.stack([layers[-1] - layers[0], layers[1]], dim=1)

    found = utterance_features(encoder, spoken(4, "clean", "noise-0", "far-0"), heads)
    assert (found.key, found.seconds) == ("u", pytest.approx(3 * 4 / 10))
    assert encoder.batches == batches
    for place, name in enumerate(("clean", "noise-0", "far-0")):
        sums = torch.tensor([1.0, 5.0]) + 200 * place
        assert torch.equal(found.frames[name][..., 0], torch.stack([sums, 2 * sums, 3 * sums]))
        assert torch.equal(found.heads[name][..., 0], torch.stack([2 * sums, 2 * sums]))
    assert list(found.frames) == ["clean", "noise-0", "far-0"]
    assert utterance_features(Ramp(), spoken(4, "clean")).heads == {}


def test_a_wave_shorter_than_a_frame_has_none_and_still_counts_as_processed():
    encoder = Ramp()
    found = utterance_features(encoder, spoken(1, "clean", "noise-0"))
    assert found.seconds == pytest.approx(0.2)
    assert {name: tuple(one.shape) for name, one in found.frames.items()} == {"clean": (3, 0, 1), "noise-0": (3, 0, 1)}
    assert encoder.batches == []


def test_waves_and_heads_are_where_the_model_runs():
    class Far(Ramp):
        def layers(self, wave, num_samples):
            assert (wave.device.type, wave.dtype) == ("meta", torch.float32)
            return torch.zeros(len(wave), 3, 9, 1, device="meta"), num_samples // 2

    encoder = Far()
    encoder.register_buffer("place", torch.zeros(1, device="meta"))
    found = utterance_features(encoder, spoken(4, "clean"), lambda layers: layers[0][:, None])
    assert (found.frames["clean"].shape, found.heads["clean"].shape) == ((3, 2, 1), (1, 2, 1))
    assert found.frames["clean"].device.type == "meta"


def test_a_minute_goes_through_a_model_at_once():
    assert stage.MAX_BATCH_S == 60.0


def test_rows_are_means_over_frames_and_are_found_by_sample_whatever_the_copy():
    rows = PooledRows()
    for key, member in (("b", "clean"), ("a", "clean"), ("b", "far-noise-1")):
        rows.add(key, member, len(rows.keys) + torch.tensor([[1.0, 3.0, 2.0], [3.0, 5.0, 1.0]]).double())
    assert (rows.members, rows.conditions) == (["clean", "clean", "far-noise-1"], ["clean", "clean", "far-noise"])
    assert rows.features.dtype == np.float32
    np.testing.assert_array_equal(rows.features, [[2.0, 4.0, 1.5], [3.0, 5.0, 2.5], [4.0, 6.0, 3.5]])
    assert (rows.of({"b"}), rows.of({"a"}), rows.of({"c"})) == ([0, 2], [1], [])
    assert all(np.shares_memory(row, rows.features) for row in rows.rows)  # in memory once


def test_a_dimension_is_dead_beside_its_own_mean_or_its_own_layer():
    """A deviation below 1e-5 of the mean is rounding, one below 1e-7 of a layer's root mean square is nothing."""
    mean = np.array([[0.0, -100.0, -100.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    deviation = np.array([[3e-6, 0.9e-3, 1.1e-3, 1e-5], [3e-6, 2.0, 0.9e-7, 1.1e-7]])
    alive = np.array([[False, False, True, True], [True, True, False, True]])
    rms = np.sqrt((mean**2 + deviation**2).mean(axis=1))
    assert rms == pytest.approx([70.7, 1.0], rel=1e-3)
    scaling = Scaling.from_moments(mean, deviation)
    np.testing.assert_array_equal(scaling.inverse > 0, alive)
    np.testing.assert_allclose(scaling.inverse[alive], 1 / deviation[alive])
    np.testing.assert_array_equal(scaling.mean, mean)
    assert not Scaling.from_moments(np.zeros(2), np.zeros(2)).inverse.any()


class Elsewhere:
    """Frames on another device; it notes where what they are computed with is. (Torch's `meta` takes a second to start.)"""

    device = torch.device("meta")

    def __init__(self):
        self.devices = []

    def noted(self, other):
        self.devices.append(other.device.type)
        return self

    __sub__ = __mul__ = noted


def test_scaled_rows_and_frames_have_no_mean_and_unit_deviation():
    rows = np.array([[1.0, 10.0], [3.0, 30.0], [8.0, 20.0]], dtype=np.float32)
    scaling = Scaling.fitted(rows)
    assert scaling.mean.dtype == np.float64
    due = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(scaling.apply(rows), due, rtol=1e-6)
    layers = Scaling(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.5, 0.0], [2.0, 1.0]]))
    frames = torch.tensor([[[3.0, 9.0], [1.0, 9.0], [0.0, 0.0]]] * 2).double()
    found = layers.scaled(frames)
    due = [[[1.0, 0.0], [0.0, 0.0], [-0.5, 0.0]], [[0.0, 5.0], [-4.0, 5.0], [-6.0, -4.0]]]
    assert found.tolist() == due
    assert layers.scaled(frames.float()).dtype == torch.float32
    assert layers.scaled(Elsewhere()).devices == ["meta", "meta"]
    first = layers.first(1)
    assert (first.mean.tolist(), first.inverse.tolist()) == ([[1.0, 2.0]], [[0.5, 0.0]])
