"""Paths on a disk, opened, measured and listed; `test_url` has the same of URLs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from manifests.errors import BadDocumentError, MissingFileError, NotAFolderError
from manifests.io.place import local_copy, no_folder, opened, place_of, places_of, size_of, sizes_below, span
from manifests.io.url import Url


def test_what_is_no_folder_is_a_file_or_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = [no_folder(tmp_path / name, needed="a corpus") for name in ("file", "gone")]
    assert [type(one) for one in found] == [NotAFolderError, MissingFileError]
    assert [str(one).removeprefix(f"{tmp_path}/") for one in found] == [
        "file is a file, not a folder: a corpus", "gone does not exist: a corpus",
    ]  # fmt: skip


def test_a_path_is_what_has_no_scheme_or_that_of_files() -> None:
    texts = {"a": "x::y.wav", "b": "local:///data/x", "c": "file:///data/x", "d": "c:x", "e": "gs://b/x//", "f": "://x"}
    assert places_of(texts) == {
        "a": Path("x::y.wav"), "b": Path("/data/x"), "c": Path("/data/x"), "d": Path("c:x"), "e": Url("gs://b/x"), "f": Path("://x"),
    }  # fmt: skip
    assert places_of(None) == {}
    assert place_of(Url("gs://b")) == Url("gs://b")


def test_pipes_and_sockets_are_refused_but_for_those_of_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has 108 bytes at most
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for name in ("pipe", "socket"):
            with pytest.raises(BadDocumentError, match=f"^{name}: is a pipe or a socket, not a file"):
                opened(Path(name))
    reading, writing = os.pipe()
    os.write(writing, b"from a shell")
    os.close(writing)
    with opened(Path(f"/dev/fd/{reading}")) as stream:
        assert stream.read() == b"from a shell"
    os.close(reading)


def test_files_of_a_disk_are_measured_and_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert (size_of(tmp_path / "a"), size_of(tmp_path), size_of(tmp_path / "gone")) == (10, None, None)
    assert span(tmp_path / "a", 3, 5) == b"34"
    assert span(tmp_path / "a", 8, 15) == b"89"
    with local_copy(tmp_path / "a") as path:
        assert path == tmp_path / "a"
    assert (tmp_path / "a").exists()


def test_files_below_a_folder_are_listed_at_every_depth_with_links_as_such(tmp_path: Path) -> None:
    (tmp_path / "b/c/d").mkdir(parents=True)
    (tmp_path / "b/c/file").write_bytes(b"123")
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b/broken").symlink_to("nowhere")
    (tmp_path / "b/link").symlink_to(tmp_path / "b/c/file")
    assert sizes_below(tmp_path) == {
        "a": 5, "b/broken": len("nowhere"), "b/c/file": 3, "b/link": len(f"{tmp_path}/b/c/file"),
    }  # fmt: skip
    assert sizes_below(tmp_path / "gone") == {}
