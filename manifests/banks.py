"""Which rooms a recipe asks for, in ranges."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from manifests.ranges import Draw, number_between
from manifests.records import Record

Metres = Annotated[float, Field(gt=0, le=200)]
Size = Annotated[tuple[Metres, Metres, Metres], Field(strict=False)]


class RoomBank(Record):
    """Simulated shoebox rooms, each with a microphone and several source positions.

    Attributes:
        rooms: How many rooms, over all splits.
        size_m: Smallest and largest length, width and height.
        rt60_s: Reverberation time asked for.
        distance_m: From the microphone to a source.
        positions: Sources in a room; speech takes one, noise in the same room another.
        split: `own` deals the rooms to the splits, `shared` gives all rooms to all splits, as some papers do.
    """

    rooms: Annotated[int, Field(ge=1, le=100_000)]
    size_m: Annotated[tuple[Size, Size], Field(strict=False)]
    rt60_s: Annotated[Draw, number_between(0.1, 3.0)]
    distance_m: Annotated[Draw, number_between(0.1, 100.0)]
    positions: Annotated[int, Field(ge=1, le=64)] = 3
    split: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        """The smallest room comes first, and the largest can hold every asked distance."""
        if any(low > high for low, high in zip(*self.size_m, strict=True)):
            raise ValueError(
                f"size_m: {list(self.size_m[0])} is larger than {list(self.size_m[1])}; write the smallest size first"
            )
        diagonal_m = sum(side**2 for side in self.size_m[1]) ** 0.5
        if self.distance_m.high >= diagonal_m:
            raise ValueError(
                f"distance_m: {self.distance_m.high:g} m does not fit into the largest room, {list(self.size_m[1])} m "
                f"(diagonal {diagonal_m:.1f} m); ask for less, or for larger rooms"
            )
        return self
