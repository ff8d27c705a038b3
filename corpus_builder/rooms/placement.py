"""Draws the positions of microphone and sources in a shoebox room: at least 0.3 m from the walls, at the requested distances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from manifests.errors import StillroomError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Metres = tuple[float, float, float]

WALL_GAP_M = 0.3


class RoomTooSmallError(StillroomError, ValueError):
    """A room cannot hold the requested distance between microphone and source."""

    def __init__(self, *, size_m: Metres, distance_m: float, longest_m: float) -> None:
        super().__init__(
            f"a room of {in_metres(size_m)} with {WALL_GAP_M} m free along its walls holds at most {longest_m:.2f} m between "
            f"microphone and source, but {distance_m:g} m is requested; make size_m larger or distance_m smaller"
        )


class HeightMissedError(RoomTooSmallError):
    """A room cannot hold microphone and sources at the requested heights and distances."""

    def __init__(self, heights: Heights, *, size_m: Metres, distances_m: Sequence[float]) -> None:
        above = "anywhere" if heights.microphone_m is None else f"at {heights.microphone_m:g} m"
        sources = ", ".join(
            f"{distance_m:g} m away {'at any height' if (height_m := heights.of_source(at)) is None else f'at {height_m:g} m'}"
            for at, distance_m in enumerate(distances_m)
        )
        StillroomError.__init__(
            self,
            f"a room of {in_metres(size_m)} with {WALL_GAP_M} m free along its walls does not hold a microphone {above} and sources "
            f"{sources}; change microphone_height_m, source_height_m, distance_m or size_m",
        )


@dataclass(frozen=True)
class Heights:
    """Requested heights above the floor; None where a height is drawn.

    Attributes:
        microphone_m: Of the microphone.
        sources_m: Of each source; empty if none was requested.
    """

    microphone_m: float | None = None
    sources_m: tuple[float, ...] = ()

    @property
    def are_free(self) -> bool:
        """Whether no height was requested."""
        return self.microphone_m is None and not self.sources_m

    def of_source(self, number: int) -> float | None:
        """The height of a source."""
        return self.sources_m[number] if self.sources_m else None


def in_metres(size_m: Metres) -> str:
    """Such as `4 x 3.5 x 2.6 m`."""
    return " x ".join(f"{side:g}" for side in size_m) + " m"


def check_distance(size_m: Metres, distance_m: float) -> None:
    """Check that a room holds the distance with the gap to all walls.

    Raises:
        RoomTooSmallError: If it does not.
    """
    spans = [side - 2.0 * WALL_GAP_M for side in size_m]
    longest_m = math.hypot(*spans) if min(spans) > 0.0 else 0.0
    if distance_m > longest_m:
        raise RoomTooSmallError(size_m=size_m, distance_m=distance_m, longest_m=longest_m)


def place(
    rng: np.random.Generator, *, size_m: Metres, distances_m: Sequence[float], most_tries: int = 500
) -> tuple[Metres, tuple[Metres, ...]]:
    """Draw a microphone and sources at given distances from it, all at least 0.3 m from the walls.

    Directions are drawn evenly over the sphere until all sources fit around one microphone; then the microphone evenly over
    where it can be. Where the distances are so long that this hardly ever happens, all sources are toward one corner from the
    microphone. Positions are whole millimetres.

    Args:
        rng: Generator of this room.
        size_m: Length, width, height.
        distances_m: One for each source.
        most_tries: Draws of directions before all sources are put toward one corner.

    Returns:
        Position of the microphone, and of each source.

    Raises:
        RoomTooSmallError: If a distance fits in no direction.
    """
    for distance_m in distances_m:
        check_distance(size_m, distance_m)
    spans = np.array(size_m) - 2.0 * WALL_GAP_M
    for _ in range(most_tries):
        ways = np.array([distance_m * direction(rng) for distance_m in distances_m])
        if np.all(reach(ways, spans)[0] <= reach(ways, spans)[1]):
            break
    else:
        corner = rng.choice([-1.0, 1.0], size=3)
        ways = np.array([corner * inward(rng, distance_m, spans, most_tries) for distance_m in distances_m])
    low, high = reach(ways, spans)
    microphone = WALL_GAP_M + low + rng.random(3) * np.maximum(high - low, 0.0)
    return millimetres(microphone), tuple(millimetres(microphone + way) for way in ways)


def direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """A unit vector, even over the sphere, shape (3,)."""
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)


def reach(ways: NDArray[np.float64], spans: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner of the box of microphones from which all vectors (source, axis) end inside the spans."""
    return np.maximum(0.0, -ways).max(axis=0), spans - np.maximum(0.0, ways).max(axis=0)


