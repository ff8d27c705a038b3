"""HTML pages: `html` (the shell), `plots`, `audio_clips`, `summary` and `corpus_page` (what a corpus holds)."""
