"""Results of long work by key, in a file that grows while the work goes on, so that an interrupted command makes none twice."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

from corpus_builder.workers.pool import mapped_with_progress
from manifests.errors import BadDocumentError
from manifests.io.atomic import full_disk_named
from manifests.io.json_yaml import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Task = TypeVar("Task")
Result = TypeVar("Result")


class PartialResults:
    """Results by key, in a JSON lines file that is removed when the work is done.

    Args:
        path: The file; the torn last line of a killed run is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Any] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(BadDocumentError, KeyError, TypeError):
                    entry = parse_json(line, where=path)
                    self.known[entry["key"]] = entry["result"]

    def add(self, key: str, result: Any) -> None:
        """Save one result."""
        with full_disk_named(self.path), self.path.open("ab") as stream:
            stream.write(json.dumps({"key": key, "result": result}).encode() + b"\n")

    def remove(self) -> None:
        """Remove the file once the results are saved elsewhere."""
        self.path.unlink(missing_ok=True)


def resumed(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    cache: PartialResults,
    key: Callable[[Task], str | None],
    to_cache: Callable[[Result], Any],
    from_cache: Callable[[Task, Any], Result | None],
    workers: int,
    what: str,
    unit: str,
    progress: bool,
) -> list[Result]:
    """Do every task that is not in the cache, in a pool, saving each result as it comes.

    Args:
        work: At the top of a module, so that a worker can import it.
        tasks: What is to be done.
        cache: What an interrupted run has done.
        key: The name of a task in the cache; None if its result must not be cached.
        to_cache: A result as plain data; None if it must not be cached.
        from_cache: A result from plain data; None if it is no longer valid.
        workers: Number of processes.
        what: Which work, for the progress display and for messages, such as `reading noises`.
        unit: What is counted, in the plural.
        progress: Show how far it is.

    Returns:
        The results in the order of the tasks.

    Raises:
        WorkerDiedError: If a worker is killed.
    """
    keys = [key(task) for task in tasks]
    results: dict[int, Result] = {}
    for number, (task, name) in enumerate(zip(tasks, keys, strict=True)):
        known = None if name is None or name not in cache.known else from_cache(task, cache.known[name])
        if known is not None:
            results[number] = known
    missing = [number for number in range(len(tasks)) if number not in results]
    made = mapped_with_progress(
        work,
        [tasks[number] for number in missing],
        workers=workers,
        what=what,
        unit=unit,
        done=len(results),
        progress=progress,
    )
    for number, (_, result) in zip(missing, made, strict=True):
        results[number] = result
        name, plain = keys[number], to_cache(result)
        if name is not None and plain is not None:
            cache.add(name, plain)
    return [results[number] for number in range(len(tasks))]
