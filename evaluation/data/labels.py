"""Labels of a task's utterances, and the training utterances that a probe holds back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from evaluation.data.utterances import check_conditions, keyed_order, under_limit
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from evaluation.config import ClassifyTask, Features, ProbedTask
    from evaluation.data.utterances import EvaluationSet, ListedUtterance
    from manifests.corpus.sample import Sample


FOLDS = 10
FIELDS = ("speaker", "language", "text")
ConfigT = TypeVar("ConfigT", bound="ProbedTask")
LabelT = TypeVar("LabelT")


class MissingLabelError(StillroomError, ValueError):
    """A field that no utterance of a split has."""

    def __init__(self, field: str, *, split: str, known: Iterable[str]) -> None:
        fields = ", ".join(printable(name, limit=40) for name in known) or "no field at all"
        super().__init__(
            f"tasks: no utterance of split {split!r} has the field {printable(field, limit=60)!r}; it has {fields}"
        )


class NobodyLeftError(StillroomError, ValueError):
    """A task that no utterance of a split belongs to."""

    def __init__(self, task: str, *, split: str) -> None:
        super().__init__(
            f"task {printable(task, limit=80)!r}: no utterance of split {split!r} has its label and meets its where and within; "
            "see the values with `stillroom show`"
        )


class UnseenLabelError(StillroomError, ValueError):
    """A label of the test split that no training utterance has."""

    def __init__(self, task: str, labels: list[str], *, train: str, test: str, limit: int | None = None) -> None:
        shown = ", ".join(repr(printable(label, limit=40)) for label in labels[:3]) + (", …" if len(labels) > 3 else "")
        super().__init__(
            f"task {printable(task, limit=80)!r}: {len(labels)} label(s) of split {test!r} are not in split {train!r}{under_limit(limit)}: {shown}; "
            "no probe can predict them: divide the data so that train has every label"
        )


class OneClassError(StillroomError, ValueError):
    """Training utterances that all have one label."""

    def __init__(self, task: str, *, label: str, is_within: bool, limit: int | None = None) -> None:
        where = "within each group all" if is_within else "all"
        super().__init__(
            f"task {printable(task, limit=80)!r}: {where} training utterances{under_limit(limit)} have one label, such as "
            f"{printable(label, limit=40)!r}; at least two are needed"
        )


def field_of(sample: Sample, field: str) -> str | None:
    """The value of a field as text; None where the utterance does not have it, or it is empty."""
    value = getattr(sample, field) if field in FIELDS else sample.custom.get(field)
    return None if value is None or value == "" or isinstance(value, dict | list) else str(value)


def meets(where: Mapping[str, Container[str | None]], sample: Sample) -> bool:
    """Whether an utterance has one of the values of every field of a task's `where`."""
    return all(field_of(sample, field) in values for field, values in where.items())


def task_labels(
    task: ProbedTask,
    entries: Mapping[str, ListedUtterance],
    labels: Mapping[str, LabelT | None],
    *,
    split: str | None,
    fields: Sequence[str] = (),
) -> dict[str, LabelT]:
    """The utterances of a split that belong to a task, by sample key: those that have a label and meet its `where`.

    Args:
        task: The task.
        entries: Utterances of the split.
        labels: The label of each utterance by sample key; None or empty if it has none.
        split: Its name; None if no utterance of it need belong to the task.
        fields: Fields of the corpus that labels are made from.

    Raises:
        MissingLabelError: If no utterance has one of the fields, or one of those in `where`.
        NobodyLeftError: If no utterance belongs to the task.
    """
    for field in (*fields, *task.where) if split is not None else ():
        if all(field_of(entry.sample, field) is None for entry in entries.values()):
            raise MissingLabelError(field, split=split or "", known=known_fields(entries))
    found = {key: label for key, entry in entries.items() if (label := labels[key]) and meets(task.where, entry.sample)}
    if split is not None and not found:
        raise NobodyLeftError(task.name, split=split)
    return found


def known_fields(entries: Mapping[str, ListedUtterance]) -> list[str]:
    """Fields that some utterance has, those of every sample first."""
    custom = sorted({name for entry in entries.values() for name in entry.sample.custom})
    own = [name for name in FIELDS if any(getattr(entry.sample, name) is not None for entry in entries.values())]
    return (own + custom)[:12]


def left_out(task: str, count: int, dataset: EvaluationSet) -> list[str]:
    """A note on test utterances that do not belong to a task, if there are any; `count` do."""
    total = len(dataset.test)
    return [f"{task}: {total - count} of {total} test utterances are left out"] if count < total else []


@dataclass(frozen=True)
class LabelGroup:
    """One group of a task (all of it, if the task has no `within`): labels by sample key."""

    train: dict[str, str]
    dev: dict[str, str]
    test: dict[str, str]


