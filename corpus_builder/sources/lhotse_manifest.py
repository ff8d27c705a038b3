"""Reads utterances from lhotse manifests or folders, one at a time: text, speaker, file and stretch of the file.

Nothing is decoded here (`decode.py`). lhotse is imported only when a recipe names a manifest. A manifest is untrusted
input: lhotse can name shell commands, URLs and raw bytes as audio, so each line is checked before lhotse sees it.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

from corpus_builder.sources.folder import folder_utterances
from corpus_builder.sources.lhotse_cut import AS_FILES, cut_utterance
from corpus_builder.sources.lhotse_shar import cut_files, with_audio
from corpus_builder.sources.utterance import Found, NoAudioError, Refused, Utterance
from manifests.errors import BadDocumentError, printable
from manifests.io.json_yaml import MAX_LINE_BYTES, parse_json
from manifests.io.place import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus_builder.sources.folder import Headers
    from corpus_builder.sources.roots import Located
    from manifests.recipe.speech import Channel

COVERED_WITHIN_S = 1.0
MOST_BLANK_LINES = 1_000_000
SYNTHETIC_CUTS = {"MixedCut", "PaddingCut"}


class UnsafeAudioSourceError(BadDocumentError):
    """A manifest names something other than a plain file as audio."""

    def __init__(self, where: object, *, kind: object) -> None:
        super().__init__(
            where,
            f"its audio is of type {printable(kind)!r}; only plain files are read (a command would run a shell, a URL would fetch): "
            "refused before anything was loaded",
        )


def utterances(source: Located, headers: Headers | None = None) -> Iterator[Found]:
    """Everything that a source holds, in the source's order, streaming.

    Args:
        source: A folder or a manifest.
        headers: Of files of a folder that were read before.

    Raises:
        NoAudioError: If there is nothing at all.
        BadDocumentError: If a manifest is not what it should be.
        UnsafeAudioSourceError: If it names a command, a URL or raw bytes as audio.
    """
    if source.manifest is None:
        yield from folder_utterances(source, headers)
        return
    for cut in manifest_items(source.manifest):
        yield cut_utterance(cut, wanted_channel=source.source.channel)


def noise_files(source: Located, headers: Headers | None = None) -> Iterator[Found]:
    """The files of a noise source; cuts of a manifest count as their whole recordings, each once.

    Args:
        source: A folder or a manifest.
        headers: Of files of a folder that were read before.

    Raises:
        BadDocumentError: If cuts leave out more than a second of a recording: noise is taken from whole recordings.
    """
    if source.manifest is None:
        yield from folder_utterances(source, headers)
        return
    recordings: dict[tuple[str, Channel | None], Utterance] = {}
    covered_s: dict[tuple[str, Channel | None], float] = {}
    for cut in manifest_items(source.manifest):
        found = cut_utterance(cut, wanted_channel=source.source.channel, whole=True)
        if isinstance(found, Utterance):
            place = (found.path, found.channel)
            recordings.setdefault(place, found)
            covered_s[place] = covered_s.get(place, 0.0) + float(cut.duration)
        else:
            yield found
    for place, recording in recordings.items():
        if covered_s[place] < recording.seconds - COVERED_WITHIN_S:
            raise BadDocumentError(
                source.manifest,
                f"its cuts cover {covered_s[place]:.1f} of {recording.seconds:.1f} s of {printable(recording.path)}; noise is "
                "taken from whole recordings: name the manifest of the recordings instead",
            )
        yield recording


def manifest_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of a manifest, plain or gzip, bounded in length, with their numbers.

    Raises:
        BadDocumentError: If it is damaged, holds a line of more than 8 MB, or blank lines without end (a bomb, where it is gzip).
    """
    blank = 0
    try:
        with opened(path) as plain, gzip.open(plain, "rb") if path.suffix == ".gz" else plain as stream:
            for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), 1):
                if len(line) > MAX_LINE_BYTES:
                    raise BadDocumentError(f"{path}:{number}", f"is longer than {MAX_LINE_BYTES} bytes; refused")
                if line.strip():
                    yield number, line
                    continue
                blank += 1
                if blank > MOST_BLANK_LINES:
                    raise BadDocumentError(path, f"has more than {MOST_BLANK_LINES} blank lines; refused")
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise BadDocumentError(path, f"not a whole gzip file: {printable(problem)}") from None


