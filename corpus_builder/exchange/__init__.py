"""To and from other corpora and tools: `index_webdataset`, `scan_webdataset`, `subset`, `unpack`, `lhotse_export`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.exchange.index_webdataset import index_shards as index_shards
    from corpus_builder.exchange.lhotse_export import cut_sets as cut_sets
    from corpus_builder.exchange.lhotse_export import export_shar as export_shar

__getattr__, __dir__ = lazy_names(__name__, __file__)
