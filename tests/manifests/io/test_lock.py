import errno
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from manifests.errors import LockedError, NoSpaceLeftError
from manifests.io import lock
from manifests.io.lock import STALE_AFTER_S, TOUCH_EVERY_S, process_start, writing


def test_a_second_writer_is_told_who_writes(tmp_path):
    with (
        writing(tmp_path),
        pytest.raises(LockedError, match=f"process {os.getpid()} on {socket.gethostname()}"),
        writing(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_full_disk_has_no_room_for_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path, _):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with (
        pytest.raises(NoSpaceLeftError, match=f"no space left while writing {tmp_path}/run/"),
        writing(tmp_path / "run"),
    ):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    code = "import sys, os; from pathlib import Path; from manifests.io.lock import writing\nwith writing(Path(sys.argv[1])): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / ".lock").exists()
    with writing(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_recycled_process_number_does_not_keep_a_lock(tmp_path):
    lock = {"host": socket.gethostname(), "pid": os.getpid(), "start": "1", "time": "long ago"}
    (tmp_path / ".lock").write_text(json.dumps(lock))
    with writing(tmp_path):
        pass


def test_the_lock_of_another_host_holds_until_it_is_stale(tmp_path):
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "1", "time": "now"}))
    with pytest.raises(LockedError, match="elsewhere"), writing(tmp_path):
        pass
    os.utime(path, (0, time.time() - STALE_AFTER_S - 1))
    with writing(tmp_path):
        pass


def test_a_garbled_lock_is_nobodys(tmp_path):
    (tmp_path / ".lock").write_bytes(b"\xff")
    with writing(tmp_path):
        pass


def test_a_folder_made_for_nothing_is_taken_away_and_one_that_was_there_stays(tmp_path):
    with writing(tmp_path / "made"):
        pass
    assert not (tmp_path / "made").exists()
    with writing(tmp_path / "kept"):
        (tmp_path / "kept" / "config.yaml").write_text("")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["config.yaml"]
    (tmp_path / "empty").mkdir()
    with writing(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").exists()


def test_the_lock_is_touched_while_it_is_held_and_no_longer(tmp_path, monkeypatch):
    """Another host sees only the time of the file."""
    monkeypatch.setattr(lock, "TOUCH_EVERY_S", 0.005)
    before = set(threading.enumerate())
    with writing(tmp_path):
        os.utime(tmp_path / ".lock", (0, 0))
        (toucher,) = set(threading.enumerate()) - before
        for _ in range(2000):
            if (tmp_path / ".lock").stat().st_mtime > 0:
                break
            toucher.join(0.005)
        assert (tmp_path / ".lock").stat().st_mtime > 0
    toucher.join(30)
    assert not toucher.is_alive()


def test_a_lock_is_stale_after_ten_minutes_in_which_it_would_have_been_touched_many_times(tmp_path):
    assert 5 * TOUCH_EVERY_S < STALE_AFTER_S == 600
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "1", "time": "noon"}))
    os.utime(path, (0, time.time() - 500))
    with pytest.raises(LockedError) as caught, writing(tmp_path):
        pass
    assert str(caught.value).startswith(
        f"{tmp_path} is being written by process 1 on elsewhere since noon; wait for it"
    )
    assert [one.name for one in tmp_path.iterdir()] == [".lock"]


def test_a_process_is_known_by_its_start_as_well_as_by_its_number(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = process_start(child.pid)
        path = tmp_path / ".lock"
        path.write_text(json.dumps({"host": socket.gethostname(), "pid": child.pid, "start": start, "time": "now"}))
        os.utime(path, (0, 0))
        with pytest.raises(LockedError, match=f"process {child.pid} on "), writing(tmp_path):
            pass
        child.communicate(b"\n")
    assert int(start) > int(process_start(os.getpid()))
    assert process_start(child.pid) is None
    with writing(tmp_path):
        held = json.loads(path.read_bytes())
        assert (held["pid"], held["start"]) == (os.getpid(), process_start(os.getpid()))
