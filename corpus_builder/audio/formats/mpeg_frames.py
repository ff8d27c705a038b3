"""Counts the samples of MPEG audio (layers I to III) by the header of every frame.

What MP3 writes of its own length (Xing, Info, VBRI) is optional, and a guess where files were cut or joined. A file is one or more
*parts*, each as an encoder wrote it: a part begins with such a header, or is all there is.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from corpus_builder.audio.errors import ChannelError, TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.tags import tag_size
from corpus_builder.audio.formats.views import at

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # by generation (MPEG-2.5 is as MPEG-2) and layer
RATES_HZ = (44_100, 48_000, 32_000)
DECODER_DELAY = 529  # samples that a decoder is late by, in which an encoder's delay and padding are counted from
MOST_JUNK = 1 << 20
WINDOW = 1 << 16
HEADER_TAIL = 192  # of a frame: enough for Xing's header with LAME's fields
CONFIRMED_BY = 2  # frames that follow, until a sync word counts as the first


class Shape(NamedTuple):
    """What a frame's header says."""

    size: int
    num_samples: int
    rate_hz: int
    num_channels: int
    layer: int
    generation: int
    side_bytes: int


@dataclass
class Part:
    """Frames that one encoder wrote.

    Attributes:
        first: Number of its first frame of audio.
        end: Number of the frame after its last.
        promised: Number of frames by its header; 0 if that says nothing.
        delay: Encoder's delay in samples, by its header; None if that does not say it.
        padding: Samples that the encoder added at the end.
    """

    first: int
    end: int = 0
    promised: int = 0
    delay: int | None = None
    padding: int = 0

    def span(self, samples_a_frame: int) -> tuple[int, int]:
        """First sample and the one after the last, of those that the frames decode to: without delay and padding, as libsndfile has it."""
        whole = (self.end - self.first) * samples_a_frame
        if not self.promised or self.delay is None:
            return 0, whole
        start = min(self.delay + DECODER_DELAY, whole)
        return start, max(start, min(whole, whole - self.padding + DECODER_DELAY))


@dataclass
class Frames:
    """Every frame of a stream.

    Attributes:
        shape: Of the first frame.
        offsets: Of each frame in the file.
        sizes: Of each frame in bytes.
        parts: In order; without those that have no sample.
    """

    shape: Shape
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    parts: list[Part] = field(default_factory=list)

    @property
    def num_samples(self) -> int:
        """Samples a channel of all parts."""
        spans = (part.span(self.shape.num_samples) for part in self.parts)
        return sum(end - start for start, end in spans)


