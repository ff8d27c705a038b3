"""The paper's table: every system on every task, clean, seen, shifted and new; what it loses; and what a difference is worth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.measures.error_rates import SMALLER_IS_BETTER
from evaluation.report.bootstrap import GROUPS, Copies, difference, groups_of, snr_bands, task_outcomes
from evaluation.report.table import Table
from manifests.errors import StillroomError
from manifests.results.scores import CATEGORY_LETTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.report.bootstrap import TaskOutcomes
    from manifests.results.scores import CopyTable, ModelScores

ORDER = ("clean", *GROUPS, "distorted")
WORDS = {"cer": "CER", "wer": "WER", "per": "PER", "eer": "EER", "accuracy": "accuracy"}


class UnknownSystemError(StillroomError, ValueError):
    """No system goes by this name."""

    def __init__(self, name: str, *, known: Sequence[str]) -> None:
        super().__init__(f"--against {name!r}: no such system in these results; there are {', '.join(known)}")


class MixedSystemError(StillroomError, ValueError):
    """One name for the seeds of a student and for another model: their mean would be of nothing."""

    def __init__(self, name: str, *, kinds: tuple[str, str]) -> None:
        super().__init__(
            f"the name {name!r} stands for a {kinds[0]} and for a {kinds[1]}: rename the model or the system in its evaluation config"
        )


@dataclass(frozen=True)
class SystemOutcomes:
    """Outcomes of all systems, ready to be grouped_labels.

    Attributes:
        systems: Cells by system, in order.
        copies: The roll.
        groups: Which copies are clean, heard, seen, shifted, new.
        grouped_by: The model whose training decides that; None if nobody's is known.
    """

    systems: dict[str, list[ModelScores]]
    copies: Copies
    groups: dict[str, NDArray[np.bool_]]
    grouped_by: str | None

    @classmethod
    def of(cls, cells: Sequence[ModelScores], roll: CopyTable) -> SystemOutcomes:
        """From the cells of one protocol.

        The groups are the same for every row, else rows could not be compared: they are those of the first student that was
        trained on distorted copies; without one, those of the first model that was, or whose training is known.
        """
        copies = Copies.of(roll)
        known = [cell for cell in cells if cell.seen and "u" not in cell.seen and cell.facts.kind != "floor"]
        met = [cell for cell in known if cell.trained]  # a copy that was left clean is seen by everybody
        students = [cell for cell in met if cell.facts.kind != "teacher"]
        chosen = next(iter(students or met or known), None)
        systems = systems_of(cells)
        groups = groups_of(copies, None if chosen is None else chosen.seen)
        return cls(systems, copies, groups, None if chosen is None else chosen.model)

    def told(self, system: str, task: str) -> dict[str, list[TaskOutcomes]]:
        """Outcomes of a system's seeds on a task, by measure."""
        found: dict[str, list[TaskOutcomes]] = {}
        for cell in self.systems[system]:
            for one in task_outcomes(cell, task):
                found.setdefault(one.measure, []).append(one)
        return found

    def tasks(self) -> list[tuple[str, str]]:
        """Task and measure of every column, in their order."""
        pairs = [
            (one.task, one.measure) for cells in self.systems.values() for cell in cells for one in cell.outcomes
        ] + [(one.task, "eer") for cells in self.systems.values() for cell in cells for one in cell.trials]
        return list(dict.fromkeys(pairs))


def systems_of(cells: Sequence[ModelScores]) -> dict[str, list[ModelScores]]:
    """Cells by system, in order: the seeds of one student, or a model of its own.

    Raises:
        MixedSystemError: If a system's name is that of a model of another kind too.
    """
    systems: dict[str, list[ModelScores]] = {}
    for cell in cells:
        seeds = systems.setdefault(cell.facts.system or cell.model, [])
        if seeds and seeds[0].facts.kind != cell.facts.kind:
            raise MixedSystemError(cell.facts.system or cell.model, kinds=(seeds[0].facts.kind, cell.facts.kind))
        seeds.append(cell)
    return systems


