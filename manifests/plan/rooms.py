"""Planned rooms (geometry of simulated ones, files of recorded ones), and the responses that a corpus stores."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field

from manifests.io.records import Name, Record, Sha256
from manifests.plan.steps import FileSpan

RESPONSE_PATTERN = re.compile(r"^(?P<bank>[A-Za-z][A-Za-z0-9_-]{0,63})-(?P<room>[0-9]{1,6})-(?P<position>[0-9]{1,6})$")
Point = Annotated[tuple[float, float, float], Field(strict=False)]


class PlannedRays(Record):
    """Parameters of ray tracing in a hybrid room.

    Attributes:
        count: Rays from each source.
        radius_m: Radius of the sphere around the microphone that counts them.
        scattering: Share of the energy that a wall scatters.
        seed: Seed of the scattering, and of the noise that the traced energy shapes.
    """

    count: Annotated[int, Field(ge=1, le=10_000_000)]
    radius_m: Annotated[float, Field(gt=0)]
    scattering: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class RoomResponse(Record):
    """One room response of a corpus; its samples are in `rooms/<name>.npy`.

    Attributes:
        name: `<bank>-<room>-<position>`.
        file: File, channel and digest that a recorded response was copied from; it has no geometry.
        rays: Ray tracing of a hybrid response.
        t30_s: Reverberation time measured on the response, from -5 to -35 dB of its energy decay (ISO 3382).
        direct_to_reverberant_db: Energy within 2.5 ms of the direct sound over the energy after it, in dB; None if nothing is.
        direct_sample: Sample at which the direct sound arrives; rendering drops that many samples from the convolved wave.
        num_samples: Length of the response.
        sha256: Digest of the samples as little-endian float32, without the file's header.
    """

    name: Annotated[str, Field(pattern=RESPONSE_PATTERN.pattern)]
    bank: Name
    room: Annotated[int, Field(ge=0)]
    position: Annotated[int, Field(ge=0)]
    rate_hz: Annotated[int, Field(ge=8_000, le=48_000)]
    file: FileSpan | None = None
    size_m: Point | None = None
    absorption: Annotated[float, Field(gt=0, le=1)] | None = None
    rays: PlannedRays | None = None
    microphone_m: Point | None = None
    source_m: Point | None = None
    t30_s: Annotated[float, Field(gt=0)]
    direct_to_reverberant_db: float | None
    direct_sample: Annotated[int, Field(ge=0)]
    num_samples: Annotated[int, Field(ge=1, lt=2**31)]
    sha256: Sha256


def response_name(bank: str, room: int, position: int) -> str:
    """The name of a response: that of its file in `rooms/` without the suffix."""
    return f"{bank}-{room}-{position}"


class PlannedRoom(Record):
    """One simulated room: geometry, final absorption, and the T30 that calibration measured.

    Attributes:
        room: Number within the bank.
        splits: Splits that may use it.
        absorption: Energy absorption of all walls.
        max_order: Highest image-source order.
        rt60_s: Wanted reverberation time.
        t30_s: T30 measured at each source position.
        microphone_m: Position, in metres.
        sources_m: Positions of the sources.
        attempts: Number of rooms that were drawn until one had the wanted reverberation time.
        rays: Ray tracing of a hybrid room; None for image sources alone.
    """

    bank: Name
    room: Annotated[int, Field(ge=0)]
    splits: Annotated[tuple[Name, ...], Field(strict=False)]
    size_m: Point
    absorption: Annotated[float, Field(gt=0, le=1)]
    max_order: Annotated[int, Field(ge=0, le=500)]
    rt60_s: float
    t30_s: Annotated[tuple[float, ...], Field(strict=False)]
    microphone_m: Point
    sources_m: Annotated[tuple[Point, ...], Field(min_length=1, strict=False)]
    attempts: int = 1
    rays: PlannedRays | None = None

    @property
    def num_positions(self) -> int:
        """Number of its responses."""
        return len(self.sources_m)


class RecordedResponse(Record):
    """One usable channel of one recorded response.

    Attributes:
        place: Number of the recording within the room: channels of one recording are at one place.
        t30_s: T30 measured at planning.
    """

    place: Annotated[int, Field(ge=0)]
    file: FileSpan
    t30_s: float


class RecordedRoom(Record):
    """The responses recorded in one room.

    Attributes:
        room: Number within the bank.
        label: Name of the room in the source.
        responses: By place, then channel; a response's position is its number here.
    """

    bank: Name
    room: Annotated[int, Field(ge=0)]
    splits: Annotated[tuple[Name, ...], Field(strict=False)]
    label: str
    responses: Annotated[tuple[RecordedResponse, ...], Field(min_length=1, strict=False)]

    @property
    def num_positions(self) -> int:
        """Number of its responses."""
        return len(self.responses)


def parse_room(document: Any, *, where: object) -> PlannedRoom | RecordedRoom:
    """One row of `rooms.jsonl`.

    Raises:
        BadDocumentError: If it breaks its schema.
    """
    model = RecordedRoom if isinstance(document, dict) and "responses" in document else PlannedRoom
    return model.parse(document, where=where)
