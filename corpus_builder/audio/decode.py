"""Decodes a stretch of one channel of an audio file as float64 at the file's own rate, or gives the reason why it cannot.

Samples of a 16-bit file are their integers over 32768.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile

from corpus_builder.audio.containers import KINDS, ContainerError, container_kind, container_shape, container_stretch
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.errors import (
    ChannelError,
    EmptyAudioError,
    MissingAudioError,
    NotFiniteAudioError,
    OddRateError,
    TruncatedAudioError,
    UnreadableAudioError,
)
from corpus_builder.audio.remote import decodable
from corpus_builder.audio.tar_members import audio_file
from manifests.io.place import Place, local_copy, opened
from manifests.io.url import Url

if TYPE_CHECKING:
    from corpus_builder.audio.levels import Wave
    from manifests.recipe.speech import Channel


AUDIO_SUFFIXES = frozenset(
    {
        ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".snd", ".caf", ".w64", ".sph", ".wv1",
        *KINDS,
    }
)  # fmt: skip
MOST_CHANNELS = 1024
LOWEST_HZ, HIGHEST_HZ = 1_000, 1_000_000
MOST_INTERLEAVED = 1 << 20
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
UNKNOWN_FRAMES = 1 << 40  # libsndfile uses a number far above for unknown
STREAMED_BYTES = 0x7FFF0000  # writers to a pipe leave a size like this in the header


@dataclass(frozen=True, slots=True)
class Header:
    """Length, rate and channels by a file's header."""

    num_frames: int
    rate_hz: int
    num_channels: int


def read_header(path: Place | str, *, name: object) -> Header:
    """Read a file's header; about 60 microseconds, of an MP4 a millisecond.

    Args:
        path: A file, on a disk or behind a URL.
        name: What to call it in a message: its id or relative path.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong.
    """
    refuse_device(path, name=name)
    try:
        if (kind := container_kind(path)) is not None:
            return container_header(path, kind, name=name)
        with decodable(path) as stream:
            info = soundfile.info(audio_file(stream) if isinstance(stream, str) else stream)
    except FileNotFoundError:
        raise MissingAudioError(name) from None
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ContainerError, IsADirectoryError) as problem:
        raise opening_problem(path, problem, name=name) from None
    return checked_header(info, name=name)


def refuse_device(path: Place | str, *, name: object) -> None:
    """Refuse a named pipe, a socket or a device, whose opening may never return.

    Raises:
        UnreadableAudioError: If it is one. A missing file is left to the opening.
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
    """Why libsndfile could not open a file: it is missing, empty, or not audio; an error of the machine is passed on."""
    try:
        with byte_stream(path) as stream:
            empty = not stream.read(1)
    except FileNotFoundError:
        return MissingAudioError(name)
    except IsADirectoryError:
        return UnreadableAudioError(name, "it is a folder")
    except OSError as machine:
        return UnreadableAudioError(name, "its link leads to itself") if machine.errno == errno.ELOOP else machine
    reason = getattr(problem, "error_string", None) or str(problem)
    return EmptyAudioError(name) if empty else UnreadableAudioError(name, reason)


def byte_stream(path: Place | str) -> IO[bytes]:
    """A file, or a member of a tar, as a binary, seekable stream.

    Raises:
        FileNotFoundError: If it is not there.
    """
    if isinstance(path, Url):
        return opened(path)
    found = audio_file(path)
    return open(found, "rb") if isinstance(found, str) else found  # noqa: PTH123 (called for every file; its user closes it)


def container_header(path: Place | str, kind: str, *, name: object) -> Header:
    """Header of a file that libsndfile cannot read; errors as in `read_header`."""
    with byte_stream(path) as stream:
        if not stream.read(1):
            raise EmptyAudioError(name)
        stream.seek(0)
        header = Header(*container_shape(stream, kind))
    check_shape(header.num_channels, header.rate_hz, name=name)
    if header.num_frames < 1:
        raise EmptyAudioError(name)
    return header


def check_shape(num_channels: int, rate_hz: int, *, name: object) -> None:
    """Check that a file has a plausible number of channels and rate.

    Raises:
        ChannelError: If there are too many channels.
        OddRateError: If no speech file has such a rate.
    """
    if not 1 <= num_channels <= MOST_CHANNELS:
        raise ChannelError(name, f"has {num_channels} channels; at most {MOST_CHANNELS} are read")
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise OddRateError(name, f"has a sample rate of {rate_hz} Hz; {LOWEST_HZ} to {HIGHEST_HZ} are read")


def checked_header(info: Any, *, name: object) -> Header:
    """The header of an opened file; errors as in `read_header`."""
    check_shape(info.channels, info.samplerate, name=name)
    cut_off = re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, re.MULTILINE)
    if cut_off and int(cut_off[2]) < int(cut_off[1]) < STREAMED_BYTES:
        width = max(int(cut_off[2]) // max(info.frames, 1), 1)
        raise TruncatedAudioError(name, found=info.frames, promised=int(cut_off[1]) // width)
    if info.frames < 1:
        raise EmptyAudioError(name)
    if info.frames >= UNKNOWN_FRAMES:
        raise UnreadableAudioError(name, "its header does not say how long it is")
    return Header(info.frames, info.samplerate, info.channels)


def channel_of(num_channels: int, channel: Channel | None, *, name: object) -> Channel | None:
    """Which channel to read: None of a mono file, else the requested one, or `mix` for the mean of all.

    Raises:
        ChannelError: If a file has several channels and none is requested, or lacks the requested one.
    """
    if channel is None and num_channels > 1:
        raise ChannelError(
            name,
            f"has {num_channels} channels; say which with channel: 0 to {num_channels - 1} in the recipe, or mix for "
            "their mean",
        )
    if isinstance(channel, int) and channel >= num_channels:
        raise ChannelError(name, f"has {num_channels} channel(s); there is no channel {channel}")
    return channel if num_channels > 1 else None


def read_stretch(
    path: Place,
    *,
    name: object,
    start: int = 0,
    num_frames: int | None = None,
    channel: Channel | None = None,
    rate_hz: int,
) -> Wave:
    """Decode a stretch of one channel, found by seeking.

    Args:
        path: A file; one behind a URL is fetched as a whole.
        name: What to call it in a message.
        start: First frame.
        num_frames: How many; None means to the end.
        channel: Which channel, or `mix` for the mean of all; None means that the file has one.
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
    stretch = Stretch(name, start, num_frames, channel, rate_hz)
    try:
        kind = container_kind(path)
        wave, wanted = sound_wave(path, stretch) if kind is None else container_wave(path, kind, stretch)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ContainerError, *NO_FILE) as problem:
        raise opening_problem(path, problem, name=name) from None
    if wave.size < wanted:
        raise TruncatedAudioError(name, found=start + wave.size, promised=start + wanted)
    if not np.isfinite(wave).all():
        raise NotFiniteAudioError(name)
    return wave