def manifest_items(path: Path) -> Iterator[Any]:
    """Lhotse's objects (cuts, or recordings made into whole cuts) of a JSON lines manifest or a Shar directory, one at a time.

    What is mixed or padding is refused.

    Raises:
        NoAudioError: If the manifest has no line.
        BadDocumentError: If a line is not a cut or a recording.
        UnsafeAudioSourceError: If it names a command, a URL or raw bytes as audio.
    """
    count = 0
    for where, data in shar_items(path) if path.is_dir() else plain_items(path):
        count += 1
        kind = data.get("type")
        if isinstance(kind, str) and kind in SYNTHETIC_CUTS:
            reason = f"is lhotse's {kind}; {AS_FILES}, or name the cuts it was made from"
            yield Refused(printable(data.get("id", where)), reason)
        else:
            yield deserialised(data, where=where)
    if not count:
        raise NoAudioError(path, "the manifest has no line")


def plain_items(path: Path, *, shar: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place and content of each line of a manifest, checked for unsafe audio.

    Args:
        path: The manifest.
        shar: It belongs to a Shar directory, whose placeholders are safe.

    Raises:
        BadDocumentError: If a line is no JSON object, or the name is not that of JSON lines.
        UnsafeAudioSourceError: If it names a command, a URL or raw bytes as audio.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadDocumentError(
            path, "expected a lhotse manifest of JSON lines, with a name that ends in .jsonl or .jsonl.gz"
        )
    for number, line in manifest_lines(path):
        where = f"{path}:{number}"
        data = parse_json(line, where=where)
        if not isinstance(data, dict):
            raise BadDocumentError(where, "expected a cut or a recording")
        refuse_unsafe_audio(data, where=where, shar=shar)
        yield where, data


def shar_items(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cuts of a Shar directory, each with the member of a tar that holds its audio.

    Raises:
        BadDocumentError: If it is none, or cuts and tars are not in step.
        UnsafeAudioSourceError: As in `plain_items`.
    """

    def check(recording: Any, where: str) -> None:
        if not isinstance(recording, dict):
            raise BadDocumentError(where, "expected a recording")
        refuse_unsafe_audio(recording, where=where, shar=True)

    for cuts in cut_files(folder):
        yield from with_audio(cuts, plain_items(cuts, shar=True), check=check)


def refuse_unsafe_audio(data: Any, *, where: str, shar: bool = False) -> None:
    """Refuse audio that is not a plain file, at any depth of a line, before lhotse sees it.

    Args:
        data: A line, or a part of it.
        where: Its place, for a message.
        shar: An empty source of type `shar` is accepted: it belongs to a Shar directory, its audio to the tar beside it.

    Raises:
        UnsafeAudioSourceError: With the type that was found.
    """
    if isinstance(data, list):
        for item in data:
            if isinstance(item, dict | list):
                refuse_unsafe_audio(item, where=where, shar=shar)
        return
    kind, source = data.get("type"), data.get("source")
    if (
        source is not None
        and not (shar and kind == "shar" and source == "")
        and ("channels" in data or kind in {"command", "url", "memory", "shar"})
    ):
        if kind != "file" or not isinstance(source, str):
            raise UnsafeAudioSourceError(where, kind=kind)
        if "://" in source or source.startswith(("pipe:", "|")) or source.rstrip().endswith("|"):
            raise UnsafeAudioSourceError(where, kind=f"file, but with the name {source[:60]}")
    for value in data.values():
        if isinstance(value, dict | list):
            refuse_unsafe_audio(value, where=where, shar=shar)


def deserialised(data: dict[str, Any], *, where: str) -> Any:
    """The cut of a line; a recording becomes a cut of its whole first channel.

    Raises:
        BadDocumentError: If lhotse does not know it.
    """
    from lhotse.cut import MonoCut
    from lhotse.serialization import deserialize_item

    try:
        item = deserialize_item(data)
        if type(item).__name__ == "Recording":
            channels = item.channel_ids
            channel = channels[0] if len(channels) == 1 else -1
            return MonoCut(item.id, start=0.0, duration=item.duration, channel=channel, recording=item)
    except Exception as problem:  # noqa: BLE001 (lhotse raises whatever a missing key gives: it trusts its input)
        raise BadDocumentError(
            where, f"lhotse cannot read it: {type(problem).__name__}: {printable(problem)}"
        ) from None
    if not type(item).__name__.endswith("Cut"):
        raise BadDocumentError(where, f"expected a cut or a recording, found lhotse's {type(item).__name__}")
    return item
