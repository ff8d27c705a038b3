"""A built corpus on a disk or behind a URL.

Read in this order: `layout` (what is where), `sample` and `sample_view` (the JSON of one utterance), `shard_index`, `fingerprints`,
`provenance`, `reader`, `linked` (corpora over the shards of another), `external_sample`, `filter`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from manifests.corpus.fingerprints import SamplePrints as SamplePrints
    from manifests.corpus.reader import OpenCorpus as OpenCorpus
    from manifests.corpus.sample import Sample as Sample
    from manifests.corpus.sample import SampleCopy as SampleCopy
    from manifests.corpus.sample import sample_key as sample_key
    from manifests.corpus.shard_index import Corpus as Corpus
    from manifests.corpus.shard_index import ShardIndex as ShardIndex

__getattr__, __dir__ = lazy_names(__name__, __file__)
