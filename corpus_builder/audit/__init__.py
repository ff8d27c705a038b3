"""Leaks between splits and corpora: `audit_corpora` (the stage), `collect`, `leaks`, `audio_fingerprint`, `fingerprint_search`."""
