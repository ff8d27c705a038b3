"""Pure functions `(wave, *, numbers) -> wave`, one module a kind of distortion.

`additive_noise` and `speech_level` (ITU-T P.56), `reverb` and `convolution`, `freeverb`, `channel`, `pitch_shift`; `codecs` is a folder of its own.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.distortions.additive_noise import mix_at_snr as mix_at_snr
    from corpus_builder.distortions.pitch_shift import shift_pitch as shift_pitch
    from corpus_builder.distortions.reverb import reverberate as reverberate

__getattr__, __dir__ = lazy_names(__name__, __file__)
