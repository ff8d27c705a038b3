"""Counts the frames of AAC in ADTS by the header of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.views import at

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

HEADER_BYTES = 7
BLOCK_SAMPLES = 1024
RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


def adts_length(source: Source, start: int, end: int, *, name: object) -> tuple[int, int]:
    """Number of samples and rate of a stream, both as its headers have them: of HE-AAC a decoder gives twice as many.

    Raises:
        TruncatedAudioError: If its last frame is incomplete.
        UnreadableAudioError: If there is something else between two frames.
    """
    place, blocks, rate_hz = start, 0, 0
    while place < end:
        head = at(source, place, HEADER_BYTES)
        whole = len(head) == HEADER_BYTES
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if whole else HEADER_BYTES
        rate = head[2] >> 2 & 15 if whole else 0
        if head[:1] != b"\xff" or (len(head) > 1 and head[1] & 0xF6 != 0xF0) or size < HEADER_BYTES or rate >= 13:
            if not any(at(source, place, end - place)):
                break
            raise UnreadableAudioError(name, f"it is damaged: no frame begins at byte {place}")
        if place + size > end:
            raise TruncatedAudioError(name, found=blocks * BLOCK_SAMPLES, promised=None)
        rate_hz = rate_hz or RATES_HZ[rate]
        blocks += 1 + (head[6] & 3)
        place += size
    return blocks * BLOCK_SAMPLES, rate_hz
