"""The parts of planning, each on data of which nothing is at its default: two splits, two sources, two banks, roots of other names."""

from __future__ import annotations

import contextlib
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.plan.draws.row import planned_row
from corpus_builder.plan.materials.noise_levels import usable_files
from corpus_builder.plan.materials.split_materials import Materials, NoNoiseInSplitError, pool_of
from corpus_builder.plan.materials.utterance_store import UtteranceStore
from corpus_builder.plan.planner import (
    PlanJob,
    Unused,
    fill_store,
    nothing_left,
    plan_document,
    samples_of,
    split_materials,
    usable,
    uses_babble,
    write_file,
)  # fmt: skip
from corpus_builder.sources.relative_paths import RootFinder
from corpus_builder.sources.roots import Located, read_roots
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused, Utterance
from corpus_builder.workers.resume_cache import PartialResults
from manifests.errors import MissingFileError
from manifests.plan.plan import PASSED_OVER, NoiseLevels
from manifests.plan.rooms import PlannedRoom
from manifests.recipe.recipe import Recipe
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import Lab, voice, write_wave
from tests.oracles.measured_response import measured_response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE: dict[str, Any] = {
    "schema": "stillroom/recipe/1", "name": "parts", "seed": 7, "sample_rate": 8000,
    "speech": {"train": {"dir": "@voices/a"}, "dev": {"dir": "@voices/b"}},
    "noises": {
        "hum": {"dir": "@hum"}, "din": {"dir": "@din"}, "babble": {"talkers": 2}, "white": {"colour": "white"},
        "shaped": {"colour": "speech"},
    },
    "conditions": {
        name: {"steps": [{"kind": "noise", "from": [name], "snr_db": 5}]} for name in ("hum", "babble", "white", "shaped")
    },
    "copies": {"train": {"hum": 3, "babble": 0, "white": 1}, "dev": {"babble": 1}},
    "shards": {"gigabytes": 1e-4},
}  # fmt: skip


def source_of(folder: Path, split: str = "train", *, root: str = "voices", **options: Any) -> Located:
    manifest = folder / "cuts.jsonl" if options.pop("manifest", False) else None
    plain = {"cuts": str(manifest)} if manifest else {"dir": str(folder)}
    return Located(split, root, SpeechSource.parse(plain | options, where="test"), folder, manifest=manifest)


