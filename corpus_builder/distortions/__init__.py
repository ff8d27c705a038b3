"""Pure functions `(wave, *, numbers) -> wave`, one module a kind of distortion.

`additive_noise` and `speech_level` (ITU-T P.56), `reverb` and `convolution`, `freeverb`, `channel`, `pitch_shift`; `codecs` is a folder of its own.
"""
