"""Trials of speaker verification: pairs of test utterances, and the speakers that the embedding is trained on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.data.labels import FOLDS, KeyedTask, field_of, left_out, task_labels
from evaluation.data.utterances import check_conditions, keyed_order
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.config import VerifyTask
    from evaluation.data.utterances import EvaluationSet, ListedUtterance


class OneSpeakerError(StillroomError, ValueError):
    """A split with one speaker, or without a speaker of two utterances."""

    def __init__(self, task: str, *, split: str, what: str) -> None:
        super().__init__(
            f"task {printable(task, limit=80)!r}: split {split!r} has {what}; verification needs two speakers, one of them with "
            "two utterances"
        )


@dataclass(frozen=True)
class VerificationTask(KeyedTask["VerifyTask", str]):
    """A verification task with its speakers by sample key.

    Attributes:
        pairs: Of test: (tested key, enrolled key), half of them of one speaker, the same for every condition.
        dev_pairs: The same of dev (or of training speakers, where there is no dev), to choose the learning rate on.
    """

    pairs: tuple[tuple[str, str], ...]
    dev_pairs: tuple[tuple[str, str], ...]


def label_speakers(task: VerifyTask, dataset: EvaluationSet, *, seed: int) -> VerificationTask:
    """Speakers and trials of a task.

    Raises:
        MissingLabelError: If no utterance of train or test has the field.
        NobodyLeftError: If no utterance of train or test belongs to the task.
        OneSpeakerError: If there is one speaker in train or test, or none with two utterances.
        EmptyConditionError: If no tested utterance has a copy of some condition.
    """
    splits = dataset.splits
    train = speakers(task, dataset.train, split=splits.train)
    dev = speakers(task, dataset.dev, split=None)
    test = speakers(task, dataset.test, split=splits.test)
    for split, found in ((splits.train, train), (splits.test, test)):
        if len(set(found.values())) < 2:
            raise OneSpeakerError(
                task.name, split=split, what=f"one speaker, {printable(next(iter(found.values())))!r}"
            )
    pairs = chosen_pairs(test, most=task.trials, seed=seed)
    if not any(test[one] == test[other] for one, other in pairs):
        raise OneSpeakerError(task.name, split=splits.test, what="no speaker with two utterances")
    check_conditions(task.name, [tested for tested, _ in pairs], dataset)
    dev_pairs = chosen_pairs(dev, most=task.trials, seed=seed) if len(set(dev.values())) > 1 else ()
    if len({dev[one] == dev[other] for one, other in dev_pairs}) < 2:
        dev, dev_pairs = {}, training_pairs(train, most=task.trials, seed=seed)
    notes = []
    if not dev:
        notes.append(f"{task.name}: the learning rate is chosen on training speakers, dev has no trials")
    notes += left_out(task.name, len(test), dataset)
    return VerificationTask(task.name, task, train, dev, test, tuple(notes), pairs, dev_pairs)


def training_pairs(train: Mapping[str, str], *, most: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Trials to choose the learning rate on where dev has none: of a tenth of the training speakers, at least two.

    Probes that are tried are not trained on those. All training speakers are taken where so few make no trials of both kinds,
    or where fewer than two would be left.
    """
    twice = [speaker for speaker, count in Counter(train.values()).items() if count > 1]
    back = set(keyed_order(twice, seed=seed, purpose="held back")[: max(2, len(twice) // FOLDS)])
    if len(back) < 2 or len(set(train.values()) - back) < 2:
        back = set(train.values())
    return chosen_pairs({key: name for key, name in train.items() if name in back}, most=most, seed=seed)


def speakers(task: VerifyTask, entries: Mapping[str, ListedUtterance], *, split: str | None) -> dict[str, str]:
    """Speakers by sample key of the utterances that belong to a task; `split` as in `task_labels`."""
    found = {key: field_of(entry.sample, task.label) for key, entry in entries.items()}
    return task_labels(task, entries, found, split=split, fields=[task.label])


def chosen_pairs(labels: Mapping[str, str], *, most: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Trials: utterances in the order of a keyed hash, each against one of its own speaker and one of another."""
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
            pairs += [(key, same), (key, others[0])]
            if len(pairs) >= most:
                return tuple(pairs[:most])
        if len(pairs) == before:
            break
    return tuple(pairs)
