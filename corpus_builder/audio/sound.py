"""How one audio file is read: what its first bytes say it is, how many samples it really has, and which decoder gives them.

Every reading of a file, at planning, at rendering and for an index, goes through `examined`. Headers of length are counted, not
believed; a file that was cut off is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import soundfile

from corpus_builder.audio.containers import MOST_FRAMES, container_blocks, container_shape
from corpus_builder.audio.errors import EmptyAudioError, TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.adts_frames import check_adts
from corpus_builder.audio.formats.chunks import MPEG_TAGS, corrected, plain_wav, samples_of
from corpus_builder.audio.formats.container_ends import check_whole
from corpus_builder.audio.formats.content import HEAD_BYTES, content_of, is_playlist
from corpus_builder.audio.formats.flac_frames import flac_view, stream_info
from corpus_builder.audio.formats.mpeg_frames import mpeg_frames
from corpus_builder.audio.formats.mpeg_stream import no_warnings, part_view
from corpus_builder.audio.formats.ogg_pages import ogg_links
from corpus_builder.audio.formats.tags import stream_end, stream_start
from corpus_builder.audio.formats.views import View, at, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corpus_builder.audio.downmix import Downmix
    from corpus_builder.audio.formats.content import ChunkContent
    from corpus_builder.audio.formats.mpeg_frames import Frames
    from corpus_builder.audio.formats.mpeg_frames import Part as MpegPart
    from corpus_builder.audio.formats.views import Source
    from corpus_builder.audio.levels import Wave

FEWEST_FRAMES = 2  # libmpg123 opens no fewer
MPEG_SUFFIXES = (".mp3", ".mp2", ".mpga")
UNKNOWN_FRAMES = 1 << 40  # libsndfile uses a number far above for unknown
MOST_INTERLEAVED = 1 << 20
DROPPED_AT_ONCE = 1 << 16
DIRECT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # libsndfile gives the same samples after a seek
EARLY_S = {
    "VORBIS": 1.0,
    "OPUS": 4.0,
}  # and of these after so much that is decoded and dropped; all others are decoded from the start
"""By libsndfile's names of codings."""
FLAC_CODINGS = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}  # by bits a sample


class StraightFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from front to back.

    The `soundfile` package seeks after every read of what can be sought in, to where the file is already. Of MP3 and Opus libsndfile
    then decodes the next block without what came before, and wrongly.
    """

    def seekable(self) -> bool:
        """Whether the package may seek by itself."""
        return False


@dataclass(frozen=True)
class SndfilePart:
    """Samples that libsndfile decodes.

    Attributes:
        target: What it opens.
        num_frames: How many there are.
        early: How many before a stretch must be decoded too; None for all.
    """

    target: str | Source
    num_frames: int
    early: int | None


@dataclass(frozen=True)
class Mp3Part:
    """Frames of MP3, which libsndfile decodes."""

    source: Source
    frames: Frames
    part: MpegPart
    num_frames: int


@dataclass(frozen=True)
class ContainerPart:
    """A stream that PyAV decodes.

    Attributes:
        num_frames: None if they have not been counted.
    """

    source: Source
    kind: str
    num_frames: int | None


Part: TypeAlias = SndfilePart | Mp3Part | ContainerPart


@dataclass(frozen=True)
class Sound:
    """An audio file.

    Attributes:
        num_frames: None if only decoding tells, and that was not asked for.
        parts: Read one after another.
        coding: libsndfile's name of the coding, such as `PCM_16`; empty for what it does not decode.
    """

    num_frames: int | None
    rate_hz: int
    num_channels: int
    parts: Sequence[Part]
    coding: str = ""


def examined(
    source: Source, *, path: str | None, suffix: str, name: object, count: bool = True, quick: bool = False
) -> Sound:
    """Find out what a file is and how it is read.

    Args:
        source: Its bytes.
        path: Where it is, if it is a file of its own on a disk.
        suffix: Of its name, in lower case; junk before MPEG audio is passed over only where the name says that it is some.
        name: What to call it in a message.
        count: Decode it where nothing else tells how long it is.
        quick: Do not let the decoder open a FLAC whose headers agree with its last frame.

    Raises:
        UnfitAudioError: If it is empty, cut off or damaged.
        ContainerError: If PyAV cannot decode it.
        soundfile.LibsndfileError: If libsndfile cannot.
    """
    head = at(source, 0, HEAD_BYTES)
    if not head:
        raise EmptyAudioError(name)
    size = size_of(source)
    start = stream_start(source, head)
    content = content_of(at(source, start, HEAD_BYTES) if start else head)
    if content == "other" and is_playlist(head):
        raise UnreadableAudioError(name, "it is a playlist, which names other files, and holds no audio")
    if content == "other" and suffix in MPEG_SUFFIXES:
        content = "mpeg"
    end = stream_end(source, start, size) if content in {"flac", "mpeg", "aac"} else size
    match content:
        case "wav" | "w64" | "aiff" | "au" | "sphere" | "caf":
            found = chunk_sound(content, source, head, size, path=path, name=name)
        case "flac":
            found = flac_sound(source, start, end, path=path, name=name, quick=quick)
        case "ogg":
            found = ogg_sound(source, start, size, path=path, name=name, count=count)
        case "mpeg":
            found = mpeg_sound(source, start, end, name=name)
        case "aac":
            check_adts(source, start, end, name=name)
            found = container_sound(source, content, name=name, count=count)
        case "other":
            found = sndfile_sound(View(source, [(0, size)]), name=name)
        case _:
            stream = View(source, [(start, size)]) if start else source
            check_whole(content, stream, size - start, name=name)
            found = container_sound(stream, content, name=name, count=count)
    return found


def sndfile_sound(target: str | Source, *, name: object) -> Sound:
    """What libsndfile decodes as one part."""
    if not isinstance(target, str):
        target.seek(0)
    with soundfile.SoundFile(target) as stream:
        num_frames, coding = stream.frames, stream.subtype
        if num_frames >= UNKNOWN_FRAMES:
            raise UnreadableAudioError(name, "its header does not say how long it is")
        exact = coding.startswith(DIRECT)
        early = 0 if exact else round(EARLY_S[coding] * stream.samplerate) if coding in EARLY_S else None
        part = SndfilePart(target, num_frames, early)
        return Sound(num_frames, stream.samplerate, stream.channels, (part,), coding)


def flac_sound(source: Source, start: int, end: int, *, path: str | None, name: object, quick: bool) -> Sound:
    """FLAC: its number of samples is that of its last frame."""
    info = stream_info(source, start)
    view = None if info is None else flac_view(source, info, end, name=name, quick=quick)
    if info is not None and info.bits not in FLAC_CODINGS and info.num_samples:
        return container_sound(view or source, "flac", name=name)
    if quick and info is not None and view is None and info.bits in FLAC_CODINGS:
        part = SndfilePart(path or source, info.num_samples, early=0)
        return Sound(info.num_samples, info.rate_hz, info.num_channels, (part,), FLAC_CODINGS[info.bits])
    return sndfile_sound(view or path or source, name=name)


def chunk_sound(
    content: ChunkContent, source: Source, head: bytes, size: int, *, path: str | None, name: object
) -> Sound:
    """WAV and its relatives: their number of samples is that of the bytes which are there."""
    if content == "wav" and (plain := plain_wav(head, size)) is not None:
        return Sound(*plain, (SndfilePart(path or source, plain[0], early=0),), "PCM_16")
    found = samples_of(content, source, head, size)
    if found is not None and found.wave_format in MPEG_TAGS:
        end = size if found.says_nothing(size) or not found.promised else found.start + found.promised
        if end > size:
            raise TruncatedAudioError(name, found=0, promised=None)
        return mpeg_sound(source, found.start, end, name=name)
    view = None if found is None else corrected(found, source, size)
    missing = 0 if found is None else found.missing(size)
    try:
        sound = sndfile_sound(view or path or source, name=name)
    except soundfile.LibsndfileError:
        if missing and content == "caf":  # which libsndfile does not open then
            raise TruncatedAudioError(name, found=0, promised=None) from None
        raise
    if found is not None and found.promised and missing:
        num_frames = sound.num_frames or 0
        there = found.promised - missing
        frame_bytes = there // num_frames if num_frames else 0
        promised = found.promised // frame_bytes if frame_bytes else -(-num_frames * found.promised // max(there, 1))
        if promised > num_frames or not num_frames:
            raise TruncatedAudioError(name, found=num_frames, promised=promised or found.promised)
    return sound


def ogg_sound(source: Source, start: int, size: int, *, path: str | None, name: object, count: bool) -> Sound:
    """Ogg: Vorbis and Opus by libsndfile, each link of a chain by itself; all else by PyAV."""
    links = ogg_links(source, start, size, name=name)
    sounds = []
    for link in links:
        whole = len(links) == 1 and not start
        view = source if whole else View(source, [(link.start, link.end)])
        if link.codecs in (["vorbis"], ["opus"]):
            sounds.append(sndfile_sound((path or view) if whole else view, name=name))
        else:
            sounds.append(container_sound(view, "ogg", name=name, count=count or len(links) > 1))
    return sounds[0] if len(sounds) == 1 else joined(sounds, name=name)


def joined(sounds: Sequence[Sound], *, name: object) -> Sound:
    """Several sounds, one after another.

    Raises:
        UnreadableAudioError: If they differ in rate or channels.
    """
    first = sounds[0]
    if any((one.rate_hz, one.num_channels) != (first.rate_hz, first.num_channels) for one in sounds):
        raise UnreadableAudioError(name, "it changes its rate or channels on the way")
    num_frames = sum(one.num_frames or 0 for one in sounds)
    parts = tuple(part for one in sounds for part in one.parts)
    return Sound(num_frames, first.rate_hz, first.num_channels, parts, first.coding)


def mpeg_sound(source: Source, start: int, end: int, *, name: object) -> Sound:
    """MPEG audio of any layer; its length is that of all frames."""
    frames = mpeg_frames(source, start, end, name=name)
    shape = frames.shape
    if len(frames.offsets) < FEWEST_FRAMES:
        raise UnreadableAudioError(name, "it has a single frame of MPEG audio, too few for a decoder")
    parts: list[Part] = []
    for part in frames.parts:
        first, last = part.span(shape.num_samples)
        parts.append(Mp3Part(source, frames, part, last - first))
    return Sound(frames.num_samples, shape.rate_hz, shape.num_channels, parts, f"MPEG_LAYER_{'I' * shape.layer}")


def container_sound(source: Source, kind: str, *, name: object, count: bool = True) -> Sound:
    """What PyAV decodes; it is decoded to count its samples, if that is asked for."""
    num_frames, rate_hz, num_channels = container_shape(source, kind, count=count, name=name)
    return Sound(num_frames, rate_hz, num_channels, (ContainerPart(source, kind, num_frames),))


def blocks(sound: Sound, *, start: int, step: int, downmix: Downmix) -> Iterator[Wave]:
    """One channel, or the mean of all, from a frame on, up to `step` frames at a time; the others are in memory only a million samples at a time.

    Raises:
        ContainerError: If PyAV cannot decode it.
        soundfile.LibsndfileError: If libsndfile cannot.
    """
    step = step if sound.num_channels == 1 else min(step, max(1, MOST_INTERLEAVED // sound.num_channels))
    for part in sound.parts:
        if part.num_frames is not None and start >= part.num_frames and len(sound.parts) > 1:
            start -= part.num_frames
            continue
        yield from part_blocks(part, start=start, step=step, downmix=downmix)
        start = 0


def part_blocks(part: Part, *, start: int, step: int, downmix: Downmix) -> Iterator[Wave]:
    """One channel of a part, from a frame on."""
    match part:
        case SndfilePart():
            first = 0 if part.early is None else max(0, start - part.early)
            yield from sndfile_blocks(
                part.target, seek=first, drop=start - first, left=part.num_frames - start, step=step, downmix=downmix
            )
        case Mp3Part():
            view, drop = part_view(part.source, part.frames, part.part, start=start)
            left = part.num_frames - start
            with no_warnings():
                yield from sndfile_blocks(view, seek=0, drop=drop, left=left, step=step, downmix=downmix)
        case ContainerPart():
            rest = part.num_frames - start if part.num_frames is not None else MOST_FRAMES
            for block in container_blocks(part.source, part.kind, start=start):
                wave = downmix.take(block.T[:rest])
                rest -= wave.size
                if wave.size:
                    yield wave


def sndfile_blocks(
    target: str | Source, *, seek: int, drop: int, left: int, step: int, downmix: Downmix
) -> Iterator[Wave]:
    """One channel of what libsndfile decodes, after a seek and some frames that are dropped."""
    if not isinstance(target, str):
        target.seek(0)
    with StraightFile(target) as stream:
        if seek:
            stream.seek(seek)
        while drop > 0:
            at_once = min(drop, max(step, DROPPED_AT_ONCE // stream.channels))
            found = stream.read(at_once, dtype="float64", always_2d=True).shape[0]
            if not found:
                return
            drop -= found
        while left > 0:
            block = stream.read(min(step, left), dtype="float64")
            if not block.shape[0]:
                return
            left -= block.shape[0]
            yield block if block.ndim == 1 else downmix.take(block)
