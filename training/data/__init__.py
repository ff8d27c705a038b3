"""From shards to batches.

Read in this order: `sampler` (which utterances are in which batch), `views` (which copy teacher and student get), `tar_reader`, `corpus`
and `joined_corpus` (readers), `audio`, `batch`; `node_cache` (copies of shards on a disk of this machine).
"""
