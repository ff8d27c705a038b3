"""Folders of audio files with labels in their paths or in a table beside them."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections import Counter
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from corpus_builder.audio.decode import AUDIO_SUFFIXES, Header, channel_of, read_header
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
from manifests.plan.plan import PASSED_OVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corpus_builder.sources.path_labels import Glob
    from corpus_builder.sources.roots import Located


MOST_SUFFIXES = 40
MOST_COUNTED = 100_000  # files that a message counts
Headers: TypeAlias = "Mapping[str, Header | UnfitAudioError]"


def folder_utterances(source: Located, headers: Headers | None = None) -> Iterator[Found]:
    """The audio files below a folder, with the labels that its template or table gives, then how many other files there are.

    Args:
        source: The folder.
        headers: Of files that were read before, or why they cannot be used, by relative path.
    """
    count = 0
    others: Counter[str] = Counter()
    for found in labelled_files(source, others=others):
        count += not isinstance(found, Refused)  # a row of the table without a file
        if isinstance(found, Refused | LeftOut):
            yield found
        else:
            yield file_utterance(source, *found, (headers or {}).get(found[0]))
    if not count:
        raise NoAudioError(
            source.folder, f"no audio file matches pattern {printable(source.source.pattern)!r}; {folder_hint(source)}"
        )
    yield from passed_over(others)


def below_folder(place: Place, folder: Place) -> str:
    """The path of a file below a folder; empty if it is elsewhere."""
    text, above = str(place), f"{folder}/"
    return text[len(above) :] if text.startswith(above) else ""


def passed_over(others: Counter[str]) -> Iterator[LeftOut]:
    """What is said of files of no audio suffix: how many there are of each of the commonest suffixes."""
    others = +others
    for suffix, count in others.most_common(MOST_SUFFIXES):
        yield LeftOut(PASSED_OVER + suffix, count)
    if rest := sum(others.values()) - sum(count for _, count in others.most_common(MOST_SUFFIXES)):
        yield LeftOut(PASSED_OVER + "others", rest)


def suffix_of(name: str) -> str:
    """A file's suffix in lower case, as it is counted: of few and plain characters."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (called for every file)
    return suffix if re.fullmatch(r"\.[a-z0-9_]{1,10}", suffix) else "others" if suffix else "none"


def labelled_files(
    source: Located, *, others: Counter[str]
) -> Iterator[tuple[str, dict[str, Any] | None] | Refused | LeftOut]:
    """The audio files below a folder that fit its pattern, each with its labels.

    Args:
        source: The folder.
        others: Counts the files of no audio suffix that fit the pattern, by suffix; the table is none of them.

    Yields:
        The path below the folder and the labels: None if the path does not fit the template. What the table does not name is left
        out; rows of the table without a file are refused.
    """
    pattern = pattern_of(source.source.pattern)
    template = template_of(source.source.fields) if source.source.fields else None
    below_all = files_below(source.folder, others=others, pattern=pattern)
    fitting = (below for below in below_all if pattern.fullmatch(below))
    if source.table is None:
        for below in fitting:
            yield below, find_labels(below, template=template, row=None)
        return
    table = read_table(source.table)
    yield from table.refused
    otherwise_spelt = []
    for below in fitting:
        row = table.pop(below)
        if row is None:
            otherwise_spelt.append(below)
        else:
            yield below, find_labels(below, template=template, row=row)
    for below in otherwise_spelt:  # last, so that a row in NFC is not taken by a file in NFD beside its own
        row = table.pop_spelling(below)
        if row is None:
            yield LeftOut("not in the table")
        else:
            yield below, find_labels(below, template=template, row=row)
    for below, (line, _) in sorted(table.rows.items()):
        if pattern.fullmatch(plain := plain_form(below)):
            yield Refused(printable(below), f"line {line} of the table: {unused_reason(source.folder, plain)}")
    if (own := below_folder(source.table, source.folder)) and pattern.fullmatch(own):
        others[suffix_of(own)] -= 1


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


def files_below(folder: Place, *, others: Counter[str] | None = None, pattern: Glob | None = None) -> Iterator[str]:
    """Relative POSIX paths of the audio files below a folder, hidden ones left out, links followed, sorted in each folder.

    Args:
        folder: A folder, on a disk or behind a URL.
        others: Counts the files of no audio suffix, by suffix.
        pattern: Which of them are counted.
    """

    def is_audio(below: str) -> bool:
        if os.path.splitext(below)[1].lower() in AUDIO_SUFFIXES:  # noqa: PTH122 (called for every file)
            return True
        if others is not None and (pattern is None or pattern.fullmatch(below)):
            others[suffix_of(below)] += 1
        return False

    if isinstance(folder, Url):
        for below in sizes_below(folder):
            if not is_hidden(below) and is_audio(below):
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
            elif is_audio(below + entry.name):
                yield below + entry.name

    yield from walk(str(folder), "", frozenset())


def folder_hint(source: Located) -> str:
    """What may be wrong with a folder without audio files."""
    folder = source.folder
    if not isinstance(folder, Url) and any(folder.glob("cuts.*.jsonl*")):
        return "it holds lhotse's Shar: name it by cuts: instead of dir:"
    if re.search(r"\{[a-z0-9_,]+\}", source.source.pattern):
        return "in a pattern only *, ** and ? are special; names in braces belong in fields, such as fields: '{speaker}/{id}.wav'"
    others: Counter[str] = Counter()
    audio = list(islice(files_below(folder, others=others), MOST_COUNTED))
    if audio:
        suffixes = ", ".join(f"{count} {suffix}" for suffix, count in Counter(map(suffix_of, audio)).most_common(4))
        return f"below it are audio files ({suffixes}), such as {printable(audio[0])}: change the pattern"
    found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4))
    return f"{f'it has other files ({found})' if found else 'it is empty'}; is this the folder of {source.name!r}?"


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads to itself is not."""
    try:
        return entry.is_dir()
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            return False
        raise


def file_utterance(
    source: Located, below: str, labels: dict[str, Any] | None, known: Header | UnfitAudioError | None = None
) -> Found:
    """One file of a folder; its header is read if it is not known yet."""
    path = f"{source.prefix}/{below}" if source.prefix else below
    if labels is None:
        fields = str(source.source.fields)
        hint = "; * has no meaning there, write a name such as {id}" if "*" in fields else ""
        return Refused(printable(below), f"its path does not fit the template {fields!r}{hint}")
    name = labels.get("id") or str(PurePosixPath(below).with_suffix(""))
    try:
        check_text(name, *(value for value in labels.values() if isinstance(value, str)))
        safe_relative(path, where=source.name)
        folder = source.folder
        place = folder / below if isinstance(folder, Url) else f"{folder}/{below}"
        if isinstance(known, UnfitAudioError):
            raise known
        header = read_header(place, name=below) if known is None else known
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
