"""How late a copy's loudness is, for copies whose phase says nothing: correlation of envelopes."""

import numpy as np
from scipy.signal import butter, sosfiltfilt


def envelope_lag_ms(clean, copy, rate_hz):
    """Milliseconds by which the envelope of `copy` (power below 40 Hz) is later than that of `clean`."""
    smooth = butter(2, 40, fs=rate_hz, output="sos")
    envelopes = [np.sqrt(np.maximum(sosfiltfilt(smooth, np.square(wave)), 0.0)) for wave in (clean, copy)]
    first, second = (envelope - envelope.mean() for envelope in envelopes)
    size = 2 * len(first)
    likeness = np.fft.irfft(np.fft.rfft(second, size) * np.fft.rfft(first, size).conj(), size)
    lag = int(likeness.argmax())
    return 1000.0 * (lag if lag <= size // 2 else lag - size) / rate_hz
