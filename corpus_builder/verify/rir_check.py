"""Measures the stored room responses of a corpus with code of its own: reverberation time, and position of the direct path."""

from __future__ import annotations

import contextlib
import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from manifests.corpus.layout import ROOMS, bank_name, banks, planned_rooms, response_path, room_responses
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.json_yaml import read_bytes
from manifests.io.place import place_of
from manifests.plan.rooms import PlannedRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from manifests.io.place import Place
    from manifests.plan.rooms import RoomResponse

    Wave = NDArray[np.float64]

RT60_TOLERANCE = 0.15
MEASURE_TOLERANCE = 0.05
ONSET_SHARE = 0.3


@lru_cache(maxsize=4)
def known_rows(corpus: str) -> dict[str, RoomResponse]:
    """The rows of every bank that can be read by name of response, cached for the shards that a worker checks."""
    rows: dict[str, RoomResponse] = {}
    for bank in banks(place_of(corpus)):
        with contextlib.suppress(StillroomError):  # a finding of `response_findings`
            rows |= {row.name: row for row in room_responses(place_of(corpus), bank)}
    return rows


@lru_cache(maxsize=256)
def stored_response(corpus: str, name: str) -> tuple[Wave, int]:
    """Samples of a response, shape (taps,), and its `direct_sample`.

    Raises:
        BadDocumentError: If it does not exist, or is not what its row says.
    """
    path = place_of(corpus) / response_path(name)
    row = known_rows(corpus).get(name)
    if row is None:
        raise BadDocumentError(path, "no bank has a response of this name")
    try:
        wave = np.load(io.BytesIO(read_bytes(path, needed="a room response")), allow_pickle=False)
    except ValueError as problem:
        raise BadDocumentError(path, f"not a response: {printable(problem)}") from None
    if wave.dtype != np.dtype("<f4") or wave.shape != (row.num_samples,) or not np.isfinite(wave).all():
        raise BadDocumentError(path, f"expected {row.num_samples} finite samples in float32")
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
    """The sample at which the first sound of a simulated response peaks."""
    size = np.abs(response)
    first = int(np.argmax(size >= ONSET_SHARE * size.max()))
    return first + int(np.argmax(size[first : first + 3]))


def whitened_peak(response: Wave) -> int:
    """The lag that GCC-PHAT finds for a recorded response: a loudspeaker spreads its direct sound over many samples."""
    spectrum = np.fft.rfft(response, 2 * response.size)
    spectrum /= np.maximum(np.abs(spectrum), 1e-30)
    return int(np.abs(np.fft.irfft(spectrum)[: response.size]).argmax())


def response_findings(corpus: Place) -> Iterator[tuple[str, str]]:
    """Where and what is wrong with the stored responses, their lists, or the plan of the rooms."""
    planned_s: dict[tuple[str, int], float] = {}
    try:
        for room in planned_rooms(corpus):
            if isinstance(room, PlannedRoom):
                planned_s[room.bank, room.room] = room.rt60_s
    except StillroomError as problem:
        yield ROOMS, str(problem)
    for bank in banks(corpus):
        try:
            rows = list(room_responses(corpus, bank))
        except StillroomError as problem:
            yield bank_name(bank), str(problem)
            continue
        for row in sorted(rows, key=lambda row: row.name):
            try:
                response = stored_response(str(corpus), row.name)
            except StillroomError as problem:
                yield response_path(row.name), str(problem)
            else:
                rt60_s = planned_s.get((row.bank, row.room)) if row.file is None else None
                yield from (
                    (response_path(row.name), what) for what in measured_findings(row, *response, rt60_s=rt60_s)
                )


def measured_findings(row: RoomResponse, wave: Wave, direct: int, *, rt60_s: float | None) -> Iterator[str]:
    """What is wrong with one stored response.

    Args:
        row: Of its bank.
        wave: Its samples, shape (taps,).
        direct: The sample of its direct path by its bank.
        rt60_s: The planned reverberation time; None if it is recorded.
    """
    measured_s = reverberation_time_s(wave, rate_hz=row.rate_hz)
    if not abs(measured_s - row.t30_s) <= MEASURE_TOLERANCE * row.t30_s:
        yield f"T30 is {measured_s:.3f} s by measuring, its bank says {row.t30_s:.3f} s"
    if rt60_s is not None and not abs(measured_s - rt60_s) <= RT60_TOLERANCE * rt60_s:
        yield f"T30 is {measured_s:.3f} s by measuring, {rt60_s:.3f} s were planned"
    peak = first_strong_sample(wave) if row.file is None else whitened_peak(wave)
    if abs(peak - direct) > 1:
        yield f"its first strong sound is at sample {peak}, by its bank the direct path is at {direct}"
