"""Files in, waves out: a stretch of one channel of a file as float64, at the corpus rate, or a reason why not.

Samples of a 16-bit file at the corpus rate come out as they are, over 32768. Anything else goes through soxr's HQ filter,
pinned so that two builds agree.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from corpus_builder.remote_audio import decodable
from manifests.errors import StillroomError, printable
from manifests.storage import Place, Url, local_copy, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.distortions.levels import Wave

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".snd", ".caf", ".w64", ".sph", ".wv1"}
)
RESAMPLER = "HQ"
MOST_CHANNELS = 1024
LOWEST_HZ, HIGHEST_HZ = 1_000, 1_000_000
LEVEL_FRAME_S = 0.1
MOST_INTERLEAVED = 1 << 20
SILENCE_DB = -200.0
UNKNOWN_FRAMES = 1 << 40  # libsndfile's way of saying so lies far above
STREAMED_BYTES = 0x7FFF0000  # writers to a pipe leave a size like this in the header


class UnfitAudioError(StillroomError, ValueError):
    """An audio file that cannot be used, for a reason that follows from the file alone; becomes a line in `refused.jsonl`."""


class MissingAudioError(UnfitAudioError):
    """The file is not there."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} does not exist below its root")


class UnreadableAudioError(UnfitAudioError):
    """No decoder makes sense of the file."""

    def __init__(self, name: object, problem: object) -> None:
        super().__init__(f"{printable(name)} cannot be decoded: {printable(problem, limit=120)}")


class EmptyAudioError(UnfitAudioError):
    """The file, or the stretch of it that is asked for, has no samples."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} has no samples")


class TruncatedAudioError(UnfitAudioError):
    """The file ends before its header or its manifest says."""

    def __init__(self, name: object, *, found: int, promised: int) -> None:
        super().__init__(f"{printable(name)} ends after {found} samples where {promised} are promised: it was cut off")


class NotFiniteAudioError(UnfitAudioError):
    """The file holds NaN or infinity."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} holds NaN or infinite samples")


