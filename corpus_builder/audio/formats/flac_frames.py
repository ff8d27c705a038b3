"""Counts the samples of FLAC by the header of its last frame, which holds the number of its first sample.

What STREAMINFO says of the length may be 0 (legal: written to a pipe), or wrong. A file that was cut off fails the CRC-16 of its last
frame.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.views import View, at, patched

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

MARKER_BYTES = 4
INFO_BYTES = 34
LENGTH_AT, MD5_AT = 13, 18  # in STREAMINFO: 4 bits and 4 bytes of length, then the MD5 of the samples
TAIL_BYTES = 1 << 14
LARGEST_TAIL_BYTES = 1 << 21  # the largest frame: 65535 samples of 8 channels, 32 bits each
LONGEST_HEADER = 16
BLOCK_SIZES = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 256 << (code - 8) for code in range(8, 16)},
}
MD5_STEP = 1 << 18
SECOND = b"fLaC\0\0\0\x22"
SCANNED_BYTES = 1 << 20


class StreamInfo(NamedTuple):
    """What STREAMINFO says, and its offset in the file."""

    offset: int
    block_size: int
    largest_frame: int
    rate_hz: int
    num_channels: int
    bits: int
    num_samples: int
    md5: bytes


class LastFrame(NamedTuple):
    """A frame's offset in the file, its first sample, and how many it has."""

    offset: int
    start: int
    num_samples: int


def stream_info(source: Source, start: int) -> StreamInfo | None:
    """STREAMINFO of the stream that begins at an offset; None if it is not where it has to be."""
    head = at(source, start, MARKER_BYTES + 4 + INFO_BYTES)
    if len(head) < MARKER_BYTES + 4 + INFO_BYTES or head[4] & 0x7F != 0:
        return None
    info = head[8:]
    numbers = int.from_bytes(info[10:18])
    return StreamInfo(
        offset=start + 8,
        block_size=int.from_bytes(info[2:4]),
        largest_frame=int.from_bytes(info[7:10]),
        rate_hz=numbers >> 44,
        num_channels=(numbers >> 41 & 7) + 1,
        bits=(numbers >> 36 & 31) + 1,
        num_samples=numbers & 0xFFFFFFFFF,
        md5=info[MD5_AT : MD5_AT + 16],
    )


def flac_view(source: Source, info: StreamInfo, end: int, *, name: object, quick: bool) -> View | None:
    """A FLAC file with its true length in STREAMINFO; None if it has that already.

    Args:
        source: The file.
        info: Its STREAMINFO.
        end: Where it ends, before tags.
        name: What to call the file in a message.
        quick: Read only its ends, where its STREAMINFO agrees with its last frame.

    Raises:
        TruncatedAudioError: If its last frame is incomplete, or it ends before its STREAMINFO says and the MD5 agrees with that.
        UnreadableAudioError: If it cannot be decoded, or is several files.
    """
    last = last_frame(source, info, end)
    if not quick or last is None or last.start + last.num_samples != info.num_samples:
        refuse_joined(source, info, end, name=name)
    if last is None:
        if info.num_samples:
            raise TruncatedAudioError(name, found=0, promised=info.num_samples)
        return None
    found = last.start + last.num_samples
    if not is_whole(at(source, last.offset, end - last.offset)):
        if found == info.num_samples and decodes(source, last):
            return None  # something that is no tag follows it
        raise TruncatedAudioError(name, found=last.start, promised=max(info.num_samples, found))
    if found == info.num_samples:
        return None
    new = bytes(((at(source, info.offset + LENGTH_AT, 1)[0] & 0xF0) | found >> 32,)) + (found & 0xFFFFFFFF).to_bytes(4)
    view = patched(source, info.offset + LENGTH_AT, new, size=end)
    if found < info.num_samples and any(info.md5):
        view.seek(0)
        if (
            info.bits % 8 or info.bits == 32 or samples_md5(view, info, name=name) != info.md5
        ):  # libsndfile reads no other
            raise TruncatedAudioError(name, found=found, promised=info.num_samples)
    return view


def refuse_joined(source: Source, info: StreamInfo, end: int, *, name: object) -> None:
    """Refuse FLAC files that were joined, of which decoders read the first and some frames of the others.

    Raises:
        UnreadableAudioError: If there is another file behind the first.
    """
    for begin in range(info.offset, end, SCANNED_BYTES):
        block = at(source, begin, min(SCANNED_BYTES + len(SECOND), end - begin))
        if SECOND in block:
            raise UnreadableAudioError(
                name, "it is several FLAC files, joined: split them, or decode and join the samples"
            )


