"""The talkers of a planned babble as they are heard: a voice for each that can be, and who cannot.

A plan is made without reading the audio of every talker. So rendering has rules for what it may meet, which depend on the plan and the
files alone: a talker who pauses through the whole segment is heard from the next sound on; one whose file cannot be read, or is
silent throughout, adds nothing, is named in the sample's JSON, and is refused as an utterance where its own turn comes; if nobody
is left, the first spare talker that can be heard stands in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.audio.levels import Wave, is_silent, peak
from corpus_builder.distortions.additive_noise import segment
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    from manifests.plan.steps import BabblePart, FileSpan, Talker

    class TalkerWaves(Protocol):
        """Where the talkers' waves come from."""

        def talker(self, file: FileSpan) -> Wave:
            """An utterance of another speaker, shape (time,)."""
            ...


SOUND_UNDER_PEAK = 0.1  # a sound is where a tenth of the utterance's peak is reached


class NoTalkerHeardError(StillroomError, ValueError):
    """None of the talkers of a babble can be heard."""

    def __init__(self, ids: Iterable[str]) -> None:
        names = ", ".join(printable(name, limit=60) for name in ids)
        super().__init__(
            f"no talker of the babble can be heard ({names}): their files are damaged or silent; repair them"
        )


def voices(
    part: BabblePart, waves: TalkerWaves, *, num_samples: int, rate_hz: int, unheard: list[str]
) -> Iterator[Wave]:
    """A segment of each talker that can be heard, shape (num_samples,) each, one by one; of a spare one if there is none.

    Args:
        part: From the plan.
        waves: Where the talkers' waves come from.
        num_samples: Length wanted.
        rate_hz: Sample rate of the corpus.
        unheard: Takes the ids of those that cannot be heard, of the spare ones only those that were tried; at the end.

    Raises:
        NoTalkerHeardError: If nobody can be heard.
        OffsetError: If a segment begins outside its recording.
    """
    heard = 0
    missed: list[str] = []
    for number, talker in enumerate((*part.talkers, *(part.spare or ()))):
        if number >= len(part.talkers) and heard:
            break
        voice = voice_of(talker, waves, num_samples=num_samples, rate_hz=rate_hz)
        if voice is None:
            missed.append(talker.id)
        else:
            heard += 1
            yield voice
            del voice  # or it would be held while the next one is made
    if not heard:
        raise NoTalkerHeardError(missed)
    unheard += missed


def voice_of(talker: Talker, waves: TalkerWaves, *, num_samples: int, rate_hz: int) -> Wave | None:
    """The segment of one talker, shape (num_samples,); None if the file cannot be read or is silent throughout."""
    try:
        wave = waves.talker(talker.file)
    except UnfitAudioError:
        return None
    found = segment(wave, offset=talker.offset, num_samples=num_samples, rate_hz=rate_hz)
    if not is_silent(found):
        return found
    if is_silent(wave):
        return None
    return segment(wave, offset=next_sound(wave, talker.offset), num_samples=num_samples, rate_hz=rate_hz)


def next_sound(wave: Wave, offset: int) -> int:
    """The first sample from an offset on, or else from the beginning, that reaches a tenth of the peak."""
    loud = np.flatnonzero(np.abs(wave) >= SOUND_UNDER_PEAK * peak(wave))
    later = loud[loud >= offset]
    return int(later[0] if later.size else loud[0])
