"""The robustness tables: shortfall closed; every system on every task, clean, seen, shifted and new; losses; differences with intervals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.measures.error_rates import SMALLER_IS_BETTER
from evaluation.report.bootstrap import (
    GROUPS,
    Copies,
    difference,
    groups_of,
    shortfall_closed,
    snr_bands,
    task_outcomes,
)
from evaluation.report.table import Quantity, Table, escaped, percent, points
from manifests.errors import StillroomError
from manifests.results.scores import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.report.bootstrap import Difference, ShortfallClosed, TaskOutcomes
    from manifests.results.scores import CopyTable, ModelScores, TaskMeasure

ORDER = ("clean", *GROUPS, "distorted")
WORDS = {"cer": "CER", "wer": "WER", "per": "PER", "eer": "EER", "accuracy": "accuracy"}


class UnknownSystemError(StillroomError, ValueError):
    """A name that no system has."""

    def __init__(self, name: str, *, known: Sequence[str]) -> None:
        super().__init__(f"--against {name!r}: no such system in these results; there are {', '.join(known)}")


class MixedSystemError(StillroomError, ValueError):
    """One name for the seeds of a student and for another model, which have no common mean."""

    def __init__(self, name: str, *, kinds: tuple[str, str]) -> None:
        super().__init__(
            f"the name {name!r} is that of a {kinds[0]} and of a {kinds[1]}: rename the model or the system in its evaluation config"
        )


@dataclass(frozen=True)
class SystemOutcomes:
    """Outcomes of all systems, with the groups of copies that they are reported for.

    Attributes:
        systems: Scores of its models by system, in order.
        copies: The copy table.
        groups: Which copies are clean, or of which category.
        grouped_by: The model whose training decides the categories; None if no model's is known.
    """

    systems: dict[str, list[ModelScores]]
    copies: Copies
    groups: dict[str, NDArray[np.bool_]]
    grouped_by: str | None

    @classmethod
    def from_scores(cls, scores: Sequence[ModelScores], table: CopyTable) -> SystemOutcomes:
        """From the scores of one protocol.

        The groups are the same for every row, else rows could not be compared: by the categories of the first student that was
        trained on distorted copies; without one, of the first model that was, or whose training is known.
        """
        copies = Copies.of(table)
        known = [one for one in scores if one.seen and "u" not in one.seen and one.facts.kind != "floor"]
        distorted = [one for one in known if one.trained]  # a copy that was left clean is seen by every model
        students = [one for one in distorted if one.facts.kind != "teacher"]
        chosen = next(iter(students or distorted or known), None)
        systems = systems_of(scores)
        groups = groups_of(copies, None if chosen is None else chosen.seen)
        return cls(systems, copies, groups, None if chosen is None else chosen.model)

    def of(self, system: str, task: str) -> dict[str, list[TaskOutcomes]]:
        """Outcomes of a system's seeds on a task, by measure."""
        found: dict[str, list[TaskOutcomes]] = {}
        for scores in self.systems[system]:
            for one in task_outcomes(scores, task):
                found.setdefault(one.measure, []).append(one)
        return found

    def tasks(self) -> list[tuple[str, TaskMeasure]]:
        """Task and measure of every column, in their order."""
        pairs: list[tuple[str, TaskMeasure]] = [
            (one.task, one.measure) for models in self.systems.values() for model in models for one in model.outcomes
        ] + [(one.task, "eer") for models in self.systems.values() for model in models for one in model.trials]
        return list(dict.fromkeys(pairs))


def systems_of(scores: Sequence[ModelScores]) -> dict[str, list[ModelScores]]:
    """Scores by system, in order: the seeds of one student, or a single model.

    Raises:
        MixedSystemError: If a system's name is that of a model of another kind too.
    """
    systems: dict[str, list[ModelScores]] = {}
    for one in scores:
        seeds = systems.setdefault(one.facts.system or one.model, [])
        if seeds and seeds[0].facts.kind != one.facts.kind:
            raise MixedSystemError(one.facts.system or one.model, kinds=(seeds[0].facts.kind, one.facts.kind))
        seeds.append(one)
    return systems