class SilentAudioError(UnfitAudioError):
    """Every sample is zero."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} is digital silence: every sample is zero")


class ChannelError(UnfitAudioError):
    """It is not clear which channel is meant, or it does not exist."""

    def __init__(self, name: object, what: str) -> None:
        super().__init__(f"{printable(name)} {what}")


class OddRateError(UnfitAudioError):
    """A sample rate that no speech file has, or not the one its manifest says."""

    def __init__(self, name: object, what: str) -> None:
        super().__init__(f"{printable(name)} {what}")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    num_frames: int
    rate_hz: int
    num_channels: int


def num_samples_at(num_frames: int, *, from_hz: int, to_hz: int) -> int:
    """Length at another rate, ``round(num_frames * to_hz / from_hz)``, halves up, in whole numbers."""
    return (2 * num_frames * to_hz + from_hz) // (2 * from_hz)


def read_header(path: Place | str, *, name: object) -> Header:
    """Read a file's header; about 60 microseconds.

    Args:
        path: A file, on a disk or behind a URL.
        name: What to call it in a message: its id or relative path.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong.
    """
    refuse_device(path, name=name)
    try:
        with decodable(path) as stream:
            info = soundfile.info(stream)
    except FileNotFoundError:
        raise MissingAudioError(name) from None
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as problem:
        raise opening_problem(path, problem, name=name) from None
    return checked_header(info, name=name)


def refuse_device(path: Place | str, *, name: object) -> None:
    """Refuse a named pipe, a socket or a device: opening one could wait for ever.

    Raises:
        UnreadableAudioError: If it is one. What is not there at all is left to the opening.
    """
    if isinstance(path, Url):
        return
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (path may be a str: this is called for every file)
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnreadableAudioError(name, "it is a pipe, a socket or a device, not a file")


def opening_problem(path: Place | str, problem: Exception, *, name: object) -> Exception:
    """Why libsndfile could not open a file: it is not there, empty, or not audio; anything of the machine is passed on."""
    try:
        with opened(path) if isinstance(path, Url) else open(path, "rb") as stream:  # noqa: PTH123 (called for every file)
            empty = not stream.read(1)
    except FileNotFoundError:
        return MissingAudioError(name)
    except IsADirectoryError:
        return UnreadableAudioError(name, "it is a folder")
    except OSError as machine:
        return UnreadableAudioError(name, "its link leads to itself") if machine.errno == errno.ELOOP else machine
    said = getattr(problem, "error_string", None) or str(problem)
    return EmptyAudioError(name) if empty else UnreadableAudioError(name, said)


def checked_header(info: Any, *, name: object) -> Header:
    """The header of an opened file, if it is one we can work with."""
    if not 1 <= info.channels <= MOST_CHANNELS:
        raise ChannelError(name, f"has {info.channels} channels; at most {MOST_CHANNELS} are read")
    if not LOWEST_HZ <= info.samplerate <= HIGHEST_HZ:
        raise OddRateError(name, f"has a sample rate of {info.samplerate} Hz; {LOWEST_HZ} to {HIGHEST_HZ} are read")
    cut_off = re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, re.MULTILINE)
    if cut_off and int(cut_off[2]) < int(cut_off[1]) < STREAMED_BYTES:
        width = max(int(cut_off[2]) // max(info.frames, 1), 1)
        raise TruncatedAudioError(name, found=info.frames, promised=int(cut_off[1]) // width)
    if info.frames < 1:
        raise EmptyAudioError(name)
    if info.frames >= UNKNOWN_FRAMES:
        raise UnreadableAudioError(name, "its header does not say how long it is")
    return Header(info.frames, info.samplerate, info.channels)


def channel_of(num_channels: int, channel: int | None, *, name: object) -> int | None:
    """Which channel to read: None of a mono file, else the asked one.

    Raises:
        ChannelError: If a file with several channels comes without one, or has not the asked one.
    """
    if channel is None and num_channels > 1:
        raise ChannelError(
            name, f"has {num_channels} channels; say which with channel: 0 to {num_channels - 1} in the recipe"
        )
    if channel is not None and channel >= num_channels:
        raise ChannelError(name, f"has {num_channels} channel(s); there is no channel {channel}")
    return channel if num_channels > 1 else None


def read_stretch(
    path: Place,
    *,
    name: object,
    start: int = 0,
    num_frames: int | None = None,
    channel: int | None = None,
    rate_hz: int,
) -> Wave:
    """Decode a stretch of one channel, found by seeking.

    Args:
        path: A file; one behind a URL is fetched as a whole.
        name: What to call it in a message.
        start: First frame.
        num_frames: How many; None means to the end.
        channel: Which channel; None means that the file has one.
        rate_hz: The file's own rate, as planned.

    Returns:
        Samples at the file's rate, shape (num_frames,), float64, full scale at +-1.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong.
    """
    if isinstance(path, Url):
        try:
            with local_copy(path) as copy:
                return read_stretch(
                    copy, name=name, start=start, num_frames=num_frames, channel=channel, rate_hz=rate_hz
                )
        except FileNotFoundError:
            raise MissingAudioError(name) from None
    refuse_device(path, name=name)
    try:
        stream = soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as problem:
        raise opening_problem(path, problem, name=name) from None
    with stream:
        header = checked_header(stream, name=name)
        if header.rate_hz != rate_hz:
            raise OddRateError(name, f"has {header.rate_hz} Hz where {rate_hz} Hz were planned")
        channel = channel_of(header.num_channels, channel, name=name)
        wanted = header.num_frames - start if num_frames is None else num_frames
        if wanted < 1:
            raise EmptyAudioError(name)
        if start + wanted > header.num_frames:
            raise TruncatedAudioError(name, found=header.num_frames, promised=start + wanted)
        try:
            if start:
                stream.seek(start)
            wave = stream.read(wanted, dtype="float64") if channel is None else one_channel(stream, wanted, channel)
        except (soundfile.LibsndfileError, RuntimeError) as problem:
            raise UnreadableAudioError(name, getattr(problem, "error_string", problem)) from None
    if wave.size < wanted:
        raise TruncatedAudioError(name, found=start + wave.size, promised=start + wanted)
    if not np.isfinite(wave).all():
        raise NotFiniteAudioError(name)
    return wave


def one_channel(stream: Any, num_frames: int, channel: int) -> Wave:
    """Frames of one channel, the others in memory only a million samples at a time; fewer if the file ends before."""
    step = max(1, MOST_INTERLEAVED // stream.channels)
    pieces: list[Wave] = []
    while num_frames > 0 and (block := stream.read(min(step, num_frames), dtype="float64", always_2d=True)).shape[0]:
        pieces.append(np.ascontiguousarray(block[:, channel]))
        num_frames -= block.shape[0]
    return np.concatenate(pieces) if pieces else np.zeros(0)


def at_rate(wave: Wave, *, from_hz: int, to_hz: int) -> Wave:
    """Bring a wave to another rate; at the same rate it is the very same samples.

    Returns:
        Samples, shape (`num_samples_at(time)`,); the filter's delay is taken out.
    """
    if from_hz == to_hz:
        return wave
    length = num_samples_at(wave.size, from_hz=from_hz, to_hz=to_hz)
    result: Wave = soxr.resample(wave, from_hz, to_hz, quality=RESAMPLER)[:length]
    return np.pad(result, (0, length - result.size)) if result.size < length else result


@dataclass(frozen=True)
class MeasuredLevels:
    """One noise file as it was read through once: its length at its own rate, and power per 100 ms."""

    num_frames: int
    rate_hz: int
    channel: int | None
    power_db: tuple[float, ...]


def measure_levels(path: Path, *, name: object, channel: int | None) -> MeasuredLevels:
    """Read a noise through, a minute in memory at a time.

    A file shorter than 100 ms has one power, that of the whole.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong; digital silence too.
    """
    header = read_header(path, name=name)
    channel = channel_of(header.num_channels, channel, name=name)
    frame = max(1, round(LEVEL_FRAME_S * header.rate_hz))
    powers: list[NDArray[np.float64]] = []
    found = 0
    for block in blocks(
        path,
        name=name,
        num_frames=max(frame, min(600, MOST_INTERLEAVED // (frame * header.num_channels)) * frame),
        channel=channel,
    ):
        if not np.isfinite(block).all():
            raise NotFiniteAudioError(name)
        found += block.size
        whole = block[: block.size - block.size % frame] if block.size >= frame else block if not powers else block[:0]
        if whole.size:
            powers.append(np.mean(whole.reshape(-1, min(frame, whole.size)) ** 2, axis=1))
    if found < header.num_frames:
        raise TruncatedAudioError(name, found=found, promised=header.num_frames)
    power = np.concatenate(powers)
    if not power.any():
        raise SilentAudioError(name)
    decibels = 10.0 * np.log10(np.maximum(power, 10.0 ** (SILENCE_DB / 10.0)))
    return MeasuredLevels(found, header.rate_hz, channel, tuple(round(float(value), 1) for value in decibels))


def blocks(path: Path, *, name: object, num_frames: int, channel: int | None) -> Iterator[Wave]:
    """One channel of a file, piece by piece."""
    try:
        with soundfile.SoundFile(str(path)) as stream:
            while (block := stream.read(num_frames, dtype="float64", always_2d=True)).shape[0]:
                yield np.ascontiguousarray(block[:, channel or 0])
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise UnreadableAudioError(name, getattr(problem, "error_string", problem)) from None
