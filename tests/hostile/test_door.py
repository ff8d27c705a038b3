"""The guard itself notices: otherwise no other test here could fail."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stillroom import __main__ as front
from tests.hostile.door import TooLongError, knock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.conftest import House


def test_an_honest_command_passes(house: House) -> None:
    assert house.knock("show", house.corpus).code == 0
    assert house.knock("verify", house.corpus).code == 0
    assert house.knock("diff", house.corpus, house.pack).code == 0
    assert house.knock("show", house.corpus, "--html", house.home / "page.html", target="page.html").code == 0


def test_an_honest_run_passes(trained: House) -> None:
    assert trained.knock("train", trained.home / "train.yaml", trained.run, target="run").code == 0
    assert trained.knock("teacher", trained.teacher).code == 0


@pytest.mark.parametrize(
    "deed",
    [
        lambda home: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda home: pickle.loads(b"cposixpath\njoin\n."),
        lambda home: (home / "outside").write_text("x"),
        lambda home: home.with_name("beside").mkdir(),
        lambda home: socket.create_connection(("127.0.0.1", 1), timeout=1),
    ],
)  # fmt: skip
def test_the_guard_notices_what_is_run_written_or_fetched(tmp_path: Path, monkeypatch, deed) -> None:
    home = tmp_path / "home"
    home.mkdir()

    def main() -> None:
        try:
            deed(home)
        except OSError:
            sys.exit(2)
        sys.exit(0)

    monkeypatch.setattr(front, "main", main)
    with pytest.raises(AssertionError):
        knock("show", home=home)


def test_the_guard_bounds_time_and_memory(tmp_path: Path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("tests.hostile.door.MOST_CPU_S", 0.2)

    def forever() -> None:
        while True:
            pass

    monkeypatch.setattr(front, "main", forever)
    with pytest.raises(TooLongError):
        knock("show", home=home)
    monkeypatch.setattr(front, "main", lambda: bytearray(600 << 20))
    with pytest.raises(MemoryError):
        knock("show", home=home)
