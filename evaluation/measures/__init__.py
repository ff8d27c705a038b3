"""Measures without probes, and cost.

Without labels: `frame_cosine`, `cka`, `retrieval`, `teacher_agreement`, `units`; with alignments: `abx` (distances by `dtw`); `efficiency`; `error_rates`.
"""
