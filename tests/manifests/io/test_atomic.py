"""Files appear whole, are synced with their folder, and leave nothing behind, however the writing ends."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from manifests.errors import NoSpaceLeftError, UsageError
from manifests.io.atomic import (
    making,
    refuse_linked_folders,
    remove_temporary_files,
    replacing,
    temporary_path,
    write_text,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_temporary_file_is_hidden_beside_its_target_and_of_this_process_on_this_host(tmp_path: Path) -> None:
    part = temporary_path(tmp_path / "a.json")
    assert part.parent == tmp_path
    assert part.name == f".a.json.{socket.gethostname()}-{os.getpid()}.part"


def test_a_process_that_ends_early_removes_what_it_has_not_finished(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file") as part:
        part.write_bytes(b"half")
        remove_temporary_files()
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError), making(tmp_path / "folder") as part:
        part.mkdir()
        (part / "inside").write_bytes(b"half")
        remove_temporary_files()
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").write_text("")
    remove_temporary_files()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_appears_whole_or_not_at_all_and_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    target = tmp_path / "below" / "made"
    with pytest.raises(KeyError), making(target) as part:
        part.mkdir()
        (part / "a").write_text("half")
        raise KeyError
    assert list(target.parent.iterdir()) == []
    target.mkdir()
    with making(target) as part:
        part.mkdir()
        (part / "a").write_text("whole")
        assert list(target.iterdir()) == []
    assert (target / "a").read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def note(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append((os.fstat(handle).st_ino, "folder" if is_folder else (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_text(tmp_path / "a", "text")
    assert synced == [((tmp_path / "a").stat().st_ino, False), (tmp_path.stat().st_ino, "folder")]


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_disk_that_cannot_sync_folders_is_written_to_and_one_that_fails_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    def fail(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if fails:
        with pytest.raises(OSError, match="Input/output"):
            write_text(tmp_path / "a", "text")
    else:
        write_text(tmp_path / "a", "text")
        assert (tmp_path / "a").read_text() == "text"


def test_a_full_disk_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceLeftError) as caught, replacing(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value).startswith(f"no space left while writing {tmp_path}/a.json; finished files stay")


def test_a_folder_that_is_made_is_named_where_the_disk_is_full_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceLeftError) as caught, making(tmp_path / "out") as part:
        part.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value).startswith(f"no space left while writing {tmp_path}/out; finished files stay")
    assert not list(tmp_path.iterdir())


def test_only_a_link_to_a_folder_is_refused_and_both_ends_are_named(tmp_path: Path) -> None:
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    for folder in (corpus / "plan", elsewhere):
        folder.mkdir(parents=True)
    (elsewhere / "file").write_text("")
    (corpus / "rooms").symlink_to(elsewhere / "file")
    (corpus / "proof").symlink_to(elsewhere / "gone")
    refuse_linked_folders(corpus, "plan", "rooms", "proof", "nothing")
    (corpus / "shards").symlink_to(elsewhere)
    refuse_linked_folders(corpus, "plan")
    with pytest.raises(UsageError) as caught:
        refuse_linked_folders(corpus, "plan", "shards")
    assert str(caught.value).startswith(
        f"{corpus}/shards is a link to {elsewhere}: files written there would be outside {corpus};"
    )
