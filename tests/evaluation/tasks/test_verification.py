"""Verification: how an embedding is trained, by a slow loop; which speakers, seeds and rates its probes have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation.config import VerifyTask
from evaluation.data.trials import VerificationTask
from evaluation.features import PooledRows, Scaling
from evaluation.tasks import verification
from evaluation.tasks.verification import chosen_rate, fitted_verifier, scored_trials, verify_task
from evaluation.tasks.weighted_sum import LEARNING_RATES, seeded_thread
from tests.evaluation.tasks.test_weighted_sum import adam_by_hand

UNCHANGED = Scaling(np.zeros((1, 2)), np.ones((1, 2)))


def test_an_embedding_is_trained_as_a_slow_loop_trains_it(monkeypatch):
    """Sixteen times the cosine with a vector of each speaker is a logit; the vectors are learned too."""
    monkeypatch.setattr(verification, "UPDATES", 3)
    monkeypatch.setattr(verification, "BATCH", 4)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, 2, 3)).astype(np.float32)
    labels = np.array(["bob", "ann", "bob", "cy", "ann", "cy"])
    scaling = Scaling(np.full((2, 3), 0.5), np.full((2, 3), 2.0))
    found = fitted_verifier(rows, labels, scaling, learning_rate=0.05, seed=4, probe=2)
    states = torch.from_numpy((rows - 0.5) * 2).float()
    target = torch.tensor([["ann", "bob", "cy"].index(label) for label in labels])
    with seeded_thread(4, "verification", 2) as generator:
        linear = torch.nn.Linear(3, 128, bias=False)
        speakers = torch.randn(3, 128).requires_grad_()
    weights = torch.zeros(2, requires_grad=True)

    def loss_of():
        batch = torch.randint(6, (4,), generator=generator)
        total = 0.0
        for one in batch:
            vector = linear.weight @ (weights.softmax(0)[0] * states[one, 0] + weights.softmax(0)[1] * states[one, 1])
            cosines = torch.stack([vector @ other / (vector.norm() * other.norm()) for other in speakers])
            total = total - (16.0 * cosines).log_softmax(0)[target[one]] / 4
        return total

    adam_by_hand([weights, linear.weight, speakers], loss_of, rate=0.05, updates=3)
    torch.testing.assert_close(found.module[0].weights.detach(), weights.detach(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.module[1].weight.detach(), linear.weight.detach(), rtol=1e-3, atol=1e-5)
    assert found.learning_rate == 0.05


class Angles:
    """A made-up probe: rows are an angle, and the rate at which it shows; at every other rate all are alike."""

    def __init__(self, rate):
        self.rate = rate

    def embedding(self, rows):
        angle = np.where(rows[:, 0, 1] == LEARNING_RATES.index(self.rate), rows[:, 0, 0], 0.0)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.fixture(name="fitted")
def probes_that_are_only_noted(monkeypatch):
    made = []

    def fit(rows, labels, scaling, **given):
        made.append((sorted(set(labels)), len(rows), given))
        return Angles(given["learning_rate"])

    monkeypatch.setattr(verification, "fitted_verifier", fit)
    return made


def table(labels, *, good, copies=("clean",)):
    """Two utterances a speaker, whose angles tell them at the rate of this number."""
    names = sorted(set(labels.values()))
    rows = PooledRows()
    for key, name in labels.items():
        for copy in copies:
            rows.add(key, copy, torch.tensor([[float(names.index(name)), float(good)]]))
    return rows


def named(*speakers):
    return {f"{speaker}{number}": speaker for speaker in speakers for number in range(2)}


def pairs_of(labels):
    return tuple((one, other) for one in labels for other in labels if one < other)


def task_of(train, dev, test, dev_pairs):
    return VerificationTask("who", VerifyTask(kind="verify"), train, dev, test, (), pairs_of(test), dev_pairs)


def test_the_rate_is_the_best_on_dev_or_on_speakers_of_train_that_the_trials_do_not_learn(fitted):
    train, dev = named("a", "b", "c", "d"), named("x", "y")
    tables = {"train": table(train, good=1), "dev": table(dev, good=2)}
    rows = tables["train"].features[:, None]
    labels = np.array([train[key] for key in tables["train"].keys])
    on_dev = task_of(train, dev, dev, pairs_of(dev))
    assert chosen_rate(on_dev, rows, labels, UNCHANGED, **tables, seed=9) == LEARNING_RATES[2]
    expected = [{"learning_rate": rate, "seed": 9, "probe": 0} for rate in LEARNING_RATES]
    assert fitted == [(["a", "b", "c", "d"], 8, given) for given in expected]
    held = task_of(train, {}, dev, pairs_of(named("a", "d")))
    for table_of_dev in (None, tables["dev"]):  # dev may have none of its speakers
        fitted.clear()
        found = chosen_rate(held, rows, labels, UNCHANGED, train=tables["train"], dev=table_of_dev, seed=9)
        assert found == LEARNING_RATES[1]
        assert fitted == [(["b", "c"], 4, given) for given in expected]


@pytest.mark.parametrize("held", ["abc", "abcd"])
def test_where_the_rest_is_of_one_speaker_or_of_none_all_are_learned(fitted, held):
    train = named("a", "b", "c", "d")
    rows = table(train, good=3)
    labels = np.array([train[key] for key in rows.keys])
    task = task_of(train, {}, train, pairs_of(named(*held)))
    found = chosen_rate(task, rows.features[:, None], labels, UNCHANGED, train=rows, dev=None, seed=0)
    assert found == LEARNING_RATES[3]
    assert {(tuple(learned), count) for learned, count, _ in fitted} == {(("a", "b", "c", "d"), 8)}


def test_every_probe_has_the_chosen_rate_its_own_number_and_the_seed(fitted):
    train, dev, test = named("a", "b"), named("x", "y"), named("p", "q", "r")
    tested = table(test, good=2, copies=("clean", "noise-0", "noise-1"))
    tested.add("p0", "phone-0", torch.tensor([[2.0, 2.0]]))  # as r: every wrong trial is nearer
    found = verify_task(
        task_of(train, dev, test, pairs_of(dev)), train=table(train, good=0), dev=table(dev, good=2), test=tested,
        seed=6, probes=3,
    )  # fmt: skip
    last = [given for *_, given in fitted[len(LEARNING_RATES) :]]
    assert last == [{"learning_rate": LEARNING_RATES[2], "seed": 6, "probe": number} for number in range(3)]
    assert found.chosen == (LEARNING_RATES[2],) * 3
    assert [(one.measure, one.task, one.condition, one.value, one.count, one.probe) for one in found.scores] == [
        ("eer", "who", condition, value, count, number)
        for number in range(3)
        for condition, value, count in (("clean", 0.0, 15), ("noise", 0.0, 30), ("phone", 1.0, 5))
    ]
    assert len(found.trials) == 3
    assert len(found.trials[0]) == 15 + 30 + 5


def test_a_trial_is_a_copy_against_the_clean_wave_of_another_that_is_there():
    labels = {"a": "ann", "b": "ann", "c": "cy"}
    rows = PooledRows()
    places = (("a", "noise-0", 1.0), ("a", "clean", 2.0), ("b", "clean", 3.5), ("c", "noise-0", 6.0))
    for key, member, angle in places:
        rows.add(key, member, torch.tensor([[angle, 0.0]]))
    pairs = (("a", "b"), ("b", "a"), ("c", "b"), ("a", "c"), ("gone", "a"))
    probe = Angles(LEARNING_RATES[0])
    expected = [
        (("a", "noise-0"), ("b", "clean"), True, np.cos(2.5)), (("a", "clean"), ("b", "clean"), True, np.cos(1.5)),
        (("b", "clean"), ("a", "clean"), True, np.cos(1.5)), (("c", "noise-0"), ("b", "clean"), False, np.cos(2.5)),
    ]  # fmt: skip
    found = scored_trials(probe, rows, pairs, labels)
    assert [one[:3] for one in found] == [one[:3] for one in expected]
    np.testing.assert_allclose([one[3] for one in found], [one[3] for one in expected], atol=1e-6)
    clean = scored_trials(probe, rows, pairs, labels, clean_only=True)
    assert [one[:2] for one in clean] == [one[:2] for one in expected if one[0][1] == "clean"]
