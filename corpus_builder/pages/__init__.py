"""Descriptions of corpora: `summary` (text), `corpus_page` (HTML) with `audio_clips`; `html` and `plots` serve evaluation too."""
