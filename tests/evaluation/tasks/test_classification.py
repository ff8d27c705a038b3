"""Probes against an independent scikit-learn pipeline; what is held back; domain leakage of models that hide it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.data.labels import LabelGroup, LabelledTask, held_back
from evaluation.data.utterances import TooFewFramesError
from evaluation.features import PooledRows
from evaluation.tasks import classification
from evaluation.tasks.classification import INVERSE_STRENGTHS, choice_notes, commonest, probe_task
from evaluation.tasks.leakage import LEAKAGE_INVERSE_STRENGTH, leakage_scores

NUM_FEATURES = 12


def rows_of(
    labels: dict[str, str], *, seed: int, spread: float = 1.0, copies: tuple[str, ...] = ("clean",), shape=()
) -> PooledRows:
    """Gaussian classes; copies are moved and blurred."""
    rng = np.random.default_rng(seed)
    table = PooledRows()
    for key, label in labels.items():
        centre = np.random.default_rng(sum(label.encode())).standard_normal(NUM_FEATURES) * 10 + 50
        for number, copy in enumerate(copies):
            row = centre + (spread + 3 * number) * rng.standard_normal((*shape, NUM_FEATURES)) * 3 + number
            table.add(key, copy, torch.from_numpy(row)[..., None, :])
    return table


def labels_of(role: str, count: int, names=("a", "b", "c")) -> dict[str, str]:
    return {f"{role}-{number}": names[number % len(names)] for number in range(count)}


def accuracy(scores, condition, probe=0):
    [score] = [s for s in scores if (s.measure, s.condition, s.probe) == ("accuracy", condition, probe)]
    return score


@pytest.fixture(scope="module")
def one_task():
    train, dev, test = labels_of("train", 90), labels_of("dev", 60), labels_of("test", 75)
    task = LabelledTask("word", (LabelGroup(train, dev, test),), ())
    copies = ("clean", "noise-0", "noise-1", "phone-0")
    tables = {
        "train": rows_of(train, seed=1, spread=2),
        "dev": rows_of(dev, seed=2, spread=2),
        "test": rows_of(test, seed=3, spread=2, copies=copies),
    }
    return task, tables


@pytest.mark.parametrize("with_dev", [True, False])
def test_probe_agrees_with_an_independent_pipeline(one_task, with_dev):
    task, tables = one_task
    found = probe_task(
        task, train=tables["train"], dev=tables["dev"] if with_dev else None, test=tables["test"], seed=5, probes=2
    )
    for probe in range(2):
        back = held_back(task.groups[0].train, seed=5, probe=probe)
        keys = np.array(tables["train"].keys)
        features, labels = tables["train"].features, np.array([task.groups[0].train[key] for key in keys])
        is_back = np.isin(keys, list(back))
        dev = (features[is_back], labels[is_back])
        if with_dev:
            dev = (tables["dev"].features, [task.groups[0].dev[key] for key in tables["dev"].keys])
        best = (-1.0, None)
        for strength in INVERSE_STRENGTHS:
            pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
            pipeline.fit(features[~is_back].astype(float), labels[~is_back])
            score = pipeline.score(dev[0].astype(float), dev[1])
            best = max(best, (score, pipeline), key=lambda pair: pair[0])
        assert found.chosen[probe] == best[1][-1].C
        test = tables["test"].features.astype(float)
        conditions = np.array(tables["test"].conditions)
        truth = np.array([task.groups[0].test[key] for key in tables["test"].keys])
        for condition in ("clean", "noise", "phone"):
            chosen = conditions == condition
            score = accuracy(found.scores, condition, probe)
            assert score.value == pytest.approx(best[1].score(test[chosen], truth[chosen]), abs=1e-9)
            assert score.count == 75
    assert accuracy(found.scores, "clean").value > accuracy(found.scores, "noise").value > 0.4


def test_copies_of_one_condition_are_averaged(one_task):
    task, tables = one_task
    whole = probe_task(task, train=tables["train"], dev=None, test=tables["test"], seed=0, probes=1)
    single = []
    for member in ("noise-0", "noise-1"):
        test = PooledRows()
        for row, (key, condition) in enumerate(zip(tables["test"].keys, tables["test"].conditions, strict=True)):
            if condition == "clean" or (condition == "noise" and (row % 4 == 1) == (member == "noise-0")):
                test.add(
                    key, member if condition == "noise" else "clean", torch.from_numpy(tables["test"].rows[row])[None]
                )
        scores = probe_task(task, train=tables["train"], dev=None, test=test, seed=0, probes=1).scores
        single.append(accuracy(scores, "noise").value)
    assert accuracy(whole.scores, "noise").value == pytest.approx(np.mean(single))


def test_within_trains_one_probe_a_group_and_pools_their_answers():
    """Two recording sets with two voices each; across sets a voice's features are swapped, so only separate probes can tell."""
    groups, tables = [], {"train": PooledRows(), "test": PooledRows()}
    rng = np.random.default_rng(0)
    for sign, (first, second) in ((1, ("a", "b")), (-1, ("c", "d"))):
        labels = {}
        for role, count in (("train", 40), ("test", 20)):
            labels[role] = {f"{role}-{sign}-{n}": (first, second)[n % 2] for n in range(count)}
            for n, key in enumerate(labels[role]):
                row = rng.standard_normal(NUM_FEATURES) * 0.1 + 5.0 * sign * (n % 2)
                tables[role].add(key, "clean", torch.from_numpy(row)[None])
        groups.append(LabelGroup(labels["train"], {}, labels["test"]))
    task = LabelledTask("speaker within set", tuple(groups), ())
    found = probe_task(task, train=tables["train"], dev=None, test=tables["test"], seed=0, probes=1)
    assert accuracy(found.scores, "clean").value == 1.0
    assert accuracy(found.scores, "clean").count == 40
    [majority] = [score for score in found.scores if score.measure == "majority"]
    assert majority.value == 0.5