def job_of(folder: Path, **options: Any) -> PlanJob:
    recipe = Recipe.parse(RECIPE | options.pop("recipe", {}), where="test")
    sources = {split: source_of(folder, split) for split in recipe.speech}
    caches: Any = {name: PartialResults(folder / f".{name}") for name in ("noise_cache", "room_cache", "header_cache")}
    return PlanJob(recipe, options.pop("sources", sources), folder, progress=False, **caches, **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[UtteranceStore]:
    finder = RootFinder(source_of(tmp_path))
    with contextlib.closing(UtteranceStore(tmp_path / "store", split="train", seed=7, finder=finder)) as made:
        yield made


# --- documents ---------------------------------------------------------------------------------------------------------


def test_the_index_of_a_plan_adds_up_what_is_left_out_and_lists_what_is_refused_in_order(tmp_path: Path) -> None:
    unused: list[Unused] = [
        ("train", LeftOut("longer than 3 s")), ("train", Refused("u2", "z")), ("hum", LeftOut(PASSED_OVER + ".txt", 4)),
        ("train", LeftOut("longer than 3 s")), ("train", LeftOut(PASSED_OVER + ".txt", 5)), ("dev", LeftOut("a")),
        ("train", Refused("u1", "b")), ("train", Refused("u1", "a")), ("attic", Refused("r.wav", "y")),
    ]  # fmt: skip
    entries = [{"name": "train-000000"}]
    made = plan_document(job_of(tmp_path), entries, unused, {"levels_sha256": "1", "recipe_sha256": "2"})
    assert list(made["filtered"].items()) == [
        ("dev", {"a": 1}),
        ("hum", {PASSED_OVER + ".txt": 4}),
        ("train", {PASSED_OVER + ".txt": 5, "longer than 3 s": 2}),
    ]
    assert list(made["filtered"]["train"]) == sorted(made["filtered"]["train"])
    assert made["refused"] == [
        {"split": "attic", "id": "r.wav", "reason": "y"}, {"split": "train", "id": "u1", "reason": "a"},
        {"split": "train", "id": "u1", "reason": "b"}, {"split": "train", "id": "u2", "reason": "z"},
    ]  # fmt: skip
    rest = {name: made[name] for name in made if name not in {"filtered", "refused"}}
    assert rest == {
        "schema": "stillroom/plan/2", "name": "parts", "sample_rate": 8000, "files": entries, "levels_sha256": "1",
        "recipe_sha256": "2",
    }  # fmt: skip
    assert plan_document(job_of(tmp_path, limit=9), entries, unused, {})["limit"] == 9


def test_an_empty_split_names_its_first_refusal_and_counts_no_files_that_are_not_read() -> None:
    unused: list[Refused | LeftOut] = [
        LeftOut(PASSED_OVER + ".txt", 5), Refused("u1", "why 1"), LeftOut("longer than 3 s"), LeftOut("shorter than 1 s"),
        Refused("u2", "why 2"), Refused("u3", "why 3"),
    ]  # fmt: skip
    assert nothing_left("dev", unused) == (
        "no utterance is left for split 'dev' (3 refused, 2 left out by the recipe: 1 longer than 3 s, 1 shorter than 1 s); the first: u1: why 1"
    )
    assert nothing_left("dev", unused[:1]) == (
        "no utterance is left for split 'dev' (0 refused, 0 left out by the recipe)"
    )


def test_bounds_of_length_are_themselves_within(tmp_path: Path) -> None:
    source = source_of(tmp_path, min_s=0.5, max_s=2.5)

    def found(num_frames: int, rate_hz: int = 16_000) -> Any:
        return usable(Utterance("u", "u.wav", 0.0, num_frames, rate_hz), source, rate_hz=8000)

    assert isinstance(found(8000), Utterance)
    assert isinstance(found(40_000), Utterance)
    assert found(7999) == LeftOut("shorter than 0.5 s")
    assert found(40_001) == LeftOut("longer than 2.5 s")
    passed = (LeftOut("not in the table"), Refused("u", "why"))
    assert tuple(usable(one, source, rate_hz=8000) for one in passed) == passed


def test_an_utterance_too_short_for_one_sample_at_the_corpus_rate_is_refused(tmp_path: Path) -> None:
    found = [Utterance("u", "u.wav", 0.0, num_frames, 48_000) for num_frames in (1, 6)]
    assert [samples_of(one, 8000) for one in found] == [0, 1]
    first, second = (usable(one, source_of(tmp_path), rate_hz=8000) for one in found)
    assert first == Refused("u", "has no sample at the corpus rate")
    assert second == found[1]


@pytest.mark.parametrize(("split", "copies", "uses"), [("train", 0, False), ("train", 2, True), ("dev", 1, False)])
def test_babble_is_used_where_some_copy_may_have_it(split: str, copies: int, uses: bool) -> None:
    recipe = Recipe.parse(RECIPE | {"copies": {"train": {"hum": 1, "babble": copies}, "dev": {"hum": 1}}}, where="test")
    assert uses_babble(recipe, split) == uses


# --- reading of one split ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "speaker", "said"), [("train", None, False), ("dev", None, True), ("dev", "ann", False)]
)
def test_a_split_without_labels_says_so_where_it_babbles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, speaker: str | None, said: bool
) -> None:
    folder = tmp_path / "speech" / (speaker or "")
    write_wave(folder / "u.wav", voice(1, 0.2))
    source = source_of(tmp_path / "speech", split, **({"fields": "{speaker}/{id}.wav"} if speaker else {}))
    with contextlib.closing(UtteranceStore(tmp_path / "s", split=split, seed=1, finder=RootFinder(source))) as made:
        stored = fill_store(job_of(tmp_path, sources={split: source}), made)
    assert stored.num_samples == 1600  # at 8 kHz
    note = f"{split} has no speaker labels: every other utterance counts as another speaker in babble\n"
    assert capsys.readouterr().err == (note if said else "")


