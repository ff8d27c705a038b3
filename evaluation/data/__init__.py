"""What is evaluated: `utterances`, `labels`, `transcripts`, `alignments`, `trials` (speaker verification)."""
