"""Error rates and their arithmetic, without torch: what a report needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLER_IS_BETTER = frozenset({"cer", "wer", "per", "eer"})


def equal_error_rate(
    is_same: NDArray[np.bool_], scores: NDArray[np.float64], *, weights: NDArray[np.float64] | None = None
) -> float:
    """Where false acceptances and false rejections are equally likely, on the straight line between two thresholds.

    Args:
        is_same: Whether each trial is of one speaker; both kinds occur.
        scores: Similarity of each trial.
        weights: How often each trial counts.

    Returns:
        A share between 0 and 1; 0.5 where every score is alike.
    """
    from sklearn.metrics import roc_curve

    accepted_wrongly, accepted_rightly, _ = roc_curve(is_same, scores, sample_weight=weights, drop_intermediate=False)
    excess = accepted_wrongly - (1.0 - accepted_rightly)
    above = int(np.argmax(excess >= 0))
    if above == 0 or excess[above] == 0:
        return float(accepted_wrongly[above])
    part = -excess[above - 1] / (excess[above] - excess[above - 1])
    return float(accepted_wrongly[above - 1] + part * (accepted_wrongly[above] - accepted_wrongly[above - 1]))


def is_two_sided(is_same: NDArray[np.bool_]) -> bool:
    """Whether trials of one speaker and of two occur."""
    return bool(len(is_same)) and not is_same.all() and bool(is_same.any())
