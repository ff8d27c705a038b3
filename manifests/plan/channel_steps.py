"""Channel steps decided: the numbers of one filter, gain, clipping, sample rate or pitch."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from manifests.io.records import Record

Hertz = Annotated[float, Field(ge=0, le=24_000)]


class PlannedChannelStep(Record):
    """A planned step of the family `channel`; `AnyPlannedChannelStep` lists them all."""


class PlannedLowPassStep(PlannedChannelStep):
    """Keep what lies below a frequency."""

    kind: Literal["lowpass"]
    cutoff_hz: Hertz


class PlannedHighPassStep(PlannedChannelStep):
    """Keep what lies above a frequency."""

    kind: Literal["highpass"]
    cutoff_hz: Hertz


class PlannedBandPassStep(PlannedChannelStep):
    """Keep a band."""

    kind: Literal["bandpass"]
    low_hz: Hertz
    high_hz: Hertz


class PlannedBandRejectStep(PlannedChannelStep):
    """Take a band out."""

    kind: Literal["bandreject"]
    low_hz: Hertz
    high_hz: Hertz


class PlannedTiltStep(PlannedChannelStep):
    """Tilt the spectrum about 1 kHz."""

    kind: Literal["tilt"]
    db_per_octave: Annotated[float, Field(ge=-12, le=12)]


class PlannedGainStep(PlannedChannelStep):
    """Make everything louder or softer."""

    kind: Literal["gain"]
    gain_db: Annotated[float, Field(ge=-60, le=60)]


class PlannedClipStep(PlannedChannelStep):
    """Cut the largest samples down to one magnitude."""

    kind: Literal["clip"]
    percent: Annotated[float, Field(gt=0, le=90)]


class PlannedResampleStep(PlannedChannelStep):
    """Go through a lower sample rate and back."""

    kind: Literal["resample"]
    rate_hz: Annotated[int, Field(ge=1000, le=48_000)]


class PlannedPitchStep(PlannedChannelStep):
    """Shift the pitch and keep the duration."""

    kind: Literal["pitch"]
    cents: Annotated[float, Field(ge=-1200, le=1200)]


AnyPlannedChannelStep: TypeAlias = (
    PlannedLowPassStep
    | PlannedHighPassStep
    | PlannedBandPassStep
    | PlannedBandRejectStep
    | PlannedTiltStep
    | PlannedGainStep
    | PlannedClipStep
    | PlannedResampleStep
    | PlannedPitchStep
)
