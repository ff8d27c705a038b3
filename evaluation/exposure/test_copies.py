"""The index of test copies: every copy that is tested, numbered once, and its category for each model; outcomes in its order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.exposure.categories import Library, category_of, copy_facts, snr_of
from evaluation.features import condition_of
from manifests.corpus.sample import CLEAN
from manifests.results.scores import CATEGORIES, CopyTable, Outcomes, Score, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.data.utterances import EvaluationSet
    from evaluation.exposure.categories import StepFacts
    from manifests.results.scores import TaskMeasure
    from manifests.results.training_exposure import TrainedOn
    from training.data.corpus import CorpusReader

LETTERS = {category: letter for letter, category in CATEGORIES.items()}
CopyKey = tuple[str, str]
"""Sample key and member."""
CopyOutcomes = dict[CopyKey, tuple[float, float]]
"""Of each copy what was counted (right answers, edits), and out of how many."""


@dataclass(frozen=True)
class CopyIndex:
    """Every copy that is tested, in one order.

    Attributes:
        record: The table as it is written.
        numbers: Number of each copy.
        steps: Facts of each copy's steps; None for clean.
    """

    record: CopyTable
    numbers: dict[CopyKey, int]
    steps: tuple[list[StepFacts] | None, ...]

    def letters(self, trained: TrainedOn | None) -> str:
        """The category of each copy for a model that was trained on this, one letter each."""
        return "".join(LETTERS["clean" if steps is None else category_of(steps, trained)] for steps in self.steps)


def index_test_copies(reader: CorpusReader, dataset: EvaluationSet) -> CopyIndex:
    """Number the copies of the test utterances: each utterance's clean wave, then its copies."""
    library = Library(reader)
    speakers: dict[str, int] = {}
    conditions = {name: number for number, name in enumerate((CLEAN, *dataset.conditions))}
    numbers: dict[CopyKey, int] = {}
    steps: list[list[StepFacts] | None] = []
    columns: dict[str, list[float | None]] = {name: [] for name in ("utterance", "speaker", "condition", "snr_db")}
    for number, (key, entry) in enumerate(dataset.test.items()):
        speaker = speakers.setdefault(entry.sample.speaker or entry.sample.id, len(speakers))
        for copy in (None, *entry.sample.copies):
            name = CLEAN if copy is None else copy.name
            condition = CLEAN if copy is None else copy.condition
            numbers[key, name] = len(numbers)
            steps.append(None if copy is None else copy_facts(copy, library))
            columns["utterance"].append(number)
            columns["speaker"].append(speaker)
            columns["condition"].append(conditions.setdefault(condition, len(conditions)))
            columns["snr_db"].append(None if copy is None else snr_of(copy))
    record = CopyTable(
        speakers=tuple(speakers),
        conditions=tuple(conditions),
        **{name: joined(column) for name, column in columns.items()},
    )
    return CopyIndex(record, numbers, tuple(steps))


def outcomes_of(
    outcomes: CopyOutcomes, numbers: Mapping[CopyKey, int], *, task: str, measure: TaskMeasure, probe: int
) -> Outcomes:
    """Outcomes of one probe in the order of the index, as they are written."""
    counts: list[float | None] = [None] * len(numbers)
    totals: list[float | None] = [None] * len(numbers)
    for copy, (count, total) in outcomes.items():
        counts[numbers[copy]], totals[numbers[copy]] = count, total
    ones = all(total in (None, 1) for total in totals)
    return Outcomes(
        task=task, measure=measure, probe=probe, counts=joined(counts), totals=None if ones else joined(totals)
    )


def condition_scores(outcomes: CopyOutcomes, *, task: str, measure: TaskMeasure, probe: int) -> list[Score]:
    """One score a condition: the sum of counts over the sum of totals; none where that is 0."""
    sums: dict[str, list[float]] = {}
    utterances: dict[str, set[str]] = {}
    for (key, member), (count, total) in outcomes.items():
        condition = condition_of(member)
        pair = sums.setdefault(condition, [0.0, 0.0])
        pair[0] += count
        pair[1] += total
        utterances.setdefault(condition, set()).add(key)
    return [
        Score(
            measure=measure, task=task, condition=condition, value=count / total,
            count=len(utterances[condition]), probe=probe,
        )
        for condition, (count, total) in sums.items()
        if total
    ]  # fmt: skip
