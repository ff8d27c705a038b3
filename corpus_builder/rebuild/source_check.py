"""Checks that a lab's own source files are those of a pack, before anything is rendered."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.tar_members import audio_digest, member_of
from corpus_builder.render.source_ledger import decoded_digest
from corpus_builder.workers.pool import mapped, mapped_with_progress
from manifests.errors import StillroomError, printable
from manifests.io.place import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from manifests.corpus.fingerprints import DecodedSource
    from manifests.io.place import Place

FILES_A_TASK = 32


@dataclass(frozen=True)
class SourceProblem:
    """A source file that is not that of the pack.

    Attributes:
        other_bytes: It can be read, and has another digest.
    """

    root: str
    path: str
    what: str
    other_bytes: bool = False

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
        roots: Folder or URL of each of their roots on this machine.
        workers: Number of processes.
        progress: Show how far it is.
    """
    tasks = list(batches(expected, roots))
    results = mapped_with_progress(
        check_files,
        tasks,
        workers=workers,
        what="checking sources",
        unit="files",
        size=lambda task: len(task.files),
        progress=progress,
    )
    return [problem for _, problems in results for problem in problems]


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
        what = f"is different: SHA-256 {found[:16]}…, the pack was made of {sha256[:16]}…"
        return SourceProblem(task.root, path, what, other_bytes=True)
    return None


@dataclass(frozen=True)
class DifferentFile:
    """A file of other bytes, and the stretches of it that were decoded for the pack."""

    place: str
    problem: SourceProblem
    stretches: tuple[DecodedSource, ...]


def with_pcm_compared(
    problems: list[SourceProblem], sources: Iterable[DecodedSource], roots: Mapping[str, Place], *, workers: int
) -> list[SourceProblem]:
    """The same problems; those of files of other bytes say whether the decoded PCM is the same.

    Args:
        problems: By `source_problems`.
        sources: Every stretch of a source that the pack was made of.
        roots: Folder or URL of each root on this machine.
        workers: Number of processes.
    """
    stretches: dict[tuple[str, str], list[DecodedSource]] = {
        (problem.root, problem.path): [] for problem in problems if problem.other_bytes
    }
    if not stretches:
        return problems
    for source in sources:
        if (source.root, source.path) in stretches:
            stretches[source.root, source.path].append(source)
    tasks = [
        DifferentFile(str(roots[problem.root]), problem, tuple(stretches.get((problem.root, problem.path), ())))
        for problem in problems
    ]
    return list(mapped(compare_pcm, tasks, workers=workers, what="decoding sources that are different"))


def compare_pcm(task: DifferentFile) -> SourceProblem:
    """The problem, with the result of decoding the file; runs in a worker."""
    problem, place = task.problem, place_of(task.place) / task.problem.path
    if not task.stretches:
        return problem
    try:
        same = all(
            decoded_digest(
                read_stretch(
                    place, name=one.path, start=one.start, num_frames=one.num_frames, channel=one.channel, rate_hz=one.rate_hz
                )
            )
            == one.pcm_sha256
            for one in task.stretches
        )  # fmt: skip
    except (OSError, StillroomError) as error:
        return replace(problem, what=f"{problem.what}; it cannot be decoded as planned: {printable(error)}")
    comparison = "in another coding: its PCM is the same" if same else "another recording: its PCM is different too"
    return replace(problem, what=f"{problem.what}; {comparison}")
