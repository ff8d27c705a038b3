"""Builds distorted corpora: plans every number, renders without randomness, writes shards byte for byte, verifies with independent code."""
