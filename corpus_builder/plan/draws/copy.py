"""The steps of one copy, drawn: a recipe's ranges in, numbers out. All chance of an utterance lies here.

Every draw has its own generator, named after split, utterance, copy and step ("0.snr_db"), so no draw moves another. Rows are
plain data, in the very form that `manifests.plan.plan` reads back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from corpus_builder.plan.draws.channel import drawn_channel_step
from corpus_builder.plan.draws.codec import drawn_codec_step
from corpus_builder.plan.draws.noise import NoiseDrawer
from corpus_builder.plan.draws.room import drawn_standing, freeverb_numbers, noise_may_follow, room_numbers
from corpus_builder.plan.materials.seeded_random import Chance, index_below, weighted_index
from manifests.recipe.channel_steps import ChannelStep
from manifests.recipe.steps import ChooseStep, CodecStep, Condition, FreeverbStep, NoiseStep, RoomStep, Step

if TYPE_CHECKING:
    from corpus_builder.plan.draws.room import Standing
    from corpus_builder.plan.materials.split_materials import Materials


def planned_copy(
    materials: Materials,
    condition: Condition,
    *,
    name: str,
    number: int,
    utterance: str,
    place: int,
    num_samples: int,
) -> dict[str, Any]:
    """One planned copy, as plain data.

    Args:
        materials: What the split may draw from.
        condition: As the recipe has it.
        name: Of the condition.
        number: Which copy of the condition, from 0.
        utterance: Its id.
        place: Its place in the spool.
        num_samples: Its length at the corpus rate.
    """
    label = f"{name}-{number}"
    chance = Chance(materials.seed, materials.split, utterance, label)
    drawer = StepDrawer(materials, chance, place, num_samples)
    for at, step in enumerate(condition.steps):
        drawer.draw(step, f"{at}", condition.steps[at + 1 :])
    return {
        "name": label,
        "condition": name,
        "steps": drawer.steps,
        "level": chance.value(condition.level, "level"),
    }


class StepDrawer:
    """Draws the steps of one copy one after another, minding which room is in force.

    Args:
        materials: What may be drawn from.
        chance: The copy's generators.
        place: The utterance's place in the spool.
        num_samples: Its length at the corpus rate.
    """

    def __init__(self, materials: Materials, chance: Chance, place: int, num_samples: int) -> None:
        self.materials, self.chance, self.place, self.num_samples = materials, chance, place, num_samples
        self.steps: list[dict[str, Any]] = []
        self.standing: Standing | None = None

    def draw(self, step: Step, name: str, following: tuple[Step, ...] = ()) -> None:
        """Draw one step of the recipe, minding what follows it; `choose` may give several, or none."""
        match step:
            case NoiseStep():
                drawer = NoiseDrawer(self.materials, self.chance, self.place, self.num_samples, self.standing)
                self.steps.append(drawer.step(step, name))
            case RoomStep():
                rooms, split = self.materials.rooms[step.bank], self.materials.split
                several = noise_may_follow(following)
                self.standing = drawn_standing(rooms, step.bank, name, self.chance, several=several, split=split)
                self.steps.append(room_numbers(step, self.standing))
            case FreeverbStep():
                self.steps.append(freeverb_numbers(step, name, self.chance))
            case CodecStep():
                size = {"num_samples": self.num_samples, "rate_hz": self.materials.rate_hz}
                self.steps.append(drawn_codec_step(step, name, self.chance, **size))
            case ChannelStep():
                rate_hz = self.materials.rate_hz
                if (planned := drawn_channel_step(step, name, self.chance, rate_hz=rate_hz)) is not None:
                    self.steps.append(planned)
            case ChooseStep():
                dice = self.chance.dice(f"{name}.choose")
                way = (
                    index_below(len(step.choose), dice) if step.weights is None else weighted_index(step.weights, dice)
                )
                for at, inner in enumerate(step.choose[way]):
                    self.draw(inner, f"{name}.{way}.{at}", (*step.choose[way][at + 1 :], *following))
            case _:
                assert_never(step)
