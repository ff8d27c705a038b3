"""Speaker verification: clean enrolment against clean or distorted test, and its equal error rate (EER).

The probe is a linear embedding of the pooled, scaled states, trained to name the training speakers by cosine (a softmax over
scaled cosines); a trial's score is the cosine of two embeddings. Test speakers need not occur in training.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.embed import Scaling, condition_of
from evaluation.keyed import KeyedTask
from evaluation.labels import FOLDS, MissingLabelError, NobodyLeftError, field_of, known_fields, takes_part
from evaluation.probes import picked
from evaluation.rates import equal_error_rate, is_two_sided
from evaluation.roster import TooFewFramesError, check_conditions, keyed_order
from evaluation.sums import BATCH, LEARNING_RATES, UPDATES, WeightedSum, descend, one_thread, scaled_rows
from manifests.errors import StillroomError, printable
from manifests.sample import CLEAN
from manifests.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.config import VerifyTask
    from evaluation.embed import PooledRows
    from evaluation.roll import Place
    from evaluation.roster import Listed, Roster

EMBEDDING = 128
SHARPNESS = 16.0


class OneSpeakerError(StillroomError, ValueError):
    """Nobody to be confused with, or nobody who speaks twice."""

    def __init__(self, task: str, *, split: str, what: str) -> None:
        super().__init__(
            f"task {printable(task, limit=80)!r}: split {split!r} has {what}; verification needs two speakers, one of them with "
            "two utterances"
        )


@dataclass(frozen=True)
class VerificationTask(KeyedTask["VerifyTask", str]):
    """A verification task with its speakers by sample key.

    Attributes:
        pairs: Of test, by condition-free choice: (tested key, enrolled key), half of them of one speaker.
        dev_pairs: The same of dev (or of training speakers, where there is no dev), to choose the learning rate on.
    """

    pairs: tuple[tuple[str, str], ...]
    dev_pairs: tuple[tuple[str, str], ...]


def label_speakers(task: VerifyTask, roster: Roster, *, seed: int) -> VerificationTask:
    """Speakers and trials of a task.

    Raises:
        MissingLabelError: If no utterance of train or test has the field.
        NobodyLeftError: If no utterance takes part.
        OneSpeakerError: If there is one speaker in train or test, or none with two utterances.
        EmptyConditionError: If no tested utterance has a copy of some condition.
    """
    splits = roster.splits
    train = speakers(task, roster.train, split=splits.train)
    dev = speakers(task, roster.dev, split=None)
    test = speakers(task, roster.test, split=splits.test)
    for split, found in ((splits.train, train), (splits.test, test)):
        if len(set(found.values())) < 2:
            raise OneSpeakerError(
                task.name, split=split, what=f"one speaker, {printable(next(iter(found.values())))!r}"
            )
    pairs = chosen_pairs(test, most=task.trials, seed=seed)
    if not any(test[one] == test[other] for one, other in pairs):
        raise OneSpeakerError(task.name, split=splits.test, what="no speaker with two utterances")
    check_conditions(task.name, [tested for tested, _ in pairs], roster)
    dev_pairs = chosen_pairs(dev, most=task.trials, seed=seed) if len(set(dev.values())) > 1 else ()
    if len({dev[one] == dev[other] for one, other in dev_pairs}) < 2:
        dev, dev_pairs = {}, training_pairs(train, most=task.trials, seed=seed)
    notes = []
    if not dev:
        notes.append(f"{task.name}: the learning rate is chosen on training speakers, dev has no trials")
    if len(test) < len(roster.test):
        notes.append(f"{task.name}: {len(roster.test) - len(test)} of {len(roster.test)} test utterances are left out")
    return VerificationTask(task.name, task, train, dev, test, tuple(notes), pairs, dev_pairs)


def training_pairs(train: Mapping[str, str], *, most: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Trials to choose on where dev has none: of the tenth of training speakers, at least two, that trial probes will not be trained on.

    Of all training speakers where so few make no trials of both kinds, or where fewer than two would be left.
    """
    twice = [speaker for speaker, count in Counter(train.values()).items() if count > 1]
    back = set(keyed_order(twice, seed=seed, purpose="held back")[: max(2, len(twice) // FOLDS)])
    if len(back) < 2 or len(set(train.values()) - back) < 2:
        back = set(train.values())
    return chosen_pairs({key: name for key, name in train.items() if name in back}, most=most, seed=seed)


def speakers(task: VerifyTask, entries: Mapping[str, Listed], *, split: str | None) -> dict[str, str]:
    """Labels by sample key of the utterances that take part; `split` is None where it may lack the field."""
    found = {
        key: label
        for key, entry in entries.items()
        if takes_part(task.where, entry.sample) and (label := field_of(entry.sample, task.label)) is not None
    }
    if split is not None and not found:
        if all(field_of(entry.sample, task.label) is None for entry in entries.values()):
            raise MissingLabelError(task.label, split=split, known=known_fields(entries))
        raise NobodyLeftError(task.name, split=split)
    return found


def chosen_pairs(labels: Mapping[str, str], *, most: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Trials: utterances in turn, by keyed hash, each against one of its own speaker and one of another."""
    order = keyed_order(labels, seed=seed, purpose="trials")
    by_speaker: dict[str, list[str]] = {}
    for key in order:
        by_speaker.setdefault(labels[key], []).append(key)
    pairs: list[tuple[str, str]] = []
    for turn in range(len(order)):
        before = len(pairs)
        for number, key in enumerate(order):
            own = by_speaker[labels[key]]
            if turn + 1 >= len(own):
                continue
            same = own[(own.index(key) + turn + 1) % len(own)]
            others = [
                one for one in order[number + 1 + turn :] + order[: number + 1 + turn] if labels[one] != labels[key]
            ]
            if not others:
                continue
            pairs += [(key, same), (key, others[0])]
            if len(pairs) >= most:
                return tuple(pairs[:most])
        if len(pairs) == before:
            break
    return tuple(pairs)


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
    with one_thread(seed, "verification", probe) as dice:
        module = nn.Sequential(WeightedSum(rows.shape[1]), nn.Linear(rows.shape[2], EMBEDDING, bias=False))
        voices = nn.Parameter(torch.randn(len(names), EMBEDDING))
        trained = nn.ModuleList([module])
        trained.register_parameter("voices", voices)

        def loss_of() -> Tensor:
            batch = torch.randint(len(states), (min(BATCH, len(states)),), generator=dice)
            cosine = functional.normalize(module(states[batch]), dim=-1) @ functional.normalize(voices, dim=-1).T
            return functional.cross_entropy(SHARPNESS * cosine, target[batch])

        descend(trained, loss_of, learning_rate=learning_rate, updates=UPDATES)
    return Verifier(scaling, module, learning_rate)


@dataclass(frozen=True)
class Verified:
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
) -> Verified:
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
        trials = judged_trials(probe, judge, judged, task.dev_pairs, speakers_of, clean_only=True)
        errors.append(trials_rate(trials))
    best = LEARNING_RATES[int(np.argmin(errors))]
    scores: list[Score] = []
    told = []
    asked = states_of(test)
    for number in range(probes):
        probe = fitted_verifier(rows, labels, scaling, learning_rate=best, seed=seed, probe=number)
        trials = judged_trials(probe, test, asked, task.pairs, task.test)
        told.append(tuple(trials))
        if len({same for (_, member), _, same, _ in trials if member == CLEAN}) < 2:
            raise TooFewFramesError(task.name, "no trials of one speaker and of two are left to test on")
        for condition in dict.fromkeys(condition_of(tested[1]) for tested, *_ in trials):
            own = [trial for trial in trials if condition_of(trial[0][1]) == condition]
            if len({same for *_, same, _ in own}) < 2:
                continue
            value = trials_rate(own)
            scores.append(
                Score(measure="eer", task=task.name, condition=condition, value=value, count=len(own), probe=number)
            )
    return Verified(tuple(scores), tuple(told), (best,) * probes)


def states_of(table: PooledRows) -> NDArray[np.float32]:
    """Pooled states as (row, state, feature), whatever the features."""
    rows = table.features
    return rows[:, None] if rows.ndim == 2 else rows


def judged_trials(
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


def trials_rate(trials: Sequence[tuple[Place, Place, bool, float]]) -> float:
    """EER of some trials; 0.5 where one kind of them is missing."""
    is_same = np.array([same for *_, same, _ in trials], dtype=np.bool_)
    if not is_two_sided(is_same):
        return 0.5
    return equal_error_rate(is_same, np.array([score for *_, score in trials]))
