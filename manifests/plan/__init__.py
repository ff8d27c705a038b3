"""The plan of a corpus: what was decided, in numbers, one row an utterance.

Read in this order: `plan` (rows and the plan's own index), `steps` and `channel_steps` (planned distortions), `rooms`, `references` (files,
responses and roots that planned steps refer to).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from manifests.plan.plan import NoiseLevels as NoiseLevels
    from manifests.plan.plan import Plan as Plan
    from manifests.plan.plan import PlanRow as PlanRow
    from manifests.plan.rooms import PlannedRoom as PlannedRoom
    from manifests.plan.rooms import RecordedRoom as RecordedRoom

__getattr__, __dir__ = lazy_names(__name__, __file__)
