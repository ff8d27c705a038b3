"""Validation: `utterances` (a fixed set), `loss`, `domain_probe` (how well a new classifier tells the domains)."""
