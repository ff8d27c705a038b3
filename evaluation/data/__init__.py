"""What is evaluated: `utterances`, `labels`, `transcripts`, `alignments`, `trials` (speaker verification), `abx_tokens` (phone ABX)."""