def test_where_dev_has_none_of_trains_labels_a_probe_chooses_on_what_it_holds_back(one_task):
    """Speakers: a usual corpus has others in dev."""
    task, tables = one_task
    strange = LabelledTask("word", (LabelGroup(task.groups[0].train, {}, task.groups[0].test),), ())
    roles = {"train": tables["train"], "test": tables["test"]}
    held, without = (probe_task(strange, **roles, dev=dev, seed=5, probes=2) for dev in (PooledRows(), None))
    assert (held.scores, held.chosen) == (without.scores, without.chosen)
    assert "dev has none of its labels" in held.notes[-1]
    assert not without.notes
    others = probe_task(strange, **roles, dev=tables["dev"], seed=5, probes=1)
    assert others.chosen == without.chosen[:1], "dev has utterances, of other labels"
    short = probe_task(task, **roles, dev=PooledRows(), seed=5, probes=1)
    assert short.chosen == without.chosen[:1], "dev has labels, of utterances without a frame"


def test_nothing_to_choose_on_is_said():
    train, test = {"1": "a", "2": "b"}, {"3": "a", "4": "b"}
    task = LabelledTask("word", (LabelGroup(train, {}, test),), ())
    found = probe_task(task, train=rows_of(train, seed=1), dev=None, test=rows_of(test, seed=2), seed=0, probes=1)
    assert any("nothing to choose on" in note for note in found.notes)
    assert found.chosen == (0.1,)


