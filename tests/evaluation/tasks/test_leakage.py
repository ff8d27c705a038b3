"""The domain probe is tested on other speakers and other noises than it was trained on, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.features import PooledRows
from evaluation.tasks.leakage import EPOCHS, HIDDEN, LEAKAGE_INVERSE_STRENGTH, held_out, leakage_scores

CLEAN_AND_NOISE = ("clean", "noise-0", "noise-1")


def table(*keys, members=CLEAN_AND_NOISE):
    rows = PooledRows()
    for number, key in enumerate(keys):
        for member in members:
            rows.add(key, member, torch.full((1, 1, 2), float(number)))
    return rows


def speakers_in(rows, speakers):
    return {speakers[key] for key in rows.keys}


def test_no_speaker_and_no_recording_is_on_both_sides():
    speakers = {f"train-{n}": f"s{n % 6}" for n in range(12)} | {f"test-{n}": f"s{3 + n % 6}" for n in range(12)}
    train, test = (table(*(key for key in speakers if key.startswith(role))) for role in ("train", "test"))
    recordings = {}
    for n in range(12):
        recordings |= {(f"train-{n}", "noise-0"): ("hum",), (f"train-{n}", "noise-1"): ("wind", "room")}
        recordings |= {(f"test-{n}", "noise-0"): ("hum",) if n % 2 else ("rain",)}
        recordings |= {(f"test-{n}", "noise-1"): ("sea", "room") if n % 3 else ("sea",)}
    kept_train, kept_test, notes = held_out(train, test, speakers=speakers, recordings=recordings, seed=0)
    assert notes == []
    assert not speakers_in(kept_train, speakers) & speakers_in(kept_test, speakers)
    assert speakers_in(kept_train, speakers) | speakers_in(kept_test, speakers) == {f"s{n}" for n in range(9)}
    shared = {"s3", "s4", "s5"}
    assert 0 < len(shared & speakers_in(kept_test, speakers)) < 3  # they are divided
    met = {one for place, names in recordings.items() if place[0] in kept_train.keys for one in names}
    for key, member in zip(kept_test.keys, kept_test.members, strict=True):
        assert not met & set(recordings.get((key, member), ()))
    # nothing else is lost
    expected = [
        (key, member)
        for key, member in zip(test.keys, test.members, strict=True)
        if speakers[key] in speakers_in(kept_test, speakers) and not met & set(recordings.get((key, member), ()))
    ]
    assert list(zip(kept_test.keys, kept_test.members, strict=True)) == expected
    assert len(expected) < len(test.keys)
    for kept, whole in ((kept_train, train), (kept_test, test)):
        own = {(key, member): row for key, member, row in zip(whole.keys, whole.members, whole.features, strict=True)}
        for key, member, condition, row in zip(kept.keys, kept.members, kept.conditions, kept.features, strict=True):
            assert condition == member.split("-")[0]
            assert row.tolist() == own[key, member].tolist()


def test_where_holding_out_would_lose_a_condition_nothing_is_held_out_and_that_is_said():
    speakers = {"train-0": "a", "train-1": "b", "test-0": "c", "test-1": "d"}
    train, test = table("train-0", "train-1"), table("test-0", "test-1")
    recordings = {(key, member): ("hum",) for key in speakers for member in ("noise-0", "noise-1")}
    found = held_out(train, test, speakers=speakers, recordings=recordings, seed=0)
    assert (found[0].keys, found[1].keys) == (train.keys, test.keys)
    assert "too few to hold any out" in found[2][0]


def test_one_speaker_in_all_is_said():
    speakers = {"train-0": "a", "test-0": "a"}
    train, test = table("train-0"), table("test-0")
    *kept, notes = held_out(train, test, speakers=speakers, recordings={}, seed=0)
    assert "one speaker in all" in notes[0]
    assert (kept, len(notes)) == ([train, test], 1)
    recordings = {("train-0", "noise-0"): ("hum",), ("test-0", "noise-1"): ("hum",)}
    _, left, notes = held_out(train, test, speakers=speakers, recordings=recordings, seed=0)
    assert left.members == ["clean", "noise-0"], "recordings are still held out"


def test_both_domain_probes_are_those_of_scikit_learn_scaled_on_train_beside_the_majority_of_train():
    """Test is moved and wider, so a probe scaled by it would answer otherwise; its commonest domain is another."""
    rng = np.random.default_rng(0)
    tables = []
    for counts, move, stretch in (((80, 40, 30), 0.0, 1.0), ((20, 60, 25), 0.7, 1.6)):
        rows = PooledRows()
        for domain, (member, count) in enumerate(zip(("clean", "noise-0", "phone-0"), counts, strict=True)):
            for number in range(count):
                row = rng.standard_normal((2, 5)) * stretch + move
                row[1, 0] += 1.5 * domain
                rows.add(f"{member}-{number}", member, torch.from_numpy(row)[:, None])
        tables.append(rows)
    train, test = tables
    scores = leakage_scores(train, test)
    network = MLPClassifier((HIDDEN,), alpha=1e-2, learning_rate_init=3e-3, max_iter=EPOCHS, random_state=0)
    models = {
        "leakage": LogisticRegression(C=LEAKAGE_INVERSE_STRENGTH, max_iter=1000), "leakage_mlp": network,
    }  # fmt: skip
    for measure, model in models.items():
        for layer in range(2):
            pipeline = make_pipeline(StandardScaler(), model)
            with pytest.warns() if measure == "leakage_mlp" else np.errstate():  # it is stopped after so many epochs
                pipeline.fit(train.features[:, layer].astype(float), train.conditions)
            expected = pipeline.score(test.features[:, layer].astype(float), test.conditions)
            [score] = [one for one in scores if (one.measure, one.layer) == (measure, layer + 1)]
            assert (score.value, score.count) == (pytest.approx(expected), 105)
    assert scores[-1].measure == "majority"
    assert scores[-1].value == pytest.approx(20 / 105)  # clean is the commonest in train


def test_speakers_of_both_splits_are_divided_by_the_seed():
    train, test = table("a", "b", "c", "d"), table("e", "f", "g", "h")
    speakers = dict(zip("abcdefgh", "wxyzwxyz", strict=True))
    halves = {
        frozenset(speakers_in(held_out(train, test, speakers=speakers, recordings={}, seed=seed)[0], speakers))
        for seed in range(6)
    }
    assert all(len(half) == 2 for half in halves)
    assert len(halves) > 1


def test_a_speaker_of_both_splits_is_tested_on_where_train_has_others():
    train, test = table("a", "b"), table("c")
    left_train, left_test, notes = held_out(
        train, test, speakers={"a": "ann", "b": "bob", "c": "ann"}, recordings={}, seed=0
    )
    assert (set(left_train.keys), set(left_test.keys), notes) == ({"b"}, {"c"}, [])


def test_where_no_speaker_of_train_is_named_that_is_said_though_those_of_test_are():
    found = held_out(table("a"), table("b"), speakers={"a": None, "b": "bob"}, recordings={}, seed=0)
    assert found[2] == ["leakage: no speaker is named, so the domain probe may be tested on those it was trained on"]
    assert held_out(table("a"), table("b"), speakers={"a": "ann"}, recordings={}, seed=0)[2] == []


def test_where_train_would_lose_a_condition_nothing_is_held_out():
    """The speaker of both is the only one whose copies train has."""
    train, test = table("a"), table("c")
    train.add("b", "clean", torch.zeros(1, 1, 2))
    found = held_out(train, test, speakers={"a": "ann", "b": "bob", "c": "ann"}, recordings={}, seed=0)
    assert (found[0], found[1]) == (train, test)
    assert found[2] == ["leakage: speakers and noises are those of training, for there are too few to hold any out"]


def test_a_recording_of_those_who_are_only_tested_on_does_not_count_as_trained():
    train, test = table("a", "b"), table("c")
    speakers, recordings = {"a": "ann", "b": "bob", "c": "ann"}, {(key, "noise-0"): ("hum",) for key in "ac"}
    _, left, notes = held_out(train, test, speakers=speakers, recordings=recordings, seed=0)
    assert (left.members, notes) == (list(CLEAN_AND_NOISE), [])
