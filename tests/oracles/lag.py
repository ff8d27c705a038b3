"""How late a copy is: the peak of the cross-correlation with phase transform, by whole samples."""

import numpy as np
from scipy import fft


def gcc_phat_lag(clean, copy):
    """Samples by which `copy` is later than `clean` (negative: earlier), from int16 or float samples."""
    clean = np.asarray(clean, dtype=np.float64)
    copy = np.asarray(copy, dtype=np.float64)
    size = fft.next_fast_len(len(clean) + len(copy), real=True)
    spectrum = fft.rfft(copy, size) * fft.rfft(clean, size).conj()
    magnitude = np.abs(spectrum)
    spectrum[magnitude > 0] /= magnitude[magnitude > 0]
    lag = int(fft.irfft(spectrum, size).argmax())
    return lag if lag <= size // 2 else lag - size
