"""A run: its `folder`, `checkpoint` (the format), `resume` (written and restored), `journal`; `distributed` (ranks), `signals`."""
