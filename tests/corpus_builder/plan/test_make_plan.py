from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.plan.draws.copy import planned_copy
from corpus_builder.plan.draws.noise import NoLoudSegmentError
from corpus_builder.plan.lengths import file_headers
from corpus_builder.plan.materials.noise_levels import NoiseFile, SilentNoiseError, measure_noises
from corpus_builder.plan.materials.split_materials import Materials
from corpus_builder.plan.materials.utterance_store import NoOtherSpeakerError, UtteranceStore
from corpus_builder.plan.planner import usable
from corpus_builder.sources.noise_files import NoiseListing, NoiseTask
from corpus_builder.sources.relative_paths import FoundRoot, RootFinder
from corpus_builder.sources.roots import Located, read_roots
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused, Utterance
from corpus_builder.workers.resume_cache import PartialResults
from manifests.corpus.sample import sample_key
from manifests.errors import MissingFileError, OtherRecipeError, StillroomError, UsageError
from manifests.io.digest import canonical_json
from manifests.plan.plan import (
    PASSED_OVER,
    NoiseLevels,
    OlderPlanError,
    Plan,
    PlanRow,
    left_out_counts,
    passed_over_lines,
)
from manifests.plan.steps import BabbleStep, PlannedRoomStep, RecordedNoiseStep
from manifests.recipe.recipe import Recipe
from manifests.recipe.speech import SpeechSource
from manifests.recipe.steps import Condition
from tests.corpus_builder.conftest import Lab, furnish, interrupted_when, partial_results, voice, write_wave

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus_builder.audio.decode import Header


def plan_bytes(lab: Lab, name: str = "plan", pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (lab.folder / name / "plan").glob(pattern)}


def test_every_row_is_what_the_schema_reads_and_writes(built_lab: Lab) -> None:
    for split in ("train", "test"):
        for path in (built_lab.folder / "corpus" / "plan").glob(f"{split}-*.jsonl"):
            for line in path.read_bytes().splitlines():
                row = PlanRow.model_validate_json(line)
                assert canonical_json(row) == line
                assert row.key == sample_key(row.id)


def test_every_utterance_is_planned_once_with_all_its_copies(built_lab: Lab) -> None:
    rows = built_lab.rows("corpus")
    assert sorted(row.id for row in rows) == [f"u{number}" for number in range(8)]
    for row in rows:
        assert [copy.name for copy in row.copies] == ["noise-0", "noise-1", "far-0", "phone-0"]
        assert row.num_samples == row.source.num_frames == round((0.4 + 0.05 * int(row.id[1:])) * 16_000)


def test_noises_and_rooms_of_two_splits_have_nothing_in_common(built_lab: Lab) -> None:
    used: dict[str, set[Any]] = {}
    for split in ("train", "test"):
        steps = [step for row in built_lab.rows("corpus", split) for copy in row.copies for step in copy.steps]
        used[split] = {step.recording for step in steps if isinstance(step, RecordedNoiseStep)}
        used[split] |= {(step.bank, step.room) for step in steps if isinstance(step, PlannedRoomStep)}
    assert used["train"]
    assert used["test"]
    assert not used["train"] & used["test"]


def test_noise_in_a_room_stands_elsewhere_in_the_same_room(built_lab: Lab) -> None:
    for row in built_lab.rows("corpus"):
        room, noise = next(copy for copy in row.copies if copy.condition == "far").steps
        assert isinstance(room, PlannedRoomStep)
        assert isinstance(noise, RecordedNoiseStep)
        assert noise.response is not None
        assert noise.response.rpartition("-")[0] == room.response.rpartition("-")[0]
        assert noise.response != room.response


