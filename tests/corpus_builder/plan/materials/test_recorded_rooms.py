from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.resample import at_rate
from corpus_builder.plan.materials.recorded_rooms import (
    NoResponseError,
    RecordedRooms,
    plan_recorded_rooms,
    read_response_file,
)
from corpus_builder.rooms.measured_rir import usable_response
from corpus_builder.rooms.rir_bank import read_bank, read_response
from corpus_builder.sources.lhotse_manifest import UnsafeAudioSourceError
from corpus_builder.sources.rir_files import ResponseTask, line_response
from corpus_builder.sources.utterance import NoAudioError
from corpus_builder.verify.rir_check import known_rows, response_findings, stored_response
from corpus_builder.verify.verify_corpus import verify
from corpus_builder.workers.resume_cache import PartialResults
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, StillroomError, UsageError
from manifests.io.digest import file_digest
from manifests.plan.rooms import RecordedRoom, parse_room
from manifests.recipe.recipe import Recipe
from tests.corpus_builder.conftest import RATE_HZ, Lab, interrupted_when, partial_results, write_wave
from tests.oracles import reverberation
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.measured_response import measured_response

if TYPE_CHECKING:
    from pathlib import Path


def response(seed: int, **numbers: Any) -> Any:
    return 0.5 * measured_response(seed=seed, t60_s=0.2, tail=0.05, seconds=0.5, **numbers)[0]


@pytest.fixture
def hall(lab: Lab) -> Lab:
    """A lab whose rooms were recorded: four rooms of two mono places at several rates, one of one place with three channels."""
    lab.recipe["rooms"] = {"taken": {"responses": {"dir": "rirs", "fields": "{room}/{place}.wav"}}}
    lab.recipe["conditions"]["far"]["steps"][0]["bank"] = "taken"
    for room in range(4):
        rate_hz = [16_000, 48_000, 16_000, 44_100][room]
        for place in range(2):
            wave = response(10 * room + place, rate_hz=rate_hz)
            write_wave(lab.folder / f"rirs/room{room}/{place}.wav", wave, rate_hz=rate_hz, subtype="FLOAT")
    array = np.stack([response(90 + channel) for channel in range(3)], axis=1)
    write_wave(lab.folder / "rirs/array/0.wav", array, subtype="PCM_24")
    return lab


def planned(lab: Lab, name: str = "plan") -> list[RecordedRoom]:
    lines = (lab.folder / name / "plan" / "rooms.jsonl").read_bytes().splitlines()
    rooms = [parse_room(json.loads(line), where="rooms") for line in lines]
    return [room for room in rooms if isinstance(room, RecordedRoom)]


def far_copies(lab: Lab, split: str, name: str = "plan") -> list[Any]:
    return [copy for row in lab.rows(name, split) for copy in row.copies if copy.condition == "far"]


def test_responses_of_one_room_stay_in_one_split_and_noise_has_another_of_the_same_room(hall: Lab) -> None:
    hall.recipe["copies"] = {"train": {"far": 8}, "test": {"far": 8}}
    hall.plan()
    rooms = planned(hall)
    assert [room.label for room in rooms] == ["array", "room0", "room1", "room2", "room3"]
    assert all(len(room.splits) == 1 for room in rooms)
    assert {split for room in rooms for split in room.splits} == {"train", "test"}
    by_number = {room.room: room for room in rooms}
    used = set()
    for split in ("train", "test"):
        for copy in far_copies(hall, split):
            step, noise = copy.steps
            room = by_number[step.room]
            assert room.splits == (split,)
            assert step.response == f"taken-{step.room}-{step.position}"
            bank, number, other = noise.response.rsplit("-", 2)
            assert (bank, int(number)) == ("taken", step.room)
            assert int(other) != step.position
            if room.label != "array":
                assert room.responses[int(other)].place != room.responses[step.position].place
            used.add((room.label, step.position))
    assert len(used) >= 8


