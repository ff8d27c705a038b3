"""G.711 by the arithmetic of its segments, one sample at a time."""


def through_mu_law(sample):
    """A 16-bit sample coded to 8 bits and decoded again."""
    magnitude = min(abs(sample) // 4, 8158) + 33
    segment = magnitude.bit_length() - 6
    step = (magnitude >> (segment + 1)) & 15
    decoded = 4 * (((2 * step + 33) << segment) - 33)
    return decoded if sample >= 0 else -decoded


def through_a_law(sample):
    """A 16-bit sample coded to 8 bits and decoded again, to the middle of its step."""
    magnitude = min(abs(sample) // 8, 4095)
    shift = max(magnitude.bit_length() - 5, 1)
    decoded = 8 * ((magnitude >> shift << shift) + (1 << shift >> 1))
    return decoded if sample >= 0 else -decoded
