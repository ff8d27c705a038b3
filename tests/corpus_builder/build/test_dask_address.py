"""How a Dask cluster is asked for and let go, with a client that only notes it; test_dask_executor.py has real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.build.dask_executor import SchedulerGoneError, dask_executor
from corpus_builder.build.scheduler import ExecutorLostError
from manifests.errors import MissingFileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the client was asked, in its order; `problem` is raised by the next one."""
    distributed = pytest.importorskip("distributed")
    notes: list[Any] = []

    class Client:
        def __init__(self, **named: Any) -> None:
            notes.append(named)
            if "tcp://bad" in named.values():
                raise OSError("connection refused")
            if "nonsense" in named.values():
                raise ValueError("no such scheme")

        def get_executor(self) -> Any:
            return SimpleNamespace(shutdown=lambda *, wait: notes.append(("shutdown", wait)))

        def close(self, *, timeout: int) -> None:
            notes.append(("close", timeout))

    monkeypatch.setattr(distributed, "Client", Client)
    return notes


def test_a_cluster_is_reached_by_its_address_or_by_its_file_and_let_go(asked: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text("{}")
    for address, where in (("tcp://n:8786", {"address": "tcp://n:8786"}), (str(path), {"scheduler_file": str(path)})):
        asked.clear()
        with dask_executor(address) as executor:
            assert hasattr(executor, "shutdown")
            assert asked == [{**where, "timeout": 20, "set_as_default": False}]
        assert asked[1:] == [("shutdown", False), ("close", 2)]


def test_a_cluster_that_cannot_be_reached_is_told_by_what_is_wrong(asked: list[Any], tmp_path: Path) -> None:
    with (
        pytest.raises(MissingFileError, match=r"gone.json does not exist: the file that the scheduler writes"),
        dask_executor(str(tmp_path / "gone.json")),
    ):
        pass
    assert asked == []
    with (
        pytest.raises(SchedulerGoneError, match=r"--dask tcp://bad: no scheduler responds \(connection refused\)"),
        dask_executor("tcp://bad"),
    ):
        pass
    with (
        pytest.raises(
            UsageError, match=r"expected an address such as tcp://node7:8786, got nonsense \(no such scheme\)"
        ),
        dask_executor("nonsense"),
    ):
        pass


def test_a_cluster_that_ends_while_shards_are_rendered_is_named(asked: list[Any]) -> None:
    with (
        pytest.raises(SchedulerGoneError, match=r"--dask tcp://n:8786: the scheduler ended; finished shards are saved"),
        dask_executor("tcp://n:8786"),
    ):
        raise ExecutorLostError
    assert asked[-1] == ("close", 2)
