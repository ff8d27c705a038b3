from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.plan.materials.seeded_random import drawn, drawn_number, keyed_hash, rng_for
from corpus_builder.plan.materials.split_assignment import TooFewToAssignError, assigned, shares
from manifests.recipe.distributions import Draw

NAMES = st.text(max_size=12)


def draw_of(short: object) -> Draw:
    return Draw.model_validate(short)


@given(NAMES, NAMES, NAMES)
def test_the_same_name_gives_the_same_numbers_and_another_name_others(utterance: str, copy: str, step: str) -> None:
    first = rng_for(7, "train", utterance, copy, step).random(4)
    assert np.array_equal(first, rng_for(7, "train", utterance, copy, step).random(4))
    assert not np.array_equal(first, rng_for(8, "train", utterance, copy, step).random(4))
    assert not np.array_equal(first, rng_for(7, "train", utterance, copy, step + "x").random(4))


def test_generators_of_neighbouring_names_are_even_and_do_not_correlate() -> None:
    values = np.array([rng_for(0, "train", f"u{number}", "noise-0", "0.snr_db").random(2) for number in range(4000)])
    assert abs(values.mean() - 0.5) < 4 * math.sqrt(1 / 12 / values.size)
    assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 4 / math.sqrt(len(values))
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 4 / math.sqrt(len(values))
    counts = np.histogram(values, bins=10, range=(0, 1))[0]
    assert ((counts - values.size / 10) ** 2 / (values.size / 10)).sum() < 27.9  # chi square, 9 degrees, p = 0.001


@given(st.floats(-60, 60), st.floats(0, 60), st.integers(0, 2**32))
def test_a_drawn_number_is_rounded_and_never_leaves_its_range(low: float, width: float, seed: int) -> None:
    value = drawn_number(draw_of({"uniform": [low, low + width]}), np.random.default_rng(seed))
    assert low <= value <= low + width
    assert value in {low, low + width} or value == round(value, 2)


@given(st.floats(0.01, 10), st.floats(1, 100), st.integers(0, 2**32))
def test_a_log_uniform_number_stays_in_its_range(low: float, factor: float, seed: int) -> None:
    assert (
        low <= drawn_number(draw_of({"log_uniform": [low, low * factor]}), np.random.default_rng(seed)) <= low * factor
    )


def test_whole_numbers_include_both_ends_and_choices_come_evenly() -> None:
    rng = np.random.default_rng(1)
    whole = Counter(drawn(draw_of({"uniform_int": [3, 7]}), rng) for _ in range(5000))
    assert set(whole) == {3, 4, 5, 6, 7}
    assert all(abs(count - 1000) < 4 * math.sqrt(5000 * 0.2 * 0.8) for count in whole.values())
    words = Counter(drawn(draw_of({"choice": ["a", "b"]}), rng) for _ in range(2000))
    assert abs(words["a"] - 1000) < 4 * math.sqrt(2000 * 0.25)


def test_a_constant_is_itself() -> None:
    assert drawn(draw_of(3.14159), np.random.default_rng(0)) == 3.14159
    assert drawn(draw_of("keep"), np.random.default_rng(0)) == "keep"


@given(st.sets(st.text(min_size=1, max_size=8), min_size=3, max_size=60), st.randoms())
def test_dealing_does_not_depend_on_order_and_leaves_no_split_empty(names: set[str], shuffle: object) -> None:
    listed = sorted(names)
    first = assigned(listed, ("train", "dev", "test"), seed=1, owner="musan")
    shuffle.shuffle(listed)  # type: ignore[attr-defined]
    assert assigned(listed, ("train", "dev", "test"), seed=1, owner="musan") == first
    assert set(first) == names
    assert set(first.values()) == {"train", "dev", "test"}


def test_dealing_gives_train_eight_of_ten() -> None:
    names = [f"n{number}" for number in range(1000)]
    counts = Counter(assigned(names, ("dev", "train", "test"), seed=1, owner="musan").values())
    assert counts == {"train": 800, "dev": 100, "test": 100}
    assert shares(("a", "b")) == pytest.approx([0.8, 0.2])
    assert set(assigned(names, ("only",), seed=1, owner="musan").values()) == {"only"}


def test_too_few_things_to_deal_are_named() -> None:
    with pytest.raises(TooFewToAssignError, match="musan: 2 groups cannot be assigned to 3 splits"):
        assigned(["a", "b"], ("train", "dev", "test"), seed=1, owner="musan")


def test_a_keyed_hash_depends_on_key_and_name() -> None:
    assert keyed_hash(1, "a", "b") != keyed_hash(2, "a", "b") != keyed_hash(2, "ab")
    assert 0 <= keyed_hash(1, "x") < 2**64
