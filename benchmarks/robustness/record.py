"""A finished cell as it is committed: small, and enough for every claim to be decided from it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from evaluation.report.bootstrap import Copies, task_outcomes
from manifests.io.records import Document, Record, Sha256

if TYPE_CHECKING:
    from manifests.results.scores import CopyTable, ModelScores

LABEL_FREE = ("cosine", "mismatched", "retrieval", "rank", "variance")
Numbers = Annotated[tuple[float, ...], Field(strict=False)]


class TaskCounts(Record):
    """What a task's probes got right, by condition and unit; mean of the probes.

    Attributes:
        units: Speakers; utterances by their number in the roll, where fewer than ten speakers say everything.
        counts: Right answers of each unit, by condition.
        totals: Out of how many.
        chance: Share that is right if the commonest training label is always answered.
    """

    units: Annotated[tuple[str, ...], Field(strict=False)]
    counts: dict[str, Numbers]
    totals: dict[str, Numbers]
    chance: Annotated[float, Field(ge=0, lt=1)]


class StudyCell(Document):
    """`docs/results/cells/<name>.json`.

    Attributes:
        digest: Of `decided`: a cell of another digest is made anew.
        decided: Everything that decides the numbers (`cells.Cell.decided`).
        claims_sha256: Of `claims.md` as it stood when the cell was measured.
        data_sha256: Of the evaluation corpus; cells of different data are never compared.
        student: What `evaluate` says of the model: updates, audio heard, digest.
        seconds: Wall time of training and of evaluation.
        tasks: By name.
        label_free: Measure, condition, then a number a layer.
    """

    SCHEMA: ClassVar[str] = "stillroom/study-cell/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: str
    system: str
    claim: str
    side: str
    seed: int
    corpus: str
    digest: Sha256
    decided: dict[str, Any]
    claims_sha256: Sha256
    data_sha256: Sha256
    student: dict[str, Any]
    seconds: dict[str, float]
    tasks: dict[str, TaskCounts]
    label_free: dict[str, dict[str, Numbers]]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    software: dict[str, str] = {}


FEWEST_SPEAKERS = 10


def chance_of(measured: ModelScores, task: str) -> float | None:
    """What always answering the commonest label gets right, where `evaluate` says so."""
    found = [score.value for score in measured.scores if score.task == task and score.measure == "majority"]
    return found[0] if found else None


def task_counts(measured: ModelScores, roll: CopyTable, task: str, *, chance: float) -> TaskCounts:
    """Counts of one task by condition and unit."""
    [told] = task_outcomes(measured, task)
    copies = Copies.of(roll)
    part = told.takes_part(np.ones(len(copies.condition), dtype=np.bool_))
    by_speaker = len(np.unique(copies.speaker[part])) >= FEWEST_SPEAKERS
    owner = copies.speaker if by_speaker else copies.utterance
    known, numbers = np.unique(owner[part], return_inverse=True)
    units = np.zeros(len(owner), dtype=np.int64)
    units[part] = numbers.reshape(-1)
    counts, totals = {}, {}
    for number, condition in enumerate(roll.conditions):
        mask = part & (copies.condition == number)
        if mask.any():
            right, out_of = told.by_unit(mask, units, num_units=len(known))
            counts[condition] = tuple(round(float(value), 3) for value in right)
            totals[condition] = tuple(round(float(value), 3) for value in out_of)
    names = tuple(roll.speakers[one] if by_speaker else f"utterance {one}" for one in known)
    return TaskCounts(units=names, counts=counts, totals=totals, chance=chance)


def label_free(measured: ModelScores) -> dict[str, dict[str, tuple[float, ...]]]:
    """Scores without labels by measure and condition, a number a layer."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for score in measured.scores:
        if score.measure in LABEL_FREE and score.layer is not None and score.condition is not None:
            found.setdefault(score.measure, {}).setdefault(score.condition, {})[score.layer] = score.value
    return {
        measure: {
            condition: tuple(round(layers[layer], 5) for layer in sorted(layers))
            for condition, layers in conditions.items()
        }
        for measure, conditions in found.items()
    }
