"""The spectrum of a split's speech, by tones whose place is known."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.plan.materials.speech_spectrum import frame_samples, shaped_splits, split_spectrum
from corpus_builder.plan.materials.utterance_store import UtteranceStore
from corpus_builder.sources.relative_paths import RootFinder
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import NoAudioError, Utterance
from manifests.recipe.recipe import Recipe
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import write_wave

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE_HZ = 16_000


def tone(pitch_hz: float, seconds: float, *, amplitude: float = 0.1, rate_hz: int = RATE_HZ) -> Any:
    return amplitude * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[UtteranceStore]:
    source = Located("dev", "voices", SpeechSource.parse({"dir": "x"}, where="test"), tmp_path)
    with contextlib.closing(UtteranceStore(tmp_path / "store", split="dev", seed=1, finder=RootFinder(source))) as made:
        yield made


def peaks(row: dict[str, Any]) -> dict[int, float]:
    """Level of each peak above -40 dB by its frequency in hertz, to 250 Hz."""
    levels = row["power_db"]
    width_hz = row["rate_hz"] / 2 / (len(levels) - 1)
    found = [
        at for at in range(1, len(levels) - 1) if levels[at - 1] < levels[at] >= levels[at + 1] and levels[at] > -40
    ]
    return {250 * round(at * width_hz / 250): levels[at] for at in found}


def test_each_utterance_counts_alike_by_its_own_stretch_and_channel_and_its_first_ten_seconds(
    tmp_path: Path, store: UtteranceStore
) -> None:
    """A soft tone of 1 kHz, a loud one of 2 kHz at 44.1 kHz in the second channel, 3 kHz for ten seconds and then 5 kHz."""
    soft = np.concatenate(
        [tone(500, 0.5, amplitude=0.5), tone(1000, 0.5, amplitude=0.01), tone(500, 0.5, amplitude=0.5)]
    )
    write_wave(tmp_path / "soft.wav", soft, subtype="FLOAT")
    loud = tone(2000, 1.0, amplitude=0.5, rate_hz=44_100)
    write_wave(tmp_path / "loud.wav", np.stack([tone(4000, 1.0, rate_hz=44_100), loud], axis=1), rate_hz=44_100)
    long = np.concatenate([tone(3000, 10.0), tone(5000, 10.0)])
    write_wave(tmp_path / "long.wav", long)
    write_wave(tmp_path / "silent.wav", np.zeros(8000))
    (tmp_path / "bad.wav").write_text("no audio")
    store.add(Utterance("soft", "soft.wav", 0.5, 8000, RATE_HZ))
    store.add(Utterance("loud", "loud.wav", 0.0, 44_100, 44_100, 1))
    store.add(Utterance("long", "long.wav", 0.0, long.size, RATE_HZ))
    store.add(Utterance("silent", "silent.wav", 0.0, 8000, RATE_HZ))
    store.add(Utterance("short", "soft.wav", 0.0, frame_samples(RATE_HZ) - 1, RATE_HZ))
    store.add(Utterance("bad", "bad.wav", 0.0, 8000, RATE_HZ))
    store.finish()
    row = split_spectrum(store, rate_hz=RATE_HZ)
    assert (row["split"], row["rate_hz"], row["utterances"], len(row["power_db"])) == ("dev", RATE_HZ, 3, 257)
    assert max(row["power_db"]) == 0.0
    assert set(peaks(row)) == {1000, 2000, 3000}
    assert min(peaks(row).values()) > -1.0


def test_a_split_of_which_nothing_can_be_measured_says_how_many_were_not_read(
    tmp_path: Path, store: UtteranceStore
) -> None:
    write_wave(tmp_path / "silent.wav", np.zeros(8000))
    (tmp_path / "bad.wav").write_text("no audio")
    for name in ("bad", "silent", "bad2"):
        store.add(Utterance(name, "bad.wav" if name.startswith("bad") else "silent.wav", 0.0, 8000, RATE_HZ))
    store.finish()
    with pytest.raises(
        NoAudioError, match=r"speech.dev: no spectrum .*: of 3 utterances 2 could not be read and the others"
    ):
        split_spectrum(store, rate_hz=RATE_HZ)


def test_only_splits_whose_copies_may_have_speech_shaped_noise_are_measured() -> None:
    steps: dict[str, Any] = {
        name: {"steps": [{"kind": "noise", "from": [name], "snr_db": 5}]} for name in ("white", "shaped")
    }
    steps["either"] = {"steps": [{"choose": [[{"kind": "clip", "percent": 1}], steps["shaped"]["steps"]]}]}
    plain = {
        "schema": "stillroom/recipe/1", "name": "x", "speech": {name: {"dir": "a"} for name in ("a", "b", "c", "d", "e")},
        "noises": {"white": {"colour": "white"}, "shaped": {"colour": "speech"}}, "conditions": steps,
        "copies": {"a": {"white": 1}, "b": {"shaped": 1}, "c": {"shaped": 0, "white": 1}, "d": {"white": 2, "either": 1}},
    }  # fmt: skip
    assert shaped_splits(Recipe.parse(plain, where="test")) == ["b", "d"]
