"""Verification by code independent of what it checks.

Read in this order: `verify_corpus` (the stage), `shard_check` (one shard), `plan_check` (one sample against its plan row), `wave_decoder`,
`plain_readers` (plain webdataset and tarfile), `copy_measurements` (lag, SNR, levels), `rir_check`, `draw_rates`, `report`.
"""