def cut_line(name: str, path: str, num_samples: int, *, start: float = 0.0) -> str:
    audio = {
        "id": path, "sources": [{"type": "file", "channels": [0], "source": path}], "sampling_rate": 16_000,
        "num_samples": num_samples, "duration": num_samples / 16_000, "channel_ids": [0],
    }  # fmt: skip
    cut = {
        "id": name, "start": start, "duration": audio["duration"] - start, "channel": 0, "supervisions": [], "recording": audio,  # type: ignore[operator]
        "type": "MonoCut",
    }  # fmt: skip
    return json.dumps(cut) + "\n"


def test_a_split_counts_the_samples_that_its_files_have_and_drops_what_is_too_short_then(
    tmp_path: Path, store: UtteranceStore
) -> None:
    """At half the rate: of 1.0 s all, of 1.0 s less than promised what the file has; 0.4 s are below the recipe's 0.5 s."""
    for name, seconds in (("whole", 1.0), ("less", 0.8), ("short", 0.4)):
        write_wave(tmp_path / f"{name}.wav", voice(1, seconds))
    lines = [cut_line(name, f"{name}.wav", num) for name, num in (("whole", 16_000), ("less", 16_000), ("short", 9600))]
    (tmp_path / "cuts.jsonl").write_text("".join(lines))
    source = source_of(tmp_path, manifest=True, min_s=0.5)
    store.finder = RootFinder(source)
    stored = fill_store(job_of(tmp_path, sources={"train": source}), store)
    assert stored.num_samples == 8000 + 6400
    assert stored.unused == (LeftOut("shorter than 0.5 s"),)
    found = [store.read(int(index)).utterance for index in store.order]
    assert {one.id: one.num_frames for one in found} == {"whole": 16_000, "less": 12_800}
    assert len(store) == 2


def test_a_split_of_nothing_but_files_that_are_too_short_says_so(tmp_path: Path, store: UtteranceStore) -> None:
    write_wave(tmp_path / "short.wav", voice(1, 0.4))
    (tmp_path / "cuts.jsonl").write_text(cut_line("short", "short.wav", 9600))
    source = source_of(tmp_path, manifest=True, min_s=0.5)
    store.finder = RootFinder(source)
    with pytest.raises(NoAudioError, match=r"cuts.jsonl: .* split 'train' \(0 refused, 1 left out by the recipe: 1 "):
        fill_store(job_of(tmp_path, sources={"train": source}), store)


def test_a_first_utterance_that_does_not_exist_names_the_root_to_give(tmp_path: Path, store: UtteranceStore) -> None:
    (tmp_path / "cuts.jsonl").write_text(cut_line("gone", "gone.wav", 16_000))
    source = source_of(tmp_path, manifest=True)
    store.finder = RootFinder(source)
    with pytest.raises(MissingFileError, match="an utterance of 'train'; say --root voices=DIR if they are elsewhere"):
        fill_store(job_of(tmp_path, sources={"train": source}), store)


# --- what a split draws from, and its rows -----------------------------------------------------------------------------


def room_of(bank: str, number: int, splits: tuple[str, ...]) -> PlannedRoom:
    return PlannedRoom(
        bank=bank, room=number, splits=splits, size_m=(4, 3, 2.5), absorption=0.3, max_order=10, rt60_s=0.3, t30_s=(0.3,),
        microphone_m=(1, 1, 1), sources_m=((2, 2, 1),),
    )  # fmt: skip


def levels_of(source: str, path: str, *splits: str) -> NoiseLevels:
    plain = {
        "source": source, "root": f"{source}-files", "path": path, "splits": splits, "num_samples": 1600, "rate_hz": 16_000,
        "sha256": "0" * 64, "power_db": [-20.0, -30.0],
    }  # fmt: skip
    return NoiseLevels.parse(plain, where="test")


