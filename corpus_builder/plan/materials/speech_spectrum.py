"""The long-term average spectrum of a split's speech, measured once at planning and written to the plan as numbers.

Speech-shaped noise is made from these numbers alone, so rendering reads no other utterance for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.audio.levels import is_silent, mean_power
from corpus_builder.audio.resample import at_rate
from corpus_builder.sources.utterance import NoAudioError
from manifests.io.digest import canonical_json
from manifests.recipe.noises import ColouredNoise
from manifests.recipe.steps import noise_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave
    from corpus_builder.plan.materials.utterance_store import UtteranceStore
    from manifests.recipe.recipe import Recipe

MOST_UTTERANCES = 200
MOST_S = 10.0
FRAME_S = 0.032
FLOOR_DB = -120.0


def shaped_splits(recipe: Recipe) -> list[str]:
    """The splits some copy of which may have speech-shaped noise in it."""
    return [split for split in recipe.speech if is_shaped(recipe, split)]


def is_shaped(recipe: Recipe, split: str) -> bool:
    """Whether some copy of a split may have speech-shaped noise in it."""
    used = {name for name, count in recipe.copies.get(split, {}).items() if count}
    sources = {source for name in used for source in noise_names(recipe.conditions[name].steps)}
    noises = (recipe.noises[source] for source in sources)
    return any(isinstance(noise, ColouredNoise) and noise.colour == "speech" for noise in noises)


def spectrum_rows(recipe: Recipe, stores: Mapping[str, UtteranceStore]) -> list[bytes]:
    """Lines of `plan/spectra.jsonl`: one for each split that speech-shaped noise is made for.

    Args:
        recipe: What is wanted.
        stores: The utterances of each split, in their final order.

    Raises:
        NoAudioError: If no utterance of a split can be read.
    """
    return [
        canonical_json(split_spectrum(stores[split], rate_hz=recipe.sample_rate)) for split in shaped_splits(recipe)
    ]


def split_spectrum(store: UtteranceStore, *, rate_hz: int) -> dict[str, Any]:
    """The row of one split: of its first 200 utterances by keyed hash, the first 10 s of each that can be read."""
    spectra: list[NDArray[np.float64]] = []
    unread = 0
    for index in store.order[:MOST_UTTERANCES]:
        stored = store.read(int(index))
        utterance = stored.utterance
        try:
            wave = read_stretch(
                store.finder.folder / stored.path,
                name=stored.path,
                start=round(utterance.start_s * utterance.rate_hz),
                num_frames=min(utterance.num_frames, round(MOST_S * utterance.rate_hz)),
                channel=utterance.channel,
                rate_hz=utterance.rate_hz,
            )
        except UnfitAudioError:
            unread += 1  # rendering refuses it with its reason
            continue
        wave = at_rate(wave, from_hz=utterance.rate_hz, to_hz=rate_hz)
        if wave.size < frame_samples(rate_hz) or is_silent(wave):
            continue
        spectra.append(power_spectrum(wave, rate_hz=rate_hz))
    if not spectra:
        raise NoAudioError(
            f"speech.{store.split}",
            f"no spectrum for speech-shaped noise: of {min(len(store), MOST_UTTERANCES)} utterances {unread} could not be read and "
            "the others are silent or shorter than 32 ms",
        )
    power = np.mean(spectra, axis=0)
    decibels = np.maximum(10.0 * np.log10(np.maximum(power / power.max(), 1e-20)), FLOOR_DB)
    return {
        "split": store.split,
        "rate_hz": rate_hz,
        "utterances": len(spectra),
        "power_db": [round(float(value), 2) for value in decibels],
    }


def frame_samples(rate_hz: int) -> int:
    """An even number of samples of about 32 ms."""
    return 2 * round(FRAME_S * rate_hz / 2.0)


def power_spectrum(wave: Wave, *, rate_hz: int) -> NDArray[np.float64]:
    """Welch's power spectrum of a wave brought to unit power, shape (frame // 2 + 1,): loud recordings count no more than soft."""
    from scipy.signal import welch

    _, power = welch(
        (wave - wave.mean()) / np.sqrt(mean_power(wave)),
        fs=rate_hz,
        nperseg=frame_samples(rate_hz),
        detrend=False,
        scaling="density",
    )
    found: NDArray[np.float64] = power
    return found
