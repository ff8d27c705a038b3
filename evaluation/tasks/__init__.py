"""Probes on frozen features: `dev_choice`, `classification`, `weighted_sum`, `frame_probes`, `verification`, `leakage`."""
