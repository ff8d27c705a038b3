"""Rendering: planned numbers in, waves out, no randomness.

Read in this order: `render_copies` (one utterance and its copies), `steps`, `babble`, `wave_source` and `corpus_waves` (where audio comes from),
`wave_cache`, `source_ledger` (digests of what was read).
"""
