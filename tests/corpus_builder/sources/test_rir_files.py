"""The recordings of a bank: each once, with its stretch and channels, and the room that it belongs to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.sources.rir_files import (
    ListedResponse,
    cut_response,
    listed_responses,
    response_listing,
    room_labels,
)
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused
from manifests.errors import BadDocumentError
from manifests.plan.plan import PASSED_OVER
from manifests.recipe.rooms import RecordedBank
from tests.corpus_builder.sources.test_lhotse_manifest import cut, recording, write_manifest

if TYPE_CHECKING:
    from pathlib import Path


def located_of(folder: Path, responses: dict[str, Any], *, place: Path | None = None) -> tuple[RecordedBank, Located]:
    bank = RecordedBank.parse({"responses": responses}, where="test")
    listed = responses.get("list") or responses.get("cuts")
    manifest = folder / listed if listed else None
    prefix = "x" if manifest is None else ""
    own = folder if manifest is None else place
    return bank, Located("attic", "rirs", bank.responses, own, prefix=prefix, manifest=manifest)


def test_each_stretch_and_channel_of_a_recording_is_listed_once_in_the_order_of_paths(tmp_path: Path) -> None:
    two = recording("b.wav", seconds=2.0, channels=2)
    one = recording("a.wav", seconds=1.0)
    lines = [
        cut("late", two, start=1.5, duration=0.5, channel=1, custom={"room": "R2"}),
        cut("early", two, start=0.25, duration=0.5, channel=1, custom={"room": "R2"}),
        cut("again", two, start=0.25, duration=0.5, channel=1, custom={"room": "R9"}),
        cut("first", two, start=0.25, duration=0.5, channel=0, custom={"room": "R2"}),
        cut("whole", one, custom={"room": "R1"}),
        cut("fast", {**one, "transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}, custom={"room": "R1"}),
    ]
    write_manifest(tmp_path / "m.jsonl", lines)
    bank, located = located_of(tmp_path, {"cuts": "m.jsonl", "max_s": 3}, place=tmp_path / "files")
    found = response_listing("attic", bank, located, rate_hz=8000)
    assert [(task.path, task.room, task.start, task.num_frames, task.channels) for task in found.tasks] == [
        ("a.wav", "R1", 0, None, (0,)),
        ("b.wav", "R2", 4000, 8000, (0,)),
        ("b.wav", "R2", 4000, 8000, (1,)),
        ("b.wav", "R2", 24_000, 8000, (1,)),
    ]
    assert {(task.bank, task.root, task.place.parent, task.longest_s, task.rate_hz) for task in found.tasks} == {
        ("attic", "rirs", tmp_path / "files", 3.0, 8000)
    }
    assert [one.id for one in found.unused if isinstance(one, Refused)] == ["fast"]
    assert (found.bank, found.root, found.note) == ("attic", ("attic", "rirs", tmp_path / "files", ""), "")
    bank, located = located_of(tmp_path, {"cuts": "m.jsonl", "channel": 1}, place=tmp_path / "files")
    assert {task.channels for task in response_listing("attic", bank, located, rate_hz=8000).tasks} == {(1,)}


def test_a_folder_lists_files_below_its_root_with_their_labels_and_what_does_not_fit(tmp_path: Path) -> None:
    for name in ("R1/a.wav", "R2/b.wav", "odd.wav", "R1/notes.txt"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("x")
    bank, located = located_of(tmp_path, {"dir": "x", "fields": "{hall}/{id}.wav"})
    assert list(listed_responses(located)) == [
        ListedResponse("x/R1/a.wav", labels={"hall": "R1", "id": "a"}),
        ListedResponse("x/R2/b.wav", labels={"hall": "R2", "id": "b"}),
        Refused("x/odd.wav", "its path does not fit the template '{hall}/{id}.wav'"),
        LeftOut(PASSED_OVER + ".txt", 1),
    ]
    found = response_listing("attic", bank, located, rate_hz=8000)
    assert [(task.path, task.room, task.place) for task in found.tasks] == [
        ("x/R1/a.wav", "x/R1", tmp_path / "x/R1/a.wav"), ("x/R2/b.wav", "x/R2", tmp_path / "x/R2/b.wav"),
    ]  # fmt: skip
    assert found.note == "rooms.attic: no field names the room of a response; each of 2 folders counts as one room"


def test_a_bank_without_a_response_says_where(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    bank, located = located_of(tmp_path, {"dir": "x"})
    with pytest.raises(NoAudioError, match=r"/x: names no response that could be used for rooms.attic"):
        response_listing("attic", bank, located, rate_hz=8000)


def key(path: str, start: int = 0) -> tuple[str, int, None, None]:
    return path, start, None, None


def test_a_room_is_named_by_the_recipe_s_field_else_by_room_or_room_id() -> None:
    labels = {
        key("a/1.wav"): {"room_id": 1, "hall": "x", "room": "r"},
        key("b/2.wav"): {"room_id": 2, "hall": "x", "room": "s"},
    }
    assert room_labels(labels, room="hall", bank="attic") == (dict.fromkeys(labels, "x"), "")
    assert room_labels(labels, room=None, bank="attic") == (dict(zip(labels, "rs", strict=True)), "")
    without = {place: {"room_id": known["room_id"]} for place, known in labels.items()}
    assert room_labels(without, room=None, bank="attic") == (dict(zip(labels, "12", strict=True)), "")
    labels[key("c/3.wav")] = {"room_id": 3}
    with pytest.raises(BadDocumentError, match=r"rooms.attic.room: c/3.wav has no field 'room', which names the room"):
        room_labels(labels, room=None, bank="attic")


def test_without_a_field_folders_are_rooms_and_in_one_folder_each_stretch_is() -> None:
    unlabelled = "rooms.attic: no field names the room of a response; each of"
    folders: dict[Any, dict[str, Any]] = {key("a/1.wav"): {}, key("a/2.wav"): {}, key("b/1.wav"): {}}
    found, note = room_labels(folders, room=None, bank="attic")
    assert list(found.values()) == ["a", "a", "b"]
    assert note == f"{unlabelled} 2 folders counts as one room"
    stretches: dict[Any, dict[str, Any]] = {key("a/1.wav"): {}, key("a/1.wav", 500): {}, key("a/2.wav"): {}}
    found, note = room_labels(stretches, room=None, bank="attic")
    assert list(found.values()) == ["a/1.wav", "a/1.wav@500", "a/2.wav"]
    assert note == f"{unlabelled} 3 recordings counts as one room (room: in fields)"


def test_relative_paths_of_a_list_begin_at_the_nearest_folder_above_it_that_has_the_first(tmp_path: Path) -> None:
    for name in ("data/b/1.wav", "data/lists/deep/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "data/lists/deep/l").write_text("# a comment\n\nb/1.wav\nb/2.wav\n")
    bank, located = located_of(tmp_path, {"list": "data/lists/deep/l"})
    found = response_listing("attic", bank, located, rate_hz=8000)
    assert [task.place for task in found.tasks] == [tmp_path / "data/b/1.wav", tmp_path / "data/b/2.wav"]
    assert found.root.folder == tmp_path / "data"
    bank, located = located_of(tmp_path, {"list": "data/lists/deep/l"}, place=tmp_path / "given")
    assert response_listing("attic", bank, located, rate_hz=8000).root.folder == tmp_path / "given"


def lhotse_cut(**changed: Any) -> Any:
    """A cut as lhotse has it, of a recording whose channels 0 and 1 are in one file and 2 in another."""
    sources = [SimpleNamespace(channels=[0, 1], source="a.wav"), SimpleNamespace(channels=[2], source="b.wav")]
    audio = SimpleNamespace(
        sources=sources, sampling_rate=16_000, num_samples=16_000, transforms=None, channel_ids=[0, 1, 2], duration=1.0
    )
    usual = {
        "id": "c",
        "start": 0.0,
        "duration": 1.0,
        "channel": 1,
        "recording": audio,
        "supervisions": [],
        "custom": {"room": "R"},
    }
    return SimpleNamespace(**(usual | changed))


def test_a_cut_is_the_stretch_and_the_channels_of_its_own_file() -> None:
    assert cut_response(lhotse_cut()) == ListedResponse("a.wav", channels=(1,), labels={"room": "R"})
    assert cut_response(lhotse_cut(channel=[1, 0])) == ListedResponse("a.wav", channels=(1, 0), labels={"room": "R"})
    assert cut_response(lhotse_cut(channel=2, start=0.5, duration=0.5)) == ListedResponse(
        "b.wav", start=8000, num_frames=8000, channels=(0,), labels={"room": "R"}
    )
    assert cut_response(lhotse_cut(start=0.5, duration=0.6)) == ListedResponse(
        "a.wav", start=8000, num_frames=8000, channels=(1,), labels={"room": "R"}
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"recording": None}, "has no recording"),
        ({"channel": [1, 2]}, "its channels are in 2 files; expected one"),
        ({"channel": 7}, "its channels are in 0 files; expected one"),
        ({"start": "x"}, "a field of it has a wrong type or value: "),
    ],
)
def test_a_cut_that_cannot_be_used_says_why(changed: dict[str, Any], reason: str) -> None:
    found = cut_response(lhotse_cut(**changed))
    assert isinstance(found, Refused)
    assert found.id == "c"
    assert found.reason.startswith(reason)