def last_frame(source: Source, info: StreamInfo, end: int) -> LastFrame | None:
    """The last frame's header, found from the end."""
    size = info.largest_frame or TAIL_BYTES
    while True:
        begin = max(info.offset + INFO_BYTES, end - size)
        tail = at(source, begin, end - begin)
        place = tail.rfind(b"\xff")
        while place >= 0:
            frame = frame_header(tail[place : place + LONGEST_HEADER], info)
            if frame is not None:
                return LastFrame(begin + place, *frame)
            place = tail.rfind(b"\xff", 0, place)
        if begin == info.offset + INFO_BYTES or size >= LARGEST_TAIL_BYTES:
            return None
        size = LARGEST_TAIL_BYTES


def frame_header(head: bytes, info: StreamInfo) -> tuple[int, int] | None:
    """First sample and number of samples of a frame; None if these bytes are not its header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15:
        return None
    channels = head[3] >> 4
    if (channels + 1 if channels < 8 else 2) != info.num_channels or channels > 10:
        return None
    number, place = coded_number(head)
    if number is None:
        return None
    code = head[2] >> 4
    extra = {6: 1, 7: 2}.get(code, 0)
    num_samples = int.from_bytes(head[place : place + extra]) + 1 if extra else BLOCK_SIZES[code]
    place += extra + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= place or crc8(head[:place]) != head[place]:
        return None
    return (number if head[1] & 1 else number * info.block_size), num_samples


def coded_number(head: bytes) -> tuple[int | None, int]:
    """The number in a frame's header, coded as UTF-8 codes a character, and the offset after it."""
    first = head[4]
    if first < 0x80:
        return first, 5
    length = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= length <= 7 or len(head) < 4 + length:
        return None, 4
    number = first & ((1 << (7 - length)) - 1)
    for byte in head[5 : 4 + length]:
        if byte & 0xC0 != 0x80:
            return None, 4
        number = number << 6 | byte & 0x3F
    return number, 4 + length


@cache
def crc8_table() -> tuple[int, ...]:
    """The remainder of each byte by x^8 + x^2 + x + 1."""
    table = list(range(256))
    for _ in range(8):
        table = [(value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF for value in table]
    return tuple(table)


def crc8(content: bytes) -> int:
    """CRC-8 of a frame's header."""
    table, value = crc8_table(), 0
    for byte in content:
        value = table[value ^ byte]
    return value


def is_whole(frame: bytes) -> bool:
    """Whether a frame ends with its own CRC-16, so that it is a multiple of x^16 + x^15 + x^2 + 1 = (x + 1)(x^15 + x + 1).

    Of the first factor its number of ones tells. Of the second x^15n = x^n + 1 for any n that is a power of 2, by which the upper part
    of the frame is folded into the lower one, half of it at a time: 5 nanoseconds a byte, by Python's own integers.
    """
    value = int.from_bytes(frame)
    if value.bit_count() % 2:
        return False
    n = 1 << (value.bit_length() // 15).bit_length()
    while n:
        while upper := value >> 15 * n:
            value ^= upper << 15 * n ^ upper << n ^ upper
        n >>= 1
    return value == 0


def decodes(source: Source, last: LastFrame) -> bool:
    """Whether libsndfile decodes the last frame."""
    source.seek(0)
    try:
        with soundfile.SoundFile(source) as stream:
            stream.seek(last.start)
            return bool(stream.read(last.num_samples, dtype="float32").shape[0] == last.num_samples)
    except (soundfile.LibsndfileError, RuntimeError):
        return False


def samples_md5(view: View, info: StreamInfo, *, name: object) -> bytes:
    """MD5 of the decoded samples, as STREAMINFO has it: little-endian integers, channels interleaved."""
    state = hashlib.md5(usedforsecurity=False)
    try:
        with soundfile.SoundFile(view) as stream:
            while (block := stream.read(MD5_STEP, dtype="int32", always_2d=True)).size:
                whole = (block >> (32 - info.bits)).astype("<i4").view(np.uint8).reshape(-1, 4)
                state.update(np.ascontiguousarray(whole[:, : info.bits // 8]).tobytes())
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise UnreadableAudioError(name, getattr(problem, "error_string", problem)) from None
    return state.digest()
