"""The optimiser, and its learning rate over a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

# DistilHuBERT's, as in s3prl's pretrain/distiller/config_runner.yaml.
BETAS = (0.9, 0.98)
EPSILON = 1e-6
WEIGHT_DECAY = 1e-6


def adamw(parameters: Iterable[torch.nn.Parameter], *, learning_rate: float) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) in its fused form, on whatever device the parameters are."""
    return torch.optim.AdamW(
        parameters, lr=learning_rate, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True
    )


def spoilt(norm: Tensor, sums: Tensor) -> Tensor:
    """Whether an update must not happen: 1 where a sum or the gradient's norm is not finite, or there is no gradient, else 0.

    Args:
        norm: Of the gradient, shape ().
        sums: Losses and whatever else must be finite.

    Returns:
        Shape (), float32, on the device of the sums; the host does not wait for it.
    """
    return (~(torch.isfinite(sums).all() & torch.isfinite(norm) & (norm > 0))).float()


def update_unless(is_spoilt: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Update once; where `is_spoilt` is 1, weights, moments and their count stay what they are.

    The device decides, the host does not wait: `found_inf` is how torch's gradient scaler tells a fused optimiser the same.

    Args:
        is_spoilt: 0 or 1, shape (), float32, on the device of the parameters.
        optimiser: From `adamw`.
    """
    optimiser.found_inf = is_spoilt  # type: ignore[attr-defined]
    optimiser.step()


def learning_rate_scale(update: int, *, updates: int, warmup_share: float) -> float:
    """Linear warm-up, then linear decay that would reach zero one update after the last.

    Args:
        update: Which update, from 1.
        updates: How many the run has.
        warmup_share: Share of them that warms up.

    Returns:
        What the largest rate is multiplied by, above 0 and at most 1.
    """
    warmup = round(warmup_share * updates)
    if update <= warmup:
        return update / warmup
    return (updates - update + 1) / (updates - warmup)
