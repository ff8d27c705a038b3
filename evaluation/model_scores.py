"""One model measured: it hears what is needed, the probes are trained and tested, and the numbers are a cell."""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never

from evaluation.data.alignments import AlignedTask
from evaluation.data.labels import LabelledTask
from evaluation.data.transcripts import TextTask
from evaluation.data.trials import VerificationTask
from evaluation.data.utterances import TooFewFramesError
from evaluation.exposure.test_copies import condition_scores, outcomes_of
from evaluation.extraction import Listener, extract
from evaluation.measures.cka import effective_rank
from evaluation.measures.efficiency import measured_efficiency
from evaluation.measures.retrieval import POOL
from evaluation.tasks.classification import probe_task
from evaluation.tasks.leakage import held_out, leakage_scores
from evaluation.tasks.verification import verify_task
from manifests.corpus.sample import CLEAN
from manifests.results.scores import ModelScores, Score, Trials, joined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from evaluation.config import EvaluationConfig
    from evaluation.data.utterances import EvaluationSet
    from evaluation.exposure.test_copies import CopyIndex, Place
    from evaluation.extraction import ExtractionPlan, ModelFeatures, PreparedTask
    from evaluation.measures.cka import Similarity
    from evaluation.measures.frame_cosine import FrameCosine, Mean
    from evaluation.measures.retrieval import Retrieval
    from evaluation.tasks.frame_probes import FrameProbes
    from evaluation.tasks.verification import VerificationScores
    from manifests.results.scores import ModelFacts, Outcomes
    from manifests.results.training_exposure import TrainedOn
    from training.models.encoder import Encoder


SCRATCH = ".frames-"
SIMILARITY_DECIMALS = 8  # single-precision similarities near 1 lie 6e-8 apart


@dataclass(frozen=True)
class EvaluatedModel:
    """One model, and what is known of it.

    Attributes:
        heads: Its distillation heads, where some task reads them.
        teacher: Scaled features of its teacher's last layer on clean test, by sample key; None where there are none.
        trained: What it met in training; None if that is not known.
        teacher_trained: What its teacher met.
        notes: What a reader must know of it.
    """

    name: str
    encoder: Encoder
    facts: ModelFacts
    heads: nn.Module | None = None
    teacher: Mapping[str, Tensor] | None = None
    trained: TrainedOn | None = None
    teacher_trained: TrainedOn | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationSetup:
    """What every model is measured on, and how.

    Attributes:
        recordings: Digests of noise recordings and responses by sample key and member, of the utterances of the domain probe.
        scratch: The results folder, where files of frames lie while a model is measured.
    """

    dataset: EvaluationSet
    roll: CopyIndex
    hearing: ExtractionPlan
    tasks: tuple[PreparedTask, ...]
    config: EvaluationConfig
    recordings: Mapping[Place, tuple[str, ...]]
    protocol_sha256: str = ""
    scratch: Path = Path()


@dataclass
class Findings:
    """Numbers of one cell as they come."""

    scores: list[Score] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chosen: dict[str, tuple[float, ...]] = field(default_factory=dict)
    chosen_is: dict[str, Literal["C", "learning rate"]] = field(default_factory=dict)
    outcomes: list[Outcomes] = field(default_factory=list)
    trials: list[Trials] = field(default_factory=list)


