"""Whether a stream of AAC in ADTS is whole, by the header of each frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.views import at

if TYPE_CHECKING:
    from corpus_builder.audio.formats.views import Source

HEADER_BYTES = 7
BLOCK_SAMPLES = 1024
MOST_PADDING = 1 << 20


def check_adts(source: Source, start: int, end: int, *, name: object) -> None:
    """Check every frame of a stream; how many samples they are, the decoder says.

    Raises:
        TruncatedAudioError: If its last frame is incomplete.
        UnreadableAudioError: If there is something else between two frames.
    """
    place, blocks = start, 0
    while place < end:
        head = at(source, place, HEADER_BYTES)
        whole = len(head) == HEADER_BYTES
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if whole else HEADER_BYTES
        if head[:1] != b"\xff" or (len(head) > 1 and head[1] & 0xF6 != 0xF0) or size < HEADER_BYTES:
            if not any(at(source, place, min(end - place, MOST_PADDING))):
                return
            raise UnreadableAudioError(name, f"it is damaged: no frame begins at byte {place}")
        if place + size > end:
            raise TruncatedAudioError(name, found=blocks * BLOCK_SAMPLES, promised=None)
        blocks += 1 + (head[6] & 3)
        place += size
