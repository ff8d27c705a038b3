"""What is said, as units that a CTC probe can write: characters of a normalised text, or phones."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import jiwer

from evaluation.data.labels import KeyedTask, MissingLabelError, NobodyLeftError, field_of, known_fields, takes_part
from evaluation.data.utterances import check_conditions, under_limit
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.config import CtcTask
    from evaluation.data.utterances import EvaluationSet, ListedUtterance

KEPT_CATEGORIES = ("L", "M", "N")


class UnseenUnitError(StillroomError, ValueError):
    """A character or phone of the test texts that no training text has."""

    def __init__(self, task: str, units: list[str], *, train: str, test: str, limit: int | None = None) -> None:
        shown = " ".join(repr(printable(unit, limit=20)) for unit in units[:8]) + (" …" if len(units) > 8 else "")
        super().__init__(
            f"task {printable(task, limit=80)!r}: {len(units)} unit(s) of the texts of split {test!r} do not stand in split {train!r}"
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
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in KEPT_CATEGORIES else " " for c in plain)
    return re.sub(r"\s+", " ", kept).strip()


def units_of(text: str, kind: Literal["characters", "phones"]) -> tuple[str, ...]:
    """A text as units."""
    return tuple(normalised_text(text)) if kind == "characters" else tuple(text.split())


def label_texts(task: CtcTask, dataset: EvaluationSet) -> TextTask:
    """Texts of a task; utterances without one are left out.

    Raises:
        MissingLabelError: If no utterance of train or test has the field.
        NobodyLeftError: If no utterance of train or test takes part.
        UnseenUnitError: If a unit stands only in test, and that is not to be counted as errors.
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
    kept = {key: text for key, text in dev.items() if known.issuperset(text)}
    if len(test) < len(dataset.test):
        notes.append(
            f"{task.name}: {len(dataset.test) - len(test)} of {len(dataset.test)} test utterances are left out"
        )
    return TextTask(task.name, task, train, kept, test, tuple(notes), tuple(units))


def texts(task: CtcTask, entries: Mapping[str, ListedUtterance], *, split: str | None) -> dict[str, tuple[str, ...]]:
    """Units by sample key of the utterances that take part; `split` is None where it may lack the field."""
    found = {
        key: units
        for key, entry in entries.items()
        if takes_part(task.where, entry.sample)
        and (text := field_of(entry.sample, task.label)) is not None
        and (units := units_of(text, task.units))
    }
    if split is not None and not found:
        if all(field_of(entry.sample, task.label) is None for entry in entries.values()):
            raise MissingLabelError(task.label, split=split, known=known_fields(entries))
        raise NobodyLeftError(task.name, split=split)
    return found


def without_outer_spaces(found: Sequence[str]) -> tuple[str, ...]:
    """The characters that a probe wrote, as they are counted: the references have no outer spaces, and jiwer takes none."""
    start, end = 0, len(found)
    while start < end and found[start] == " ":
        start += 1
    while end > start and found[end - 1] == " ":
        end -= 1
    return tuple(found[start:end])


def unit_edits(reference: Sequence[str], found: Sequence[str]) -> int:
    """Substitutions, insertions and deletions that turn one sequence of units into the other (jiwer)."""
    names: dict[str, str] = {}
    words = [
        " ".join(names.setdefault(unit, f"u{len(names)}") for unit in sequence) for sequence in (reference, found)
    ]  # units may be spaces, which jiwer would divide at
    return word_edits(words[0], words[1])


def word_edits(reference: str, found: str) -> int:
    """The same of two texts, word by word; the reference is not empty."""
    told = jiwer.process_words(reference, found)
    return int(told.substitutions + told.insertions + told.deletions)
