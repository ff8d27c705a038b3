"""One model measured: it hears what is needed, the probes are trained and tested, and the numbers are a cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from evaluation.hearing import hear
from evaluation.leakage import leakage_scores
from evaluation.probes import probe_task
from manifests.scores import Cell, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.config import EvaluationConfig
    from evaluation.hearing import Hearing
    from evaluation.invariance import FrameCosine, Mean
    from evaluation.labels import LabelledTask
    from evaluation.roster import Roster
    from manifests.scores import ModelFacts
    from training.encoder import Encoder


def measure(
    name: str,
    encoder: Encoder,
    facts: ModelFacts,
    *,
    roster: Roster,
    hearing: Hearing,
    tasks: Sequence[LabelledTask],
    config: EvaluationConfig,
    protocol_sha256: str,
) -> Cell:
    """Measure one model.

    Raises:
        TooShortError: If no utterance of a split is long enough for it.
    """
    start_s = time.monotonic()
    tables, audio_s = hear(encoder, roster=roster, hearing=hearing, config=config, name=name)
    heard_s = time.monotonic()
    scores: list[Score] = []
    notes = [*hearing.notes]
    chosen: dict[str, tuple[float, ...]] = {}
    if tables.too_short:
        notes.append(f"{tables.too_short} utterances shorter than one frame are left out")
    for task in tasks:
        found = probe_task(
            task,
            train=tables.last["train"],
            dev=tables.last["dev"] if roster.dev else None,
            test=tables.last["test"],
            seed=config.seed,
            probes=config.probes,
        )
        scores += found.scores
        notes += [*task.notes, *found.notes]
        chosen[task.name] = found.chosen
    if tables.cosine is not None:
        scores += cosine_scores(tables.cosine)
    if "leakage" in config.measures:
        scores += leakage_scores(tables.deep[hearing.leakage_role], tables.deep["test"])
    return Cell.model_validate(
        {
            "schema": Cell.SCHEMA,
            "model": name,
            "protocol_sha256": protocol_sha256,
            "data_sha256": roster.data_sha256,
            "facts": facts,
            "scores": tuple(scores),
            "notes": tuple(notes),
            "chosen": chosen,
            "cost": {
                "audio_s": round(audio_s, 1),
                "hearing_s": round(heard_s - start_s, 1),
                "probing_s": round(time.monotonic() - heard_s, 1),
            },
        }
    )


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
