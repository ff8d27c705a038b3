"""`stillroom unpack`: one copy of each utterance as plain files in the source's own tree, for any other toolkit.

A file gets the source's relative path, name and container. Its samples that the corpus does not have (before, between and after its
utterances, other channels excepted) and all other files are taken from the source itself, where its folder is given.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soundfile

from corpus_builder.audio.decode import read_header, read_stretch
from corpus_builder.audio.decode_bytes import DECODING_ERRORS, decode_bytes
from corpus_builder.audio.resample import at_rate
from manifests.corpus.external_sample import ROOT as FOREIGN_ROOT
from manifests.corpus.reader import OpenCorpus, refuse_occupied
from manifests.corpus.sample import CLEAN
from manifests.errors import BadTarError, StillroomError, UsageError, printable
from manifests.io.atomic import making
from manifests.io.json_yaml import safe_relative, write_json
from manifests.io.place import place_of, places_of
from manifests.io.progress import Progress
from manifests.results.reports import UnpackedCard, reported

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from manifests.corpus.shard_index import IndexedSample, ShardEntry
    from manifests.io.place import Place
    from manifests.plan.steps import FileSpan

    Pcm = NDArray[np.int16]

FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF", ".aif": "AIFF",
    ".au": "AU", ".snd": "AU", ".caf": "CAF", ".w64": "W64", ".sph": "NIST",
}  # fmt: skip
LOSSY = {".ogg": "VORBIS", ".oga": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}
DESCRIPTION = "stillroom.json"
MAX_PATH_PARTS = 64


class CollidingFilesError(StillroomError, ValueError):
    """Two utterances overlap in one file."""

    def __init__(self, path: str, first: str, second: str) -> None:
        super().__init__(
            f"{printable(path)}: the utterances {printable(first, limit=80)} and {printable(second, limit=80)} overlap in it, so that "
            "only one of them could be written: unpack one --split at a time, or a subset"
        )


class CutFileError(StillroomError, ValueError):
    """An utterance is a part of its file, and the rest of the file is not known."""

    def __init__(self, path: str, root: str, *, cuts: int) -> None:
        what = f"{cuts} utterances are" if cuts > 1 else "the utterance is"
        super().__init__(
            f"{printable(path)}: {what} a stretch of this file, and the rest of it is not in the corpus: pass its folder with "
            f"--root {printable(root)}=DIR"
        )


class UnwritableFormatError(StillroomError, ValueError):
    """A source file has a container that cannot be written."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{printable(path)}: files of this kind cannot be written, only {', '.join(FORMATS)}; build the corpus from a copy of its "
            "source in one of these, or read the copies from the shards"
        )


class UnwritableRateError(StillroomError, ValueError):
    """A container that does not support the corpus's sample rate."""

    def __init__(self, path: str, *, rate_hz: int, why: object) -> None:
        super().__init__(
            f"{printable(path)}: a file of this kind cannot be written at the corpus's {rate_hz} Hz ({printable(why, limit=120)}); build "
            "the corpus from a copy of its source in WAV or FLAC, or at another sample_rate"
        )


@dataclass(frozen=True)
class Unpacked:
    """The result of unpacking.

    Attributes:
        linked: Number of linked other files of the sources.
        linked_audio: Those of them that are audio, which the corpus does not have.
        without: Utterances that have no such copy.
        missing_roots: Roots of written files whose folder was not given.
        unused_roots: Given roots that no utterance comes from.
    """

    utterances: int
    files: int
    linked: int
    linked_audio: int
    without: int
    missing_roots: tuple[str, ...]
    unused_roots: tuple[str, ...]


class Cut(NamedTuple):
    """One utterance of a file, and which member to write."""

    entry: ShardEntry
    sample: IndexedSample
    id: str
    source: FileSpan
    member: str


