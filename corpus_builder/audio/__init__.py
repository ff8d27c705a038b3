"""Audio files and waves: decoding, resampling, levels.

Read in this order: `decode` (a stretch of a file as float64 at the corpus rate), `sound` (what a file is and which decoder reads it),
`formats`, `containers`, `tar_members` and `remote` (where files can be),
`decode_bytes` (audio in memory), `resample`, `levels`, `flac`, `errors`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.audio.decode import read_header as read_header
    from corpus_builder.audio.decode import read_stretch as read_stretch
    from corpus_builder.audio.errors import UnfitAudioError as UnfitAudioError
    from corpus_builder.audio.resample import at_rate as at_rate

__getattr__, __dir__ = lazy_names(__name__, __file__)