def test_a_corpus_of_recorded_rooms_is_in_step_and_says_what_was_measured(hall: Lab) -> None:
    hall.recipe["conditions"]["dry"] = {"steps": [{"kind": "room", "bank": "taken"}]}
    hall.recipe["copies"] = {"train": {"dry": 2, "far": 1}, "test": {"dry": 1}}
    hall.plan()
    assert hall.build("corpus", source=hall.folder / "plan").corpus is not None
    folder = hall.folder / "corpus" / "rooms"
    rows = read_bank(folder, "taken")
    assert len(rows) == 11
    for row in rows.values():
        wave = read_response(folder, row)
        assert row.t30_s == pytest.approx(reverberation.t30_s(wave[row.direct_sample :], RATE_HZ), rel=1e-6)
        assert row.t30_s == pytest.approx(0.2, rel=0.2)
        assert row.direct_to_reverberant_db is not None
        assert row.file is not None
        assert row.file.root == "taken"
        assert row.size_m is None
        assert np.abs(wave).argmax() == row.direct_sample
    lags = []
    for path in sorted((hall.folder / "corpus" / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            waves = {member.name: read(tar, member) for member in tar if member.name.endswith(".flac")}
        for name, copy in waves.items():
            if ".dry-" in name:
                clean = waves[name.partition(".")[0] + ".clean.flac"]
                assert copy.size == clean.size
                lags.append(gcc_phat_lag(clean, copy))
    assert len(lags) == 20
    assert max(map(abs, lags)) <= 1
    assert verify(hall.folder / "corpus", level="pcm", progress=False).findings == []
    text = (hall.folder / "corpus" / "recipe.yaml").read_text()
    assert "@taken" in text
    assert str(hall.folder) not in text
    assert str(hall.folder) not in (hall.folder / "corpus" / "plan" / "rooms.jsonl").read_text()


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    stream = tar.extractfile(member)
    assert stream is not None
    return soundfile.read(io.BytesIO(stream.read()), dtype="int16")[0]


def test_the_channel_of_a_recording_is_drawn_in_the_plan(hall: Lab) -> None:
    hall.recipe["rooms"]["taken"]["responses"]["pattern"] = "array/*"
    hall.recipe["rooms"]["taken"]["split"] = "shared"
    hall.recipe["copies"] = {"train": {"far": 6}}
    hall.plan()
    (room,) = planned(hall)
    steps = [copy.steps for copy in far_copies(hall, "train")]
    assert {room.responses[step.position].file.channel for step, _ in steps} == {0, 1, 2}
    assert all(noise.response != step.response for step, noise in steps)


def test_a_bank_is_copied_once_and_resumed_by_what_is_on_the_disk(hall: Lab) -> None:
    hall.plan()
    hall.build("corpus", source=hall.folder / "plan", only_rooms=True)
    folder = hall.folder / "corpus" / "rooms"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert not (hall.folder / "corpus" / "corpus.json").exists()
    (folder / "taken-1-0.npy").unlink()
    hall.build("corpus", source=hall.folder / "plan", only_rooms=True)
    again = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(again) == set(before)
    moved = folder.parent.parent / "elsewhere"
    (hall.folder / "rirs").rename(moved)
    built = hall.build("corpus", source=hall.folder / "plan", roots={"taken": moved})
    assert built.corpus is not None
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == again


def test_a_slice_without_its_bank_says_so(hall: Lab) -> None:
    from corpus_builder.build.build_corpus import Slice

    hall.plan()
    with pytest.raises(UsageError, match=r"room bank 'taken' is not built yet.*--rooms"):
        hall.build("corpus", source=hall.folder / "plan", part=Slice(1, 2))


def test_a_response_changed_since_planning_is_told(hall: Lab) -> None:
    hall.plan()
    write_wave(hall.folder / "rirs/room0/0.wav", response(77), subtype="FLOAT")
    with pytest.raises(DigestMismatchError, match=r"room0/0\.wav"):
        hall.build("corpus", source=hall.folder / "plan")


def test_what_is_no_response_is_refused_by_name_and_the_rest_is_used(hall: Lab) -> None:
    folder = hall.folder / "rirs" / "room0"
    write_wave(folder / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ))
    write_wave(folder / "long.wav", np.zeros(31 * RATE_HZ))
    write_wave(folder / "silent.wav", np.zeros(800))
    write_wave(folder / "nan.wav", np.full(800, np.nan, np.float32), subtype="FLOAT")
    write_wave(folder / "one.wav", np.ones(1) * 0.5)
    (folder / "text.wav").write_text("no audio")
    plan, _ = hall.plan()
    reasons = {refusal.id: refusal.reason for refusal in plan.refused if refusal.split == "taken"}
    assert set(reasons) == {f"room0/{name}.wav" for name in ("noise", "long", "silent", "nan", "one", "text")}
    assert "onset" in reasons["room0/noise.wav"] or "decaying" in reasons["room0/noise.wav"]
    assert "31.0 s: a recording, not a response" in reasons["room0/long.wav"]
    assert "silence" in reasons["room0/silent.wav"]
    assert "NaN" in reasons["room0/nan.wav"]
    assert "too few" in reasons["room0/one.wav"]
    assert "cannot be decoded" in reasons["room0/text.wav"]
    assert len(next(room for room in planned(hall) if room.label == "room0").responses) == 2


def test_a_bank_whose_paths_fit_no_template_names_the_first(hall: Lab) -> None:
    hall.recipe["rooms"]["taken"]["responses"]["fields"] = "{building}/{room}/{place}.wav"
    with pytest.raises(
        NoAudioError, match=r"rooms\.taken \(the first, array/0\.wav: its path does not fit the template"
    ):
        hall.plan()


def write_list(lab: Lab, lines: list[str], *, folder: str = "data/RIRS/real") -> None:
    path = lab.folder / folder / "rir_list"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    lab.recipe["rooms"] = {"taken": {"responses": {"list": f"{folder}/rir_list"}}}


def test_a_list_as_kaldi_has_it_names_rooms_and_paths_from_above(hall: Lab) -> None:
    (hall.folder / "data/RIRS").mkdir(parents=True)
    (hall.folder / "rirs").rename(hall.folder / "data/RIRS/wav")
    lines = [
        f"--rir-id {room}{place} --room-id r{room} --rt-60 0.2 RIRS/wav/room{room}/{place}.wav"
        for room in range(4)
        for place in range(2)
    ]
    write_list(hall, [*lines, "", "# the end"])
    hall.plan()
    assert [room.label for room in planned(hall)] == ["r0", "r1", "r2", "r3"]
    assert planned(hall)[0].responses[0].file.path == "RIRS/wav/room0/0.wav"
    assert hall.build("corpus", source=hall.folder / "plan").corpus is not None


def test_plain_paths_are_told_apart_by_folder_and_that_is_said(hall: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    write_list(hall, [str(hall.folder / f"rirs/room{room}/{place}.wav") for room in range(4) for place in range(2)])
    hall.plan()
    assert [room.label for room in planned(hall)] == ["room0", "room1", "room2", "room3"]
    assert "each of 4 folders counts as one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("sox a.wav -t wav - |", UnsafeAudioSourceError, "command"),
        ("--room-id 3 | cat a.wav", UnsafeAudioSourceError, "command"),
        ("http://host/a.wav", UnsafeAudioSourceError, "url"),
        ("--room-id 3", BadDocumentError, "names no file"),
        ("../../etc/a.wav", StillroomError, r"\.\."),
        ("nowhere/a.wav", MissingFileError, "a response of 'taken'"),
    ],
)
def test_a_hostile_or_broken_line_is_told(hall: Lab, line: str, error: type[Exception], said: str) -> None:
    write_list(hall, [line])
    with pytest.raises(error, match=said) as told:
        hall.plan()
    assert "\n" not in str(told.value)


