"""What is read of a noise file and which splits may use it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.audio.errors import NotFiniteAudioError
from corpus_builder.plan.materials.noise_levels import (
    ReadNoise,
    SilentNoiseError,
    assigned_levels,
    measure_noises,
    read_noise,
)
from corpus_builder.plan.materials.noise_power import measure_levels
from corpus_builder.sources.noise_files import NoiseListing, NoiseTask
from corpus_builder.sources.relative_paths import FoundRoot
from corpus_builder.workers.resume_cache import PartialResults
from manifests.errors import MissingFileError
from manifests.recipe.recipe import Recipe
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

RECIPE: dict[str, Any] = {
    "schema": "stillroom/recipe/1", "name": "x", "seed": 2, "sample_rate": 8000,
    "speech": {"train": {"dir": "a"}, "dev": {"dir": "a"}, "test": {"dir": "a"}},
    "noises": {"hum": {"dir": "n", "group": "place"}, "din": {"dir": "n"}, "fan": {"train": {"dir": "n"}, "test": {"dir": "n"}}},
}  # fmt: skip


def task_of(
    path: Path, *, source: str = "hum", group: str = "g", splits: tuple[str, ...] = (), channel: Any = None
) -> NoiseTask:
    return NoiseTask(source, f"{source}-files", path.name, str(path), group, splits, channel)


def square(amplitude: float, num_samples: int, *, mean: float = 0.0) -> Any:
    return mean + amplitude * np.resize([1.0, -1.0], num_samples)


def test_a_noise_has_its_length_rate_mean_and_power_without_it_of_each_tenth_of_a_second(tmp_path: Path) -> None:
    """Of the channel that is asked for, at the file's own rate; the last 50 ms are part of no power, but of the mean."""
    own = np.concatenate([square(0.1, 4410, mean=0.25), square(0.01, 4410, mean=0.25), square(0.5, 2205, mean=-0.75)])
    path = write_wave(
        tmp_path / "n.wav", np.stack([square(0.5, own.size), own], axis=1), rate_hz=44_100, subtype="FLOAT"
    )
    read = read_noise(task_of(path, channel=1))
    assert read.row == {
        "num_frames": 11_025, "rate_hz": 44_100, "channel": 1, "power_db": [-20.0, -40.0],
        "mean": pytest.approx((0.25 * 8820 - 0.75 * 2205) / 11_025, abs=2e-4), "sha256": sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert (read.reason, read.missing) == (None, False)
    first = read_noise(task_of(path, channel=0)).row
    assert first is not None
    assert first["power_db"] == [-6.0, -6.0]


def test_a_noise_shorter_than_a_tenth_of_a_second_has_one_power(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "n.wav", square(0.1, 700, mean=0.2), subtype="FLOAT")
    levels = measure_levels(path, name="n", channel=None)
    assert (levels.num_frames, levels.power_db, levels.mean) == (700, (-20.0,), 0.2)


def test_a_single_sample_that_is_no_number_makes_a_noise_unfit(tmp_path: Path) -> None:
    wave = square(0.1, 4000)
    wave[3999] = np.inf
    path = write_wave(tmp_path / "n.wav", wave, subtype="FLOAT")
    with pytest.raises(NotFiniteAudioError):
        measure_levels(path, name="n", channel=None)


def test_what_cannot_be_used_says_why_and_only_what_is_not_there_is_missing(tmp_path: Path) -> None:
    write_wave(tmp_path / "short.wav", square(0.1, 15))
    write_wave(tmp_path / "fits.wav", square(0.1, 16))
    write_wave(tmp_path / "faint.wav", np.concatenate([square(0.0009, 3200), np.zeros(3200)]), subtype="FLOAT")
    write_wave(tmp_path / "partly.wav", np.concatenate([np.zeros(3200), square(0.0011, 3200)]), subtype="FLOAT")
    (tmp_path / "bad.wav").write_text("no audio")
    found = {
        name: read_noise(task_of(tmp_path / f"{name}.wav"))
        for name in ("short", "fits", "faint", "partly", "bad", "gone")
    }
    assert [name for name, read in found.items() if read.row is not None] == ["fits", "partly"]
    assert [name for name, read in found.items() if read.missing] == ["gone"]
    assert found["short"].reason == "short.wav is shorter than a millisecond"
    assert found["faint"].reason == "faint.wav is silent: nowhere above -60 dBFS without its mean (DC)"
    assert "bad.wav cannot be decoded" in str(found["bad"].reason)
    assert "gone.wav" in str(found["gone"].reason)


def recipe() -> Recipe:
    return Recipe.parse(RECIPE, where="test")


def read_of(task: NoiseTask, num_frames: int = 44_100) -> ReadNoise:
    row = {
        "num_frames": num_frames, "rate_hz": 44_100, "channel": task.channel, "mean": 0.0, "sha256": "0" * 64, "power_db": [-20.0],
    }  # fmt: skip
    return ReadNoise(task, row, None)


def test_files_of_a_group_go_to_one_split_by_their_source_and_have_their_length_at_the_corpus_rate(
    tmp_path: Path,
) -> None:
    reads = [read_of(task_of(tmp_path / f"{at:02d}.wav", group=f"g{at % 5}"), 44_100 + 441 * at) for at in range(20)]
    rows = assigned_levels("hum", recipe().noises["hum"], reads, recipe=recipe())  # type: ignore[arg-type]
    owners = {f"g{int(row.path[:2]) % 5}": row.splits for row in rows}
    assert all(row.splits == owners[f"g{int(row.path[:2]) % 5}"] for row in rows)
    assert set(owners.values()) == {("train",), ("dev",), ("test",)}
    assert [row.num_samples for row in rows] == [8000 + 80 * at for at in range(20)]
    assert {(row.source, row.root, row.rate_hz) for row in rows} == {("hum", "hum-files", 44_100)}


def test_a_divided_noise_needs_files_for_its_own_splits_alone(tmp_path: Path) -> None:
    reads = [read_of(task_of(tmp_path / f"{split}.wav", source="fan", splits=(split,))) for split in ("train", "test")]
    noise: Any = recipe().noises["fan"]
    rows = assigned_levels("fan", noise, reads, recipe=recipe())
    assert [row.splits for row in rows] == [("train",), ("test",)]
    refused = [
        ReadNoise(task_of(tmp_path / f"{name}.wav", source="fan", splits=(name[:-1],)), None, f"{name} is silent")
        for name in ("train1", "test1", "test2")
    ]
    for found, split, first in (
        (reads[:1], "test", ""),
        ([*refused, reads[0]], "test", " (the first: test1 is silent)"),
        (refused, "train", " (the first: train1 is silent)"),
        ([], "train", ""),
    ):
        with pytest.raises(SilentNoiseError) as caught:
            assigned_levels("fan", noise, found, recipe=recipe())
        assert str(caught.value) == (
            f"noises.fan: no noise is left for split '{split}': every file was refused{first}; add noises, or leave this source out"
        )


def test_rows_are_by_source_and_path_and_refusals_by_source(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "c")):
        write_wave(tmp_path / f"{name}.wav", voice(number, 0.2))
    (tmp_path / "bad.wav").write_text("no audio")
    every = ("train", "dev", "test")
    listings = [
        NoiseListing(source, tuple(task_of(tmp_path / f"{name}.wav", source=source, splits=every) for name in names), (), root)
        for source, names, root in (
            ("hum", ("b", "bad", "a"), FoundRoot("hum", "hum-files", tmp_path)),
            ("din", ("c", "bad", "a"), FoundRoot("din", "din-files", tmp_path)),
        )
    ]  # fmt: skip
    plain = Recipe.parse(
        RECIPE | {"noises": {"hum": {"dir": "n", "split": "shared"}, "din": {"dir": "n", "split": "shared"}}}, where="x"
    )
    cache = PartialResults(tmp_path / "partial")
    found = measure_noises(plain, listings, cache=cache, workers=1, progress=False)
    assert [(row.source, row.path, row.splits) for row in found.levels] == [
        ("din", "a.wav", every), ("din", "c.wav", every), ("hum", "a.wav", every), ("hum", "b.wav", every),
    ]  # fmt: skip
    assert [(source, one.id) for source, one in found.refused] == [("hum", "bad.wav"), ("din", "bad.wav")]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(MissingFileError, match=r"a.wav does not exist: a noise of 'hum'; say --root hum-files=DIR"):
        measure_noises(plain, listings, cache=cache, workers=1, progress=False)


@pytest.mark.parametrize("place", ["memory://noises/gone.wav", "/gone/gone.wav"])
def test_a_noise_that_is_not_there_is_missing_on_a_disk_and_behind_a_url(place: str) -> None:
    found = read_noise(NoiseTask("hum", "hum", "sub/gone.wav", place, "gone.wav", ("train",), None))
    assert (found.row, found.missing) == (None, True)
    assert found.reason is not None
    assert found.reason.startswith("sub/gone.wav ")
