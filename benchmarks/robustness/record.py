"""A finished cell as it is committed: one line of JSON, and enough for every claim to be decided from it alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from evaluation.report.bootstrap import Copies, task_outcomes
from manifests.io.atomic import write_text
from manifests.io.records import Document, Record, Sha256

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manifests.results.scores import CopyTable, ModelFacts, ModelScores

LABEL_FREE = ("cosine", "mismatched", "retrieval", "rank")
FACTS = ("steps", "audio_s", "corpus_sha256", "teacher_sha256")
Numbers = Annotated[tuple[int | float, ...], Field(strict=False)]


class TaskCounts(Record):
    """What a task's probes got right, by condition and voice; mean of the probes.

    Attributes:
        counts: Right answers of each voice, by condition.
        totals: Out of how many, the same under every condition.
        chance: Share that is right if the commonest training label is always answered.
    """

    counts: dict[str, Numbers]
    totals: Numbers
    chance: Annotated[float, Field(ge=0, lt=1)]


class StudyCell(Document):
    """`docs/results/cells/<name>.json`.

    Attributes:
        digest: Of `decided`: a cell of another digest is made anew.
        decided: Everything that decides the numbers (`cells.Cell.decided`).
        claims_sha256: Of `claims.md` as it stood when the cell was measured.
        data_sha256: Of the evaluation corpus; cells of different data are never compared.
        student: Digest, parameters, layers, steps, seconds of training audio, digests of corpus and teacher.
        seconds: Processor time of training and of evaluation; of a run that was resumed, of its last part.
        voices: Who speaks in the tested split: the order of all counts.
        tasks: By the study's name of the task.
        label_free: Measure, condition, then a number a layer.
    """

    SCHEMA: ClassVar[str] = "stillroom/study-cell/2"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: str
    system: str
    side: str
    seed: int
    corpus: str
    digest: Sha256
    decided: dict[str, Any]
    claims_sha256: Sha256
    data_sha256: Sha256
    student: dict[str, Any]
    seconds: dict[str, float]
    voices: Annotated[tuple[str, ...], Field(strict=False)]
    tasks: dict[str, TaskCounts]
    label_free: dict[str, dict[str, Numbers]]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    software: dict[str, str] = {}

    def write_line(self, path: Path) -> None:
        """Write as one line of JSON, atomically."""
        write_text(path, json.dumps(self.plain(), separators=(",", ":")) + "\n")


def number(value: float) -> int | float:
    """Rounded; a whole number without its point, since most counts are whole."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded == int(rounded) else rounded


def majority(measured: ModelScores, task: str) -> float | None:
    """What always answering the commonest label gets right, where `evaluate` says so."""
    found = [score.value for score in measured.scores if score.task == task and score.measure == "majority"]
    return found[0] if found else None


def voices_of(measured: ModelScores, roll: CopyTable, tasks: Iterable[str]) -> tuple[str, ...]:
    """All voices of the tested copies that take part in one of the tasks, by name."""
    copies = Copies.of(roll)
    everything = np.ones(len(copies.condition), dtype=np.bool_)
    part = np.logical_or.reduce([task_outcomes(measured, task)[0].takes_part(everything) for task in tasks])
    return tuple(sorted(roll.speakers[one] for one in np.unique(copies.speaker[part])))


def task_counts(
    measured: ModelScores, roll: CopyTable, task: str, *, voices: tuple[str, ...], chance: float
) -> TaskCounts:
    """Counts of one task by condition and voice."""
    [outcomes] = task_outcomes(measured, task)
    copies = Copies.of(roll)
    part = outcomes.takes_part(np.ones(len(copies.condition), dtype=np.bool_))
    places = {name: place for place, name in enumerate(voices)}
    units = np.array([places.get(roll.speakers[one], 0) for one in copies.speaker], dtype=np.int64)
    counts, totals = {}, {}
    for place, condition in enumerate(roll.conditions):
        mask = part & (copies.condition == place)
        if mask.any():
            right, out_of = outcomes.by_unit(mask, units, num_units=len(voices))
            counts[condition] = tuple(map(number, right))
            totals[condition] = tuple(map(number, out_of))
    [same] = set(totals.values())  # one copy of each condition, as long as the clean utterance
    return TaskCounts(counts=counts, totals=same, chance=chance)


def label_free(measured: ModelScores) -> dict[str, dict[str, tuple[int | float, ...]]]:
    """Scores without labels by measure and condition, a number a layer."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for score in measured.scores:
        if score.measure in LABEL_FREE and score.layer is not None and score.condition is not None:
            found.setdefault(score.measure, {}).setdefault(score.condition, {})[score.layer] = score.value
    return {
        measure: {
            condition: tuple(round(layers[layer], 4) for layer in sorted(layers))
            for condition, layers in conditions.items()
        }
        for measure, conditions in found.items()
    }


def student_facts(facts: ModelFacts) -> dict[str, Any]:
    """What is kept of what `evaluate` says of the model."""
    own = {"digest": facts.digest, "parameters": facts.parameters, "layers": facts.layers}
    return own | {name: facts.details[name] for name in FACTS if name in facts.details}
