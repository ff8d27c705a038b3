"""What labs agree on: recipes, plans, samples, shard indexes, scores and their digests.

Readable with the standard library, pydantic, PyYAML and fsspec alone: no audio, torch, lhotse or webdataset.
"""
