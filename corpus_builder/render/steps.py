"""Applies one planned step to a wave: noise, room, Freeverb, codec or channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from corpus_builder.distortions import additive_noise, channel, reverb
from corpus_builder.distortions.codecs import transcode
from corpus_builder.distortions.freeverb import freeverb
from corpus_builder.distortions.pitch_shift import shift_pitch
from corpus_builder.distortions.speech_level import active_power
from corpus_builder.render.babble import talker_segments
from manifests.plan.channel_steps import (
    PlannedBandPassStep,
    PlannedBandRejectStep,
    PlannedChannelStep,
    PlannedClipStep,
    PlannedGainStep,
    PlannedHighPassStep,
    PlannedLowPassStep,
    PlannedPitchStep,
    PlannedResampleStep,
    PlannedTiltStep,
)
from manifests.plan.steps import (
    BabblePart,
    BabbleStep,
    ColouredNoiseStep,
    ColouredPart,
    PlannedCodecStep,
    PlannedFreeverbStep,
    PlannedRoomStep,
    RecordedNoiseStep,
    RecordedPart,
    SeveralNoisesStep,
)
from manifests.recipe.codecs import DEFAULT_APPLICATION

if TYPE_CHECKING:
    from corpus_builder.audio.levels import Wave
    from corpus_builder.render.wave_source import Waves
    from manifests.plan.channel_steps import AnyPlannedChannelStep
    from manifests.plan.steps import NoisePart, PlannedNoise, PlannedStep


def with_noise(step: PlannedNoise, wave: Wave, waves: Waves, *, rate_hz: int, skipped: list[str]) -> Wave:
    """The wave with the noise of a step, shape (time,).

    Args:
        step: From the plan.
        wave: As it enters the step, shape (time,).
        waves: Where recordings, talkers, responses and spectra come from.
        rate_hz: Sample rate of the corpus.
        skipped: The ids of talkers that cannot be used are appended.

    Raises:
        SilentSignalError: If wave or noise have no energy.
        OffsetError: If a segment begins outside its recording.
        NoUsableTalkerError: If no talker of a babble can be used.
    """
    parts = step.noises if isinstance(step, SeveralNoisesStep) else (step,)
    power = active_power(wave, rate_hz=rate_hz) if step.over == "active" else None
    made = (noise_of(part, waves, num_samples=wave.size, rate_hz=rate_hz, skipped=skipped) for part in parts)
    added = additive_noise.together(made) if isinstance(step, SeveralNoisesStep) else next(made)
    return additive_noise.mix_at_snr(wave, added, snr_db=step.snr_db, speech_power=power)


def noise_of(part: NoisePart, waves: Waves, *, num_samples: int, rate_hz: int, skipped: list[str]) -> Wave:
    """One noise in its room, if the plan puts it in one, before it has its level, shape (num_samples,)."""
    dry = dry_noise(part, waves, num_samples=num_samples, rate_hz=rate_hz, skipped=skipped)
    if part.response is None:
        return dry
    response, direct_sample = waves.response(part.response)
    return reverb.reverberate(dry, response, direct_sample=direct_sample)


def dry_noise(part: NoisePart, waves: Waves, *, num_samples: int, rate_hz: int, skipped: list[str]) -> Wave:
    """One noise before its room and its level, shape (num_samples,)."""
    match part:
        case RecordedPart():
            recording = waves.noise(part.root, part.recording)
            return additive_noise.segment(recording, offset=part.offset, num_samples=num_samples, rate_hz=rate_hz)
        case ColouredPart():
            spectrum_db = None if part.spectrum is None else waves.spectrum(part.spectrum)
            return additive_noise.coloured(
                part.colour, seed=part.seed, num_samples=num_samples, rate_hz=rate_hz, spectrum_db=spectrum_db
            )
        case BabblePart():
            return additive_noise.babble(
                talker_segments(part, waves, num_samples=num_samples, rate_hz=rate_hz, skipped=skipped)
            )
        case _:
            assert_never(part)


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


def apply(step: PlannedStep, wave: Wave, waves: Waves, *, rate_hz: int, skipped: list[str]) -> Wave:
    """Apply one step, shape (time,) in and out; the ids of talkers that cannot be used are appended to `skipped`."""
    match step:
        case RecordedNoiseStep() | ColouredNoiseStep() | BabbleStep() | SeveralNoisesStep():
            return with_noise(step, wave, waves, rate_hz=rate_hz, skipped=skipped)
        case PlannedRoomStep():
            response, direct_sample = waves.response(step.response)
            return reverb.reverberate(wave, response, direct_sample=direct_sample, keep_rms=step.keep_rms is not False)
        case PlannedFreeverbStep():
            numbers = step.model_dump(exclude={"kind", "keep_rms"})
            return freeverb(wave, **numbers, rate_hz=rate_hz, keep_rms=step.keep_rms is not False)
        case PlannedCodecStep():
            rate_kbps = transcode.DEFAULT_BITRATE_KBPS[step.codec] if step.bitrate_kbps is None else step.bitrate_kbps
            return transcode.transcode(
                wave,
                codec=step.codec,
                bitrate_kbps=rate_kbps,
                rate_hz=rate_hz,
                application=step.application or DEFAULT_APPLICATION,
                loss=step.loss,
            )
        case PlannedChannelStep():
            return through_channel(step, wave, rate_hz=rate_hz)
        case _:
            assert_never(step)
