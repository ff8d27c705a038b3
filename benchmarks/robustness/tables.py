"""What is shown beside the verdicts: every table that `claims.md` promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import materials
import numpy as np
from estimates import CDM_GAIN, DAT_GAIN, accuracies, label_free_metric, relative_loss, task_accuracies

from evaluation.report.plots import shade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from estimates import Comparison, Estimate, Metric
    from numpy.typing import NDArray
    from record import StudyCell

Table = dict[str, Any]
"""Title, header, rows of text; where cells are shaded, also their styles."""
SHOWN: tuple[Metric, ...] = ("clean", "seen", "new", "shifted", "new kind", "distorted", "loss seen", "loss new")
CHANNEL = ("band", "lowrate")
"""Test conditions that (f) is also reported without: near to a family that some students heard."""


def all_tables(comparison: Comparison, document: Sequence[Mapping[str, Any]]) -> list[Table]:
    """In the order of the page."""
    return [
        claim_table(document),
        system_table(comparison),
        relative_table(comparison),
        invariance_table(comparison),
        secondary_table(comparison),
        corpus_table(comparison),
        *condition_tables(comparison),
    ]


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation over runs where there are several."""
    return f"{np.mean(values):.1f}" + (f" ±{np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def claim_table(document: Sequence[Mapping[str, Any]]) -> Table:
    """The verdicts, each contrast on a row."""
    rows = [
        [one["claim"], one["says"], one["verdict"], name, f"{each['effect']:+.2f}", interval(each["interval"]),
         interval(each["percentile_interval"]), f"{each['p']:.3g}"]
        for one in document
        for name, each in one["contrasts"].items()
    ]  # fmt: skip
    return {
        "title": "Claims",
        "header": ("claim", "says", "verdict", "contrast", "effect", "95 % interval", "percentile interval", "p"),
        "rows": rows,
    }


def interval(ends: Sequence[float]) -> str:
    """Both ends with their signs."""
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"


def system_table(comparison: Comparison) -> Table:
    """Every system: clean, seen, new (shifted and new kinds apart) and losses, with what it cost."""
    rows = []
    for system, found in comparison.cells.items():
        row = [system, str(len(found))]
        row += [spread(comparison.values([system], which)) for which in SHOWN]
        heard = [cell.student.get("audio_s", 0.0) / 3600 for cell in found.values()]
        seconds = [sum(cell.seconds.values()) for cell in found.values()]
        rows.append([*row, f"{np.mean(heard):.1f}", f"{np.mean(seconds):.0f}"])
    return {
        "title": "Accuracy and loss in points, mean over tasks (± standard deviation over runs)",
        "header": ("system", "runs", *SHOWN, "hours heard", "seconds"),
        "rows": rows,
    }


def relative_table(comparison: Comparison) -> Table:
    """Loss in percent of what clean has above chance."""
    rows = [
        [system]
        + [
            spread([float(relative_loss(cell, comparison.draws, which)[0]) for cell in found.values()])
            for which in ("seen", "new", "distorted")
        ]
        for system, found in comparison.cells.items()
    ]
    return {
        "title": "Loss in percent of what clean has above chance, mean over tasks",
        "header": ("system", "seen", "new", "distorted"),
        "rows": rows,
    }


def invariance_table(comparison: Comparison) -> Table:
    """Retrieval and the gap of cosines of the last layer, which (c) is decided by."""
    rows = [
        [system]
        + [spread([float(label_free_metric(cell, which)[0]) for cell in found.values()]) for which in ("retrieval", "gap")]
        for system, found in comparison.cells.items()
    ]  # fmt: skip
    return {
        "title": "Invariance of the last layer, mean over distorted conditions, times 100",
        "header": ("system", "retrieval@1", "matched - mismatched cosine"),
        "rows": rows,
    }


def secondary(comparison: Comparison) -> Iterator[tuple[str, str, Estimate]]:
    """Contrasts without a verdict: claim, what it is, estimate."""
    of, contrast, draws = comparison.task_metric, comparison.contrast, comparison.draws

    def relative(which: Literal["seen", "new", "distorted"]) -> Callable[[StudyCell], NDArray[np.float64]]:
        return lambda cell: relative_loss(cell, draws, which)

    for system in ("plain-1-layer", "plain-4-layers"):
        yield "a", f"loss, {system} - nano", contrast({system: 1.0, "teacher-nano": -1.0}, of("loss distorted"))
    yield (
        "a",
        "loss in % above chance, plain - nano",
        contrast({"plain": 1.0, "teacher-nano": -1.0}, relative("distorted")),
    )
    over_same = {"cdm1": 0.5, "cdm2": 0.5, "same": -1.0}
    sides: tuple[Literal["seen", "new"], ...] = ("seen", "new")
    shown: tuple[Metric, ...] = ("clean", "seen", "new", "loss seen", "loss new")
    for which in shown:
        yield "b", f"{which}, CDM - same", contrast(over_same, of(which))
    apart: tuple[Metric, ...] = ("clean", "shifted", "new kind")
    for which in apart:
        yield "b", f"{which}, CDM - plain", contrast(CDM_GAIN, of(which))
    for side in sides:
        yield "b", f"loss in % above chance on {side}, CDM - plain", contrast(CDM_GAIN, relative(side))
    singles = {f"families-1-{family}": -1 / len(materials.FAMILIES) for family in materials.FAMILIES}
    pairs = {"families-2-noise-room": 0.5, "families-2-codec-channel": 0.5}
    four = {"families-4": 1.0, **singles}
    yield "f", f"accuracy on new without {' and '.join(CHANNEL)}, 4 - 1", contrast(four, of("new", without=CHANNEL))
    yield "f", "accuracy on new, 2 - 1 families", contrast({**pairs, **singles}, of("new"))
    yield "f", "accuracy on shifted, 4 - 1 families", contrast(four, of("shifted"))
    yield "f", "accuracy on new kinds, 4 - 1 families", contrast(four, of("new kind"))


def secondary_table(comparison: Comparison) -> Table:
    """The contrasts without a verdict, uncorrected."""
    rows = [[claim, name, f"{one.value:+.2f}", interval((one.low, one.high))] for claim, name, one in secondary(comparison)]  # fmt: skip
    return {
        "title": "Secondary, without verdict and without correction",
        "header": ("claim", "contrast", "effect", "95 % interval"),
        "rows": rows,
    }


def corpus_table(comparison: Comparison) -> Table:
    """First contrasts of (a) to (d) in each corpus by itself."""
    rows = []
    for corpus in ("main-a", "main-b"):
        within = comparison.within(corpus)
        of, contrast = within.task_metric, within.contrast
        found = {
            "a: loss, plain - nano": contrast({"plain": 1.0, "teacher-nano": -1.0}, of("loss distorted")),
            "b: smaller loss on seen": contrast({name: -weight for name, weight in CDM_GAIN.items()}, of("loss seen")),
            "b: accuracy on new": contrast(CDM_GAIN, of("new")),
            "c: retrieval@1": contrast({"cdm2": 1.0, "cdm1": -1.0}, lambda cell: label_free_metric(cell, "retrieval")),
            "d: gain of DAT with nano": contrast(DAT_GAIN, of("distorted")),
        }
        rows += [[corpus, name, f"{one.value:+.2f}", interval((one.low, one.high)), str(one.replicates)] for name, one in found.items()]  # fmt: skip
    return {
        "title": "Each corpus by itself",
        "header": ("corpus", "contrast", "effect", "95 % interval", "runs"),
        "rows": rows,
    }


def condition_tables(comparison: Comparison) -> list[Table]:
    """Every system in every condition: mean over tasks, then each task; mean over runs."""
    first = next(iter(next(iter(comparison.cells.values())).values()))
    conditions = list(next(iter(first.tasks.values())).counts)

    def table(title: str, of: Callable[[StudyCell], dict[str, NDArray[np.float64]]]) -> Table:
        systems = list(comparison.cells)
        means = np.array([
            [np.mean([of(cell)[name][0] for cell in comparison.cells[system].values()]) for name in conditions]
            for system in systems
        ])  # fmt: skip
        low, high = (
            means.min(axis=0),
            means.max(axis=0),
        )  # each condition has its own shades: systems are compared within it
        return {
            "title": title,
            "header": ("system", *conditions),
            "rows": [[system, *(f"{value:.1f}" for value in row)] for system, row in zip(systems, means, strict=True)],
            "styles": [
                ["", *(shade(value, low=low[at], high=high[at]) for at, value in enumerate(row))] for row in means
            ],
        }

    draws = comparison.draws
    tables = [table("Accuracy by condition, in points, mean over tasks", lambda cell: accuracies(cell, draws))]
    for task in first.tasks:
        title = f"Accuracy by condition, in points: {task} (chance {100 * first.tasks[task].chance:.1f})"
        tables.append(table(title, lambda cell, task=task: task_accuracies(cell.tasks[task], draws)))  # type: ignore[misc]
    return tables


def markdown(tables: Sequence[Table]) -> str:
    """Tables as Markdown."""
    lines = [
        "# The finding, as far as two cores allow",
        "",
        "Decided by `benchmarks/robustness/claims.md`, which was written before.",
        "",
    ]
    for table in tables:
        lines += [
            f"**{table['title']}**",
            "",
            "| " + " | ".join(table["header"]) + " |",
            "|" + " --- |" * len(table["header"]),
        ]
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]] + [""]
    return "\n".join(lines)
