"""Phone alignments, from a custom field or a table in seconds, and the phone of each frame."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.config import FramesTask
from evaluation.data.labels import (
    KeyedTask,
    MissingLabelError,
    OneClassError,
    UnseenLabelError,
    known_fields,
    left_out,
    task_labels,
)
from evaluation.data.utterances import check_conditions
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.json_yaml import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.config import AnyTask
    from evaluation.data.utterances import EvaluationSet, ListedUtterance

COLUMNS = ("id", "start", "end", "label")
Segments = tuple[tuple[float, float, str], ...]


class BadAlignmentError(StillroomError, ValueError):
    """An alignment that is no list of `[start, end, phone]`."""

    def __init__(self, where: str, utterance: str, what: str) -> None:
        super().__init__(
            f"{printable(where)}: utterance {printable(utterance, limit=60)!r}: {what}; expected a list of [start, end, phone] "
            "in seconds, with start before end"
        )


@dataclass(frozen=True)
class AlignedTask(KeyedTask["FramesTask", "Segments"]):
    """A frame task with its alignments.

    Attributes:
        names: Phones of the training utterances, sorted.
    """

    names: tuple[str, ...]


def align_task(task: FramesTask, dataset: EvaluationSet) -> AlignedTask:
    """Alignments of a task; utterances without one are left out.

    Raises:
        MissingLabelError: If no utterance of train or test has one.
        UnseenLabelError: If only test has a phone.
        OneClassError: If there is one phone in all.
        EmptyConditionError: If no aligned test utterance has a copy of some condition.
        BadAlignmentError: If one is malformed, or starts after its utterance's end.
    """
    table = None if task.table is None else read_table(Path(task.table))
    found = {
        "train": aligned(task, dataset.train, table, split=dataset.splits.train),
        "dev": aligned(task, dataset.dev, table, split=None),
        "test": aligned(task, dataset.test, table, split=dataset.splits.test),
    }
    names = {role: {phone for segments in split.values() for *_, phone in segments} for role, split in found.items()}
    if unseen := names["test"] - names["train"]:
        raise UnseenLabelError(
            task.name, sorted(unseen), train=dataset.splits.train, test=dataset.splits.test, limit=dataset.limit
        )
    if len(names["train"]) < 2:
        raise OneClassError(task.name, label=min(names["train"]), is_within=False, limit=dataset.limit)
    check_conditions(task.name, found["test"], dataset)
    notes = tuple(left_out(task.name, len(found["test"]), dataset))
    return AlignedTask(
        task.name, task, found["train"], found["dev"], found["test"], notes, tuple(sorted(names["train"]))
    )


def alignments_of_test(tasks: Sequence[AnyTask], dataset: EvaluationSet) -> tuple[dict[str, Segments], str]:
    """Alignments of test utterances for measures, by sample key, and where they are from.

    They are those of the first task of kind `frames`; without one those in the field `phones`, which in other corpora is a text and not taken.

    Raises:
        BadAlignmentError: If one is malformed, or starts after its utterance's end.
    """
    task = next((task for task in tasks if isinstance(task, FramesTask)), None)
    if task is None:
        task = FramesTask(kind="frames")
        entries = {
            key: entry for key, entry in dataset.test.items() if isinstance(entry.sample.custom.get(task.label), list)
        }
    else:
        entries = dataset.test
    table = None if task.table is None else read_table(Path(task.table))
    return aligned(task, entries, table, split=None), task.table or f"the field {task.label!r}"


def aligned(
    task: FramesTask, entries: Mapping[str, ListedUtterance], table: Mapping[str, Segments] | None, *, split: str | None
) -> dict[str, Segments]:
    """Alignments by sample key of the utterances that belong to a task; `split` as in `task_labels`."""
    found = {key: segments_of(task, entry, table) for key, entry in entries.items()}
    if split is not None and not any(found.values()):
        raise MissingLabelError(task.table or task.label, split=split, known=known_fields(entries))
    return task_labels(task, entries, found, split=split)


def segments_of(task: FramesTask, entry: ListedUtterance, table: Mapping[str, Segments] | None) -> Segments | None:
    """The alignment of one utterance; None if it has none.

    Raises:
        BadAlignmentError: If it is malformed, or starts after its utterance's end.
    """
    name, value = entry.sample.id, entry.sample.custom.get(task.label)
    if table is not None:
        segments = table.get(name)
    else:
        segments = None if value in (None, "", []) else parsed(value, utterance=name, where=task.name)
    if segments and segments[-1][0] >= entry.seconds:
        late = f"found {list(segments[-1])}, which starts after its end at {entry.seconds:.3f} s"
        raise BadAlignmentError(task.table or task.name, name, late)
    return segments


def parsed(value: Any, *, utterance: str, where: str) -> Segments:
    """A custom field as segments.

    Raises:
        BadAlignmentError: If it is something else.
    """
    if not isinstance(value, list):
        raise BadAlignmentError(where, utterance, f"found {printable(value, limit=40)!r}")
    segments = []
    for item in value:
        if not (isinstance(item, list) and len(item) == 3):
            raise BadAlignmentError(where, utterance, f"found {printable(item, limit=40)!r} in its list")
        start, end, phone = item
        is_numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (start, end))
        if not is_numbers or not isinstance(phone, str) or not 0 <= start < end:
            raise BadAlignmentError(where, utterance, f"found {printable(item, limit=40)!r}")
        segments.append((float(start), float(end), phone))
    return tuple(sorted(segments))


def read_table(path: Path) -> dict[str, Segments]:
    """Alignments by utterance id from a CSV file with the columns `id,start,end,label`.

    Raises:
        BadDocumentError: If a column is missing or a line is malformed.
    """
    text = read_bytes(path, needed="the alignments of a task").decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise BadDocumentError(path, f"the column {missing[0]} is missing; expected {','.join(COLUMNS)}")
    rows: dict[str, list[list[Any]]] = {}
    for line, row in enumerate(reader, 2):
        try:
            segment = [float(row["start"]), float(row["end"]), row["label"]]
        except (TypeError, ValueError):
            raise BadDocumentError(path, f"line {line}: expected start and end in seconds") from None
        rows.setdefault(str(row["id"]), []).append(segment)
    return {name: parsed(segments, utterance=name, where=str(path)) for name, segments in rows.items()}


@dataclass(frozen=True)
class FrameClock:
    """Times of a model's frames: frame i is computed from `receptive` samples, the first of them `i * hop`; its middle is its time.

    Attributes:
        hop: Samples from one frame to the next.
        receptive: Fewest samples that give a frame.
    """

    hop: int
    receptive: int
    rate_hz: int

    @classmethod
    def of(cls, num_frames: Callable[[int], int], *, rate_hz: int) -> FrameClock:
        """From the function that gives the number of frames of so many samples."""
        receptive = first_length(num_frames, frames=1)
        return cls(first_length(num_frames, frames=2) - receptive, receptive, rate_hz)

    def num_frames(self, num_samples: int) -> int:
        """How many frames an utterance of so many samples gives."""
        return max(0, (num_samples - self.receptive) // self.hop + 1)

    def times_s(self, count: int) -> NDArray[np.float64]:
        """Middle of each of the first frames, in seconds."""
        return (np.arange(count) * self.hop + self.receptive / 2) / self.rate_hz


def first_length(num_frames: Callable[[int], int], *, frames: int) -> int:
    """Fewest samples that give so many frames."""
    low, high = 0, 1
    while num_frames(high) < frames:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if num_frames(middle) >= frames else (middle, high)
    return high


def frame_classes(segments: Segments, names: tuple[str, ...], times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the phone at each time, -1 where there is none; of overlapping segments the later one counts."""
    place = {name: number for number, name in enumerate(names)}
    starts = np.array([start for start, _, _ in segments])
    ends = np.array([end for _, end, _ in segments])
    numbers = np.array([place.get(phone, -1) for *_, phone in segments], dtype=np.int64)
    index = np.searchsorted(starts, times_s, side="right") - 1
    inside = (index >= 0) & (times_s < ends[np.maximum(index, 0)])
    return np.where(inside, numbers[np.maximum(index, 0)], -1)
