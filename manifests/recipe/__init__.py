"""The recipe of a corpus: what is wanted, in ranges.

Read in this order: `recipe` (the whole document), `speech`, `noises` and `rooms` (sources), `steps` and `channel_steps` (distortions),
`codecs`, `distributions` (constants and draws).
"""
