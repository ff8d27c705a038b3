"""Precomputed teacher outputs: `schema` of their folder, `reader`."""
