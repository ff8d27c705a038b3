"""Where the samples of WAV and its relatives are, and how many bytes of them the header promises.

Writers to a pipe leave a size that says nothing: 0, or one near 2 or 4 GB. libsndfile reads to the end of the file where there is less
than promised, and tells of it only for WAV.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from corpus_builder.audio.formats.views import at, patched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.audio.formats.content import ChunkContent
    from corpus_builder.audio.formats.views import Source, View

Order: TypeAlias = Literal["little", "big"]

MOST_CHUNKS = 1000
STREAMED_BYTES = 0x7FFF0000  # writers to a pipe leave a size like this in the header
ROUND_BYTES = 1_990_000_000  # or one from here on, of which there is less than half
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
W64_HEAD = 24
PLAIN_HEAD = 44
MPEG_TAGS = frozenset({0x50, 0x55})


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a file by its header.

    Attributes:
        start: Offset of the first.
        promised: Bytes of them; None if the header does not say.
        size_at: Offset of that number in the file.
        size_bytes: Its width.
        order: Its order of bytes.
        more: What the number counts besides the samples.
        wave_format: WAV's number for the coding; 0 elsewhere.
    """

    start: int
    promised: int | None
    size_at: int = 0
    size_bytes: int = 4
    order: Order = "little"
    more: int = 0
    wave_format: int = 0

    def says_nothing(self, size: int) -> bool:
        """Whether the promise is one that writers to a pipe leave, in a file of `size` bytes."""
        if self.promised is None or self.promised >= STREAMED_BYTES:
            return True
        return self.promised >= ROUND_BYTES and 2 * (size - self.start) < self.promised

    def missing(self, size: int) -> int:
        """How many bytes are promised beyond the end of the file."""
        if self.promised is None or self.says_nothing(size):
            return 0
        return max(0, self.start + self.promised - size)


def samples_of(content: ChunkContent, source: Source, head: bytes, size: int) -> Samples | None:
    """The samples of a file of one of these formats; None if its header is not understood, which libsndfile then judges."""
    try:
        match content:
            case "wav":
                found = wav_samples(source, head, size)
            case "w64":
                found = w64_samples(source, size)
            case "aiff":
                found = aiff_samples(source, size)
            case "au":
                found = au_samples(head)
            case "sphere":
                found = sphere_samples(source, head)
            case "caf":
                found = caf_samples(source, size)
    except (IndexError, ValueError):
        return None
    return found


def corrected(found: Samples, source: Source, size: int) -> View | None:
    """A file whose header says 0, or nothing, and that has samples, with their number in it; None for any other."""
    there = size - found.start
    if found.promised != 0 and not (found.says_nothing(size) and (found.promised is None or found.promised > there)):
        return None
    if there <= 0 or found.size_at == 0 or (there + found.more) >> (8 * found.size_bytes):
        return None
    if found.promised == 0 and only_chunks(found, source, size):
        return None  # there are none: what follows is not samples
    new = (there + found.more).to_bytes(found.size_bytes, found.order)
    return patched(source, found.size_at, new, size=size)


def only_chunks(found: Samples, source: Source, size: int) -> bool:
    """Whether named chunks, and nothing else, follow from where the samples begin up to the end of the file."""
    place = found.start
    width = found.size_bytes if found.order == "big" else 4  # only CAF's chunks have 8 bytes of size, and no padding
    for _ in range(MOST_CHUNKS):
        head = at(source, place, 4 + width)
        if len(head) < 4 + width or not re.fullmatch(rb"[A-Za-z][A-Za-z0-9 _]{3}", head[:4]):
            return False
        chunk = int.from_bytes(head[4:], found.order)
        place += 4 + width + chunk + (chunk % 2 if width == 4 else 0)
        if place >= size:
            return place <= size + 1
    return False


