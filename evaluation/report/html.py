"""The report as one HTML page that opens from a file: the paper's table, plots, heat maps, and how each number came about.

Every number stands in the results documents or is a mean or a difference of such; tables are those of the Markdown report.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.pages.html import write_html
from evaluation.report.heatmaps import heat_maps
from evaluation.report.layer_tables import LEAKAGES, layer_rows, leakage_table
from evaluation.report.markdown import (
    chosen_table,
    efficiency_table,
    hours_of,
    merged_cells,
    model_table,
    preamble,
    steps_of,
    task_table,
    tasks_of,
)
from evaluation.report.plots import size_plots, snr_plots
from evaluation.report.robustness_table import (
    ORDER,
    WORDS,
    Paper,
    difference_tables,
    paper_tables,
    seen_table,
    snr_tables,
)
from evaluation.report.table import Table
from manifests.errors import printable
from manifests.io.digest import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manifests.results.scores import Cell, Protocol, Results, Roll

LONG = 2000


def write_page(
    page: Path,
    results: Sequence[Results],
    *,
    names: Sequence[str],
    against: str | None = None,
    command: Sequence[str] = (),
) -> None:
    """Write the report of several results as one self-contained page.

    Args:
        page: The HTML file; replaced if it is there.
        results: Of one protocol; models may differ.
        names: What each is called.
        against: The system that others are compared with.
        command: What was typed to write the page.

    Raises:
        OtherDataError: If they were not measured on the same data and in the same way.
        TwoModelsError: If one name stands for two models.
        UnknownSystemError: If there is no system of that name.
    """
    content = page_content(results, names=names, against=against, command=command)
    write_html(page, "report.html", folder=Path(__file__).parent, content=content)


def page_content(
    results: Sequence[Results], *, names: Sequence[str], against: str | None, command: Sequence[str]
) -> dict[str, Any]:
    """What the template asks for."""
    cells = merged_cells(results, names=names)
    protocol = results[0].protocol
    roll = next((result.roll for result in results if result.roll is not None), None)
    return {
        "title": f"Robustness on {printable(protocol.corpus)}",
        "data_sha256": protocol.data_sha256,
        "preamble": [unescaped(line) for line in preamble(protocol, cells)],
        **paper_content(cells, roll, against=against),
        "heat_maps": heat_maps(cells, protocol),
        "leakage": [shown(leakage_table(cells, one)) for one in LEAKAGES if layer_rows(cells, one)],
        "models": shown(model_table(cells)),
        "cost": shown(efficiency_table(cells)) if any(cell.efficiency for cell in cells) else None,
        "training": shown(training_table(cells)),
        "conditions": [shown(task_table(cells, task, measure, protocol)) for task, measure in tasks_of(cells)],
        "chosen": shown(table) if (table := chosen_table(cells)) is not None else None,
        "notes": notes_of(cells),
        "runs": [run_facts(name, result) for name, result in zip(names, results, strict=True)],
        "settings": settings_rows(protocol),
        "digests": [(printable(cell.model), cell.facts.digest) for cell in cells],
        "command": shell_line(command),
    }


def paper_content(cells: Sequence[Cell], roll: Roll | None, *, against: str | None) -> dict[str, Any]:
    """What can be told where outcomes are kept copy by copy: groups, SNR, size, differences."""
    nothing: dict[str, Any] = {
        "paper": [],
        "snr_plots": [],
        "snr_tables": [],
        "size_plots": [],
        "differences": [],
        "seen": None,
    }
    if roll is None:
        return nothing
    paper = Paper.of(cells, roll)
    tasks = paper.tasks()
    if not tasks:
        return nothing
    names = [name for name in ORDER if name in paper.groups]
    above = [(f"{task}: {WORDS[measure]}", len(names)) for task, measure in tasks]
    told = seen_table(cells, roll)
    return {
        "paper": [
            shown(table, above=above, header=(table.header[0], *names * len(tasks))) for table in paper_tables(paper)
        ],
        "snr_plots": snr_plots(paper),
        "snr_tables": [shown(table) for table in snr_tables(paper)],
        "size_plots": size_plots(paper),
        "differences": [shown(table) for table in difference_tables(paper, against=against)],
        "seen": None if told is None else shown(told),
    }


def shown(
    table: Table, *, above: Sequence[tuple[str, int]] = (), header: Sequence[str] | None = None
) -> dict[str, Any]:
    """A table for the template.

    Args:
        table: Its texts are made fit to be shown here.
        above: A line over the header: texts, and how many columns each spans, from the second column on.
        header: In place of the table's own.
    """
    return {
        "title": printable(table.title),
        "words": table.words,
        "above": [(printable(text), span) for text, span in above],
        "header": [printable(text) for text in header or table.header],
        "rows": [[printable(text) for text in row] for row in table.rows],
    }


def training_table(cells: Sequence[Cell]) -> Table:
    """How each student came about, as its own record has it."""
    facts = ("preset", "teacher", "corpus", "corpus_sha256", "views", "adversary", "seed")
    rows = [
        (
            cell.model,
            cell.facts.system or cell.model,
            *(brief(cell.facts.details.get(fact)) for fact in facts),
            steps_of(cell),
            brief(cell.facts.details.get("utterances")),
            hours_of(cell),
            brief(cell.facts.details.get("checkpoint")),
            brief(cell.facts.details.get("command")),
        )
        for cell in cells
        if cell.facts.kind == "run"
    ]
    header = (
        "student", "system", "preset", "teacher", "corpus", "its digest", "views", "adversary", "seed", "updates", "utterances heard",
        "audio heard", "checkpoint", "command",
    )  # fmt: skip
    return Table("How each student was trained", header, tuple(rows), words=8)


def brief(value: object) -> str:
    """A stranger's value in a cell of a table; digests by their first 12 letters."""
    match value:
        case None:
            return ""
        case str() if re.fullmatch(r"[0-9a-f]{64}", value):
            return value[:12]
        case str():
            return value
        case bool() | int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case list() | tuple() if all(isinstance(word, str) for word in value):
            return shell_line(value)
        case _:
            return json.dumps(value, default=str)


