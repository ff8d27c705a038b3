"""Room banks as they are planned: which split may use which room, its geometry drawn, its absorption calibrated."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.plan.materials.seeded_random import dice_for, drawn_number, index_below
from corpus_builder.plan.materials.split_assignment import dealt
from corpus_builder.workers.pool import mapped
from manifests.io.digest import digest
from manifests.io.progress import Progress
from manifests.plan.rooms import PlannedRays, PlannedRoom
from manifests.recipe.distributions import Draw
from manifests.recipe.rooms import RoomBank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.rooms.calibration import DrawnRoom
    from corpus_builder.workers.resume_cache import PartialResults
    from manifests.recipe.recipe import Recipe

MOST_GEOMETRIES = 50
NUM_RAYS = 8_000
RECEIVER_M = 0.3  # no larger than what is kept from the walls, so that no part of the sphere lies outside
SCATTERING = 0.1


@dataclass(frozen=True)
class RoomTask:
    """One room to be drawn and calibrated."""

    seed: int
    rate_hz: int
    bank: str
    wanted: RoomBank
    room: int
    splits: tuple[str, ...]

    @property
    def key(self) -> str:
        """What an interrupted run knows it by."""
        wanted = self.wanted.model_dump(mode="json", exclude_none=True)
        return digest([self.seed, self.rate_hz, self.bank, wanted, self.room, self.splits])


def drawn_room(task: RoomTask, attempt: int) -> DrawnRoom:
    """The room of one attempt; a geometry that cannot hold its distances is drawn anew.

    Raises:
        RoomTooSmallError: If none of 50 geometries can.
    """
    from corpus_builder.rooms.calibration import Wanted, draw_room
    from corpus_builder.rooms.placement import Heights, RoomTooSmallError

    asked = task.wanted
    for geometry in range(MOST_GEOMETRIES):

        def value(what: str, draw: Draw, geometry: int = geometry) -> float:
            dice = dice_for(task.seed, "rooms", f"{task.bank}-{task.room}", str(attempt), f"{geometry}.{what}")
            return drawn_number(draw, dice)

        smallest, largest = task.wanted.size_m
        sides = [
            value(f"size_m.{axis}", Draw.model_validate({"uniform": [low, high]}))
            for axis, (low, high) in enumerate(zip(smallest, largest, strict=True))
        ]
        size_m = (sides[0], sides[1], sides[2])
        distances_m = [value(f"distance_m.{at}", task.wanted.distance_m) for at in range(task.wanted.positions)]
        microphone, source = asked.microphone_height_m, asked.source_height_m
        heights = Heights(
            None if microphone is None else value("microphone_height_m", microphone),
            () if source is None else tuple(value(f"source_height_m.{at}", source) for at in range(asked.positions)),
        )
        dice = dice_for(task.seed, "rooms", f"{task.bank}-{task.room}", str(attempt), f"{geometry}.place")
        rays = None
        if asked.method == "hybrid":
            chance = dice_for(task.seed, "rooms", f"{task.bank}-{task.room}", str(attempt), f"{geometry}.rays")
            seed = index_below(2**32, chance)
            rays = PlannedRays(count=NUM_RAYS, radius_m=RECEIVER_M, scattering=SCATTERING, seed=seed)
        wanted = Wanted(size_m, value("rt60_s", asked.rt60_s), distances_m, heights, rays)
        try:
            return draw_room(dice, wanted, rate_hz=task.rate_hz)
        except RoomTooSmallError:
            if geometry == MOST_GEOMETRIES - 1:
                raise
    raise AssertionError("the last geometry returns or raises")


def planned_room(task: RoomTask) -> PlannedRoom:
    """Draw and calibrate one room; runs in a worker, about 0.3 s."""
    from corpus_builder.rooms.calibration import plan_room

    return plan_room(
        lambda attempt: drawn_room(task, attempt),
        bank=task.bank,
        room=task.room,
        splits=task.splits,
        rate_hz=task.rate_hz,
    )


def room_tasks(recipe: Recipe) -> Iterator[RoomTask]:
    """Every room of every simulated bank, dealt to the splits.

    Raises:
        TooFewToDealError: If a bank has fewer rooms than there are splits.
    """
    splits = tuple(recipe.speech)
    for bank, wanted in recipe.rooms.items():
        if not isinstance(wanted, RoomBank):
            continue
        numbers = [str(room) for room in range(wanted.rooms)]
        owner = dealt(numbers, splits, seed=recipe.seed, deck=bank, what="rooms") if wanted.split == "own" else {}
        for number in numbers:
            allowed = (owner[number],) if owner else splits
            yield RoomTask(recipe.seed, recipe.sample_rate, bank, wanted, int(number), allowed)


def plan_rooms(recipe: Recipe, *, done: PartialResults, workers: int, progress: bool = True) -> list[PlannedRoom]:
    """Every simulated room of a recipe, by bank and number.

    Args:
        recipe: What is wanted.
        done: Rooms that an interrupted run has calibrated.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        RoomTooSmallError: If a bank's rooms cannot hold its distances.
        RoomMissedError: If a room cannot be brought to its reverberation time.
    """
    tasks = list(room_tasks(recipe))
    planned = {
        task.key: PlannedRoom.parse(done.known[task.key], where=done.path) for task in tasks if task.key in done.known
    }
    missing = [task for task in tasks if task.key not in planned]
    with contextlib.ExitStack() as stack:
        shown = None
        if progress and missing:
            shown = stack.enter_context(Progress("rooms", total=len(tasks), unit="rooms", done=len(planned)))
        rooms = mapped(planned_room, missing, workers=min(workers, len(missing)), what="calibrating rooms")
        for task, room in zip(missing, rooms, strict=True):
            planned[task.key] = room
            done.add(task.key, room.model_dump(mode="json"))
            if shown is not None:
                shown.advance()
    return sorted(planned.values(), key=lambda room: (room.bank, room.room))
