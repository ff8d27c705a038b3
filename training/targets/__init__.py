"""Stored teacher outputs: the `schema` of their folder, and its `reader`."""