@given(
    labels=st.dictionaries(st.text(min_size=1), st.sampled_from("abc"), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_held_back_is_a_tenth_and_leaves_every_label(labels, seed):
    folds = [held_back(labels, seed=seed, probe=probe) for probe in range(10)]
    for fold in folds:
        assert {labels[key] for key in labels if key not in fold} == set(labels.values())
    counts = {label: sum(1 for found in labels.values() if found == label) for label in set(labels.values())}
    for label, count in counts.items():
        sizes = [sum(1 for key in fold if labels[key] == label) for fold in folds]
        assert all(size in {count // 10, count // 10 + 1} for size in sizes) if count > 1 else not any(sizes)
        if count >= 10:
            assert sum(sizes) == count
    shuffled = dict(sorted(labels.items(), reverse=True))
    assert held_back(shuffled, seed=seed, probe=3) == folds[3]


def deep_rows(role: str, *, leak: float, seed: int, count: int) -> PooledRows:
    """Three layers; the second one tells the domain as far as `leak` says."""
    rng = np.random.default_rng(seed)
    table = PooledRows()
    for number in range(count):
        content = rng.standard_normal((3, NUM_FEATURES))
        for domain, member in enumerate(("clean", "noise-0", "phone-0")):
            row = content.copy()
            row[1, 0] += leak * domain
            table.add(f"{role}-{number}", member, torch.from_numpy(row)[:, None])
    return table


def test_leakage_of_a_model_that_hides_the_domain_is_the_majority_rate():
    scores = leakage_scores(
        deep_rows("train", leak=0.0, seed=1, count=60), deep_rows("test", leak=0.0, seed=2, count=40)
    )
    majority = scores[-1]
    assert (majority.measure, majority.count) == ("majority", 120)
    for score in scores[:-1]:
        assert score.value == pytest.approx(majority.value) == pytest.approx(1 / 3)


def test_leakage_is_found_in_the_layer_that_leaks_and_agrees_with_scikit_learn():
    train, test = deep_rows("train", leak=6.0, seed=1, count=60), deep_rows("test", leak=6.0, seed=2, count=40)
    scores = leakage_scores(train, test)
    assert scores[1].value > 0.9
    assert scores[0].value == pytest.approx(1 / 3)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=LEAKAGE_INVERSE_STRENGTH, max_iter=1000))
    pipeline.fit(train.features[:, 1].astype(float), train.conditions)
    assert scores[1].value == pytest.approx(pipeline.score(test.features[:, 1].astype(float), test.conditions))


def test_leakage_leaves_out_conditions_that_training_has_not():
    train = deep_rows("train", leak=6.0, seed=1, count=30)
    test = deep_rows("test", leak=6.0, seed=2, count=20)
    for number in range(20):
        test.add(f"test-{number}", "music-0", torch.zeros(3, 1, NUM_FEATURES))
    assert leakage_scores(train, test)[0].count == 60


def test_what_is_held_back_depends_on_the_seed():
    labels = {f"u{number}": "ab"[number % 2] for number in range(40)}
    assert len({frozenset(held_back(labels, seed=seed, probe=0)) for seed in range(5)}) == 5


def test_the_majority_rate_counts_utterances_and_not_their_copies(one_task):
    task, tables = one_task
    scores = probe_task(task, train=tables["train"], dev=None, test=tables["test"], seed=0, probes=1).scores
    [majority] = [score for score in scores if score.measure == "majority"]
    assert majority.count == len(task.groups[0].test)


def test_probes_that_were_stopped_are_said(one_task, monkeypatch):
    task, tables = one_task
    clean = {role: tables[role] for role in ("train", "test")}
    assert probe_task(task, **clean, dev=None, seed=0, probes=2).notes == ()
    monkeypatch.setattr(classification, "MAX_ITERATIONS", 2)
    found = probe_task(task, **clean, dev=None, seed=0, probes=2)
    assert found.notes == ("word: 2 of 2 probes were stopped after 2 iterations",)


def test_how_settings_were_chosen_is_noted_with_its_numbers():
    groups = tuple(LabelGroup({}, dev, {}) for dev in ({}, {"u": "a"}, {}))
    task = LabelledTask("word", groups, ())
    given = {"count": 6, "unfinished": 4, "unchosen": 5}
    assert choice_notes(task, has_dev=True, **given) == (
        "word: dev has none of its labels in 2 of 3 groups, its probes chose on what they held back of train",
        "word: 4 of 6 probes were stopped after 1000 iterations",
        "word: 5 of 6 probes had nothing to choose on, C is 0.1",
    )
    summed = LabelledTask("word", groups[:1], (), features="sum")
    assert choice_notes(summed, has_dev=True, count=2, unfinished=0, unchosen=1) == (
        "word: dev has none of its labels, its probes chose on what they held back of train",
        "word: 1 of 2 probes had nothing to choose on, the learning rate is 0.01",
    )
    assert choice_notes(summed, has_dev=False, count=2, unfinished=0, unchosen=0) == ()


def test_a_task_of_which_one_label_is_long_enough_says_how_many_are_left(one_task):
    task, tables = one_task
    train = PooledRows()
    for row, key in enumerate(tables["train"].keys):
        if task.groups[0].train[key] == "a":
            train.add(key, "clean", torch.from_numpy(tables["train"].rows[row])[None])
    with pytest.raises(TooFewFramesError, match=r"^task 'word': 1 labels are left to train on, without"):
        probe_task(task, train=train, dev=None, test=tables["test"], seed=0, probes=1)
    with pytest.raises(TooFewFramesError, match=r"^task 'word': nothing is left to test on, without"):
        probe_task(task, train=tables["train"], dev=None, test=tables["dev"], seed=0, probes=1)


def test_of_equally_common_labels_the_first_of_the_alphabet_is_the_commonest():
    assert [commonest(list(labels)) for labels in ("bab", "ba", "cbbc", "abcc")] == ["b", "a", "b", "c"]


def test_every_probe_of_every_group_is_counted_by_what_it_chose(one_task):
    task, tables = one_task
    test = {key: tables[key] for key in ("train", "test")}
    [group] = task.groups
    some = {key: label for key, label in group.test.items() if label != "c"}
    task = LabelledTask(
        "word", (LabelGroup(group.train, {}, some), LabelGroup({"train-0": "a", "train-1": "b"}, {}, {})), ()
    )
    found = probe_task(task, **test, dev=None, seed=1, probes=2)
    assert found.chosen[1::2] == (0.1, 0.1)
    assert found.notes == ("word: 2 of 4 probes had nothing to choose on, C is 0.1",)
    assert [len(right) for right in found.outcomes] == [50 * 4] * 2
    assert {total for right in found.outcomes for _, total in right.values()} == {1.0}
    assert {score.probe for score in found.scores if score.measure == "accuracy"} == {0, 1}


def test_of_no_rows_a_probe_says_nothing_and_its_error_is_none(one_task):
    _, tables = one_task
    rows = tables["train"].features
    labels = np.array(["abc"[number % 3] for number in range(len(rows))])
    probe = classification.fitted_probe(rows, labels, inverse_strength=1.0)
    assert probe.predictions(rows[:0]).tolist() == []
    assert classification.error_rate(probe, rows[:0], labels[:0]) == 0.0
    told = probe.predictions(rows[:6])
    assert classification.error_rate(probe, rows[:6], np.where(np.arange(6) < 2, "x", told)) == pytest.approx(2 / 6)


def test_one_copy_of_each_utterance_is_picked_with_its_own_label():
    table = PooledRows()
    for number, (key, member) in enumerate(
        (("u", "noise-0"), ("u", "clean"), ("v", "clean"), ("v", "noise-1"), ("w", "clean"))
    ):
        table.add(key, member, torch.full((1, 2), float(number)))
    labels = {"v": "b", "u": "a"}
    for members, expected in ((None, [1, 2]), ({"u": "noise-0", "v": "noise-1"}, [0, 3])):
        rows, found = classification.picked(table, labels, members=members)
        assert (rows[:, 0].tolist(), found.tolist()) == (expected, ["a", "b"])
