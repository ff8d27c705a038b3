"""Evaluates the models of a config into a results folder; a stopped evaluation goes on with the models that are not finished."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, assert_never

import torch

from evaluation.config import ClassifyTask, CtcTask, EvaluationConfig, FramesTask, LayerFeatures, VerifyTask
from evaluation.data.alignments import align_task
from evaluation.data.labels import label_task
from evaluation.data.transcripts import label_texts
from evaluation.data.trials import label_speakers
from evaluation.data.utterances import list_utterances
from evaluation.dry_run import check_disk, frame_bytes
from evaluation.exposure.categories import Library, copy_facts
from evaluation.exposure.test_copies import index_test_copies
from evaluation.extraction import EvaluationSetup, plan_extraction
from evaluation.measures import abx, units
from evaluation.measures.teacher_agreement import check_frames, teacher_frames, teacher_of
from evaluation.model_scores import SCRATCH, measure
from evaluation.models import inspect_model, load_model, open_model, origin_of
from evaluation.report.markdown import DamagedResultsError, report_text
from evaluation.tasks.frame_store import PROTOCOL, limited
from manifests.corpus.provenance import machine, provenance, software
from manifests.errors import BadDocumentError, NewerSchemaError, OtherRecipeError, StillroomError, UsageError, printable
from manifests.io.atomic import refuse_linked_folders, write_text
from manifests.io.digest import digest
from manifests.io.lock import writing
from manifests.io.place import local_path
from manifests.results.scores import ModelScores, Protocol, Results
from training.data.joined_corpus import open_corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from evaluation.config import AnyTask
    from evaluation.data.utterances import EvaluationSet
    from evaluation.extraction import PreparedTask
    from evaluation.models import InspectedModel
    from manifests.results.scores import ModelFacts


CONSTANTS = {"abx": abx.PROTOCOL, "units": units.PROTOCOL}
"""What decides the scores of a measure beside the config."""


class NotResultsError(StillroomError, FileExistsError):
    """A folder with other files than results."""

    def __init__(self, folder: Path, *, found: str) -> None:
        super().__init__(
            f"{printable(folder)} holds {printable(found)} and no protocol.json, so these are no results: "
            "choose an empty or new folder"
        )


class UnknownLayerError(StillroomError, ValueError):
    """A layer that a model does not have."""

    def __init__(self, key: str, model: str, *, layer: int, layers: int) -> None:
        otherwise = "leave layers out for all of each" if key == "layers" else "write features: last"
        super().__init__(
            f"{key}: {layer} is none of model {model!r}, which has layers 1 to {layers}; name layers that all models have, or {otherwise}"
        )


def evaluate(
    config: EvaluationConfig | str | Path,
    results: str | Path,
    *,
    device: str | None = None,
    log: Callable[[str], None] = print,
) -> Results:
    """Measure every model of a config, and write `results.json` and `report.md`.

    Config, corpus and models are checked before the first model runs. A model whose scores are in the folder, by the same
    protocol and of the same parameters, is not measured again.

    Args:
        config: The config, its paths resolved, or the YAML file to read it from.
        results: The results folder; made if it does not exist.
        device: Where models run: `cpu` or `cuda`; the GPU where there is one by default.
        log: Called with each line of progress.

    Raises:
        OtherRecipeError: If the folder has the results of another config.
        NotResultsError: If it has other files.
        LockedError: If another process writes there.
        NotEnoughSpaceError: If the disk is too small for the frames of a model.
        StillroomError: If config, corpus and models do not fit: see `evaluation.data` and `evaluation.models`.
    """
    device = chosen_device(device)
    config = config if isinstance(config, EvaluationConfig) else EvaluationConfig.read(config)
    folder = local_path(results)
    protocol, setup = set_up(config)
    models = inspected(config, setup)
    teachers = teachers_of(models) if "agreement" in config.measures else {}
    with writing(folder):
        claim_folder(folder, protocol)
        for left in folder.glob(f"{SCRATCH}*"):  # of an evaluation that was killed
            shutil.rmtree(left, ignore_errors=True)
        protocol_sha256 = digest(protocol.model_copy(update={"models": {}}))
        setup = dataclasses.replace(setup, protocol_sha256=protocol_sha256, scratch=folder)
        scores = {
            name: finished_scores(folder, name, model.facts, setup=setup, log=log) for name, model in models.items()
        }
        missing = [name for name, found in scores.items() if found is None]
        if not missing and (finished := finished_results(folder, scores, log=log)) is not None:
            if not (folder / "report.md").is_file():
                write_text(folder / "report.md", report_text([finished]))
            log(f"{printable(folder)}: already evaluated, nothing to do")
            return finished
        check_disk(folder, frame_bytes({name: models[name] for name in missing}, setup), log=log)
        for name, found in measured(missing, models, teachers, setup=setup, device=device):
            found.write(scores_path(folder, name))
            scores[name] = found
        document = results_of(protocol, setup, [found for found in scores.values() if found is not None])
        write_text(folder / "report.md", report_text([document]))
        document.write(folder / "results.json")
    return document


def dry_run(config: EvaluationConfig, results: Path, *, log: Callable[[str], None]) -> None:
    """Check a config as `evaluate` does and report what it takes; nothing is written.

    Raises:
        StillroomError: As `evaluate`.
    """
    _, setup = set_up(config)
    models = inspected(config, setup)
    log(f"{len(models)} models, each processes {setup.audio_s / 3600:.3g} h of audio, all copies counted")
    check_disk(results, frame_bytes(models, setup), log=log)
    log("nothing was written")


def chosen_device(device: str | None) -> str:
    """Where models run: as requested, else on the GPU where there is one.

    Raises:
        UsageError: If it is requested and torch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no such device here; leave it out to run on the CPU")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def inspected(config: EvaluationConfig, setup: EvaluationSetup) -> dict[str, InspectedModel]:
    """The models of a config, each loaded once and described.

    Raises:
        UnknownLayerError: If one has fewer layers than the config names.
    """
    with_heads = any(task.features == "sum+heads" for task in config.tasks)
    models = {
        name: inspect_model(name, source, dataset=setup.dataset, with_heads=with_heads)
        for name, source in config.models.items()
    }
    named = [("layers", max(config.layers))] if config.layers is not None else []
    named += [
        (f"tasks.{place}.features.layer", task.features.layer)
        for place, task in enumerate(config.tasks)
        if isinstance(task.features, LayerFeatures)
    ]
    for name, model in models.items():
        for key, layer in named:
            if layer > model.facts.layers:
                raise UnknownLayerError(key, name, layer=layer, layers=model.facts.layers)
    return models


