"""A run: its `folder`, `checkpoint` (the format), `resume` (written and restored), `journal`; `distributed` (ranks), `signals`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.runs.checkpoint import load_run as load_run
    from training.runs.checkpoint import load_student as load_student

__getattr__, __dir__ = lazy_names(__name__, __file__)
