"""Builds corpora: `build_corpus` (the stage), `scheduler`, `dask_executor`, `preflight`, `dry_run`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.build.build_corpus import Built as Built
    from corpus_builder.build.build_corpus import Slice as Slice
    from corpus_builder.build.build_corpus import build as build
    from corpus_builder.build.dry_run import estimate as estimate

__getattr__, __dir__ = lazy_names(__name__, __file__)