def inward(
    rng: np.random.Generator, distance_m: float, spans: NDArray[np.float64], most_tries: int
) -> NDArray[np.float64]:
    """A vector of a given length within the first octant that fits the spans; the room's diagonal if none does."""
    for _ in range(most_tries):
        way = distance_m * np.abs(direction(rng))
        if np.all(way <= spans):
            return way
    return np.asarray(distance_m * spans / np.linalg.norm(spans), dtype=np.float64)


def millimetres(position: NDArray[np.float64]) -> Metres:
    """A position in whole millimetres, so that the plan holds what is simulated."""
    x, y, z = (round(float(axis), 3) for axis in position)
    return x, y, z


def other_places(
    rng: np.random.Generator, *, size_m: Metres, microphone_m: Metres, distance_m: float, most_tries: int
) -> Iterator[Metres]:
    """Further positions for one source at its distance from a fixed microphone: of `most_tries` directions, those that fit."""
    inside = np.array(size_m) - WALL_GAP_M
    for _ in range(most_tries):
        source = np.array(microphone_m) + distance_m * direction(rng)
        if np.all(source >= WALL_GAP_M) and np.all(source <= inside):
            yield millimetres(source)


def place_at(
    rng: np.random.Generator,
    heights: Heights,
    *,
    size_m: Metres,
    distances_m: Sequence[float],
    most_tries: int = 1000,
) -> tuple[Metres, tuple[Metres, ...]]:
    """Draw a microphone and sources at given distances from it and given heights above the floor.

    As `place`: directions even over the circle where both heights are given, over the sphere where the source's is free. In the
    second half of the tries all sources are toward one corner, for long distances in small rooms.

    Args:
        rng: Generator of this room.
        heights: Of which at least one is given.
        size_m: Length, width, height.
        distances_m: One for each source.
        most_tries: Draws of a whole placing.

    Returns:
        Position of the microphone, and of each source.

    Raises:
        HeightMissedError: If no placing was found.
    """
    spans = np.array(size_m) - 2.0 * WALL_GAP_M
    for attempt in range(most_tries):
        floor_m = heights.microphone_m
        if floor_m is None:
            floor_m = WALL_GAP_M + float(rng.random()) * max(float(spans[2]), 0.0)
        ways = [
            way_to(rng, heights.of_source(at), microphone_m=floor_m, distance_m=distance_m)
            for at, distance_m in enumerate(distances_m)
        ]
        found = [way for way in ways if way is not None]
        if len(found) < len(ways):
            continue
        toward = np.array(found)
        if attempt >= most_tries // 2:
            toward[:, :2] = np.abs(toward[:, :2]) * rng.choice([-1.0, 1.0], size=2)
        low, high = reach(toward, spans)
        above_gap_m = floor_m - WALL_GAP_M
        if np.all(low[:2] <= high[:2]) and low[2] <= above_gap_m <= high[2]:
            microphone = WALL_GAP_M + low + rng.random(3) * (high - low)
            microphone[2] = floor_m
            return millimetres(microphone), tuple(millimetres(microphone + way) for way in toward)
    raise HeightMissedError(heights, size_m=size_m, distances_m=distances_m)


def way_to(
    rng: np.random.Generator, height_m: float | None, *, microphone_m: float, distance_m: float
) -> NDArray[np.float64] | None:
    """A vector from a microphone at a height to a source at another; None if the distance is too short for it."""
    if height_m is None:
        return np.asarray(distance_m * direction(rng), dtype=np.float64)
    up_m = height_m - microphone_m
    if abs(up_m) > distance_m:
        return None
    along_m = math.sqrt(distance_m**2 - up_m**2)
    angle = 2.0 * math.pi * float(rng.random())
    return np.array([along_m * math.cos(angle), along_m * math.sin(angle), up_m])


def other_places_at(
    rng: np.random.Generator,
    height_m: float,
    *,
    size_m: Metres,
    microphone_m: Metres,
    distance_m: float,
    most_tries: int,
) -> Iterator[Metres]:
    """As `other_places`, at a given height."""
    inside = np.array(size_m) - WALL_GAP_M
    for _ in range(most_tries):
        way = way_to(rng, height_m, microphone_m=microphone_m[2], distance_m=distance_m)
        if way is None:
            return
        source = np.array(microphone_m) + way
        if np.all(source >= WALL_GAP_M) and np.all(source <= inside):
            yield millimetres(source)
