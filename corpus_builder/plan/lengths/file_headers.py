"""Lengths of the files that have to be read through, or decoded, to know them: in a pool, with progress, and cached."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.audio.decode import COSTLY_SUFFIXES, Header, read_header
from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.sources.folder import files_below
from corpus_builder.sources.path_labels import pattern_of
from corpus_builder.workers.resume_cache import PartialResults, resumed
from manifests.io.url import Url

if TYPE_CHECKING:
    from corpus_builder.sources.folder import Headers
    from corpus_builder.sources.roots import Located

FILES_A_WORKER = 64  # fewer are not worth the start of another process


@dataclass(frozen=True)
class HeaderTask:
    """A file whose length is to be found out."""

    place: str
    below: str


@dataclass(frozen=True)
class FoundHeader:
    """A file's header, or why it cannot be used."""

    header: Header | UnfitAudioError


def found_header(task: HeaderTask) -> FoundHeader:
    """Read one file's header; runs in a worker."""
    try:
        return FoundHeader(read_header(task.place, name=task.below))
    except UnfitAudioError as problem:
        return FoundHeader(problem)


def task_key(task: HeaderTask) -> str | None:
    """The name of a file in the cache: its path, size and time of change; None if it does not exist."""
    try:
        status = os.stat(task.place)  # noqa: PTH116 (called for every file)
    except OSError:
        return None
    return f"{task.place}\x1f{status.st_size}\x1f{status.st_mtime_ns}"


def plain_header(found: FoundHeader) -> list[int] | None:
    """What is cached of a file: nothing of one that cannot be used."""
    header = found.header
    return None if isinstance(header, UnfitAudioError) else [header.num_frames, header.rate_hz, header.num_channels]


def costly_headers(source: Located, *, cache: PartialResults, workers: int, progress: bool) -> Headers:
    """The header of each file of a folder whose length takes reading through or decoding; by relative path.

    Args:
        source: A folder; of a manifest, and of a folder behind a URL, there are none.
        cache: What an interrupted run has read.
        workers: Number of processes.
        progress: Show how far it is.
    """
    if source.manifest is not None or isinstance(source.folder, Url):
        return {}
    pattern = pattern_of(source.source.pattern)
    tasks = [
        HeaderTask(f"{source.folder}/{below}", below)
        for below in files_below(source.folder)
        if below[below.rfind(".") :].lower() in COSTLY_SUFFIXES and pattern.fullmatch(below)
    ]
    found = resumed(
        found_header,
        tasks,
        cache=cache,
        key=task_key,
        to_cache=plain_header,
        from_cache=lambda _, known: FoundHeader(Header(*known)),
        workers=min(workers, 1 + len(tasks) // FILES_A_WORKER),
        what=f"reading lengths of {source.name}",
        unit="files",
        progress=progress,
    )
    return {task.below: one.header for task, one in zip(tasks, found, strict=True)}
