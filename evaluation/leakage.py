"""How much of the domain the features give away: accuracy of a fresh linear probe that names the distortion.

Classes are clean and each condition. The probe is trained on utterances of train (of dev, if train has no copies) and tested
on other utterances; it means something only beside the majority rate, the accuracy of always giving the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.probes import commonest, fitted_probe
from manifests.scores import Score

if TYPE_CHECKING:
    from evaluation.embed import PooledRows

LEAKAGE_INVERSE_STRENGTH = 1e-1


def leakage_scores(train: PooledRows, test: PooledRows) -> list[Score]:
    """Accuracy of the domain probe for each layer, and the majority rate.

    Args:
        train: Rows of shape (layer, feature), with copies.
        test: The same; rows of conditions that train does not have are left out.
    """
    domains = np.array(train.conditions, dtype=np.str_)
    kept = np.flatnonzero(np.isin(test.conditions, domains))
    truth = np.array(test.conditions, dtype=np.str_)[kept]
    known, asked = train.features, test.features[kept]
    scores = []
    for layer in range(known.shape[1]):
        probe = fitted_probe(known[:, layer], domains, inverse_strength=LEAKAGE_INVERSE_STRENGTH)
        accuracy = float(np.mean(probe.answers(asked[:, layer]) == truth))
        scores.append(Score(measure="leakage", layer=layer + 1, value=accuracy, count=len(truth)))
    majority = float(np.mean(truth == commonest(train.conditions)))
    return [*scores, Score(measure="majority", value=majority, count=len(truth))]
