"""`diff` tells every field in which two plans, corpora or packs differ, and no other."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from corpus_builder.rebuild.diff import Differences, compare_sources, differences, different_leaves
from manifests.io.digest import digest
from manifests.plan.plan import PlanRow
from manifests.plan.steps import PlannedCopy
from manifests.recipe.recipe import Recipe
from tests.oracles.forgery import canonical, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.corpus_builder.conftest import Lab

NAME = "train-000000"
RECIPE: dict[str, Any] = {
    "schema": "stillroom/recipe/1", "name": "p", "seed": 3, "speech": {"train": {"dir": "@train"}, "test": {"dir": "@test"}},
    "noises": {"hum": {"dir": "@hum"}, "din": {"dir": "@din"}},
    "conditions": {
        "noise": {"steps": [{"kind": "noise", "from": ["hum", "din"], "snr_db": {"uniform": [0, 5]}}]},
        "phone": {"steps": [{"kind": "codec", "codec": "g711-mulaw"}]},
    },
    "copies": {"train": {"noise": 1, "phone": 1}},
}  # fmt: skip
HUM = {
    "kind": "noise", "form": "recorded", "source": "hum", "root": "hum", "recording": "n.wav", "offset": 7, "snr_db": 5.0,
    "over": "whole",
}  # fmt: skip
LOSS = {
    "percent": 10.0, "burst_packets": 2.0, "bad_percent": 90.0, "good_percent": 1.0, "conceal": "zeros", "seed": 4, "lost_packets": 2,
}  # fmt: skip
ROOM = {"kind": "room", "bank": "cell", "room": 0, "position": 0, "response": "cell-0-0", "keep_rms": False}
CODEC = {"kind": "codec", "codec": "opus", "bitrate_kbps": 16.0, "application": "voip", "loss": LOSS}
ROW: dict[str, Any] = {
    "id": "u", "key": "u-0bfe935e70c3", "split": "train", "num_samples": 100, "text": "words", "speaker": "ann", "language": "en",
    "custom": {"take": 1, "of": {"x": [1, 2]}},
    "source": {
        "root": "train", "path": "u.wav", "start": 0.5, "num_frames": 100, "rate_hz": 16000, "channel": 0, "sha256": "1" * 64,
    },
    "copies": [
        {"name": "noise-0", "condition": "noise", "steps": [HUM], "level": -26.0},
        {"name": "phone-0", "condition": "phone", "steps": [ROOM, CODEC], "level": "keep"},
    ],
}  # fmt: skip
WORDS = {  # another word that fits, by the last part of a path
    "root": "din", "recording": "other.wav", "path": "other.wav", "over": "active", "source": "din", "bank": "hall",
    "response": "cell-0-1", "codec": "amr-nb", "application": "audio", "conceal": "repeat", "sha256": "2" * 64, "level": "match_clean",
}  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each number, word and truth of plain data stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
        return
    for key, item in items:
        yield from leaves(item, (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def another(value: Any, key: Any) -> Any:
    """Another value that fits."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return WORDS.get(key, f"other {value}")


def plan_of(folder: Path, row: dict[str, Any], recipe: dict[str, Any] = RECIPE) -> Path:
    """The folder of a finished plan of one row."""
    (folder / "plan").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    rows = canonical(row) + b"\n"
    (folder / "plan" / f"{NAME}.jsonl").write_bytes(rows)
    for name in ("levels", "rooms"):
        (folder / "plan" / f"{name}.jsonl").write_bytes(b"")
    file = {"name": NAME, "split": row["split"], "rows": 1, "seconds": 0.0, "sha256": sha256(rows)}
    plan = {
        "schema": "stillroom/plan/2", "name": "p", "recipe_sha256": digest(Recipe.parse(recipe, where="test").plain()),
        "sample_rate": 16000, "files": [file], "levels_sha256": sha256(b""), "rooms_sha256": sha256(b""),
    }  # fmt: skip
    (folder / "plan" / "plan.json").write_text(json.dumps(plan))
    return folder


