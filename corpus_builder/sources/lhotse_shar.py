"""Reads a lhotse Shar directory as a manifest: cuts from `cuts.000000.jsonl.gz`, their audio in `recording.000000.tar` beside it.

Shar's cuts say only that their audio is in a tar (a source of type `shar`, its name empty); lines and members are in the same
order. Here each such source becomes the path `recording.000000.tar/<member>`, a file below the directory, and the tar's description
of the recording (its rate, which Shar changes for Opus) replaces the cut's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifests.errors import BadDocumentError, BadTarError, printable
from manifests.io.json_yaml import parse_json
from manifests.io.place import span
from manifests.io.tar import TarEntry, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST_META_BYTES = 1 << 20


def is_placeholder(recording: Any) -> bool:
    """Whether a recording says that its audio is in a tar of the Shar directory."""
    sources = recording.get("sources") if isinstance(recording, dict) else None
    return isinstance(sources, list) and any(
        isinstance(source, dict) and source.get("type") == "shar" for source in sources
    )


def cut_files(folder: Path) -> list[Path]:
    """The files of cuts of a Shar directory, in the order of their numbers.

    Raises:
        BadDocumentError: If there is none.
    """
    found = sorted(path for path in folder.glob("cuts.*") if path.name.endswith((".jsonl", ".jsonl.gz")))
    if not found:
        raise BadDocumentError(
            folder,
            "is a folder without cuts.000000.jsonl.gz, so no lhotse Shar directory; a folder of audio goes by dir:",
        )
    return found


def with_audio(
    cuts: Path, lines: Iterator[tuple[str, dict[str, Any]]], *, check: Callable[[Any, str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cuts of one file, each with its audio.

    Args:
        cuts: Such as `cuts.000000.jsonl.gz`.
        lines: The place of each of its lines, and the parsed line.
        check: Refuses a tar's description of a recording if it is unsafe.

    Raises:
        BadDocumentError: If the tar is missing, or its members are not those of the cuts.
        BadTarError: If the tar is damaged.
    """
    tar = cuts.with_name(f"recording.{cuts.name.split('.')[1]}.tar")
    members: Iterator[tuple[TarEntry, TarEntry]] | None = None
    for where, data in lines:
        if members is None and is_placeholder(data.get("recording")):
            if not tar.is_file():
                raise BadDocumentError(where, f"its audio is in {printable(tar.name)}, which is not beside it")
            members = pairs(tar)
        if members is None:  # a Shar directory without recordings: its cuts name files
            yield where, data
            continue
        pair = next(members, None)
        if pair is None:
            raise BadDocumentError(where, f"{printable(tar.name)} has fewer recordings than there are cuts")
        audio, meta = pair
        if audio.name.rpartition(".")[0] != data.get("id"):
            raise BadDocumentError(
                where,
                f"the cut is {printable(data.get('id'))!r} and the recording {printable(audio.name)!r}: they are not in step",
            )
        yield where, cut_with(data, tar, audio, meta, check=check)


def cut_with(
    data: dict[str, Any], tar: Path, audio: TarEntry, meta: TarEntry, *, check: Callable[[Any, str], None]
) -> dict[str, Any]:
    """A cut whose recording is a member of a tar; without a recording where the tar holds none for it."""
    if audio.name.endswith(".nodata"):
        return {name: value for name, value in data.items() if name != "recording"}
    where = f"{tar}/{meta.name}"
    if meta.size > MOST_META_BYTES:
        raise BadDocumentError(where, f"is longer than {MOST_META_BYTES} bytes; refused")
    recording = parse_json(span(tar, meta.offset, meta.offset + meta.size), where=where)
    check(recording, where)
    if not is_placeholder(recording) or len(recording["sources"]) != 1:
        raise BadDocumentError(where, "expected a recording with one source of type 'shar'")
    source = {**recording["sources"][0], "type": "file", "source": f"{tar.name}/{audio.name}"}
    return {**data, "recording": {**recording, "sources": [source]}}


def pairs(tar: Path) -> Iterator[tuple[TarEntry, TarEntry]]:
    """Each audio member with the description that follows it.

    Raises:
        BadTarError: If members do not come in pairs.
    """
    members = entries(tar)
    for audio in members:
        meta = next(members, None)
        if meta is None or not meta.name.endswith((".json", ".nometa")):
            raise BadTarError(
                tar, f"member {printable(audio.name)!r} is not followed by its description, as Shar has it"
            )
        yield audio, meta
