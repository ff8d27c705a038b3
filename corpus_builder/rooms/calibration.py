"""Simulated rooms: calibrated to their reverberation time at planning, simulated once more at building.

Shoebox rooms by the image-source method (Allen and Berkley 1979) as pyroomacoustics has it, alone or as a hybrid: image sources
to order 3 and, for what comes later and what walls scatter, ray tracing whose energy over time shapes noise (Schroeder 2011). `plan` draws a room, places
microphone and sources and calibrates the walls' absorption until the reverberation time measured on the responses is the
requested one; `build` simulates the planned room once more and writes its responses; rendering only ever reads them.

Sabine's and Eyring's formulas miss a shoebox by up to 70 %, so T30 is measured: Schroeder's backward integration and a line
through -5 to -35 dB (ISO 3382-2). Order: every image that arrives before 30 dB of decay is computed, up to order 70, which costs
470 thousand images and 0.25 s a position; more images change neither T30 nor the straightness of the decay (T20 over T30 is
0.93 at 24, 30, 36 and 48 dB). Calibrating a room of 0.2 to 0.8 s with three positions takes 0.2 s in the mean, 0.9 s at most.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.rooms.acoustics import NoDecayError, Response, energy_decay_db, loudest_rival, measured_response
from corpus_builder.rooms.image_source import FILTER_TAPS, SOUND_M_PER_S, Tracing, arrival_sample, impulse
from corpus_builder.rooms.placement import Heights, Metres, in_metres, other_places, other_places_at, place, place_at
from manifests.errors import StillroomError, printable
from manifests.plan.rooms import PlannedRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manifests.plan.rooms import PlannedRays

MAX_ORDER = 70
HYBRID_ORDER = 3
TRACED_SHARE = (
    1.3  # of the requested reverberation time: T30 ends at 35 of the 60 dB, and some rooms ring a little longer
)
T30_TOLERANCE = 0.15
LOUDEST_RIVAL = (
    0.95  # measured on 180 positions with real speech: from 1.0 up GCC-PHAT finds the rival, below 0.95 it never did
)
RIVAL_AT_DRAWING = 0.85
EARLY_ORDER = 12
CALIBRATION_ROUNDS = 2
MAX_ATTEMPTS = 100
MAX_CALIBRATED = 20
MOST_PLACINGS = 3
MOST_PLACES = 100


class RoomMissedError(StillroomError, ValueError):
    """No drawn room met the request."""

    def __init__(self, bank: str, room: int, *, num_drawn: int, drawn: DrawnRoom, fault: str) -> None:
        super().__init__(
            f"bank {printable(bank)!r}, room {room}: none of {num_drawn} drawn rooms came within {T30_TOLERANCE:.0%} of the "
            f"requested RT60 with a direct sound above its reflections (the last: {in_metres(drawn.size_m)}, requested "
            f"{drawn.rt60_s:g} s, found {fault}); change rt60_s, size_m or distance_m"
        )


@dataclass(frozen=True)
class DrawnRoom:
    """A drawn room: its geometry, and the reverberation time to reach.

    Attributes:
        rival: Strongest early reflection over the direct sound, at the worst of the positions; 0 where it was not measured.
        rays: Of a hybrid room.
    """

    size_m: Metres
    rt60_s: float
    microphone_m: Metres
    sources_m: tuple[Metres, ...]
    rival: float = 0.0
    rays: PlannedRays | None = None


@dataclass(frozen=True)
class WantedRoom:
    """What was drawn of a room before microphone and sources have positions.

    Attributes:
        size_m: Length, width, height.
        rt60_s: Reverberation time to reach.
        distances_m: From the microphone, one for each source.
        heights: Above the floor, where the recipe says.
        rays: Of a hybrid room.
    """

    size_m: Metres
    rt60_s: float
    distances_m: Sequence[float]
    heights: Heights = field(default_factory=Heights)
    rays: PlannedRays | None = None


def draw_room(rng: np.random.Generator, wanted: WantedRoom, *, rate_hz: int) -> DrawnRoom:
    """Place microphone and sources in a room; a source with a reflection louder than its direct sound is moved.

    In a shoebox several reflections may meet at the microphone in one sample and be louder together than the direct sound (at
    one position of nine). Such a response is in step with the dry speech nowhere, so it is not used.

    Args:
        rng: Generator of this attempt at this room.
        wanted: Its size, reverberation time, distances and heights.
        rate_hz: Sample rate of the corpus.

    Returns:
        The room; `rival` is above `RIVAL_AT_DRAWING` where no place was found.

    Raises:
        RoomTooSmallError: If a distance fits in no direction.
    """
    size_m = wanted.size_m
    absorption = absorption_of(eyring_exponent(size_m, wanted.rt60_s))
    order = EARLY_ORDER if wanted.rays is None else HYBRID_ORDER
    for _ in range(MOST_PLACINGS):
        microphone_m, firsts_m = placed(rng, wanted)
        chosen: list[tuple[float, Metres]] = []
        for number, first_m in enumerate(firsts_m):
            others = other_positions(rng, wanted, number, microphone_m)
            best = (math.inf, first_m)
            for source_m in itertools.chain([first_m], others):
                wave = impulse(size_m, microphone_m, source_m, absorption=absorption, order=order, rate_hz=rate_hz)
                arrival = arrival_sample(microphone_m, source_m, rate_hz=rate_hz)
                best = min(best, (loudest_rival(wave, direct_sample=arrival), source_m))
                if best[0] <= RIVAL_AT_DRAWING:
                    break
            chosen.append(best)
        rival = max(found for found, _ in chosen)
        if rival <= RIVAL_AT_DRAWING:
            break
    sources_m = tuple(source_m for _, source_m in chosen)
    return DrawnRoom(size_m, wanted.rt60_s, microphone_m, sources_m, rival, wanted.rays)


def placed(rng: np.random.Generator, wanted: WantedRoom) -> tuple[Metres, tuple[Metres, ...]]:
    """Microphone and sources, at the requested heights if there are any."""
    if wanted.heights.are_free:
        return place(rng, size_m=wanted.size_m, distances_m=wanted.distances_m)
    return place_at(rng, wanted.heights, size_m=wanted.size_m, distances_m=wanted.distances_m)


def other_positions(
    rng: np.random.Generator, wanted: WantedRoom, number: int, microphone_m: Metres
) -> Iterator[Metres]:
    """Further positions of one source around a fixed microphone."""
    size_m, distance_m, height_m = wanted.size_m, wanted.distances_m[number], wanted.heights.of_source(number)
    if height_m is None:
        return other_places(
            rng, size_m=size_m, microphone_m=microphone_m, distance_m=distance_m, most_tries=MOST_PLACES
        )
    return other_places_at(
        rng, height_m, size_m=size_m, microphone_m=microphone_m, distance_m=distance_m, most_tries=MOST_PLACES
    )


def plan_room(
    draw: Callable[[int], DrawnRoom], *, bank: str, room: int, splits: tuple[str, ...], rate_hz: int
) -> PlannedRoom:
    """Draw a room and calibrate it; one that misses its RT60, or has a reflection above its direct sound, is drawn again.

    Args:
        draw: The room of an attempt, counted from 0, from a generator named after bank, room and attempt; see `draw_room`.
        bank: Name of the bank.
        room: Number of the room within it.
        splits: Which splits may use it.
        rate_hz: Sample rate of the corpus.

    Returns:
        The room with its final absorption, order and measured T30s: `simulate` gives exactly these.

    Raises:
        RoomMissedError: If none of 20 calibrated rooms, or of 100 drawn ones, met the request.
        RoomTooSmallError: If a drawn room cannot hold its distances.
    """
    num_calibrated = 0
    for attempt in range(MAX_ATTEMPTS):
        drawn = draw(attempt)
        fault: str | None = rival_fault(drawn.rival)
        if fault is None:
            order = HYBRID_ORDER if drawn.rays is not None else image_order(drawn.size_m, drawn.rt60_s)
            absorption, responses = calibrate(drawn, order=order, rate_hz=rate_hz)
            num_calibrated += 1
            fault = fault_of(responses, rt60_s=drawn.rt60_s)
            if fault is None:
                return PlannedRoom(
                    bank=bank,
                    room=room,
                    splits=splits,
                    size_m=drawn.size_m,
                    absorption=absorption,
                    max_order=order,
                    rt60_s=drawn.rt60_s,
                    t30_s=tuple(response.t30_s for response in responses),
                    microphone_m=drawn.microphone_m,
                    sources_m=drawn.sources_m,
                    attempts=attempt + 1,
                    rays=drawn.rays,
                )
        if num_calibrated == MAX_CALIBRATED:
            break
    raise RoomMissedError(bank, room, num_drawn=attempt + 1, drawn=drawn, fault=str(fault))


def rival_fault(rival: float) -> str | None:
    """What is wrong with a room whose strongest reflection is so strong; None where it is weak enough."""
    return f"a reflection {rival:.2f} times as strong as the direct sound" if rival > LOUDEST_RIVAL else None


def fault_of(responses: Sequence[Response], *, rt60_s: float) -> str | None:
    """What is wrong with the responses of a room, in a few words; None if nothing is."""
    if not responses:
        return "no decay to measure"
    times_s = [response.t30_s for response in responses]
    if any(abs(time_s / rt60_s - 1.0) > T30_TOLERANCE for time_s in times_s):
        return f"{min(times_s):.2f} to {max(times_s):.2f} s"
    return rival_fault(max(response.rival for response in responses))


def image_order(size_m: Metres, rt60_s: float) -> int:
    """The order that has every image arriving within half of the reverberation time (30 dB of decay), at most 70.

    In a direction u an image at distance d has order ``d * sum(|u_axis| / side_axis)``, which is largest where u leans toward
    the short sides: ``d * sqrt(sum(1 / side ** 2))``.
    """
    per_metre = math.hypot(*(1.0 / side for side in size_m))
    return min(MAX_ORDER, math.ceil(0.5 * rt60_s * SOUND_M_PER_S * per_metre))


def eyring_exponent(size_m: Metres, rt60_s: float) -> float:
    """``-ln(1 - absorption)`` by Eyring's formula (1930), for 20 % less than requested: a shoebox rings longer than the formula says."""
    length, width, height = size_m
    surface = 2.0 * (length * width + width * height + height * length)
    return 24.0 * math.log(10.0) / SOUND_M_PER_S * math.prod(size_m) / (surface * 0.8 * rt60_s)


