"""Folders of audio files with labels in their paths or in a table beside them."""

from __future__ import annotations

import errno
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.decode import AUDIO_SUFFIXES, channel_of, read_header
from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.sources.path_labels import find_labels, pattern_of, read_table, template_of
from corpus_builder.sources.utterance import (
    Found,
    LeftOut,
    NoAudioError,
    Refused,
    UnfitTextError,
    Utterance,
    check_text,
)
from manifests.errors import UnsafePathError, printable
from manifests.io.json_yaml import safe_relative
from manifests.io.place import Place, sizes_below
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.sources.roots import Located


def folder_utterances(source: Located) -> Iterator[Found]:
    """The audio files below a folder, with the labels that its template or table gives."""
    pattern = pattern_of(source.source.pattern)
    template = template_of(source.source.fields) if source.source.fields else None
    table = read_table(source.table) if source.table is not None else None
    count = 0
    for below in files_below(source.folder):
        if not pattern.fullmatch(below):
            continue
        count += 1
        if table is not None and below not in table:
            yield LeftOut("not in the table")
            continue
        yield file_utterance(
            source, below, find_labels(below, template=template, row=table.pop(below) if table is not None else None)
        )
    for below in sorted(table or {}):
        if pattern.fullmatch(below):
            yield Refused(below, "is in the table, but there is no such audio file")
    if not count:
        raise NoAudioError(
            source.folder,
            f"no audio file ({', '.join(sorted(AUDIO_SUFFIXES))}) matches pattern {source.source.pattern!r}; "
            + folder_hint(source),
        )


def files_below(folder: Place) -> Iterator[str]:
    """Relative POSIX paths of the audio files below a folder, hidden ones left out, links followed, sorted in each folder."""
    if isinstance(folder, Url):
        for below in sizes_below(folder):
            hidden = any(part.startswith(".") for part in below.split("/"))
            if not hidden and PurePosixPath(below).suffix.lower() in AUDIO_SUFFIXES:
                yield below
        return

    def walk(path: str, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        status = os.stat(path)  # noqa: PTH116 (a Path an entry would double the cost)
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link to a folder above
            return
        with os.scandir(path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                yield from walk(entry.path, f"{below}{entry.name}/", above | {here})
            elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:  # noqa: PTH122 (as above)
                yield below + entry.name

    yield from walk(str(folder), "", frozenset())


def folder_hint(source: Located) -> str:
    """What may be wrong with a folder without audio files."""
    folder = source.folder
    if not isinstance(folder, Url) and any(folder.glob("cuts.*.jsonl*")):
        return "it holds lhotse's Shar: name it by cuts: instead of dir:"
    return f"is this the folder of {source.name!r}?"


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads to itself is not."""
    try:
        return entry.is_dir()
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            return False
        raise


def file_utterance(source: Located, below: str, labels: dict[str, Any] | None) -> Found:
    """One file of a folder; its header is read, its samples are not."""
    path = f"{source.prefix}/{below}" if source.prefix else below
    if labels is None:
        return Refused(printable(below), f"its path does not fit the template {source.source.fields!r}")
    name = labels.get("id") or str(PurePosixPath(below).with_suffix(""))
    try:
        check_text(name, *(value for value in labels.values() if isinstance(value, str)))
        safe_relative(path, where=source.name)
        folder = source.folder
        place = folder / below if isinstance(folder, Url) else f"{folder}/{below}"
        header = read_header(place, name=below)
        channel = channel_of(header.num_channels, source.source.channel, name=below)
    except (UnfitAudioError, UnsafePathError, UnfitTextError) as problem:
        return Refused(printable(name), str(problem))
    return Utterance(
        id=name,
        path=path,
        start_s=0.0,
        num_frames=header.num_frames,
        rate_hz=header.rate_hz,
        channel=channel,
        text=labels.get("text"),
        speaker=labels.get("speaker"),
        language=labels.get("language"),
        custom={key: value for key, value in labels.items() if key not in {"id", "text", "speaker", "language"}},
    )
