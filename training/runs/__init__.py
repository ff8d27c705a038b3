"""A run's folder: `folder`, `checkpoint`, `journal`; `distributed` (ranks)."""
