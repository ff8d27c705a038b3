"""Channel steps in ranges: band limits, band-reject, tilt, gain, clipping, a lower sample rate, pitch."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, TypeAlias, assert_never, get_args

from pydantic import model_validator

from manifests.io.records import Record
from manifests.recipe.distributions import Draw, number_between

ChannelKind: TypeAlias = Literal[
    "lowpass", "highpass", "bandpass", "bandreject", "tilt", "gain", "clip", "resample", "pitch"
]
CHANNEL_KINDS: tuple[ChannelKind, ...] = get_args(ChannelKind)
LOWEST_EDGE_HZ, HIGHEST_EDGE_HZ = 20.0, 24_000.0
LOWEST_RATE_HZ = 2_000
LOWEST_CORPUS_HZ = 8_000

Edge = Annotated[Draw, number_between(LOWEST_EDGE_HZ, HIGHEST_EDGE_HZ)]


class ChannelStep(Record):
    """A step of the family `channel`; `AnyChannelStep` lists them all."""


class LowPassStep(ChannelStep):
    """Remove frequencies above a cut-off, at which amplitudes are halved (-6 dB).

    Attributes:
        cutoff_hz: The cut-off.
    """

    kind: Literal["lowpass"]
    cutoff_hz: Edge


class HighPassStep(ChannelStep):
    """Remove frequencies below a cut-off, at which amplitudes are halved (-6 dB).

    Attributes:
        cutoff_hz: The cut-off.
    """

    kind: Literal["highpass"]
    cutoff_hz: Edge


class BandPassStep(ChannelStep):
    """Keep a band, such as the 300 to 3400 Hz of a telephone line; amplitudes at its edges are halved (-6 dB).

    Attributes:
        low_hz: Lower edge of the band.
        high_hz: Upper edge of the band.
    """

    kind: Literal["bandpass"]
    low_hz: Edge
    high_hz: Edge

    @model_validator(mode="after")
    def check_order(self) -> Self:
        """Whatever is drawn, the lower edge is below the upper one."""
        if self.low_hz.high >= self.high_hz.low:
            raise ValueError(
                f"low_hz may reach {self.low_hz.high:g} and high_hz {self.high_hz.low:g}: the lower edge must stay below the upper one"
            )
        return self


class BandRejectStep(ChannelStep):
    """Remove a band.

    Attributes:
        width_hz: Width of the band; or
        width_mel: the same on the mel scale, ``2595 log10(1 + f / 700)``, as SpecAugment has it.
        low_hz: Lower edge. By default uniform on the scale of the width, from 0 Hz to where the band still fits below half the
            sample rate.
    """

    kind: Literal["bandreject"]
    width_hz: Annotated[Draw, number_between(10, HIGHEST_EDGE_HZ)] | None = None
    width_mel: Annotated[Draw, number_between(10, 4000)] | None = None
    low_hz: Annotated[Draw, number_between(0, HIGHEST_EDGE_HZ)] | None = None

    @model_validator(mode="after")
    def check_one_width(self) -> Self:
        """Either in hertz or in mel."""
        if (self.width_hz is None) == (self.width_mel is None):
            raise ValueError("expected exactly one of width_hz and width_mel")
        return self


class TiltStep(ChannelStep):
    """Tilt the spectrum about 1 kHz by some decibels per octave, upward if positive.

    Attributes:
        db_per_octave: The slope.
    """

    kind: Literal["tilt"]
    db_per_octave: Annotated[Draw, number_between(-12, 12)]


class GainStep(ChannelStep):
    """Apply a gain; a copy that would clip at the end of the chain is scaled back, so clipping needs `clip`.

    Attributes:
        gain_db: The gain.
    """

    kind: Literal["gain"]
    gain_db: Annotated[Draw, number_between(-60, 60)]


class ClipStep(ChannelStep):
    """Clip hard: the largest samples, some percent of all, are limited to one magnitude.

    Attributes:
        percent: Share of the samples, independent of the level of the recording.
    """

    kind: Literal["clip"]
    percent: Annotated[Draw, number_between(0.01, 90)]


class ResampleStep(ChannelStep):
    """Resample to a lower rate and back, which limits the band as that rate does.

    Attributes:
        rate_hz: The lower rate.
    """

    kind: Literal["resample"]
    rate_hz: Annotated[Draw, number_between(LOWEST_RATE_HZ, 48_000, whole=True)]


class PitchStep(ChannelStep):
    """Shift the pitch and keep the duration.

    Attributes:
        cents: Hundredths of a semitone, upward if positive. A draw of 0 leaves the signal as it is.
    """

    kind: Literal["pitch"]
    cents: Annotated[Draw, number_between(-1200, 1200)]


AnyChannelStep: TypeAlias = (
    LowPassStep
    | HighPassStep
    | BandPassStep
    | BandRejectStep
    | TiltStep
    | GainStep
    | ClipStep
    | ResampleStep
    | PitchStep
)


def mel_of(frequency_hz: float) -> float:
    """Mel of a frequency, by O'Shaughnessy's formula: ``2595 log10(1 + f / 700)``."""
    return 2595.0 * math.log10(1.0 + frequency_hz / 700.0)


def hertz_of(mel: float) -> float:
    """Frequency of a mel; the inverse of `mel_of`."""
    return 700.0 * float(10.0 ** (mel / 2595.0) - 1.0)


def channel_fault(step: AnyChannelStep, *, sample_rate: int) -> str | None:
    """Why a step does not fit the sample rate of the corpus, as `key: reason`; None if it does."""
    half_hz = sample_rate / 2.0

    def beyond(key: str, draw: Draw | None) -> str | None:
        if draw is None or draw.high < half_hz:
            return None
        return f"{key}: {draw.high:g} Hz is not below half the sample rate, {half_hz:g} Hz"

    match step:
        case LowPassStep() | HighPassStep():
            return beyond("cutoff_hz", step.cutoff_hz)
        case BandPassStep():
            return beyond("high_hz", step.high_hz)
        case BandRejectStep():
            low_hz = 0.0 if step.low_hz is None else step.low_hz.high
            if step.width_hz is not None:
                high_hz = low_hz + step.width_hz.high
            else:
                assert step.width_mel is not None
                high_hz = hertz_of(mel_of(low_hz) + step.width_mel.high)
            key = "width_mel" if step.width_hz is None else "width_hz"
            return (
                None
                if high_hz < half_hz
                else f"{key}: the band may reach {high_hz:g} Hz, which is not below half the sample rate, {half_hz:g} Hz"
            )
        case ResampleStep():
            above = step.rate_hz.high > sample_rate
            return f"rate_hz: {step.rate_hz.high:g} Hz is above the sample rate, {sample_rate} Hz" if above else None
        case TiltStep() | GainStep() | ClipStep() | PitchStep():
            return None
        case _:
            assert_never(step)


def probability_of_no_step(step: AnyChannelStep) -> float | None:
    """The probability that a drawn step would not change the signal, so that none is planned; None if that depends on the sample rate."""
    match step:
        case PitchStep():
            return probability_of_zero(step.cents)
        case GainStep():
            return probability_of_zero(step.gain_db)
        case TiltStep():
            return probability_of_zero(step.db_per_octave)
        case ResampleStep():
            return 0.0 if step.rate_hz.high < LOWEST_CORPUS_HZ else None
        case LowPassStep() | HighPassStep() | BandPassStep() | BandRejectStep() | ClipStep():
            return 0.0
        case _:
            assert_never(step)


def probability_of_zero(draw: Draw) -> float:
    """The probability that 0 is drawn; numbers of a continuous range are drawn to hundredths."""
    match draw.spread:
        case "constant" | "choice":
            return draw.numbers().count(0.0) / len(draw.values)
        case "uniform_int":
            return 1.0 / (draw.high - draw.low + 1.0) if draw.low <= 0.0 <= draw.high else 0.0
        case "uniform" | "log_uniform":
            if draw.low == draw.high:
                return float(draw.low == 0.0)
            share = (min(draw.high, 0.005) - max(draw.low, -0.005)) / (draw.high - draw.low)
            return max(share, 0.0) if draw.spread == "uniform" and draw.low <= 0.0 <= draw.high else 0.0
        case _:
            assert_never(draw.spread)
