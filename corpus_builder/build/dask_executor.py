"""Renders shards on many machines, through Dask's own `concurrent.futures` executor."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.build.scheduler import ExecutorLostError
from manifests.errors import MissingFileError, StillroomError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

CONNECT_WITHIN_S = 20


class SchedulerGoneError(StillroomError, ConnectionError):
    """No Dask scheduler responds, or it ended while shards were rendered."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"--dask {printable(address)}: {what}; finished shards are saved: start a scheduler and run the same command again"
        )


@contextlib.contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The executor of a running Dask cluster.

    Every worker needs this Stillroom, the sources and, unless the corpus is a URL, the corpus folder under the same paths.

    Args:
        address: Of the scheduler, such as `tcp://node7:8786`, or a scheduler file (`scheduler.json`).

    Raises:
        UsageError: If `distributed` is not installed, or the address is malformed.
        MissingFileError: If the scheduler file does not exist.
        SchedulerGoneError: If no scheduler responds, or it ends.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--dask needs Dask: pip install distributed") from None
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in {"distributed", "tornado"}:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # one line below replaces their messages
    if address.endswith(".json") and not Path(address).is_file():  # Dask would wait for it for ever
        raise MissingFileError(address, needed="the file that the scheduler writes, by --dask")
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        client: Any = Client(**where, timeout=CONNECT_WITHIN_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError) as problem:
        raise SchedulerGoneError(address, f"no scheduler responds ({printable(problem)})") from None
    except ValueError as problem:
        raise UsageError(
            f"--dask: expected an address such as tcp://node7:8786, got {printable(address)} ({printable(problem)})"
        ) from None
    executor = client.get_executor()
    try:
        yield executor
    except ExecutorLostError:
        raise SchedulerGoneError(address, "the scheduler ended") from None
    finally:
        with contextlib.suppress(Exception):  # the connection may be gone already
            executor.shutdown(wait=False)
        with contextlib.suppress(Exception):
            client.close(timeout=2)
