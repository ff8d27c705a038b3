"""The room bank: geometry in, impulse responses out.

Shoebox rooms by the image-source method (Allen and Berkley 1979) as pyroomacoustics has it. `plan` draws a room, places
microphone and sources and calibrates the walls' absorption until the reverberation time measured on the responses is the one
asked for; `build` simulates the planned room once more and writes its responses; rendering only ever reads them.

Sabine's and Eyring's formulas miss a shoebox by up to 70 %, so T30 is measured: Schroeder's backward integration and a line
through -5 to -35 dB (ISO 3382-2). Order: every image that arrives before 30 dB of decay is there, up to order 70, which costs
470 thousand images and 0.25 s a position; more images change neither T30 nor the straightness of the decay (T20 over T30 is
0.93 at 24, 30, 36 and 48 dB). Calibrating a room of 0.2 to 0.8 s with three positions takes 0.17 s in the mean, 0.7 s at most.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyroomacoustics

from corpus_builder.decay import NoDecayError, direct_to_reverberant_db, energy_decay_db, measured_t30_s
from manifests.errors import StillroomError, printable
from manifests.plan import PlannedRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

Metres = tuple[float, float, float]

WALL_GAP_M = 0.3
MAX_ORDER = 70
T30_TOLERANCE = 0.15
CALIBRATION_ROUNDS = 2
MAX_ATTEMPTS = 20
SOUND_M_PER_S = 343.0
FILTER_TAPS = 81
PINNED: Final[
    dict[str, object]
] = {  # pyroomacoustics' defaults, held against the environment and other users of its globals
    "num_threads": 1,  # two threads add up in another order, and the bits differ
    "c": SOUND_M_PER_S,
    "frac_delay_length": FILTER_TAPS,
    "sinc_lut_granularity": 20,
    "rir_hpf_enable": True,
    "rir_hpf_fc": 10.0,
    "rir_hpf_kwargs": {"n": 2, "rp": 5.0, "rs": 60.0, "type": "butter"},
}


class RoomTooSmallError(StillroomError, ValueError):
    """A room cannot hold the asked distance between microphone and source."""

    def __init__(self, *, size_m: Metres, distance_m: float, longest_m: float) -> None:
        super().__init__(
            f"a room of {in_metres(size_m)} with {WALL_GAP_M} m kept from its walls holds at most {longest_m:.2f} m between "
            f"microphone and source, but {distance_m:g} m is asked; make size_m larger or distance_m smaller"
        )


class RoomMissedError(StillroomError, ValueError):
    """No drawn room came near enough to its asked reverberation time."""

    def __init__(self, bank: str, room: int, *, drawn: DrawnRoom, t30_s: Sequence[float]) -> None:
        found = f"{min(t30_s):.2f} to {max(t30_s):.2f} s" if t30_s else "no decay to measure"
        super().__init__(
            f"bank {printable(bank)!r}, room {room}: none of {MAX_ATTEMPTS} drawn rooms came within {T30_TOLERANCE:.0%} of the asked "
            f"RT60 (the last: {in_metres(drawn.size_m)}, asked {drawn.rt60_s:g} s, found {found}); "
            "ask for another rt60_s or other sizes"
        )


@dataclass(frozen=True)
class DrawnRoom:
    """A room as the dice fell: what to build and the reverberation time to reach."""

    size_m: Metres
    rt60_s: float
    microphone_m: Metres
    sources_m: tuple[Metres, ...]


@dataclass(frozen=True)
class Response:
    """One simulated response and what was measured on it.

    Attributes:
        wave: Shape (taps,), float32.
        direct_sample: Where the direct sound arrives, to within half a sample.
        t30_s: Reverberation time.
        direct_to_reverberant_db: Direct over reverberant energy; None where nothing is reverberant.
    """

    wave: NDArray[np.float32]
    direct_sample: int
    t30_s: float
    direct_to_reverberant_db: float | None


def in_metres(size_m: Metres) -> str:
    """Such as `4 x 3.5 x 2.6 m`."""
    return " x ".join(f"{side:g}" for side in size_m) + " m"


def check_distance(size_m: Metres, distance_m: float) -> None:
    """A room must hold the distance with the gap kept from all walls.

    Raises:
        RoomTooSmallError: If it does not.
    """
    spans = [side - 2.0 * WALL_GAP_M for side in size_m]
    longest_m = math.hypot(*spans) if min(spans) > 0.0 else 0.0
    if distance_m > longest_m:
        raise RoomTooSmallError(size_m=size_m, distance_m=distance_m, longest_m=longest_m)


def place(
    dice: np.random.Generator, *, size_m: Metres, distances_m: Sequence[float], most_tries: int = 500
) -> tuple[Metres, tuple[Metres, ...]]:
    """Draw a microphone and sources at given distances from it, all at least 0.3 m from the walls.

    Directions are drawn evenly over the sphere until all sources fit around one microphone; then the microphone evenly over
    where it can stand. Where the distances are so long that this hardly ever happens, all sources lie toward one corner
    from the microphone. Positions are whole millimetres.

    Args:
        dice: Chance of this room.
        size_m: Length, width, height.
        distances_m: One for each source.
        most_tries: Draws of directions before sources are turned toward one corner.

    Returns:
        Position of the microphone, and of each source.

    Raises:
        RoomTooSmallError: If a distance fits in no direction.
    """
    for distance_m in distances_m:
        check_distance(size_m, distance_m)
    spans = np.array(size_m) - 2.0 * WALL_GAP_M
    for _ in range(most_tries):
        ways = np.array([distance_m * direction(dice) for distance_m in distances_m])
        if np.all(reach(ways, spans)[0] <= reach(ways, spans)[1]):
            break
    else:
        corner = dice.choice([-1.0, 1.0], size=3)
        ways = np.array([corner * inward(dice, distance_m, spans, most_tries) for distance_m in distances_m])
    low, high = reach(ways, spans)
    microphone = WALL_GAP_M + low + dice.random(3) * np.maximum(high - low, 0.0)
    return millimetres(microphone), tuple(millimetres(microphone + way) for way in ways)


def direction(dice: np.random.Generator) -> NDArray[np.float64]:
    """A unit vector, even over the sphere, shape (3,)."""
    vector = dice.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)


def reach(ways: NDArray[np.float64], spans: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner of the box of microphones from which all ways (source, axis) stay inside the spans."""
    return np.maximum(0.0, -ways).max(axis=0), spans - np.maximum(0.0, ways).max(axis=0)


