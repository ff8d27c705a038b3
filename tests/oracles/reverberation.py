"""Reverberation by the slow road: convolution sample by sample, and T30 from the two ends of the decay."""

import math


def convolved(wave, response):
    """Full linear convolution by its definition."""
    result = [0.0] * (len(wave) + len(response) - 1)
    for i, sample in enumerate(wave):
        for j, tap in enumerate(response):
            result[i + j] += float(sample) * float(tap)
    return result


def t30_s(response, rate_hz):
    """Least squares by hand over the backward-integrated decay from -5 to -35 dB of a response that begins at its direct sound."""
    remaining = math.fsum(float(tap) ** 2 for tap in response)
    total = remaining
    times, levels = [], []
    for sample, tap in enumerate(response):
        level_db = 10.0 * math.log10(remaining / total) if remaining > 0.0 else -math.inf
        if level_db < -35.0:
            break
        if level_db <= -5.0:
            times.append(sample / rate_hz)
            levels.append(level_db)
        remaining -= float(tap) ** 2
    mean_time, mean_level = math.fsum(times) / len(times), math.fsum(levels) / len(levels)
    slope = math.fsum((t - mean_time) * (v - mean_level) for t, v in zip(times, levels, strict=True))
    return -60.0 * math.fsum((t - mean_time) ** 2 for t in times) / slope