def told(first: Path, second: Path) -> list[dict[str, Any]]:
    with differences(first, second) as found:
        return [json.loads(line) for line in found.every()]


IDENTITY = {("id",), ("key",), ("split",)}
NAMED = {"name", "condition"}
LEAVES = [path for path in leaves(ROW) if path not in IDENTITY and path[-1] not in {"kind", "form", *NAMED}]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plan_of(tmp_path_factory.mktemp("plans") / "a", ROW)


def test_two_plans_of_the_same_do_not_differ(reference: Path, tmp_path: Path) -> None:
    assert told(reference, plan_of(tmp_path / "b", ROW)) == []


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_every_number_and_word_of_a_row_is_compared(reference: Path, tmp_path: Path, path: tuple[Any, ...]) -> None:
    row = copy.deepcopy(ROW)
    before, after = at(row, path), another(at(row, path), path[-1])
    if path[-1] == "codec":  # that has no packets of this bit rate
        for name in ("loss", "application", "bitrate_kbps"):
            del row["copies"][1]["steps"][1][name]
    at(row, path[:-1])[path[-1]] = after
    lines = [line for line in told(reference, plan_of(tmp_path / "b", row)) if line["part"] != "sources"]
    who = {"part": "parameters", "split": "train", "id": "u"}
    if path[0] == "copies":
        who |= {"copy": ROW["copies"][path[1]]["name"]}
    due = {**who, "path": ".".join(map(str, path[2:] if path[0] == "copies" else path)), "a": before, "b": after}
    assert due in lines
    assert len(lines) == (1 if path[-1] != "codec" else 2 + len(leaves_of("loss")) + 1)


def leaves_of(name: str) -> list[Any]:
    return list(leaves(CODEC[name]))


@pytest.mark.parametrize("name", ["text", "speaker", "language"])
def test_a_label_that_only_one_side_has_is_told(reference: Path, tmp_path: Path, name: str) -> None:
    row = {key: value for key, value in ROW.items() if key != name}
    who = {"part": "parameters", "split": "train", "id": "u", "path": name}
    assert told(reference, plan_of(tmp_path / "b", row)) == [who | {"a": ROW[name], "b": "absent"}]
    assert told(tmp_path / "b", reference) == [who | {"a": "absent", "b": ROW[name]}]


def test_no_field_of_a_row_or_copy_is_forgotten() -> None:
    """A new one has to be put into the row above."""
    assert set(ROW) == set(PlanRow.model_fields)
    assert set(ROW["copies"][0]) == set(PlannedCopy.model_fields)
    assert {path[0] for path in LEAVES} | {path[0] for path in IDENTITY} == set(PlanRow.model_fields)


def test_a_copy_that_only_one_side_has_and_other_kinds_of_step_are_other_conditions(
    reference: Path, tmp_path: Path
) -> None:
    row = copy.deepcopy(ROW)
    del row["copies"][0]
    row["copies"][0]["steps"].pop()
    lines = told(reference, plan_of(tmp_path / "b", row))
    who = {"part": "conditions", "split": "train", "id": "u"}
    assert {**who, "copy": "noise-0", "only": "a"} in lines
    assert {**who, "copy": "phone-0", "path": "steps.1.codec", "a": "opus", "b": "absent"} in lines
    assert {line["part"] for line in lines} == {"conditions", "sources"}


