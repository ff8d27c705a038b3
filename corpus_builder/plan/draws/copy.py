"""Draws the steps of one copy: from a recipe's ranges to numbers.

Every draw has its own generator, named after split, utterance, copy and step ("0.snr_db"), so no draw moves another. Rows are
plain data, in the very form that `manifests.plan.plan` reads back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from corpus_builder.plan.draws.channel import drawn_channel_step
from corpus_builder.plan.draws.codec import drawn_codec_step
from corpus_builder.plan.draws.noise import NoiseDrawer
from corpus_builder.plan.draws.room import drawn_position, freeverb_numbers, noise_may_follow, room_numbers
from corpus_builder.plan.materials.seeded_random import SeededRandom, index_below, weighted_index
from manifests.recipe.channel_steps import ChannelStep
from manifests.recipe.steps import ChooseStep, CodecStep, Condition, FreeverbStep, NoiseStep, RoomStep, Step

if TYPE_CHECKING:
    from corpus_builder.plan.draws.room import RoomPosition
    from corpus_builder.plan.materials.split_materials import Materials


def planned_copy(
    materials: Materials,
    condition: Condition,
    *,
    name: str,
    number: int,
    utterance: str,
    index: int,
    num_samples: int,
) -> dict[str, Any]:
    """One planned copy, as plain data.

    Args:
        materials: What the split may draw from.
        condition: As the recipe has it.
        name: Of the condition.
        number: Which copy of the condition, from 0.
        utterance: Its id.
        index: Its index in the utterance store.
        num_samples: Its length at the corpus rate.
    """
    label = f"{name}-{number}"
    random = SeededRandom(materials.seed, materials.split, utterance, label)
    drawer = StepDrawer(materials, random, index, num_samples)
    for at, step in enumerate(condition.steps):
        drawer.draw(step, f"{at}", condition.steps[at + 1 :])
    return {
        "name": label,
        "condition": name,
        "steps": drawer.steps,
        "level": random.value(condition.level, "level"),
    }


class StepDrawer:
    """Draws the steps of one copy one after another, and remembers the room that the signal is in.

    Args:
        materials: What may be drawn from.
        random: The copy's generators.
        index: The utterance's index in the utterance store.
        num_samples: Its length at the corpus rate.
    """

    def __init__(self, materials: Materials, random: SeededRandom, index: int, num_samples: int) -> None:
        self.materials, self.random, self.index, self.num_samples = materials, random, index, num_samples
        self.steps: list[dict[str, Any]] = []
        self.position: RoomPosition | None = None

    def draw(self, step: Step, name: str, following: tuple[Step, ...] = ()) -> None:
        """Draw one step of the recipe, given what follows it; `choose` may give several, or none."""
        match step:
            case NoiseStep():
                drawer = NoiseDrawer(self.materials, self.random, self.index, self.num_samples, self.position)
                self.steps.append(drawer.step(step, name))
            case RoomStep():
                rooms, split = self.materials.rooms[step.bank], self.materials.split
                several = noise_may_follow(following)
                self.position = drawn_position(rooms, step.bank, name, self.random, several=several, split=split)
                self.steps.append(room_numbers(step, self.position))
            case FreeverbStep():
                self.steps.append(freeverb_numbers(step, name, self.random))
            case CodecStep():
                size = {"num_samples": self.num_samples, "rate_hz": self.materials.rate_hz}
                self.steps.append(drawn_codec_step(step, name, self.random, **size))
            case ChannelStep():
                rate_hz = self.materials.rate_hz
                if (planned := drawn_channel_step(step, name, self.random, rate_hz=rate_hz)) is not None:
                    self.steps.append(planned)
            case ChooseStep():
                rng = self.random.rng(f"{name}.choose")
                way = index_below(len(step.choose), rng) if step.weights is None else weighted_index(step.weights, rng)
                for at, inner in enumerate(step.choose[way]):
                    self.draw(inner, f"{name}.{way}.{at}", (*step.choose[way][at + 1 :], *following))
            case _:
                assert_never(step)
