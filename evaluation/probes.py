"""Frozen-feature classification: a linear probe trained on clean speech, tested on clean speech and on every condition.

Features are means over frames of the last layer, standardised on the clean training utterances of the probe. The probe is
multinomial logistic regression; its inverse regularisation strength comes from one grid, chosen on clean dev.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from evaluation.embed import Scaling
from evaluation.labels import held_back
from manifests.sample import CLEAN
from manifests.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.embed import PooledRows
    from evaluation.labels import LabelledTask

INVERSE_STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(-4, 4))
UNCHOSEN_STRENGTH = 1e-1
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        inverse_strength: scikit-learn's `C`.
        has_converged: False if it was stopped after `MAX_ITERATIONS`.
    """

    scaling: Scaling
    model: Any
    inverse_strength: float
    has_converged: bool

    def answers(self, rows: NDArray[np.float32]) -> NDArray[np.str_]:
        """The label of each row of features, shape (row,)."""
        return np.asarray(self.model.predict(self.scaling.apply(rows)))


def fitted_probe(rows: NDArray[np.float32], labels: NDArray[np.str_], *, inverse_strength: float) -> Probe:
    """Standardise and fit.

    Args:
        rows: Pooled features, shape (row, feature).
        labels: Shape (row,), at least two different ones.
        inverse_strength: scikit-learn's `C`.
    """
    scaling = Scaling.fitted(rows)
    model = LogisticRegression(C=inverse_strength, max_iter=MAX_ITERATIONS, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by has_converged
        warnings.filterwarnings(
            "ignore", "The number of unique classes", UserWarning
        )  # few utterances a label are not wrong
        model.fit(scaling.apply(rows), labels)
    return Probe(scaling, model, inverse_strength, has_converged=bool(np.max(model.n_iter_) < MAX_ITERATIONS))


def chosen_probe(
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    *,
    dev_rows: NDArray[np.float32],
    dev_labels: NDArray[np.str_],
) -> Probe:
    """The probe of the grid that is best on dev; of equals the one with the strongest regularisation."""
    if len(dev_labels) == 0:
        return fitted_probe(rows, labels, inverse_strength=UNCHOSEN_STRENGTH)
    best: tuple[float, Probe] | None = None
    for strength in INVERSE_STRENGTHS:
        probe = fitted_probe(rows, labels, inverse_strength=strength)
        accuracy = float(np.mean(probe.answers(dev_rows) == dev_labels))
        if best is None or accuracy > best[0]:
            best = accuracy, probe
    assert best is not None
    return best[1]


@dataclass(frozen=True)
class ProbeScores:
    """What the probes of one task gave.

    Attributes:
        chosen: Inverse regularisation strength of each probe (of each group, group by group).
    """

    scores: tuple[Score, ...]
    chosen: tuple[float, ...]
    notes: tuple[str, ...]


def probe_task(
    task: LabelledTask, *, train: PooledRows, dev: PooledRows | None, test: PooledRows, seed: int, probes: int
) -> ProbeScores:
    """Accuracy of every probe under every condition.

    Args:
        task: Its labels.
        train: Pooled last layer, rows of shape (feature,).
        dev: The same; None where each probe chooses on what it holds back of train.
        test: The same, with all copies; several copies of one condition are averaged.
        seed: Of what is held back.
        probes: How many.
    """
    scores: list[Score] = []
    chosen: list[float] = []
    unfinished = unchosen = 0
    tables = train.features, test.features, None if dev is None else dev.features
    for number in range(probes):
        right: dict[str, list[bool]] = {}
        for group in task.groups:
            back = held_back(group.train, seed=seed, probe=number)
            kept = {key: label for key, label in group.train.items() if key not in back}
            rows, labels = picked(train, tables[0], kept)
            if dev is None or tables[2] is None:
                dev_rows, dev_labels = picked(train, tables[0], {key: group.train[key] for key in back})
            else:
                dev_rows, dev_labels = picked(dev, tables[2], group.dev)
            probe = chosen_probe(rows, labels, dev_rows=dev_rows, dev_labels=dev_labels)
            chosen.append(probe.inverse_strength)
            unfinished += not probe.has_converged
            unchosen += len(dev_labels) == 0
            for condition in dict.fromkeys(test.conditions):
                rows, labels = picked(test, tables[1], group.test, condition=condition)
                right.setdefault(condition, []).extend(bool(is_right) for is_right in probe.answers(rows) == labels)
        scores += [
            Score(
                measure="accuracy", task=task.name, condition=condition, value=float(np.mean(answers)),
                count=num_utterances(task, test, condition=condition), probe=number,
            )
            for condition, answers in right.items()
        ]  # fmt: skip
    scores.append(majority_score(task, test))
    notes = []
    if unfinished:
        notes.append(
            f"{task.name}: {unfinished} of {len(chosen)} probes were stopped after {MAX_ITERATIONS} iterations"
        )
    if unchosen:
        notes.append(
            f"{task.name}: {unchosen} of {len(chosen)} probes had nothing to choose on, C is {UNCHOSEN_STRENGTH:g}"
        )
    return ProbeScores(tuple(scores), tuple(chosen), tuple(notes))


def picked(
    table: PooledRows, features: NDArray[np.float32], labels: Mapping[str, str], *, condition: str = CLEAN
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Rows of the labelled utterances under one condition, and their labels."""
    numbers = table.only(labels, condition=condition)
    return features[numbers], np.array([labels[table.keys[number]] for number in numbers], dtype=np.str_)


def num_utterances(task: LabelledTask, test: PooledRows, *, condition: str) -> int:
    """How many utterances a task is tested on under one condition, copies not counted."""
    return len({test.keys[number] for number in test.only(task.keys("test"), condition=condition)})


def majority_score(task: LabelledTask, test: PooledRows) -> Score:
    """Accuracy of always answering the commonest training label of the group."""
    right = total = 0
    for group in task.groups:
        kept = [group.test[test.keys[number]] for number in test.only(group.test)]
        right += kept.count(commonest(list(group.train.values())))
        total += len(kept)
    return Score(measure="majority", task=task.name, value=right / max(1, total), count=total)


def commonest(labels: Sequence[str]) -> str:
    """The commonest label; of equals the first in the alphabet."""
    return max(sorted(set(labels)), key=labels.count)
