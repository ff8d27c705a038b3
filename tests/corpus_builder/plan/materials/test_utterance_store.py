"""Which of several utterances with one id is used, who counts as another speaker, and how few utterances fill shards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corpus_builder.plan.materials.utterance_store import NoOtherSpeakerError, UtteranceStore
from corpus_builder.sources.relative_paths import RootFinder
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import Refused, Utterance
from manifests.recipe.speech import SpeechSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.recipe.speech import Channel


def store_at(path: Path, *, seed: int = 1) -> UtteranceStore:
    source = Located("dev", "voices", SpeechSource.parse({"dir": "x"}, where="test"), path.parent)
    return UtteranceStore(path, split="dev", seed=seed, finder=RootFinder(source))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[UtteranceStore]:
    with contextlib.closing(store_at(tmp_path / "store")) as made:
        yield made


def add(store: UtteranceStore, name: str, path: str, *, start: float = 0.0, channel: Channel | None = None) -> None:
    store.add(Utterance(name, path, start, 1000, 16_000, channel))


def test_of_utterances_with_one_id_the_first_by_path_and_then_start_is_used(store: UtteranceStore) -> None:
    """Neither the first that was added, nor the earliest start of all; each other one is refused with its own place."""
    add(store, "u", "b.wav", start=0.0)
    add(store, "v", "v.wav")
    add(store, "u", "a.wav", start=2.5)
    add(store, "u", "a.wav", start=1.25)
    assert store.finish() == [
        Refused("u", "its id occurs 3 times; the one of a.wav at 1.25 s is used, not that of a.wav at 2.5 s"),
        Refused("u", "its id occurs 3 times; the one of a.wav is used, not that of b.wav"),
    ]
    used = [store.read(int(index)).utterance for index in store.order]
    assert sorted((one.id, one.path, one.start_s) for one in used) == [("u", "a.wav", 1.25), ("v", "v.wav", 0.0)]


def test_the_span_of_an_utterance_has_its_channel_the_first_too(store: UtteranceStore) -> None:
    for number, channel in enumerate((None, 0, 3)):
        add(store, f"u{number}", "d/a.wav", start=0.5 * number, channel=channel)
    add(store, "mixed", "d/a.wav", channel="mix")
    store.finish()
    store.shorten(1, 900)
    common = {"root": "voices", "path": "d/a.wav", "rate_hz": 16_000}
    assert [store.read(index).span("voices") for index in range(4)] == [
        {**common, "start": 0.0, "num_frames": 1000},
        {**common, "start": 0.5, "num_frames": 900, "channel": 0},
        {**common, "start": 1.0, "num_frames": 1000, "channel": 3},
        {**common, "start": 0.0, "num_frames": 1000, "channel": "mix"},
    ]
    assert store.talker(1).utterance.num_frames == 900


def test_without_labels_stretches_of_one_channel_are_one_speaker_and_channels_two(store: UtteranceStore) -> None:
    for number, channel in enumerate((0, 1, 0, 1)):
        add(store, f"u{number}", "call.wav", start=float(number), channel=channel)
    store.finish()
    for _ in range(20):
        assert store.others(0, 1, np.random.default_rng(3))[0] in {1, 3}
        assert store.others(3, 1, np.random.default_rng(4))[0] in {0, 2}


def test_where_speakers_repeat_neither_the_own_nor_an_utterance_twice_is_drawn_while_others_remain(
    store: UtteranceStore,
) -> None:
    """The own speaker has nearly all utterances, so that the search that follows 64 vain draws decides."""
    for number in range(400):
        speaker = "b" if number in {7, 300} else "c" if number == 123 else "own"
        store.add(Utterance(f"u{number}", f"{number}.wav", 0.0, 1000, 16_000, speaker=speaker))
    store.finish()
    for seed in range(15):
        rng = np.random.default_rng(seed)
        first, second, third = store.others(0, 3, rng)
        assert {first, second, third} == {7, 123, 300}
        assert 123 in {first, second}, "a speaker repeats before all were drawn"
        assert len(store.others(0, 5, rng)) == 5
    with pytest.raises(NoOtherSpeakerError, match="split 'dev' has only the one speaker 'own'"):
        store.drop([7, 300, 123])
        store.others(0, 1, np.random.default_rng(0))


def test_one_utterance_without_a_label_cannot_babble(store: UtteranceStore) -> None:
    add(store, "u", "a.wav")
    store.finish()
    with pytest.raises(NoOtherSpeakerError, match="split 'dev' has only one utterance"):
        store.others(0, 1, np.random.default_rng(0))


@pytest.mark.parametrize(("samples", "count"), [(1, 10), (3, 4), (5, 2), (9, 2), (10, 1), (11, 1)])
def test_shards_are_as_many_as_hold_so_many_utterances_and_none_is_empty(
    store: UtteranceStore, samples: int, count: int
) -> None:
    for number in range(10):
        add(store, f"u{number}", f"{number}.wav")
    store.finish()
    shards = dict(store.shards(samples, limit=None))
    assert all(shards.values())
    assert sorted(index for indices in shards.values() for index in indices) == list(range(10))
    assert set(shards) == {store.hashes[index] % count for index in range(10)}
    assert dict(store.shards(samples, limit=0)) == {}