def measure(subject: EvaluatedModel, bench: EvaluationSetup) -> ModelScores:
    """Measure one model.

    Raises:
        TooShortError: If no utterance of a split is long enough for it.
    """
    dataset, config, hearing = bench.dataset, bench.config, bench.hearing
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=bench.scratch) as scratch:
        listener = Listener(subject.name, subject.encoder, subject.heads, subject.teacher, Path(scratch))
        tables, audio_s = extract(listener, dataset=dataset, hearing=hearing, tasks=bench.tasks, config=config)
    heard_s = time.monotonic()
    found = Findings(notes=[*subject.notes, *hearing.notes])
    if tables.too_short:
        found.notes.append(f"{tables.too_short} utterances shorter than one frame are left out")
    for task in bench.tasks:
        found.notes += task.notes
        match task:
            case LabelledTask():
                add_classification(found, task, tables, bench)
            case VerificationTask():
                add_verification(found, task, tables, bench)
            case TextTask() | AlignedTask():
                [probes] = [probes for probes in tables.frame_probes if probes.task is task]
                add_framewise(found, probes, bench)
            case _:
                assert_never(task)
    if tables.cosine is not None:
        found.scores += cosine_scores(tables.cosine)
    if tables.similarity is not None:
        found.scores += similarity_scores(tables.similarity, measures=config.measures)
    if tables.retrieval is not None:
        found.scores += retrieval_scores(tables.retrieval, dataset.conditions)
        if min(tables.retrieval.plan.sizes) < POOL:
            found.notes.append(f"retrieval is among {min(tables.retrieval.plan.sizes)} frames: no speaker has more")
    if "leakage" in config.measures:
        known = tables.deep[hearing.leakage_role]
        speakers = {
            key: entry.sample.speaker
            for role in (hearing.leakage_role, "test")
            for key, entry in dataset.of(role).items()
        }
        train, test, notes = held_out(
            known, tables.deep["test"], speakers=speakers, recordings=bench.recordings, seed=config.seed
        )
        found.scores += leakage_scores(train, test)
        found.notes += notes
    probed_s = time.monotonic()
    return ModelScores.model_validate(
        {
            "schema": ModelScores.SCHEMA,
            "model": subject.name,
            "protocol_sha256": bench.protocol_sha256,
            "data_sha256": dataset.data_sha256,
            "facts": subject.facts,
            "scores": tuple(found.scores),
            "notes": tuple(dict.fromkeys(found.notes)),
            "chosen": found.chosen,
            "chosen_is": found.chosen_is,
            "cost": {
                "audio_s": round(audio_s, 1),
                "hearing_s": round(heard_s - start_s, 1),
                "probing_s": round(probed_s - heard_s, 1),
            },
            "outcomes": tuple(found.outcomes),
            "trials": tuple(found.trials),
            "seen": bench.roll.letters(subject.trained),
            "seen_by_teacher": bench.roll.letters(subject.teacher_trained),
            "trained": trained_summary(subject.trained),
            "efficiency": measured_efficiency(subject.encoder) if config.efficiency else None,
        }
    )


def trained_summary(trained: TrainedOn | None) -> dict[str, object] | None:
    """What a model met, recordings as a number."""
    if trained is None:
        return None
    return {
        kind: {
            "count": met.count,
            "sources": list(met.sources),
            "recordings": len(met.recordings),
            "ranges": {name: list(span) for name, span in met.ranges.items()},
        }
        for kind, met in trained.kinds.items()
    }


def training_members(task: PreparedTask, bench: EvaluationSetup) -> dict[str, str] | None:
    """Which copy of each training utterance a task's probes are trained on; None for clean."""
    return {key: bench.hearing.chosen[key] for key in task.keys("train")} if task.probe == "distorted" else None


def add_classification(found: Findings, task: LabelledTask, tables: ModelFeatures, bench: EvaluationSetup) -> None:
    """Accuracy of a classification task."""
    config = bench.config
    told = probe_task(
        task,
        train=tables.pooled[task.features, "train"],
        dev=tables.pooled[task.features, "dev"] if bench.dataset.dev else None,
        test=tables.pooled[task.features, "test"],
        seed=config.seed,
        probes=config.probes,
        members=training_members(task, bench),
    )
    found.scores += told.scores
    found.notes += told.notes
    found.chosen[task.name] = told.chosen
    found.chosen_is[task.name] = "C" if task.features == "last" else "learning rate"
    found.outcomes += [
        outcomes_of(answered, bench.roll.places, task=task.name, measure="accuracy", probe=probe)
        for probe, answered in enumerate(told.answered)
    ]


