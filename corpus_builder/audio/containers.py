"""Decodes what libsndfile does not read by PyAV: MP4, Matroska, AMR, WMA, MPEG transport streams, WavPack, Monkey's Audio and the like.

The kind of container follows from the first bytes of the file and is never guessed: ffmpeg would follow a playlist that calls itself
`.m4a`. ffmpeg is given a stream and may open containers of that one kind, so that nothing in the file can name another one.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.views import View, size_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from corpus_builder.audio.formats.views import Source

FAR_FRAMES = 1 << 20  # decoding so many costs about as much as a seek
MOST_KEPT = 2
HEAD_PACKETS = 8  # a decoder drops what an encoder added before the first sample: of two or three
EARLY_PACKETS = 8  # two are enough
WINDOW_PACKETS = 64
MOST_FRAMES = 1 << 31
MOST_PADDING = 4096  # what an encoder of MP4 adds to fill its last frame, which the header does not count
LENGTH_IS_SAMPLES = frozenset({"wv", "ape", "tta"})  # kinds whose header has the number of samples
SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # by ffmpeg's names


class ContainerError(ValueError):
    """ffmpeg cannot decode a file; `decode` names it."""


@contextlib.contextmanager
def audio_stream(source: Source, kind: str) -> Iterator[tuple[Any, Any]]:
    """The opened container and its first audio stream.

    Raises:
        ContainerError: If there is none, or it cannot be decoded.
    """
    import av

    options = {"format_whitelist": kind}
    plain = View(source, [(0, size_of(source))])  # a damaged header can lead to before the file, which a file raises at
    try:
        with av.open(
            cast("IO[bytes]", plain), format=kind, container_options=options, metadata_errors="ignore"
        ) as container:
            if not container.streams.audio:
                raise ContainerError("it has no audio stream")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise ContainerError("its audio has a coding that is not read")
            if not stream.rate:
                raise ContainerError("its header does not say the sample rate")
            yield container, stream
    except (av.FFmpegError, EOFError, UnicodeDecodeError) as problem:
        # the whole message has the file's name and a number that only this system has
        raise ContainerError(getattr(problem, "strerror", None) or "it is damaged") from None


def container_shape(source: Source, kind: str, *, count: bool, name: object) -> tuple[int | None, int, int]:
    """Frames, rate and channels of the first audio stream.

    Args:
        source: The file.
        kind: Which of ffmpeg's readers it needs.
        count: Decode it to count its frames; they are None otherwise.
        name: What to call the file in a message.

    Raises:
        ContainerError: If it cannot be decoded.
        TruncatedAudioError: If it has fewer samples than its header says.
        UnreadableAudioError: If it does not end within reason.
    """
    with audio_stream(source, kind) as (_, stream):
        rate_hz, channels = int(stream.rate), int(stream.channels)
        promised = round(stream.duration * stream.time_base * rate_hz) if stream.duration else 0
    if not count:
        return None, rate_hz, channels
    found = 0
    for block in container_blocks(source, kind):
        found += block.shape[1]
        if found > MOST_FRAMES:
            raise UnreadableAudioError(name, f"it decodes to more than {MOST_FRAMES} samples")
    if kind in LENGTH_IS_SAMPLES and found < promised:
        raise TruncatedAudioError(name, found=found, promised=promised)
    if kind == "mov" and 0 <= found - promised < MOST_PADDING:
        found = promised
    return found, rate_hz, channels


def container_blocks(source: Source, kind: str, *, start: int = 0) -> Iterator[NDArray[np.float64]]:
    """Decodes from a frame on: what is before it is decoded and dropped, unless a seek is sure to give the same samples.

    Yields:
        Blocks, shape (channel, time), full scale at +-1.

    Raises:
        ContainerError: If it cannot be decoded, or changes its rate or channels on the way.
    """
    if kind == "mov" and start >= FAR_FRAMES:
        with audio_stream(source, kind) as (container, stream):
            start = yield from sought_blocks(container, stream, start=start)
    decoder = decoder_before(source, kind, start=start)
    try:
        while True:
            if decoder.reached > start:
                assert decoder.last is not None
                yield frame_wave(decoder.last)[:, max(0, decoder.last.samples - (decoder.reached - start)) :]
            if not decoder.advance():
                return
    except GeneratorExit:  # the stretch has ended before the file
        decoder.keep()
        raise


def sought_blocks(container: Any, stream: Any, *, start: int) -> Generator[NDArray[np.float64], None, int]:
    """Seeks in an MP4 and decodes for as long as what comes out is sure to be what a decoder gives that began at the start.

    All packets are decoded twice by one decoder. Of AAC-LC nothing but the random state of noise substitution lasts longer than two
    packets, and any noise leaves the decoder in another state: only samples without noise are the same both times.

    Yields:
        Blocks, shape (channel, time), full scale at +-1.

    Returns:
        The frame from which on that is not sure, or the stream has ended.
    """
    first = sought_packet(container, stream, start=start)
    if first is None:
        return start
    packets = itertools.takewhile(lambda packet: packet.size, container.demux(stream))
    before = list(itertools.islice(packets, EARLY_PACKETS))
    if not before or before[0].pos != first.position:
        return start
    reached, drop = start, start - first.frame
    while window := list(itertools.islice(packets, WINDOW_PACKETS)):
        once, again = (packets_wave(stream, [*before, *window]) for _ in range(2))
        if not is_aac_lc(stream) or not np.array_equal(once[:, drop:], again[:, drop:]):
            break
        yield once[:, drop:]
        reached += max(0, once.shape[1] - drop)
        if once.shape[1] != first.packet_frames * len([*before, *window]):
            break
        before = window[-EARLY_PACKETS:]
        drop = first.packet_frames * len(before)
    return reached


@dataclass(frozen=True)
class SoughtPacket:
    """The packet that a seek leads to.

    Attributes:
        position: Its offset in the file, as the index has it.
        frame: Its first frame, counted from the start of the stream.
        packet_frames: Frames of each packet.
    """

    position: int
    frame: int
    packet_frames: int


def sought_packet(container: Any, stream: Any, *, start: int) -> SoughtPacket | None:
    """Seek to a few packets before a frame, found by counting packets; None where that is not sure to be the place."""
    index = getattr(stream, "index_entries", None)  # PyAV 14 has none
    if index is None:
        return None
    head = itertools.islice(container.demux(stream), HEAD_PACKETS)
    sizes = [frame.samples for packet in head if packet.size for frame in packet.decode()]
    if not is_aac_lc(stream) or len(sizes) < 2 or sizes[-1] != sizes[-2]:
        return None
    packet_frames = sizes[-1]
    passed = (start - sum(sizes)) // packet_frames - EARLY_PACKETS
    number = HEAD_PACKETS + passed
    if not HEAD_PACKETS <= number < len(index):
        return None
    passed_time = (index[number].timestamp - index[HEAD_PACKETS].timestamp) * stream.time_base
    if passed_time * int(stream.rate) != passed * packet_frames:  # by gaps or an edit list
        return None
    container.seek(index[number].timestamp, stream=stream)
    return SoughtPacket(index[number].pos, sum(sizes) + passed * packet_frames, packet_frames)


def is_aac_lc(stream: Any) -> bool:
    """Whether a stream, as far as it was decoded, is AAC of the plain kind, whose packets have the same number of frames."""
    return (stream.codec_context.name, stream.codec_context.profile) == ("aac", "LC")


def packets_wave(stream: Any, packets: Sequence[Any]) -> NDArray[np.float64]:
    """What some packets decode to, shape (channel, time)."""
    rate_hz, channels = int(stream.rate), int(stream.channels)
    waves = [np.zeros((channels, 0))]
    for packet in packets:
        for frame in packet.decode():
            check_frame(frame, rate_hz=rate_hz, channels=channels)
            waves.append(frame_wave(frame))
    return np.concatenate(waves, axis=1)


class Decoder:
    """Decodes a stream from its start on; it can be kept for a stretch that is further on.

    Args:
        source: The file.
        kind: Which of ffmpeg's readers it needs.
        key: Of the file; None if it cannot be kept.
    """

    def __init__(self, source: Source, kind: str, key: tuple[int, ...] | None) -> None:
        self.key = key
        self.frames = checked_frames(source, kind, own=key is not None)
        self.last: Any = None
        self.reached = 0

    def advance(self) -> bool:
        """Decode a frame; False at the end."""
        self.last = next(self.frames, None)
        self.reached += self.last.samples if self.last else 0
        return self.last is not None

    def starts_before(self, start: int) -> bool:
        """Whether a frame is still to come, or is in the last block."""
        return self.last is not None and self.reached - self.last.samples <= start

    def keep(self) -> None:
        """Keep it open, in place of that which was kept longest."""
        if self.key is not None:
            KEPT.append(self)
            del KEPT[:-MOST_KEPT]


KEPT: list[Decoder] = []
"""Of this process. What a decoder gives does not depend on whether it was kept."""
atexit.register(KEPT.clear)


def decoder_before(source: Source, kind: str, *, start: int) -> Decoder:
    """The kept decoder of a file that is nearest before a frame, or a new one."""
    key = file_key(source) if start >= FAR_FRAMES else None
    fit = [one for one in KEPT if one.key == key and one.starts_before(start)]
    for nearest in sorted(fit, key=lambda one: -one.reached):
        with contextlib.suppress(ValueError):  # another thread has taken it
            KEPT.remove(nearest)
            return nearest
    if key is not None:
        own = Path(cast("io.BufferedReader", source).name).open("rb")  # noqa: SIM115 (`checked_frames` closes it)
        if file_key(own) == key:
            return Decoder(own, kind, key)
        own.close()
    return Decoder(source, kind, None)


def file_key(source: Source) -> tuple[int, ...] | None:
    """What is another when a file is replaced, written to or read by a forked process; None if it is no file of its own on a disk."""
    if not isinstance(source, io.BufferedReader) or not isinstance(source.name, str):
        return None
    found = os.fstat(source.fileno())
    return os.getpid(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def checked_frames(source: Source, kind: str, *, own: bool) -> Iterator[Any]:
    """What a stream decodes to, frame by frame.

    Args:
        source: The file.
        kind: Which of ffmpeg's readers it needs.
        own: Close the file at the end.

    Raises:
        ContainerError: If it cannot be decoded, or changes its rate or channels on the way.
    """
    with contextlib.ExitStack() as stack:
        if own:
            stack.enter_context(cast("io.BufferedReader", source))
        container, stream = stack.enter_context(audio_stream(source, kind))
        rate_hz, channels = int(stream.rate), int(stream.channels)
        for frame in container.decode(stream):
            check_frame(frame, rate_hz=rate_hz, channels=channels)
            yield frame


def check_frame(frame: Any, *, rate_hz: int, channels: int) -> None:
    """Check that a frame is whole and of the rate and channels of its stream.

    Raises:
        ContainerError: If it is not.
    """
    if frame.sample_rate != rate_hz or len(frame.layout.channels) != channels:
        raise ContainerError("it changes its rate or channels on the way")
    if frame.is_corrupt:
        raise ContainerError("it is damaged: a frame of it is not what was coded, or not all of it is there")


def frame_wave(frame: Any) -> NDArray[np.float64]:
    """A decoded frame, shape (channel, time), full scale at +-1."""
    channels = len(frame.layout.channels)
    dtype = SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    if (
        frame.format.is_planar
    ):  # `frame.to_ndarray` reads a plane too many where there are eight, from an address that is none
        planes = frame.planes[:channels]
        found = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes])
    else:
        found = np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels).T
    if found.dtype.kind == "f":
        return np.asarray(found, np.float64)
    if found.dtype == np.uint8:
        return np.asarray((found.astype(np.float64) - 128.0) / 128.0)
    return np.asarray(found.astype(np.float64) / -float(np.iinfo(found.dtype).min))
