"""The tables: what every model scores on clean and distorted speech, and what it costs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from evaluation.efficiency import smaller_percent
from evaluation.tables import Table, escaped, percent
from manifests.digest import digest
from manifests.errors import StillroomError, UsageError, printable
from manifests.progress import duration
from manifests.sample import CLEAN
from manifests.scores import Results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manifests.scores import Cell, Measure, Protocol, Score


class OtherDataError(StillroomError, ValueError):
    """Numbers that were not measured on the same data, or not in the same way, cannot stand in one table."""

    def __init__(self, first: Protocol, second: Protocol, *, names: tuple[str, str]) -> None:
        if first.data_sha256 != second.data_sha256:
            what = "data"
            found = [f"{printable(one.corpus, limit=60)} {one.data_sha256[:12]}" for one in (first, second)]
        else:
            what = "settings"
            keys = sorted(set(first.settings) | set(second.settings))
            different = next((key for key in keys if first.settings.get(key) != second.settings.get(key)), "conditions")
            found = [f"{different}: {printable(one.settings.get(different), limit=60)}" for one in (first, second)]
        super().__init__(
            f"{printable(names[0])} and {printable(names[1])} were measured with different {what} "
            f"({found[0]}; {found[1]}): report them one by one"
        )


class TwoModelsError(StillroomError, ValueError):
    """One name for two models."""

    def __init__(self, model: str, *, digests: tuple[str, str]) -> None:
        super().__init__(
            f"the name {model!r} stands for two models ({digests[0][:12]} and {digests[1][:12]}): "
            "rename one in its evaluation config"
        )


def read_results(folder: Path) -> Results:
    """The results in a folder that `stillroom evaluate` finished.

    Raises:
        MissingFileError: If there are none.
    """
    path = folder / "results.json" if folder.is_dir() else folder
    return Results.read(path, needed="name a folder that `stillroom evaluate` has finished")


def merged_cells(results: Sequence[Results], *, names: Sequence[str] | None = None) -> list[Cell]:
    """The cells of several results, each model once.

    Raises:
        UsageError: If there are no results.
        OtherDataError: If they were not measured on the same data and in the same way.
        TwoModelsError: If one name stands for two models.
    """
    if not results:
        raise UsageError("no results to report: name at least one folder")
    names = names or [f"results {number}" for number in range(1, len(results) + 1)]
    first = results[0].protocol
    cells: dict[str, Cell] = {}
    for name, result in zip(names, results, strict=True):
        if digest(result.protocol.model_copy(update={"models": {}})) != digest(first.model_copy(update={"models": {}})):
            raise OtherDataError(first, result.protocol, names=(names[0], name))
        for cell in result.cells:
            known = cells.setdefault(cell.model, cell)
            if known.facts.digest != cell.facts.digest:
                raise TwoModelsError(cell.model, digests=(known.facts.digest, cell.facts.digest))
    return list(cells.values())


def report_text(results: Sequence[Results], *, names: Sequence[str] | None = None) -> str:
    """The whole report as Markdown that also reads well in a terminal.

    Args:
        results: Of one protocol; models may differ.
        names: What to call each in a message.
    """
    cells = merged_cells(results, names=names)
    protocol = results[0].protocol
    tables = [model_table(cells)]
    tables += [task_table(cells, task, protocol) for task in tasks_of(cells)]
    measures = protocol.settings.get("measures", [])
    tables += [cosine_table(cells, protocol)] if "cosine" in measures else []
    tables += [leakage_table(cells)] if "leakage" in measures else []
    blocks = [f"# Robustness on {escaped(protocol.corpus)}", "\n".join(preamble(protocol, cells))]
    blocks += ["\n".join(table.lines()) for table in tables]
    if notes := noted(cells):
        blocks.append("\n".join(["**Notes**", "", *notes]))
    blocks.append("\n".join(small_print(results)))
    return "\n\n".join(blocks) + "\n"


def preamble(protocol: Protocol, cells: Sequence[Cell]) -> list[str]:
    """What the tables are about, in two or three lines."""
    settings = protocol.settings
    splits = settings.get("splits", {})
    lines = [
        f"Data {protocol.data_sha256[:12]}, tested on split {escaped(str(splits.get('test')))}, "
        f"seed {settings.get('seed')}"
        + (f", at most {settings['limit']} utterances a split." if settings.get("limit") else ".")
    ]
    if settings.get("tasks"):
        dev = splits.get("dev")
        chosen = f"split {escaped(str(dev))}" if dev else "the tenth of train that each holds back"
        lines.append(
            f"Tasks: accuracy in % of {settings.get('probes')} linear probes on the mean of the last layer (mean of the probes, "
            f"± half their range), trained on clean speech of split {escaped(str(splits.get('train')))}, "
            f"regularisation chosen on {chosen}."
        )
    unknown = [escaped(cell.model) for cell in cells if not cell.facts.heard_known]
    if unknown:
        lines.append(f"Not known which utterances they were trained on: {', '.join(unknown)}.")
    return lines


def model_table(cells: Sequence[Cell]) -> Table:
    """Size and cost of each model."""
    teacher = next((cell for cell in cells if cell.facts.kind == "teacher"), None)
    rows = []
    for cell in cells:
        parameters = cell.facts.parameters
        smaller = "" if teacher is None else f"{smaller_percent(parameters, than=teacher.facts.parameters):.1f} %"
        hearing_s, audio_s = cell.cost.get("hearing_s", 0.0), cell.cost.get("audio_s", 0.0)
        rows.append((
            cell.model, cell.facts.kind, cell.facts.origin, cell.facts.digest[:12], steps_of(cell), str(cell.facts.layers), f"{parameters / 1e6:.2f} M",
            smaller if cell is not teacher else "", f"{audio_s / 3600:.2f} h", duration(hearing_s + cell.cost.get("probing_s", 0.0)),
        ))  # fmt: skip
    than = "smaller" if teacher is None else f"smaller than {teacher.model}"
    header = ("model", "kind", "origin", "digest", "steps", "layers", "parameters", than, "audio heard", "time")
    return Table("Models", header, tuple(rows), words=4)


def steps_of(cell: Cell) -> str:
    """Updates of a student, where its record has them."""
    steps = cell.facts.details.get("steps")
    return str(steps) if isinstance(steps, int) else ""


def tasks_of(cells: Sequence[Cell]) -> list[str]:
    """Names of the tasks, in their order."""
    return list(dict.fromkeys(score.task for cell in cells for score in cell.scores if score.task is not None))


def chosen_scores(
    cell: Cell, measure: Measure, *, task: str | None = None, condition: str | None = None, layer: int | None = None
) -> list[Score]:
    """The scores of a cell that agree in everything that is given."""
    return [
        score
        for score in cell.scores
        if (score.measure, score.task, score.condition, score.layer) == (measure, task, condition, layer)
    ]


def task_table(cells: Sequence[Cell], task: str, protocol: Protocol) -> Table:
    """Accuracy of every model on one task: clean, each condition, their mean, and what is lost against clean."""
    rows = []
    for cell in cells:
        by_probe: dict[str, list[float]] = {
            condition: [score.value for score in chosen_scores(cell, "accuracy", task=task, condition=condition)]
            for condition in (CLEAN, *protocol.conditions)
        }
        by_probe = {name: values for name, values in by_probe.items() if values}
        if CLEAN not in by_probe:
            continue
        if distorted := [by_probe[name] for name in protocol.conditions if name in by_probe]:
            mean = np.mean(distorted, axis=0)
            by_probe |= {"mean": mean.tolist(), "loss": (np.array(by_probe[CLEAN]) - mean).tolist()}
        columns = (CLEAN, *protocol.conditions, "mean", "loss")
        rows.append((cell.model, *(with_spread(by_probe.get(name, [])) for name in columns)))
    scores = [score for score in cells[0].scores if score.task == task]
    count = max((score.count for score in scores), default=0)
    majority = next((score.value for score in scores if score.measure == "majority"), None)
    always = "" if majority is None else f", {percent(majority)} % for always the same answer"
    header = ("model", CLEAN, *protocol.conditions, "mean distorted", "loss")
    return Table(f"Task: {task} ({count} test utterances{always})", header, tuple(rows))


def with_spread(values: Sequence[float]) -> str:
    """Mean of several probes in percent, with half their range; nothing where nothing was measured."""
    if not values:
        return ""
    return percent(float(np.mean(values)), spread=None if len(values) == 1 else (max(values) - min(values)) / 2)


def layer_rows(cells: Sequence[Cell], measure: Measure) -> list[tuple[Cell, int]]:
    """Each model's layers on which something was measured."""
    return [
        (cell, layer)
        for cell in cells
        for layer in sorted({score.layer for score in cell.scores if score.measure == measure and score.layer})
    ]


