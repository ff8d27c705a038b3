"""What is wanted, in ranges: the recipe of a corpus.

Read in this order: `recipe` (the whole document), `speech`, `noises` and `rooms` (sources), `steps` and `channel_steps` (distortions),
`codecs`, `distributions` (constants and draws).
"""
