"""The report as one HTML page that opens from a file: tables, plots, heat maps, and the origin of each number.

Every number is in the results documents or is a mean or a difference of such; tables are those of the Markdown report.
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
    copy_table_of,
    efficiency_table,
    hours_of,
    merged_models,
    model_table,
    notes_of,
    preamble,
    steps_of,
    task_table,
    tasks_of,
)
from evaluation.report.plots import size_plots, snr_plots
from evaluation.report.robustness_table import (
    ORDER,
    WORDS,
    SystemOutcomes,
    difference_tables,
    robustness_tables,
    seen_table,
    shortfall_columns,
    shortfall_note,
    shortfall_table,
    snr_tables,
)
from evaluation.report.table import MOST_ROWS, Table, more_rows
from manifests.errors import printable
from manifests.io.digest import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manifests.results.scores import CopyTable, ModelScores, Protocol, Results

LONG = 2000


def write_page(
    page: Path,
    results: Sequence[Results],
    *,
    names: Sequence[str],
    against: str | None = None,
    command: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> None:
    """Write the report of several results as one self-contained page.

    Args:
        page: The HTML file; replaced if it is there.
        results: Of one protocol; models may differ.
        names: Name of each.
        against: The system that others are compared with.
        command: The command line that writes the page.
        files: By title of a table the file that has all of its rows; long ones are cut then.

    Raises:
        OtherDataError: If they were not measured on the same data and in the same way.
        TwoModelsError: If two models have one name.
        UnknownSystemError: If there is no system of that name.
    """
    content = page_content(results, names=names, against=against, command=command)
    cut_tables(content, files or {})
    write_html(page, "report.html", folder=Path(__file__).parent, content=content)


def page_content(
    results: Sequence[Results], *, names: Sequence[str], against: str | None, command: Sequence[str]
) -> dict[str, Any]:
    """Values for the template."""
    models = merged_models(results, names=names)
    protocol = results[0].protocol
    return {
        "title": f"Robustness on {printable(protocol.corpus)}",
        "data_sha256": protocol.data_sha256,
        **robustness_content(models, copy_table_of(results), against=against),
        "preamble": [unescaped(line) for line in preamble(protocol, models)],
        "heat_maps": heat_maps(models, protocol),
        "leakage": [shown(leakage_table(models, one)) for one in LEAKAGES if layer_rows(models, one)],
        "models": shown(model_table(models)),
        "cost": shown(efficiency_table(models)) if any(model.efficiency for model in models) else None,
        "training": shown(training_table(models)),
        "conditions": [shown(task_table(models, task, measure, protocol)) for task, measure in tasks_of(models)],
        "chosen": shown(table) if (table := chosen_table(models)) is not None else None,
        "notes": [(printable(names), printable(note)) for names, note in notes_of(models)],
        "runs": [run_facts(name, result) for name, result in zip(names, results, strict=True)],
        "settings": settings_rows(protocol),
        "digests": [(printable(model.model), model.facts.digest) for model in models],
        "command": shell_line(command),
    }


def robustness_content(
    models: Sequence[ModelScores], copies: CopyTable | None, *, against: str | None
) -> dict[str, Any]:
    """Values for the template from outcomes copy by copy: groups, SNR, size, differences; empty where there are none."""
    nothing: dict[str, Any] = {
        "robustness": [],
        "snr_plots": [],
        "snr_tables": [],
        "size_plots": [],
        "differences": [],
        "seen": None,
        "shortfall": None,
    }
    if copies is None:
        return nothing
    outcomes = SystemOutcomes.from_scores(models, copies)
    tasks = outcomes.tasks()
    if not tasks:
        return nothing
    names = [name for name in ORDER if name in outcomes.groups]
    words = [f"{task}: {WORDS[measure]}" for task, measure in tasks]
    above = [(word, len(names)) for word in words]
    columns = shortfall_columns(outcomes)
    categories, closed = seen_table(models, copies), shortfall_table(outcomes)
    return {
        "shortfall_note": unescaped(shortfall_note(outcomes)),
        "shortfall": None
        if closed is None
        else shown(closed, above=[(word, len(columns)) for word in words], header=("system", *columns * len(tasks))),
        "robustness": [
            shown(table, above=above, header=(table.header[0], *names * len(tasks)))
            for table in robustness_tables(outcomes)
        ],
        "snr_plots": snr_plots(outcomes),
        "snr_tables": [shown(table) for table in snr_tables(outcomes)],
        "size_plots": size_plots(outcomes),
        "differences": [shown(table) for table in difference_tables(outcomes, against=against)],
        "seen": None if categories is None else shown(categories),
    }


def shown(
    table: Table, *, above: Sequence[tuple[str, int]] = (), header: Sequence[str] | None = None
) -> dict[str, Any]:
    """A table for the template.

    Args:
        table: The table; its texts are made printable.
        above: A line over the header: texts, and how many columns each spans, from the second column on.
        header: In place of the table's own.
    """
    return {
        "title": printable(table.title),
        "whole_title": table.title,
        "words": table.words,
        "above": [(printable(text), span) for text, span in above],
        "header": [printable(text) for text in header or table.header],
        "rows": [[printable(text) for text in row] for row in table.rows],
        "more": "",
    }


def cut_tables(content: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Leave the first rows of each long table that a file has all rows of, and say which."""
    for value in content.values():
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, dict) and (file := files.get(table.get("whole_title", ""))) is not None:
                table["more"] = more_rows(len(table["rows"]), file)
                table["rows"] = table["rows"][:MOST_ROWS] if table["more"] else table["rows"]