def unpack(
    corpus: str | Place,
    out: str | Path,
    *,
    condition: str,
    roots: Mapping[str, str | Place] | None = None,
    splits: tuple[str, ...] = (),
    progress: bool = True,
) -> Unpacked:
    """Write one copy of each utterance as a file.

    Args:
        corpus: A folder or URL.
        out: A new folder; where the speech has several roots, each becomes a folder in it.
        condition: `noise` (its first copy), `noise-1` or `clean`.
        roots: Folders of the sources by name of the root.
        splits: Only these; all by default.
        progress: Show how far it is.

    Raises:
        UsageError: If there is no such copy at all, or the folder is not new.
        CollidingFilesError: If two utterances overlap in one file.
        CutFileError: If an utterance is part of a file whose folder is not given.
    """
    out = Path(out)
    refuse_occupied(out, what="the files")
    opened = OpenCorpus(place_of(corpus))
    files, without, every_root = planned_files(opened, condition, splits)
    if not files:
        raise UsageError(
            f"{printable(corpus)}: no utterance has a copy {printable(condition)!r}; conditions: {conditions_text(opened)}"
        )
    places = places_of(roots)
    folders = {name: place for name, place in places.items() if isinstance(place, Path)}
    if len(folders) != len(places):
        raise UsageError("--root: expected a folder on a disk, got a URL")
    several = len(every_root) > 1
    refuse_links_into(out, folders)
    with making(out) as part:
        part.mkdir()
        with Progress("unpacking", total=sum(map(len, files.values())), unit="utterances", shown=progress) as display:
            for (root, path), cuts in sorted(files.items()):
                target = part / root / path if several else part / path
                write_file(opened, target, root, path, cuts, folder=folders.get(root))
                display.advance(len(cuts))
        linked: list[str] = []
        for root in every_root:
            if root in folders:
                linked += link_rest(folders[root], part / root if several else part, new_root=part)
        write_json(part / DESCRIPTION, description(opened, condition, splits))
    return Unpacked(
        utterances=sum(map(len, files.values())),
        files=len(files),
        linked=len(linked),
        linked_audio=sum(PurePosixPath(name).suffix.lower() in FORMATS for name in linked),
        without=without,
        missing_roots=tuple(sorted({root for root, _ in files} - set(folders) - {FOREIGN_ROOT})),
        unused_roots=tuple(sorted(set(folders) - set(every_root))),
    )


def conditions_text(opened: OpenCorpus) -> str:
    """The conditions of a corpus, for a message."""
    names = {CLEAN, *(name for counts in opened.sealed.copies.values() for name in counts)}
    return ", ".join(sorted(names))


def description(opened: OpenCorpus, condition: str, splits: tuple[str, ...]) -> dict[str, Any]:
    """The corpus and the copy that the new root was made from."""
    report = {
        "schema": UnpackedCard.SCHEMA,
        "corpus": opened.sealed.name,
        "corpus_sha256": opened.digest,
        "condition": condition,
        "splits": opened.splits(splits),
        "sample_rate": opened.sealed.sample_rate,
    }
    return reported(UnpackedCard, report)


def planned_files(
    opened: OpenCorpus, condition: str, splits: tuple[str, ...]
) -> tuple[dict[tuple[str, str], list[Cut]], int, list[str]]:
    """The cuts of every file by root and path, how many utterances lack the copy, and all roots of the corpus's speech."""
    files: dict[tuple[str, str], list[Cut]] = defaultdict(list)
    every_root: set[str] = set()
    without = 0
    wanted = set(opened.splits(splits))
    for held in opened.utterances():
        every_root.add(held.record.source.root)
        if held.split not in wanted:
            continue
        member = member_of(held.sample, condition)
        if member is None:
            without += 1
            continue
        path = PurePosixPath(safe_relative(held.record.source.path, where=held.record.id)).as_posix()
        if len(PurePosixPath(path).parts) > MAX_PATH_PARTS or path in {".", DESCRIPTION}:
            raise UsageError(f"{printable(path)}: too deep a path, or a name that is taken")
        files[held.record.source.root, path].append(
            Cut(held.entry, held.sample, held.record.id, held.record.source, member)
        )
    return files, without, sorted(every_root)


def member_of(sample: IndexedSample, condition: str) -> str | None:
    """The member for a condition: itself if it names a copy, else the first copy of that condition."""
    if condition == CLEAN or condition in sample.copies:
        return condition
    numbered = [name for name in sample.copies if name.rpartition("-")[0] == condition]
    return min(numbered, key=lambda name: int(name.rpartition("-")[2])) if numbered else None


