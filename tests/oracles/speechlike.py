"""A stand-in for speech that shares nothing with the builder's own probe: a buzzing voice with moving formants and pauses."""

import numpy as np


def speechlike(seconds, rate_hz=16_000, seed=0):
    """Voiced syllables with a gliding pitch, resonances and fricative bursts, RMS -23 dBFS, float64."""
    chance = np.random.default_rng(seed)
    total = round(seconds * rate_hz)
    wave = np.zeros(total + rate_hz)
    start = 0
    while start < total:
        length = int(rate_hz * chance.uniform(0.12, 0.3))
        time = np.arange(length) / rate_hz
        pitch_hz = chance.uniform(90, 220) * (1 + 0.2 * chance.uniform(-1, 1) * time / time[-1])
        phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
        formants = [chance.uniform(300, 800), chance.uniform(900, 2300), chance.uniform(2400, 3300)]
        voice = np.zeros(length)
        for harmonic in range(1, int(0.45 * rate_hz / pitch_hz.max())):
            at = harmonic * pitch_hz.mean()
            gain = sum(1 / (1 + ((at - formant) / 90) ** 2) for formant in formants) + 0.02
            voice += gain * np.cos(harmonic * phase + chance.uniform(0, 6.3))
        hiss = np.diff(chance.standard_normal(length + 1)) * chance.uniform(0.0, 0.4)
        window = np.sin(np.pi * np.arange(length) / length)
        wave[start : start + length] += (voice + hiss) * window * chance.uniform(0.3, 1.0)
        start += length + int(rate_hz * chance.uniform(0.0, 0.15))
    wave = wave[:total]
    return wave * 10 ** (-23 / 20) / np.sqrt(np.mean(wave**2))
