"""Members of a tar are read by their names, from the tar that is there now."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from corpus_builder.audio import tar_members
from corpus_builder.audio.tar_members import audio_digest, audio_exists, member_of
from manifests.io.digest import bytes_digest

if TYPE_CHECKING:
    from pathlib import Path


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def content(path: Path) -> bytes:
    member = member_of(path)
    assert member is not None
    return member.content()


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"b.wav": b"2" * 700, "a.wav": b"3" * 10}, id="of the same size"),
        pytest.param({"b.wav": b"2" * 70_000}, id="larger"),
    ],
)
def test_a_tar_that_was_written_again_is_indexed_again(tmp_path: Path, second: dict[str, bytes]) -> None:
    tar = tmp_path / "recording.000000.tar"
    first = {"a.wav": b"1" * 10, "b.wav": b"0" * 700}
    write_tar(tar, first)
    assert {name: content(tar / name) for name in first} == first
    before = tar.stat()
    write_tar(tar, second)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (tar.stat().st_size == before.st_size) == ("a.wav" in second)
    assert {name: content(tar / name) for name in second} == second
    assert audio_digest(tar / "b.wav") == bytes_digest(second["b.wav"])
    assert audio_exists(tar / "a.wav") == ("a.wav" in second)


def test_tars_of_one_name_size_and_time_in_two_folders_are_two(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}").mkdir()
        members = {"a.wav": b"1" * 700, "b.wav": b"2" * 20} if number else {"b.wav": b"3" * 20, "a.wav": b"4" * 700}
        write_tar(tmp_path / f"{number}/s.tar", members)
        os.utime(tmp_path / f"{number}/s.tar", ns=(5, 5))
    assert [content(tmp_path / f"{number}/s.tar/{name}.wav")[:1] for number in range(2) for name in "ab"] == [
        b"4",
        b"3",
        b"1",
        b"2",
    ]


def test_a_member_is_found_below_folders_that_are_called_like_tars(tmp_path: Path) -> None:
    folder = tmp_path / "all.tar/more.tar"
    folder.mkdir(parents=True)
    (folder / "plain.wav").write_bytes(b"plain")
    write_tar(folder / "s.tar", {"inside/a.tar/x.wav": b"member"})
    assert member_of(folder / "plain.wav") is None
    assert member_of(folder / "s.tar/inside/a.tar/x.wav") == (folder / "s.tar", "inside/a.tar/x.wav")
    assert content(folder / "s.tar/inside/a.tar/x.wav") == b"member"
    assert member_of(folder / "s.tar/inside/a.tar/x.wav").span() == (512, 6)  # after one header of 512 bytes
    assert audio_digest(folder / "s.tar/inside/a.tar/x.wav") == bytes_digest(b"member")
    assert audio_digest(folder / "plain.wav") == bytes_digest(b"plain")
    assert [audio_exists(folder / name) for name in ("plain.wav", "s.tar/inside/a.tar/x.wav", "s.tar/x.wav", "none.wav")] == [
        True, True, False, False,
    ]  # fmt: skip
    for read in (content, audio_digest):
        with pytest.raises(FileNotFoundError, match=r"s\.tar has no member y\.wav"):
            read(folder / "s.tar/y.wav")


def test_only_the_tars_used_last_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "MOST_TARS", 2)
    monkeypatch.setattr(tar_members, "TABLES", type(tar_members.TABLES)())
    for name in "abac":
        if not (tmp_path / f"{name}.tar").exists():
            write_tar(tmp_path / f"{name}.tar", {"x.wav": name.encode()})
        assert content(tmp_path / f"{name}.tar/x.wav") == name.encode()
    assert [key[0][-5:] for key in tar_members.TABLES] == ["a.tar", "c.tar"]


def test_a_tar_of_the_same_time_and_another_size_is_another(tmp_path: Path) -> None:
    for members in ({"a.wav": b"1" * 10}, {"b.wav": b"2" * 70_000, "a.wav": b"3" * 10}):
        write_tar(tmp_path / "s.tar", members)
        os.utime(tmp_path / "s.tar", ns=(5, 5))
        assert content(tmp_path / "s.tar/a.wav") == members["a.wav"]
