"""Measures without labels, and cost: `frame_cosine`, `cka`, `retrieval`, `teacher_agreement`, `efficiency`, `error_rates`."""
