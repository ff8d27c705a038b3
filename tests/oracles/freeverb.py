"""Freeverb sample by sample, by delay lines as in its block diagram."""

import math


class Line:
    def __init__(self, length):
        self.cells, self.at = [0.0] * length, 0

    def swap(self, make):
        old = self.cells[self.at]
        self.cells[self.at] = make(old)
        self.at = (self.at + 1) % len(self.cells)
        return old


def freeverb(wave, *, rate_hz, reverberance, hf_damping, room_scale, pre_delay_ms, wet_gain_db):
    """Dry plus wet, at its own level."""
    low, high = math.log(1 - 0.3), math.log(1 - 0.98)
    feedback = 1 - math.exp(low + (high - low) * reverberance / 100)
    keep = hf_damping / 100 * 0.3 + 0.2
    scale = (room_scale / 100 * 0.9 + 0.1) * rate_hz / 44100
    lines = [Line(max(1, int(scale * n + 0.5))) for n in (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)]
    stores = [0.0] * 8
    diffusers = [Line(max(1, int(rate_hz / 44100 * n + 0.5))) for n in (556, 441, 341, 225)]
    before = Line(max(1, round(pre_delay_ms / 1000 * rate_hz)))
    gain = 0.015 * 10 ** (wet_gain_db / 20)
    result = []
    for dry in map(float, wave):
        fresh = before.swap(lambda _, dry=dry: dry) if round(pre_delay_ms / 1000 * rate_hz) else dry
        wet = 0.0
        for number, line in enumerate(lines):

            def feed(out, number=number, fresh=fresh):
                stores[number] = out + (stores[number] - out) * keep
                return fresh + stores[number] * feedback

            wet += line.swap(feed)
        for line in diffusers:
            wet = line.swap(lambda out, wet=wet: wet + 0.5 * out) - wet
        result.append(dry + gain * wet)
    return result
