"""Which temporary files of other processes are removed, and whose folder for temporary files is used."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from corpus_builder.workers.stale_files import clear_leftovers, private_folder
from manifests.errors import UsageError
from manifests.io.atomic import temporary_path

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 2**22 + 1  # above the highest process id


def left(folder: Path, name: str, *, host: str, pid: int, hours_ago: float = 0.0, is_folder: bool = False) -> Path:
    path = folder / f".{name}.{host}-{pid}.part"
    if is_folder:
        path.mkdir()
        (path / "inside").write_bytes(b"x")
    else:
        path.write_bytes(b"x")
    then = time.time() - 3600 * hours_ago
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize("host", ["node7", "node7.cluster.example"])
def test_leftovers_of_this_host_go_with_their_process_and_those_of_others_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    dead = [left(tmp_path, f"a{number}.tar", host=host, pid=NOBODY, is_folder=number == 1) for number in range(2)]
    old = [
        left(tmp_path, f"b{number}.tar", host="other", pid=os.getpid(), hours_ago=25, is_folder=number == 1)
        for number in range(2)
    ]
    kept = [
        left(tmp_path, "c.tar", host=host, pid=os.getpid(), hours_ago=99),
        left(tmp_path, "d.tar", host=host, pid=os.getpid(), is_folder=True),
        left(tmp_path, "e.tar", host="other", pid=NOBODY, hours_ago=23),
        left(tmp_path, "f.tar", host="other", pid=NOBODY, is_folder=True),
        left(tmp_path, "g.tar", host=f"gpu-{host}", pid=NOBODY),  # another host, whose name ends alike
    ]
    assert temporary_path(tmp_path / "c.tar") == kept[0]
    for name in (".hidden.part", "h.tar.part", f"i.{host}-{NOBODY}.part", f".j.{host}-{NOBODY}", f".{host}-x.part"):
        kept.append(tmp_path / name)
        kept[-1].write_bytes(b"x")
    clear_leftovers(tmp_path)
    assert not any(path.exists() for path in dead + old)
    assert all(path.exists() for path in kept)
    clear_leftovers(tmp_path / "none")


def test_the_private_folder_is_the_users_own_and_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ada")
    folder = private_folder()
    assert folder == tmp_path / "stillroom-ada"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder() == folder
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(UsageError, match=r"stillroom-ada belongs to another user; name another .* --scratch"):
        private_folder()
    folder.unlink()
    with monkeypatch.context() as changed:
        changed.setattr(os, "getuid", lambda: 12345)
        with pytest.raises(UsageError, match="belongs to another user"):
            private_folder()


def test_a_user_without_a_name_has_a_folder_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is in no list of users."""

    def nameless(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nameless)
    assert private_folder() == tmp_path / f"stillroom-{os.getuid()}"
