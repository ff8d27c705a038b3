"""Lengths at which a Fourier transform is fast.

Waves are transformed by `numpy.fft`, which gives the bits of `scipy.fft` at its speed; importing the latter takes a fifth of a second, and it keeps what it
has worked out for the last sixteen lengths (decision 61).
"""

from __future__ import annotations


def fast_length(least: int) -> int:
    """The smallest number from `least` on that has no prime factor above 5, as `scipy.fft.next_fast_len` for real waves.

    Args:
        least: At least 1.
    """
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-least // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best
