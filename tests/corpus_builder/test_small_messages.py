"""Whole messages of what a command line, a list, a manifest or a fingerprint cannot be: what was found, where, and what is expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.build.build_corpus import Slice
from corpus_builder.cli.options import FOLDER, parse_allowance
from corpus_builder.rooms.rir_bank import plain_float32
from corpus_builder.shards.croissant import ListedFile, croissant
from corpus_builder.shards.fingerprint import blocks_of
from corpus_builder.sources import lhotse_manifest
from corpus_builder.sources.lhotse_manifest import manifest_lines, refuse_unsafe_audio
from corpus_builder.sources.path_labels import pattern_of
from corpus_builder.sources.relative_paths import RootFinder
from corpus_builder.sources.rir_files import line_response
from corpus_builder.sources.roots import Located
from corpus_builder.workers.preemption import parse_time
from manifests.errors import BadDocumentError, StillroomError
from manifests.recipe.recipe import Recipe
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.pages.test_summary import sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNSAFE = (
    "only plain files are read (a command would run a shell, a URL would fetch): refused before anything was loaded"
)
MESSAGES: list[tuple[Callable[[], Any], str]] = [
    (lambda: parse_allowance("101%"), "--max-refused: expected a number such as 10, or a percentage such as 1%, got '101%'"),
    (lambda: parse_allowance("1.5"), "--max-refused: expected a number such as 10, or a percentage such as 1%, got '1.5'"),
    (lambda: parse_time("5x"), "--stop-after: expected a time such as 3h50m, 90m or 45s, got '5x'"),
    (lambda: Slice.parse("9/8"), "--slice: expected I/N with I from 1 to N, such as 1/8, got '9/8'"),
    (lambda: Slice.parse("0/8"), "--slice: expected I/N with I from 1 to N, such as 1/8, got '0/8'"),
    (lambda: FOLDER.convert("s3://b/c", None, None), "expected a file or folder on a disk, got the URL s3://b/c"),
    (lambda: pattern_of("x/a**.wav"), "pattern: 'x/a**.wav': ** stands for whole folders, such as **/*.flac"),
    (lambda: line_response("--room-id 3", where="l:7"), "l:7: names no file: '--room-id 3'; expected options and then a path"),
    (lambda: refuse_unsafe_audio({"type": "url", "channels": [0], "source": "x"}, where="m:2"), f"m:2: its audio is of type 'url'; {UNSAFE}"),
    (
        lambda: refuse_unsafe_audio([{"x": {"type": "file", "channels": [0], "source": "cat a |"}}], where="m:3"),
        f"m:3: its audio is of type 'file, but with the name cat a |'; {UNSAFE}",
    ),
    (lambda: blocks_of("AA=A", where="p:4"), "p:4: expected a fingerprint: "),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message[:40] for _, message in MESSAGES])
def test_what_is_refused_is_named_with_what_is_expected(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(StillroomError) as caught:
        call()
    assert str(caught.value) == message or (message.endswith(": ") and str(caught.value).startswith(message))


def test_blank_lines_of_a_manifest_are_bounded_in_number_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lhotse_manifest, "MOST_BLANK_LINES", 3)
    path = tmp_path / "m.jsonl"
    path.write_text("\n a\n\n  \nb\n")
    assert list(manifest_lines(path)) == [(2, b" a\n"), (5, b"b\n")]
    path.write_text("\n a\n\n  \nb\n\n")
    with pytest.raises(BadDocumentError) as caught:
        list(manifest_lines(path))
    assert str(caught.value) == f"{path}: has more than 3 blank lines; refused"


def test_paths_of_two_kinds_in_a_manifest_are_named_both(tmp_path: Path) -> None:
    source = SpeechSource.parse({"cuts": "m.jsonl"}, where="test")
    finder = RootFinder(Located("dev", "voices", source, None, manifest=tmp_path / "m.jsonl", strip=None))
    finder.add("/data/one/a.wav")
    finder.add("/data/two/b.wav")
    with pytest.raises(BadDocumentError) as caught:
        finder.add("sub/c.wav")
    assert str(caught.value) == (
        f"{tmp_path}/m.jsonl: names files by absolute paths (/data) and relative ones (sub/c.wav); give it a strip prefix, or make "
        "them all of one kind"
    )


def test_a_response_that_is_no_vector_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadDocumentError, match=rf"^{tmp_path}/r.npy: not an .npy file: "):
        plain_float32(b"no array", path=tmp_path / "r.npy", num_samples=3)


def test_a_card_for_machines_counts_utterances_and_hours_and_names_recipe_and_plan() -> None:
    source = {"licence": "CC0-1.0", "citation": "A. Author"}
    plain = {
        "schema": "stillroom/recipe/1",
        "name": "x",
        "speech": {"train": {"dir": "x", **source}, "dev": {"dir": "y"}},
    }
    listed = {split: ListedFile(9, "9" * 64) for split in ("train", "dev")}
    found = croissant(sealed(), Recipe.parse(plain, where="test"), listed)
    assert found["description"] == (
        "19 utterances, 1.75 h, each with distorted copies that are in step with the clean one. "
        f"Recipe {'1' * 64}, plan {'2' * 64}."
    )
    assert (found["name"], found["url"], found["license"], found["citeAs"]) == (
        "x", f"urn:sha256:{'2' * 64}", ["CC0-1.0"], "A. Author",
    )  # fmt: skip
    assert [one["@id"] for one in found["recordSet"]] == ["train", "train-about", "dev", "dev-about"]
    del plain["speech"]["train"]["licence"], plain["speech"]["train"]["citation"]  # type: ignore[index]
    (entry,) = sealed().plain()["splits"]["dev"]
    bare = croissant(sealed(splits={"train": [], "dev": [entry]}), Recipe.parse(plain, where="test"), listed)
    assert bare["license"] == ["The licences of the speech and noise it was made from hold for it too."]
    assert "citeAs" not in bare
    assert [one["@id"] for one in bare["recordSet"]] == ["dev", "dev-about"]
