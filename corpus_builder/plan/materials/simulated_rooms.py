"""Room banks as they are planned: which split may use which room, its geometry drawn, its absorption calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.plan.materials.seeded_random import drawn_number, index_below, rng_for
from corpus_builder.plan.materials.split_assignment import assigned
from corpus_builder.workers.resume_cache import PartialResults, resumed
from manifests.io.digest import digest
from manifests.plan.rooms import PlannedRays, PlannedRoom
from manifests.recipe.distributions import Draw
from manifests.recipe.rooms import RoomBank

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from corpus_builder.rooms.calibration import DrawnRoom, WantedRoom
    from manifests.recipe.recipe import Recipe

MOST_GEOMETRIES = 50
NUM_RAYS = 8_000
RECEIVER_M = 0.3  # no larger than the gap to the walls, so that no part of the sphere is outside
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
        """Its name in the cache."""
        wanted = self.wanted.model_dump(mode="json", exclude_none=True)
        return digest([self.seed, self.rate_hz, self.bank, wanted, self.room, self.splits])

    def rng(self, attempt: int, draw: str) -> np.random.Generator:
        """The random generator of one draw of one attempt."""
        return rng_for(self.seed, "rooms", f"{self.bank}-{self.room}", str(attempt), draw)


def drawn_room(task: RoomTask, attempt: int) -> DrawnRoom:
    """The room of one attempt; a geometry that cannot hold its distances is drawn again.

    Raises:
        RoomTooSmallError: If none of 50 geometries can.
    """
    from corpus_builder.rooms.calibration import draw_room
    from corpus_builder.rooms.placement import RoomTooSmallError

    for geometry in range(MOST_GEOMETRIES):
        wanted = wanted_room(task, attempt, geometry)
        try:
            return draw_room(task.rng(attempt, f"{geometry}.place"), wanted, rate_hz=task.rate_hz)
        except RoomTooSmallError:
            if geometry == MOST_GEOMETRIES - 1:
                raise
    raise AssertionError("the last geometry returns or raises")


def wanted_room(task: RoomTask, attempt: int, geometry: int) -> WantedRoom:
    """Everything that is drawn of a room before its positions: size, reverberation time, distances, heights, rays."""
    from corpus_builder.rooms.calibration import WantedRoom
    from corpus_builder.rooms.placement import Heights

    bank = task.wanted

    def value(what: str, draw: Draw) -> float:
        return drawn_number(draw, task.rng(attempt, f"{geometry}.{what}"))

    smallest, largest = bank.size_m
    sides = [
        value(f"size_m.{axis}", Draw.model_validate({"uniform": [low, high]}))
        for axis, (low, high) in enumerate(zip(smallest, largest, strict=True))
    ]
    distances_m = [value(f"distance_m.{at}", bank.distance_m) for at in range(bank.positions)]
    microphone, source = bank.microphone_height_m, bank.source_height_m
    heights = Heights(
        None if microphone is None else value("microphone_height_m", microphone),
        () if source is None else tuple(value(f"source_height_m.{at}", source) for at in range(bank.positions)),
    )
    rays = None
    if bank.method == "hybrid":
        seed = index_below(2**32, task.rng(attempt, f"{geometry}.rays"))
        rays = PlannedRays(count=NUM_RAYS, radius_m=RECEIVER_M, scattering=SCATTERING, seed=seed)
    return WantedRoom((sides[0], sides[1], sides[2]), value("rt60_s", bank.rt60_s), distances_m, heights, rays)


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
    """Every room of every simulated bank, assigned to the splits.

    Raises:
        TooFewToAssignError: If a bank has fewer rooms than there are splits.
    """
    splits = tuple(recipe.speech)
    for bank, wanted in recipe.rooms.items():
        if not isinstance(wanted, RoomBank):
            continue
        numbers = [str(room) for room in range(wanted.rooms)]
        split_of = (
            assigned(numbers, splits, seed=recipe.seed, owner=bank, what="rooms") if wanted.split == "own" else {}
        )
        for number in numbers:
            allowed = (split_of[number],) if split_of else splits
            yield RoomTask(recipe.seed, recipe.sample_rate, bank, wanted, int(number), allowed)


def plan_simulated_rooms(
    recipe: Recipe, *, cache: PartialResults, workers: int, progress: bool = True
) -> list[PlannedRoom]:
    """Every simulated room of a recipe, by bank and number.

    Args:
        recipe: What is wanted.
        cache: Rooms that an interrupted run has calibrated.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        RoomTooSmallError: If a bank's rooms cannot hold its distances.
        RoomMissedError: If a room cannot be brought to its reverberation time.
    """
    rooms = resumed(
        planned_room,
        list(room_tasks(recipe)),
        cache=cache,
        key=lambda task: task.key,
        to_cache=lambda room: room.model_dump(mode="json"),
        from_cache=lambda _, plain: PlannedRoom.parse(plain, where=cache.path),
        workers=workers,
        what="calibrating rooms",
        unit="rooms",
        progress=progress,
    )
    return sorted(rooms, key=lambda room: (room.bank, room.room))
