"""Encoders: `encoder` (teachers and the student's body), `student`, `initialisation`, `masking`, and the file formats of weights."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.models.encoder import Encoder as Encoder
    from training.models.encoder import EncoderConfig as EncoderConfig
    from training.models.student import Student as Student

__getattr__, __dir__ = lazy_names(__name__, __file__)
