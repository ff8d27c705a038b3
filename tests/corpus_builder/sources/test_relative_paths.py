"""The folder of a root and the paths below it, by names that nearly begin alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus_builder.sources.relative_paths import RootFinder, folders_of
from corpus_builder.sources.roots import Located
from manifests.errors import BadDocumentError
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import voice, write_wave
from tests.corpus_builder.sources.test_lhotse_manifest import cut, recording, write_manifest


def finder_of(folder: Path, *, strip: str | None = None, place: Path | None = None) -> RootFinder:
    source = SpeechSource.parse({"cuts": "m.jsonl"} | ({"strip": strip} if strip else {}), where="test")
    return RootFinder(Located("dev", "voices", source, place, manifest=folder / "m.jsonl", strip=strip))


@pytest.mark.parametrize("strip", ["/old/data", "/old/data/"])
def test_a_prefix_to_strip_ends_where_a_folder_ends(tmp_path: Path, strip: str) -> None:
    finder = finder_of(tmp_path, strip=strip)
    paths = [finder.add(path) for path in ("/old/data/x/1.wav", "/old/data/./y//2.wav")]
    assert [finder.relative(path) for path in paths] == ["x/1.wav", "y/2.wav"]
    assert finder.folder == Path("/old/data")
    for path in ("/old/database/1.wav", "/old/data", "/old/dat/1.wav", "/x/old/data/1.wav"):
        with pytest.raises(BadDocumentError, match=f"path {path} does not begin with strip: {strip}"):
            finder.add(path)


@pytest.mark.parametrize(
    ("paths", "folder", "below"),
    [
        (["/old/x/1.wav", "/old/x2/2.wav"], "/old", ["x/1.wav", "x2/2.wav"]),
        (["/old/x2/1.wav", "/old/x/2.wav"], "/old", ["x2/1.wav", "x/2.wav"]),
        (["/old/x/y/1.wav", "/old/x/2.wav", "/old/x/z/3.wav"], "/old/x", ["y/1.wav", "2.wav", "z/3.wav"]),
        (["/old/x/1.wav", "/old/x/y/2.wav"], "/old/x", ["1.wav", "y/2.wav"]),
        (["/a/1.wav", "/b/2.wav", "/3.wav"], "/", ["a/1.wav", "b/2.wav", "3.wav"]),
    ],
)
def test_the_folder_of_absolute_paths_is_the_deepest_that_holds_all(
    tmp_path: Path, paths: list[str], folder: str, below: list[str]
) -> None:
    finder = finder_of(tmp_path)
    added = [finder.add(path) for path in paths]
    assert finder.folder == Path(folder)
    assert [finder.relative(path) for path in added] == below


def test_relative_paths_are_beside_the_manifest_if_the_first_is_there_else_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    folders = {}
    for name in ("first", "last", "none"):
        finder = finder_of(tmp_path)
        for path in (f"{name}/1.wav", "sub/../last/2.wav"):
            added = finder.add(path)
            assert finder.relative(added) == added
        if name != "none":
            write_wave(tmp_path / name / ("1.wav" if name == "first" else "2.wav"), voice(0, 0.1))
        folders[name] = finder.folder
    assert folders == {"first": tmp_path, "last": here, "none": here}
    assert finder_of(tmp_path, place=tmp_path / "given").folder == tmp_path / "given"


def test_the_root_of_a_manifest_that_nothing_names_is_found_by_reading_it(tmp_path: Path) -> None:
    paths = ["/old/data/x/1.wav", "/old/data/y/2.wav"]
    manifest = write_manifest(tmp_path / "m.jsonl", [cut(path, recording(path)) for path in paths])
    found = finder_of(tmp_path).located
    assert folders_of([found]) == {"voices": Path("/old/data")}
    manifest.write_text("no manifest")  # which is not read where the recipe or the user names the folder
    assert folders_of([finder_of(tmp_path, strip="/old").located]) == {"voices": Path("/old")}
    assert folders_of([finder_of(tmp_path, place=tmp_path).located]) == {"voices": tmp_path}
    assert finder_of(tmp_path, place=tmp_path).found() == ("dev", "voices", tmp_path, "")
