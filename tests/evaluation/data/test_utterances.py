"""Which utterances of a corpus are evaluated: their splits, conditions and order, and what identifies their data."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from evaluation.config import Splits
from evaluation.data import utterances as stage
from evaluation.data.utterances import (
    EmptyConditionError,
    TooFewFramesError,
    UnknownSplitError,
    keyed_order,
    list_utterances,
    under_limit,
)
from manifests.io.digest import digest


class Reader:
    """A corpus of shards; `held` has by split and shard the keys, each with its copies."""

    def __init__(self, held, *, borrowed=None, copies=None):
        entries = {
            split: [SimpleNamespace(name=name, sha256=f"digest of {name}") for name in shards]
            for split, shards in held.items()
        }
        self.manifest = SimpleNamespace(name="tiny", sample_rate=8000, splits=entries, borrowed=borrowed)
        self.held = {name: (split, keys) for split, shards in held.items() for name, keys in shards.items()}
        self.counted = copies

    def shards(self, split):
        return self.manifest.splits[split]

    def samples(self, name):
        def member(key, name):
            return SimpleNamespace(pcm_sha256=None if key == "k0" else f"pcm of {key} {name}")

        _, keys = self.held[name]
        return [
            SimpleNamespace(key=key, members={one: member(key, one) for one in ("json", *copies, "clean")})
            for key, copies in keys.items()
        ]

    def whole_record(self, shard, indexed, *, split):
        assert self.held[shard][0] == split
        copies = [
            SimpleNamespace(name=name, condition=name.rpartition("-")[0]) for name in self.held[shard][1][indexed.key]
        ]
        return SimpleNamespace(id=f"{split} {shard} {indexed.key}", copies=copies)

    def copies(self, split):
        if self.counted is not None:
            return self.counted
        return Counter(
            name.rpartition("-")[0]
            for shard in self.shards(split)
            for names in self.held[shard.name][1].values()
            for name in names
        )


HELD = {
    "learn": {"l0": dict.fromkeys(("k2", "k0"), ("music-0",)), "l1": dict.fromkeys(("k1", "k3"), ())},
    "dev": {"d0": {"x": ()}},
    "exam": {"e0": {"t": ("phone-0", "far-0")}, "e1": {"u": ("far-0", "noise-0"), "s": ()}},
}


def config(**changes):
    given = {"splits": Splits(train="learn", test="exam"), "seed": 3, "limit": None, "measures": ("cosine",), **changes}
    return SimpleNamespace(**given)


def test_utterances_are_listed_by_role_in_the_corpuss_order_with_the_conditions_of_test():
    found = list_utterances(Reader(HELD), config())
    assert (found.corpus, found.sample_rate, found.limit) == ("tiny", 8000, None)
    assert (found.splits, found.conditions) == (
        Splits(train="learn", dev="dev", test="exam"),
        ("far", "noise", "phone"),
    )
    assert {role: list(found.of(role)) for role in ("train", "dev", "test")} == {
        "train": ["k2", "k0", "k1", "k3"],
        "dev": ["x"],
        "test": ["t", "u", "s"],
    }
    assert [found.split_of(role) for role in ("train", "dev", "test")] == ["learn", "dev", "exam"]
    assert {key: (one.sample.id, one.pcm_sha256) for key, one in found.train.items()} == {
        "k2": ("learn l0 k2", "pcm of k2 clean"), "k0": ("learn l0 k0", ""), "k1": ("learn l1 k1", "pcm of k1 clean"), "k3": ("learn l1 k3", "pcm of k3 clean"),
    }  # fmt: skip
    assert found.reference == {"k0", "k1", "k2", "k3"}
    assert found.data_sha256 == digest(
        {"learn": ["digest of l0", "digest of l1"], "dev": ["digest of d0"], "exam": ["digest of e0", "digest of e1"]}
    )


def test_without_dev_there_is_no_dev_and_its_data_do_not_count():
    held = {split: HELD[split] for split in ("learn", "exam")} | {"other": HELD["dev"]}
    found = list_utterances(Reader(held), config())
    assert (found.dev, found.splits.dev) == ({}, None)
    assert found.data_sha256 == digest(
        {"learn": ["digest of l0", "digest of l1"], "exam": ["digest of e0", "digest of e1"]}
    )
    named = list_utterances(Reader(held), config(splits=Splits(train="learn", dev="other", test="exam")))
    assert list(named.dev) == ["x"]
    with pytest.raises(
        UnknownSplitError, match=r"^splits\.dev: corpus tiny has no split 'dev', only learn, exam, other$"
    ):
        list_utterances(Reader(held), config(splits=Splits(train="learn", dev="dev", test="exam")))


def test_of_a_linked_corpus_the_members_that_it_has_are_its_data_too():
    found = stage.data_of(Reader(HELD, borrowed={"from": "whole"}), "exam")
    assert found == [
        "digest of e0", "digest of e1",
        [["t", "clean", "far-0", "json", "phone-0"], ["u", "clean", "far-0", "json", "noise-0"], ["s", "clean", "json"]],
    ]  # fmt: skip
    assert stage.data_of(Reader(HELD), "exam") == ["digest of e0", "digest of e1"]


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_takes_some_of_each_split_by_the_seed_and_keeps_their_order(monkeypatch, seed):
    monkeypatch.setattr(stage, "REFERENCE_UTTERANCES", 2)
    found = list_utterances(Reader(HELD), config(limit=3, seed=seed, measures=()))
    taken = keyed_order(["k0", "k1", "k2", "k3"], seed=seed, purpose="limit")[:3]
    assert list(found.train) == [key for key in ("k2", "k0", "k1", "k3") if key in taken]
    assert found.reference == set(keyed_order(taken, seed=seed, purpose="reference")[:2])
    assert found.limit == 3
    assert list(found.test) == ["t", "u", "s"]
    assert (under_limit(None), under_limit(3)) == ("", " (of which limit: 3 takes 3 utterances at most)")


def test_frames_are_scaled_by_five_hundred_utterances():
    assert stage.REFERENCE_UTTERANCES == 500


def test_a_condition_without_a_copy_is_refused_and_so_is_a_test_without_any():
    with pytest.raises(
        EmptyConditionError,
        match=r"^conditions: condition 'fog' has no utterance in split 'exam'; give the recipe copies\.exam",
    ):
        list_utterances(Reader(HELD, copies={"far": 1, "fog": 1}), config())
    assert list_utterances(Reader(HELD, copies={"phone": 1, "far": 2, "fog": 0}), config()).conditions == (
        "far",
        "phone",
    )
    bare = HELD | {"exam": {"e9": {"t": (), "u": ()}}}
    with pytest.raises(
        EmptyConditionError, match=r"^measures cka, leakage: there is no distorted copy in split 'exam'"
    ):
        list_utterances(Reader(bare), config(measures=("cka", "leakage")))
    assert list_utterances(Reader(bare), config(measures=())).conditions == ()


def test_a_message_about_too_few_frames_names_its_task():
    message = str(TooFewFramesError("word", "one label is left"))
    assert (
        message
        == "task 'word': one label is left, without the utterances that are shorter than one frame; give it longer ones"
    )
