"""Whether a lab's own source files are those that a pack was made of; asked before anything is rendered."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.members import audio_digest, member_of
from corpus_builder.pool import mapped
from manifests.errors import StillroomError, printable
from manifests.progress import Progress
from manifests.storage import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manifests.storage import Place

FILES_A_TASK = 32


@dataclass(frozen=True)
class SourceProblem:
    """A source file that is not what it was."""

    root: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.root}: {printable(self.path, limit=400)} {self.what}"


@dataclass(frozen=True)
class FilesToCheck:
    """Some files of one root, each with its digest."""

    place: str
    root: str
    files: tuple[tuple[str, str], ...]


def source_problems(
    expected: Mapping[tuple[str, str], str], roots: Mapping[str, Place], *, workers: int, progress: bool = True
) -> list[SourceProblem]:
    """Every source file that is missing or has other bytes, by root and path.

    Args:
        expected: Digest of each file by root and path.
        roots: Where each of their roots lies on this machine.
        workers: Number of processes.
        progress: Show how far it is.
    """
    tasks = list(batches(expected, roots))
    found: list[SourceProblem] = []
    with Progress("checking sources", total=len(expected), unit="files") as shown:
        results = mapped(check_files, tasks, workers=min(workers, max(len(tasks), 1)), what="checking sources")
        for task, problems in zip(tasks, results, strict=True):
            found += problems
            if progress:
                shown.advance(len(task.files))
    return found


def batches(expected: Mapping[tuple[str, str], str], roots: Mapping[str, Place]) -> Iterator[FilesToCheck]:
    """The files of each root, some at a time."""
    for root, files in itertools.groupby(sorted(expected), key=lambda file: file[0]):
        while some := tuple((path, expected[root, path]) for _, path in itertools.islice(files, FILES_A_TASK)):
            yield FilesToCheck(str(roots[root]), root, some)


def check_files(task: FilesToCheck) -> list[SourceProblem]:
    """What is wrong with some files; runs in a worker."""
    return [problem for path, sha256 in task.files if (problem := check_file(task, path, sha256)) is not None]


def check_file(task: FilesToCheck, path: str, sha256: str) -> SourceProblem | None:
    """What is wrong with one file, if anything is."""
    place = place_of(task.place) / path
    try:
        if member_of(place) is None and not place.is_file():
            return SourceProblem(task.root, path, "is missing" if not place.exists() else "is not a plain file")
        found = audio_digest(place)
    except FileNotFoundError:
        return SourceProblem(task.root, path, "is missing")
    except (OSError, StillroomError) as problem:
        return SourceProblem(task.root, path, f"cannot be read: {printable(problem)}")
    if found != sha256:
        return SourceProblem(
            task.root, path, f"is different: SHA-256 {found[:16]}…, the pack was made of {sha256[:16]}…"
        )
    return None
