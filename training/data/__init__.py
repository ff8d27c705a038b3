"""From shards to batches.

Read in this order: `corpus` and `joined_corpus` (readers), `sampler` (what comes when), `views` (which copies teacher and student hear), `audio`,
`tar_reader`, `node_cache`, `batch`.
"""
