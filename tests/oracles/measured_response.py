"""Responses as a measurement gives them: silence, a direct sound, a decaying tail, a noise floor."""

import numpy as np


def measured_response(
    *, seed=0, rate_hz=16_000, t60_s=0.4, lead_s=0.05, direct=1.0, tail=0.08, floor_db=-70.0, seconds=1.0, fraction=0.0
):
    """The response and, in samples with its fraction, when its direct sound arrives; `floor_db` is under the direct sound."""
    chance = np.random.default_rng(seed)
    size = round(seconds * rate_hz)
    at = np.arange(size)
    arrival = round(lead_s * rate_hz) + fraction
    since = (at - arrival) / rate_hz
    decay = np.where(since > 0.002, np.exp(-np.maximum(since, 0) * np.log(1000) / t60_s), 0.0)
    wave = tail * decay * chance.standard_normal(size)
    wave += np.sinc(at - arrival) * direct
    return wave + 10 ** (floor_db / 20) * chance.standard_normal(size), arrival