def test_options_of_a_line_are_read_either_way_and_paths_may_hold_spaces() -> None:
    found = line_response("--rir-id 1 --room-id=big --rt-60 0.3  my hall/a 1.wav", where="x:1")
    assert found.path == "my hall/a 1.wav"
    assert found.labels == {"rir_id": "1", "room_id": "big", "rt_60": "0.3"}


def test_an_empty_list_and_a_bank_without_a_usable_response_are_told(hall: Lab) -> None:
    write_list(hall, ["", "# nothing"])
    with pytest.raises(StillroomError, match="the list has no line"):
        hall.plan()
    hall.recipe["rooms"] = {"taken": {"responses": {"dir": "noise"}}}
    with pytest.raises(
        StillroomError, match=r"rooms\.taken: no response is left of it \(5 refused; the first: n0\.wav has"
    ):
        hall.plan()


def test_one_room_cannot_be_assigned_to_two_splits_unless_it_is_shared(hall: Lab) -> None:
    hall.recipe["rooms"]["taken"]["responses"]["pattern"] = "room0/*"
    with pytest.raises(StillroomError, match="1 recorded rooms cannot be assigned to 2 splits"):
        hall.plan()
    hall.recipe["rooms"]["taken"]["split"] = "shared"
    hall.plan("shared")
    assert planned(hall, "shared")[0].splits == ("train", "test")


