"""Speaker verification: clean enrolment against clean or distorted test, and its equal error rate (EER).

The probe is a linear embedding of the pooled, scaled states, trained to name the training speakers by cosine (a softmax over
scaled cosines); a trial's score is the cosine of two embeddings. Test speakers need not occur in training.
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
    from evaluation.exposure.test_copies import Place
    from evaluation.features import PooledRows


EMBEDDING = 128
SHARPNESS = 16.0


@dataclass(frozen=True)
class Verifier:
    """A trained embedding."""

    scaling: Scaling
    module: nn.Module
    learning_rate: float

    @torch.no_grad()
    def embedding(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Unit vectors, shape (row, `EMBEDDING`), of pooled states of shape (row, state, feature)."""
        told: Tensor = functional.normalize(self.module(scaled_rows(rows, self.scaling)), dim=-1)
        return np.asarray(told.double().numpy())


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
    with seeded_thread(seed, "verification", probe) as dice:
        module = nn.Sequential(WeightedSum(rows.shape[1]), nn.Linear(rows.shape[2], EMBEDDING, bias=False))
        voices = nn.Parameter(torch.randn(len(names), EMBEDDING))
        trained = nn.ModuleList([module])
        trained.register_parameter("voices", voices)

        def loss_of() -> Tensor:
            batch = torch.randint(len(states), (min(BATCH, len(states)),), generator=dice)
            cosine = functional.normalize(module(states[batch]), dim=-1) @ functional.normalize(voices, dim=-1).T
            return functional.cross_entropy(SHARPNESS * cosine, target[batch])

        run_adam(trained, loss_of, learning_rate=learning_rate, updates=UPDATES)
    return Verifier(scaling, module, learning_rate)


@dataclass(frozen=True)
class VerificationScores:
    """What the probes of one task gave.

    Attributes:
        trials: Of each probe: tested place, enrolled place, whether both are of one speaker, similarity.
    """

    scores: tuple[Score, ...]
    trials: tuple[tuple[tuple[Place, Place, bool, float], ...], ...]
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
    clean, _ = picked(train, train_features := states_of(train), task.train)
    rows, labels = picked(train, train_features, task.train, members=members)
    if len(set(labels)) < 2:
        raise TooFewFramesError(task.name, f"{len(set(labels))} speakers are left to train on")
    scaling = Scaling.fitted(clean)
    judge = dev if dev is not None and task.dev else train
    judged, speakers_of = states_of(judge), task.dev or task.train
    back = {task.train[key] for pair in task.dev_pairs for key in pair} if judge is train else set()
    learnt = np.array([speaker not in back for speaker in labels])
    if len(set(labels[learnt])) < 2:
        learnt[:] = True
    tried = [
        fitted_verifier(rows[learnt], labels[learnt], scaling, learning_rate=rate, seed=seed, probe=0)
        for rate in LEARNING_RATES
    ]
    errors = []
    for probe in tried:
        trials = scored_trials(probe, judge, judged, task.dev_pairs, speakers_of, clean_only=True)
        errors.append(trials_eer(trials))
    best = LEARNING_RATES[int(np.argmin(errors))]
    scores: list[Score] = []
    told = []
    asked = states_of(test)
    for number in range(probes):
        probe = fitted_verifier(rows, labels, scaling, learning_rate=best, seed=seed, probe=number)
        trials = scored_trials(probe, test, asked, task.pairs, task.test)
        told.append(tuple(trials))
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
    return VerificationScores(tuple(scores), tuple(told), (best,) * probes)


def states_of(table: PooledRows) -> NDArray[np.float32]:
    """Pooled states as (row, state, feature), whatever the features."""
    rows = table.features
    return rows[:, None] if rows.ndim == 2 else rows


def scored_trials(
    probe: Verifier,
    table: PooledRows,
    states: NDArray[np.float32],
    pairs: tuple[tuple[str, str], ...],
    labels: Mapping[str, str],
    *,
    clean_only: bool = False,
) -> list[tuple[Place, Place, bool, float]]:
    """Every pair with every copy of its tested utterance, each against the clean enrolment."""
    vectors = probe.embedding(states)
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


def trials_eer(trials: Sequence[tuple[Place, Place, bool, float]]) -> float:
    """EER of some trials; 0.5 where one kind of them is missing."""
    is_same = np.array([same for *_, same, _ in trials], dtype=np.bool_)
    if not is_two_sided(is_same):
        return 0.5
    return equal_error_rate(is_same, np.array([score for *_, score in trials]))
