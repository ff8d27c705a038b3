"""The distillation heads of a student, for features `sum+heads`: s3prl reads a distiller's predictions beside its layers.

A run's checkpoint keeps them; an export throws them away, and a teacher has none: such a model has the sum of its layers alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.config import RunSource
from manifests.errors import StillroomError
from training.checkpoint import load_student
from training.student import Heads

if TYPE_CHECKING:
    from torch import nn

    from training.encoder import Encoder

__all__ = ["Heads", "OtherWidthError", "distillation_heads"]


class OtherWidthError(StillroomError, ValueError):
    """Predictions that cannot stand in one sum with the layers."""

    def __init__(self, model: str, *, layer: int, head: int) -> None:
        super().__init__(
            f"model {model!r}: features sum+heads: its layers have {layer} features, its heads' predictions {head}; "
            "ask for features: sum"
        )


def distillation_heads(name: str, source: str | RunSource, encoder: Encoder) -> nn.Module | None:
    """The heads of a model, from its layers, each of shape (batch, frame, feature), to (batch, head, frame, feature); or None.

    Raises:
        OtherWidthError: If they predict a teacher of another width.
    """
    kept = getattr(encoder, "heads", None)
    if kept is not None or not isinstance(source, RunSource):
        return kept
    weights = load_student(Path(source.run), checkpoint=source.checkpoint).heads
    if not {"expand.weight", "weight"} <= weights.keys():
        return None  # a student of another shape predicts layer by layer and has no heads on its last
    num_targets, num_features, num_target_features = weights["weight"].shape
    if num_target_features != encoder.num_features:
        raise OtherWidthError(name, layer=encoder.num_features, head=num_target_features)
    heads = Heads(num_features, num_targets, num_target_features)
    heads.load_state_dict(weights)
    return heads.requires_grad_(requires_grad=False).eval()
