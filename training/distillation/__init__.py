"""The method's losses: `losses` (distances between layers), `adversary` (domain adversarial training), `critic`, `domains`, `optimiser`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.distillation.losses import layer_distance as layer_distance

__getattr__, __dir__ = lazy_names(__name__, __file__)
