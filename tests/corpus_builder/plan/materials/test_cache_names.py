"""What an interrupted plan has read counts for the very file and question alone: everything that the result depends on is in its name."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.audio.decode import Header
from corpus_builder.plan.lengths import file_headers
from corpus_builder.plan.materials import noise_levels, recorded_rooms
from corpus_builder.plan.materials.simulated_rooms import RoomTask
from corpus_builder.sources.noise_files import NoiseTask
from corpus_builder.sources.rir_files import ResponseTask
from corpus_builder.sources.roots import Located
from corpus_builder.workers.resume_cache import PartialResults
from manifests.recipe.rooms import RoomBank
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RESPONSE_CHANGES: list[dict[str, Any]] = [
    {"start": 5}, {"num_frames": 7}, {"channels": (1,)}, {"channels": (0, 1)}, {"longest_s": 2.0}, {"rate_hz": 8000},
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"before")
    return path


def response_task(place: Path, **changed: Any) -> ResponseTask:
    task = ResponseTask("bank", "root", "a.wav", place, "room", 0, None, None, 10.0, 16_000)
    return replace(task, **changed)


def noise_task(place: Path, **changed: Any) -> NoiseTask:
    return replace(NoiseTask("hum", "hum", "a.wav", str(place), "a.wav", ("train",), None), **changed)


NAMES: dict[str, Callable[[Path], str | None]] = {
    "response": lambda place: recorded_rooms.cache_key(response_task(place)),
    "noise": lambda place: noise_levels.cache_key(noise_task(place)),
    "length": lambda place: file_headers.task_key(file_headers.HeaderTask(str(place), "a.wav")),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_file_that_was_changed_moved_or_removed_is_read_again(place: Path, kind: str) -> None:
    name = NAMES[kind]
    before, status = name(place), place.stat()
    assert before == name(place)
    assert before is not None
    place.write_bytes(b"after!")  # as long as before
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    later = name(place)
    place.write_bytes(b"longer than before")
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    longer = name(place)
    other = place.with_name("b.wav")
    other.write_bytes(b"before")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len({before, later, longer, name(other)}) == 4
    place.unlink()
    assert name(place) is None


def test_another_stretch_channel_rate_or_bound_of_a_response_is_another_question(place: Path) -> None:
    names = {recorded_rooms.cache_key(response_task(place, **changed)) for changed in [{}, *RESPONSE_CHANGES]}
    assert len(names) == 1 + len(RESPONSE_CHANGES)


def test_another_channel_of_a_noise_is_another_question(place: Path) -> None:
    channels: list[Any] = [None, 0, 1, "mix"]
    assert len({noise_levels.cache_key(noise_task(place, channel=channel)) for channel in channels}) == 4


def test_another_seed_rate_bank_room_or_split_is_another_room() -> None:
    bank = {"rooms": 2, "size_m": [[3, 3, 2.4], [4, 4, 3]], "rt60_s": 0.2, "distance_m": 1}
    task = RoomTask(1, 16_000, "cell", RoomBank.parse(bank, where="test"), 0, ("train",))
    other = RoomBank.parse(bank | {"rt60_s": 0.3}, where="test")
    changes: list[dict[str, Any]] = [
        {}, {"seed": 2}, {"rate_hz": 8000}, {"bank": "hall"}, {"wanted": other}, {"room": 1}, {"splits": ("train", "dev")},
    ]  # fmt: skip
    assert len({replace(task, **changed).key for changed in changes}) == len(changes)
    assert replace(task).key == task.key


def test_headers_of_costly_files_that_fit_the_pattern_are_read_once_and_kept_as_they_were(tmp_path: Path) -> None:
    for name in ("a.mp3", "b.MP3", "c.wav", "sub/d.mp3"):
        write_wave(tmp_path / "f" / name, voice(1, 0.5), format="WAV" if name.endswith("wav") else "MP3")
    (tmp_path / "f" / "bad.mp3").write_text("no audio")
    source = SpeechSource.parse({"dir": str(tmp_path / "f"), "pattern": "*"}, where="test")
    located = Located("dev", "voices", source, tmp_path / "f")
    cache = PartialResults(tmp_path / "partial")
    found = file_headers.costly_headers(located, cache=cache, workers=1, progress=False)
    assert set(found) == {"a.mp3", "b.MP3", "bad.mp3"}
    assert found["a.mp3"] == Header(8000, 16_000, 1)
    assert not isinstance(found["bad.mp3"], Header)
    again = file_headers.costly_headers(located, cache=PartialResults(tmp_path / "partial"), workers=1, progress=False)
    assert {name: again[name] for name in ("a.mp3", "b.MP3")} == {name: found[name] for name in ("a.mp3", "b.MP3")}
    manifest = replace(located, manifest=tmp_path / "m.jsonl")
    assert file_headers.costly_headers(manifest, cache=cache, workers=1, progress=False) == {}