def add_verification(found: Findings, task: VerificationTask, tables: ModelFeatures, bench: EvaluationSetup) -> None:
    """EER of a verification task."""
    config, places = bench.config, bench.roll.places
    told = verify_task(
        task,
        train=tables.pooled[task.features, "train"],
        dev=tables.pooled[task.features, "dev"] if task.dev else None,
        test=tables.pooled[task.features, "test"],
        seed=config.seed,
        probes=config.probes,
        members=training_members(task, bench),
    )
    found.scores += told.scores
    found.chosen[task.name] = told.chosen
    found.chosen_is[task.name] = "learning rate"
    found.trials.append(trials_record(told, places, task=task.name))


def trials_record(told: VerificationScores, places: Mapping[Place, int], *, task: str) -> Trials:
    """Trials as they are kept: places in the roll, and similarities as fine as they were measured: EER is decided by their order."""
    trials = told.trials[0]
    return Trials(
        task=task,
        copies=joined(float(places[tested]) for tested, *_ in trials),
        enrolled=joined(float(places[enrolled]) for _, enrolled, *_ in trials),
        same="".join(str(int(same)) for *_, same, _ in trials),
        scores=tuple(
            joined((similarity for *_, similarity in probe), decimals=SIMILARITY_DECIMALS) for probe in told.trials
        ),
    )


def add_framewise(found: Findings, probes: FrameProbes, bench: EvaluationSetup) -> None:
    """Error rates of CTC, or accuracy of frames.

    Raises:
        TooFewFramesError: If there was nothing to judge.
    """
    task = probes.task
    if not any(total for answered in probes.answered.values() for _, total in answered.values()):
        raise TooFewFramesError(task.name, "no frame with something to tell is left to test on")
    for (measure, probe), answered in sorted(probes.answered.items()):
        found.scores += condition_scores(answered, task=task.name, measure=measure, probe=probe)
        found.outcomes.append(outcomes_of(answered, bench.roll.places, task=task.name, measure=measure, probe=probe))
    found.chosen[task.name] = (probes.learning_rate,) * len(probes.probes)
    found.chosen_is[task.name] = "learning rate"


def cosine_scores(cosine: FrameCosine) -> list[Score]:
    """Cosines by condition and layer, matched and mismatched."""
    tables: dict[Literal["cosine", "mismatched"], dict[str, Mean]] = {
        "cosine": cosine.matched,
        "mismatched": cosine.mismatched,
    }
    return [
        Score(measure=measure, condition=condition, layer=layer + 1, value=float(value), count=mean.count)
        for measure, means in tables.items()
        for condition, mean in sorted(means.items())
        for layer, value in enumerate(mean.value)
    ]


def similarity_scores(similarity: Similarity, *, measures: Sequence[str]) -> list[Score]:
    """CKA, rank, variance and agreement by condition and layer."""
    scores: list[Score] = []
    for condition, products in sorted(similarity.pairs.items()):
        varying = similarity.energy[condition].varying_share()
        for layer, share in enumerate(varying):
            place = functools.partial(Score, condition=condition, layer=layer + 1, count=products.count)
            _, _, own = products.covariances(layer)
            scores.append(place(measure="rank", value=effective_rank(own)))
            scores.append(place(measure="variance", value=float(share)))
            if "cka" in measures and condition != CLEAN:
                scores.append(place(measure="cka", value=products.cka(layer)))
    for condition, products in sorted(similarity.agreement.items()):
        layers = len(similarity.energy[condition].varying_share())
        scores += [
            Score(
                measure="agreement",
                condition=condition,
                layer=layer + 1,
                value=products.cka(layer),
                count=products.count,
            )
            for layer in range(layers)
        ]
    return scores


def retrieval_scores(retrieval: Retrieval, conditions: Sequence[str]) -> list[Score]:
    """Retrieval@1 by condition and layer."""
    scores: list[Score] = []
    for condition in conditions:
        shares, count = retrieval.shares(condition)
        if count:
            scores += [
                Score(measure="retrieval", condition=condition, layer=layer + 1, value=float(share), count=count)
                for layer, share in enumerate(shares)
            ]
    return scores
