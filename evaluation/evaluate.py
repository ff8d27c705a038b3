"""An evaluation from its config to its results folder, stopped and started again by model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evaluation.cells import measure
from evaluation.config import RunSource
from evaluation.hearing import plan_hearing
from evaluation.labels import label_task
from evaluation.report import report_text
from evaluation.roster import call_roll, check_model
from manifests.digest import digest
from manifests.errors import OtherRecipeError, StillroomError, UsageError, printable
from manifests.files import write_text
from manifests.lock import writing
from manifests.provenance import machine, software
from manifests.scores import Cell, ModelFacts, Protocol, Results
from training.checkpoint import load_run
from training.corpus import open_corpus
from training.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.config import EvaluationConfig
    from evaluation.roster import Roster
    from training.encoder import Encoder


class NotResultsError(StillroomError, FileExistsError):
    """The folder holds something, but no results."""

    def __init__(self, folder: Path, *, found: str) -> None:
        super().__init__(
            f"{printable(folder)} holds {printable(found)} and no protocol.json, so these are no results: "
            "choose an empty or new folder"
        )


def evaluate(
    config: EvaluationConfig, folder: Path, *, device: str = "cpu", say: Callable[[str], None] = print
) -> Results:
    """Measure every model of a config, and write `results.json` and `report.md`.

    What can be wrong is looked for before the first model runs. A model whose cell is there, by the same protocol and
    the same parameters, is not measured again.

    Args:
        config: With its paths resolved.
        folder: The results folder; made if it is not there.
        device: Where models run.
        say: Told what happens, line by line.

    Raises:
        OtherRecipeError: If the folder holds the results of another config.
        NotResultsError: If it holds other files.
        LockedError: If another process writes there.
        StillroomError: For everything that does not fit: see `roster` and `labels`.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no such device here; leave it out to run on the CPU")
    with open_corpus(config.corpus) as reader:
        roster = call_roll(reader, config)
    tasks = [label_task(task, roster) for task in config.tasks]
    hearing = plan_hearing(roster, tasks, config)
    asked = protocol_of(config, roster)
    facts = {name: look_at(name, source, roster=roster) for name, source in config.models.items()}
    with writing(folder):
        claim(folder, asked)
        protocol_sha256 = digest(asked.model_copy(update={"models": {}}))
        cells = {name: finished_cell(folder, name, facts[name], protocol_sha256=protocol_sha256) for name in facts}
        missing = [name for name, cell in cells.items() if cell is None]
        if not missing and (found := finished_results(folder, cells)) is not None:
            say(f"{printable(folder)}: already evaluated, nothing to do")
            return found
        for name in missing:
            encoder = load_model(config.models[name]).to(device)
            cell = measure(
                name, encoder, facts[name], roster=roster, hearing=hearing, tasks=tasks, config=config,
                protocol_sha256=protocol_sha256,
            )  # fmt: skip
            cell.write(cell_path(folder, name))
            cells[name] = cell
        results = Results.model_validate(
            {
                "schema": Results.SCHEMA,
                "protocol": asked,
                "cells": tuple(cell for cell in cells.values() if cell is not None),
                "software": software(),
                "machine": machine(),
            }
        )
        write_text(folder / "report.md", report_text([results]))
        results.write(folder / "results.json")
    return results


def load_model(source: str | RunSource) -> Encoder:
    """A teacher, or the student of a run."""
    if isinstance(source, RunSource):
        return load_run(Path(source.run), checkpoint=source.checkpoint)
    return load_teacher(source)


def origin_of(source: str | RunSource) -> str:
    """A model's origin without its place on this machine."""
    if isinstance(source, RunSource):
        return f"{Path(source.run).name}, {source.checkpoint}"
    return Path(source).name


def look_at(name: str, source: str | RunSource, *, roster: Roster) -> ModelFacts:
    """Load a model to see that it is there and fits, and what it is; it is not kept."""
    encoder = load_model(source)
    check_model(name, encoder, roster)
    return ModelFacts(
        kind="run" if isinstance(source, RunSource) else "teacher",
        origin=origin_of(source),
        digest=encoder.digest,
        parameters=encoder.num_parameters,
        layers=encoder.num_layers,
        heard_known=bool(encoder.heard),
        details=encoder.facts,
    )


def protocol_of(config: EvaluationConfig, roster: Roster) -> Protocol:
    """What is asked, without a path."""
    return Protocol.model_validate(
        {
            "schema": Protocol.SCHEMA,
            "corpus": roster.corpus,
            "data_sha256": roster.data_sha256,
            "conditions": roster.conditions,
            "settings": config.model_copy(update={"splits": roster.splits}).settings(),
            "models": {name: origin_of(source) for name, source in config.models.items()},
        }
    )


def claim(folder: Path, asked: Protocol) -> None:
    """Write down what the folder is for, or see that it is for the same.

    Raises:
        OtherRecipeError: If it is for something else.
        NotResultsError: If it holds other files, such as a corpus.
    """
    path = folder / "protocol.json"
    if not path.exists():
        strange = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if strange:
            raise NotResultsError(folder, found=strange[0])
        asked.write(path)
        return
    found = Protocol.read(path, needed="what the folder is for")
    if found != asked:
        raise OtherRecipeError(folder, what="evaluation config or corpus", found=digest(found), asked=digest(asked))


def finished_results(folder: Path, cells: dict[str, Cell | None]) -> Results | None:
    """The results, if they are written and are those of these cells."""
    path = folder / "results.json"
    if not path.exists():
        return None
    results = Results.read(path, needed="the results")
    return results if list(results.cells) == list(cells.values()) else None


def cell_path(folder: Path, name: str) -> Path:
    """Where the numbers of one model lie."""
    return folder / "cells" / f"{name}.json"


def finished_cell(folder: Path, name: str, facts: ModelFacts, *, protocol_sha256: str) -> Cell | None:
    """The cell of a model, if it was measured by this protocol and with these parameters."""
    path = cell_path(folder, name)
    if not path.exists():
        return None
    cell = Cell.read(path, needed="a cell")
    is_same = cell.protocol_sha256 == protocol_sha256 and cell.facts.digest == facts.digest
    return cell if is_same else None
