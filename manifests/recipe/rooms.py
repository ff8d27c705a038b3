"""Room banks of a recipe: simulated shoeboxes in ranges, or responses that were recorded in real rooms."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from manifests.io.records import Record
from manifests.recipe.distributions import Draw, number_between
from manifests.recipe.speech import SpeechSource

Metres = Annotated[float, Field(gt=0, le=200)]
Size = Annotated[tuple[Metres, Metres, Metres], Field(strict=False)]
Height = Annotated[Draw, number_between(0.3, 200.0)]

LONGEST_RESPONSE_S = 30.0


class RoomBank(Record):
    """Simulated shoebox rooms, each with a microphone and several source positions.

    Attributes:
        rooms: Number of rooms, over all splits.
        method: `image` sources alone (the default), or `hybrid`: image sources of low order and ray tracing for the rest.
        size_m: Smallest and largest length, width and height.
        rt60_s: Reverberation time.
        distance_m: From the microphone to a source.
        microphone_height_m: Of the microphone above the floor; anywhere in the room by default.
        source_height_m: Of each source above the floor; anywhere in the room by default.
        positions: Source positions in a room; speech takes one, noise in the same room another.
        split: `own` assigns each room to one split; `shared` gives all rooms to all splits, as some papers do.
    """

    rooms: Annotated[int, Field(ge=1, le=100_000)]
    method: Literal["image", "hybrid"] | None = None
    size_m: Annotated[tuple[Size, Size], Field(strict=False)]
    rt60_s: Annotated[Draw, number_between(0.1, 3.0)]
    distance_m: Annotated[Draw, number_between(0.1, 100.0)]
    microphone_height_m: Height | None = None
    source_height_m: Height | None = None
    positions: Annotated[int, Field(ge=1, le=64)] = 3
    split: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        """The smallest room comes first, and the largest has room for every distance and height."""
        if any(low > high for low, high in zip(*self.size_m, strict=True)):
            raise ValueError(
                f"size_m: {list(self.size_m[0])} is larger than {list(self.size_m[1])}; write the smallest size first"
            )
        diagonal_m = sum(side**2 for side in self.size_m[1]) ** 0.5
        if self.distance_m.high >= diagonal_m:
            raise ValueError(
                f"distance_m: {self.distance_m.high:g} m does not fit into the largest room, {list(self.size_m[1])} m "
                f"(diagonal {diagonal_m:.1f} m); take a smaller distance, or larger rooms"
            )
        for name in ("microphone_height_m", "source_height_m"):
            height = getattr(self, name)
            if height is not None and height.high > self.size_m[1][2] - 0.3:
                raise ValueError(
                    f"{name}: {height.high:g} m does not fit under the highest ceiling, {self.size_m[1][2]:g} m, with 0.3 m kept "
                    "from it; take a smaller height, or higher rooms"
                )
        return self


class ResponseSource(SpeechSource):
    """Recorded responses: a folder, a lhotse manifest, or a list of files; keys as for speech.

    Attributes:
        list: A text file with a path a line, alone or after options as in the `rir_list` of RIRS_NOISES
            (`--rir-id 1 --room-id 7 RIRS_NOISES/a.wav`); relative paths are below the list's folder or one of those above it.
        channel: Channel of a file with several; by default one is drawn for each copy.
        max_s: Longer files are left out, and counted: a response is not a recording of noise.
    """

    list: str | None = None
    max_s: Annotated[float, Field(gt=0, le=LONGEST_RESPONSE_S)] = LONGEST_RESPONSE_S

    @model_validator(mode="after")
    def check_one_origin(self) -> Self:
        """One of dir, cuts and list, with the options that fit."""
        if sum(origin is not None for origin in (self.dir, self.cuts, self.list)) != 1:
            raise ValueError("expected exactly one of list, cuts (a lhotse manifest) and dir (a folder)")
        if self.dir is None and (self.fields or self.table or self.pattern != "**/*"):
            raise ValueError("fields, table and pattern go with dir, not with cuts or list")
        if self.channel == "mix":
            raise ValueError(
                "channel: expected a number, got 'mix': each channel of a response is a response of its own"
            )
        plain = self.model_dump(exclude={"list"})
        SpeechSource.model_validate(plain if self.list is None else plain | {"cuts": self.list})
        return self


class RecordedBank(Record):
    """Responses recorded in real rooms.

    Attributes:
        responses: Their source.
        room: The name in `fields`, the column of the table, the custom field of the cuts or the option in the list that names the
            room of a response; `room`, else `room_id`, by default. Without any, each folder is a room; if all files are in one
            folder, each file is a room.
        split: `own` assigns each room, with all its responses, to one split; `shared` gives all to all.
    """

    responses: ResponseSource
    room: str | None = None
    split: Literal["own", "shared"] = "own"


def bank_kind(data: Any) -> str:
    """Whether a bank is simulated or recorded, from its keys."""
    recorded = isinstance(data, RecordedBank) or (isinstance(data, dict) and "responses" in data)
    return "-recorded" if recorded else "-simulated"


Bank = Annotated[
    Annotated[RoomBank, Tag("-simulated")] | Annotated[RecordedBank, Tag("-recorded")], Discriminator(bank_kind)
]
