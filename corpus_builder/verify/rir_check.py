"""The stored responses of a corpus measured again by a stranger: reverberation time, and where the direct path is."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.json_yaml import read_bytes, read_json_lines
from manifests.io.place import place_of, sizes_below
from manifests.plan.rooms import PlannedRoom, RoomResponse, parse_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from manifests.io.place import Place

    Wave = NDArray[np.float64]

RT60_TOLERANCE = 0.15
MEASURE_TOLERANCE = 0.05
ONSET_SHARE = 0.3


def response_rows(corpus: Place) -> dict[str, RoomResponse]:
    """The rows of every bank by name of response."""
    rows: dict[str, RoomResponse] = {}
    for name in sizes_below(corpus / "rooms"):
        if name.endswith(".jsonl"):
            path = corpus / "rooms" / name
            for number, document in enumerate(read_json_lines(path, needed="a room bank"), 1):
                row = RoomResponse.parse(document, where=f"{path}:{number}")
                rows[row.name] = row
    return rows


@lru_cache(maxsize=4)
def known_rows(corpus: str) -> dict[str, RoomResponse]:
    """The same, kept for the shards that a worker looks at."""
    return response_rows(place_of(corpus))


@lru_cache(maxsize=256)
def stored_response(corpus: str, name: str) -> tuple[Wave, int]:
    """Samples of a response, shape (taps,), and its `direct_sample`.

    Raises:
        BadDocumentError: If it is not there, or not what its row says.
    """
    path = place_of(corpus) / "rooms" / f"{name}.npy"
    row = known_rows(corpus).get(name)
    if row is None:
        raise BadDocumentError(path, "no bank has a response of this name")
    try:
        wave = np.load(io.BytesIO(read_bytes(path, needed="a room response")), allow_pickle=False)
    except ValueError as problem:
        raise BadDocumentError(path, f"not a response: {printable(problem)}") from None
    if wave.dtype != np.dtype("<f4") or wave.shape != (row.num_samples,) or not np.isfinite(wave).all():
        raise BadDocumentError(path, f"{row.num_samples} finite samples in float32 are due here")
    return wave.astype(np.float64), row.direct_sample


def reverberation_time_s(response: Wave, *, rate_hz: int) -> float:
    """T30 by a straight line through the energy decay from -5 to -35 dB (Schroeder 1965; ISO 3382), in seconds; NaN if it is not reached."""
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    if energy[0] <= 0:
        return math.nan
    decay_db = 10 * np.log10(np.maximum(energy / energy[0], 1e-30))
    inside = np.flatnonzero((decay_db <= -5) & (decay_db >= -35))
    if inside.size < 8 or decay_db[-1] > -35:
        return math.nan
    slope = np.polyfit(inside / rate_hz, decay_db[inside], 1)[0]
    return float(-60 / slope)


def first_strong_sample(response: Wave) -> int:
    """Where the first sound of a simulated response peaks."""
    size = np.abs(response)
    first = int(np.argmax(size >= ONSET_SHARE * size.max()))
    return first + int(np.argmax(size[first : first + 3]))


def whitened_peak(response: Wave) -> int:
    """Where GCC-PHAT puts a recorded response: a loudspeaker smears its direct sound over many samples, of which none is the first."""
    spectrum = np.fft.rfft(response, 2 * response.size)
    spectrum /= np.maximum(np.abs(spectrum), 1e-30)
    return int(np.abs(np.fft.irfft(spectrum)[: response.size]).argmax())


def response_findings(corpus: Place) -> Iterator[tuple[str, str]]:
    """Where and what is off with the stored responses."""
    asked = {}
    path = corpus / "plan" / "rooms.jsonl"
    for number, document in enumerate(read_json_lines(path, needed="the rooms of a plan"), 1):
        room = parse_room(document, where=f"{path}:{number}")
        if isinstance(room, PlannedRoom):
            asked[room.bank, room.room] = room.rt60_s
    for name, row in sorted(response_rows(corpus).items()):
        where = f"rooms/{name}.npy"
        try:
            wave, direct = stored_response(str(corpus), name)
        except StillroomError as problem:
            yield where, str(problem)
            continue
        found = reverberation_time_s(wave, rate_hz=row.rate_hz)
        if not abs(found - row.t30_s) <= MEASURE_TOLERANCE * row.t30_s:
            yield where, f"T30 is {found:.3f} s by measuring, its bank says {row.t30_s:.3f} s"
        wanted = asked.get((row.bank, row.room)) if row.file is None else None
        if wanted is not None and not abs(found - wanted) <= RT60_TOLERANCE * wanted:
            yield where, f"T30 is {found:.3f} s by measuring, {wanted:.3f} s were asked for"
        peak = first_strong_sample(wave) if row.file is None else whitened_peak(wave)
        if abs(peak - direct) > 1:
            yield where, f"its first strong sound is at sample {peak}, its direct path is said to be at {direct}"
