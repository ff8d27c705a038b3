"""The pages of an Ogg file: whether all of them are there, and which links it is chained from.

Ogg says how much audio there is only by the pages themselves. libsndfile reads the first link and no further, so each is read from a
view of its own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.views import at

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

MARK = b"OggS"
PAGE_BYTES = 27
LARGEST_PAGE_BYTES = PAGE_BYTES + 255 + 255 * 255
BEGINS, ENDS = 2, 4  # flags of the first and the last page of a stream
CODECS = {
    b"\x01vorbis": "vorbis", b"OpusHead": "opus", b"\x7fFLAC": "flac", b"Speex   ": "speex",
}  # fmt: skip
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class Link:
    """One link of a chain: the streams that begin together.

    Attributes:
        start: Offset of its first page.
        end: Offset after its last.
        codecs: Of its streams, in order; empty for one that is not known.
        granule: Of its last page with a number of samples.
    """

    start: int
    end: int
    codecs: list[str]
    granule: int = 0
    has_audio: bool = False


def ogg_links(source: Source, start: int, end: int, *, name: object) -> list[Link]:
    """Every link of an Ogg file; about 10 microseconds a page.

    Args:
        source: The file.
        start: Where its first page begins.
        end: Where it ends.
        name: What to call it in a message.

    Raises:
        TruncatedAudioError: If its last page is incomplete.
        UnreadableAudioError: If a page is damaged.
    """
    links: list[Link] = []
    place, flags, skipped = start, 0, 0
    numbers: dict[bytes, int] = {}  # of the last page of each stream
    while place < end:
        page = at(source, place, PAGE_BYTES + 255)
        if page[:4] != MARK[: len(page)]:
            if flags & ENDS:
                break  # a tag, or junk, after the end of the stream
            after = next_page(source, place, end)
            if after is None:
                raise UnreadableAudioError(name, f"it is damaged: no Ogg page begins at byte {place}")
            skipped, place = place, after
            continue
        head = PAGE_BYTES + page[26] if len(page) >= PAGE_BYTES else PAGE_BYTES
        body = sum(page[PAGE_BYTES:head])
        granule = int.from_bytes(page[6:14], "little", signed=True) if len(page) >= PAGE_BYTES else 0
        if len(page) < head or place + head + body > end:
            raise TruncatedAudioError(name, found=links[-1].granule if links else 0, promised=None)
        content = at(source, place + head, body)
        if page_crc(page[:22] + bytes(4) + page[26:head] + content) != page[22:26]:
            raise UnreadableAudioError(name, f"it is damaged: the Ogg page at byte {place} is not what was written")
        flags, stream, number = page[5], page[14:18], int.from_bytes(page[18:22], "little")
        if skipped and number != numbers.get(stream, -1) + 1:
            raise UnreadableAudioError(
                name, f"it is damaged: no Ogg page begins at byte {skipped}, and pages are missing"
            )
        numbers[stream], skipped = number, 0
        if flags & BEGINS:
            if not links or links[-1].has_audio:
                links.append(Link(place, place, []))
            links[-1].codecs.append(next((codec for mark, codec in CODECS.items() if content.startswith(mark)), ""))
        elif links:
            links[-1].has_audio = True
            links[-1].granule = max(links[-1].granule, granule)
        else:
            raise UnreadableAudioError(name, "its first Ogg page does not begin a stream")
        place += head + body
        links[-1].end = place
    return links


def next_page(source: Source, place: int, end: int) -> int | None:
    """Where the next page begins after something that is none, as far as a page can be long; None if there is none."""
    found = at(source, place, min(LARGEST_PAGE_BYTES, end - place)).find(MARK)
    return None if found < 0 else place + found


def page_crc(page: bytes) -> bytes:
    """The checksum of a page whose own is zeros: zlib's, with bits in the other order and without its inversions."""
    value = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return value.to_bytes(4, "little").translate(REVERSED)[::-1]