def value_of(outcomes: Sequence[TaskOutcomes], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean of the seeds (of their probes) and half their range; of the probes, where there is one seed."""
    by_seed = [one.values(mask) for one in outcomes]
    values = by_seed[0] if len(by_seed) == 1 else np.array([probes.mean() for probes in by_seed])
    return float(np.mean(values)), float(np.ptp(values) / 2)


def shown(value: float, spread: float | None = None) -> str:
    """A share in percent with its spread; empty where there is none."""
    if np.isnan(value):
        return ""
    found = percent(value, spread=spread)
    return Quantity(found.removeprefix("-"), found.numbers) if found.startswith("-0.0") else found


def plain_student(outcomes: SystemOutcomes) -> str | None:
    """The first student that is known to be trained on clean speech alone: by its views, or where they are not recorded by what it was trained on."""
    return next(
        (
            name
            for name, (model, *_) in outcomes.systems.items()
            if model.facts.kind in {"run", "export"}
            and (
                model.facts.details.get("views") == "none"
                or ("views" not in model.facts.details and model.trained == {})
            )
        ),
        None,
    )


def shortfall_table(outcomes: SystemOutcomes) -> Table | None:
    """What each system closes of the plain student's shortfall, by task and group, beside its gain on clean; None without a plain student."""
    plain, tasks = plain_student(outcomes), outcomes.tasks()
    _, *names = shortfall_columns(outcomes)
    if plain is None or not tasks or not names:
        return None
    rows = []
    for system in outcomes.systems:
        row: list[str] = []
        for task, measure in tasks:
            own, other = (outcomes.of(one, task).get(measure, []) for one in (system, plain))
            if system == plain or not own or not other:
                row += [""] * (1 + len(names))
                continue
            row.append(gain_text(difference(own, other, outcomes.groups["clean"], outcomes.copies), measure))
            row += [closed_text(shortfall_closed(own, other, outcomes.groups[name], outcomes.copies)) for name in names]
        if any(row):
            rows.append((system, *row))
    header = (
        "system",
        *(f"{task}: {WORDS[measure]}, {name}" for task, measure in tasks for name in shortfall_columns(outcomes)),
    )
    title = f"Shortfall of {plain} closed, in % (gain on clean: in points)"
    return Table(title, header, tuple(rows)) if rows else None


def shortfall_columns(outcomes: SystemOutcomes) -> list[str]:
    """Columns of each task in the table of the shortfall."""
    return ["gain on clean", *(name for name in ORDER[1:] if name in outcomes.groups)]


def gain_text(found: Difference | None, measure: TaskMeasure) -> str:
    """A difference in points, larger is better for error rates too."""
    if found is None:
        return ""
    sign = -1.0 if measure in SMALLER_IS_BETTER else 1.0
    value, *ends = (sign * one + 0.0 for one in (found.value, found.low, found.high))  # no -0.0
    return points(value, *sorted(ends))


def closed_text(found: ShortfallClosed | None) -> str:
    """A share that is closed and its interval; where the baseline has no certain shortfall, its points instead."""
    if found is None:
        return ""
    if not found.is_known:
        shortfall = points(*found.shortfall)
        numbers = {f"shortfall {end}".strip(): number for end, number in shortfall.numbers.items()}
        return Quantity(f"no certain shortfall: {shortfall}", numbers)
    return points(found.value, found.low, found.high)


def shortfall_note(outcomes: SystemOutcomes) -> str:
    """How the table of the shortfall is read, or why there is none."""
    plain = None if (found := plain_student(outcomes)) is None else escaped(found)
    if plain is None:
        return "Shortfall closed is not shown: no model is known to be a student of clean speech alone (a run with views: none)."
    if len(outcomes.systems) < 2 or len(shortfall_columns(outcomes)) < 2:
        return f"Shortfall closed is not shown: there is no other system to compare with {plain} on distorted copies."
    return (
        f"Shortfall closed: what a system gains over {plain} on distorted copies, in % of what {plain} loses there against its own clean speech, to be "
        "read beside its gain (or loss) on clean. No certain shortfall: the interval of that loss reaches 0; its points are shown."
    )


def robustness_tables(outcomes: SystemOutcomes) -> list[Table]:
    """Three tables with a column for each task, measure and group: absolute, loss against own clean, loss against the teacher."""
    tasks = outcomes.tasks()
    if not tasks:
        return []
    names = [name for name in ORDER if name in outcomes.groups]
    by_whom = f", groups as {outcomes.grouped_by} was trained" if outcomes.grouped_by else ""
    header = ("system", *(f"{task}: {WORDS[measure]}, {name}" for task, measure in tasks for name in names))
    teacher = next((name for name, models in outcomes.systems.items() if models[0].facts.kind == "teacher"), None)
    absolute: list[tuple[str, ...]] = []
    losses: list[tuple[str, ...]] = []
    behind: list[tuple[str, ...]] = []
    for system in outcomes.systems:
        rows: tuple[list[str], list[str], list[str]] = [], [], []
        for task, measure in tasks:
            found = outcomes.of(system, task).get(measure, [])
            reference = outcomes.of(teacher, task).get(measure, []) if teacher is not None else []
            sign = 1.0 if measure in SMALLER_IS_BETTER else -1.0
            clean = value_of(found, outcomes.groups["clean"])[0] if found else np.nan
            for name in names:
                value, spread = value_of(found, outcomes.groups[name]) if found else (np.nan, 0.0)
                other = value_of(reference, outcomes.groups[name])[0] if reference else np.nan
                rows[0].append(shown(value, spread))
                rows[1].append("" if name == "clean" else shown(sign * (value - clean)))
                rows[2].append("" if system == teacher else shown(sign * (value - other)))
        for table, row in zip((absolute, losses, behind), rows, strict=True):
            table.append((system, *row))
    tables = [
        Table(f"The table, in %{by_whom}", header, tuple(absolute)),
        Table("Loss against own clean, in points (smaller is better)", header, tuple(losses)),
    ]
    if teacher is not None:
        tables.append(Table(f"Loss against {teacher}, in points (negative is better than it)", header, tuple(behind)))
    return tables


def snr_tables(outcomes: SystemOutcomes) -> list[Table]:
    """Each task by the SNR of the noise, in bands of 5 dB."""
    bands = snr_bands(outcomes.copies)
    if not bands:
        return []
    tables = []
    for task, measure in outcomes.tasks():
        rows = []
        for system in outcomes.systems:
            found = outcomes.of(system, task).get(measure, [])
            if found:
                rows.append((system, *(shown(*value_of(found, mask)) for mask in bands.values())))
        tables.append(Table(f"By SNR: {task}, {WORDS[measure]} in %", ("system", *bands), tuple(rows)))
    return tables


def baseline_of(outcomes: SystemOutcomes) -> str | None:
    """The system that others are compared with by default: the plain student, else the first that may be one, else the first student."""
    students = {
        name: models[0] for name, models in outcomes.systems.items() if models[0].facts.kind in {"run", "export"}
    }
    unknown = [
        name for name, model in students.items() if model.facts.details.get("views") is None and not model.trained
    ]
    return plain_student(outcomes) or next(iter(unknown or students), None)


def difference_tables(outcomes: SystemOutcomes, *, against: str | None = None) -> list[Table]:
    """Each system against one, with 95 % intervals of a hierarchical bootstrap over seeds and speakers.

    Raises:
        UnknownSystemError: If there is no system of that name.
    """
    if against is not None and against not in outcomes.systems:
        raise UnknownSystemError(against, known=list(outcomes.systems))
    against = against or baseline_of(outcomes)
    if against is None or len(outcomes.systems) < 2:
        return []
    names = [name for name in ORDER if name in outcomes.groups]
    tables = []
    for task, measure in outcomes.tasks():
        other = outcomes.of(against, task).get(measure, [])
        rows = []
        for system in outcomes.systems:
            own = outcomes.of(system, task).get(measure, [])
            if system == against or not own or not other:
                continue
            found = [difference(own, other, outcomes.groups[name], outcomes.copies) for name in names]
            units = next((one.units for one in found if one is not None), "")
            columns = ("" if one is None else points(one.value, one.low, one.high) for one in found)
            rows.append((system, f"{len(own)} / {len(other)}", units, *columns))
        better = "smaller" if measure in SMALLER_IS_BETTER else "larger"
        title = f"Against {against}: {task}, {WORDS[measure]} in points, {better} is better"
        if rows:
            tables.append(Table(title, ("system", "seeds", "over", *names), tuple(rows), words=3))
    return tables


def seen_table(models: Sequence[ModelScores], table: CopyTable) -> Table | None:
    """Categories of the copies of each condition for each model, and for its teacher."""
    copies = Copies.of(table)
    found = [model for model in models if model.seen]
    if not found or len(copies.conditions) < 2:
        return None
    rows = []
    for model in found:
        for whose, letters in (("model", model.seen), ("its teacher", model.seen_by_teacher)):
            marks = np.array(list(letters or ""), dtype=np.str_)
            if len(marks) != len(copies.condition):
                continue
            columns = [counted(marks[copies.condition == number]) for number in range(1, len(copies.conditions))]
            rows.append((model.model, whose, *columns))
    return Table(
        "What test copies are to each model (by their steps and what it was trained on)",
        ("model", "to the", *copies.conditions[1:]),
        tuple(rows),
        words=2,
    )


def counted(marks: NDArray[np.str_]) -> str:
    """Numbers of copies by category: `seen` where all are, or `seen 60, shifted 12`."""
    counts: Mapping[str, int] = Counter(CATEGORIES[str(mark)] for mark in marks if str(mark) in CATEGORIES)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
