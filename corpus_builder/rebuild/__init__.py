"""Rebuilds corpora from packs: `rebuild_corpus` (the stage), `plan_subset`, `source_check`, `report`, `wave_verdict`, `diff`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.rebuild.diff import differences as differences
    from corpus_builder.rebuild.plan_subset import Selection as Selection
    from corpus_builder.rebuild.rebuild_corpus import Rebuilt as Rebuilt
    from corpus_builder.rebuild.rebuild_corpus import rebuild as rebuild

__getattr__, __dir__ = lazy_names(__name__, __file__)