@dataclass(frozen=True, slots=True)
class Stretch:
    """The requested stretch of a file; see `read_stretch`."""

    name: object
    start: int
    num_frames: int | None
    channel: Channel | None
    rate_hz: int

    def within(self, header: Header) -> tuple[int, Channel | None]:
        """Number of frames and channel of the stretch, checked against the file's header.

        Raises:
            UnfitAudioError: One of its subclasses, by what the header lacks.
        """
        if header.rate_hz != self.rate_hz:
            raise OddRateError(self.name, f"has {header.rate_hz} Hz where {self.rate_hz} Hz were planned")
        channel = channel_of(header.num_channels, self.channel, name=self.name)
        wanted = header.num_frames - self.start if self.num_frames is None else self.num_frames
        if wanted < 1:
            raise EmptyAudioError(self.name)
        if self.start + wanted > header.num_frames:
            raise TruncatedAudioError(self.name, found=header.num_frames, promised=self.start + wanted)
        return wanted, channel


def sound_wave(path: Place, stretch: Stretch) -> tuple[Wave, int]:
    """A stretch decoded by libsndfile, and how long it should be."""
    with soundfile.SoundFile(audio_file(path)) as stream:
        wanted, channel = stretch.within(checked_header(stream, name=stretch.name))
        if stretch.start:
            stream.seek(stretch.start)
        return stream.read(wanted, dtype="float64") if channel is None else one_channel(
            stream, wanted, channel, name=stretch.name
        ), wanted


def container_wave(path: Place, kind: str, stretch: Stretch) -> tuple[Wave, int]:
    """A stretch decoded by PyAV, and how long it should be."""
    wanted, channel = stretch.within(container_header(path, kind, name=stretch.name))
    downmix = Downmix(channel)
    with byte_stream(path) as stream:
        wave = container_stretch(stream, kind, start=stretch.start, num_frames=wanted, downmix=downmix)
    downmix.check(name=stretch.name)
    return wave, wanted


def one_channel(stream: Any, num_frames: int, channel: Channel, *, name: object) -> Wave:
    """Frames of one channel or of the mean of all, which are in memory only a million samples at a time; fewer if the file ends before.

    Raises:
        ChannelError: If channels whose mean is requested cancel each other.
    """
    downmix = Downmix(channel)
    step = max(1, MOST_INTERLEAVED // stream.channels)
    pieces: list[Wave] = []
    left = num_frames
    while left > 0 and (block := stream.read(min(step, left), dtype="float64", always_2d=True)).shape[0]:
        left -= block.shape[0]
        pieces.append(downmix.take(block))
    downmix.check(name=name)
    return np.concatenate(pieces) if pieces else np.zeros(0)
