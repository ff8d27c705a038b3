"""Draws the steps of the family `room`: the room, the position in it, the channel of a recording; Freeverb's numbers.

Where noise may follow in the same room, a recorded room with a single response is not drawn.
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

    from corpus_builder.plan.materials.seeded_random import SeededRandom
    from corpus_builder.plan.materials.split_materials import AnyRoom
    from manifests.recipe.steps import FreeverbStep, Step


class SingleResponseError(StillroomError, ValueError):
    """A recipe puts noise in a recorded room, and every room of the bank has a single response."""

    def __init__(self, bank: str, *, split: str) -> None:
        super().__init__(
            f"rooms.{printable(bank)}: no room of split {split!r} has a second response for noise with in_room; leave in_room out, or "
            "name the field that says which responses are of one room (room:)"
        )


@dataclass(frozen=True)
class RoomPosition:
    """The room that the signal is in, and its position there."""

    bank: str
    room: AnyRoom
    position: int

    def other_response(self, random: SeededRandom, name: str) -> str:
        """The response of another position in the same room, for a noise.

        In a simulated room any other. In a recorded one another recording, by the same channel where it has that; if the room
        has only one recording, another channel of it.

        Args:
            random: The copy's generators.
            name: Of the noise step.
        """
        rng = random.rng(f"{name}.position")
        if isinstance(self.room, PlannedRoom):
            other = index_below(self.room.num_positions - 1, rng)
            return self.named(other + (other >= self.position))
        responses = self.room.responses
        own = responses[self.position]
        others = [at for at, response in enumerate(responses) if response.place != own.place]
        others = others or [at for at in range(len(responses)) if at != self.position]
        same_channel = [at for at in others if responses[at].file.channel == own.file.channel]
        others = same_channel or others
        return self.named(others[index_below(len(others), rng)])

    def named(self, position: int) -> str:
        """The name of a response of this room."""
        return response_name(self.bank, self.room.room, position)


def noise_may_follow(steps: Iterable[Step]) -> bool:
    """Whether one of the steps after a room may put noise in it; a further room ends it."""
    for step in steps:
        if isinstance(step, RoomStep):
            return False
        if isinstance(step, NoiseStep) and step.in_room:
            return True
        if isinstance(step, ChooseStep) and any(noise_may_follow(way) for way in step.choose):
            return True
    return False


def drawn_position(
    rooms: list[AnyRoom], bank: str, name: str, random: SeededRandom, *, several: bool, split: str
) -> RoomPosition:
    """A room of a bank, a position in it, and of a recording a channel.

    Args:
        rooms: Of the bank, for the split.
        bank: Its name.
        name: Of the step.
        random: The copy's generators.
        several: Whether a second response is needed.
        split: For a message.

    Raises:
        SingleResponseError: If a second response is needed and no room has one.
    """
    if several:
        rooms = [room for room in rooms if room.num_positions > 1]
        if not rooms:
            raise SingleResponseError(bank, split=split)
    room = rooms[index_below(len(rooms), random.rng(f"{name}.room"))]
    rng = random.rng(f"{name}.position")
    if isinstance(room, PlannedRoom):
        return RoomPosition(bank, room, index_below(room.num_positions, rng))
    places = sorted({response.place for response in room.responses})
    place = places[index_below(len(places), rng)]
    channels = [at for at, response in enumerate(room.responses) if response.place == place]
    return RoomPosition(bank, room, channels[index_below(len(channels), random.rng(f"{name}.channel"))])


def room_numbers(step: RoomStep, position: RoomPosition) -> dict[str, Any]:
    """A planned room step, as plain data."""
    planned: dict[str, Any] = {
        "kind": "room",
        "bank": position.bank,
        "room": position.room.room,
        "position": position.position,
        "response": position.named(position.position),
    }
    return planned if step.keep_rms is not False else planned | {"keep_rms": False}


def freeverb_numbers(step: FreeverbStep, name: str, random: SeededRandom) -> dict[str, Any]:
    """A planned Freeverb, as plain data."""
    planned: dict[str, Any] = {
        "kind": "freeverb",
        "reverberance": float(random.value(step.reverberance, f"{name}.reverberance")),
        "hf_damping": float(random.value(step.hf_damping, f"{name}.hf_damping")),
        "room_scale": float(random.value(step.room_scale, f"{name}.room_scale")),
        "pre_delay_ms": float(random.value(step.pre_delay_ms, f"{name}.pre_delay_ms")),
        "wet_gain_db": float(random.value(step.wet_gain_db, f"{name}.wet_gain_db")),
    }
    return planned if step.keep_rms is not False else planned | {"keep_rms": False}