def cosine_table(cells: Sequence[Cell], protocol: Protocol) -> Table:
    """Frame cosine between clean and distorted, beside that of mismatched utterances, and the mean gap."""
    rows = []
    count = 0
    for cell, layer in layer_rows(cells, "cosine"):
        columns, gaps = [], []
        for condition in protocol.conditions:
            matched = chosen_scores(cell, "cosine", condition=condition, layer=layer)
            other = chosen_scores(cell, "mismatched", condition=condition, layer=layer)
            columns.append(" / ".join(f"{score.value:.2f}" for score in (*matched, *other)))
            gaps += [matched[0].value - other[0].value] if matched and other else []
            count = max(count, *(score.count for score in matched))
        rows.append((cell.model, str(layer), *columns, f"{np.mean(gaps):.2f}" if gaps else ""))
    title = f"Frame cosine of clean and distorted / of mismatched utterances (up to {count} frames a condition)"
    return Table(title, ("model", "layer", *protocol.conditions, "mean gap"), tuple(rows))


def leakage_table(cells: Sequence[Cell]) -> Table:
    """Accuracy of the domain probe by layer; a column a layer."""
    by_model: dict[str, dict[int, Score]] = defaultdict(dict)
    for cell, layer in layer_rows(cells, "leakage"):
        by_model[cell.model][layer] = chosen_scores(cell, "leakage", layer=layer)[0]
    deepest = max((layer for layers in by_model.values() for layer in layers), default=0)
    rows = tuple(
        (model, *(percent(layers[layer].value) if layer in layers else "" for layer in range(1, deepest + 1)))
        for model, layers in by_model.items()
    )
    majority = next((score for cell in cells for score in chosen_scores(cell, "majority")), None)
    always = (
        ""
        if majority is None
        else f" ({majority.count} test copies, {percent(majority.value)} % for always the same answer)"
    )
    title = f"Leakage: accuracy in % of a linear probe that names the condition{always}"
    return Table(title, ("model", *(f"layer {layer}" for layer in range(1, deepest + 1))), rows)


def noted(cells: Sequence[Cell]) -> list[str]:
    """The notes of all cells as a list; one that every model has stands once."""
    models: dict[str, list[str]] = {}
    for cell in cells:
        for note in cell.notes:
            models.setdefault(note, []).append(cell.model)
    return [
        f"- {'all models' if len(names) == len(cells) else escaped(', '.join(names))}: {escaped(note)}"
        for note, names in models.items()
    ]


def small_print(results: Sequence[Results]) -> list[str]:
    """Software and machine of each run of `evaluate`."""
    lines = []
    for result in results:
        software = ", ".join(f"{name} {version}" for name, version in result.software.items())
        machine = ", ".join(result.machine.values())
        lines.append(f"Software: {escaped_long(software)}. Machine: {escaped_long(machine)}.")
    return list(dict.fromkeys(lines))


def escaped_long(text: str) -> str:
    """Like `escaped`, in pieces, for a list that may be long."""
    return ", ".join(escaped(piece) for piece in text.split(", ")[:40])
