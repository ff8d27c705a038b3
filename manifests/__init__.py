"""What labs agree on: recipes, plans, samples, shard indexes, packs, scores and their digests. Part of Stillroom.

Needs the standard library, pydantic, PyYAML and fsspec alone: no audio, torch, lhotse or webdataset.

Read in this order: `errors`, `io` (files and URLs), `recipe` (what is wanted, in ranges), `plan` (what was decided, in numbers), `corpus` (what
was built), `pack` (what is shared), `results` (what was measured). `schemas` holds the exported JSON Schemas.
"""
