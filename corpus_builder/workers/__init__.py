"""Worker processes: `pool`, `preemption` (signals), `stale_files` (left by killed processes), `resume_cache`."""
