"""A planned channel step put onto a wave; one closed `match` over its kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from corpus_builder.distortions import channel
from corpus_builder.distortions.pitch import shift_pitch
from manifests.planned_channel import (
    PlannedBandPassStep,
    PlannedBandRejectStep,
    PlannedClipStep,
    PlannedGainStep,
    PlannedHighPassStep,
    PlannedLowPassStep,
    PlannedPitchStep,
    PlannedResampleStep,
    PlannedTiltStep,
)

if TYPE_CHECKING:
    from corpus_builder.distortions.levels import Wave
    from manifests.planned_channel import AnyPlannedChannelStep


def through_channel(step: AnyPlannedChannelStep, wave: Wave, *, rate_hz: int) -> Wave:
    """The wave after a channel step, shape (time,)."""
    result: Wave
    match step:
        case PlannedLowPassStep():
            result = channel.lowpass(wave, cutoff_hz=step.cutoff_hz, rate_hz=rate_hz)
        case PlannedHighPassStep():
            result = channel.highpass(wave, cutoff_hz=step.cutoff_hz, rate_hz=rate_hz)
        case PlannedBandPassStep():
            result = channel.bandpass(wave, low_hz=step.low_hz, high_hz=step.high_hz, rate_hz=rate_hz)
        case PlannedBandRejectStep():
            result = channel.bandreject(wave, low_hz=step.low_hz, high_hz=step.high_hz, rate_hz=rate_hz)
        case PlannedTiltStep():
            result = channel.tilt(wave, db_per_octave=step.db_per_octave, rate_hz=rate_hz)
        case PlannedGainStep():
            result = channel.gain(wave, gain_db=step.gain_db)
        case PlannedClipStep():
            result = channel.clip(wave, percent=step.percent)
        case PlannedResampleStep():
            result = channel.through_rate(wave, lower_hz=step.rate_hz, rate_hz=rate_hz)
        case PlannedPitchStep():
            result = shift_pitch(wave, cents=step.cents, rate_hz=rate_hz)
        case _:
            assert_never(step)
    return result
