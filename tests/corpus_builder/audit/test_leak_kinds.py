"""Every kind of leak that the plan of a corpus can show: two splits that share one thing, and nothing else."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from corpus_builder.audit.audit_corpora import audit
from corpus_builder.audit.collect import collect_facts
from corpus_builder.audit.leaks import Facts
from manifests.corpus.sample import sample_key
from manifests.io.digest import digest
from manifests.recipe.recipe import Recipe
from tests.oracles.forgery import canonical, sha256
from tests.oracles.tiny_corpus import tiny_split, write_corpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPLITS = ("train", "test")
RECIPE: dict[str, Any] = {
    "schema": "stillroom/recipe/1", "name": "p", "speech": {split: {"dir": f"@{split}"} for split in SPLITS},
    "noises": {"hum": {"dir": "@hum"}, "babble": {"talkers": 2}},
    "rooms": {
        "cell": {"rooms": 2, "size_m": [[3, 3, 2], [4, 4, 3]], "rt60_s": 0.2, "distance_m": 1},
        "taken": {"responses": {"dir": "@taken"}},
    },
    "conditions": {"c": {"steps": [{"kind": "noise", "from": ["hum"], "snr_db": 5}]}},
    "copies": {"train": {"c": 1}, "test": {"c": 1}},
}  # fmt: skip


def of(split: str, letter: str) -> str:
    """A digest that only one split has."""
    return sha256(f"{split} {letter}".encode())


class Plan:
    """The plan of an utterance a split, which share nothing; plain data, to be twisted."""

    def __init__(self) -> None:
        self.rows = {split: row_of(split) for split in SPLITS}
        self.levels = [level_of(split) for split in SPLITS]
        self.rooms = [room_of(split, number) for number, split in enumerate(SPLITS)]
        self.rooms += [taken_of(split, number) for number, split in enumerate(SPLITS)]
        self.responses = [response_of(split, number) for number, split in enumerate(SPLITS)]

    def write(self, folder: Path, *, recipe: dict[str, Any] = RECIPE) -> Path:
        """The folder of a finished plan."""
        for name, items in (("plan/levels", self.levels), ("plan/rooms", self.rooms), ("rooms/cell", self.responses)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jsonl").write_bytes(b"".join(canonical(item) + b"\n" for item in items))
        files = []
        for split, row in self.rows.items():
            path = folder / "plan" / f"{split}-000000.jsonl"
            path.write_bytes(canonical(row) + b"\n")
            name, sha = path.stem, sha256(path.read_bytes())
            files.append({"name": name, "split": split, "rows": 1, "seconds": 0.0, "sha256": sha})
        plan = {
            "schema": "stillroom/plan/2", "name": "p", "recipe_sha256": digest(Recipe.parse(recipe, where="test").plain()),
            "sample_rate": 16000, "files": files, "levels_sha256": "0" * 64, "rooms_sha256": "0" * 64,
        }  # fmt: skip
        (folder / "plan" / "plan.json").write_text(json.dumps(plan))
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return folder


def talker_of(split: str) -> dict[str, Any]:
    file = {"root": split, "path": f"{split} talker.wav", "rate_hz": 16000, "sha256": of(split, "talker")}
    return {"id": f"{split} talker", "speaker": f"{split} ted", "file": file, "offset": 0}


def row_of(split: str) -> dict[str, Any]:
    number = SPLITS.index(split)
    hum = {"form": "recorded", "source": "hum", "root": "hum", "recording": f"{split} hum.wav", "offset": 0}
    babble = {"form": "babble", "source": "babble", "talkers": [talker_of(split)]}
    steps = [
        {"kind": "room", "bank": "cell", "room": number, "position": 0, "response": f"cell-{number}-0"},
        {"kind": "noise", "snr_db": 5.0, "form": "several", "noises": [hum, babble]},
        {"kind": "room", "bank": "taken", "room": number, "position": 0, "response": f"taken-{number}-0"},
        {"kind": "noise", "snr_db": 5.0, **hum, "recording": f"{split} din.wav"},
    ]
    source = {"root": split, "path": f"{split}.wav", "rate_hz": 16000, "sha256": of(split, "source")}
    return {
        "id": split, "key": sample_key(split), "split": split, "num_samples": 100, "speaker": f"{split} ann", "source": source,
        "copies": [{"name": "c-0", "condition": "c", "steps": steps}],
    }  # fmt: skip


def level_of(split: str) -> dict[str, Any]:
    return {
        "source": "hum", "root": "hum", "path": f"{split} hum.wav", "splits": [split], "num_samples": 100, "rate_hz": 16000,
        "sha256": of(split, "hum"), "power_db": [-20.0],
    }  # fmt: skip


def room_of(split: str, number: int) -> dict[str, Any]:
    return {
        "bank": "cell", "room": number, "splits": [split], "size_m": [3 + number, 3, 2], "absorption": 0.5, "max_order": 3,
        "rt60_s": 0.2, "t30_s": [0.2], "microphone_m": [1, 1, 1], "sources_m": [[2, 2, 1]],
    }  # fmt: skip


def taken_of(split: str, number: int) -> dict[str, Any]:
    file = {"root": "taken", "path": f"{split} rir.wav", "rate_hz": 16000, "sha256": of(split, "rir")}
    responses = [{"place": 0, "file": file, "t30_s": 0.2}]
    return {"bank": "taken", "room": number, "splits": [split], "label": split, "responses": responses}


def response_of(split: str, number: int) -> dict[str, Any]:
    return {
        "name": f"cell-{number}-0", "bank": "cell", "room": number, "position": 0, "rate_hz": 16000, "t30_s": 0.2,
        "direct_to_reverberant_db": 0.0, "direct_sample": 40, "num_samples": 100, "sha256": of(split, "response"),
    }  # fmt: skip


def steps(plan: Plan, split: str) -> Any:
    return plan.rows[split]["copies"][0]["steps"]


def leaks(folder: Path, *changes: Callable[[Plan], Any]) -> set[tuple[str, str, int, int]]:
    """Kind, way, count and how many are in utterances of both, of all that is found."""
    plan = Plan()
    for change in changes:
        change(plan)
    found = audit((plan.write(folder / "plan"),), roots={}, sound="none", progress=False).plain()
    assert all(leak["between"] == [["A", "train"], ["A", "test"]] for leak in found["leaks"])
    return {(leak["kind"], leak["how"], leak["count"], leak["heard"]) for leak in found["leaks"]}


def same_source_path(plan: Plan) -> None:
    """One path below one root, and no digest."""
    plan.rows["test"]["source"] = {"root": "train", "path": "train.wav", "rate_hz": 16000}
    del plan.rows["train"]["source"]["sha256"]


def same_hum_path(plan: Plan) -> None:
    plan.levels.clear()
    steps(plan, "test")[1]["noises"][0]["recording"] = "train hum.wav"


def same_taken_path(plan: Plan) -> None:
    for room in plan.rooms[2:]:
        room["responses"][0]["file"] = {"root": "taken", "path": "rir.wav", "rate_hz": 16000}


def without_use(plan: Plan) -> None:
    """No utterance has a room or a noise."""
    for split in SPLITS:
        steps(plan, split).clear()


SHARED: list[tuple[str, tuple[str, str, int, int], list[Callable[[Plan], Any]]]] = [
    ("speaker", ("speaker", "label", 1, 1), [lambda p: p.rows["test"].update(speaker="train ann")]),
    (
        "speaker of a talker", ("speaker", "label", 1, 1),
        [lambda p: steps(p, "test")[1]["noises"][1]["talkers"][0].update(speaker="train ann")],
    ),
    (
        "file of two sources", ("recording", "file", 1, 1),
        [lambda p: p.rows["test"]["source"].update(sha256=of("train", "source"))],
    ),
    ("path of two sources", ("recording", "path", 1, 1), [same_source_path]),
    (
        "file of a talker", ("recording", "file", 1, 1),
        [lambda p: steps(p, "test")[1]["noises"][1]["talkers"][0]["file"].update(sha256=of("train", "source"))],
    ),
    (
        "file of two noises", ("noise", "file", 1, 1),
        [lambda p: p.levels[1].update(sha256=of("train", "hum"))],
    ),
    (
        "one noise of several", ("noise", "file", 1, 1),
        [lambda p: steps(p, "test")[1]["noises"][0].update(recording="train hum.wav")],
    ),
    ("one noise without a digest", ("noise", "path", 1, 1), [same_hum_path]),
    (
        "a noise alone", ("noise", "path", 1, 1),
        [lambda p: steps(p, "test")[3].update(recording="train din.wav")],
    ),
    ("noise that was only dealt to both", ("noise", "file", 1, 0), [lambda p: p.levels[0].update(splits=list(SPLITS))]),
    (
        "geometry of two rooms", ("room", "geometry", 1, 1),
        [lambda p: p.rooms[1].update(size_m=[3, 3, 2])],
    ),
    (
        "rooms that were only dealt to both", ("room", "geometry", 1, 0),
        [without_use, lambda p: p.responses.clear(), lambda p: p.rooms[0].update(splits=list(SPLITS))],
    ),
    ("response", ("room", "response", 1, 1), [lambda p: p.responses[1].update(sha256=of("train", "response"))]),
    (
        "file of a recorded response", ("room", "file", 1, 1),
        [lambda p: p.rooms[3]["responses"][0]["file"].update(sha256=of("train", "rir"))],
    ),
    ("path of a recorded response", ("room", "path", 1, 1), [same_taken_path]),
    (
        "recorded room that was only dealt to both", ("room", "file", 1, 0),
        [without_use, lambda p: p.responses.clear(), lambda p: p.rooms[2].update(splits=list(SPLITS))],
    ),
]  # fmt: skip


def test_two_splits_that_share_nothing_have_no_leak(tmp_path: Path) -> None:
    assert leaks(tmp_path) == set()


@pytest.mark.parametrize(("name", "due", "changes"), SHARED, ids=[name for name, _, _ in SHARED])
def test_what_two_splits_share_is_found_and_nothing_else(
    tmp_path: Path, name: str, due: tuple[str, str, int, int], changes: list[Callable[[Plan], Any]]
) -> None:
    assert leaks(tmp_path, *changes) == {due}


def test_rooms_of_one_size_whose_walls_absorb_otherwise_are_two_rooms(tmp_path: Path) -> None:
    assert leaks(tmp_path, lambda p: p.rooms[1].update(size_m=[3, 3, 2], absorption=0.4)) == set()


def test_a_room_of_the_other_split_is_found_in_the_copy_that_has_it(tmp_path: Path) -> None:
    """Whatever its plan says of which splits may use it."""
    found = leaks(tmp_path, lambda p: steps(p, "test")[0].update(room=0, response="cell-0-0"))
    assert found == {("room", "geometry", 1, 1), ("room", "response", 1, 1)}


def test_what_is_compared_is_counted_by_kind(tmp_path: Path) -> None:
    plan = Plan()
    found = audit((plan.write(tmp_path / "plan"),), roots={}, sound="none", progress=False)
    # speakers: an utterance's and a talker's a split; recordings likewise; noises: two a split; rooms: geometry, response, file
    assert found.checked == {"utterance": 0, "speaker": 4, "recording": 4, "noise": 4, "room": 6}
    assert {(one.kind, one.split, one.count) for one in found.unchecked} == {
        ("utterance", "train", 1), ("utterance", "test", 1), ("noise", "train", 1), ("noise", "test", 1),
    }  # fmt: skip


def test_two_plans_are_told_apart_by_their_letters_and_roots_do_not_mix(tmp_path: Path) -> None:
    """Paths of two corpora say nothing; digests and labels do."""
    first, second = Plan(), Plan()
    for split in SPLITS:
        row = copy.deepcopy(second.rows[split])
        text = json.dumps(row).replace(of(split, "source"), of(split, "x")).replace(of(split, "talker"), of(split, "y"))
        second.rows[split] = json.loads(text.replace(" ann", " bob").replace(" ted", " tom"))
    for one in (*second.levels, *second.responses):
        one["sha256"] = sha256(one["sha256"].encode())
    for number, room in enumerate(second.rooms):
        if "size_m" in room:
            room["size_m"] = [5 + number, 3, 2]
        else:
            room["responses"][0]["file"]["sha256"] = of("z", str(number))
    second.rows["test"]["speaker"] = "train ann"
    found = audit(
        (first.write(tmp_path / "a"), second.write(tmp_path / "b")), roots={}, sound="none", progress=False
    ).plain()
    assert [(leak["kind"], leak["how"], leak["between"]) for leak in found["leaks"]] == [
        ("speaker", "label", [["A", "train"], ["B", "test"]])
    ]


def test_every_file_that_is_used_is_collected_with_its_digest_channel_kind_and_splits(tmp_path: Path) -> None:
    """Two talkers of one recording are two channels of it; levels and recorded rooms tell those of their own files."""
    plan = Plan()
    for number, split in enumerate(SPLITS):
        plan.rows[split]["source"]["channel"] = number
        steps(plan, split)[1]["noises"][1]["talkers"][0]["file"]["channel"] = 2 + number
        plan.levels[number]["channel"] = 4 + number
        plan.rooms[2 + number]["responses"][0]["file"]["channel"] = 6 + number
    plan.levels[0]["splits"] = list(SPLITS)
    with Facts(tmp_path / "facts") as facts:
        collect_facts(facts, "A", plan.write(tmp_path / "plan"), tmp_path / "scratch")
        found = set()
        for *file, groups in facts.files(("noise", "recording", "room")):
            names = [str(list(facts.groups)[group]) for group in groups]
            found.add((*file, *sorted(names)))
        alone = [file[2] for file in facts.files(("noise",))]
    assert found == {
        ("A", "train", "train.wav", of("train", "source"), 0, "recording", "A:train"),
        ("A", "test", "test.wav", of("test", "source"), 1, "recording", "A:test"),
        ("A", "train", "train talker.wav", of("train", "talker"), 2, "recording", "A:train"),
        ("A", "test", "test talker.wav", of("test", "talker"), 3, "recording", "A:test"),
        ("A", "hum", "train hum.wav", of("train", "hum"), 4, "noise", "A:test", "A:train"),
        ("A", "hum", "test hum.wav", of("test", "hum"), 5, "noise", "A:test"),
        ("A", "hum", "train din.wav", None, None, "noise", "A:train"),
        ("A", "hum", "test din.wav", None, None, "noise", "A:test"),
        ("A", "taken", "train rir.wav", of("train", "rir"), 6, "room", "A:train"),
        ("A", "taken", "test rir.wav", of("test", "rir"), 7, "room", "A:test"),
    }
    assert alone == sorted(f"{split} {what}.wav" for split in SPLITS for what in ("din", "hum"))


def test_a_report_says_in_lines_what_was_found_where_and_what_could_not_be_looked_at(tmp_path: Path) -> None:
    plan = Plan()
    plan.rows["test"]["speaker"] = "train ann"
    plan.rows["train"]["speaker"] = None
    plan.rooms[1]["size_m"] = [3, 3, 2]
    plan.responses[1]["sha256"] = of("train", "response")
    steps(plan, "train")[0].clear()
    steps(plan, "train")[0].update(kind="clip", percent=3.0)
    recipe = copy.deepcopy(RECIPE)
    recipe["noises"]["hum"]["split"] = recipe["rooms"]["cell"]["split"] = "shared"
    folder = plan.write(tmp_path / "plan", recipe=recipe)
    found = audit((folder,), roots={}, sound="none", progress=False)
    assert list(found.lines())[1:] == [
        "utterance  nothing to compare (0 compared)",
        "speaker    no match found (3 compared)",
        "recording  no match found (4 compared)",
        "noise      no match found (4 compared)",
        "room       LEAK (4 compared)",
        "  A:train and A:test: 1 the same by size and absorption, 0 of them used in both, the others only assigned to both",
        "    cell-0 = cell-1 in test",
        "  A:train and A:test: 1 the same by digest of the response, 0 of them used in both, the others only assigned to both",
        "    cell-0-0 = cell-1-0",
        "declared   A: its recipe says split: shared for the noises hum: every split may use every one",
        "declared   A: its recipe says split: shared for the rooms cell: every split may use every one",
        "not checked  speaker, A:train: 1 of 1 utterances have no speaker label",
        "not checked  utterance, A:train: 1 of 1 utterances have no digest: a plan has no waves",
        "not checked  utterance, A:test: 1 of 1 utterances have no digest: a plan has no waves",
        "not checked  noise, A:train: 1 of 2 files have no digest: they were compared within their corpus, by path",
        "not checked  noise, A:test: 1 of 2 files have no digest: they were compared within their corpus, by path",
        "leaks were found",
    ]


def external(folder: Path, *, is_external: bool) -> Path:
    """A corpus without a plan: two utterances a split, the test ones with the noise and the talker of the others."""
    splits = {}
    for split in SPLITS:
        talker = talker_of("train") | {"speaker": f"{split} ted"}
        babble = {"kind": "noise", "snr_db": 5.0, "form": "babble", "source": "babble", "talkers": [talker]}
        splits[split] = tiny_split(split, count=2, members=("noise-0",))
        for number, one in enumerate(splits[split]):
            one.speaker = None if number else f"{split} ann"
            one.steps["noise-0"] = babble
    corpus = write_corpus(folder, splits)
    if is_external:
        sealed = json.loads((corpus / "corpus.json").read_text())
        sealed["borrowed"] = {"foreign": True}
        (corpus / "corpus.json").write_text(json.dumps(sealed))
    return corpus


def test_a_corpus_without_a_plan_is_collected_from_its_records(tmp_path: Path) -> None:
    found = audit((external(tmp_path / "tiny", is_external=False),), roots={}, sound="none", progress=False)
    assert found.corpora == {"A": f"{tmp_path / 'tiny'}: corpus without a plan, 4 utterances"}
    assert found.checked == {"utterance": 4, "speaker": 4, "recording": 3, "noise": 0, "room": 0}
    assert [(leak["kind"], leak["how"], leak["count"], leak["heard"]) for leak in found.plain()["leaks"]] == [
        ("recording", "file", 1, 1)
    ]
    assert [str(one) for one in found.unchecked] == [
        "speaker, A:train: 1 of 2 utterances have no speaker label",
        "speaker, A:test: 1 of 2 utterances have no speaker label",
        "recording, A:train: 1 of 2 files have no digest: they were compared within their corpus, by path",
        "recording, A:test: 1 of 2 files have no digest: they were compared within their corpus, by path",
    ]


def test_what_is_not_known_of_external_shards_is_not_checked(tmp_path: Path) -> None:
    found = audit((external(tmp_path / "tiny", is_external=True),), roots={}, sound="none", progress=False)
    assert found.corpora == {"A": f"{tmp_path / 'tiny'}: index of external shards, 4 utterances"}
    assert (found.checked["utterance"], found.checked["recording"]) == (
        4,
        1,
    )  # the talker, not what the utterances are of
    assert [str(one) for one in found.unchecked if one.split is None] == [
        f"{kind}, A: 4 of 4 utterances: the {what} of external shards are not known"
        for kind, what in (("recording", "sources"), ("noise", "noises"), ("room", "rooms"))
    ]
