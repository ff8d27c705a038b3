"""Builds corpora of clean utterances and distorted copies: offline, on CPUs, the same bytes every time. Part of Stillroom.

Read in this order: `sources` (speech, noise and responses as users have them), `plan` (every random number is drawn here), `distortions` and
`rooms` (what is done to a wave), `render`, `shards`, `build` (the stages together), `verify`, `rebuild`, `audit`, `exchange`, `pages`, `cli`;
`audio` and `workers` serve all of them.
"""