def set_up(config: EvaluationConfig) -> tuple[Protocol, EvaluationSetup]:
    """Everything that is decided before a model is loaded; every fault of config and corpus raises here."""
    with open_corpus(config.corpus) as reader:
        dataset = list_utterances(reader, config)
        tasks = tuple(prepared(task, dataset, seed=config.seed) for task in config.tasks)
        plan = plan_extraction(dataset, tasks, config)
        copies = index_test_copies(reader, dataset)
        library = Library(reader)
        recordings = {
            (key, copy.name): tuple(digest for facts in copy_facts(copy, library) for digest in facts.recordings)
            for role, keys in plan.leakage.items()
            for key in keys
            for copy in dataset.of(role)[key].sample.copies
        }
    return protocol_of(config, dataset), EvaluationSetup(dataset, copies, plan, tasks, config, recordings)


def teachers_of(models: Mapping[str, InspectedModel]) -> dict[str, str]:
    """Of each student its teacher, where that is among the models.

    Raises:
        OtherFrameRateError: If frames of the two have other times.
    """
    facts = {name: model.facts for name, model in models.items()}
    teachers = {}
    for name, model in models.items():
        teacher = teacher_of(name, facts)
        if teacher is not None:
            check_frames(name, model.clock, teacher, models[teacher].clock)
            teachers[name] = teacher
    return teachers


def measured(
    names: Sequence[str],
    models: Mapping[str, InspectedModel],
    teachers: Mapping[str, str],
    *,
    setup: EvaluationSetup,
    device: str,
) -> Iterator[tuple[str, ModelScores]]:
    """Measure some models one by one; what each was trained on is written to `trained/`."""
    config, rate_hz = setup.config, setup.dataset.sample_rate
    frames: dict[str, dict[str, Tensor]] = {}  # of one teacher at a time
    for name in names:
        teacher = teachers.get(name)
        if teacher is not None and teacher not in frames:
            encoder = load_model(config.models[teacher], rate_hz).to(device)
            frames = {teacher: teacher_frames(encoder, dataset=setup.dataset, config=config)}
        model = open_model(
            name,
            config,
            models[name].facts,
            sample_rate=rate_hz,
            device=device,
            teacher=None if teacher is None else frames[teacher],
        )
        if model.trained is not None:
            model.trained.write(setup.scratch / "trained" / f"{name}.json")
        yield name, measure(model, setup)


