"""Builds distorted corpora: plans every number, renders without chance, shards byte for byte, verifies as a stranger."""
