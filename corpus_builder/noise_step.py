"""A planned noise step put onto a wave: each of its noises made, put into its room, and added at the SNR."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from corpus_builder.babble import voices
from corpus_builder.distortions import noise, room
from corpus_builder.distortions.active_level import active_power
from manifests.planned import BabblePart, ColouredPart, RecordedPart, SeveralNoisesStep

if TYPE_CHECKING:
    from corpus_builder.distortions.levels import Wave
    from corpus_builder.wave_source import Waves
    from manifests.planned import NoisePart, PlannedNoise


def with_noise(step: PlannedNoise, wave: Wave, waves: Waves, *, rate_hz: int, unheard: list[str]) -> Wave:
    """The wave with the noise of a step, shape (time,).

    Args:
        step: From the plan.
        wave: As it enters the step, shape (time,).
        waves: Where recordings, talkers, responses and spectra come from.
        rate_hz: Sample rate of the corpus.
        unheard: Takes the ids of talkers that could not be heard.

    Raises:
        SilentSignalError: If wave or noise have no energy.
        OffsetError: If a segment begins outside its recording.
        NoTalkerHeardError: If no talker of a babble can be heard.
    """
    parts = step.noises if isinstance(step, SeveralNoisesStep) else (step,)
    power = active_power(wave, rate_hz=rate_hz) if step.over == "active" else None
    made = (noise_of(part, waves, num_samples=wave.size, rate_hz=rate_hz, unheard=unheard) for part in parts)
    added = noise.together(made) if isinstance(step, SeveralNoisesStep) else next(made)
    return noise.mix_at_snr(wave, added, snr_db=step.snr_db, speech_power=power)


def noise_of(part: NoisePart, waves: Waves, *, num_samples: int, rate_hz: int, unheard: list[str]) -> Wave:
    """One noise in its room, if it stands in one, before it has its level, shape (num_samples,)."""
    dry = dry_noise(part, waves, num_samples=num_samples, rate_hz=rate_hz, unheard=unheard)
    if part.response is None:
        return dry
    response, direct_sample = waves.response(part.response)
    return room.reverberate(dry, response, direct_sample=direct_sample)


def dry_noise(part: NoisePart, waves: Waves, *, num_samples: int, rate_hz: int, unheard: list[str]) -> Wave:
    """One noise before its room and its level, shape (num_samples,)."""
    match part:
        case RecordedPart():
            recording = waves.noise(part.root, part.recording)
            return noise.segment(recording, offset=part.offset, num_samples=num_samples, rate_hz=rate_hz)
        case ColouredPart():
            spectrum_db = None if part.spectrum is None else waves.spectrum(part.spectrum)
            return noise.coloured(
                part.colour, seed=part.seed, num_samples=num_samples, rate_hz=rate_hz, spectrum_db=spectrum_db
            )
        case BabblePart():
            return noise.babble(voices(part, waves, num_samples=num_samples, rate_hz=rate_hz, unheard=unheard))
        case _:
            assert_never(part)