def results_of(protocol: Protocol, setup: EvaluationSetup, scores: Sequence[ModelScores]) -> Results:
    """The document of all scores."""
    return Results.model_validate(
        {
            "schema": Results.SCHEMA,
            "protocol": protocol,
            "cells": tuple(scores),
            "software": software(),
            "machine": machine(),
            "roll": setup.copies.record,
            "command": tuple(provenance()["command"]),
        }
    )


def prepared(task: AnyTask, dataset: EvaluationSet, *, seed: int) -> PreparedTask:
    """A task with its labels."""
    match task:
        case ClassifyTask():
            return label_task(task, dataset)
        case CtcTask():
            return limited(label_texts(task, dataset), seed=seed)
        case VerifyTask():
            return label_speakers(task, dataset, seed=seed)
        case FramesTask():
            return limited(align_task(task, dataset), seed=seed)
        case _:
            assert_never(task)


def protocol_of(config: EvaluationConfig, dataset: EvaluationSet) -> Protocol:
    """What is measured, and how, without paths."""
    settings = config.model_copy(update={"splits": dataset.splits}).settings()
    if any(isinstance(task, CtcTask | FramesTask) for task in config.tasks):
        settings["stored_frames"] = PROTOCOL
    settings |= {name: constants for name, constants in CONSTANTS.items() if name in config.measures}
    return Protocol.model_validate(
        {
            "schema": Protocol.SCHEMA,
            "corpus": dataset.corpus,
            "data_sha256": dataset.data_sha256,
            "conditions": dataset.conditions,
            "settings": settings,
            "models": {name: origin_of(source) for name, source in config.models.items()},
        }
    )


def claim_folder(folder: Path, protocol: Protocol) -> None:
    """Write the protocol into a new folder, or check that it is the one that the folder has.

    Raises:
        OtherRecipeError: If it is another.
        NotResultsError: If the folder has other files, such as a corpus.
        UsageError: If a folder in it is a link.
    """
    refuse_linked_folders(folder, "cells", "trained")
    path = folder / "protocol.json"
    if not path.exists():
        other = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if other:
            raise NotResultsError(folder, found=other[0])
        protocol.write(path)
        return
    try:
        found = Protocol.read(path, needed="the protocol of the results")
    except NewerSchemaError:
        raise
    except BadDocumentError as problem:
        raise DamagedResultsError(problem) from None
    if found != protocol:
        raise OtherRecipeError(folder, what="evaluation config or corpus", found=digest(found), wanted=digest(protocol))


def finished_results(
    folder: Path, scores: Mapping[str, ModelScores | None], *, log: Callable[[str], None]
) -> Results | None:
    """The results, if they are written and have these scores."""
    path = folder / "results.json"
    if not path.exists():
        return None
    try:
        results = Results.read(path, needed="the results")
    except BadDocumentError as problem:
        log(f"{problem}; it is written again from the scores of the models")
        return None
    return results if list(results.cells) == list(scores.values()) else None


def scores_path(folder: Path, name: str) -> Path:
    """Path of the scores of one model."""
    return folder / "cells" / f"{name}.json"


def finished_scores(
    folder: Path, name: str, facts: ModelFacts, *, setup: EvaluationSetup, log: Callable[[str], None]
) -> ModelScores | None:
    """The scores of a model, if it was measured by this protocol and with these parameters; damaged ones are measured again."""
    path = scores_path(folder, name)
    if not path.exists():
        return None
    try:
        scores = ModelScores.read(path, needed="the scores of a model")
    except NewerSchemaError:
        raise
    except BadDocumentError as problem:
        log(f"{problem}; this model is measured again")
        return None
    is_same = scores.protocol_sha256 == setup.protocol_sha256 and scores.facts.digest == facts.digest
    if not is_same:
        return None
    return scores if scores.facts == facts else scores.model_copy(update={"facts": facts})