def inward(
    dice: np.random.Generator, distance_m: float, spans: NDArray[np.float64], most_tries: int
) -> NDArray[np.float64]:
    """A vector of a given length within the first octant that fits the spans; at last the room's own diagonal."""
    for _ in range(most_tries):
        way = distance_m * np.abs(direction(dice))
        if np.all(way <= spans):
            return way
    return np.asarray(distance_m * spans / np.linalg.norm(spans), dtype=np.float64)


def millimetres(position: NDArray[np.float64]) -> Metres:
    """Rounded to whole millimetres, so that the plan says what is simulated."""
    x, y, z = (round(float(axis), 3) for axis in position)
    return x, y, z


def plan_room(
    draw: Callable[[int], DrawnRoom], *, bank: str, room: int, splits: tuple[str, ...], rate_hz: int
) -> PlannedRoom:
    """Draw a room and calibrate it; one that misses its RT60 at any position is drawn anew.

    Args:
        draw: Gives the room of an attempt, counted from 0, from a stream of chance named after bank, room and attempt.
        bank: Name of the bank.
        room: Number of the room within it.
        splits: Which splits may use it.
        rate_hz: Sample rate of the corpus.

    Returns:
        The room with its final absorption, order and measured T30s: `simulate` gives exactly these.

    Raises:
        RoomMissedError: If 20 rooms miss.
    """
    for attempt in range(MAX_ATTEMPTS):
        drawn = draw(attempt)
        order = image_order(drawn.size_m, drawn.rt60_s)
        absorption, t30_s = calibrate(drawn, order=order, rate_hz=rate_hz)
        if t30_s and all(abs(found / drawn.rt60_s - 1.0) <= T30_TOLERANCE for found in t30_s):
            return PlannedRoom(
                bank=bank,
                room=room,
                splits=splits,
                size_m=drawn.size_m,
                absorption=absorption,
                max_order=order,
                rt60_s=drawn.rt60_s,
                t30_s=t30_s,
                microphone_m=drawn.microphone_m,
                sources_m=drawn.sources_m,
                attempts=attempt + 1,
            )
    raise RoomMissedError(bank, room, drawn=drawn, t30_s=t30_s)


