"""Speech, noise and room responses as users have them.

Read in this order: `utterance`, `folder` and `path_labels` (folders of files), `lhotse_manifest`, `lhotse_cut` and `lhotse_shar`, `noise_files`, `rir_files`,
`roots` and `relative_paths` (what replaces this machine's folders).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.sources.roots import parse_roots as parse_roots
    from corpus_builder.sources.utterance import Utterance as Utterance

__getattr__, __dir__ = lazy_names(__name__, __file__)
