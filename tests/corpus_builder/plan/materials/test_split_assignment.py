"""How many of few names each split gets, by counts that were worked out by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from corpus_builder.plan.materials.split_assignment import TooFewToAssignError, assigned


def counts(number: int, *splits: str) -> dict[str, int]:
    names = [str(name) for name in range(number)]
    found = assigned([*names, *names], splits, seed=3, owner="hum")
    assert set(found) == set(names)
    assert found == assigned(reversed(names), splits, seed=3, owner="hum")
    return dict(Counter(found.values()))


def test_train_has_four_fifths_wherever_it_is_named_and_without_it_the_first() -> None:
    assert counts(20, "dev", "train", "test") == {"dev": 2, "train": 16, "test": 2}
    assert counts(20, "b", "a", "c") == {"b": 16, "a": 2, "c": 2}
    assert counts(20, "only") == {"only": 20}
    assert counts(1, "only") == {"only": 1}


def test_shares_are_rounded_and_the_largest_has_the_rest() -> None:
    assert counts(10, "train", "dev") == {"train": 8, "dev": 2}
    assert counts(13, "train", "dev") == {"train": 10, "dev": 3}  # 2.6 names
    assert counts(12, "train", "dev") == {"train": 10, "dev": 2}  # 2.4 names
    assert counts(36, "train", "dev", "test") == {"train": 28, "dev": 4, "test": 4}  # 3.6 names each


@pytest.mark.parametrize("number", [6, 7, 8])
def test_many_splits_of_few_names_have_one_each_at_least(number: int) -> None:
    found = counts(number, "train", "a", "b", "c", "d", "e")
    assert len(found) == 6
    assert found == {"train": number - 5, **dict.fromkeys("abcde", 1)}


def test_too_few_names_are_told_with_what_they_are_and_the_splits() -> None:
    with pytest.raises(TooFewToAssignError) as told:
        assigned(["x", "y", "x"], ("train", "dev", "test"), seed=1, owner="attic", what="recorded rooms")
    assert str(told.value).startswith(
        "attic: 2 recorded rooms cannot be assigned to 3 splits (train, dev, test) with at least one each;"
    )
