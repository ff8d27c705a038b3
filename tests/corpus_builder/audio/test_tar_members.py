"""Members of a tar are read by their names, from the tar that is there now."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

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
