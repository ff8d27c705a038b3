"""Renders one utterance: from a plan row and its sources to clean and distorted 16-bit waves. Every number comes from the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.levels import (
    NotFiniteError,
    Pcm,
    SilentSignalError,
    Wave,
    fit_peak,
    mean_power,
    quantise,
    set_level,
)
from corpus_builder.distortions import additive_noise
from corpus_builder.distortions.codecs import transcode
from corpus_builder.render.babble import NoUsableTalkerError
from corpus_builder.render.steps import apply
from manifests.errors import StillroomError, printable
from manifests.plan.steps import PlannedCodecStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.render.wave_source import Waves
    from manifests.plan.plan import PlanRow
    from manifests.plan.steps import PlannedCopy


CAUSES = (
    SilentSignalError,
    NotFiniteError,
    NoUsableTalkerError,
    additive_noise.OffsetError,
    transcode.UnknownBitrateError,
    transcode.CodecFailedError,
)


class LengthChangedError(StillroomError, ValueError):
    """An utterance is not as long as it was when it was planned."""

    def __init__(self, *, planned: int, found: int) -> None:
        super().__init__(
            f"the file has {found} samples at the corpus rate where {planned} were planned; "
            "it is not the one that was planned with: put it back, or plan again"
        )


class CopyFailedError(StillroomError, ValueError):
    """One copy of an utterance cannot be made from its numbers."""

    def __init__(self, copy: str, reason: object) -> None:
        super().__init__(f"{printable(copy)}: {printable(reason, limit=400)}")


class UnchangedCopyError(CopyFailedError):
    """A copy is the same as the clean utterance, although steps were planned for it.

    A copy that was scaled so that it does not clip is none: there `gain_db` undoes the gain of a step.
    """

    def __init__(self, copy: str) -> None:
        super().__init__(
            copy, "its steps left every 16-bit sample as it was; a distorted copy that is the clean one is no copy"
        )


class SilentCopyError(CopyFailedError):
    """Every sample of a copy is the same, most often zero."""

    def __init__(self, copy: str) -> None:
        super().__init__(
            copy,
            "every sample of it is the same; the copy is empty: all its packets were lost, or its band was cut out",
        )


@dataclass(frozen=True)
class RenderedCopy:
    """One distorted copy.

    Attributes:
        planned: Its row in the plan.
        pcm: Shape (time,), int16, as long as the clean one.
        gain_db: Gain put on the whole copy at the end so that it does not clip; 0.0 where none was needed.
        skipped_talkers: Ids of planned talkers that cannot be used.
        uncoded: The wave that entered the first codec, shape (time,), float64; None if there is no codec.
    """

    planned: PlannedCopy
    pcm: Pcm
    gain_db: float
    skipped_talkers: tuple[str, ...] = ()
    uncoded: Wave | None = None


@dataclass(frozen=True)
class Clean:
    """The clean utterance as its copies are made from it.

    Attributes:
        pcm: Shape (time,), int16.
        gain_db: Not 0.0 only where the source itself would clip in 16 bits.
        power: Mean power of the wave.
        wave: Shape (time,), float64, after the gain.
    """

    pcm: Pcm
    gain_db: float
    power: float
    wave: Wave


@dataclass(frozen=True)
class Rendered:
    """One utterance with its copies.

    Attributes:
        clean: Shape (time,), int16; bit for bit the source if that is 16-bit at the corpus rate.
        clean_gain_db: Not 0.0 only where the source itself would clip in 16 bits, as float files and resampled ones may; every
            copy is made from the clean wave after this gain.
        copies: In the order of the plan.
    """

    clean: Pcm
    clean_gain_db: float
    copies: tuple[RenderedCopy, ...]


def render(row: PlanRow, waves: Waves, *, rate_hz: int) -> Rendered:
    """Make the clean wave and every copy of one utterance, all of them in memory at once.

    Args:
        row: From the plan.
        waves: Where the audio comes from.
        rate_hz: Sample rate of the corpus.

    Returns:
        Waves of `row.num_samples` samples each.

    Raises:
        LengthChangedError: If the utterance is not as long as planned.
        NotFiniteError: If it holds NaN or infinity.
        CopyFailedError: If a copy cannot be made: its utterance or noise is silent, a segment is outside its file, ...
        UnchangedCopyError: If a copy with steps is the same as the clean one.
        SilentCopyError: If a copy is a constant.
    """
    clean = render_clean(row, waves)
    return Rendered(clean.pcm, clean.gain_db, tuple(render_copies(row, clean, waves, rate_hz=rate_hz)))


def render_clean(row: PlanRow, waves: Waves) -> Clean:
    """The clean utterance; see `render`."""
    speech = waves.speech(row)
    if speech.shape != (row.num_samples,):
        raise LengthChangedError(planned=row.num_samples, found=speech.size)
    wave, gain_db = fit_peak(speech)
    return Clean(quantise(wave), gain_db, mean_power(wave), wave)


def render_copies(row: PlanRow, clean: Clean, waves: Waves, *, rate_hz: int) -> Iterator[RenderedCopy]:
    """The copies of a clean utterance, made one by one as they are needed, and not held; see `render`."""
    for planned in row.copies:
        yield changed(render_copy(planned, clean, waves, rate_hz=rate_hz), clean)


def changed(copy: RenderedCopy, clean: Clean) -> RenderedCopy:
    """The same copy, checked.

    Raises:
        UnchangedCopyError: If it has steps and is the same as the clean one.
        SilentCopyError: If it is a constant.
    """
    if copy.planned.steps and copy.gain_db == 0.0 and np.array_equal(copy.pcm, clean.pcm):
        raise UnchangedCopyError(copy.planned.name)
    if copy.pcm.min() == copy.pcm.max():
        raise SilentCopyError(copy.planned.name)
    return copy


def render_copy(planned: PlannedCopy, clean: Clean, waves: Waves, *, rate_hz: int) -> RenderedCopy:
    """Apply the steps of one copy to its utterance, set its level, scale it if it would clip, round once.

    Args:
        planned: From the plan.
        clean: The clean utterance.
        waves: Where noises and responses come from.
        rate_hz: Sample rate of the corpus.

    Raises:
        CopyFailedError: If the copy cannot be made from its numbers.
    """
    wave = clean.wave
    uncoded: Wave | None = None
    skipped: list[str] = []
    try:
        for step in planned.steps:
            if uncoded is None and isinstance(step, PlannedCodecStep):
                uncoded = wave
            wave = apply(step, wave, waves, rate_hz=rate_hz, skipped=skipped)
        wave = set_level(wave, level=planned.level, clean_power=clean.power)
        fitted, gain_db = fit_peak(wave)
    except CAUSES as problem:
        raise CopyFailedError(planned.name, problem) from problem
    assert fitted.shape == clean.pcm.shape
    return RenderedCopy(planned, quantise(fitted), gain_db, tuple(skipped), uncoded)
