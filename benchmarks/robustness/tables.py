"""What is shown beside the verdicts: every table that `claims.md` promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cells import ALL_TASKS, TASKS, matched
from estimates import accuracies, invariance

from evaluation.report.plots import shade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from estimates import Closed, Comparison

Table = dict[str, Any]
"""Title, header, rows of text; where cells are shaded, also their styles."""
CLEAN_PROBES = "Probes trained on clean speech: accuracy in points, and how much of plain's shortfall is closed, in %, with its 95 % interval"
MATCHED_PROBES = "The same with probes trained on distorted speech (matched)"


def all_tables(comparison: Comparison, document: Sequence[Mapping[str, Any]]) -> list[Table]:
    """In the order of the page."""
    return [
        headline_table(comparison, {task: task for task in TASKS}, title=CLEAN_PROBES),
        headline_table(comparison, {task: matched(task) for task in TASKS}, title=MATCHED_PROBES),
        claim_table(document),
        *(condition_table(comparison, task) for task in ALL_TASKS),
        layer_table(comparison),
    ]


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation over runs where there are several."""
    return f"{np.mean(values):.1f}" + (f" ±{np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def closed_text(found: Closed | None) -> str:
    """In %, or in points where plain has no certain shortfall; nothing where there is nothing to compare."""
    if found is None:
        return ""
    if found.is_share:
        value, low, high = (round(one) for one in (found.value, found.low, found.high))
        return f"{value} % ({low} to {high})"
    return f"{found.value:+.1f} points ({found.low:+.1f} to {found.high:+.1f})"


def headline_table(comparison: Comparison, tasks: Mapping[str, str], *, title: str) -> Table:
    """Every system on every task, with what it cost: tasks by the name that is shown."""
    rows = []
    for shown, task in tasks.items():
        for system, found in comparison.cells.items():
            cells = found.values()
            scores = [spread(comparison.values(system, task, group)) for group in ("clean", "seen", "new")]
            closed = [closed_text(comparison.closed(system, task, group)) for group in ("seen", "new")]
            seconds = f"{np.median([cell.seconds['training'] for cell in cells]):.0f}"
            parameters = f"{next(iter(cells)).student['parameters'] / 1e6:.2f}"
            rows.append([shown, system, str(len(found)), *scores, *closed, seconds, parameters])
    return {
        "title": title,
        "header": (
            "task", "system", "runs", "clean", "seen", "new", "closed, seen", "closed, new", "training, core-s",
            "parameters, M",
        ),
        "rows": rows,
    }  # fmt: skip


def claim_table(document: Sequence[Mapping[str, Any]]) -> Table:
    """Each contrast on a row."""
    rows = [
        [one["claim"], name, f"{each['effect']:+.2f}", f"{each['margin']:g}", interval(each["interval"]),
         interval(each["percentile_interval"]), f"{each['p']:.3g}", str(each["runs"])]
        for one in document
        for name, each in one["contrasts"].items()
    ]  # fmt: skip
    return {
        "title": "Claims: their contrasts",
        "header": ("claim", "contrast", "effect", "margin", "95 % interval", "percentile interval", "p", "runs"),
        "rows": rows,
    }


def interval(ends: Sequence[float]) -> str:
    """Both ends with their signs."""
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"


def condition_table(comparison: Comparison, task: str) -> Table:
    """Every system in every condition; mean over runs. Each condition has its own shades: systems are compared within it."""
    first = next(iter(next(iter(comparison.cells.values())).values())).tasks[task]
    means = np.array([
        [mean[name] for name in first.counts]
        for mean in (condition_means(comparison, system, task) for system in comparison.cells)
    ])  # fmt: skip
    low, high = means.min(axis=0), means.max(axis=0)
    return {
        "title": f"Accuracy by condition, in points: {task} (chance {100 * first.chance:.1f})",
        "header": ("system", *first.counts),
        "rows": [
            [system, *(f"{value:.1f}" for value in row)] for system, row in zip(comparison.cells, means, strict=True)
        ],
        "styles": [["", *(shade(value, low=low[at], high=high[at]) for at, value in enumerate(row))] for row in means],
    }


def condition_means(comparison: Comparison, system: str, task: str) -> dict[str, float]:
    """Accuracy by condition, mean over runs."""
    found = [accuracies(cell, task, comparison.weights[:1]) for cell in comparison.cells[system].values()]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def layer_table(comparison: Comparison) -> Table:
    """Invariance and effective rank of every layer, which claim 2 is decided by at the last."""
    rows = []
    for system, found in comparison.cells.items():
        cells = list(found.values())
        for layer in range(len(cells[0].label_free["rank"]["clean"])):
            values = [
                spread([invariance(cell, which, layer=layer) for cell in cells])
                for which in ("retrieval", "gap", "rank")
            ]
            clean = spread([cell.label_free["rank"]["clean"][layer] for cell in cells])
            rows.append([system, str(layer + 1), *values, clean])
    return {
        "title": "Invariance by layer, mean over distorted conditions (retrieval and cosine times 100), and effective rank",
        "header": ("system", "layer", "retrieval@1", "matched - mismatched cosine", "rank", "rank on clean"),
        "rows": rows,
    }


def lines_of(table: Table) -> Iterable[str]:
    """One table as lines of Markdown."""
    yield f"**{table['title']}**"
    yield ""
    for row in (table["header"], ["---"] * len(table["header"]), *table["rows"]):
        yield "| " + " | ".join(row) + " |"
    yield ""


def markdown(title: str, tables: Sequence[Table]) -> str:
    """Tables as Markdown."""
    before = "Decided by `benchmarks/robustness/claims.md`, which was written before the first run on the test set."
    return "\n".join([f"# {title}", "", before, "", *(line for table in tables for line in lines_of(table))])
