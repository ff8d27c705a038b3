"""Where a container ends by the sizes in its own headers: beyond the end of the file if it was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.audio.errors import TruncatedAudioError
from corpus_builder.audio.formats.content import HEAD_BYTES, NEWEST_AC3, TS_PACKETS, is_transport_stream
from corpus_builder.audio.formats.views import at

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

MOST_BOXES = 100_000
TTA_HEAD_BYTES = 22
AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
AC3_RATES_HZ = (48_000, 44_100, 32_000)
AMR_BYTES = {
    "nb": (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0),
    "wb": (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0),
}  # of a frame, by its mode


def check_whole(kind: str, source: Source, size: int, *, name: object) -> None:
    """Check that what the outermost parts of a file promise is there, where the kind of container says it.

    Raises:
        TruncatedAudioError: If not.
    """
    ends = {
        "mov": boxes_end, "matroska": elements_end, "asf": asf_end, "wv": blocks_end, "tta": frames_end, "amr": speech_end,
        "mpegts": packets_end, "ac3": syncframes_end, "eac3": syncframes_end,
    }  # fmt: skip
    end = ends.get(kind)
    if end is not None and end(source, size) > size:
        raise TruncatedAudioError(name, found=0, promised=None)


def boxes_end(source: Source, size: int) -> int:
    """Where the last box of an MP4 ends by its header."""
    place = 0
    for _ in range(MOST_BOXES):
        head = at(source, place, 16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        if len(head) < 8 or length < 8 or place + length > size:
            return place + length if length >= 8 and len(head) >= 8 and head[4:8].isalnum() else size
        place += length
    return size


def elements_end(source: Source, size: int) -> int:
    """Where the last element of a Matroska file's segment ends by its header."""
    place = 0
    for _ in range(MOST_BOXES):
        head = at(source, place, 16)
        if len(head) < 2:
            return place
        id_bytes = 9 - head[0].bit_length()
        length_bytes = 9 - head[id_bytes].bit_length() if id_bytes < len(head) else 9
        if id_bytes > 4 or length_bytes > 8 or len(head) < id_bytes + length_bytes:
            return size
        unknown = (1 << (7 * length_bytes)) - 1
        length = int.from_bytes(head[id_bytes : id_bytes + length_bytes]) & unknown
        inside = head[:4] == b"\x18\x53\x80\x67" or (head[:4] == b"\x1f\x43\xb6\x75" and length == unknown)
        place += id_bytes + length_bytes
        if length == unknown and not inside:
            return size
        if inside and length != unknown and place + length > size:
            return place + length
        place += 0 if inside else length
        if place > size:
            return place
    return size


def asf_end(source: Source, size: int) -> int:
    """The size that the header of an ASF file has, if it was not written to a pipe."""
    head = at(source, 0, 4096)
    place = head.find(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65")
    if place < 0 or len(head) < place + 92 or head[place + 88] & 1:
        return size
    return int.from_bytes(head[place + 40 : place + 48], "little")


def blocks_end(source: Source, _: int) -> int:
    """Where the last block of a WavPack file ends by its header."""
    place = 0
    while (head := at(source, place, 8))[:4] == b"wvpk" and len(head) == 8:
        place += 8 + int.from_bytes(head[4:], "little")
    return place


def frames_end(source: Source, size: int) -> int:
    """Where the last frame of a TTA file ends by the table of frames in front of them."""
    head = at(source, 0, TTA_HEAD_BYTES)
    rate_hz, num_samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    frame = 256 * rate_hz // 245
    num_frames = -(-num_samples // frame) if frame else 0
    table = at(source, TTA_HEAD_BYTES, min(4 * num_frames, size))
    frames = sum(int.from_bytes(table[place : place + 4], "little") for place in range(0, len(table), 4))
    return TTA_HEAD_BYTES + 4 * num_frames + 4 + frames


def packets_end(source: Source, size: int) -> int:
    """Where the last packet of an MPEG transport stream ends."""
    packet = next(length for length in TS_PACKETS if is_transport_stream(at(source, 0, HEAD_BYTES), (length,)))
    return size + -size % packet


def syncframes_end(source: Source, size: int) -> int:
    """Where the last frame of AC-3 or Enhanced AC-3 ends by its header."""
    place = 0
    while len(head := at(source, place, 6)) == 6 and head[:2] == b"\x0b\x77":
        rate, code = head[4] >> 6, head[4] & 63
        if head[5] >> 3 > NEWEST_AC3:
            place += 2 * ((head[2] & 7) << 8 | head[3]) + 2
        elif rate < 3 and code // 2 < len(AC3_KBITS):
            words = AC3_KBITS[code // 2] * 96_000 // AC3_RATES_HZ[rate]
            place += 2 * (words + (rate == 1 and code % 2))
        else:
            return size
    return place if len(head) == 6 or place >= size else size + 1


def speech_end(source: Source, size: int) -> int:
    """Where the last frame of AMR ends by its header."""
    wide = at(source, 0, 9) == b"#!AMR-WB\n"
    place = 9 if wide else 6
    sizes = AMR_BYTES["wb" if wide else "nb"]
    while place < size:
        place += 1 + sizes[at(source, place, 1)[0] >> 3 & 15]
    return place
