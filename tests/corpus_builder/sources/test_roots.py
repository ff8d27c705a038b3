"""Where the sources of a recipe are, and how the recipe is published, for each kind of source and with roots of other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corpus_builder.sources.roots import Located, locate, parse_roots, published, read_roots, write_roots
from manifests.errors import BadDocumentError, MissingFileError, NotAFolderError, UnsafePathError, UsageError
from manifests.io.url import Url
from manifests.recipe.recipe import Recipe

RECIPE: dict[str, Any] = {
    "schema": "stillroom/recipe/1", "name": "x",
    "speech": {
        "train": {"dir": "data/speech/a", "root": "voices", "table": "lists/labels.csv"},
        "dev": {"dir": "data/speech/b/c", "root": "voices"},
        "test": {"cuts": "lists/cuts.jsonl", "strip": "/old/data", "root": "calls"},
    },
    "noises": {
        "hum": {"dir": "data/noise"}, "white": {"colour": "white"},
        "din": {"train": {"dir": "data/noise/one"}, "dev": {"dir": "data/noise/two", "root": "dins"}},
    },
    "rooms": {
        "taken": {"responses": {"list": "lists/rir_list", "root": "rirs"}},
        "hall": {"responses": {"dir": "data/hall", "fields": "{room}/{x}.wav"}},
    },
}  # fmt: skip


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    for name in ("speech/a", "speech/b/c", "noise/one", "noise/two", "hall"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "lists").mkdir()
    for name in ("labels.csv", "cuts.jsonl", "rir_list"):
        (tmp_path / "lists" / name).write_text("x")
    return tmp_path


def located(beside: Path, recipe: dict[str, Any] = RECIPE, **roots: Any) -> dict[str, Located]:
    return locate(Recipe.parse(recipe, where="test"), beside=beside, roots=roots)


def test_each_source_has_the_folder_of_its_root_and_its_own_below_it(beside: Path) -> None:
    found = located(beside)
    data = beside / "data"
    assert {name: (one.root, one.place, one.prefix, one.manifest, one.strip) for name, one in found.items()} == {
        "train": ("voices", data / "speech", "a", None, None),
        "dev": ("voices", data / "speech", "b/c", None, None),
        "test": ("calls", None, "", beside / "lists/cuts.jsonl", "/old/data"),
        "hum": ("hum", data / "noise", "", None, None),
        "din-train": ("din-train", data / "noise/one", "", None, None),
        "din-dev": ("dins", data / "noise/two", "", None, None),
        "taken": ("rirs", None, "", beside / "lists/rir_list", None),
        "hall": ("hall", data / "hall", "", None, None),
    }
    assert found["dev"].folder == data / "speech/b/c"
    assert [one.name for one in found.values()] == list(found)
    assert {name: one.table for name, one in found.items() if one.table} == {"train": beside / "lists/labels.csv"}


def test_a_given_root_stands_for_the_recipe_s_folder(beside: Path) -> None:
    moved = beside / "moved"
    for name in ("a", "b/c"):
        (moved / name).mkdir(parents=True)
    found = located(beside, voices=moved, calls=moved, dins=moved)
    assert (found["train"].folder, found["dev"].folder) == (moved / "a", moved / "b/c")
    assert (found["test"].place, found["test"].strip) == (moved, "/old/data")
    assert found["din-dev"].folder == moved
    assert found["din-train"].folder == beside / "data/noise/one"


def test_a_table_in_the_folder_comes_before_one_beside_the_recipe(beside: Path) -> None:
    own = beside / "data/speech/a/lists/labels.csv"
    own.parent.mkdir()
    own.write_text("x")
    assert located(beside)["train"].table == own
    own.unlink()
    (beside / "lists/labels.csv").unlink()
    with pytest.raises(MissingFileError, match=r"a/lists/labels.csv does not exist: the table of 'train'"):
        located(beside)


def test_a_published_recipe_names_roots_and_the_names_of_files_alone_and_finds_the_same_again(beside: Path) -> None:
    recipe = Recipe.parse(RECIPE, where="test")
    plain = published(recipe, located(beside))
    assert plain["speech"] == {
        "train": {"dir": "@voices/a", "root": "voices", "table": "labels.csv"} | rest(plain["speech"]["train"]),
        "dev": {"dir": "@voices/b/c", "root": "voices"} | rest(plain["speech"]["dev"]),
        "test": {"cuts": "cuts.jsonl", "strip": "@calls", "root": "calls"} | rest(plain["speech"]["test"]),
    }
    assert plain["noises"]["hum"]["dir"] == "@hum"
    assert {split: one["dir"] for split, one in plain["noises"]["din"].items()} == {
        "train": "@din-train",
        "dev": "@dins",
    }
    assert plain["rooms"]["taken"]["responses"]["list"] == "rir_list"
    assert plain["rooms"]["hall"]["responses"]["dir"] == "@hall"
    assert str(beside) not in str(plain)
    data, lists = beside / "data", beside / "lists"
    roots = {
        "voices": data / "speech", "calls": Path("/old/data"), "hum": data / "noise", "din-train": data / "noise/one",
        "dins": data / "noise/two", "rirs": data, "hall": data / "hall",
    }  # fmt: skip
    again = located(lists, plain, **roots)
    assert {name: one.folder for name, one in again.items() if one.manifest is None} == {
        name: one.folder for name, one in located(beside).items() if one.manifest is None
    }
    assert (again["test"].strip, again["test"].manifest) == ("/old/data", lists / "cuts.jsonl")
    assert again["train"].table == lists / "labels.csv"
    assert published(Recipe.parse(plain, where="again"), again) == plain
    del roots["calls"]
    with pytest.raises(
        UsageError, match=r"test: the recipe does not name the folder of root 'calls'; say --root calls=DIR"
    ):
        located(lists, plain, **roots)


def rest(source: dict[str, Any]) -> dict[str, Any]:
    """What a source has besides its places."""
    return {name: value for name, value in source.items() if name not in {"dir", "cuts", "strip", "table", "root"}}


@pytest.mark.parametrize(
    ("folder", "error", "said"),
    [
        ("@voices", BadDocumentError, r"train.dir: root 'voices' is not its own root 'train'"),
        ("@train/../b", UnsafePathError, "train.dir"),
    ],
)
def test_a_published_folder_is_below_its_own_root(beside: Path, folder: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        located(beside, {**RECIPE, "speech": {"train": {"dir": folder}}, "noises": {}, "rooms": {}}, train=beside)


def test_a_missing_source_names_the_root_to_give(beside: Path) -> None:
    (beside / "data/noise/two").rmdir()
    with pytest.raises(
        MissingFileError, match=r"noise/two does not exist: the folder of 'din-dev'; say --root dins=DIR"
    ):
        located(beside)
    (beside / "data/noise/two").mkdir()
    (beside / "lists/rir_list").unlink()
    with pytest.raises(MissingFileError, match=r"rir_list does not exist: the manifest of 'taken' in the recipe"):
        located(beside)


def test_given_roots_are_absolute_folders_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a=b").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a=b")
    monkeypatch.chdir(tmp_path)
    assert parse_roots(("x=a=b", "A:y=link", "x=.")) == {"x": tmp_path, "A:y": tmp_path / "link"}
    for wrong in ("x", "=a=b", "x="):
        with pytest.raises(UsageError, match=f"--root '{wrong}': expected NAME=DIR"):
            parse_roots((wrong,))
    with pytest.raises(NotAFolderError, match="--root y should name a folder"):
        parse_roots(("y=file",))


def test_roots_of_this_machine_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_roots(tmp_path) == {}
    write_roots(tmp_path, {"b": tmp_path / "x", "a": Url("s3://bucket/y")})
    assert read_roots(tmp_path) == {"a": "s3://bucket/y", "b": str(tmp_path / "x")}
