"""Speaker verification: clean enrolment against clean or distorted test, and its equal error rate (EER).

The probe is a linear embedding of the pooled, scaled states, trained to name the training speakers by cosine (a softmax over
scaled cosines); the score of a trial is the cosine of two embeddings. Test speakers need not occur in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.data.utterances import TooFewFramesError
from evaluation.features import Scaling, condition_of
from evaluation.measures.error_rates import equal_error_rate, is_two_sided
from evaluation.tasks.classification import picked
from evaluation.tasks.dev_choice import best_on_dev
from evaluation.tasks.weighted_sum import (
    BATCH,
    LEARNING_RATES,
    UPDATES,
    WeightedSum,
    run_adam,
    scaled_rows,
    seeded_thread,
)
from manifests.corpus.sample import CLEAN
from manifests.results.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.data.trials import VerificationTask
    from evaluation.exposure.test_copies import CopyKey
    from evaluation.features import PooledRows


EMBEDDING = 128
SHARPNESS = 16.0
Trial = tuple["CopyKey", "CopyKey", bool, float]
"""Tested copy, enrolled copy, whether both are of one speaker, and similarity."""


@dataclass(frozen=True)
class Verifier:
    """A trained embedding of speakers."""

    scaling: Scaling
    module: nn.Module
    learning_rate: float

    @torch.no_grad()
    def embedding(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Unit vectors, shape (row, `EMBEDDING`), of pooled states of shape (row, state, feature)."""
        vectors: Tensor = functional.normalize(self.module(scaled_rows(rows, self.scaling)), dim=-1)
        return np.asarray(vectors.double().numpy())


def fitted_verifier(
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    scaling: Scaling,
    *,
    learning_rate: float,
    seed: int,
    probe: int,
) -> Verifier:
    """Train an embedding on pooled states of shape (row, state, feature)."""
    names, classes = np.unique(labels, return_inverse=True)
    states, target = scaled_rows(rows, scaling), torch.from_numpy(classes.reshape(-1))
    with seeded_thread(seed, "verification", probe) as generator:
        module = nn.Sequential(WeightedSum(rows.shape[1]), nn.Linear(rows.shape[2], EMBEDDING, bias=False))
        speakers = nn.Parameter(torch.randn(len(names), EMBEDDING))
        trained = nn.ModuleList([module])
        trained.register_parameter("speakers", speakers)

        def loss_of() -> Tensor:
            batch = torch.randint(len(states), (min(BATCH, len(states)),), generator=generator)
            cosine = functional.normalize(module(states[batch]), dim=-1) @ functional.normalize(speakers, dim=-1).T
            return functional.cross_entropy(SHARPNESS * cosine, target[batch])

        run_adam(trained, loss_of, learning_rate=learning_rate, updates=UPDATES)
    return Verifier(scaling, module, learning_rate)


@dataclass(frozen=True)
class VerificationScores:
    """Scores of the probes of one task.

    Attributes:
        trials: Of each probe: tested copy, enrolled copy, whether both are of one speaker, similarity.
    """

    scores: tuple[Score, ...]
    trials: tuple[tuple[Trial, ...], ...]
    chosen: tuple[float, ...]


