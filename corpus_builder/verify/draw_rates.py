"""Checks by counting that each thing was drawn as often as the recipe says, within four standard errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from manifests.plan.channel_steps import PlannedChannelStep
from manifests.plan.steps import (
    BabbleStep,
    ColouredNoiseStep,
    PlannedCodecStep,
    PlannedFreeverbStep,
    PlannedRoomStep,
    RecordedNoiseStep,
    SeveralNoisesStep,
)
from manifests.recipe.channel_steps import probability_of_no_step
from manifests.recipe.steps import ChooseStep, CodecStep, FreeverbStep, NoiseStep, RoomStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manifests.plan.steps import PlannedStep
    from manifests.recipe.recipe import Recipe
    from manifests.recipe.steps import Step

Path: TypeAlias = tuple[str, ...]

MOST_PATHS = 4096
STANDARD_ERRORS = 4.0


def chain_of(steps: Sequence[PlannedStep]) -> str:
    """The steps that were drawn for one copy, without their numbers: `room home > noise music`."""
    return " > ".join(planned_token(step) for step in steps)


def planned_token(step: PlannedStep) -> str:
    """One planned step without its numbers."""
    match step:
        case RecordedNoiseStep() | ColouredNoiseStep() | BabbleStep():
            return f"noise {step.source}"
        case SeveralNoisesStep():
            return "noises"
        case PlannedRoomStep():
            return f"room {step.bank}"
        case PlannedCodecStep():
            return f"codec {step.codec}"  # with or without lost packets, which is a draw
        case PlannedFreeverbStep() | PlannedChannelStep():
            return step.kind


def expected(steps: Sequence[Step]) -> dict[str, float] | None:
    """Probability of each chain that may be drawn; None where the recipe alone does not determine it.

    It does not where noises are drawn by file or by duration or their number is drawn, where packets may be lost or not, and where
    a rate to resample through may be the corpus's own.
    """
    paths: dict[Path, float] = {(): 1.0}
    for step in steps:
        ways = step_paths(step)
        if ways is None or len(paths) * len(ways) > MOST_PATHS:
            return None
        grown: dict[Path, float] = {}
        for before, probability in paths.items():
            for after, share in ways.items():
                grown[before + after] = grown.get(before + after, 0.0) + probability * share
        paths = grown
    return {" > ".join(path): probability for path, probability in paths.items()}


def step_paths(step: Step) -> dict[Path, float] | None:  # noqa: PLR0911 (one a kind)
    """Probability of each chain that one step may add."""
    match step:
        case NoiseStep():
            names = list(step.from_)
            weights = step.weights or (1.0,) * len(names)
            if step.count is not None or (
                step.draw in ("file", "duration") and step.weights is None and len(names) > 1
            ):
                return None
            return {(f"noise {name}",): weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
        case RoomStep():
            return {(f"room {step.bank}",): 1.0}
        case CodecStep():
            found: dict[Path, float] = {}
            for codec in step.codec.values:
                found[f"codec {codec}",] = found.get((f"codec {codec}",), 0.0) + 1 / len(step.codec.values)
            return found
        case ChooseStep():
            paths: dict[Path, float] = {}
            for way, probability in zip(step.choose, step.chances, strict=True):
                inner = expected(way)
                if inner is None:
                    return None
                for path, share in inner.items():
                    key = tuple(path.split(" > ")) if path else ()
                    paths[key] = paths.get(key, 0.0) + probability * share
            return paths
        case FreeverbStep():
            return {("freeverb",): 1.0}
        case _:
            nothing = probability_of_no_step(step)
            none: dict[Path, float] = {(): nothing} if nothing else {}
            return None if nothing is None else {(step.kind,): 1.0 - nothing} | none


def rate_findings(recipe: Recipe, drawn: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    """Condition and description of each chain that was drawn too often or too seldom.

    Args:
        recipe: Of the corpus.
        drawn: For each condition, how often each chain was drawn.
    """
    for condition, counts in sorted(drawn.items()):
        wanted = expected(recipe.conditions[condition].steps) if condition in recipe.conditions else None
        if wanted is None:
            continue
        total = sum(counts.values())
        for path in sorted(set(wanted) | set(counts)):
            probability, found = wanted.get(path, 0.0), counts.get(path, 0)
            allowed = STANDARD_ERRORS * math.sqrt(total * probability * (1 - probability)) + (
                1e-9 if probability else 0
            )
            if abs(found - total * probability) > max(allowed, 1.0 if probability else 0.0):
                yield (
                    f"condition {condition}",
                    f"{path or 'no step'} was drawn {found} times in {total} copies, by the recipe {total * probability:.1f} ± {allowed:.1f}",
                )