def test_a_split_draws_from_its_own_files_and_rooms_alone(tmp_path: Path, store: UtteranceStore) -> None:
    rows = [
        levels_of("din", "d.wav", "train"),
        levels_of("hum", "a.wav", "dev"),
        levels_of("hum", "b.wav", "train", "dev"),
    ]
    rooms = [room_of("attic", 0, ("train",)), room_of("attic", 1, ("dev",)), room_of("zoo", 0, ("train", "dev"))]
    bank = {"rooms": 2, "size_m": [[3, 3, 2.4], [3.5, 3.5, 2.6]], "rt60_s": 0.2, "distance_m": 1}
    job = job_of(tmp_path, recipe={"rooms": {"attic": bank, "zoo": bank}})
    made = split_materials(job, store, usable_files(rows), rooms)
    assert (made.seed, made.split, made.rate_hz, made.root, made.store) == (7, "train", 8000, "voices", store)
    assert {name: [file.path for file in files] for name, files in made.files.items()} == {
        "din": ["d.wav"], "hum": ["b.wav"],
    }  # fmt: skip
    assert {name: [(room.bank, room.room) for room in found] for name, found in made.rooms.items()} == {
        "attic": [("attic", 0)], "zoo": [("zoo", 0)],
    }  # fmt: skip
    assert made.noises == job.recipe.noises


def test_a_noise_file_has_the_energy_and_mean_of_its_frames() -> None:
    ((where, (file,)),) = usable_files([levels_of("hum", "a.wav", "train")]).items()
    assert where == ("hum", "train")
    assert (file.source, file.root, file.path, file.splits) == ("hum", "hum-files", "a.wav", ("train",))
    np.testing.assert_allclose(file.energy, [0.0, 0.01, 0.011])
    assert file.mean_db() == pytest.approx(10 * np.log10(0.0055))


def test_a_pool_is_made_once_for_its_sources_and_draw_and_names_a_source_without_files(store: UtteranceStore) -> None:
    files = usable_files([levels_of("din", "d.wav", "dev"), levels_of("hum", "a.wav", "dev")])
    held = {source: found for (source, _), found in files.items()}
    made = Materials(1, "dev", 8000, {}, held, {}, store, "voices")
    pools = [
        pool_of(made, sources, by_length=by_length) for sources in (("din", "hum"), ("hum",)) for by_length in (True, False)
    ]  # fmt: skip
    assert len({id(pool) for pool in pools}) == 4
    assert [pool.ends for pool in pools] == [[1600, 3200], None, [1600], None]
    assert pool_of(made, ("hum",), by_length=True) is pools[2]
    with pytest.raises(NoNoiseInSplitError, match=r"noises.fan has nothing for split 'dev', .* give it dev:"):
        pool_of(made, ("din", "fan"), by_length=True)


def test_a_row_has_every_label_of_its_utterance_and_its_length_at_the_corpus_rate(
    tmp_path: Path, store: UtteranceStore
) -> None:
    custom = {"take": 3, "of": {"x": [1, 2]}}
    store.add(Utterance("u/1", "d/u.wav", 0.25, 11_025, 44_100, 0, "said", "ann", "de", custom))
    store.add(Utterance("u/2", "d/v.wav", 0.0, 8000, 16_000, None, "", None, None, {}))
    store.finish()
    recipe = Recipe.parse(RECIPE | {"copies": {"dev": {"babble": 1}}}, where="test")
    made = Materials(7, "train", 8000, {}, {}, {}, store, "voices")
    first, second = (planned_row(recipe, made, index) for index in (0, 1))
    assert {name: value for name, value in first.items() if name != "key"} == {
        "id": "u/1", "split": "train", "num_samples": 2000, "custom": custom, "text": "said", "speaker": "ann", "language": "de",
        "source": {"root": "voices", "path": "d/u.wav", "start": 0.25, "num_frames": 11_025, "rate_hz": 44_100, "channel": 0},
        "copies": [],
    }  # fmt: skip
    assert {name: value for name, value in second.items() if name != "key"} == {
        "id": "u/2", "split": "train", "num_samples": 4000, "custom": {}, "text": "", "copies": [],
        "source": {"root": "voices", "path": "d/v.wav", "start": 0.0, "num_frames": 8000, "rate_hz": 16_000},
    }  # fmt: skip


def test_a_plan_file_is_described_by_its_own_rows(tmp_path: Path, store: UtteranceStore) -> None:
    for number in range(3):
        store.add(Utterance(f"u{number}", f"{number}.wav", 0.0, 4001 + number, 8000))
    store.finish()
    job = job_of(tmp_path, recipe={"copies": {"train": {"white": 2}}})
    made = Materials(7, "train", 8000, dict(job.recipe.noises), {}, {}, store, "voices")
    entry = write_file(job, "train-000004", made, [2, 0])
    content = (tmp_path / "train-000004.jsonl").read_bytes()
    assert [json.loads(line)["id"] for line in content.splitlines()] == ["u2", "u0"]
    assert [copy["name"] for copy in json.loads(content.splitlines()[0])["copies"]] == ["white-0", "white-1"]
    assert entry == {
        "name": "train-000004", "split": "train", "rows": 2, "seconds": 1.0, "sha256": sha256(content).hexdigest(),
    }  # fmt: skip
    assert write_file(job, "train-000005", made, [1])["seconds"] == 0.5
    assert write_file(job, "train-000006", made, [1, 2])["seconds"] == round(8005 / 8000, 3)


