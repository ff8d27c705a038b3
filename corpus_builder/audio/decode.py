"""Decodes a stretch of one channel of an audio file as float64 at the file's own rate, or gives the reason why it cannot.

Samples of a 16-bit file are their integers over 32768. How each format is counted and decoded is in `sound`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from corpus_builder.audio.containers import ContainerError
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
from corpus_builder.audio.formats.views import View
from corpus_builder.audio.remote import decodable
from corpus_builder.audio.sound import blocks, examined
from corpus_builder.audio.tar_members import member_of
from manifests.errors import StillroomError
from manifests.io.place import Place, local_copy
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.audio.formats.views import Source
    from corpus_builder.audio.levels import Wave
    from corpus_builder.audio.sound import Sound
    from manifests.recipe.speech import Channel


AUDIO_SUFFIXES = frozenset(
    {
        ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".sph", ".wv1",
        ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".amr", ".awb", ".wma", ".mp2", ".ts", ".wv",
        ".ape", ".tta", ".ac3", ".spx",
    }
)  # fmt: skip
"""Of the files that a folder's source consists of; what is in each is found out by its content."""
COSTLY_SUFFIXES = AUDIO_SUFFIXES - {
    ".wav", ".flac", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".sph", ".wv1"
}  # fmt: skip
"""Of files that have to be read through, or decoded, to know their length."""
MOST_CHANNELS = 1024
MOST_STEP = 1 << 20
LOWEST_HZ, HIGHEST_HZ = 1_000, 1_000_000
UNRECOGNISED_FORMAT = 1  # libsndfile's number
DECODING_ERRORS = (soundfile.LibsndfileError, RuntimeError, TypeError, ContainerError)


@dataclass(frozen=True, slots=True)
class Header:
    """Length, rate and channels of a file; the length is counted, whatever its header says."""

    num_frames: int
    rate_hz: int
    num_channels: int


def read_header(path: Place | str, *, name: object) -> Header:
    """Find out a file's length, rate and channels; about 100 microseconds for WAV and FLAC, other formats are read through or decoded.

    Args:
        path: A file, on a disk or behind a URL.
        name: What to call it in a message: its id or relative path.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong.
    """
    with sound_of(path, name=name, quick=True) as sound:
        return header_of(sound, name=name)


def header_of(sound: Sound, *, name: object) -> Header:
    """The header of an examined file.

    Raises:
        UnfitAudioError: If it is implausible or the file has no samples.
    """
    check_shape(sound.num_channels, sound.rate_hz, name=name)
    assert sound.num_frames is not None
    if sound.num_frames < 1:
        raise EmptyAudioError(name)
    return Header(sound.num_frames, sound.rate_hz, sound.num_channels)


@contextlib.contextmanager
def sound_of(path: Place | str | bytes, *, name: object, count: bool = True, quick: bool = False) -> Iterator[Sound]:
    """A file, opened and examined.

    Args:
        path: A file, on a disk or behind a URL, or its content.
        name: What to call it in a message.
        count: Decode it where nothing else tells how long it is.
        quick: As `examined` has it; and of a member of a tar only what is needed is read.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong, also while it is read inside.
    """
    try:
        with byte_stream(path, name=name, whole=not quick) as (source, own_path):
            named = f"x.{name}" if isinstance(path, bytes) else str(path)
            suffix = os.path.splitext(named)[1].lower()  # noqa: PTH122 (called for every file)
            yield examined(source, path=own_path, suffix=suffix, name=name, count=count, quick=quick)
    except StillroomError:
        raise
    except FileNotFoundError:
        raise MissingAudioError(name) from None
    except (IsADirectoryError, NotADirectoryError):
        raise UnreadableAudioError(name, "it is a folder") from None
    except DECODING_ERRORS as problem:
        raise UnreadableAudioError(name, decoding_problem(problem)) from None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise UnreadableAudioError(name, "its link leads to itself") from None
        raise


def decoding_problem(problem: Exception) -> str:
    """What a decoder says, without the name that it knows the file by."""
    if isinstance(problem, soundfile.LibsndfileError):
        if problem.code == UNRECOGNISED_FORMAT:
            return "its content is of no audio format that is read"
        reason = str(problem.error_string)
        return "it is damaged" if reason.startswith("File does not exist") else reason  # of a file that is there
    return str(problem) if isinstance(problem, ContainerError | RuntimeError) else "its format is not known"


