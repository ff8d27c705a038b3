"""Whether a step keeps what was said, when, and how high: a student can be asked to hear the clean utterance in it.

Three kinds do not: a shifted pitch is another voice, one interfering talker says words that could be taken for the speaker's own,
and a lost packet takes words away. Everything else leaves the content in place, however badly it is heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from manifests.planned import (
    BabblePart,
    BabbleStep,
    ColouredNoiseStep,
    ColouredPart,
    PlannedCodecStep,
    PlannedFreeverbStep,
    PlannedRoomStep,
    RecordedNoiseStep,
    RecordedPart,
    SeveralNoisesStep,
)
from manifests.planned_channel import PlannedChannelStep, PlannedPitchStep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifests.planned import NoisePart, PlannedStep


def keeps_content(steps: Iterable[PlannedStep]) -> bool:
    """Whether every step of a copy keeps the content; true of none."""
    return all(step_keeps_content(step) for step in steps)


def step_keeps_content(step: PlannedStep) -> bool:
    """Whether one planned step keeps the content; each kind declares it here."""
    match step:
        case RecordedNoiseStep() | ColouredNoiseStep() | BabbleStep():
            return noise_keeps_content(step)
        case SeveralNoisesStep():
            return all(noise_keeps_content(noise) for noise in step.noises)
        case PlannedRoomStep() | PlannedFreeverbStep():
            return True
        case PlannedCodecStep():
            return step.loss is None
        case PlannedPitchStep():
            return False
        case PlannedChannelStep():
            return True
        case _:
            assert_never(step)


def noise_keeps_content(noise: NoisePart) -> bool:
    """Whether a noise keeps the content: all but one interfering talker."""
    match noise:
        case RecordedPart() | ColouredPart():
            return True
        case BabblePart():
            return len(noise.talkers) > 1
        case _:
            assert_never(noise)
