"""Probes on frozen features: `classification`, `frame_probes`, `verification`, `weighted_sum`, `leakage`."""
