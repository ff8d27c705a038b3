"""Builds corpora: `build_corpus` (the stage), `scheduler`, `dask_executor`, `preflight`, `dry_run`."""
