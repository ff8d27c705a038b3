"""The steps of the family `room`, drawn: which room, where in it, which channel of a recording; Freeverb's numbers.

A room step comes before noises that may stand in the same room, so a recorded room with a single place for them is not drawn there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus_builder.plan.materials.seeded_random import index_below
from manifests.errors import StillroomError, printable
from manifests.plan.rooms import PlannedRoom, response_name
from manifests.recipe.steps import ChooseStep, NoiseStep, RoomStep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corpus_builder.plan.materials.seeded_random import Chance
    from corpus_builder.plan.materials.split_materials import AnyRoom
    from manifests.recipe.steps import FreeverbStep, Step


class LonelyResponseError(StillroomError, ValueError):
    """Noise is to stand in a recorded room, and every room of the bank has a single response."""

    def __init__(self, bank: str, *, split: str) -> None:
        super().__init__(
            f"rooms.{printable(bank)}: no room of split {split!r} has a second response for noise with in_room; leave in_room out, or "
            "tell which responses are of one room (room:)"
        )


@dataclass(frozen=True)
class Standing:
    """Where the signal stands in the room that is in force."""

    bank: str
    room: AnyRoom
    position: int

    def other_response(self, chance: Chance, name: str) -> str:
        """The response of another position in the same room, for a noise.

        In a simulated room any other. In a recorded one another recording, heard by the same channel where it has that; if the room
        has but one recording, another channel of it.

        Args:
            chance: The copy's generators.
            name: Of the noise step.
        """
        dice = chance.dice(f"{name}.position")
        if isinstance(self.room, PlannedRoom):
            other = index_below(self.room.num_positions - 1, dice)
            return self.named(other + (other >= self.position))
        responses = self.room.responses
        own = responses[self.position]
        others = [at for at, response in enumerate(responses) if response.place != own.place]
        others = others or [at for at in range(len(responses)) if at != self.position]
        same_channel = [at for at in others if responses[at].file.channel == own.file.channel]
        others = same_channel or others
        return self.named(others[index_below(len(others), dice)])

    def named(self, position: int) -> str:
        """The name of a response of this room."""
        return response_name(self.bank, self.room.room, position)


def noise_may_follow(steps: Iterable[Step]) -> bool:
    """Whether some noise of what follows a room may stand in it; a further room ends it."""
    for step in steps:
        if isinstance(step, RoomStep):
            return False
        if isinstance(step, NoiseStep) and step.in_room:
            return True
        if isinstance(step, ChooseStep) and any(noise_may_follow(way) for way in step.choose):
            return True
    return False


def drawn_standing(
    rooms: list[AnyRoom], bank: str, name: str, chance: Chance, *, several: bool, split: str
) -> Standing:
    """A room of a bank, a position in it, and of a recording a channel.

    Args:
        rooms: Of the bank, for the split.
        bank: Its name.
        name: Of the step.
        chance: The copy's generators.
        several: Whether a second response is needed.
        split: For a message.

    Raises:
        LonelyResponseError: If a second response is needed and no room has one.
    """
    if several:
        rooms = [room for room in rooms if room.num_positions > 1]
        if not rooms:
            raise LonelyResponseError(bank, split=split)
    room = rooms[index_below(len(rooms), chance.dice(f"{name}.room"))]
    dice = chance.dice(f"{name}.position")
    if isinstance(room, PlannedRoom):
        return Standing(bank, room, index_below(room.num_positions, dice))
    places = sorted({response.place for response in room.responses})
    place = places[index_below(len(places), dice)]
    channels = [at for at, response in enumerate(room.responses) if response.place == place]
    return Standing(bank, room, channels[index_below(len(channels), chance.dice(f"{name}.channel"))])


def room_numbers(step: RoomStep, standing: Standing) -> dict[str, Any]:
    """A planned room step, as plain data."""
    planned: dict[str, Any] = {
        "kind": "room",
        "bank": standing.bank,
        "room": standing.room.room,
        "position": standing.position,
        "response": standing.named(standing.position),
    }
    return planned if step.keep_rms is not False else planned | {"keep_rms": False}


def freeverb_numbers(step: FreeverbStep, name: str, chance: Chance) -> dict[str, Any]:
    """A planned Freeverb, as plain data."""
    planned: dict[str, Any] = {
        "kind": "freeverb",
        "reverberance": float(chance.value(step.reverberance, f"{name}.reverberance")),
        "hf_damping": float(chance.value(step.hf_damping, f"{name}.hf_damping")),
        "room_scale": float(chance.value(step.room_scale, f"{name}.room_scale")),
        "pre_delay_ms": float(chance.value(step.pre_delay_ms, f"{name}.pre_delay_ms")),
        "wet_gain_db": float(chance.value(step.wet_gain_db, f"{name}.wet_gain_db")),
    }
    return planned if step.keep_rms is not False else planned | {"keep_rms": False}