def shell_line(command: Sequence[str]) -> str:
    """A command as it can be typed."""
    import shlex

    return printable(shlex.join(command), limit=LONG) if command else ""


def notes_of(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Whom a note is about, and the note; one that every model has stands once."""
    models: dict[str, list[str]] = {}
    for cell in cells:
        for note in cell.notes:
            models.setdefault(note, []).append(cell.model)
    return [
        ("all models" if len(names) == len(cells) else printable(", ".join(names)), printable(note))
        for note, names in models.items()
    ]


def run_facts(name: str, result: Results) -> dict[str, Any]:
    """Where numbers come from: command, digests, software and machine of one run of `evaluate`."""
    software: Mapping[str, str] = {**result.software, **result.machine}
    return {
        "name": printable(Path(name).name or name),
        "command": shell_line(result.command),
        "data_sha256": result.protocol.data_sha256,
        "protocol_sha256": digest(result.protocol.model_copy(update={"models": {}})),
        "models": printable(", ".join(cell.model for cell in result.cells), limit=LONG),
        "software": printable(", ".join(f"{key} {value}" for key, value in software.items()), limit=LONG),
    }


def settings_rows(protocol: Protocol) -> list[tuple[str, str]]:
    """What was asked, key by key."""
    return [
        (printable(key), printable(json.dumps(value, ensure_ascii=False), limit=LONG))
        for key, value in protocol.settings.items()
    ]


def unescaped(text: str) -> str:
    """A line that was made for Markdown, as it reads."""
    return re.sub(r"\\([\\`*\[\]<>|&#~_])", r"\1", text)