def test_an_utterance_of_another_split_is_another_utterance(reference: Path, tmp_path: Path) -> None:
    row = ROW | {"split": "test"}
    assert [line for line in told(reference, plan_of(tmp_path / "b", row)) if line["part"] == "utterances"] == [
        {"part": "utterances", "split": "train", "id": "u", "only": "a"},
        {"part": "utterances", "split": "test", "id": "u", "only": "b"},
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), 4), (("copies", "train", "noise"), 2), (("conditions", "noise", "steps", 0, "snr_db"), {"uniform": [0, 6]}),
        (("noises", "hum", "split"), "shared"), (("speech", "train", "min_s"), 2.0),
    ],
)  # fmt: skip
def test_every_setting_of_the_recipe_is_compared(
    reference: Path, tmp_path: Path, path: tuple[Any, ...], value: Any
) -> None:
    recipe = copy.deepcopy(RECIPE)
    at(recipe, path[:-1])[path[-1]] = value
    lines = told(reference, plan_of(tmp_path / "b", ROW, recipe))
    assert [line["part"] for line in lines] == ["recipe"]
    assert lines[0]["path"].startswith(".".join(map(str, path)))
    assert lines[0]["b"] == (6 if isinstance(value, dict) else value)


@pytest.fixture
def corpora(built_lab: Lab, tmp_path: Path) -> tuple[Path, Path]:
    """A corpus, and a copy of its documents that may be changed."""
    shutil.copytree(built_lab.folder / "corpus", tmp_path / "b", ignore=shutil.ignore_patterns("*.tar"))
    return built_lab.folder / "corpus", tmp_path / "b"


def edit_lines(path: Path, change: Any) -> dict[str, Any]:
    """Change the first line of a JSON lines file; it as it was."""
    items = [json.loads(line) for line in path.read_text().splitlines()]
    before = copy.deepcopy(items[0])
    items = change(items)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return before


def test_sources_of_other_bytes_other_pcm_or_one_side_are_told_apart(corpora: tuple[Path, Path]) -> None:
    first, second = corpora
    for path in sorted((second / "proof").glob("*.sources.jsonl")):  # of whichever shards used them
        items = [json.loads(line) for line in path.read_text().splitlines()]
        for item in items:
            if item["path"] == "n1.wav":
                item["sha256"] = "0" * 64
            if item["path"] == "n2.wav":
                item["pcm_sha256"] = "0" * 64
            if item["path"] == "n3.wav":
                item["path"] = "n9.wav"
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    with differences(first, second) as found:
        lines = [json.loads(line) for line in found.every()]
        same, different = found.same["sources"], found.counts["sources"]
    of = {"part": "sources", "root": "hum"}
    assert [line for line in lines if line["path"] == "n2.wav"] == [{**of, "path": "n2.wav", "decoder_differs": True}]
    assert {**of, "path": "n3.wav", "only": "a"} in lines
    assert {**of, "path": "n9.wav", "only": "b"} in lines
    (other,) = [line for line in lines if line["path"] == "n1.wav"]
    assert (other["b"], other["a"] != "0" * 64) == ("0" * 64, True)
    assert (same, different, len(lines)) == (15, 4, 4)


def test_files_are_compared_by_their_bytes_and_stretches_of_them_by_their_samples() -> None:
    """A digest that one side does not know makes no difference, and of other bytes it is not said that a decoder differs."""
    one: list[tuple[str, str, str, str | None, str | None]] = [
        ("r", "known.wav", "", "1", None), ("r", "two.wav", "0-5", "2", "p"), ("r", "two.wav", "5-9", "2", "q"),
        ("r", "bytes.wav", "", "3", "p"), ("r", "decoder.wav", "0-5", "4", "p"), ("r", "decoder.wav", "5-9", "4", "p"),
        ("r", "alone.wav", "", "5", "p"),
    ]  # fmt: skip
    other = [
        ("r", "known.wav", "", None, "p"), *one[1:3], ("r", "bytes.wav", "", "0", "q"), ("r", "decoder.wav", "0-5", "4", "x"),
        ("r", "decoder.wav", "5-9", "4", "y"), ("s", "alone.wav", "", "5", "p"),
    ]  # fmt: skip
    views: list[Any] = [SimpleNamespace(sources=lambda rows=rows: iter(rows)) for rows in (one, other)]
    with contextlib.closing(sqlite3.connect(":memory:")) as database, io.StringIO() as lines:
        found = Differences("a", "b", lines)
        assert compare_sources(found, database, *views) == {("r", "decoder.wav")}
        listed = [json.loads(line) for line in found.every()]
    of = {"part": "sources", "root": "r"}
    assert listed == [
        {**of, "path": "alone.wav", "only": "a"},
        {**of, "path": "bytes.wav", "a": "3", "b": "0"},
        {**of, "root": "s", "path": "alone.wav", "only": "b"},
        {**of, "path": "decoder.wav", "decoder_differs": True},
    ]
    assert found.same["sources"] == 3