def test_babble_is_never_the_speaker_and_all_its_speakers_differ(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["babble"]
    lab.recipe["noises"]["babble"] = {"talkers": 3}
    lab.recipe["copies"]["test"] = {}
    lab.plan()
    for row in lab.rows():
        for copy in row.copies:
            for step in copy.steps:
                if isinstance(step, BabbleStep):
                    speakers = [talker.speaker for talker in step.talkers]
                    assert row.speaker not in speakers
                    assert len(set(speakers)) == 3


def test_the_order_of_the_sources_does_not_matter(lab: Lab) -> None:
    lab.without_rooms()
    files = sorted((lab.folder / "speech" / "train").rglob("*.wav"))
    lines = []
    for path in files:
        audio = {
            "id": path.stem, "sources": [{"type": "file", "channels": [0], "source": str(path)}], "sampling_rate": 16_000,
            "num_samples": path.stat().st_size // 2 - 22, "duration": (path.stat().st_size // 2 - 22) / 16_000,
        }  # fmt: skip
        supervision = {
            "id": path.stem,
            "recording_id": path.stem,
            "start": 0,
            "duration": 0.4,
            "channel": 0,
            "speaker": path.parent.name,
        }
        lines.append(
            {
                "id": path.stem,
                "start": 0,
                "duration": audio["duration"],
                "channel": 0,
                "supervisions": [supervision],
                "recording": audio,
                "type": "MonoCut",
            }
        )
    lab.recipe["speech"]["train"] = {"cuts": "cuts.jsonl"}
    (lab.folder / "cuts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lab.plan("forward")
    (lab.folder / "cuts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    lab.plan("backward")
    assert plan_bytes(lab, "forward") == plan_bytes(lab, "backward")


def test_the_shard_size_moves_rows_between_files_and_changes_none(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("small")
    lab.recipe["shards"]["samples"] = 100
    lab.plan("large")
    small, large = ({row.id: canonical_json(row) for row in lab.rows(name)} for name in ("small", "large"))
    assert small == large
    assert len(plan_bytes(lab, "small", "train-*")) > len(plan_bytes(lab, "large", "train-*")) == 1


def test_a_limit_takes_some_utterances_and_changes_none(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("all")
    plan, _ = lab.plan("few", limit=3)
    whole = {row.id: canonical_json(row) for row in lab.rows("all")}
    few = {row.id: canonical_json(row) for row in lab.rows("few")}
    assert len(few) == 3
    assert few.items() <= whole.items()
    assert plan.limit == 3
    with pytest.raises(OtherRecipeError, match="another --limit"):
        lab.plan("few")


def test_a_plan_is_made_once_and_another_recipe_is_refused(lab: Lab) -> None:
    lab.without_rooms()
    first, was_there = lab.plan()
    before = {path: path.stat().st_mtime_ns for path in (lab.folder / "plan").rglob("*")}
    second, was_there_now = lab.plan()
    assert (was_there, was_there_now) == (False, True)
    assert first == second
    assert before == {path: path.stat().st_mtime_ns for path in (lab.folder / "plan").rglob("*")}
    lab.recipe["seed"] = 6
    with pytest.raises(OtherRecipeError, match="was made from another recipe"):
        lab.plan()


def test_the_digest_of_a_recipe_does_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    plans = []
    for name in ("here", "there/far"):
        lab = furnish(tmp_path / name)
        lab.without_rooms()
        plans.append(lab.plan()[0])
        assert str(tmp_path) not in "".join(content.decode() for content in plan_bytes(lab).values())
        assert str(tmp_path) not in (lab.folder / "plan" / "recipe.yaml").read_text()
    assert plans[0] == plans[1]


def test_a_plan_can_be_made_from_a_published_recipe_elsewhere(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan()
    away = lab.folder / "away"
    away.mkdir()
    shutil.copy(lab.folder / "plan" / "recipe.yaml", away / "theirs.yaml")
    shutil.move(lab.folder / "speech", away / "voices")
    roots = {"train": away / "voices" / "train", "test": away / "voices" / "test", "hum": lab.folder / "noise"}
    from corpus_builder.plan.make_plan import plan

    again, _ = plan(away / "theirs.yaml", away / "plan", roots=roots, progress=False)
    assert again == Plan.read(lab.folder / "plan" / "plan" / "plan.json", needed="a plan")


def test_what_is_too_short_or_long_is_counted_and_what_is_broken_refused(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["speech"]["train"] |= {"min_s": 0.5, "max_s": 0.7}
    write_wave(lab.folder / "speech/train/s0/stereo.wav", np.zeros((9000, 2)))
    (lab.folder / "speech/train/s0/empty.wav").write_bytes(b"")
    plan, _ = lab.plan()
    assert plan.filtered == {"train": {"longer than 0.7 s": 1, "shorter than 0.5 s": 2}}
    reasons = {refusal.id: refusal.reason for refusal in plan.refused}
    assert "has no samples" in reasons["empty"]
    assert "has 2 channels; say which" in reasons["stereo"]
    assert len(lab.rows()) == 5


def test_files_of_no_audio_suffix_are_counted_by_suffix_and_not_opened(lab: Lab) -> None:
    lab.without_rooms()
    folder = lab.folder / "speech" / "train" / "s0"
    for name in ("a.txt", "b.TXT", "c.pdf", "README", ".hidden.txt"):
        (folder / name).write_text("no audio")
    os.mkfifo(folder / "pipe.csv")  # to open it would never end
    (lab.folder / "noise" / "d.txt").write_text("no audio")
    plan, _ = lab.plan()
    counts = {PASSED_OVER + suffix: count for suffix, count in ((".txt", 2), (".pdf", 1), (".csv", 1), ("none", 1))}
    assert plan.filtered == {"train": counts, "hum": {PASSED_OVER + ".txt": 1}}
    assert passed_over_lines(plan.filtered)[-1] == "train: 1 files that end in none are not read"
    assert left_out_counts(plan.filtered["train"]) == {}
    assert not plan.refused


def test_a_plan_with_files_that_cannot_be_decoded_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    plans = []
    for name in ("here", "there/far"):
        lab = furnish(tmp_path / name)
        lab.without_rooms()
        lab.recipe["speech"]["train"]["fields"] = "{speaker}/{name}"
        for suffix, content in (
            (".m4a", b"12345"),
            (".webm", b"\x1a\x45\xdf\xa3"),
            (".mp3", b"\xff\xfb"),
            (".ogg", b"OggS"),
        ):
            (lab.folder / f"speech/train/s0/bad{suffix}").write_bytes(content)
        plans.append(lab.plan()[0])
        assert str(tmp_path) not in "".join(one.reason for one in plans[-1].refused)
        assert not any("Errno" in one.reason for one in plans[-1].refused)
    assert plans[0] == plans[1]
    assert len(plans[0].refused) == 4


def test_lengths_that_take_decoding_are_counted_once_also_after_an_interruption(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.without_rooms()
    wave, rate_hz = soundfile.read(lab.folder / "speech/train/s0/u0.wav")
    for number in range(3):
        soundfile.write(lab.folder / f"speech/train/s0/long{number}.mp3", wave, rate_hz, format="MP3")
    lab.recipe["speech"]["train"]["fields"] = "{speaker}/{id}.{kind}"
    counted: list[str] = []
    plain = file_headers.read_header

    def read_header(place: str, *, name: object) -> Header:
        counted.append(str(name))
        if len(counted) == 3:
            raise KeyboardInterrupt
        return plain(place, name=name)

    monkeypatch.setattr(file_headers, "read_header", read_header)
    with pytest.raises(KeyboardInterrupt):
        lab.plan()
    lab.plan()
    assert counted == ["s0/long0.mp3", "s0/long1.mp3", "s0/long2.mp3", "s0/long2.mp3"]
    assert {row.num_samples for row in lab.rows() if row.id.startswith("long")} == {wave.size}
    assert not (lab.folder / "plan" / "plan" / ".headers.partial").exists()


def test_an_id_that_stands_twice_is_kept_once_whatever_the_order(lab: Lab) -> None:
    lab.without_rooms()
    lab.speech("train", "s1", "u0", seed=9)
    plan, _ = lab.plan()
    (refusal,) = plan.refused
    assert (refusal.split, refusal.id) == ("train", "u0")
    says = "its id occurs 2 times; the one of s0/u0.wav is used, not that of s1/u0.wav"
    assert refusal.reason == f"{says} (without {{id}} in fields the whole path is the id)"
    assert [row.source.path for row in lab.rows() if row.id == "u0"] == ["s0/u0.wav"]


def test_two_stretches_of_one_recording_with_one_id_are_told_apart_by_their_starts(lab: Lab) -> None:
    lab.without_rooms()
    path = lab.folder / "speech/train/s0/u0.wav"
    seconds = soundfile.info(path).duration
    source = {"type": "file", "channels": [0], "source": "s0/u0.wav"}
    audio = {"id": "a", "sources": [source], "sampling_rate": 16000, "num_samples": round(seconds * 16000)}
    audio |= {"duration": seconds, "channel_ids": [0]}
    cut = {"id": "u", "duration": 0.1, "channel": 0, "supervisions": [], "recording": audio, "type": "MonoCut"}
    lines = [json.dumps(cut | {"start": start}) + "\n" for start in (0.25, 0.0)]
    (lab.folder / "speech/train/cuts.jsonl").write_text("".join(lines))
    lab.recipe["speech"]["train"] = {"cuts": "speech/train/cuts.jsonl"}
    plan, _ = lab.plan()
    (refusal,) = plan.refused
    assert refusal.reason.endswith("the one of s0/u0.wav at 0 s is used, not that of s0/u0.wav at 0.25 s")


def test_a_silent_noise_is_refused_and_a_source_of_nothing_else_is_an_error(lab: Lab) -> None:
    lab.without_rooms()
    write_wave(lab.folder / "noise" / "zero.wav", np.zeros(16_000))
    write_wave(lab.folder / "noise" / "faint.wav", np.full(16_000, 0.0003))
    plan, _ = lab.plan()
    assert {(one.split, one.id) for one in plan.refused} == {("hum", "zero.wav"), ("hum", "faint.wav")}
    for path in (lab.folder / "noise").glob("n*.wav"):
        path.unlink()
    why = r"noises.hum: no noise is left for split 'train': every file was refused \(the first: faint.wav is digital silence"
    with pytest.raises(SilentNoiseError, match=why):
        lab.plan("other")


def test_a_missing_noise_file_is_one_line(lab: Lab) -> None:
    lab.without_rooms()
    audio = {
        "id": "n", "sources": [{"type": "file", "channels": [0], "source": str(lab.folder / "noise" / "gone.wav")}],
        "sampling_rate": 16_000, "num_samples": 16_000, "duration": 1.0,
    }  # fmt: skip
    (lab.folder / "noise.jsonl").write_text(json.dumps(audio) + "\n")
    lab.recipe["noises"]["hum"] = {"cuts": "noise.jsonl", "split": "shared"}
    with pytest.raises(MissingFileError, match=r"gone.wav does not exist: a noise of 'hum'; say --root hum=DIR"):
        lab.plan()


def test_noises_that_are_too_short_or_long_for_the_recipe_are_left_out_and_counted(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["noises"]["hum"] = {"dir": "noise", "split": "shared", "min_s": 0.7, "max_s": 1.5}  # n1 and n3 exactly
    plan, _ = lab.plan()
    rows = [NoiseLevels.model_validate_json(line) for line in plan_bytes(lab)["levels.jsonl"].splitlines()]
    assert [(row.path, row.num_samples) for row in rows] == [("n1.wav", 11_200), ("n2.wav", 17_600), ("n3.wav", 24_000)]
    assert plan.filtered == {"hum": {"longer than 1.5 s": 1, "shorter than 0.7 s": 1}}


def test_groups_of_noises_stay_together(lab: Lab) -> None:
    lab.without_rooms()
    shutil.rmtree(lab.folder / "noise")
    for number in range(12):
        lab.noise(f"g{number % 4}/n{number}", seed=number)
    lab.recipe["noises"]["hum"] = {"dir": "noise", "fields": "{place}/{id}.wav", "group": "place"}
    lab.plan()
    rows = [NoiseLevels.model_validate_json(line) for line in plan_bytes(lab)["levels.jsonl"].splitlines()]
    owners = {row.path.split("/")[0]: row.splits for row in rows}
    assert len(rows) == 12
    assert all(row.splits == owners[row.path.split("/")[0]] for row in rows)
    assert {splits[0] for splits in owners.values()} == {"train", "test"}


def test_shared_and_divided_noises_are_as_the_recipe_says(lab: Lab) -> None:
    lab.without_rooms()
    lab.noise("apart/x", seed=4)
    lab.recipe["noises"]["hum"] = {"dir": "noise", "split": "shared"}
    lab.recipe["noises"]["two"] = {"train": {"dir": "noise", "pattern": "n*.wav"}, "test": {"dir": "noise/apart"}}
    lab.plan()
    rows = [NoiseLevels.model_validate_json(line) for line in plan_bytes(lab)["levels.jsonl"].splitlines()]
    assert {row.splits for row in rows if row.source == "hum"} == {("train", "test")}
    assert {(row.root, row.path) for row in rows if row.source == "two" and row.splits == ("test",)} == {
        ("two-test", "x.wav")
    }


def test_an_interrupted_plan_keeps_the_rooms_that_it_calibrated(lab: Lab) -> None:
    """Two results are kept and marked by hand: the marks come out of the second run, and only there where they were put."""
    lab.recipe["rooms"]["cell"]["rooms"] = 12
    partial = lab.folder / "plan" / "plan" / ".rooms.partial"
    with interrupted_when(lambda: len(partial_results(partial)) > 1):
        lab.plan()
    assert not (lab.folder / "plan" / "plan" / "plan.json").exists()
    kept = partial_results(partial)[:2]  # a quick machine has calibrated more of the twelve before it stops
    assert len(kept) == 2
    for line in kept:
        line["result"]["attempts"] = 77
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    lab.plan()
    rooms = [json.loads(line) for line in plan_bytes(lab)["rooms.jsonl"].splitlines()]
    assert [room["room"] for room in rooms] == list(range(12))
    assert {room["room"] for room in rooms if room["attempts"] == 77} == {line["result"]["room"] for line in kept}
    assert not list((lab.folder / "plan" / "plan").glob(".*"))


def test_a_noise_may_last_longer_than_speech_unless_the_recipe_says_how_long(lab: Lab) -> None:
    """Eleven minutes, at 1 kHz so that they are few samples: longer than `max_s` lets speech be by default."""
    lab.without_rooms()
    write_wave(lab.folder / "noise" / "long.wav", np.tile(voice(9, 1.0)[:1000], 660), rate_hz=1000)
    lab.recipe["noises"]["hum"]["split"] = "shared"
    plan, _ = lab.plan()
    rows = [NoiseLevels.model_validate_json(line) for line in plan_bytes(lab)["levels.jsonl"].splitlines()]
    assert {row.path: row.num_samples / 16_000 for row in rows}["long.wav"] == 660
    assert "hum" not in plan.filtered
    lab.recipe["noises"]["hum"]["max_s"] = 659
    plan, _ = lab.plan("shorter")
    assert plan.filtered["hum"] == {"longer than 659 s": 1}


def test_a_noise_that_was_changed_is_read_again_and_another_channel_of_a_file_is_another_noise(tmp_path: Path) -> None:
    """What an interrupted plan has read counts for the very file and channel alone: here the new file is as long as the old."""
    lab = Lab(tmp_path)
    path = lab.noise("n", seed=1)
    both = write_wave(tmp_path / "noise" / "both.wav", np.stack([voice(2, 1.0), voice(2, 1.0) // 8], axis=1))

    def levels() -> dict[tuple[str, int | None], tuple[float, ...]]:
        tasks = tuple(
            NoiseTask("hum", "hum", place.name, str(place), place.name, ("train", "test"), channel)
            for place, channel in ((path, None), (both, 0), (both, 1))
        )
        listing = NoiseListing("hum", tasks, (), FoundRoot("hum", "hum", tmp_path / "noise"))
        recipe = Recipe.parse({**lab.recipe, "rooms": {}, "conditions": {}, "copies": {}}, where="recipe")
        cache = PartialResults(tmp_path / "partial")
        found = measure_noises(recipe, [listing], cache=cache, workers=1, progress=False)
        return {(row.path, row.channel): row.power_db for row in found.levels}

    first = levels()
    assert first["both.wav", 0][0] == pytest.approx(first["both.wav", 1][0] + 20 * math.log10(8), abs=0.2)
    status = path.stat()
    write_wave(path, voice(1, 1.5) // 4)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size
    again = levels()
    np.testing.assert_allclose(again["n.wav", None], np.array(first["n.wav", None]) - 20 * math.log10(4), atol=0.2)
    assert again["both.wav", 0] == first["both.wav", 0]
    assert again["both.wav", 1] == first["both.wav", 1]


def test_a_folder_that_holds_something_else_is_not_written_to(lab: Lab) -> None:
    (lab.folder / "mine").mkdir()
    (lab.folder / "mine" / "thesis.tex").write_text("dear")
    with pytest.raises(UsageError, match=r"holds 'thesis.tex', which is not of a plan"):
        lab.plan("mine")
    (lab.folder / "beside").mkdir()
    lab.write_recipe("beside/recipe.yaml")
    from corpus_builder.plan.make_plan import plan

    with pytest.raises(UsageError, match="choose a new folder"):
        plan(lab.folder / "beside" / "recipe.yaml", lab.folder / "beside", progress=False)


def test_an_empty_split_says_why(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["speech"]["train"]["min_s"] = 90
    with pytest.raises(
        NoAudioError, match=r"no utterance is left for split 'train' \(0 refused, 8 left out by the recipe: 8 "
    ):
        lab.plan()


@pytest.mark.parametrize(
    ("manifest", "advice"), [(None, "cut it into utterances"), ("cuts.jsonl", "cut_into_windows(120)")]
)
def test_an_utterance_that_is_too_long_is_refused_with_what_its_source_can_do(
    tmp_path: Path, manifest: str | None, advice: str
) -> None:
    plain = SpeechSource.parse({"dir": "x", "min_s": 2}, where="test")
    source = Located("train", "train", plain, tmp_path, manifest=None if manifest is None else tmp_path / manifest)
    found = [Utterance("u", "u.wav", 0.0, round(seconds * 16_000), 16_000) for seconds in (120, 121, 601, 1)]
    fits, too_long, beyond_max_s, short = (usable(one, source, rate_hz=8_000) for one in found)
    assert fits == found[0]
    assert isinstance(too_long, Refused)
    assert advice in too_long.reason
    assert too_long.reason.endswith("max_s: 120")
    assert beyond_max_s == LeftOut("longer than 600 s")
    assert short == LeftOut("shorter than 2 s")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[UtteranceStore]:
    source = Located("train", "train", SpeechSource.parse({"dir": "x"}, where="test"), tmp_path)
    with contextlib.closing(
        UtteranceStore(tmp_path / "store", split="train", seed=1, finder=RootFinder(source))
    ) as made:
        yield made


def fill(store: UtteranceStore, speakers: list[str | None]) -> UtteranceStore:
    for number, speaker in enumerate(speakers):
        store.add(Utterance(f"u{number}", f"{number}.wav", 0.0, 16_000, 16_000, speaker=speaker))
    store.finish()
    return store


def materials(
    store: UtteranceStore, *, files: list[NoiseFile] | None = None, noises: dict[str, Any] | None = None
) -> Materials:
    recipe = Recipe.parse(
        {
            "schema": "stillroom/recipe/1", "name": "x", "speech": {"train": {"dir": "x"}},
            "noises": noises or {"hum": {"dir": "n"}},
        },
        where="test",
    )  # fmt: skip
    return Materials(
        seed=1,
        split="train",
        rate_hz=16_000,
        noises=dict(recipe.noises),
        files={"hum": files or []},
        rooms={},
        store=store,
        root="train",
    )


def noise_file(power_db: list[float]) -> NoiseFile:
    energy = np.concatenate([[0.0], np.cumsum(10 ** (np.array(power_db) / 10))])
    return NoiseFile("hum", "hum", "n.wav", ("train",), 1600 * len(power_db), energy)


def test_speakers_of_a_babble_repeat_only_when_fewer_remain(store: UtteranceStore) -> None:
    fill(store, ["a", "a", "b", "b", "c"])
    rng = np.random.default_rng(0)
    for _ in range(50):
        chosen = store.others(0, 2, rng)
        assert {store.read(index).utterance.speaker for index in chosen} == {"b", "c"}
        chosen = store.others(0, 3, rng)
        assert Counter(store.read(index).utterance.speaker for index in chosen) == {"b": 2, "c": 1}
        assert len(set(chosen)) == 3
        assert len(store.others(0, 7, rng)) == 7


def test_without_labels_other_utterances_count_as_other_speakers(store: UtteranceStore) -> None:
    fill(store, [None] * 4)
    assert set(store.others(2, 3, np.random.default_rng(0))) == {0, 1, 3}


def test_a_corpus_of_one_speaker_cannot_babble(store: UtteranceStore) -> None:
    fill(store, ["ann", "ann"])
    with pytest.raises(NoOtherSpeakerError, match="split 'train' has only the one speaker 'ann'"):
        store.others(0, 1, np.random.default_rng(0))


def test_silent_segments_are_drawn_again(store: UtteranceStore) -> None:
    fill(store, ["a"])
    noise = noise_file([-20.0] * 3 + [-90.0] * 40 + [-20.0] * 3)
    condition = Condition.parse({"steps": [{"kind": "noise", "from": ["hum"], "snr_db": 5}]}, where="test")
    offsets = []
    for number in range(60):
        copy = planned_copy(
            materials(store, files=[noise]),
            condition,
            name="noise",
            number=number,
            utterance="u0",
            index=0,
            num_samples=3200,
        )
        offsets.append(copy["steps"][0]["offset"])
    levels = [noise.segment_db(offset, 3200, rate_hz=16_000) for offset in offsets]
    assert min(levels) > -60
    assert min(offsets) < 4800 < max(offsets)


def test_a_segment_40_db_under_its_file_is_silent_there_however_loud() -> None:
    noise = noise_file([-5.0, -5.0, -46.0, -46.0, -47.0, -55.0, -55.0])
    mean_db = 10 * math.log10(np.mean([10 ** (level / 10) for level in (-5, -5, -46, -46, -47, -55, -55)]))
    assert noise.mean_db() == pytest.approx(mean_db)
    silent = [noise.is_silent(1600 * at, 1600, rate_hz=16_000) for at in range(7)]
    assert silent == [False, False, False, False, False, True, True]  # 40 dB under -10.4 dBFS is -50.4 dBFS


def test_a_noise_of_silence_in_every_segment_is_named(store: UtteranceStore) -> None:
    fill(store, ["a"])
    noise = noise_file([-90.0] * 4000 + [-20.0])
    condition = Condition.parse({"steps": [{"kind": "noise", "from": ["hum"], "snr_db": 5}]}, where="test")
    with pytest.raises(NoLoudSegmentError, match=r"noises.hum: 100 segments drawn for split 'train' were all silent"):
        planned_copy(
            materials(store, files=[noise]),
            condition,
            name="noise",
            number=0,
            utterance="u0",
            index=0,
            num_samples=1600,
        )


@given(st.lists(st.floats(-90, -10), min_size=2, max_size=30), st.data())
@settings(max_examples=50)
def test_a_segment_is_never_softer_than_its_level_says(power_db: list[float], data: Any) -> None:
    noise = noise_file(power_db)
    offset = data.draw(st.integers(0, noise.num_samples - 3200))
    length = data.draw(st.integers(min(3200, noise.num_samples - offset - 1), noise.num_samples - offset))
    square = np.repeat(10 ** (np.array(power_db) / 20), 1600) * np.resize([1, -1], noise.num_samples)
    means = np.repeat(np.resize([0.3, -0.1, 0.1], len(power_db)), 1600)
    wave = (square + means)[offset : offset + length]
    measured = 10 * math.log10(np.var(wave))
    assert noise.segment_db(offset, length, rate_hz=16_000) <= measured + 1e-3
    aligned = noise.segment_db(1600, 1600, rate_hz=16_000)
    assert aligned == pytest.approx(power_db[1], abs=1e-3)


def test_choose_takes_each_way_at_its_rate(store: UtteranceStore) -> None:
    fill(store, ["a"])
    ways = [[{"kind": "noise", "from": ["white"], "snr_db": 5}], [{"kind": "codec", "codec": "mp3"}], []]
    condition = Condition.parse({"steps": [{"choose": ways}]}, where="test")
    drawer = materials(store, noises={"white": {"colour": "white"}})
    count = 3000
    taken = Counter(
        tuple(
            step["kind"]
            for step in planned_copy(
                drawer, condition, name="c", number=number, utterance="u", index=0, num_samples=100
            )["steps"]
        )
        for number in range(count)
    )
    assert set(taken) == {("noise",), ("codec",), ()}
    for seen in taken.values():
        assert abs(seen - count / 3) < 4 * math.sqrt(count * (1 / 3) * (2 / 3))


def test_one_draw_does_not_move_another(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan("before")
    lab.recipe["conditions"]["phone"]["steps"].insert(0, {"kind": "noise", "from": ["white"], "snr_db": 3})
    lab.plan("after")
    for before, after in zip(lab.rows("before"), lab.rows("after"), strict=True):
        assert before.copies[0] == after.copies[0]
        assert before.copies[1] == after.copies[1]


def test_rooms_too_small_for_the_distance_are_one_line(lab: Lab) -> None:
    lab.recipe["rooms"]["cell"]["distance_m"] = 4.7
    with pytest.raises(StillroomError, match=r"4.7 m is requested; make size_m larger or distance_m smaller"):
        lab.plan()


def test_planning_holds_no_audio_of_voices(lab: Lab) -> None:
    lab.without_rooms()
    lab.plan()
    voices = [voice(number, 0.4).tobytes()[:64] for number in range(8)]
    assert not any(wave in content for wave in voices for content in plan_bytes(lab).values())
    assert set(plan_bytes(lab)) >= {"plan.json", "levels.jsonl", "rooms.jsonl"}


@pytest.fixture
def small(tmp_path: Path) -> Lab:
    """A lab of one split, whose root has another name, with white noise: a plan of it takes milliseconds."""
    lab = Lab(tmp_path)
    lab.recipe = {
        "schema": "stillroom/recipe/1", "name": "small", "speech": {"train": {"dir": "speech/train", "root": "voices"}},
        "noises": {"white": {"colour": "white"}},
        "conditions": {"noise": {"steps": [{"kind": "noise", "from": ["white"], "snr_db": 5}]}},
        "copies": {"train": {"noise": 1}},
    }  # fmt: skip
    for number in range(3):
        lab.speech("train", "s", f"u{number}", seed=number, seconds=0.1)
    return lab


def test_a_given_root_wins_over_the_folder_s_and_that_over_the_recipe_s(small: Lab) -> None:
    """Each names another folder for the same root, with another number of files; what the recipe does not name is passed over."""
    folders = {}
    for count, name in enumerate(("beside", "within", "given"), 1):
        folders[name] = small.folder / name
        for number in range(count):
            write_wave(folders[name] / f"u{number}.wav", voice(number, 0.1))
    small.recipe["speech"]["train"]["dir"] = "@voices"

    def remember(where: Path, name: str) -> None:
        roots = {"voices": str(folders[name]), "other": "/nowhere"}
        where.mkdir(exist_ok=True)
        (where / "roots.local.json").write_text(json.dumps({"schema": "stillroom/roots/1", "roots": roots}))

    def used(name: str, **options: Any) -> tuple[int, dict[str, str]]:
        made, _ = small.plan(name, **options)
        return sum(file.rows for file in made.files), read_roots(small.folder / name)

    remember(small.folder, "beside")
    assert used("p1") == (1, {"voices": str(folders["beside"])})
    remember(small.folder / "p2", "within")
    assert used("p2") == (2, {"voices": str(folders["within"])})
    remember(small.folder / "p3", "within")
    assert used("p3", roots={"voices": str(folders["given"])}) == (3, {"voices": str(folders["given"])})


def test_a_plan_that_was_copied_without_its_roots_learns_them_from_the_recipe(small: Lab) -> None:
    """By the names of roots, not of sources; known ones are not written again."""
    made, _ = small.plan()
    path = small.folder / "plan" / "roots.local.json"
    written = path.read_bytes()
    path.unlink()
    assert small.plan() == (made, True)
    assert path.read_bytes() == written
    assert read_roots(small.folder / "plan") == {"voices": str(small.folder / "speech" / "train")}
    path.write_text(json.dumps({"schema": "stillroom/roots/1", "roots": {"voices": str(small.folder / "speech")}}))
    assert small.plan(roots={"voices": small.folder / "speech" / "train"}) == (made, True)
    assert read_roots(small.folder / "plan") == {"voices": str(small.folder / "speech")}


def test_the_folder_of_a_plan_stands_for_its_recipe(small: Lab) -> None:
    made, _ = small.plan()
    from corpus_builder.plan.make_plan import plan

    folder = small.folder / "plan"
    assert plan(folder, folder, progress=False) == (made, True)
    assert plan(folder / "recipe.yaml", folder, progress=False) == (made, True)
    assert plan(folder, small.folder / "again", progress=False) == (made, False)
    with pytest.raises(
        MissingFileError, match=r"speech/recipe.yaml does not exist: a recipe \(YAML\) or the folder of"
    ):
        plan(small.folder / "speech", small.folder / "other", progress=False)
    assert not (small.folder / "other").exists()


def test_a_plan_begins_in_a_clean_folder_and_leaves_only_what_it_lists(small: Lab) -> None:
    """Rows of an interrupted plan of other shards, and temporary files of a process that ended, are gone afterwards."""
    import socket

    folder = small.folder / "plan" / "plan"
    folder.mkdir(parents=True)
    dead = f"{socket.gethostname()}-{2**22 + 1}"
    for name in ("train-000007.jsonl", "dev-000000.jsonl", f".levels.jsonl.{dead}.part"):
        (folder / name).write_text("old")
    (small.folder / "plan" / ".hidden").write_text("stays")
    small.plan()
    assert {path.name for path in folder.iterdir()} == {
        "plan.json",
        "levels.jsonl",
        "rooms.jsonl",
        "train-000000.jsonl",
    }
    assert {path.name for path in folder.parent.iterdir()} == {"plan", "recipe.yaml", "roots.local.json", ".hidden"}


def test_a_folder_that_is_a_file_or_links_elsewhere_is_not_planned_in(small: Lab) -> None:
    (small.folder / "file").write_text("x")
    with pytest.raises(UsageError, match="file is a file; name a folder that is new, or holds a plan"):
        small.plan("file")
    (small.folder / "linked").mkdir()
    (small.folder / "linked" / "plan").symlink_to(small.folder / "speech", target_is_directory=True)
    with pytest.raises(UsageError, match=r"linked/plan is a link to .*speech"):
        small.plan("linked")
    assert sorted(path.name for path in (small.folder / "speech").iterdir()) == ["train"]


@pytest.mark.parametrize("empty", ["", "plan", "shards"])
def test_a_command_that_fails_leaves_no_empty_folder(small: Lab, empty: str) -> None:
    (small.folder / "p" / empty).mkdir(parents=True)
    small.recipe["speech"]["train"]["min_s"] = 90
    with pytest.raises(NoAudioError):
        small.plan("p")
    assert not (small.folder / "p").exists()


def test_another_recipe_or_limit_is_told_with_what_was_found_first(small: Lab) -> None:
    made, _ = small.plan(limit=2)
    with pytest.raises(OtherRecipeError, match=r"was made from another --limit \(2, now None\)"):
        small.plan()
    with pytest.raises(OtherRecipeError, match=r"was made from another --limit \(2, now 3\)"):
        small.plan(limit=3)
    small.recipe["seed"] = 6
    with pytest.raises(
        OtherRecipeError, match=rf"another recipe \({made.recipe_sha256[:12]}, now (?!{made.recipe_sha256[:12]})"
    ):
        small.plan(limit=2)


def test_a_plan_of_an_earlier_version_is_not_taken_for_this_one(small: Lab) -> None:
    small.plan()
    path = small.folder / "plan" / "plan" / "plan.json"
    path.write_text(path.read_text().replace("stillroom/plan/2", "stillroom/plan/1"))
    with pytest.raises(OlderPlanError, match=r"plan/plan.json.*'stillroom/plan/1'"):
        small.plan()