# --- all together ------------------------------------------------------------------------------------------------------


def test_a_plan_of_two_sources_and_banks_of_each_kind_lists_all_that_it_found(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Roots have other names than sources; something of each is refused and something not read; rooms of one folder have no label."""
    lab.recipe["speech"]["train"]["root"] = lab.recipe["speech"]["test"]["root"] = "voices"
    lab.recipe["noises"]["din"] = {"dir": "din", "split": "shared", "root": "dins", "min_s": 0.5}
    lab.recipe["noises"]["hum"]["split"] = "shared"
    lab.recipe["rooms"]["cell"] |= {"rooms": 1, "split": "shared"}
    lab.recipe["rooms"]["attic"] = {"responses": {"dir": "attic", "root": "taken"}, "split": "shared"}
    lab.recipe["noises"]["shaped"] = {"colour": "speech"}
    lab.recipe["conditions"]["shaped"] = {"steps": [{"kind": "noise", "from": ["shaped"], "snr_db": 5}]}
    lab.recipe["copies"] = {"train": {"far": 1, "shaped": 0}, "test": {"far": 1, "shaped": 1}}
    write_wave(lab.folder / "din" / "d.wav", voice(70, 0.7))
    write_wave(lab.folder / "din" / "short.wav", voice(70, 0.4))
    write_wave(lab.folder / "din" / "zero.wav", np.zeros(9000))
    for number in range(2):
        wave = 0.5 * measured_response(seed=number, t60_s=0.2, tail=0.05, seconds=0.5)[0]  # type: ignore[no-untyped-call]
        write_wave(lab.folder / "attic" / f"r{number}.wav", wave, subtype="FLOAT")
    for place in ("noise", "din", "attic", "speech/test/t0"):
        (lab.folder / place / "bad.wav").write_text("no audio")
        (lab.folder / place / "notes.txt").write_text("no audio")
    made, _ = lab.plan()
    folder = lab.folder / "plan" / "plan"
    assert made.filtered == {
        **{name: {PASSED_OVER + ".txt": 1} for name in ("hum", "attic", "test")},
        "din": {PASSED_OVER + ".txt": 1, "shorter than 0.5 s": 1},
    }
    assert [(one.split, one.id) for one in made.refused] == [
        ("attic", "bad.wav"), ("din", "bad"), ("din", "zero.wav"), ("hum", "bad"), ("test", "bad"),
    ]  # fmt: skip
    speech, noise = lab.folder / "speech", lab.folder / "noise"
    assert read_roots(lab.folder / "plan") == {
        "voices": str(speech), "dins": str(lab.folder / "din"), "hum": str(noise), "taken": str(lab.folder / "attic"),
    }  # fmt: skip
    rooms = [json.loads(line) for line in (folder / "rooms.jsonl").read_bytes().splitlines()]
    assert [(room["bank"], room["room"]) for room in rooms] == [("attic", 0), ("attic", 1), ("cell", 0)]
    assert [json.loads(line)["split"] for line in (folder / "spectra.jsonl").read_bytes().splitlines()] == ["test"]
    for name in ("levels", "rooms", "spectra"):
        digest = sha256((folder / f"{name}.jsonl").read_bytes()).hexdigest()
        assert getattr(made, f"{name}_sha256") == digest, name
    assert {(row.source.root, row.source.path.split("/")[0]) for row in lab.rows(split="test")} == {("voices", "test")}
    notes = capsys.readouterr().err.splitlines()
    assert notes == [
        "rooms.attic: no field names the room of a response; each of 3 recordings counts as one room (room: in fields)"
    ]
    assert "limit" not in json.loads((folder / "plan.json").read_text())
    assert made.limit is None
