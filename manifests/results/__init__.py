"""Results of commands: `scores` of an evaluation, `reports` of the other commands, `training_exposure` (what a model was trained on)."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from manifests.results.reports import AuditReport as AuditReport
    from manifests.results.reports import DiffReport as DiffReport
    from manifests.results.reports import RebuiltReport as RebuiltReport
    from manifests.results.reports import RunStatus as RunStatus
    from manifests.results.reports import VerifyReport as VerifyReport
    from manifests.results.scores import Protocol as Protocol
    from manifests.results.scores import Results as Results
    from manifests.results.training_exposure import TrainedOn as TrainedOn

__getattr__, __dir__ = lazy_names(__name__, __file__)