def write_file(opened: OpenCorpus, target: Path, root: str, path: str, cuts: list[Cut], *, folder: Path | None) -> None:
    """Write one file of the new root."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in FORMATS:
        raise UnwritableFormatError(path)
    rate_hz = opened.sealed.sample_rate
    placed = []
    for cut in cuts:
        start = round(cut.source.start * rate_hz)
        placed.append((start, start + cut.sample.num_samples, cut))
    placed.sort(key=lambda one: one[:2])
    for (_, end, first), (start, _, second) in itertools.pairwise(placed):
        if start < end:
            raise CollidingFilesError(path, first.id, second.id)
    if folder is None:
        if len(placed) > 1 or placed[0][0] > 0:
            raise CutFileError(path, root, cuts=len(placed))
        pcm = copy_pcm(opened, placed[0][2])
    else:
        pcm = spliced(opened, folder / path, path, placed)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        audio = io.BytesIO()  # libsndfile's own writing to a file does not say that a disk is full
        soundfile.write(audio, pcm, rate_hz, format=FORMATS[suffix], subtype=LOSSY.get(suffix, "PCM_16"))
        with target.open("xb") as stream:
            stream.write(audio.getvalue())
    except soundfile.LibsndfileError as problem:
        raise UnwritableRateError(path, rate_hz=rate_hz, why=problem.error_string) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"{printable(path)}: another file of the corpus has this name") from None
    except OSError as problem:
        if problem.errno not in {errno.ENAMETOOLONG, errno.EINVAL}:
            raise
        raise UsageError(f"{printable(path)}: no file can have this name on this disk ({problem.strerror})") from None


def spliced(opened: OpenCorpus, source: Path, path: str, placed: list[tuple[int, int, Cut]]) -> Pcm:
    """The source's samples, those of the utterances replaced by the copies."""
    only = placed[0][2].source
    rate_hz = opened.sealed.sample_rate
    whole = len(placed) == 1 and placed[0][0] == 0 and is_whole(only, source, path)
    if whole:
        return copy_pcm(opened, placed[0][2])
    own_hz = read_header(source, name=path).rate_hz
    wave = at_rate(read_stretch(source, name=path, rate_hz=own_hz, channel=only.channel), from_hz=own_hz, to_hz=rate_hz)
    pcm: Pcm = np.clip(np.rint(np.asarray(wave) * 32768), -32768, 32767).astype(np.int16)
    for start, end, cut in placed:
        copy = copy_pcm(opened, cut)
        if end > pcm.size + 1:
            raise BadTarError(
                source, f"is shorter than the utterance {printable(cut.id, limit=80)} that was taken from it"
            )
        pcm[start:end] = copy[: pcm.size - start]
    return pcm


def is_whole(span: FileSpan, source: Path, path: str) -> bool:
    """Whether a stretch is all of its file."""
    return span.num_frames is None or span.num_frames == read_header(source, name=path).num_frames


def copy_pcm(opened: OpenCorpus, cut: Cut) -> Pcm:
    """The samples of a member.

    Raises:
        BadTarError: If they cannot be decoded or are too few.
    """
    content = opened.contents(cut.entry, cut.sample, [cut.member])[cut.member]
    where = f"{cut.entry.name}.tar: {printable(cut.sample.file_name(cut.member))}"
    try:
        wave = decode_bytes(content, most_samples=cut.sample.num_samples)
    except DECODING_ERRORS as problem:
        raise BadTarError(where, f"cannot be decoded: {printable(problem, limit=120)}") from None
    if wave.num_samples != cut.sample.num_samples or wave.rate_hz != opened.sealed.sample_rate:
        raise BadTarError(
            where, f"has {wave.num_samples} samples at {wave.rate_hz} Hz; the index says {cut.sample.num_samples}"
        )
    return wave.pcm


def refuse_links_into(out: Path, folders: Mapping[str, Path]) -> None:
    """Check that the new root is not inside a source's folder, where linking would find it.

    Raises:
        UsageError: If it is.
    """
    target = Path(os.path.abspath(out))  # noqa: PTH100 (it does not exist yet)
    for name, folder in folders.items():
        if target.is_relative_to(folder) or target.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{printable(out)} is inside --root {printable(name)}; name a folder outside of it")


def link_rest(source: Path, target: Path, *, new_root: Path) -> list[str]:
    """Link every file of a source that was not written, folder by folder; returns their names."""
    return list(linked_folder(source, target, above=(), written=os.path.realpath(new_root)))


def linked_folder(source: Path, target: Path, *, above: tuple[str, ...], written: str) -> Iterator[str]:
    """Link the files of a folder, and of those below it; links to a parent folder, or into the new root, are skipped."""
    real = os.path.realpath(source)
    if is_below(real, written) or any(is_below(one, real) for one in above):
        return
    target.mkdir(parents=True, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            place = target / entry.name
            if entry.is_dir():
                if not place.is_file() or place.is_dir():
                    yield from linked_folder(source / entry.name, place, above=(*above, real), written=written)
            elif not os.path.lexists(place) and entry.name != DESCRIPTION:
                place.symlink_to(source / entry.name)
                yield entry.name


def is_below(path: str, folder: str) -> bool:
    """Whether a real path is a folder or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
