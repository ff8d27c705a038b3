"""An evaluation from its config to its results folder, stopped and started again by model."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, assert_never

import torch

from evaluation.config import ClassifyTask, CtcTask, FramesTask, VerifyTask
from evaluation.data.alignments import align_task
from evaluation.data.labels import label_task
from evaluation.data.transcripts import label_texts
from evaluation.data.trials import label_speakers
from evaluation.data.utterances import list_utterances
from evaluation.exposure.categories import Library, copy_facts
from evaluation.exposure.test_copies import index_test_copies
from evaluation.exposure.training_set import TrainingUnknownError, exposure_of, teacher_exposure
from evaluation.extraction import plan_extraction
from evaluation.measures.teacher_agreement import check_frames, teacher_frames, teacher_of
from evaluation.model_scores import SCRATCH, EvaluatedModel, EvaluationSetup, measure
from evaluation.models import LOGMEL, distillation_heads, exported_facts, inspect_model, load_model, origin_of
from evaluation.report.markdown import DamagedResultsError, report_text
from manifests.corpus.provenance import machine, provenance, software
from manifests.errors import BadDocumentError, NewerSchemaError, OtherRecipeError, StillroomError, UsageError, printable
from manifests.io.atomic import refuse_linked_folders, write_text
from manifests.io.digest import digest
from manifests.io.lock import writing
from manifests.results.scores import ModelFacts, ModelScores, Protocol, Results
from manifests.results.training_exposure import TrainedOn
from training.data.joined_corpus import open_corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from evaluation.config import AnyTask, EvaluationConfig
    from evaluation.data.utterances import EvaluationSet
    from evaluation.extraction import PreparedTask


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
        say: Called with what happens, line by line.

    Raises:
        OtherRecipeError: If the folder holds the results of another config.
        NotResultsError: If it holds other files.
        LockedError: If another process writes there.
        StillroomError: For everything that does not fit: see `dataset` and `labels`.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no such device here; leave it out to run on the CPU")
    asked, bench = set_up(config)
    looks = {name: inspect_model(name, source, dataset=bench.dataset) for name, source in config.models.items()}
    facts = {name: look.facts for name, look in looks.items()}
    teachers = {name: teacher_of(name, facts) for name in facts} if "agreement" in config.measures else {}
    for name, teacher in teachers.items():
        if teacher is not None:
            check_frames(name, looks[name].clock, teacher, looks[teacher].clock)
    with writing(folder):
        claim_folder(folder, asked)
        for left in folder.glob(f"{SCRATCH}*"):  # of an evaluation that was killed
            shutil.rmtree(left, ignore_errors=True)
        protocol_sha256 = digest(asked.model_copy(update={"models": {}}))
        bench = dataclasses.replace(bench, protocol_sha256=protocol_sha256, scratch=folder)
        cells = {name: finished_scores(folder, name, facts[name], bench=bench, say=say) for name in facts}
        missing = [name for name, cell in cells.items() if cell is None]
        if not missing and (found := finished_results(folder, cells, say=say)) is not None:
            if not (folder / "report.md").is_file():
                write_text(folder / "report.md", report_text([found]))
            say(f"{printable(folder)}: already evaluated, nothing to do")
            return found
        heard_by_teacher: dict[str, dict[str, Tensor]] = {}
        for name in missing:
            teacher = teachers.get(name)
            if teacher is not None and teacher not in heard_by_teacher:
                encoder = load_model(config.models[teacher], bench.dataset.sample_rate).to(device)
                heard_by_teacher = {teacher: teacher_frames(encoder, dataset=bench.dataset, config=config)}
            subject = open_model(name, config, facts[name], bench=bench, device=device)
            subject = dataclasses.replace(subject, teacher=heard_by_teacher.get(teacher) if teacher else None)
            if subject.trained is not None:
                subject.trained.write(folder / "trained" / f"{name}.json")
            cell = measure(subject, bench)
            cell.write(scores_path(folder, name))
            cells[name] = cell
        results = Results.model_validate(
            {
                "schema": Results.SCHEMA,
                "protocol": asked,
                "cells": tuple(cell for cell in cells.values() if cell is not None),
                "software": software(),
                "machine": machine(),
                "roll": bench.roll.record,
                "command": tuple(provenance()["command"]),
            }
        )
        write_text(folder / "report.md", report_text([results]))
        results.write(folder / "results.json")
    return results


def set_up(config: EvaluationConfig) -> tuple[Protocol, EvaluationSetup]:
    """Everything that is decided before a model is looked at; every fault of config and corpus is told here."""
    with open_corpus(config.corpus) as reader:
        dataset = list_utterances(reader, config)
        tasks = tuple(prepared(task, dataset, seed=config.seed) for task in config.tasks)
        hearing = plan_extraction(dataset, tasks, config)
        roll = index_test_copies(reader, dataset)
        library = Library(reader)
        recordings = {
            (key, copy.name): tuple(digest for facts in copy_facts(copy, library) for digest in facts.recordings)
            for role, keys in hearing.leakage.items()
            for key in keys
            for copy in dataset.of(role)[key].sample.copies
        }
    return protocol_of(config, dataset), EvaluationSetup(dataset, roll, hearing, tasks, config, recordings)


def prepared(task: AnyTask, dataset: EvaluationSet, *, seed: int) -> PreparedTask:
    """A task with its labels."""
    match task:
        case ClassifyTask():
            return label_task(task, dataset)
        case CtcTask():
            return label_texts(task, dataset)
        case VerifyTask():
            return label_speakers(task, dataset, seed=seed)
        case FramesTask():
            return align_task(task, dataset)
        case _:
            assert_never(task)


def open_model(
    name: str, config: EvaluationConfig, facts: ModelFacts, *, bench: EvaluationSetup, device: str
) -> EvaluatedModel:
    """A model with all that is known of it, ready to be measured."""
    source = config.models[name]
    encoder = load_model(source, bench.dataset.sample_rate).to(device)
    notes = []
    trained: dict[str, TrainedOn | None] = {}
    for whose, find in (("own", exposure_of), ("teacher", teacher_exposure)):
        try:
            trained[whose] = (
                TrainedOn.clean()
                if source == LOGMEL
                else find(name, source, {**(exported_facts(source) or {}), **encoder.facts})
            )
        except TrainingUnknownError as problem:
            trained[whose] = None
            notes.append(str(problem))
    heads = None
    if any(task.features == "sum+heads" for task in config.tasks):
        heads = distillation_heads(name, source, encoder)
        if heads is None:
            notes.append("sum+heads: it has no distillation heads, so its sum is over its layers")
        else:
            heads = heads.to(device)
    return EvaluatedModel(
        name, encoder, facts, heads, trained=trained["own"], teacher_trained=trained["teacher"], notes=tuple(notes)
    )


def protocol_of(config: EvaluationConfig, dataset: EvaluationSet) -> Protocol:
    """What is asked, without a path."""
    return Protocol.model_validate(
        {
            "schema": Protocol.SCHEMA,
            "corpus": dataset.corpus,
            "data_sha256": dataset.data_sha256,
            "conditions": dataset.conditions,
            "settings": config.model_copy(update={"splits": dataset.splits}).settings(),
            "models": {name: origin_of(source) for name, source in config.models.items()},
        }
    )


def claim_folder(folder: Path, asked: Protocol) -> None:
    """Write down what the folder is for, or see that it is for the same.

    Raises:
        OtherRecipeError: If it is for something else.
        NotResultsError: If it holds other files, such as a corpus.
        UsageError: If a folder of it is a link.
    """
    refuse_linked_folders(folder, "cells", "trained")
    path = folder / "protocol.json"
    if not path.exists():
        strange = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if strange:
            raise NotResultsError(folder, found=strange[0])
        asked.write(path)
        return
    try:
        found = Protocol.read(path, needed="what the folder is for")
    except NewerSchemaError:
        raise
    except BadDocumentError as problem:
        raise DamagedResultsError(problem) from None
    if found != asked:
        raise OtherRecipeError(folder, what="evaluation config or corpus", found=digest(found), asked=digest(asked))


def finished_results(
    folder: Path, cells: Mapping[str, ModelScores | None], *, say: Callable[[str], None]
) -> Results | None:
    """The results, if they are written and are those of these cells."""
    path = folder / "results.json"
    if not path.exists():
        return None
    try:
        results = Results.read(path, needed="the results")
    except BadDocumentError as problem:
        say(f"{problem}; it is written anew from the cells")
        return None
    return results if list(results.cells) == list(cells.values()) else None


def scores_path(folder: Path, name: str) -> Path:
    """Where the numbers of one model lie."""
    return folder / "cells" / f"{name}.json"


def finished_scores(
    folder: Path, name: str, facts: ModelFacts, *, bench: EvaluationSetup, say: Callable[[str], None]
) -> ModelScores | None:
    """The cell of a model, if it was measured by this protocol and with these parameters; a damaged one is measured again."""
    path = scores_path(folder, name)
    if not path.exists():
        return None
    try:
        cell = ModelScores.read(path, needed="a cell")
    except NewerSchemaError:
        raise
    except BadDocumentError as problem:
        say(f"{problem}; this model is measured again")
        return None
    is_same = cell.protocol_sha256 == bench.protocol_sha256 and cell.facts.digest == facts.digest
    if not is_same:
        return None
    return cell if cell.facts == facts else cell.model_copy(update={"facts": facts})
