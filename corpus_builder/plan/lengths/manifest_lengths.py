"""Utterances of a manifest that end after their file does, which are found by the files' headers before anything is drawn.

Manifests are often a little longer than their files: durations were rounded, estimated from a lossy file, or taken before it was coded
again. lhotse accepts up to half a second and invents the missing samples; here such an utterance ends where its file does.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from corpus_builder.audio.decode import Header, read_header
from corpus_builder.audio.errors import TruncatedAudioError, UnfitAudioError
from corpus_builder.audio.formats.chunks import PLAIN_HEAD, pcm_header
from corpus_builder.audio.tar_members import MARK, member_of
from corpus_builder.sources.utterance import Refused, Utterance
from manifests.errors import BadTarError
from manifests.io.progress import Progress
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.plan.materials.utterance_store import UtteranceStore
    from manifests.io.place import Place

TOLERANCE_S = 0.5
REQUESTS = 16
BATCH = 1024


def fitted_to_files(store: UtteranceStore, *, progress: bool) -> Iterator[tuple[int, Utterance, Utterance | Refused]]:
    """Every utterance that ends after its file: its index, how it was, and how it is used; about 0.02 ms an utterance of WAV or FLAC.

    Of a member of a tar only its header is read, as of a file; a file behind a URL is one or two requests, 16 at once. A file that cannot
    be opened or has another rate is left to rendering, which says why.
    """
    folder = store.finder.folder
    indexes = sorted(store.order.tolist())  # as the manifest has them: cuts of one recording follow each other
    known: dict[str, Header | None] = {}
    with (
        Progress(f"comparing {store.split}", total=len(store), unit="utterances", shown=progress) as display,
        ThreadPoolExecutor(REQUESTS) as requests,
    ):
        for first in range(0, len(indexes), BATCH):
            batch = [(index, store.talker(index)) for index in indexes[first : first + BATCH]]
            if isinstance(folder, Url):
                places = {stored.path: folder / stored.path for _, stored in batch if stored.path not in known}
                known = known | dict(zip(places, requests.map(header_at, places.values()), strict=True))
            for index, stored in batch:
                was, place = stored.utterance, f"{folder}/{stored.path}"
                end = round(was.start_s * was.rate_hz) + was.num_frames
                if isinstance(folder, Url) or not is_surely_long_enough(place, num_frames=end, rate_hz=was.rate_hz):
                    if stored.path not in known:
                        known = {stored.path: header_at(place)}
                    header = known[stored.path]
                    if header is not None and header.rate_hz == was.rate_hz and header.num_frames < end:
                        yield index, was, fitted(stored.path, was, num_frames=header.num_frames, end=end)
                display.advance(1)
            known = {stored.path: known[stored.path] for _, stored in batch[-1:] if stored.path in known}


def is_surely_long_enough(place: str, *, num_frames: int, rate_hz: int) -> bool:
    """Whether the first 44 bytes of a FLAC or of a plain PCM WAV say so, in a fifth of the time that a decoder needs to open it."""
    try:
        member = member_of(place) if MARK in place else None
        start, size = (0, None) if member is None else member.span()
        path = place if member is None else member.tar
        stream = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would be waited for
    except (OSError, BadTarError):
        return False
    try:
        head = os.pread(stream, PLAIN_HEAD, start)
        size = os.fstat(stream).st_size if size is None else size
    except OSError:  # a folder
        return False
    finally:
        os.close(stream)
    if len(head) < PLAIN_HEAD:
        return False
    if head.startswith(
        (b"fLaC\x00", b"fLaC\x80")
    ):  # the first 20 of 64 bits are the rate, the last 36 the number of frames
        numbers = int.from_bytes(head[18:26], "big")
        return numbers >> 44 == rate_hz and numbers & 0xFFFFFFFFF >= num_frames
    pcm = pcm_header(head)
    if pcm is None or pcm.rate_hz != rate_hz:
        return False
    return min(pcm.num_bytes, size - PLAIN_HEAD) >= num_frames * pcm.frame_bytes > 0


def header_at(place: Place | str) -> Header | None:
    """A file's header; None if it cannot be read."""
    try:
        return read_header(place, name=place)
    except (UnfitAudioError, BadTarError, OSError):
        return None


def fitted(path: str, utterance: Utterance, *, num_frames: int, end: int) -> Utterance | Refused:
    """An utterance up to the end of its file, or why that is too far from what its manifest says."""
    left = utterance.num_frames - (end - num_frames)
    if left < 1 or end - num_frames > TOLERANCE_S * utterance.rate_hz:
        return Refused(utterance.id, str(TruncatedAudioError(path, found=num_frames, promised=end)))
    return replace(utterance, num_frames=left)
