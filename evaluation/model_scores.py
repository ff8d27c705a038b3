"""Measures one model: its features are extracted, probes are trained and tested, and the scores become one document."""

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
from evaluation.extraction import extract
from evaluation.features import is_one_state
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

    from evaluation.exposure.test_copies import CopyKey
    from evaluation.extraction import EvaluationSetup, ModelFeatures, PreparedTask
    from evaluation.measures.cka import Similarity
    from evaluation.measures.frame_cosine import FrameCosine, Mean
    from evaluation.measures.retrieval import Retrieval
    from evaluation.models import EvaluatedModel
    from evaluation.tasks.frame_probes import FrameProbes
    from evaluation.tasks.verification import VerificationScores
    from manifests.results.scores import Outcomes
    from manifests.results.training_exposure import TrainedOn


SCRATCH = ".frames-"
SIMILARITY_DECIMALS = 8  # single-precision similarities near 1 differ by 6e-8 at least


@dataclass
class Findings:
    """Scores of one model and what belongs to them, as they are measured."""

    scores: list[Score] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chosen: dict[str, tuple[float, ...]] = field(default_factory=dict)
    chosen_is: dict[str, Literal["C", "learning rate"]] = field(default_factory=dict)
    outcomes: list[Outcomes] = field(default_factory=list)
    trials: list[Trials] = field(default_factory=list)


def measure(model: EvaluatedModel, setup: EvaluationSetup) -> ModelScores:
    """Measure one model.

    Raises:
        TooShortError: If no utterance of a split is long enough for it.
    """
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=setup.scratch) as scratch:
        features, audio_s = extract(model, setup, scratch=Path(scratch))
        extracted_s = time.monotonic()
        abx_scores = [] if features.abx is None else features.abx.scores()
    found = Findings(notes=[*model.notes, *setup.plan.notes])
    if features.too_short:
        found.notes.append(f"{features.too_short} utterances shorter than one frame are left out")
    for task in setup.tasks:
        found.notes += task.notes
        match task:
            case LabelledTask():
                add_classification(found, task, features, setup)
            case VerificationTask():
                add_verification(found, task, features, setup)
            case TextTask() | AlignedTask():
                [probes] = [probes for probes in features.frame_probes if probes.task is task]
                add_framewise(found, probes, setup)
            case _:
                assert_never(task)
    add_frame_measures(found, features, setup)
    found.scores += abx_scores
    if "leakage" in setup.config.measures:
        add_leakage(found, features, setup)
    probed_s = time.monotonic()
    return ModelScores.model_validate(
        {
            "schema": ModelScores.SCHEMA,
            "model": model.name,
            "protocol_sha256": setup.protocol_sha256,
            "data_sha256": setup.dataset.data_sha256,
            "facts": model.facts,
            "scores": tuple(found.scores),
            "notes": tuple(dict.fromkeys(found.notes)),
            "chosen": found.chosen,
            "chosen_is": found.chosen_is,
            "cost": {
                "audio_s": round(audio_s, 1),
                "hearing_s": round(extracted_s - start_s, 1),
                "probing_s": round(probed_s - extracted_s, 1),
            },
            "outcomes": tuple(found.outcomes),
            "trials": tuple(found.trials),
            "seen": setup.copies.letters(model.trained),
            "seen_by_teacher": setup.copies.letters(model.teacher_trained),
            "trained": trained_summary(model.trained),
            "efficiency": measured_efficiency(model.encoder) if setup.config.efficiency else None,
        }
    )


def trained_summary(trained: TrainedOn | None) -> dict[str, object] | None:
    """The distortions that a model was trained on, recordings as a number."""
    if trained is None:
        return None
    return {
        kind: {
            "count": facts.count,
            "sources": list(facts.sources),
            "recordings": len(facts.recordings),
            "ranges": {name: list(span) for name, span in facts.ranges.items()},
        }
        for kind, facts in trained.kinds.items()
    }


def training_members(task: PreparedTask, setup: EvaluationSetup) -> dict[str, str] | None:
    """Which copy of each training utterance a task's probes are trained on; None for clean."""
    return {key: setup.plan.chosen[key] for key in task.keys("train")} if task.probe == "distorted" else None


