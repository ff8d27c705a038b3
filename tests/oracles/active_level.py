"""ITU-T P.56 method B as its text has it, one sample and one threshold at a time, with interpolation by halving."""

import math


def active_level_db(samples, rate_hz, thresholds=range(1, 31)):
    """Active speech level in dB relative to full scale, from floats within +-1, without their mean."""
    mean = math.fsum(samples) / len(samples)
    keep = math.exp(-1.0 / (0.03 * rate_hz))
    hold = round(0.2 * rate_hz)
    steps = [2.0**-number for number in sorted(thresholds, reverse=True)]
    activity = [0] * len(steps)
    hangover = [hold] * len(steps)
    once = twice = energy = 0.0
    for sample in (value - mean for value in samples):
        energy += sample * sample
        once = keep * once + (1.0 - keep) * abs(sample)
        twice = keep * twice + (1.0 - keep) * once
        for number, threshold in enumerate(steps):
            if twice >= threshold:
                activity[number] += 1
                hangover[number] = 0
            elif hangover[number] < hold:
                activity[number] += 1
                hangover[number] += 1
    levels = [
        (10.0 * math.log10(energy / count), 20.0 * math.log10(threshold))
        for count, threshold in zip(activity, steps, strict=True)
        if count
    ]
    if not levels:
        return 10.0 * math.log10(energy / len(samples))
    lower = levels[0]
    for upper in levels:
        if upper[0] - upper[1] <= 15.9:
            return halved(lower, upper)
        lower = upper
    return lower[0]


def halved(low, high):
    """Between two pairs of level and threshold, the level that lies 15.9 dB above its threshold."""
    for _ in range(60):
        middle = ((low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0)
        if middle[0] - middle[1] > 15.9:
            low = middle
        else:
            high = middle
    return high[0]
