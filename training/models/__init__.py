"""Encoders: `encoder` (teachers and the student's body), `student`, `initialisation`, `masking`, and the file formats of weights."""