@dataclass(frozen=True)
class LabelledTask:
    """A classification task with its labels.

    Attributes:
        groups: One for each value of `within`, in sorted order.
        notes: What was left out, for readers of the scores.
        features: Which states the probe reads.
        probe: Whether it is trained on clean or distorted speech.
    """

    name: str
    groups: tuple[LabelGroup, ...]
    notes: tuple[str, ...]
    features: Features = "last"
    probe: Literal["clean", "distorted"] = "clean"

    def keys(self, role: str) -> set[str]:
        """Sample keys of one role over all groups."""
        return {key for group in self.groups for key in getattr(group, role)}


def label_task(task: ClassifyTask, dataset: EvaluationSet) -> LabelledTask:
    """Labels of a classification task; utterances without its label (or its `within` field) are left out.

    Raises:
        MissingLabelError: If no utterance of train or test has the field.
        NobodyLeftError: If no utterance of train or test belongs to the task.
        UnseenLabelError: If only test has a label.
        OneClassError: If train has one label alone.
        EmptyConditionError: If no labelled test utterance has a copy of some condition.
    """
    splits = dataset.splits
    train = grouped_labels(task, dataset.train, split=splits.train)
    dev = grouped_labels(task, dataset.dev, split=None)
    test = grouped_labels(task, dataset.test, split=splits.test)
    notes: list[str] = []
    groups: list[LabelGroup] = []
    unseen: set[str] = set()
    for value in sorted(test):
        known = set(train.get(value, {}).values())
        unseen |= set(test[value].values()) - known
        if len(known) == 1 and task.within is not None:
            notes.append(f"{task.name}: {printable(value, limit=40)!r} is left out, it has one {task.label} only")
            continue
        on_dev = {key: label for key, label in dev.get(value, {}).items() if label in known}
        groups.append(LabelGroup(train.get(value, {}), on_dev, test[value]))
    if unseen:
        raise UnseenLabelError(task.name, sorted(unseen), train=splits.train, test=splits.test, limit=dataset.limit)
    if all(len(set(group.train.values())) < 2 for group in groups):
        label = next(iter(next(iter(train.values())).values()))
        raise OneClassError(task.name, label=label, is_within=task.within is not None, limit=dataset.limit)
    check_conditions(task.name, [key for group in groups for key in group.test], dataset)
    notes += left_out(task.name, sum(len(group.test) for group in groups), dataset)
    return LabelledTask(task.name, tuple(groups), tuple(notes), task.features, task.probe)


def grouped_labels(
    task: ClassifyTask, entries: Mapping[str, ListedUtterance], *, split: str | None
) -> dict[str, dict[str, str]]:
    """Labels by value of `within` (one group without it) and sample key; `split` as in `task_labels`."""
    pairs: dict[str, tuple[str, str] | None] = {}
    for key, entry in entries.items():
        label = field_of(entry.sample, task.label)
        value = "" if task.within is None else field_of(entry.sample, task.within)
        pairs[key] = None if label is None or value is None else (value, label)
    fields = [task.label] if task.within is None else [task.label, task.within]
    groups: dict[str, dict[str, str]] = {}
    for key, (value, label) in task_labels(task, entries, pairs, split=split, fields=fields).items():
        groups.setdefault(value, {})[key] = label
    return groups


def held_back(labels: Mapping[str, str], *, seed: int, probe: int) -> set[str]:
    """Keys of the tenth of the training utterances that one probe holds back, label by label, by keyed hash.

    A label with a single utterance keeps it for training.
    """
    by_label: dict[str, list[str]] = {}
    for key, label in labels.items():
        by_label.setdefault(label, []).append(key)
    back: set[str] = set()
    for keys in by_label.values():
        if len(keys) > 1:
            order = keyed_order(keys, seed=seed, purpose="held back")
            back.update(order[probe % min(FOLDS, len(keys)) :: FOLDS])
    return back


@dataclass(frozen=True)
class KeyedTask(Generic[ConfigT, LabelT]):
    """A task with a label (a speaker, a text, an alignment) for each sample key.

    Attributes:
        name: In tables.
        task: Its config.
        notes: What was left out, for readers of the scores.
    """

    name: str
    task: ConfigT
    train: dict[str, LabelT]
    dev: dict[str, LabelT]
    test: dict[str, LabelT]
    notes: tuple[str, ...]

    @property
    def features(self) -> Features:
        """Which states the probe reads."""
        return self.task.features

    @property
    def probe(self) -> Literal["clean", "distorted"]:
        """Whether it is trained on clean or distorted speech."""
        return self.task.probe

    def of(self, role: Literal["train", "dev", "test"]) -> dict[str, LabelT]:
        """Labels of a role by sample key."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[role]

    def keys(self, role: Literal["train", "dev", "test"]) -> set[str]:
        """Sample keys of a role."""
        return set(self.of(role))
