"""Folders of audio files with labels in their paths or in a table beside them."""

from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.decode import AUDIO_SUFFIXES, channel_of, read_header
from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.sources.path_labels import find_labels, pattern_of, plain_form, read_table, template_of
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
    count = 0
    for found in labelled_files(source):
        count += not isinstance(found, Refused)  # a row of the table without a file
        yield found if isinstance(found, Refused | LeftOut) else file_utterance(source, *found)
    if not count:
        raise NoAudioError(
            source.folder,
            f"no audio file ({', '.join(sorted(AUDIO_SUFFIXES))}) matches pattern {source.source.pattern!r}; "
            + folder_hint(source),
        )


def labelled_files(source: Located) -> Iterator[tuple[str, dict[str, Any] | None] | Refused | LeftOut]:
    """The audio files below a folder that fit its pattern, each with its labels.

    Yields:
        The path below the folder and the labels: None if the path does not fit the template. What the table does not name is left
        out; rows of the table without a file are refused.
    """
    pattern = pattern_of(source.source.pattern)
    template = template_of(source.source.fields) if source.source.fields else None
    fitting = (below for below in files_below(source.folder) if pattern.fullmatch(below))
    if source.table is None:
        for below in fitting:
            yield below, find_labels(below, template=template, row=None)
        return
    table = read_table(source.table)
    yield from table.refused
    others = []
    for below in fitting:
        row = table.pop(below)
        if row is None:
            others.append(below)
        else:
            yield below, find_labels(below, template=template, row=row)
    for (
        below
    ) in others:  # after all that are spelt alike, so that a row in NFC is not taken by a file in NFD beside its own
        row = table.pop_spelling(below)
        if row is None:
            yield LeftOut("not in the table")
        else:
            yield below, find_labels(below, template=template, row=row)
    for below, (line, _) in sorted(table.rows.items()):
        if pattern.fullmatch(plain := plain_form(below)):
            yield Refused(printable(below), f"line {line} of the table: {unused_reason(source.folder, plain)}")


def unused_reason(folder: Place, below: str) -> str:
    """Why a row of a table gives no utterance, by the plain form of its path."""
    places = [folder / name for name in (below, unicodedata.normalize("NFD", below))]
    if not any(place.is_file() if isinstance(place, Url) else os.path.isfile(place) for place in places):  # noqa: PTH113 (False for a name too long)
        return "there is no such audio file"
    if is_hidden(below):
        return "the file is there, but it or a folder above it is hidden (begins with a dot), and hidden files are not read"
    suffix = PurePosixPath(below).suffix
    if suffix.lower() not in AUDIO_SUFFIXES:
        kind = printable(suffix) or "no suffix"
        return (
            f"the file is there, but {kind} is not among the suffixes that are read; convert it, to .flac for instance"
        )
    return "another row names the same file; remove one of them"


def is_hidden(below: str) -> bool:
    """Whether a file, or a folder above it, is hidden."""
    return any(part.startswith(".") for part in below.split("/"))


def files_below(folder: Place) -> Iterator[str]:
    """Relative POSIX paths of the audio files below a folder, hidden ones left out, links followed, sorted in each folder."""
    if isinstance(folder, Url):
        for below in sizes_below(folder):
            if not is_hidden(below) and PurePosixPath(below).suffix.lower() in AUDIO_SUFFIXES:
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
