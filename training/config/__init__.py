"""The config of a training run: `schema` (every key), `model` (teacher, student, loss), `presets`, `load`; `hub` (models by their id)."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.config.load import load_config as load_config
    from training.config.schema import Adversary as Adversary
    from training.config.schema import TrainConfig as TrainConfig

__getattr__, __dir__ = lazy_names(__name__, __file__)
