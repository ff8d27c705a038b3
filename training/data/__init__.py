"""From shards to batches.

Read in this order: `sampler` (which utterances are in which batch), `view_keys` and `views` (which copy teacher and student get), `tar_reader`, `corpus`
and `joined_corpus` (readers), `audio`, `batch`; `node_cache` (copies of shards on a disk of this machine).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.data.batch import PairBatch as PairBatch
    from training.data.joined_corpus import open_corpus as open_corpus
    from training.data.view_keys import Views as Views

__getattr__, __dir__ = lazy_names(__name__, __file__)