def test_noise_cannot_stand_in_rooms_of_one_response(hall: Lab) -> None:
    hall.recipe["rooms"]["taken"]["responses"] |= {"pattern": "room*/0.wav"}
    with pytest.raises(StillroomError, match=r"rooms\.taken: no room of split 'train' has a second response"):
        hall.plan()
    hall.recipe["conditions"]["far"]["steps"][1]["in_room"] = False
    hall.plan("dry")
    assert far_copies(hall, "train", "dry")


def test_the_asked_channel_is_taken_and_a_missing_one_refused(hall: Lab) -> None:
    hall.recipe["rooms"]["taken"]["responses"]["channel"] = 2
    hall.recipe["rooms"]["taken"]["split"] = "shared"
    hall.recipe["conditions"]["far"]["steps"][1]["in_room"] = False
    plan, _ = hall.plan()
    (room,) = planned(hall)
    assert [taken.file.channel for taken in room.responses] == [2]
    assert sum("there is no channel 2" in refusal.reason for refusal in plan.refused) == 8


def test_a_lhotse_manifest_names_rooms_by_its_custom_fields(hall: Lab) -> None:
    from lhotse import MonoCut, MultiCut, Recording

    cuts: list[Any] = []
    for room in range(2):
        for place in range(2):
            path = hall.folder / f"rirs/room{room}/{place}.wav"
            recording = Recording.from_file(path, recording_id=f"{room}-{place}")
            cut = MonoCut(
                f"{room}-{place}", 0, recording.duration, 0, recording=recording, custom={"room_id": f"R{room}"}
            )
            cuts.append(cut)
    array = Recording.from_file(hall.folder / "rirs/array/0.wav", recording_id="array")
    cuts.append(MultiCut("array", 0, array.duration, [0, 2], recording=array, custom={"room_id": "A"}))
    lines = [json.dumps(cut.to_dict() | {"type": type(cut).__name__}) for cut in cuts]
    (hall.folder / "rirs.jsonl").write_text("\n".join(lines) + "\n")
    hall.recipe["rooms"] = {"taken": {"responses": {"cuts": "rirs.jsonl"}}}
    hall.plan()
    assert [room.label for room in planned(hall)] == ["A", "R0", "R1"]
    assert [taken.file.channel for taken in planned(hall)[0].responses] == [0, 2]
    assert hall.build("corpus", source=hall.folder / "plan").corpus is not None