def training_table(models: Sequence[ModelScores]) -> Table:
    """How each student was trained, from its own record."""
    facts = ("preset", "teacher", "corpus", "corpus_sha256", "views", "adversary", "seed")
    rows = [
        (
            model.model,
            model.facts.system or model.model,
            *(brief(model.facts.details.get(fact)) for fact in facts),
            steps_of(model),
            brief(model.facts.details.get("utterances")),
            hours_of(model),
            brief(model.facts.details.get("checkpoint")),
            brief(model.facts.details.get("command")),
        )
        for model in models
        if model.facts.kind == "run"
    ]
    header = (
        "student", "system", "preset", "teacher", "corpus", "its digest", "views", "adversary", "seed", "updates", "training utterances",
        "training audio", "checkpoint", "command",
    )  # fmt: skip
    return Table("How each student was trained", header, tuple(rows), words=8)


def brief(value: object) -> str:
    """An untrusted value as text of a table; digests by their first 12 letters."""
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
    """A command as it can be entered in a shell."""
    import shlex

    return printable(shlex.join(command), limit=LONG) if command else ""


def run_facts(name: str, result: Results) -> dict[str, Any]:
    """Command, digests, software and machine of one run of `evaluate`."""
    software: Mapping[str, str] = {**result.software, **result.machine}
    return {
        "name": printable(Path(name).name or name),
        "command": shell_line(result.command),
        "data_sha256": result.protocol.data_sha256,
        "protocol_sha256": digest(result.protocol.model_copy(update={"models": {}})),
        "models": printable(", ".join(model.model for model in result.cells), limit=LONG),
        "software": printable(", ".join(f"{key} {value}" for key, value in software.items()), limit=LONG),
    }


def settings_rows(protocol: Protocol) -> list[tuple[str, str]]:
    """The settings of the evaluation, key by key."""
    return [
        (printable(key), printable(json.dumps(value, ensure_ascii=False), limit=LONG))
        for key, value in protocol.settings.items()
    ]


def unescaped(text: str) -> str:
    """A line of Markdown without its backslashes."""
    return re.sub(r"\\([\\`*\[\]<>|&#~_])", r"\1", text)
