"""Planning: all randomness is here, and its outcome is rows of numbers.

Read in this order: `make_plan` (the stage), `planner`, `lengths` (of files and utterances), `materials` (what may be drawn from), `draws` (what is drawn).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.plan.make_plan import plan as plan

__getattr__, __dir__ = lazy_names(__name__, __file__)
