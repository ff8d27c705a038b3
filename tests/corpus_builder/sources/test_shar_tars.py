"""Cuts of a Shar directory and the members of its tars, made by hand: each is joined with its own, and what is wrong is named."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.sources.lhotse_shar import MOST_META_BYTES, cut_files, is_placeholder, with_audio
from manifests.errors import BadDocumentError, BadTarError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

IN_TAR = {"type": "shar", "channels": [0], "source": ""}


def recording(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "sources": [IN_TAR], "sampling_rate": 16_000, **more}


def cut(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "recording": recording("r"), **more}


def write_members(tar: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(tar, "w") as stream:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            stream.addfile(info, io.BytesIO(content))
    return tar


def joined(folder: Path, *cuts: dict[str, Any], number: str = "000003", seen: list[Any] | None = None) -> list[Any]:
    lines = ((f"line {at}", data) for at, data in enumerate(cuts, 1))
    check = (seen if seen is not None else []).append
    return list(
        with_audio(folder / f"cuts.{number}.jsonl.gz", lines, check=lambda found, where: check((found["id"], where)))
    )


def described(*found: tuple[str, dict[str, Any]]) -> list[tuple[str, bytes]]:
    members = []
    for name, meta in found:
        members += [(name, b"audio"), (name.rpartition(".")[0] + ".json", json.dumps(meta).encode())]
    return members


def test_each_cut_has_the_recording_that_the_tar_of_its_number_describes(tmp_path: Path) -> None:
    write_members(tmp_path / "recording.000002.tar", described(("x.flac", recording("wrong"))))
    tar = write_members(
        tmp_path / "recording.000003.tar",
        described(("a.b.flac", recording("one", sampling_rate=8000)), ("c.opus", recording("two", num_samples=7))),
    )
    seen: list[Any] = []
    found = joined(tmp_path, cut("a.b", start=1.5), cut("c", start=2.5), seen=seen)
    first = {"type": "file", "channels": [0], "source": "recording.000003.tar/a.b.flac"}
    second = {"type": "file", "channels": [0], "source": "recording.000003.tar/c.opus"}
    assert found == [
        ("line 1", {"id": "a.b", "start": 1.5, "recording": recording("one", sampling_rate=8000, sources=[first])}),
        ("line 2", {"id": "c", "start": 2.5, "recording": recording("two", num_samples=7, sources=[second])}),
    ]
    assert seen == [("one", f"{tar}/a.b.json"), ("two", f"{tar}/c.json")]


def test_cuts_that_name_files_need_no_tar_and_stay_as_they_are(tmp_path: Path) -> None:
    plain = {"id": "a", "recording": {"id": "r", "sources": [{"type": "file", "source": "a.wav"}]}}
    for given in (plain, {"id": "b"}, {"id": "c", "recording": "r"}, {"id": "d", "recording": {"sources": "x"}}):
        assert joined(tmp_path, given, plain) == [("line 1", given), ("line 2", plain)]
    mixed = {"sources": [{"type": "file"}, IN_TAR]}
    assert is_placeholder(mixed)
    assert not is_placeholder({"sources": []})


def test_a_cut_that_the_tar_has_nothing_for_has_no_recording(tmp_path: Path) -> None:
    members = [("a.nodata", b""), ("a.nometa", b""), *described(("b.flac", recording("one")))]
    write_members(tmp_path / "recording.000003.tar", members)
    (_, first), (_, second) = joined(tmp_path, cut("a", text="t"), cut("b"))
    assert first == {"id": "a", "text": "t"}
    assert second["recording"]["id"] == "one"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (None, r"line 1: its audio is in recording.000003.tar, which is not beside it"),
        (described(("a.flac", recording("r"))), r"line 2: recording.000003.tar has fewer recordings than there are cuts"),
        (
            described(("a.flac", recording("r")), ("c.flac", recording("r"))),
            r"line 2: the cut is 'b' and the recording 'c.flac': they are not in step",
        ),
        (
            described(("a.flac", {**recording("r"), "sources": [IN_TAR, IN_TAR]})),
            r"recording.000003.tar/a.json: expected a recording with one source of type 'shar'",
        ),
        (
            described(("a.flac", {**recording("r"), "sources": [{"type": "file", "source": "b.wav"}]})),
            r"recording.000003.tar/a.json: expected a recording with one source of type 'shar'",
        ),
        (
            [("a.flac", b"audio"), ("a.json", b" " * MOST_META_BYTES + b"{")],
            rf"recording.000003.tar/a.json: is longer than {MOST_META_BYTES} bytes; refused",
        ),
    ],
    ids=["no tar", "fewer", "other name", "two sources", "a file", "long"],
)  # fmt: skip
def test_what_is_wrong_with_a_tar_names_the_line_or_the_member(
    tmp_path: Path, members: list[tuple[str, bytes]] | None, said: str
) -> None:
    if members is not None:
        write_members(tmp_path / "recording.000003.tar", members)
    with pytest.raises(BadDocumentError, match=said):
        joined(tmp_path, cut("a"), cut("b"))


@pytest.mark.parametrize("last", [[("b.flac", b"audio")], [("b.flac", b"audio"), ("c.flac", b"audio")]])
def test_a_member_without_its_description_is_named(tmp_path: Path, last: list[tuple[str, bytes]]) -> None:
    write_members(tmp_path / "recording.000003.tar", [*described(("a.flac", recording("r"))), *last])
    with pytest.raises(
        BadTarError, match=r"recording.000003.tar.*member 'b.flac' is not followed by its description, as Shar has it"
    ):
        joined(tmp_path, cut("a"), cut("b"))


def test_files_of_cuts_are_read_in_the_order_of_their_numbers_whether_packed_or_not(tmp_path: Path) -> None:
    for name in (
        "cuts.000010.jsonl",
        "cuts.000002.jsonl.gz",
        "cuts.000001.jsonl",
        "cuts.000000.txt",
        "recording.000000.tar",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in cut_files(tmp_path)] == [
        "cuts.000001.jsonl",
        "cuts.000002.jsonl.gz",
        "cuts.000010.jsonl",
    ]
    with pytest.raises(BadDocumentError, match=r"is a folder without cuts.000000.jsonl.gz"):
        cut_files(tmp_path / "gone")
