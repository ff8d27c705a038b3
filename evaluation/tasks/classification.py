"""Frozen-feature classification: a linear probe trained on clean speech (or on distorted), tested on clean and every condition.

Features are means over frames, standardised on the clean training utterances of the probe. On one layer the probe is
multinomial logistic regression, whose inverse regularisation strength comes from one log grid; on a weighted sum of states it is
trained by gradient, and its learning rate comes from one log grid. Both are chosen on clean dev.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from evaluation.data.labels import held_back
from evaluation.data.utterances import TooFewFramesError
from evaluation.exposure.test_copies import condition_scores
from evaluation.features import Scaling, is_one_state
from evaluation.tasks.dev_choice import best_on_dev
from evaluation.tasks.weighted_sum import LEARNING_RATES, SumProbe, fitted_sum
from manifests.corpus.sample import CLEAN
from manifests.results.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.data.labels import LabelGroup, LabelledTask
    from evaluation.exposure.test_copies import CopyOutcomes
    from evaluation.features import PooledRows

INVERSE_STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(-4, 4))
UNCHOSEN_STRENGTH = 1e-1
UNCHOSEN_RATE = 1e-2
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

    def predictions(self, rows: NDArray[np.float32]) -> NDArray[np.str_]:
        """The label of each row of features, shape (row,)."""
        return np.asarray(self.model.predict(self.scaling.apply(rows))) if len(rows) else np.array([], dtype=np.str_)


def fitted_probe(
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    *,
    inverse_strength: float,
    scaling: Scaling | None = None,
) -> Probe:
    """Standardise and fit.

    Args:
        rows: Pooled features, shape (row, feature).
        labels: Shape (row,), at least two different ones.
        inverse_strength: scikit-learn's `C`.
        scaling: Centre and scale of the features; fitted on the rows by default.
    """
    scaling = scaling or Scaling.fitted(rows)
    model = LogisticRegression(C=inverse_strength, max_iter=MAX_ITERATIONS, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported by has_converged
        warnings.filterwarnings(
            "ignore", "The number of unique classes", UserWarning
        )  # few utterances a label are not wrong
        model.fit(scaling.apply(rows), labels)
    return Probe(scaling, model, inverse_strength, has_converged=bool(np.max(model.n_iter_) < MAX_ITERATIONS))


def chosen_probe(
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    scaling: Scaling,
    *,
    dev_rows: NDArray[np.float32],
    dev_labels: NDArray[np.str_],
) -> Probe:
    """The probe of the grid that is best on dev; of equals the one with the strongest regularisation."""
    strengths = INVERSE_STRENGTHS if len(dev_labels) else (UNCHOSEN_STRENGTH,)
    fitted = (fitted_probe(rows, labels, inverse_strength=strength, scaling=scaling) for strength in strengths)
    return best_on_dev(fitted, lambda probe: error_rate(probe, dev_rows, dev_labels))


def chosen_sum(
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    scaling: Scaling,
    *,
    dev_rows: NDArray[np.float32],
    dev_labels: NDArray[np.str_],
    seed: int,
    probe: int,
) -> SumProbe:
    """The probe on the weighted sum whose learning rate is best on dev; of equals the lowest rate.

    Args:
        rows: Pooled states, shape (row, state, feature).
        labels: Shape (row,).
        scaling: Of clean train.
        dev_rows: As `rows`, clean.
        dev_labels: Shape (row,); empty where there is nothing to choose on.
        seed: Of the evaluation.
        probe: Number of the probe.
    """
    rates = LEARNING_RATES if len(dev_labels) else (UNCHOSEN_RATE,)
    fitted = (fitted_sum(rows, labels, scaling, learning_rate=rate, seed=seed, probe=probe) for rate in rates)
    return best_on_dev(fitted, lambda one: error_rate(one, dev_rows, dev_labels))


def error_rate(probe: Probe | SumProbe, rows: NDArray[np.float32], labels: NDArray[np.str_]) -> float:
    """Share of rows with a wrong prediction; 0 where there are no rows."""
    return float(np.mean(probe.predictions(rows) != labels)) if len(labels) else 0.0


@dataclass(frozen=True)
class ProbeScores:
    """Scores of the probes of one task.

    Attributes:
        chosen: What was chosen for each probe (of each group, group by group): its inverse regularisation strength for one layer,
            its learning rate for sums.
        outcomes: Of each probe: right predictions of each copy.
    """

    scores: tuple[Score, ...]
    chosen: tuple[float, ...]
    notes: tuple[str, ...]
    outcomes: tuple[CopyOutcomes, ...] = ()


def probe_task(
    task: LabelledTask,
    *,
    train: PooledRows,
    dev: PooledRows | None,
    test: PooledRows,
    seed: int,
    probes: int,
    members: Mapping[str, str] | None = None,
) -> ProbeScores:
    """Accuracy of every probe under every condition.

    Args:
        task: Its labels.
        train: Pooled states: rows of shape (feature,) for one layer, (state, feature) for sums.
        dev: The same; None where each probe chooses on what it holds back of train, as it does where dev has no label of train.
        test: The same, with all copies; several copies of one condition are averaged.
        seed: Of what is held back, and of probes that are trained by gradient.
        probes: How many.
        members: Which copy of each training utterance a probe is trained on; clean by default.

    Raises:
        TooFewFramesError: If the utterances that are long enough have one label, or there are none to test on.
    """
    scores: list[Score] = []
    chosen: list[float] = []
    outcomes: list[CopyOutcomes] = []
    unfinished = unchosen = 0
    for number in range(probes):
        right: CopyOutcomes = {}
        for group in task.groups:
            probe, is_chosen = group_probe(task, group, train=train, dev=dev, seed=seed, number=number, members=members)
            chosen.append(probe.inverse_strength if isinstance(probe, Probe) else probe.learning_rate)
            unfinished += isinstance(probe, Probe) and not probe.has_converged
            unchosen += not is_chosen
            tested = test.of(group.test)
            for row, label in zip(tested, probe.predictions(test.features[tested]), strict=True):
                key = test.keys[row]
                right[key, test.members[row]] = float(label == group.test[key]), 1.0
        if not right:
            raise TooFewFramesError(task.name, "nothing is left to test on")
        scores += condition_scores(right, task=task.name, measure="accuracy", probe=number)
        outcomes.append(right)
    scores.append(majority_score(task, test))
    notes = choice_notes(task, has_dev=dev is not None, count=len(chosen), unfinished=unfinished, unchosen=unchosen)
    return ProbeScores(tuple(scores), tuple(chosen), notes, tuple(outcomes))


def group_probe(
    task: LabelledTask,
    group: LabelGroup,
    *,
    train: PooledRows,
    dev: PooledRows | None,
    seed: int,
    number: int,
    members: Mapping[str, str] | None,
) -> tuple[Probe | SumProbe, bool]:
    """One probe of one group, and whether there was something to choose its setting on; arguments as of `probe_task`.

    Raises:
        TooFewFramesError: If the utterances that are long enough have one label.
    """
    back = held_back(group.train, seed=seed, probe=number)
    learned = {key: label for key, label in group.train.items() if key not in back}
    clean, _ = picked(train, learned)
    rows, labels = picked(train, learned, members=members)
    if len(set(labels)) < 2:
        raise TooFewFramesError(task.name, f"{len(set(labels))} labels are left to train on")
    if dev is None or not dev.keys or not group.dev:
        dev_rows, dev_labels = picked(train, {key: group.train[key] for key in back})
    else:
        dev_rows, dev_labels = picked(dev, group.dev)
    scaling = Scaling.fitted(clean)
    probe: Probe | SumProbe
    if is_one_state(task.features):
        probe = chosen_probe(rows, labels, scaling, dev_rows=dev_rows, dev_labels=dev_labels)
    else:
        probe = chosen_sum(rows, labels, scaling, dev_rows=dev_rows, dev_labels=dev_labels, seed=seed, probe=number)
    return probe, len(dev_labels) > 0


def choice_notes(task: LabelledTask, *, has_dev: bool, count: int, unfinished: int, unchosen: int) -> tuple[str, ...]:
    """Notes on how the settings of the `count` probes of a task were chosen, where that was not on dev."""
    notes = []
    without = sum(not group.dev for group in task.groups) if has_dev else 0
    if without:
        where = "" if without == len(task.groups) else f" in {without} of {len(task.groups)} groups"
        notes.append(
            f"{task.name}: dev has none of its labels{where}, its probes chose on what they held back of train"
        )
    if unfinished:
        notes.append(f"{task.name}: {unfinished} of {count} probes were stopped after {MAX_ITERATIONS} iterations")
    if unchosen:
        least = (
            f"C is {UNCHOSEN_STRENGTH:g}" if is_one_state(task.features) else f"the learning rate is {UNCHOSEN_RATE:g}"
        )
        notes.append(f"{task.name}: {unchosen} of {count} probes had nothing to choose on, {least}")
    return tuple(notes)


def picked(
    table: PooledRows, labels: Mapping[str, str], *, members: Mapping[str, str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Features of the labelled utterances, one copy each (clean by default), and their labels."""
    numbers = [
        row
        for row in table.of(labels)
        if table.members[row] == (CLEAN if members is None else members[table.keys[row]])
    ]
    return table.features[numbers], np.array([labels[table.keys[number]] for number in numbers], dtype=np.str_)


def majority_score(task: LabelledTask, test: PooledRows) -> Score:
    """Accuracy of always predicting the commonest training label of the group."""
    right = total = 0
    for group in task.groups:
        truth = [group.test[test.keys[number]] for number in test.of(group.test) if test.members[number] == CLEAN]
        right += truth.count(commonest(list(group.train.values())))
        total += len(truth)
    return Score(measure="majority", task=task.name, value=right / max(1, total), count=total)


def commonest(labels: Sequence[str]) -> str:
    """The commonest label; of equally common ones the first in the alphabet."""
    return max(sorted(set(labels)), key=labels.count)