def test_responses_that_are_stretches_of_one_recording_are_planned_and_copied_as_those(hall: Lab) -> None:
    """Three responses, one after another in a file at 48 kHz, each cut out of it: each is taken as from a file of its own."""
    from lhotse import MonoCut, Recording

    alone = [response(seed, rate_hz=48_000) for seed in (3, 5, 8)]
    write_wave(hall.folder / "rirs/long.wav", np.concatenate(alone), rate_hz=48_000, subtype="FLOAT")
    recording = Recording.from_file(hall.folder / "rirs/long.wav", recording_id="long")
    seconds = len(alone[0]) / 48_000
    cuts = [
        MonoCut(f"c{at}", at * seconds, seconds, 0, recording=recording, custom={"room": f"R{at}"})
        for at in range(len(alone))
    ]
    lines = [json.dumps(cut.to_dict() | {"type": "MonoCut"}) for cut in cuts]
    (hall.folder / "rirs.jsonl").write_text("\n".join(lines) + "\n")
    hall.recipe["rooms"] = {"taken": {"responses": {"cuts": "rirs.jsonl"}}}
    hall.recipe["conditions"]["far"]["steps"][1]["in_room"] = False
    hall.plan()
    spans = [room.responses[0].file for room in planned(hall)]
    assert [span.start for span in spans] == pytest.approx([0.0, seconds, 2 * seconds])
    assert [span.num_frames for span in spans] == [len(wave) for wave in alone]
    assert hall.build("corpus", source=hall.folder / "plan", only_rooms=True).plan is not None
    folder = hall.folder / "corpus" / "rooms"
    rows = read_bank(folder, "taken")
    for at, wave in enumerate(alone):
        row = rows[f"taken-{at}-0"]
        own = usable_response(
            at_rate(np.float64(np.float32(wave)), from_hz=48_000, to_hz=RATE_HZ), rate_hz=RATE_HZ, name="own"
        )
        np.testing.assert_allclose(read_response(folder, row), own.wave, atol=1e-6)
        assert row.t30_s == planned(hall)[at].responses[0].t30_s


def test_an_interrupted_plan_does_not_measure_a_response_again(hall: Lab) -> None:
    """Three results are kept and marked by hand: the marks come out of the second run, and only there where they were put."""
    partial = hall.folder / "plan" / "plan" / ".rooms.partial"
    with interrupted_when(lambda: len(partial_results(partial)) > 2):
        hall.plan()
    kept = partial_results(partial)[:3]  # a quick machine has measured more of the nine before it stops
    assert len(kept) == 3
    for line in kept:
        for row in line["result"]["rows"]:
            row["t30_s"] = 0.123
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    hall.plan()
    measured_s = [taken.t30_s for room in planned(hall) for taken in room.responses]
    assert len(measured_s) == 11
    assert measured_s.count(0.123) == sum(len(line["result"]["rows"]) for line in kept)


@pytest.mark.parametrize(
    ("bank", "said"),
    [
        ({"responses": {"list": "a", "dir": "b"}}, "exactly one of list, cuts"),
        ({"responses": {"list": "a", "fields": "{room}/{x}"}}, "go with dir"),
        ({"responses": {"dir": "a", "fields": "(x+)+"}}, "a template such as"),
        ({"responses": {"dir": "a", "max_s": 300}}, "rooms.taken.responses.max_s"),
        ({"responses": {"dir": "a"}, "rt60_s": 3}, "rooms.taken.rt60_s: unknown key"),
    ],
)
def test_a_wrong_bank_is_one_line_with_its_path(lab: Lab, bank: dict[str, Any], said: str) -> None:
    lab.recipe["rooms"] = {"taken": bank}
    with pytest.raises(BadDocumentError, match=r"rooms\.taken") as told:
        Recipe.read(lab.write_recipe(), needed="a recipe")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_verify_measures_recorded_responses_as_a_stranger_and_finds_a_wrong_place(hall: Lab) -> None:
    hall.plan()
    hall.build("corpus", source=hall.folder / "plan", only_rooms=True)
    corpus = hall.folder / "corpus"
    assert list(response_findings(corpus)) == []
    rows = corpus / "rooms" / "taken.jsonl"
    rows.write_text(rows.read_text().replace('"direct_sample":80', '"direct_sample":85', 1))
    known_rows.cache_clear()
    stored_response.cache_clear()
    ((where, what),) = response_findings(corpus)
    assert where.startswith("rooms/taken-")
    assert "at sample 80, by its bank the direct path is at 85" in what


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a.wav\n", b"a\x00b.wav\n", b"x" * (9 << 20)])
def test_a_list_that_is_no_list_is_one_line(hall: Lab, content: bytes) -> None:
    write_list(hall, [])
    (hall.folder / "data/RIRS/real/rir_list").write_bytes(content)
    with pytest.raises(StillroomError) as told:
        hall.plan()
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 1000


def test_a_list_that_is_missing_or_a_folder_is_one_line(hall: Lab) -> None:
    for name in ("nowhere/rir_list", "rirs"):
        hall.recipe["rooms"] = {"taken": {"responses": {"list": name}}}
        with pytest.raises(MissingFileError, match=r"the manifest of 'taken'"):
            hall.plan()


