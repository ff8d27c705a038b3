"""One room response as it lies in `rooms/`: the rows of `rooms/<bank>.jsonl`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from manifests.plan import PlannedRays, Point
from manifests.planned import FileSpan
from manifests.records import Name, Record, Sha256

RESPONSE_PATTERN = re.compile(r"^(?P<bank>[A-Za-z][A-Za-z0-9_-]{0,63})-(?P<room>[0-9]{1,6})-(?P<position>[0-9]{1,6})$")


class RoomResponse(Record):
    """What is known of one response; its samples lie in `rooms/<name>.npy`.

    Attributes:
        name: `<bank>-<room>-<position>`.
        file: Of a recorded response: the file, channel and digest it was copied from; it has no geometry.
        rays: Of a hybrid one: how its rays were traced.
        t30_s: Reverberation time measured on the response, from -5 to -35 dB of its energy decay (ISO 3382).
        direct_to_reverberant_db: Energy within 2.5 ms of the direct sound over the energy after it, in dB; None if nothing is.
        direct_sample: Where the direct sound arrives; rendering drops that many samples from the convolved wave.
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
    """The name of a response, which is its file's name in `rooms/` without the suffix."""
    return f"{bank}-{room}-{position}"
