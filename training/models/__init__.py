"""Encoders: `encoder` (teachers and the student's body), `student`, `initialisation`, `masking`, and the formats that weights come in."""