@lru_cache(maxsize=4096)
def shape_of(head: bytes) -> Shape | None:
    """What the four bytes of a frame's header say; None if they are none, or of a free format, whose size they do not tell."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in {0, 15} or rate == 3:
        return None
    generation = 1 if version == 3 else 2
    rate_hz = RATES_HZ[rate] // (1 if version == 3 else 2 if version == 2 else 4)
    kbits = KBITS[generation, layer][bits - 1]
    channels = 1 if head[3] >> 6 == 3 else 2
    if layer == 1:
        return Shape((12_000 * kbits // rate_hz + padding) * 4, 384, rate_hz, channels, 1, generation, 0)
    halved = layer == 3 and generation == 2
    side = {(1, 1): 17, (1, 2): 32, (2, 1): 9, (2, 2): 17}[generation, channels]
    size = (72_000 if halved else 144_000) * kbits // rate_hz + padding
    return Shape(size, 576 if halved else 1152, rate_hz, channels, layer, generation, side)


def alike(one: Shape, other: Shape) -> bool:
    """Whether two frames can be of one stream."""
    return one[2] == other[2] and one[4:6] == other[4:6]


def mpeg_frames(source: Source, start: int, end: int, *, name: object) -> Frames:
    """Find every frame of a stream; about a microsecond a frame.

    Args:
        source: The file.
        start: Where the stream begins; junk and tags before the first frame are passed over.
        end: Where it ends, without tags.
        name: What to call the file in a message.

    Raises:
        UnreadableAudioError: If there is no frame, or something else between two.
        TruncatedAudioError: If the last frame is incomplete, or a header promises more frames.
        ChannelError: If the number of channels changes on the way.
    """
    place = first_frame(source, start, min(end, start + MOST_JUNK), end)
    first = None if place is None else shape_of(at(source, place, 4))
    head = at(source, start, 4)
    if place != start and len(head) == 4 and head[2] < 0x10 and shape_of(head[:2] + bytes((head[2] | 0x10, head[3]))):
        raise UnreadableAudioError(name, "it is of a free format, whose bit rate no header says: write it anew")
    if place is None or first is None:
        raise UnreadableAudioError(name, "it has no frame of MPEG audio")
    found = Frames(first)
    fresh = True  # the next frame begins a part, whatever it holds
    while place + 4 <= end:
        frame = at(source, place, HEADER_TAIL)
        shape = shape_of(frame[:4])
        if shape is None or not alike(shape, first):
            after = after_tag(frame, place)
            if after is None and frame[0] == 0:
                after = place + len(frame) - len(frame.lstrip(b"\0"))
            if after is None:
                after = resynchronised(source, place, end, first, name=name)
            if after is None:
                break
            place, fresh = after, True
            continue
        if shape.num_channels != first.num_channels:
            raise ChannelError(name, "changes its number of channels on the way")
        if place + shape.size > end:
            told = found.parts[-1].promised * first.num_samples if found.parts else 0
            raise TruncatedAudioError(name, found=len(found.offsets) * first.num_samples, promised=told or None)
        part = own_header(frame, shape, first=len(found.offsets)) if shape.layer == 3 else None
        if part is not None:
            found.parts.append(part)
        else:
            if not found.parts or (fresh and found.parts[-1].first < len(found.offsets)):
                found.parts.append(Part(len(found.offsets)))
            found.offsets.append(place)
            found.sizes.append(shape.size)
            found.parts[-1].end = len(found.offsets)
        fresh = False
        place += shape.size
    check_promises(found, name=name)
    found.parts = [part for part in found.parts if part.end > part.first]
    return found


def check_promises(found: Frames, *, name: object) -> None:
    """Compare the number of frames in each part's header with those that were found; some encoders count the header as one.

    Raises:
        TruncatedAudioError: If a header promises more.
    """
    for part in found.parts:
        there = max(part.end - part.first, 0)
        if part.promised > there + 1:
            before, a_frame = part.first * found.shape.num_samples, found.shape.num_samples
            raise TruncatedAudioError(name, found=before + there * a_frame, promised=before + part.promised * a_frame)


def own_header(frame: bytes, shape: Shape, *, first: int) -> Part | None:
    """The part that a frame begins which holds Xing's, LAME's or Fraunhofer's header instead of audio; None for audio."""
    place = 4 + shape.side_bytes
    if frame[36:40] == b"VBRI":  # which has no delay that decoders know
        return Part(first, first, promised=int.from_bytes(frame[50:54]))
    if frame[place : place + 4] not in {b"Xing", b"Info"} or any(frame[6:place]):
        return None
    (flags,) = struct.unpack_from(">I", frame, place + 4)
    part = Part(first, first, delay=0)
    place += 8
    if flags & 1:
        part.promised = int.from_bytes(frame[place : place + 4])
    place += sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    if len(frame) >= place + 24 and frame[place]:
        delays = int.from_bytes(frame[place + 21 : place + 24])
        part.delay, part.padding = delays >> 12, delays & 0xFFF
    return part


def after_tag(frame: bytes, place: int) -> int | None:
    """The offset after a tag between two frames; None if there is something else."""
    if size := tag_size(frame):
        return place + size
    if frame.startswith(b"TAG"):
        return place + 128
    if frame.startswith(b"APETAGEX"):
        return place + 32 + int.from_bytes(frame[12:16], "little")
    return None


def resynchronised(source: Source, place: int, end: int, first: Shape, *, name: object) -> int | None:
    """The next part after something that is no frame; None if only junk follows.

    Raises:
        UnreadableAudioError: If frames follow that belong to the part before: some of it is lost.
    """
    after = first_frame(source, place + 1, end, end, like=first)
    if after is None:
        return None
    frame = at(source, after, HEADER_TAIL)
    shape = shape_of(frame[:4])
    assert shape is not None
    if own_header(frame, shape, first=0) is None:
        raise UnreadableAudioError(
            name, f"it is damaged: {after - place} bytes from byte {place} on belong to no frame"
        )
    return after


def first_frame(source: Source, start: int, last: int, end: int, *, like: Shape | None = None) -> int | None:
    """The first offset from `start` up to `last` where several frames follow each other; None if there is none."""
    for window in range(start, last, WINDOW):
        block = at(source, window, min(WINDOW + 3, end - window))
        place = block.find(b"\xff")
        while 0 <= place < WINDOW and window + place < last:
            shape = shape_of(block[place : place + 4])
            if shape is not None and (like is None or alike(shape, like)) and confirmed(source, window + place, end):
                return window + place
            place = block.find(b"\xff", place + 1)
    return None


def confirmed(source: Source, place: int, end: int) -> bool:
    """Whether frames, or the end of the file or a tag, follow where a frame's header says."""
    head = at(source, place, HEADER_TAIL)
    first = shape_of(head[:4])
    assert first is not None
    if first.layer == 3 and own_header(head, first, first=0) is not None:
        return True
    shape: Shape | None = first
    for following_frames in range(CONFIRMED_BY):
        assert shape is not None
        place += shape.size
        following = at(source, place, HEADER_TAIL)
        if place > end:
            return following_frames > 0
        if place == end or after_tag(following, place) is not None or not any(following):
            return True
        shape = shape_of(following[:4])
        if shape is None or not alike(shape, first):
            return False
    return True
