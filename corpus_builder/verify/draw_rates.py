"""Whether what was drawn came out as often as the recipe says: within four standard errors, by counting."""

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


def told(steps: Sequence[PlannedStep]) -> str:
    """What was drawn for one copy, without its numbers: `room home > noise music`."""
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
            return f"codec {step.codec}"  # with or without packets lost, as chance had it
        case PlannedFreeverbStep() | PlannedChannelStep():
            return step.kind


def expected(steps: Sequence[Step]) -> dict[str, float] | None:
    """What a chain may come out as, and how often; None where the recipe alone does not say.

    It does not where noises are drawn by file or by duration or their number is drawn, where packets may be lost or not, and where
    a rate to resample through may be the corpus's own.
    """
    paths: dict[Path, float] = {(): 1.0}
    for step in steps:
        ways = step_paths(step)
        if ways is None or len(paths) * len(ways) > MOST_PATHS:
            return None
        grown: dict[Path, float] = {}
        for before, chance in paths.items():
            for after, share in ways.items():
                grown[before + after] = grown.get(before + after, 0.0) + chance * share
        paths = grown
    return {" > ".join(path): chance for path, chance in paths.items()}


def step_paths(step: Step) -> dict[Path, float] | None:  # noqa: PLR0911 (one a kind)
    """What one step may come out as, and how often."""
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
            for way, chance in zip(step.choose, step.chances, strict=True):
                inner = expected(way)
                if inner is None:
                    return None
                for path, share in inner.items():
                    key = tuple(path.split(" > ")) if path else ()
                    paths[key] = paths.get(key, 0.0) + chance * share
            return paths
        case FreeverbStep():
            return {("freeverb",): 1.0}
        case _:
            nothing = probability_of_no_step(step)
            none: dict[Path, float] = {(): nothing} if nothing else {}
            return None if nothing is None else {(step.kind,): 1.0 - nothing} | none


def rate_findings(recipe: Recipe, drawn: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    """Where and what came out too often or too seldom.

    Args:
        recipe: What was asked for.
        drawn: For each condition, how often each chain came out.
    """
    for condition, counts in sorted(drawn.items()):
        wanted = expected(recipe.conditions[condition].steps) if condition in recipe.conditions else None
        if wanted is None:
            continue
        total = sum(counts.values())
        for path in sorted(set(wanted) | set(counts)):
            chance, found = wanted.get(path, 0.0), counts.get(path, 0)
            allowed = STANDARD_ERRORS * math.sqrt(total * chance * (1 - chance)) + (1e-9 if chance else 0)
            if abs(found - total * chance) > max(allowed, 1.0 if chance else 0.0):
                shown = path or "no step"
                yield (
                    f"condition {condition}",
                    f"{shown} came {found} times in {total} copies; the recipe asks for {total * chance:.1f} ± {allowed:.1f}",
                )
