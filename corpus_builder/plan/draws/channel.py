"""Draws one channel step: from a recipe's ranges to the numbers of a filter, gain, clipping, rate or pitch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from manifests.recipe.channel_steps import (
    BandPassStep,
    BandRejectStep,
    ClipStep,
    GainStep,
    HighPassStep,
    LowPassStep,
    PitchStep,
    ResampleStep,
    TiltStep,
    hertz_of,
    mel_of,
)

if TYPE_CHECKING:
    from corpus_builder.plan.materials.seeded_random import SeededRandom
    from manifests.recipe.channel_steps import AnyChannelStep
    from manifests.recipe.distributions import Draw


def drawn_channel_step(step: AnyChannelStep, name: str, random: SeededRandom, *, rate_hz: int) -> dict[str, Any] | None:
    """A planned channel step, as plain data.

    Args:
        step: As the recipe has it.
        name: Of its draws.
        random: The copy's generators.
        rate_hz: Sample rate of the corpus.

    Returns:
        None where what was drawn leaves the signal as it is (a gain or tilt of 0 dB, a pitch of 0 cents, the corpus's own
        rate): then nothing is planned, as with an empty list of `choose`.
    """

    def number(draw: Draw, key: str) -> float:
        return float(random.value(draw, f"{name}.{key}"))

    planned: dict[str, Any] | None
    match step:
        case LowPassStep() | HighPassStep():
            planned = {"kind": step.kind, "cutoff_hz": number(step.cutoff_hz, "cutoff_hz")}
        case BandPassStep():
            low_hz, high_hz = number(step.low_hz, "low_hz"), number(step.high_hz, "high_hz")
            planned = {"kind": "bandpass", "low_hz": low_hz, "high_hz": high_hz}
        case BandRejectStep():
            low_hz, high_hz = rejected_band(step, name, random, rate_hz=rate_hz)
            planned = {"kind": "bandreject", "low_hz": low_hz, "high_hz": high_hz}
        case TiltStep():
            slope = number(step.db_per_octave, "db_per_octave")
            planned = {"kind": "tilt", "db_per_octave": slope} if slope else None
        case GainStep():
            gain_db = number(step.gain_db, "gain_db")
            planned = {"kind": "gain", "gain_db": gain_db} if gain_db else None
        case ClipStep():
            planned = {"kind": "clip", "percent": number(step.percent, "percent")}
        case ResampleStep():
            lower_hz = int(number(step.rate_hz, "rate_hz"))
            planned = {"kind": "resample", "rate_hz": lower_hz} if lower_hz < rate_hz else None
        case PitchStep():
            cents = number(step.cents, "cents")
            planned = {"kind": "pitch", "cents": cents} if cents else None
        case _:
            assert_never(step)
    return planned


def rejected_band(step: BandRejectStep, name: str, random: SeededRandom, *, rate_hz: int) -> tuple[float, float]:
    """The edges of a rejected band in hertz, to two decimals."""
    half_hz = rate_hz / 2.0
    if step.width_hz is not None:
        width = float(random.value(step.width_hz, f"{name}.width_hz"))
        highest = half_hz
    else:
        assert step.width_mel is not None, "the recipe's own check"
        width = float(random.value(step.width_mel, f"{name}.width_mel"))
        highest = mel_of(half_hz)
    in_mel = step.width_hz is None
    if step.low_hz is not None:
        low_hz = float(random.value(step.low_hz, f"{name}.low_hz"))
        low = mel_of(low_hz) if in_mel else low_hz
    else:
        low = float(random.rng(f"{name}.low").random()) * (highest - width)
    high = low + width
    low_hz, high_hz = (hertz_of(low), hertz_of(high)) if in_mel else (low, high)
    return round(low_hz, 2), min(round(high_hz, 2), half_hz - 0.01)
