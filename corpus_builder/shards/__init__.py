"""Shards: tars that are the same byte for byte, their indexes, and the sealed corpus.

Read in this order: `writer`, `encode`, `fingerprint`, `destination` (a disk or a URL), `seal`, `dataset_card`, `croissant`, `environment`.
"""