def calibrate(drawn: DrawnRoom, *, order: int, rate_hz: int) -> tuple[float, tuple[Response, ...]]:
    """Find the absorption that gives the requested reverberation time.

    From Eyring's formula, then two rounds in which its exponent is scaled by measured over requested T30 at the first position.

    Returns:
        Absorption, rounded to six decimals before it is used, and the response at each position with it; no responses where
        one has no decay to measure.
    """
    exponent = eyring_exponent(drawn.size_m, drawn.rt60_s)
    try:
        for _ in range(CALIBRATION_ROUNDS):
            first = simulated(drawn, 0, absorption=absorption_of(exponent), order=order, rate_hz=rate_hz)
            exponent *= first.t30_s / drawn.rt60_s
        absorption = absorption_of(exponent)
        positions = range(len(drawn.sources_m))
        responses = [simulated(drawn, at, absorption=absorption, order=order, rate_hz=rate_hz) for at in positions]
    except NoDecayError:
        return absorption_of(exponent), ()
    return absorption, tuple(responses)


def absorption_of(exponent: float) -> float:
    """Energy absorption for Eyring's exponent, within 0.001 and 0.999."""
    return round(min(max(-math.expm1(-exponent), 0.001), 0.999), 6)


def simulate(room: PlannedRoom, *, rate_hz: int) -> tuple[Response, ...]:
    """The responses of a planned room, one for each source position, the same bits whatever the environment's number of threads."""
    drawn = DrawnRoom(room.size_m, room.rt60_s, room.microphone_m, room.sources_m, rays=room.rays)
    return tuple(
        simulated(drawn, position, absorption=room.absorption, order=room.max_order, rate_hz=rate_hz)
        for position in range(len(room.sources_m))
    )


def simulated(drawn: DrawnRoom, position: int, *, absorption: float, order: int, rate_hz: int) -> Response:
    """Simulate one position and measure its response; the tail after 60 dB of decay is cut.

    Raises:
        NoDecayError: If the response is all direct sound.
    """
    source_m = drawn.sources_m[position]
    rays = None if drawn.rays is None else Tracing(drawn.rays, position, TRACED_SHARE * drawn.rt60_s)
    whole = impulse(
        drawn.size_m, drawn.microphone_m, source_m, absorption=absorption, order=order, rate_hz=rate_hz, tracing=rays
    )
    direct_sample = arrival_sample(drawn.microphone_m, source_m, rate_hz=rate_hz)
    decay_db = energy_decay_db(whole[direct_sample:])
    end = direct_sample + int(np.searchsorted(-decay_db, 60.0))
    wave = whole[: max(end, direct_sample + FILTER_TAPS)]
    return measured_response(wave, direct_sample=direct_sample, rate_hz=rate_hz)