@contextlib.contextmanager
def byte_stream(path: Place | str | bytes, *, name: object, whole: bool) -> Iterator[tuple[Source, str | None]]:
    """A file's bytes as a seekable stream, and its path if it is a file of its own on a disk.

    Args:
        path: A file, on a disk or behind a URL, or its content.
        name: What to call it in a message.
        whole: Read a member of a tar at once.

    Raises:
        UnreadableAudioError: If it is a pipe, a socket or a device, whose opening may never return.
        FileNotFoundError: If it is not there.
    """
    if isinstance(path, bytes):
        yield io.BytesIO(path), None
        return
    if isinstance(path, Url):
        with decodable(path) as stream:
            assert not isinstance(stream, str)
            yield stream, None
        return
    member = member_of(path)
    if member is not None:
        offset, size = member.span()
        with io.BytesIO(member.content()) if whole else member.tar.open("rb") as stream:
            yield stream if whole else View(stream, [(offset, offset + size)]), None
        return
    mode = os.stat(path).st_mode  # noqa: PTH116 (called for every file)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnreadableAudioError(name, "it is a pipe, a socket or a device, not a file")
    with open(path, "rb") as plain:  # noqa: PTH123 (as above)
        yield plain, str(path)


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
    """Decode a stretch of one channel, which equals that of the whole file.

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
    stretch = Stretch(name, start, num_frames, channel, rate_hz)
    with sound_of(path, name=name, count=num_frames is None) as sound:
        wanted, channel = stretch.within(sound)
        downmix = Downmix(channel)
        pieces: list[Wave] = []
        found = 0
        with contextlib.closing(
            blocks(sound, start=start, step=wanted or MOST_STEP, downmix=downmix)  # type: ignore[type-var]
        ) as waves:
            for wave in waves:
                pieces.append(wave if wanted is None else wave[: wanted - found])
                found += pieces[-1].size
                if found == wanted:
                    break
    if wanted is not None and found < wanted:
        raise TruncatedAudioError(name, found=start + found, promised=start + wanted)
    if not found:
        raise EmptyAudioError(name)
    downmix.check(name=name)
    result = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    if not np.isfinite(result).all():
        raise NotFiniteAudioError(name)
    return result


@dataclass(frozen=True, slots=True)
class Stretch:
    """The requested stretch of a file; see `read_stretch`."""

    name: object
    start: int
    num_frames: int | None
    channel: Channel | None
    rate_hz: int

    def within(self, sound: Sound) -> tuple[int | None, Channel | None]:
        """Number of frames and channel of the stretch, checked against the file; None frames for all that are decoded.

        Raises:
            UnfitAudioError: One of its subclasses, by what the file lacks.
        """
        check_shape(sound.num_channels, sound.rate_hz, name=self.name)
        if sound.rate_hz != self.rate_hz:
            raise OddRateError(self.name, f"has {sound.rate_hz} Hz where {self.rate_hz} Hz were planned")
        channel = channel_of(sound.num_channels, self.channel, name=self.name)
        if sound.num_frames is None:
            return self.num_frames, channel
        wanted = sound.num_frames - self.start if self.num_frames is None else self.num_frames
        if wanted < 1:
            raise EmptyAudioError(self.name)
        if self.start + wanted > sound.num_frames:
            raise TruncatedAudioError(self.name, found=sound.num_frames, promised=self.start + wanted)
        return wanted, channel


def file_blocks(path: Place | bytes, *, name: object, num_frames: int, step: int, downmix: Downmix) -> Iterator[Wave]:
    """One channel of a whole file, or the mean of all, all blocks but the last of `step` frames.

    Args:
        path: A file on a disk, or its content.
        name: What to call it in a message.
        num_frames: How long it is, by `read_header`; fewer if it ends before.
        step: Frames of a block.
        downmix: Takes the channel, or the mean of all, which it can check afterwards.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong; NaN and infinity are passed on.
    """
    held: list[Wave] = []
    with sound_of(path, name=name, count=False) as sound:
        left = num_frames
        for block in blocks(sound, start=0, step=step, downmix=downmix):
            held.append(block[:left])
            left -= held[-1].size
            while sum(piece.size for piece in held) >= step:
                joined = held[0] if len(held) == 1 else np.concatenate(held)
                yield joined[:step]
                held = [joined[step:]] if joined.size > step else []
            if not left:
                break
        if held:
            yield np.concatenate(held)