def test_a_response_is_found_and_bounded_at_its_own_rate_and_measured_at_that_of_the_corpus(tmp_path: Path) -> None:
    """Two channels at 48 kHz of half a second, after 50 ms that are not wanted."""
    waves = np.stack([response(seed, rate_hz=48_000) for seed in (1, 2)], axis=1)
    path = write_wave(tmp_path / "r.wav", np.pad(waves, ((2400, 0), (0, 0))), rate_hz=48_000, subtype="FLOAT")
    task = ResponseTask("bank", "halls", "r.wav", path, "room", 2400, None, None, len(waves) / 48_000, RATE_HZ)
    found = read_response_file(task)
    assert (found.reasons, found.missing) == ((), False)
    for channel, row in enumerate(found.rows):
        assert row["file"] == {
            "root": "halls", "path": "r.wav", "start": 0.05, "num_frames": len(waves), "rate_hz": 48_000, "channel": channel,
            "sha256": file_digest(path),
        }  # fmt: skip
        wave = at_rate(np.float64(np.float32(waves[:, channel])), from_hz=48_000, to_hz=RATE_HZ)
        assert row["t30_s"] == usable_response(wave, rate_hz=RATE_HZ, name="own").t30_s
    assert len(found.rows) == 2
    assert read_response_file(replace(task, channels=(1,))).rows == found.rows[1:]
    assert read_response_file(replace(task, longest_s=0.3)).reasons == (
        "r.wav lasts 0.5 s: a recording, not a response (at most 0.3 s)",
    )
    part = read_response_file(replace(task, channels=(0,), num_frames=20_000, longest_s=20_000 / 48_000))
    assert [row["file"]["num_frames"] for row in part.rows] == [20_000]


def test_rooms_are_numbered_by_their_labels_and_an_interrupted_run_has_kept_reasons_too(tmp_path: Path) -> None:
    plain = {"schema": "stillroom/recipe/1", "name": "x", "speech": {"train": {"dir": "x"}, "dev": {"dir": "y"}}}
    recipe = Recipe.parse(plain | {"rooms": {"bank": {"responses": {"dir": "z"}, "split": "shared"}}}, where="test")
    names = [("b", "b.wav"), ("a", "a1.wav"), ("a", "text.wav"), ("a", "a2.wav")]
    for at, (_, name) in enumerate(names):
        write_wave(tmp_path / name, response(at), subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    tasks = tuple(
        ResponseTask("bank", "halls", name, tmp_path / name, room, 0, None, None, 9.0, RATE_HZ) for room, name in names
    )

    def made(*listed: ResponseTask) -> RecordedRooms:
        listing: Any = SimpleNamespace(bank="bank", tasks=listed)
        cache = PartialResults(tmp_path / "partial")
        return plan_recorded_rooms(recipe, [listing], cache=cache, workers=1, progress=False)

    first = made(*tasks)
    assert [(room.room, room.label, room.splits) for room in first.rooms] == [
        (0, "a", ("train", "dev")), (1, "b", ("train", "dev")),
    ]  # fmt: skip
    assert [(one.place, one.file.path) for one in first.rooms[0].responses] == [(0, "a1.wav"), (1, "a2.wav")]
    ((bank, refused),) = first.refused
    assert (bank, refused.id) == ("bank", "text.wav")
    assert refused.reason.startswith("text.wav cannot be decoded")
    assert made(*tasks) == first
    gone = replace(tasks[0], path="gone.wav", place=tmp_path / "gone.wav")
    with pytest.raises(
        MissingFileError, match=r"gone.wav does not exist: a response of 'bank'; say --root halls=DIR if"
    ):
        made(*tasks, gone)
    write_wave(tmp_path / "gone.wav", response(7), subtype="FLOAT")
    assert len(made(*tasks, gone).rooms[1].responses) == 2, "that it was missing is not remembered"
    (tmp_path / "text.wav").write_text("none, either")
    with pytest.raises(
        NoResponseError, match=r"rooms.bank: no response is left of it \(1 refused; the first: text.wav cannot"
    ):
        made(tasks[2])
