"""The report as Markdown: scores of every model on clean and distorted speech, and its cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from evaluation.measures.error_rates import SMALLER_IS_BETTER
from evaluation.report.layer_tables import (
    LEAKAGES,
    chosen_scores,
    cosine_table,
    layer_rows,
    layer_tables,
    leakage_table,
)
from evaluation.report.robustness_table import (
    SystemOutcomes,
    difference_tables,
    robustness_tables,
    seen_table,
    shortfall_note,
    shortfall_table,
    snr_tables,
)
from evaluation.report.table import Quantity, Table, escaped, percent, smaller_percent
from manifests.corpus.sample import CLEAN
from manifests.errors import BadDocumentError, NewerSchemaError, NotAFolderError, StillroomError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.progress import duration
from manifests.results.scores import Results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manifests.results.scores import CopyTable, Measure, ModelScores, Protocol


class OtherDataError(StillroomError, ValueError):
    """Scores that were not measured on the same data, or not in the same way, and so cannot be in one table."""

    def __init__(self, first: Protocol, second: Protocol, *, names: tuple[str, str]) -> None:
        if first.data_sha256 != second.data_sha256:
            what = "data"
            found = [f"{printable(one.corpus, limit=60)} {one.data_sha256[:12]}" for one in (first, second)]
        else:
            what = "settings"
            settings = [{**one.settings, "conditions": ", ".join(one.conditions)} for one in (first, second)]
            different = next(
                key for key in sorted(settings[0] | settings[1]) if settings[0].get(key) != settings[1].get(key)
            )
            found = [f"{different}: {printable(one.get(different), limit=60)}" for one in settings]
        super().__init__(
            f"{printable(names[0])} and {printable(names[1])} were measured with different {what} "
            f"({found[0]}; {found[1]}): report them one by one"
        )


class DamagedResultsError(StillroomError, ValueError):
    """A file of a results folder that is truncated or was changed by hand."""

    def __init__(self, problem: BadDocumentError) -> None:
        super().__init__(f"{problem}: remove it and run `stillroom evaluate` again, finished models stay")


class TwoModelsError(StillroomError, ValueError):
    """One name of two models."""

    def __init__(self, model: str, *, digests: tuple[str, str]) -> None:
        super().__init__(
            f"two models have the name {model!r} ({digests[0][:12]} and {digests[1][:12]}): "
            "rename one in its evaluation config"
        )


def read_results(folder: Path) -> Results:
    """The results in a folder that `stillroom evaluate` finished.

    Raises:
        MissingFileError: If there are none.
        DamagedResultsError: If they are truncated or malformed.
    """
    path = folder / "results.json" if folder.is_dir() else folder
    if path.is_file() and path.suffix != ".json":
        raise NotAFolderError(path, needed="name a folder that `stillroom evaluate` has finished")
    try:
        return Results.read(path, needed="name a folder that `stillroom evaluate` has finished")
    except NewerSchemaError:
        raise
    except BadDocumentError as problem:
        raise DamagedResultsError(problem) from None


def merged_models(results: Sequence[Results], *, names: Sequence[str] | None = None) -> list[ModelScores]:
    """The scores of several results, each model once.

    Raises:
        UsageError: If there are no results.
        OtherDataError: If they were not measured on the same data and in the same way.
        TwoModelsError: If two models have one name.
    """
    if not results:
        raise UsageError("no results to report: name at least one folder")
    names = names or [f"results {number}" for number in range(1, len(results) + 1)]
    first = results[0].protocol
    models: dict[str, ModelScores] = {}
    for name, result in zip(names, results, strict=True):
        if compared(result.protocol) != compared(first):
            raise OtherDataError(first, result.protocol, names=(names[0], name))
        for model in result.cells:
            known = models.setdefault(model.model, model)
            if known.facts.digest != model.facts.digest:
                raise TwoModelsError(model.model, digests=(known.facts.digest, model.facts.digest))
    return list(models.values())


def compared(protocol: Protocol) -> str:
    """Digest of what must be the same for scores to be in one table: data and settings, but not names of corpus and models."""
    return digest(protocol.model_copy(update={"models": {}, "corpus": ""}))


def report_text(results: Sequence[Results], *, names: Sequence[str] | None = None, against: str | None = None) -> str:
    """The whole report as Markdown that also reads well in a terminal.

    Args:
        results: Of one protocol; models may differ.
        names: Name of each in error messages.
        against: The system that others are compared with.

    Raises:
        UnknownSystemError: If there is no system of that name.
    """
    models = merged_models(results, names=names)
    return text_of(results, models, report_tables(results, models, against=against))


def text_of(results: Sequence[Results], models: Sequence[ModelScores], tables: Sequence[Table]) -> str:
    """The report with these tables."""
    protocol = results[0].protocol
    lines = preamble(protocol, models)
    outcomes = outcomes_of(results, models)
    lines += [shortfall_note(outcomes)] if outcomes is not None and outcomes.tasks() else []
    blocks = [f"# Robustness on {escaped(protocol.corpus)}", "\n".join(lines)]
    blocks += ["\n".join(table.lines()) for table in tables]
    if notes := notes_of(models):
        listed = (f"- {escaped(names)}: {escaped(note)}" for names, note in notes)
        blocks.append("\n".join(["**Notes**", "", *listed]))
    blocks.append("\n".join(provenance_lines(results)))
    return "\n\n".join(blocks) + "\n"


def copy_table_of(results: Sequence[Results]) -> CopyTable | None:
    """The copies that results of the same data were measured on; None where no result has a copy table."""
    return next((result.roll for result in results if result.roll is not None), None)


def outcomes_of(results: Sequence[Results], models: Sequence[ModelScores]) -> SystemOutcomes | None:
    """Outcomes copy by copy of all models; None where no result has a copy table."""
    copies = copy_table_of(results)
    return None if copies is None else SystemOutcomes.from_scores(models, copies)


def report_tables(
    results: Sequence[Results], models: Sequence[ModelScores], *, against: str | None = None
) -> list[Table]:
    """All tables of the report, in their order.

    Raises:
        UnknownSystemError: If there is no system of the name `against`.
    """
    protocol = results[0].protocol
    copies = copy_table_of(results)
    outcomes = outcomes_of(results, models)
    tables = [table] if outcomes is not None and (table := shortfall_table(outcomes)) is not None else []
    tables += [model_table(models)]
    tables += [efficiency_table(models)] if any(model.efficiency for model in models) else []
    if outcomes is not None and copies is not None:
        tables += robustness_tables(outcomes) + difference_tables(outcomes, against=against)
        tables += [table] if (table := seen_table(models, copies)) is not None else []
    tables += [task_table(models, task, measure, protocol) for task, measure in tasks_of(models)]
    tables += snr_tables(outcomes) if outcomes is not None else []
    measures = protocol.settings.get("measures", [])
    tables += [cosine_table(models, protocol)] if "cosine" in measures else []
    tables += layer_tables(models, protocol)
    tables += [leakage_table(models, measure) for measure in LEAKAGES if layer_rows(models, measure)]
    tables += [table] if (table := chosen_table(models)) is not None else []
    return tables


def preamble(protocol: Protocol, models: Sequence[ModelScores]) -> list[str]:
    """What was measured and how, in a few lines."""
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
            f"Tasks: {settings.get('probes')} probes each (mean of the probes, ± half their range) on frozen features: the last layer, where a "
            f"task does not say sum or a layer. Trained on clean speech of split {escaped(str(splits.get('train')))}, where it does not say distorted; "
            f"features centred and scaled on clean train; regularisation or learning rate chosen on {chosen}."
        )
    if any(model.outcomes or model.trials for model in models):
        lines.append(
            "Differences: 95 % intervals of a bootstrap over seeds and speakers (over utterances, where one speaker says everything)."
        )
    unknown = [escaped(model.model) for model in models if not model.facts.heard_known]
    if unknown:
        lines.append(f"Not known which utterances they were trained on: {', '.join(unknown)}.")
    return lines


def model_table(models: Sequence[ModelScores]) -> Table:
    """Size and cost of each model."""
    teacher = next((model for model in models if model.facts.kind == "teacher"), None)
    rows = []
    for model in models:
        parameters = model.facts.parameters
        smaller = math.nan if teacher is None else smaller_percent(parameters, than=teacher.facts.parameters)
        time_s, audio_s = (
            sum(model.cost.get(key, 0.0) for key in keys) for keys in (("hearing_s", "probing_s"), ("audio_s",))
        )
        rows.append((
            model.model, model.facts.kind, model.facts.origin, model.facts.digest[:12], steps_of(model), hours_of(model), str(model.facts.layers),
            Quantity(f"{parameters / 1e6:.2f} M", {"": parameters}), "" if model is teacher or teacher is None else Quantity(f"{smaller:.1f} %", {"in %": smaller}),
            hours(audio_s), Quantity(duration(time_s), {"in s": time_s}),
        ))  # fmt: skip
    than = "smaller" if teacher is None else f"smaller than {teacher.model}"
    header = (
        "model",
        "kind",
        "origin",
        "digest",
        "steps",
        "trained on",
        "layers",
        "parameters",
        than,
        "evaluated on",
        "time",
    )
    return Table("Models", header, tuple(rows), words=4)


def steps_of(model: ModelScores) -> str:
    """Updates of a student, where its record has them."""
    steps = model.facts.details.get("steps")
    return str(steps) if isinstance(steps, int) else ""


def hours_of(model: ModelScores) -> str:
    """Audio that a student was trained on, where its record has it."""
    audio_s = model.facts.details.get("audio_s")
    return hours(audio_s) if isinstance(audio_s, int | float) and audio_s else ""


def hours(seconds: float) -> Quantity:
    """A time as `1.50 h`."""
    return Quantity(f"{seconds / 3600:.2f} h", {"in h": seconds / 3600})


def efficiency_table(models: Sequence[ModelScores]) -> Table:
    """The cost of running each model on one thread."""
    rows = tuple(
        (
            model.model,
            Quantity(f"{model.efficiency.macs_per_s / 1e6:.0f} M", {"": model.efficiency.macs_per_s}),
            Quantity(f"{model.efficiency.real_time_factor:.4f}", {"": model.efficiency.real_time_factor}),
            Quantity(f"{model.efficiency.size_mb:.2f}", {"": model.efficiency.size_mb}),
        )
        for model in models
        if model.efficiency is not None
    )
    header = ("model", "MACs a second of audio", "real-time factor", "size, MB")
    return Table("Cost on one thread (size: parameters as float32; of an export to ONNX, its file)", header, rows)


def tasks_of(models: Sequence[ModelScores]) -> list[tuple[str, Measure]]:
    """Name and measure of the tasks, in their order."""
    return list(
        dict.fromkeys(
            (score.task, score.measure)
            for model in models
            for score in model.scores
            if score.task is not None and score.measure != "majority"
        )
    )


def task_table(models: Sequence[ModelScores], task: str, measure: Measure, protocol: Protocol) -> Table:
    """Every model on one task: clean, each condition, their mean, and the loss against clean."""
    sign = -1.0 if measure in SMALLER_IS_BETTER else 1.0
    rows = []
    for model in models:
        by_probe: dict[str, list[float]] = {
            condition: [score.value for score in chosen_scores(model, measure, task=task, condition=condition)]
            for condition in (CLEAN, *protocol.conditions)
        }
        by_probe = {name: values for name, values in by_probe.items() if values}
        if CLEAN not in by_probe:
            continue
        if distorted := [by_probe[name] for name in protocol.conditions if name in by_probe]:
            mean = np.mean(distorted, axis=0)
            by_probe |= {"mean": mean.tolist(), "loss": (sign * (np.array(by_probe[CLEAN]) - mean)).tolist()}
        columns = (CLEAN, *protocol.conditions, "mean", "loss")
        rows.append((model.model, *(with_spread(by_probe.get(name, [])) for name in columns)))
    scores = [score for score in models[0].scores if score.task == task and score.measure in {measure, "majority"}]
    count = max((score.count for score in scores), default=0)
    majority = next((score.value for score in scores if score.measure == "majority"), None)
    always = "" if majority is None else f", {percent(majority)} % for always the same answer"
    header = ("model", CLEAN, *protocol.conditions, "mean distorted", "loss")
    what = task if measure == "accuracy" else f"{task}, {measure.upper()}"
    of = "trials" if measure == "eer" else "test utterances"
    return Table(f"Task: {what} ({count} {of}{always})", header, tuple(rows))


def with_spread(values: Sequence[float]) -> str:
    """Mean of several probes in percent, with half their range; empty where nothing was measured."""
    if not values:
        return ""
    return percent(float(np.mean(values)), spread=None if len(values) == 1 else (max(values) - min(values)) / 2)


def chosen_table(models: Sequence[ModelScores]) -> Table | None:
    """Settings that were chosen on clean dev for the probes of each task."""
    tasks = list(dict.fromkeys(task for model in models for task in model.chosen))
    if not tasks:
        return None
    header = (
        "model",
        *(f"{task}: {next((c.chosen_is[task] for c in models if task in c.chosen_is), 'C')}" for task in tasks),
    )
    rows = tuple(
        (
            model.model,
            *(" ".join(f"{value:g}" for value in dict.fromkeys(model.chosen.get(task, ()))) for task in tasks),
        )
        for model in models
    )
    return Table("What probes chose (C: inverse regularisation strength)", header, rows)


def notes_of(models: Sequence[ModelScores]) -> list[tuple[str, str]]:
    """The notes of all models, each once: names of the models it is about, and the note."""
    about: dict[str, list[str]] = {}
    for model in models:
        for note in model.notes:
            about.setdefault(note, []).append(model.model)
    return [("all models" if len(names) == len(models) else ", ".join(names), note) for note, names in about.items()]


def provenance_lines(results: Sequence[Results]) -> list[str]:
    """Software and machine of each run of `evaluate`."""
    lines = []
    for result in results:
        software = ", ".join(f"{name} {version}" for name, version in result.software.items())
        machine = ", ".join(result.machine.values())
        if result.command:
            lines.append(f"Command: {escaped_long(' '.join(result.command))}.")
        lines.append(f"Software: {escaped_long(software)}. Machine: {escaped_long(machine)}.")
    return list(dict.fromkeys(lines))


def escaped_long(text: str) -> str:
    """A long list, escaped item by item."""
    return ", ".join(escaped(piece) for piece in text.split(", ")[:40])
