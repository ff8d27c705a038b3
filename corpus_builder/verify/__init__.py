"""Verification by code independent of what it checks.

Read in this order: `verify_corpus` (the stage), `shard_check`, `copy_measurements` (lag, SNR, levels), `rir_check`, `draw_rates`, `linked_corpus`,
`report`.
"""