def test_paths_of_plain_data_are_those_of_its_leaves_also_of_empty_ones() -> None:
    first = {"a": {"b": [1, {"c": 2}]}, "d": [], "e": {}, "same": 3, "gone": None}
    second = {"a": {"b": [1, {"c": 4}, 5]}, "d": {}, "same": 3, "new": "x"}
    assert list(different_leaves(first, second)) == [
        ("a.b.1.c", 2, 4), ("a.b.2", "absent", 5), ("d", [], {}), ("e", {}, "absent"), ("gone", None, "absent"),
        ("new", "absent", "x"),
    ]  # fmt: skip


def in_index(corpus: Path, name: str, **values: Any) -> str:
    """Change a member of the first sample of the first shard; the sample's key."""
    path = corpus / "shards" / f"{NAME}.json"
    index = json.loads(path.read_bytes())
    index["samples"][0]["members"][name] |= values
    path.write_text(json.dumps(index))
    return str(index["samples"][0]["key"])


def waves_apart(first: Path, second: Path) -> list[dict[str, Any]]:
    return [line for line in told(first, second) if line["part"] == "pcm"]


@pytest.mark.parametrize("name", ["clean", "noise-0", "far-0", "phone-0"])
def test_waves_of_other_pcm_and_the_same_fingerprint_are_near(corpora: tuple[Path, Path], name: str) -> None:
    first, second = corpora
    in_index(second, name, pcm_sha256="0" * 64)
    (line,) = waves_apart(first, second)
    assert (line["copy"], line["verdict"], line["deviation_lsb"]) == (name, "near", 0.0)
    assert line["condition"] == name.rpartition("-")[0] or name == "clean"
    assert ("codec" in line) == (name == "phone-0")
    with differences(first, second) as found:
        assert found.pcm == {"identical": 51, "near": 1}
        assert (found.same["pcm"], found.counts["pcm"]) == (51, 1)
        assert found.plain()["pcm"] == {"identical": 51, "near": 1, "different": 0}


def test_a_wave_without_a_fingerprint_or_with_one_of_another_kind_is_different(corpora: tuple[Path, Path]) -> None:
    first, second = corpora
    key = in_index(second, "noise-0", pcm_sha256="0" * 64)
    in_index(second, "noise-1", pcm_sha256="0" * 64)
    path = second / "proof" / f"{NAME}.jsonl"

    def change(items: list[Any]) -> list[Any]:
        (own,) = [item for item in items if item["key"] == key]
        del own["prints"]["noise-0"]
        own["prints"]["noise-1"] = own["prints"]["phone-0"]
        return items

    edit_lines(path, change)
    why = {line["copy"]: (line["verdict"], line["why"]) for line in waves_apart(first, second)}
    assert why == {
        "noise-0": ("different", "there is no fingerprint to compare"),
        "noise-1": ("different", "one went through a codec, the other did not"),
    }


def test_two_corpora_of_the_same_are_told_as_such_in_json(built_lab: Lab) -> None:
    from click.testing import CliRunner

    from stillroom.cli import stillroom

    corpus = str(built_lab.folder / "corpus")
    result = CliRunner().invoke(stillroom, ["diff", corpus, corpus, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout.splitlines()[0])
    assert document["pcm"] == {"identical": 52, "near": 0, "different": 0}
    assert document["utterances"] == {"same": 12, "different": 0}
