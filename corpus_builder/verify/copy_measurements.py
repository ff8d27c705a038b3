"""Measures lag, SNR, level, clipping and bands of a copy from its audio, with no code of those that rendered it.

What cannot be measured is counted as such (`by plan`): a lag under noise so strong that its correlation peak is not clear, an SNR where
another step came after the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import signal
from scipy.fft import next_fast_len

from manifests.plan.channel_steps import (
    PlannedBandPassStep,
    PlannedClipStep,
    PlannedHighPassStep,
    PlannedLowPassStep,
    PlannedPitchStep,
    PlannedResampleStep,
)
from manifests.plan.steps import (
    BabbleStep,
    ColouredNoiseStep,
    PlannedCodecStep,
    PlannedRoomStep,
    RecordedNoiseStep,
    SeveralNoisesStep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from manifests.plan.steps import PlannedCopy, PlannedStep

    Wave = NDArray[np.float64]
    ResponseReader = Callable[[str], tuple[Wave, int]]

FULL_SCALE = 32768.0
LONGEST_S = 30.0
SEARCHED_S = 0.05
CLEAR_PEAK = 8.0
PLAIN_PEAK = 16.0  # for a peak at another lag; in 0.3 s of voiced speech in a room, whitening leaves one of 10 a pitch period away
SNR_TOLERANCE_DB = LEVEL_TOLERANCE_DB = 0.1
FAINTEST_DBFS = -75.0
STOP_BAND_DB = -20.0
NARROW_BAND = {"g711-alaw", "g711-mulaw", "g726", "gsm-fr", "amr-nb"}
ENVELOPE_RATE_HZ = 2000
ENVELOPE_LAG_S = 0.0025


@dataclass
class Measured:
    """Measurements on the copies of one condition; those of shards can be added.

    Attributes:
        lags: Copies whose lag could be measured.
        largest_lag_samples: The largest of them.
        snrs: Copies whose SNR could be measured by subtraction.
        by_plan: Copies with noise whose SNR could not.
        largest_snr_error_db: Of those measured.
        level_db: Sum of levels in dBFS, and its extremes.
    """

    copies: int = 0
    lags: int = 0
    largest_lag_samples: int = 0
    snrs: int = 0
    by_plan: int = 0
    largest_snr_error_db: float = 0.0
    level_db: float = 0.0
    lowest_db: float = math.inf
    highest_db: float = -math.inf
    drawn: dict[str, int] = field(default_factory=dict)

    def add(self, other: Measured) -> None:
        """Add measurements of other copies."""
        for name in ("copies", "lags", "snrs", "by_plan", "level_db"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest_lag_samples = max(self.largest_lag_samples, other.largest_lag_samples, key=abs)
        self.largest_snr_error_db = max(self.largest_snr_error_db, other.largest_snr_error_db, key=abs)
        self.lowest_db, self.highest_db = min(self.lowest_db, other.lowest_db), max(self.highest_db, other.highest_db)
        for name, count in other.drawn.items():
            self.drawn[name] = self.drawn.get(name, 0) + count

    def plain(self) -> dict[str, object]:
        """As plain data."""
        level = {
            "mean": round(self.level_db / max(1, self.copies), 2),
            "lowest": round(self.lowest_db, 2),
            "highest": round(self.highest_db, 2),
        }
        return {
            "copies": self.copies,
            "lag_samples": {"measured": self.lags, "largest": self.largest_lag_samples},
            "snr_error_db": {
                "measured": self.snrs,
                "by_plan": self.by_plan,
                "largest": round(self.largest_snr_error_db, 4),
            },
            "level_dbfs": level,
        }


def phase_transform_lag(clean: Wave, wave: Wave, *, rate_hz: int) -> tuple[int, float]:
    """Lag of a wave behind the clean one by GCC-PHAT, and the height of its peak.

    The cross-spectrum is whitened where the clean speech has energy (down to 60 dB under its strongest bin) and its correlation is
    searched 50 ms to either side.

    Source: Knapp and Carter, "The generalized correlation method for estimation of time delay", IEEE TASSP 24 (1976).

    Args:
        clean: Shape (time,).
        wave: Shape (time,).
        rate_hz: Of both.

    Returns:
        The lag in samples, and its peak over the standard deviation of the correlation elsewhere.
    """
    size = next_fast_len(2 * clean.size, real=True)
    reference, found = np.fft.rfft(clean, size), np.fft.rfft(wave, size)
    cross = found * np.conj(reference)
    has_speech = np.abs(reference) > 1e-3 * np.abs(reference).max()
    cross = np.where(has_speech, cross / np.maximum(np.abs(cross), 1e-30), 0)
    correlation = np.fft.irfft(cross, size)
    reach = min(clean.size - 1, round(SEARCHED_S * rate_hz))
    near = np.concatenate([correlation[size - reach :], correlation[: reach + 1]])
    best = int(np.argmax(near))
    others = np.delete(near, slice(max(0, best - 8), best + 9))
    spread = float(others.std()) if others.size > 32 else math.inf
    return best - reach, float(near[best]) / max(spread, 1e-12)


def fits_better_shifted(clean: Wave, wave: Wave, late: int) -> bool:
    """Whether a wave is more like the clean one at a lag than in step, by plain correlation.

    Whitening gives the noise of a coder the weight of the speech: for a word of a quarter of a second, the peak of G.726's noise, which
    follows the voice, was 4 samples away. A copy that is late is late in its loud parts, too.
    """
    shifted = wave[late:] if late > 0 else wave[: wave.size + late]
    beside = clean[: shifted.size] if late > 0 else clean[-shifted.size :]
    return float(np.dot(shifted, beside)) > float(np.dot(wave, clean))


def envelope_lag_s(clean: Wave, wave: Wave, *, rate_hz: int) -> float:
    """Lag of the envelope (RMS of 10 ms, 2000 times a second) behind that of the clean speech, by normalised correlation."""
    hop, width = rate_hz // ENVELOPE_RATE_HZ, rate_hz // 100
    window = np.ones(width) / width

    def envelope(samples: Wave) -> Wave:
        smooth = np.sqrt(np.maximum(signal.fftconvolve(samples**2, window, mode="same"), 0))[::hop]
        return np.asarray(smooth - smooth.mean())

    one, other = envelope(clean), envelope(wave)
    correlation = signal.correlate(other, one, mode="full", method="fft")
    centre, reach = one.size - 1, min(one.size - 1, round(SEARCHED_S * ENVELOPE_RATE_HZ))
    near = correlation[centre - reach : centre + reach + 1]
    return (int(np.argmax(near)) - reach) / ENVELOPE_RATE_HZ


def power_db(wave: Wave) -> float:
    """Mean power without the mean of the samples, in dBFS; -200 for silence."""
    return 10 * math.log10(max(float(np.var(wave)), 1e-20)) if wave.size else -200.0


def loudest_part(clean: Wave, *, rate_hz: int) -> slice:
    """The 30 s of an utterance with most energy; all of a shorter one."""
    longest = round(LONGEST_S * rate_hz)
    if clean.size <= longest:
        return slice(0, clean.size)
    energy = np.concatenate([[0.0], np.cumsum(clean**2)])
    start = int(np.argmax(energy[longest:] - energy[:-longest]))
    return slice(start, start + longest)


class CopyCheck:
    """Measures one copy and compares it with its plan.

    Args:
        clean: The clean wave, full scale at +-1, shape (time,).
        wave: The copy.
        planned: Its steps and level.
        gain_db: The final gain by its JSON.
        rate_hz: Of both.
        response: Reads a stored response and its `direct_sample` by name.
    """

    def __init__(
        self, clean: Wave, wave: Wave, planned: PlannedCopy, *, gain_db: float, rate_hz: int, response: ResponseReader
    ) -> None:
        self.clean, self.wave, self.planned, self.rate_hz, self.response = clean, wave, planned, rate_hz, response
        self.before_gain = wave / 10 ** (gain_db / 20)
        self.measured = Measured(copies=1)

    def findings(self) -> Iterator[str]:
        """What is wrong, each in one line; fills `measured`."""
        level = power_db(self.wave)
        self.measured.level_db = self.measured.lowest_db = self.measured.highest_db = level
        yield from self.lag()
        yield from self.snr()
        yield from self.level()
        yield from self.clipping()
        yield from self.bands()

    def lag(self) -> Iterator[str]:
        """Law 2: at most a sample at 16 kHz, where the peak is clear; for shifted pitch 2.5 ms between envelopes."""
        if not self.planned.steps or not np.any(self.clean):
            return
        part = loudest_part(self.clean, rate_hz=self.rate_hz)
        clean, wave = self.clean[part], self.wave[part]
        if any(isinstance(step, PlannedPitchStep) for step in self.planned.steps):
            if clean.size < self.rate_hz // 4:
                return
            late_s = envelope_lag_s(clean, wave, rate_hz=self.rate_hz)
            self.measured.lags += 1
            if abs(late_s) > ENVELOPE_LAG_S:
                yield f"its envelope is {1000 * late_s:+.1f} ms from that of the clean wave, more than 2.5 ms"
            return
        late, clarity = phase_transform_lag(clean, wave, rate_hz=self.rate_hz)
        off = abs(late) > max(1, math.ceil(self.rate_hz / 16_000))
        if clarity < (PLAIN_PEAK if off else CLEAR_PEAK) or (off and not fits_better_shifted(clean, wave, late)):
            return
        self.measured.lags += 1
        self.measured.largest_lag_samples = late
        if off:
            yield f"lags {late} samples behind the clean wave (GCC-PHAT, peak {clarity:.0f} standard deviations)"

    def entering(self, steps: tuple[PlannedStep, ...]) -> Wave | None:
        """The signal after some steps, where it can be computed from the corpus: no step, or one room."""
        match steps:
            case ():
                return self.clean
            case (PlannedRoomStep() as room,):
                response, direct = self.response(room.response)
                wet = signal.oaconvolve(self.clean, response)[direct : direct + self.clean.size]
                wet = np.pad(wet, (0, self.clean.size - wet.size))
                if room.keep_rms is False:
                    return wet
                return np.asarray(wet * math.sqrt(np.var(self.clean) / max(float(np.var(wet)), 1e-30)))
        return None

    def snr(self) -> Iterator[str]:
        """Law 3: measured by subtraction, without the mean of either, equals planned within 0.1 dB."""
        noises = [
            step
            for step in self.planned.steps
            if isinstance(step, RecordedNoiseStep | ColouredNoiseStep | BabbleStep | SeveralNoisesStep)
        ]
        if not noises:
            return
        last = self.planned.steps[-1]
        entering = self.entering(self.planned.steps[:-1]) if last is noises[-1] and len(noises) == 1 else None
        if entering is None or self.planned.level != "keep" or noises[0].over != "whole":
            self.measured.by_plan += 1
            return
        added = self.before_gain - entering
        if power_db(entering) - noises[0].snr_db < FAINTEST_DBFS:
            self.measured.by_plan += 1
            return
        found = power_db(entering) - power_db(added)
        error = found - noises[0].snr_db
        self.measured.snrs += 1
        self.measured.largest_snr_error_db = error
        if abs(error) > SNR_TOLERANCE_DB:
            yield f"SNR {found:.2f} dB by subtraction, {noises[0].snr_db:g} dB were planned"

    def level(self) -> Iterator[str]:
        """The planned level; and a room alone keeps the RMS."""
        if not self.planned.steps or not np.any(self.clean):
            return
        alone = self.planned.steps[0] if len(self.planned.steps) == 1 else None
        if isinstance(self.planned.level, float | int):
            expected_db = float(self.planned.level)
        elif self.planned.level == "match_clean" or (
            isinstance(alone, PlannedRoomStep) and alone.keep_rms is not False
        ):
            expected_db = power_db(self.clean)
        else:
            return
        found = power_db(self.before_gain)
        if expected_db > FAINTEST_DBFS and abs(found - expected_db) > LEVEL_TOLERANCE_DB:
            yield f"has {found:.2f} dBFS before its last gain, expected {expected_db:.2f} dBFS"

    def clipping(self) -> Iterator[str]:
        """No three samples in a row at full scale unless clipping was planned; planned clipping is there."""
        clips = [step for step in self.planned.steps if isinstance(step, PlannedClipStep)]
        if not clips:
            if longest_run(full_scale(self.wave)) >= 3 > longest_run(full_scale(self.clean)):
                yield "clips: three samples and more at full scale"
            return
        if self.planned.steps[-1] is clips[-1] and self.wave.size > self.rate_hz // 10:
            size = np.abs(self.wave)
            share = 100 * float(np.mean(size >= size.max() - 1.5 / FULL_SCALE))
            if share < 0.7 * clips[-1].percent - 0.05:
                yield f"clips {share:.2f} % of its samples; {clips[-1].percent:g} % were planned"

    def bands(self) -> Iterator[str]:
        """The stop bands of a single band-limiting step have no energy."""
        if len(self.planned.steps) != 1 or self.wave.size < self.rate_hz // 10:
            return
        for low_hz, high_hz in stopped_bands(self.planned.steps[0], rate_hz=self.rate_hz):
            before, after = (
                band_power_db(one, low_hz, high_hz, rate_hz=self.rate_hz) for one in (self.clean, self.before_gain)
            )
            if before > FAINTEST_DBFS and after > before + STOP_BAND_DB:
                yield f"{low_hz:.0f} to {high_hz:.0f} Hz are {after - before:.1f} dB over the clean wave, expected at most {STOP_BAND_DB:g} dB"


def stopped_bands(step: PlannedStep, *, rate_hz: int) -> Iterator[tuple[float, float]]:
    """Stop bands of a step: from a fifth above its upper edge, and up to 100 Hz, or half of it, below its lower edge."""
    half_hz = rate_hz / 2
    low_hz = high_hz = None
    match step:
        case PlannedLowPassStep():
            high_hz = step.cutoff_hz
        case PlannedHighPassStep():
            low_hz = step.cutoff_hz
        case PlannedBandPassStep():
            low_hz, high_hz = step.low_hz, step.high_hz
        case PlannedResampleStep():
            high_hz = step.rate_hz / 2
        case PlannedCodecStep() if step.codec in NARROW_BAND:
            high_hz = 4000.0
    if low_hz is not None and low_hz > 60:
        yield 0.0, low_hz - min(100.0, low_hz / 2)
    if high_hz is not None and max(1.2 * high_hz, high_hz + 100.0) < half_hz:
        yield max(1.2 * high_hz, high_hz + 100.0), half_hz


def band_power_db(wave: Wave, low_hz: float, high_hz: float, *, rate_hz: int) -> float:
    """Mean power of a band in dBFS, by Welch's method; without detrending, as removing the mean of a loud frame puts power at 0 Hz."""
    frequencies, density = signal.welch(wave, fs=rate_hz, nperseg=min(1024, wave.size), detrend=False)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    return 10 * math.log10(max(float(density[inside].sum() * frequencies[1]), 1e-20))


def full_scale(wave: Wave) -> NDArray[np.bool_]:
    """Which samples of a 16-bit wave are at full scale."""
    return np.asarray(np.abs(wave) >= (FULL_SCALE - 1) / FULL_SCALE)


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of true values."""
    if not flags.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int(np.max(edges[1::2] - edges[::2]))
