"""Which files of noise sources are read, and which of them belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.sources.lhotse_manifest import noise_files
from corpus_builder.sources.noise_files import NoiseListing, NoiseTask, group_of, noise_listings
from corpus_builder.sources.roots import Located, locate
from corpus_builder.sources.utterance import LeftOut, Refused, Utterance
from manifests.errors import BadDocumentError
from manifests.recipe.recipe import Recipe
from tests.corpus_builder.conftest import voice, write_wave
from tests.corpus_builder.sources.test_lhotse_manifest import cut, manifest_source, recording, write_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from corpus_builder.audio.decode import Header


def listings_of(folder: Path, noises: dict[str, Any], **options: Any) -> list[NoiseListing]:
    speech = {"train": {"dir": "a"}, "dev": {"dir": "a"}, "test": {"dir": "a"}}
    (folder / "a").mkdir(exist_ok=True)
    plain = {"schema": "stillroom/recipe/1", "name": "x", "speech": speech, "noises": noises}
    recipe = Recipe.parse(plain, where="test")
    return noise_listings(recipe, locate(recipe, beside=folder, roots={}), **options)


def test_every_recorded_source_is_listed_with_the_splits_that_are_fixed_for_it(tmp_path: Path) -> None:
    for name, number in (("own/s1/a", 1), ("own/s1/b", 2), ("all/c", 3), ("two/d", 4), ("one/e", 5)):
        write_wave(tmp_path / f"{name}.wav", voice(number, 0.1))
    both = np.stack([voice(6, 0.1), voice(7, 0.1)], axis=1)
    write_wave(tmp_path / "all" / "stereo.wav", both)
    asked: list[str] = []

    def headers_of(located: Located) -> dict[str, Header]:
        asked.append(located.name)
        return {}

    noises = {
        "hum": {"dir": "own", "fields": "{speaker}/{id}.wav", "group": "speaker", "root": "hums"},
        "white": {"colour": "white"},
        "din": {"dir": "all", "split": "shared", "channel": 0},
        "fan": {"test": {"dir": "two"}, "train": {"dir": "one", "root": "fans"}},
    }
    found = listings_of(tmp_path, noises, headers_of=headers_of)
    assert asked == ["hum", "din", "fan-test", "fan-train"]
    assert [one.source for one in found] == ["hum", "din", "fan", "fan"]
    assert [one.root for one in found] == [
        ("hum", "hums", tmp_path / "own", ""), ("din", "din", tmp_path / "all", ""),
        ("fan-test", "fan-test", tmp_path / "two", ""), ("fan-train", "fans", tmp_path / "one", ""),
    ]  # fmt: skip

    def task(
        source: str, root: str, place: str, path: str, group: str, *splits: str, channel: int | None = None
    ) -> Any:
        return NoiseTask(source, root, path, str(tmp_path / place / path), group, splits, channel)

    assert [task for one in found for task in one.tasks] == [
        task("hum", "hums", "own", "s1/a.wav", "s1"),
        task("hum", "hums", "own", "s1/b.wav", "s1"),
        task("din", "din", "all", "c.wav", "c.wav", "train", "dev", "test"),
        task("din", "din", "all", "stereo.wav", "stereo.wav", "train", "dev", "test", channel=0),
        task("fan", "fan-test", "two", "d.wav", "d.wav", "test"),
        task("fan", "fans", "one", "e.wav", "e.wav", "train"),
    ]


def test_a_noise_belongs_to_its_file_its_speaker_its_id_or_a_field_of_its_own() -> None:
    found = Utterance("u1", "d/a.wav", 0.0, 100, 16_000, speaker="ann", custom={"place": 7})
    groups = {group: group_of(found, "d/a.wav", group, "hum") for group in (None, "speaker", "id", "place")}
    assert groups == {None: "d/a.wav", "speaker": "ann", "id": "u1", "place": "7"}
    with pytest.raises(BadDocumentError, match=r"noises.hum.group: u1 has no field 'mood'; name it in fields"):
        group_of(found, "d/a.wav", "mood", "hum")
    with pytest.raises(BadDocumentError, match="has no field 'speaker'"):
        group_of(Utterance("u1", "d/a.wav", 0.0, 100, 16_000), "d/a.wav", "speaker", "hum")


def test_noises_at_the_bounds_of_length_are_taken(tmp_path: Path) -> None:
    for name, seconds in (("a", 0.1), ("b", 0.2), ("c", 0.3), ("d", 0.4)):
        write_wave(tmp_path / "n" / f"{name}.wav", voice(1, seconds))
    (found,) = listings_of(tmp_path, {"hum": {"dir": "n", "min_s": 0.2, "max_s": 0.3}})
    assert [task.path for task in found.tasks] == ["b.wav", "c.wav"]
    assert found.unused == (LeftOut("shorter than 0.2 s"), LeftOut("longer than 0.3 s"))


def test_each_channel_of_a_recording_is_a_noise_of_its_own_and_what_is_refused_is_named(tmp_path: Path) -> None:
    """Cuts that together cover a recording within a second count; those of another channel do not help."""
    audio = recording("n.wav", seconds=4.0, channels=2)
    speed = {"name": "Speed", "kwargs": {"factor": 1.1}}
    lines = [
        cut("one", audio, duration=2.0), cut("two", audio, start=2.0, duration=1.0),
        cut("other", audio, start=0.9, duration=3.1, channel=1), cut("bad", {**audio, "transforms": [speed]}),
    ]  # fmt: skip
    items = list(noise_files(manifest_source(write_manifest(tmp_path / "n.jsonl", lines))))
    refused = [item for item in items if isinstance(item, Refused)]
    taken = [item for item in items if isinstance(item, Utterance)]
    assert [item.id for item in refused] == ["bad"]
    assert [(item.id, item.path, item.channel, item.start_s, item.num_frames) for item in taken] == [
        ("one", "n.wav", 0, 0.0, 64_000), ("other", "n.wav", 1, 0.0, 64_000),
    ]  # fmt: skip
    lines[1] = cut("two", audio, start=2.0, duration=0.9)
    with pytest.raises(BadDocumentError, match=r"its cuts cover 2.9 of 4.0 s of n.wav"):
        list(noise_files(manifest_source(write_manifest(tmp_path / "n.jsonl", lines))))