def image_order(size_m: Metres, rt60_s: float) -> int:
    """The order that has every image arriving within half of the reverberation time (30 dB of decay), at most 70.

    In a direction u an image at distance d has order ``d * sum(|u_axis| / side_axis)``, which is largest where u leans toward
    the short sides: ``d * sqrt(sum(1 / side ** 2))``.
    """
    per_metre = math.hypot(*(1.0 / side for side in size_m))
    return min(MAX_ORDER, math.ceil(0.5 * rt60_s * SOUND_M_PER_S * per_metre))


def calibrate(drawn: DrawnRoom, *, order: int, rate_hz: int) -> tuple[float, tuple[float, ...]]:
    """Find the absorption that gives the asked reverberation time.

    From Eyring's formula (for a fifth less than asked: a shoebox rings longer than its formula), then two rounds in which the
    exponent ``-ln(1 - absorption)`` is scaled by measured over asked T30 at the first position.

    Returns:
        Absorption, rounded to six decimals before it is used, and the T30 at each position, in s, with it; no T30s where a
        response has no decay to measure.
    """
    volume = math.prod(drawn.size_m)
    length, width, height = drawn.size_m
    surface = 2.0 * (length * width + width * height + height * length)
    exponent = 24.0 * math.log(10.0) / SOUND_M_PER_S * volume / (surface * 0.8 * drawn.rt60_s)
    try:
        for _ in range(CALIBRATION_ROUNDS):
            found_s = simulated(drawn, 0, absorption=absorption_of(exponent), order=order, rate_hz=rate_hz).t30_s
            exponent *= found_s / drawn.rt60_s
        absorption = absorption_of(exponent)
        positions = range(len(drawn.sources_m))
        responses = [simulated(drawn, at, absorption=absorption, order=order, rate_hz=rate_hz) for at in positions]
    except NoDecayError:
        return absorption_of(exponent), ()
    return absorption, tuple(response.t30_s for response in responses)


def absorption_of(exponent: float) -> float:
    """Energy absorption for Eyring's exponent, kept off the walls that absorb nothing or all."""
    return round(min(max(-math.expm1(-exponent), 0.001), 0.999), 6)


def simulate(room: PlannedRoom, *, rate_hz: int) -> tuple[Response, ...]:
    """The responses of a planned room, one for each source position, the same bits whatever the environment says of threads."""
    drawn = DrawnRoom(room.size_m, room.rt60_s, room.microphone_m, room.sources_m)
    return tuple(
        simulated(drawn, position, absorption=room.absorption, order=room.max_order, rate_hz=rate_hz)
        for position in range(len(room.sources_m))
    )


def simulated(drawn: DrawnRoom, position: int, *, absorption: float, order: int, rate_hz: int) -> Response:
    """Simulate one position and measure its response; the tail after 60 dB of decay is cut.

    Raises:
        NoDecayError: If the response is all direct sound.
    """
    with pinned_constants():
        box = pyroomacoustics.ShoeBox(
            drawn.size_m, fs=rate_hz, materials=pyroomacoustics.Material(absorption), max_order=order
        )
        box.add_microphone(drawn.microphone_m)
        box.add_source(drawn.sources_m[position])
        box.compute_rir()
    whole = np.asarray(box.rir[0][0], dtype=np.float64)
    travel_s = math.dist(drawn.microphone_m, drawn.sources_m[position]) / SOUND_M_PER_S
    direct_sample = round(travel_s * rate_hz) + FILTER_TAPS // 2
    decay_db = energy_decay_db(whole[direct_sample:])
    heard = direct_sample + int(np.searchsorted(-decay_db, 60.0))
    wave = whole[: max(heard, direct_sample + FILTER_TAPS)].astype(np.float32)
    return Response(
        wave=wave,
        direct_sample=direct_sample,
        t30_s=measured_t30_s(wave, direct_sample=direct_sample, rate_hz=rate_hz),
        direct_to_reverberant_db=direct_to_reverberant_db(wave, direct_sample=direct_sample, rate_hz=rate_hz),
    )


@contextlib.contextmanager
def pinned_constants() -> Iterator[None]:
    """Hold pyroomacoustics' global settings at ours, and give back what was there."""
    before = {name: pyroomacoustics.constants.get(name) for name in PINNED}
    try:
        for name, value in PINNED.items():
            pyroomacoustics.constants.set(name, value)
        yield
    finally:
        for name, value in before.items():
            pyroomacoustics.constants.set(name, value)