def add_classification(found: Findings, task: LabelledTask, features: ModelFeatures, setup: EvaluationSetup) -> None:
    """Add the accuracy of a classification task."""
    config = setup.config
    probed = probe_task(
        task,
        train=features.pooled[task.features, "train"],
        dev=features.pooled[task.features, "dev"] if setup.dataset.dev else None,
        test=features.pooled[task.features, "test"],
        seed=config.seed,
        probes=config.probes,
        members=training_members(task, setup),
    )
    found.scores += probed.scores
    found.notes += probed.notes
    found.chosen[task.name] = probed.chosen
    found.chosen_is[task.name] = "C" if is_one_state(task.features) else "learning rate"
    found.outcomes += [
        outcomes_of(outcomes, setup.copies.numbers, task=task.name, measure="accuracy", probe=probe)
        for probe, outcomes in enumerate(probed.outcomes)
    ]


def add_verification(found: Findings, task: VerificationTask, features: ModelFeatures, setup: EvaluationSetup) -> None:
    """Add the EER of a verification task."""
    config = setup.config
    verified = verify_task(
        task,
        train=features.pooled[task.features, "train"],
        dev=features.pooled[task.features, "dev"] if task.dev else None,
        test=features.pooled[task.features, "test"],
        seed=config.seed,
        probes=config.probes,
        members=training_members(task, setup),
    )
    found.scores += verified.scores
    found.chosen[task.name] = verified.chosen
    found.chosen_is[task.name] = "learning rate"
    found.trials.append(trials_record(verified, setup.copies.numbers, task=task.name))


def trials_record(verified: VerificationScores, numbers: Mapping[CopyKey, int], *, task: str) -> Trials:
    """Trials as they are written: copies by number, similarities unrounded, as their order decides the EER."""
    trials = verified.trials[0]
    return Trials(
        task=task,
        copies=joined(float(numbers[tested]) for tested, *_ in trials),
        enrolled=joined(float(numbers[enrolled]) for _, enrolled, *_ in trials),
        same="".join(str(int(same)) for *_, same, _ in trials),
        scores=tuple(
            joined((similarity for *_, similarity in probe), decimals=SIMILARITY_DECIMALS) for probe in verified.trials
        ),
    )


def add_framewise(found: Findings, probes: FrameProbes, setup: EvaluationSetup) -> None:
    """Add error rates of CTC, or the accuracy of frames.

    Raises:
        TooFewFramesError: If there was nothing to test on.
    """
    task = probes.task
    if not any(total for outcomes in probes.outcomes.values() for _, total in outcomes.values()):
        raise TooFewFramesError(task.name, "no frame with something to predict is left to test on")
    for (measure, probe), outcomes in sorted(probes.outcomes.items()):
        found.scores += condition_scores(outcomes, task=task.name, measure=measure, probe=probe)
        found.outcomes.append(outcomes_of(outcomes, setup.copies.numbers, task=task.name, measure=measure, probe=probe))
    found.chosen[task.name] = (probes.learning_rate,) * len(probes.probes)
    found.chosen_is[task.name] = "learning rate"


def add_frame_measures(found: Findings, features: ModelFeatures, setup: EvaluationSetup) -> None:
    """Add the measures between clean and distorted frames."""
    if features.cosine is not None:
        found.scores += cosine_scores(features.cosine)
    if features.similarity is not None:
        found.scores += similarity_scores(features.similarity, measures=setup.config.measures)
    if features.retrieval is not None:
        found.scores += retrieval_scores(features.retrieval, setup.dataset.conditions)
        smallest = min(features.retrieval.plan.sizes)
        if smallest < POOL:
            found.notes.append(f"retrieval is among {smallest} frames: no speaker has more")
    if features.units is not None:
        found.scores += features.units.scores()
    for measure in (features.abx, features.units):
        found.notes += [] if measure is None else measure.notes


def add_leakage(found: Findings, features: ModelFeatures, setup: EvaluationSetup) -> None:
    """Add the accuracy of the domain probes, on speakers and noises that they were not trained on."""
    role = setup.plan.leakage_role
    speakers = {key: entry.sample.speaker for one in (role, "test") for key, entry in setup.dataset.of(one).items()}
    train, test, notes = held_out(
        features.pooled_layers[role],
        features.pooled_layers["test"],
        speakers=speakers,
        recordings=setup.recordings,
        seed=setup.config.seed,
    )
    found.scores += leakage_scores(train, test)
    found.notes += notes


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