def verify_task(
    task: VerificationTask,
    *,
    train: PooledRows,
    dev: PooledRows | None,
    test: PooledRows,
    seed: int,
    probes: int,
    members: Mapping[str, str] | None = None,
) -> VerificationScores:
    """EER of every probe under every condition that has trials of both kinds, by the learning rate best on clean trials of dev.

    Args:
        task: Its speakers and trials.
        train: Pooled states of clean training utterances, and of the copies that `members` names.
        dev: The same of dev, clean.
        test: The same of test, all copies.
        seed: Of the evaluation.
        probes: How many.
        members: Which copy of each training utterance a probe is trained on; clean by default.

    Raises:
        TooFewFramesError: If the utterances that are long enough are of one speaker, or make no trials of both kinds.
    """
    clean, _ = picked(train, task.train)
    rows, labels = picked(train, task.train, members=members)
    rows = as_states(rows)
    if len(set(labels)) < 2:
        raise TooFewFramesError(task.name, f"{len(set(labels))} speakers are left to train on")
    scaling = Scaling.fitted(as_states(clean))
    best = chosen_rate(task, rows, labels, scaling, train=train, dev=dev, seed=seed)
    scores: list[Score] = []
    found = []
    for number in range(probes):
        probe = fitted_verifier(rows, labels, scaling, learning_rate=best, seed=seed, probe=number)
        trials = scored_trials(probe, test, task.pairs, task.test)
        found.append(tuple(trials))
        if len({same for (_, member), _, same, _ in trials if member == CLEAN}) < 2:
            raise TooFewFramesError(task.name, "no trials of one speaker and of two are left to test on")
        for condition in dict.fromkeys(condition_of(tested[1]) for tested, *_ in trials):
            own = [trial for trial in trials if condition_of(trial[0][1]) == condition]
            if len({same for *_, same, _ in own}) < 2:
                continue
            value = trials_eer(own)
            scores.append(
                Score(measure="eer", task=task.name, condition=condition, value=value, count=len(own), probe=number)
            )
    return VerificationScores(tuple(scores), tuple(found), (best,) * probes)


def chosen_rate(
    task: VerificationTask,
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    scaling: Scaling,
    *,
    train: PooledRows,
    dev: PooledRows | None,
    seed: int,
) -> float:
    """The learning rate with the lowest EER on clean trials of dev, or of training speakers that the tried probes do not learn.

    Args:
        task: Its speakers and trials.
        rows: Pooled states that probes are trained on, shape (row, state, feature).
        labels: Their speakers, shape (row,).
        scaling: Of clean train.
        train: As of `verify_task`.
        dev: As of `verify_task`.
        seed: Of the evaluation.
    """
    is_dev = dev is not None and bool(task.dev)
    table = dev if dev is not None and is_dev else train
    back = set() if is_dev else {task.train[key] for pair in task.dev_pairs for key in pair}
    learned = np.array([speaker not in back for speaker in labels])
    if len(set(labels[learned])) < 2:
        learned[:] = True

    def error(rate: float) -> float:
        probe = fitted_verifier(rows[learned], labels[learned], scaling, learning_rate=rate, seed=seed, probe=0)
        return trials_eer(scored_trials(probe, table, task.dev_pairs, task.dev or task.train, clean_only=True))

    return best_on_dev(LEARNING_RATES, error)


def as_states(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pooled features as (row, state, feature), also where they are of one state."""
    return rows[:, None] if rows.ndim == 2 else rows


def scored_trials(
    probe: Verifier,
    table: PooledRows,
    pairs: tuple[tuple[str, str], ...],
    labels: Mapping[str, str],
    *,
    clean_only: bool = False,
) -> list[Trial]:
    """Every pair with every copy of its tested utterance, each against the clean enrolment."""
    vectors = probe.embedding(as_states(table.features))
    rows: dict[str, list[int]] = {}
    enrolled: dict[str, int] = {}
    for row, (key, member) in enumerate(zip(table.keys, table.members, strict=True)):
        if member == CLEAN:
            enrolled[key] = row
        if member == CLEAN or not clean_only:
            rows.setdefault(key, []).append(row)
    trials = []
    for tested, other in pairs:
        if tested in rows and other in enrolled:
            for row in rows[tested]:
                similarity = float(vectors[row] @ vectors[enrolled[other]])
                trials.append(
                    ((tested, table.members[row]), (other, CLEAN), labels[tested] == labels[other], similarity)
                )
    return trials


def trials_eer(trials: Sequence[Trial]) -> float:
    """EER of some trials; 0.5 where they are all of one speaker, or none is."""
    is_same = np.array([same for *_, same, _ in trials], dtype=np.bool_)
    if not is_two_sided(is_same):
        return 0.5
    return equal_error_rate(is_same, np.array([score for *_, score in trials]))
