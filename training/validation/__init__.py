"""Validation: `utterances` (a fixed set), `loss`, `domain_probe` (how well a new classifier names the domains), `validator` (all of it)."""