def riff_chunks(source: Source, size: int, order: Order) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size of each chunk after the first twelve bytes."""
    place = 12
    for _ in range(MOST_CHUNKS):
        head = at(source, place, 8)
        if len(head) < 8:
            return
        chunk = int.from_bytes(head[4:8], order)
        yield head[:4], place + 8, chunk
        place += 8 + chunk + chunk % 2
        if place >= size:
            return


def wav_samples(source: Source, head: bytes, size: int) -> Samples | None:
    """RIFF, RIFX and RF64 or BW64, whose 64-bit size is in a chunk of its own."""
    order: Order = "big" if head[:4] == b"RIFX" else "little"
    wide: Samples | None = None
    wave_format = 0
    for name, start, chunk in riff_chunks(source, size, order):
        if name == b"fmt ":
            wave_format = int.from_bytes(at(source, start, 2), order)
        elif name == b"ds64" and head[:4] in {b"RF64", b"BW64"}:
            promised = int.from_bytes(at(source, start + 8, 8), "little")
            wide = Samples(0, promised, start + 8, 8)
        elif name == b"data":
            if wide is not None and chunk == 0xFFFFFFFF:
                return Samples(start, wide.promised, wide.size_at, 8, wave_format=wave_format)
            return Samples(start, chunk, start - 4, 4, order, wave_format=wave_format)
    return None


class PcmHeader(NamedTuple):
    """The header of a WAV of PCM whose samples begin right after it, at byte 44."""

    num_channels: int
    rate_hz: int
    bytes_per_s: int
    frame_bytes: int
    bits: int
    num_bytes: int


def pcm_header(head: bytes) -> PcmHeader | None:
    """The shortest header that a WAV can have; None for any other file."""
    if len(head) < PLAIN_HEAD or head[:4] + head[8:22] + head[36:40] != b"RIFFWAVEfmt \x10\0\0\0\1\0data":
        return None
    return PcmHeader(*struct.unpack("<HIIHHxxxxI", head[22:PLAIN_HEAD]))


def plain_wav(head: bytes, size: int) -> tuple[int, int, int] | None:
    """Frames, rate and channels of 16-bit PCM behind the shortest header of WAV, all of whose bytes are there; None for any other file."""
    found = pcm_header(head)
    if found is None or found.bits != 16 or found.frame_bytes != 2 * found.num_channels:
        return None
    if not 0 < found.frame_bytes <= found.num_bytes <= size - PLAIN_HEAD or found.num_bytes >= STREAMED_BYTES:
        return None
    return found.num_bytes // found.frame_bytes, found.rate_hz, found.num_channels


def w64_samples(source: Source, size: int) -> Samples | None:
    """Sony's Wave64: names of 16 bytes, sizes of 8 that count both, at multiples of 8."""
    place = 40
    for _ in range(MOST_CHUNKS):
        chunk = at(source, place, W64_HEAD)
        length = int.from_bytes(chunk[16:], "little")
        if chunk[:16] == W64_DATA:
            return Samples(place + W64_HEAD, max(0, length - W64_HEAD), place + 16, 8, more=W64_HEAD)
        if length < W64_HEAD or place >= size:
            return None
        place += length + -length % 8
    return None


def aiff_samples(source: Source, size: int) -> Samples | None:
    """AIFF and AIFF-C; the samples begin after an offset and a block size."""
    for name, start, chunk in riff_chunks(source, size, "big"):
        if name == b"SSND":
            offset = int.from_bytes(at(source, start, 4))
            return Samples(start + 8 + offset, max(0, chunk - 8 - offset), start - 4, 4, "big", more=8 + offset)
    return None


def au_samples(head: bytes) -> Samples | None:
    """Sun's AU, of either order of bytes; all ones mean that the size is not known."""
    order: Order = "little" if head[:4] == b"dns." else "big"
    start, promised = (int.from_bytes(head[place : place + 4], order) for place in (4, 8))
    return Samples(start, None if promised == 0xFFFFFFFF else promised, 8, 4, order)


def sphere_samples(source: Source, head: bytes) -> Samples | None:
    """NIST SPHERE: a header of text. What is compressed takes fewer bytes than it promises."""
    start = int(head[8:16])
    fields = dict(re.findall(rb"^(\S+) -\S+ (.+?)\s*$", at(source, 16, start - 16), re.MULTILINE))
    if b"," in fields.get(b"sample_coding", b"") or b"sample_count" not in fields:
        return Samples(start, None)
    width = int(fields.get(b"sample_n_bytes", b"1")) * int(fields.get(b"channel_count", b"1"))
    return Samples(start, int(fields[b"sample_count"]) * width)


def caf_samples(source: Source, size: int) -> Samples | None:
    """Apple's Core Audio Format; a size of -1 means to the end of the file."""
    place = 8
    for _ in range(MOST_CHUNKS):
        chunk = at(source, place, 12)
        length = int.from_bytes(chunk[4:], signed=True)
        if chunk[:4] == b"data":
            return Samples(place + 16, max(0, length - 4), place + 4, 8, "big", more=4)
        place += 12 + max(0, length)
        if place >= size:
            return None
    return None
