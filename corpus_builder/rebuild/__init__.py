"""Rebuilds corpora from packs: `rebuild_corpus` (the stage), `plan_subset`, `source_check`, `report`, `wave_verdict`, `diff`."""
