"""Verification by code independent of what it checks.

Read in this order: `verify_corpus` (the stage), `shard_check` (one shard), `plan_check` (one sample against its plan row), `wave_decoder`,
`plain_readers` (plain webdataset and tarfile), `copy_measurements` (lag, SNR, levels), `rir_check`, `draw_rates`, `report`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.verify.report import Finding as Finding
    from corpus_builder.verify.report import Report as Report
    from corpus_builder.verify.verify_corpus import verify as verify

__getattr__, __dir__ = lazy_names(__name__, __file__)
