"""Planned channel steps: the numbers of a filter, gain, clipping, sample rate or pitch shift."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from manifests.io.records import Record

Hertz = Annotated[float, Field(ge=0, le=24_000)]


class PlannedChannelStep(Record):
    """A planned step of the family `channel`; `AnyPlannedChannelStep` lists them all."""


class PlannedLowPassStep(PlannedChannelStep):
    """Remove frequencies above a cut-off."""

    kind: Literal["lowpass"]
    cutoff_hz: Hertz


class PlannedHighPassStep(PlannedChannelStep):
    """Remove frequencies below a cut-off."""

    kind: Literal["highpass"]
    cutoff_hz: Hertz


class PlannedBandPassStep(PlannedChannelStep):
    """Keep a band."""

    kind: Literal["bandpass"]
    low_hz: Hertz
    high_hz: Hertz


class PlannedBandRejectStep(PlannedChannelStep):
    """Remove a band."""

    kind: Literal["bandreject"]
    low_hz: Hertz
    high_hz: Hertz


class PlannedTiltStep(PlannedChannelStep):
    """Tilt the spectrum about 1 kHz."""

    kind: Literal["tilt"]
    db_per_octave: Annotated[float, Field(ge=-12, le=12)]


class PlannedGainStep(PlannedChannelStep):
    """Apply a gain."""

    kind: Literal["gain"]
    gain_db: Annotated[float, Field(ge=-60, le=60)]


class PlannedClipStep(PlannedChannelStep):
    """Limit the largest samples to one magnitude."""

    kind: Literal["clip"]
    percent: Annotated[float, Field(gt=0, le=90)]


class PlannedResampleStep(PlannedChannelStep):
    """Resample to a lower rate and back."""

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
