"""Transcripts as the units that a CTC probe predicts: characters of a normalised text, or phones."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evaluation.data.labels import KeyedTask, field_of, left_out, task_labels
from evaluation.data.utterances import check_conditions, under_limit
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.config import CtcTask
    from evaluation.data.utterances import EvaluationSet, ListedUtterance

TEXT_CATEGORIES = ("L", "M", "N")


class UnseenUnitError(StillroomError, ValueError):
    """A character or phone of the test texts that no training text has."""

    def __init__(self, task: str, units: list[str], *, train: str, test: str, limit: int | None = None) -> None:
        shown = " ".join(repr(printable(unit, limit=20)) for unit in units[:8]) + (" …" if len(units) > 8 else "")
        super().__init__(
            f"task {printable(task, limit=80)!r}: {len(units)} unit(s) of the texts of split {test!r} are not in split {train!r}"
            f"{under_limit(limit)}: {shown}; choose utterances by `where`, or count them as errors with `unseen: errors`"
        )


@dataclass(frozen=True)
class TextTask(KeyedTask["CtcTask", tuple[str, ...]]):
    """A CTC task with its texts, each a tuple of units, by sample key.

    Attributes:
        units: Of the training texts, sorted; the blank is not one.
    """

    units: tuple[str, ...]


def normalised_text(text: str) -> str:
    """Lower case, letters, marks, digits and apostrophes only, one space between words."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in TEXT_CATEGORIES else " " for c in plain)
    return re.sub(r"\s+", " ", text).strip()


def units_of(text: str, kind: Literal["characters", "phones"]) -> tuple[str, ...]:
    """A text as units."""
    return tuple(normalised_text(text)) if kind == "characters" else tuple(text.split())


def label_texts(task: CtcTask, dataset: EvaluationSet) -> TextTask:
    """Texts of a CTC task; utterances without one are left out.

    Raises:
        MissingLabelError: If no utterance of train or test has the field.
        NobodyLeftError: If no utterance of train or test belongs to the task.
        UnseenUnitError: If only test has a unit, and such units are not to be counted as errors.
        EmptyConditionError: If no test utterance with a text has a copy of some condition.
    """
    splits = dataset.splits
    train = texts(task, dataset.train, split=splits.train)
    dev = texts(task, dataset.dev, split=None)
    test = texts(task, dataset.test, split=splits.test)
    units = sorted({unit for text in train.values() for unit in text})
    unseen = sorted({unit for text in test.values() for unit in text} - set(units))
    if unseen and task.unseen == "refuse":
        raise UnseenUnitError(task.name, unseen, train=splits.train, test=splits.test, limit=dataset.limit)
    check_conditions(task.name, test, dataset)
    notes = []
    if unseen:
        notes.append(
            f"{task.name}: {len(unseen)} units that train lacks are counted as errors: {' '.join(unseen[:12])}"
        )
    known = set(units)
    dev = {key: text for key, text in dev.items() if known.issuperset(text)}
    notes += left_out(task.name, len(test), dataset)
    return TextTask(task.name, task, train, dev, test, tuple(notes), tuple(units))


def texts(task: CtcTask, entries: Mapping[str, ListedUtterance], *, split: str | None) -> dict[str, tuple[str, ...]]:
    """Units by sample key of the utterances that belong to a task; `split` as in `task_labels`."""
    found = {
        key: None if (text := field_of(entry.sample, task.label)) is None else units_of(text, task.units)
        for key, entry in entries.items()
    }
    return task_labels(task, entries, found, split=split, fields=[task.label])
