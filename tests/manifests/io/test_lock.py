import json
import os
import socket
import subprocess
import sys
import time

import pytest

from manifests.errors import LockedError
from manifests.io.lock import STALE_AFTER_S, writing


def test_a_second_writer_is_told_who_writes(tmp_path):
    with (
        writing(tmp_path),
        pytest.raises(LockedError, match=f"process {os.getpid()} on {socket.gethostname()}"),
        writing(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


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