def value_of(told: Sequence[TaskOutcomes], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean of the seeds (of their probes) and half their range; of the probes, where there is one seed."""
    by_seed = [one.values(mask) for one in told]
    values = by_seed[0] if len(by_seed) == 1 else np.array([probes.mean() for probes in by_seed])
    return float(np.mean(values)), float(np.ptp(values) / 2)


def shown(value: float, spread: float | None = None) -> str:
    """A share in percent with its spread; nothing where there is none."""
    if np.isnan(value):
        return ""
    return f"{round(100 * value, 1) + 0.0:.1f}" + ("" if spread is None else f" ±{100 * spread:.1f}")  # no -0.0


def robustness_tables(paper: SystemOutcomes) -> list[Table]:
    """Three tables of one shape for each measure of each task: absolute, loss against own clean, loss against the teacher."""
    tasks = paper.tasks()
    if not tasks:
        return []
    names = [name for name in ORDER if name in paper.groups]
    by_whom = f", groups as {paper.grouped_by} was trained" if paper.grouped_by else ""
    header = ("system", *(f"{task}: {WORDS[measure]}, {name}" for task, measure in tasks for name in names))
    teacher = next((name for name, cells in paper.systems.items() if cells[0].facts.kind == "teacher"), None)
    absolute: list[tuple[str, ...]] = []
    losses: list[tuple[str, ...]] = []
    behind: list[tuple[str, ...]] = []
    for system in paper.systems:
        rows: tuple[list[str], list[str], list[str]] = [], [], []
        for task, measure in tasks:
            told = paper.told(system, task).get(measure, [])
            reference = paper.told(teacher, task).get(measure, []) if teacher is not None else []
            sign = 1.0 if measure in SMALLER_IS_BETTER else -1.0
            clean = value_of(told, paper.groups["clean"])[0] if told else np.nan
            for name in names:
                value, spread = value_of(told, paper.groups[name]) if told else (np.nan, 0.0)
                other = value_of(reference, paper.groups[name])[0] if reference else np.nan
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
        tables.append(
            Table(f"Loss against the teacher {teacher}, in points (negative is better than it)", header, tuple(behind))
        )
    return tables


def snr_tables(paper: SystemOutcomes) -> list[Table]:
    """Each task by the SNR of the noise, in bands of 5 dB."""
    bands = snr_bands(paper.copies)
    if not bands:
        return []
    tables = []
    for task, measure in paper.tasks():
        rows = []
        for system in paper.systems:
            told = paper.told(system, task).get(measure, [])
            if told:
                rows.append((system, *(shown(*value_of(told, mask)) for mask in bands.values())))
        tables.append(Table(f"By SNR: {task}, {WORDS[measure]} in %", ("system", *bands), tuple(rows)))
    return tables


def baseline_of(paper: SystemOutcomes) -> str | None:
    """What other systems are compared with by default: the first student that heard clean speech alone, else the first student."""
    students = {name: cells[0] for name, cells in paper.systems.items() if cells[0].facts.kind in {"run", "export"}}
    plain = [name for name, cell in students.items() if cell.facts.details.get("views") in ("none", None)]
    return next(iter(plain or students), None)


def difference_tables(paper: SystemOutcomes, *, against: str | None = None) -> list[Table]:
    """Each system against one, with 95 % intervals of a hierarchical bootstrap over seeds and speakers.

    Raises:
        UnknownSystemError: If there is no system of that name.
    """
    if against is not None and against not in paper.systems:
        raise UnknownSystemError(against, known=list(paper.systems))
    against = against or baseline_of(paper)
    if against is None or len(paper.systems) < 2:
        return []
    names = [name for name in ORDER if name in paper.groups]
    tables = []
    for task, measure in paper.tasks():
        other = paper.told(against, task).get(measure, [])
        rows = []
        for system in paper.systems:
            told = paper.told(system, task).get(measure, [])
            if system == against or not told or not other:
                continue
            found = [difference(told, other, paper.groups[name], paper.copies) for name in names]
            units = next((one.units for one in found if one is not None), "")
            columns = (
                "" if one is None else f"{100 * one.value:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
                for one in found
            )
            rows.append((system, f"{len(told)} / {len(other)}", units, *columns))
        better = "smaller" if measure in SMALLER_IS_BETTER else "larger"
        title = f"Against {against}: {task}, {WORDS[measure]} in points, {better} is better"
        if rows:
            tables.append(Table(title, ("system", "seeds", "over", *names), tuple(rows), words=3))
    return tables


def seen_table(cells: Sequence[ModelScores], roll: CopyTable) -> Table | None:
    """What the copies of each condition are to each model, and to its teacher."""
    copies = Copies.of(roll)
    told = [cell for cell in cells if cell.seen]
    if not told or len(copies.conditions) < 2:
        return None
    rows = []
    for cell in told:
        for whose, letters in (("model", cell.seen), ("its teacher", cell.seen_by_teacher)):
            marks = np.array(list(letters or ""), dtype=np.str_)
            if len(marks) != len(copies.condition):
                continue
            columns = [counted(marks[copies.condition == number]) for number in range(1, len(copies.conditions))]
            rows.append((cell.model, whose, *columns))
    return Table(
        "What test copies are to each model (by their steps and what it was trained on)",
        ("model", "to the", *copies.conditions[1:]),
        tuple(rows),
        words=2,
    )


def counted(marks: NDArray[np.str_]) -> str:
    """Such as `seen` where all are, or `seen 60, shifted 12`."""
    counts: Mapping[str, int] = Counter(CATEGORY_LETTERS[str(mark)] for mark in marks if str(mark) in CATEGORY_LETTERS)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
