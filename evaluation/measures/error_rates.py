"""Error rates: edits of transcripts and the equal error rate of trials; without torch, for a report needs them too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from manifests.results.scores import TaskMeasure

SMALLER_IS_BETTER = frozenset({"cer", "wer", "per", "eer", "abx_within", "abx_across", "unit_edits"})


def edit_counts(
    reference: Sequence[str], found: Sequence[str], *, units: Literal["characters", "phones"]
) -> dict[TaskMeasure, tuple[float, float]]:
    """Edits (substitutions, insertions, deletions) and length of the reference, of each error rate of the units.

    Args:
        reference: Units of a transcript.
        found: Units that were predicted; spaces at either end, which no reference has, are not counted.
        units: What they are: phones have a PER, characters a CER and a WER.
    """
    if units == "phones":
        return {"per": (float(Levenshtein.distance(reference, found)), float(len(reference)))}
    text, read = "".join(reference), "".join(found).strip(" ")
    words = text.split()
    return {
        "cer": (float(Levenshtein.distance(text, read)), float(len(text))),
        "wer": (float(Levenshtein.distance(words, read.split())), float(len(words))),
    }


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
    """Whether there are trials of one speaker and trials of two."""
    return bool(len(is_same)) and not is_same.all() and bool(is_same.any())
