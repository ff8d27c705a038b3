"""The teacher's last layer on clean test speech, which a student's frames are compared with for agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from evaluation.features import features_of
from evaluation.measures.cka import MOST_FRAMES, evenly_spaced
from evaluation.measures.frame_cosine import FrameMoments
from manifests.corpus.sample import CLEAN
from manifests.errors import StillroomError
from training.data.audio import utterances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from evaluation.config import EvaluationConfig
    from evaluation.data.alignments import FrameClock
    from evaluation.data.utterances import EvaluationSet
    from manifests.results.scores import ModelFacts
    from training.models.encoder import Encoder


class OtherFrameRateError(StillroomError, ValueError):
    """A student whose frames have other times than its teacher's."""

    def __init__(self, student: str, teacher: str, *, clocks: tuple[FrameClock, FrameClock]) -> None:
        found = [f"of {clock.receptive} samples each {clock.hop}" for clock in clocks]
        super().__init__(
            f"measures: agreement compares frame by frame, but model {student!r} has frames {found[0]} and its teacher {teacher!r} "
            f"{found[1]}; leave agreement out of measures, or evaluate them one by one"
        )


def teacher_of(name: str, facts: Mapping[str, ModelFacts]) -> str | None:
    """Which model of the evaluation a student was distilled from, by the digest in its record; None if none."""
    digest = facts[name].details.get("teacher_sha256")
    return next((other for other, found in facts.items() if other != name and found.digest == digest), None)


def check_frames(student: str, clock: FrameClock, teacher: str, teacher_clock: FrameClock) -> None:
    """Check that frames of student and teacher have the same times.

    Raises:
        OtherFrameRateError: If they are not.
    """
    if (clock.hop, clock.receptive) != (teacher_clock.hop, teacher_clock.receptive):
        raise OtherFrameRateError(student, teacher, clocks=(clock, teacher_clock))


def teacher_frames(encoder: Encoder, *, dataset: EvaluationSet, config: EvaluationConfig) -> dict[str, Tensor]:
    """The teacher's last layer on clean test, centred and scaled on clean train, at the frames that `Similarity` uses.

    Returns:
        By sample key, shape (frame, feature), float32.
    """
    moments = FrameMoments()
    clean = utterances(config.corpus, dataset.splits.train, members=(CLEAN,), keys=dataset.reference)
    for utterance in features_of(encoder, clean):
        moments.add(utterance.frames[CLEAN][-1:])
    if moments.count == 0:
        return {}
    scaling = moments.scaling()
    each = max(1, MOST_FRAMES // max(1, len(dataset.test)))
    frames: dict[str, Tensor] = {}
    for utterance in features_of(
        encoder, utterances(config.corpus, dataset.splits.test, members=(CLEAN,), keys=set(dataset.test))
    ):
        last = utterance.frames[CLEAN][-1:]
        if last.shape[1]:
            chosen = torch.from_numpy(evenly_spaced(last.shape[1], each))
            frames[utterance.key] = scaling.scaled(last[:, chosen])[0].cpu()
    return frames
