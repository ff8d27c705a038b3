"""Domain leakage: the accuracy of fresh probes that predict the distortion from the features.

Classes are clean and each condition. A linear probe and a small network are trained on utterances of train (of dev, if train has
no copies) and tested on other speakers and other noises; they are to be read with the majority rate, the accuracy of
always making the same prediction.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from evaluation.data.utterances import keyed_order
from evaluation.features import PooledRows, Scaling
from evaluation.tasks.classification import commonest, fitted_probe
from manifests.results.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LEAKAGE_INVERSE_STRENGTH = 1e-1
HIDDEN = 64
EPOCHS = 60


def leakage_scores(train: PooledRows, test: PooledRows) -> list[Score]:
    """Accuracy of both domain probes for each layer, and the majority rate.

    Args:
        train: Rows of shape (layer, feature), with copies.
        test: The same; rows of conditions that train does not have are left out.
    """
    domains = np.array(train.conditions, dtype=np.str_)
    tested = np.flatnonzero(np.isin(test.conditions, domains))
    truth = np.array(test.conditions, dtype=np.str_)[tested]
    known, unknown = train.features, test.features[tested]
    linear, deep = [], []
    for layer in range(known.shape[1]):
        probe = fitted_probe(known[:, layer], domains, inverse_strength=LEAKAGE_INVERSE_STRENGTH)
        accuracy = float(np.mean(probe.predictions(unknown[:, layer]) == truth))
        linear.append(Score(measure="leakage", layer=layer + 1, value=accuracy, count=len(truth)))
        accuracy = float(np.mean(network_predictions(known[:, layer], domains, unknown[:, layer]) == truth))
        deep.append(Score(measure="leakage_mlp", layer=layer + 1, value=accuracy, count=len(truth)))
    majority = float(np.mean(truth == commonest(train.conditions)))
    return [*linear, *deep, Score(measure="majority", value=majority, count=len(truth))]


def network_predictions(
    rows: NDArray[np.float32], domains: NDArray[np.str_], unknown: NDArray[np.float32]
) -> NDArray[np.str_]:
    """Domains that a network of one hidden layer, trained on rows of shape (row, feature), predicts for unknown rows."""
    scaling = Scaling.fitted(rows)
    network = MLPClassifier((HIDDEN,), alpha=1e-2, learning_rate_init=3e-3, max_iter=EPOCHS, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many epochs are the method
        network.fit(scaling.apply(rows), domains)
        return np.asarray(network.predict(scaling.apply(unknown)))


def held_out(
    train: PooledRows,
    test: PooledRows,
    *,
    speakers: Mapping[str, str | None],
    recordings: Mapping[tuple[str, str], Sequence[str]],
    seed: int,
) -> tuple[PooledRows, PooledRows, list[str]]:
    """Rows without a speaker, noise recording or response that both tables have.

    A speaker who is in both tables is assigned to one of them, by keyed hash. A test copy with a noise recording or response
    that a training copy has is left out.

    Args:
        train: Rows of the split that the domain probe is trained on.
        test: Rows of test.
        speakers: By sample key, of both.
        recordings: Digests by sample key and member, of both.
        seed: Of the assignment of speakers.

    Returns:
        Both tables, and notes.
    """
    notes = []
    known = [{speaker for key in table.keys if (speaker := speakers.get(key)) is not None} for table in (train, test)]
    shared = keyed_order(known[0] & known[1], seed=seed, purpose="leakage speakers")
    only_test, only_train = set(shared[::2]), set(shared[1::2])
    if len(shared) == 1 and len(known[0]) == 1:
        only_test = set()
        notes.append("leakage: one speaker in all, so the domain probe is not tested on another")
    if not known[0]:
        notes.append("leakage: no speaker is named, so the domain probe may be tested on those it was trained on")
    left_train = rows_where(train, [speakers.get(key) not in only_test for key in train.keys])
    used = {
        digest
        for key, member in zip(left_train.keys, left_train.members, strict=True)
        for digest in recordings.get((key, member), ())
    }
    is_new = [
        speakers.get(key) not in only_train and used.isdisjoint(recordings.get((key, member), ()))
        for key, member in zip(test.keys, test.members, strict=True)
    ]
    left_test = rows_where(test, is_new)
    lost = set(test.conditions) - set(left_test.conditions)
    if lost or len(set(left_train.conditions)) < len(set(train.conditions)):
        notes.append("leakage: speakers and noises are those of training, for there are too few to hold any out")
        return train, test, notes
    return left_train, left_test, notes


def rows_where(table: PooledRows, is_taken: Sequence[bool]) -> PooledRows:
    """Some rows of a table."""
    chosen = [row for row, taken in enumerate(is_taken) if taken]
    return PooledRows(
        [table.keys[row] for row in chosen],
        [table.members[row] for row in chosen],
        [table.conditions[row] for row in chosen],
        [table.rows[row] for row in chosen],
    )
