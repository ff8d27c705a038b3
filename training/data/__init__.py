"""From shards to batches.

Read in this order: `corpus` and `joined_corpus` (readers), `sampler` (what comes when), `views` (which copies teacher and student hear), `audio`,
`tar_reader`, `node_cache`, `batch`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.data.batch import PairBatch as PairBatch
    from training.data.joined_corpus import open_corpus as open_corpus
    from training.data.views import Views as Views

__getattr__, __dir__ = lazy_names(__name__, __file__)
