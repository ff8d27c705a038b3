"""Rendering: planned numbers in, waves out, no randomness.

Read in this order: `render_copies` (one utterance and its copies), `steps`, `babble`, `wave_source` and `corpus_waves` (where audio comes from),
`wave_cache`, `source_ledger` (digests of what was read).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.render.render_copies import render as render

__getattr__, __dir__ = lazy_names(__name__, __file__)
