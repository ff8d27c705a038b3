"""Cuts the segments of a planned babble's talkers, and skips talkers that cannot be used.

A plan is made without reading the audio of every talker. So rendering has rules for what it may find, which depend on the plan and the
files alone: of a talker who pauses through the whole segment, the segment begins at the next sound; one whose file cannot be read, or is
silent throughout, adds nothing, is named in the sample's JSON, and is refused as an utterance of its own; if nobody is left, the first
spare talker that can be used is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.audio.levels import Wave, is_silent, peak, refuse_silence
from corpus_builder.distortions.additive_noise import segment
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    from manifests.plan.steps import BabblePart, FileSpan, Talker

    class TalkerWaves(Protocol):
        """Gives the talkers' waves."""

        def talker(self, file: FileSpan) -> Wave:
            """An utterance of another speaker, shape (time,)."""
            ...


SOUND_UNDER_PEAK = 0.1  # a sound is where a tenth of the utterance's peak is reached


class NoUsableTalkerError(StillroomError, ValueError):
    """None of the talkers of a babble can be used."""

    def __init__(self, ids: Iterable[str]) -> None:
        names = ", ".join(printable(name, limit=60) for name in ids)
        super().__init__(
            f"no talker of the babble can be used ({names}): their files are damaged or silent; repair them"
        )


def talker_segments(
    part: BabblePart, waves: TalkerWaves, *, num_samples: int, rate_hz: int, skipped: list[str]
) -> Iterator[Wave]:
    """A segment of each talker that can be used, shape (num_samples,), one by one; of a spare one if there is none.

    Args:
        part: From the plan.
        waves: Where the talkers' waves come from.
        num_samples: Length of a segment.
        rate_hz: Sample rate of the corpus.
        skipped: The ids of talkers that cannot be used are appended at the end, of the spare ones only those that were tried.

    Raises:
        NoUsableTalkerError: If no talker can be used.
        OffsetError: If a segment begins outside its recording.
    """
    num_used = 0
    unusable: list[str] = []
    for number, talker in enumerate((*part.talkers, *(part.spare or ()))):
        if number >= len(part.talkers) and num_used:
            break
        wave = talker_segment(talker, waves, num_samples=num_samples, rate_hz=rate_hz)
        if wave is None:
            unusable.append(talker.id)
        else:
            num_used += 1
            yield wave
            del wave  # or it would be held while the next one is made
    if not num_used:
        raise NoUsableTalkerError(unusable)
    skipped += unusable


def talker_segment(talker: Talker, waves: TalkerWaves, *, num_samples: int, rate_hz: int) -> Wave | None:
    """The segment of one talker, shape (num_samples,); None if the file cannot be read or is silent throughout."""
    try:
        wave = waves.talker(talker.file)
        refuse_silence(wave, name=talker.id)
    except UnfitAudioError:
        return None
    found = segment(wave, offset=talker.offset, num_samples=num_samples, rate_hz=rate_hz)
    if not is_silent(found):
        return found
    return segment(wave, offset=next_sound(wave, talker.offset), num_samples=num_samples, rate_hz=rate_hz)


def next_sound(wave: Wave, offset: int) -> int:
    """The first sample from an offset on, or else from the beginning, that reaches a tenth of the peak, both from the level at rest."""
    wave = wave - np.median(wave)
    loud = np.flatnonzero(np.abs(wave) >= SOUND_UNDER_PEAK * peak(wave))
    later = loud[loud >= offset]
    return int(later[0] if later.size else loud[0])
