"""A built corpus on a disk or behind a URL.

Read in this order: `layout` (what is where), `sample` and `sample_view` (the JSON of one utterance), `shard_index`, `fingerprints`,
`provenance`, `reader`, `linked` (corpora over the shards of another), `external_sample`, `filter`.
"""
