"""Utterances of a manifest that end after their file does, which are found by the files' headers before anything is drawn.

Manifests are often a little longer than their files: durations were rounded, estimated from a lossy file, or taken before it was coded
again. lhotse accepts up to half a second and invents the missing samples; here such an utterance ends where its file does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from corpus_builder.audio.decode import read_header
from corpus_builder.audio.errors import TruncatedAudioError, UnfitAudioError
from corpus_builder.audio.tar_members import MARK
from corpus_builder.sources.utterance import Refused, Utterance
from manifests.io.progress import Progress
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.plan.materials.utterance_store import UtteranceStore
    from manifests.io.place import Place

TOLERANCE_S = 0.5


def fitted_to_files(store: UtteranceStore, *, progress: bool) -> Iterator[tuple[int, Utterance, Utterance | Refused]]:
    """Every utterance that ends after its file: its index, how it was, and how it is used; about 0.1 ms an utterance.

    A file that cannot be opened or has another rate is left to rendering, which says why. Files behind a URL and members of tars are not
    looked at: each would be a request, or be read whole.
    """
    if isinstance(store.finder.folder, Url):
        return
    last: tuple[str, int | None] = "", None
    with Progress(f"comparing {store.split}", total=len(store), unit="utterances", shown=progress) as display:
        for index in sorted(store.order.tolist()):  # as the manifest has them: cuts of one recording follow each other
            stored = store.talker(index)
            was = stored.utterance
            if MARK not in stored.path:
                if stored.path != last[0]:
                    last = stored.path, frames_of(store.finder.folder / stored.path, was)
                found = last[1]
                end = round(was.start_s * was.rate_hz) + was.num_frames
                if found is not None and found < end:
                    yield index, was, fitted(stored.path, was, num_frames=found, end=end)
            display.advance(1)


def frames_of(place: Place, utterance: Utterance) -> int | None:
    """How many frames a file has; None if that is not known, or they have another rate."""
    try:
        header = read_header(place, name=utterance.path)
    except (UnfitAudioError, OSError):
        return None
    return header.num_frames if header.rate_hz == utterance.rate_hz else None


def fitted(path: str, utterance: Utterance, *, num_frames: int, end: int) -> Utterance | Refused:
    """An utterance up to the end of its file, or why that is too far from what its manifest says."""
    left = utterance.num_frames - (end - num_frames)
    if left < 1 or end - num_frames > TOLERANCE_S * utterance.rate_hz:
        return Refused(utterance.id, str(TruncatedAudioError(path, found=num_frames, promised=end)))
    return replace(utterance, num_frames=left)
