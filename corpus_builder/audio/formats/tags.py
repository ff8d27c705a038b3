"""Tags before and after a stream: ID3, APE, Lyrics3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.audio.formats.views import at

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

ID3V1_BYTES = 128
APE_BYTES = 32
APE_HAS_HEADER = 1 << 31
MOST_TAGS = 16


def tag_size(head: bytes) -> int:
    """Size of the ID3v2 tag that these bytes begin; 0 if it is none."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] == 0xFF or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return size + (20 if head[5] & 0x10 else 10)


def stream_start(source: Source, head: bytes) -> int:
    """Offset after the ID3v2 tags that a file begins with."""
    place = 0
    for _ in range(MOST_TAGS):
        size = tag_size(head if not place else at(source, place, 10))
        if not size:
            break
        place += size
    return place


def stream_end(source: Source, start: int, size: int) -> int:
    """Offset of the tags that a file ends with; its size if there are none."""
    end = size
    for _ in range(MOST_TAGS):
        tail = at(source, max(start, end - ID3V1_BYTES), ID3V1_BYTES)
        if len(tail) == ID3V1_BYTES and tail[:3] == b"TAG":
            end -= ID3V1_BYTES
        elif tail[-APE_BYTES:-24] == b"APETAGEX":
            footer = tail[-APE_BYTES:]
            has_header = int.from_bytes(footer[20:24], "little") & APE_HAS_HEADER
            end -= int.from_bytes(footer[12:16], "little") + (APE_BYTES if has_header else 0)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            end -= int(tail[-15:-9]) + 15
        else:
            break
    return max(start, end)
