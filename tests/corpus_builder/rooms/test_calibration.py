import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyroomacoustics
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.distortions.reverb import reverberate
from corpus_builder.plan.materials.simulated_rooms import RoomTask, planned_room
from corpus_builder.rooms.acoustics import NoDecayError, direct_to_reverberant_db, loudest_rival, measured_t30_s
from corpus_builder.rooms.calibration import (
    MAX_CALIBRATED,
    DrawnRoom,
    RoomMissedError,
    WantedRoom,
    absorption_of,
    calibrate,
    draw_room,
    eyring_exponent,
    fault_of,
    image_order,
    other_positions,
    plan_room,
    rival_fault,
    simulate,
    simulated,
)
from corpus_builder.rooms.image_source import impulse
from corpus_builder.rooms.placement import WALL_GAP_M, HeightMissedError, Heights, RoomTooSmallError, place, place_at
from corpus_builder.rooms.rir_bank import read_bank, read_response, samples_digest, write_bank, write_room
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError
from manifests.plan.rooms import PlannedRays
from manifests.recipe.rooms import RoomBank
from tests.oracles import reverberation
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

RATE = 16_000
few = settings(max_examples=60, derandomize=True, deadline=None)


def drawn_room(seed, attempt=0, *, sources=2):
    """A room by chance, of the sizes and times that a recipe would ask for."""
    rng = np.random.default_rng([seed, attempt])
    size_m = tuple(round(float(side), 3) for side in rng.uniform([3, 3, 2.4], [8, 6, 3.5]))
    distances_m = [float(distance) for distance in rng.uniform(0.5, 3, sources)]
    wanted = WantedRoom(size_m, round(float(rng.uniform(0.2, 0.7)), 3), distances_m)
    return draw_room(rng, wanted, rate_hz=RATE)


@pytest.fixture(scope="module")
def rooms():
    return [
        plan_room(
            lambda attempt, seed=seed: drawn_room(seed, attempt), bank="b", room=seed, splits=("train",), rate_hz=RATE
        )
        for seed in range(6)
    ]


@few
@given(
    size_m=st.tuples(*[st.floats(0.8, 9.0)] * 3),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4),
    seed=st.integers(0, 9999),
)
def test_every_position_keeps_off_the_walls_and_at_its_distance(size_m, shares, seed):
    longest_m = math.dist((0, 0, 0), [side - 2 * WALL_GAP_M for side in size_m])
    distances_m = [share * longest_m * (1 - 1e-9) for share in shares]
    microphone, sources = place(np.random.default_rng(seed), size_m=size_m, distances_m=distances_m, most_tries=50)
    for position in (microphone, *sources):
        assert all(0.299 <= at <= side - 0.299 for at, side in zip(position, size_m, strict=True))
        assert all(at == round(at, 3) for at in position)
    for source, distance_m in zip(sources, distances_m, strict=True):
        assert math.dist(microphone, source) == pytest.approx(distance_m, abs=0.002)


def test_directions_are_even_over_the_sphere():
    rng = np.random.default_rng(1)
    ways = np.array(
        [
            np.subtract(*reversed(placed))
            for _ in range(600)
            for placed in [flat(place(rng, size_m=(6, 6, 6), distances_m=[1]))]
        ]
    )
    assert np.abs(ways.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose((ways**2).mean(axis=0), 1 / 3, atol=0.05)


def flat(placed):
    microphone, (source,) = placed
    return microphone, source


def test_a_room_too_small_for_the_asked_distance_is_told_in_one_line():
    with pytest.raises(RoomTooSmallError) as told:
        place(np.random.default_rng(0), size_m=(3.0, 3.0, 2.4), distances_m=[1.0, 5.0])
    message = str(told.value)
    assert "3 x 3 x 2.4 m" in message
    assert "3.84 m" in message
    assert "5 m is requested" in message
    assert "\n" not in message
    with pytest.raises(RoomTooSmallError):
        place(np.random.default_rng(0), size_m=(3.0, 0.5, 2.4), distances_m=[0.1])


def test_every_positions_t30_lies_within_15_percent_of_the_asked_one(rooms):
    for room in rooms:
        for response, planned_s in zip(simulate(room, rate_hz=RATE), room.t30_s, strict=True):
            found_s = reverberation.t30_s(response.wave[response.direct_sample :], RATE)
            assert found_s == pytest.approx(room.rt60_s, rel=0.15)
            assert response.t30_s == planned_s  # what the plan says is what is built
            assert response.t30_s == pytest.approx(found_s, rel=1e-6)


def test_the_direct_path_arrives_at_the_direct_sample_with_its_amplitude(rooms):
    for room in rooms:
        for response, source in zip(simulate(room, rate_hz=RATE), room.sources_m, strict=True):
            distance_m = math.dist(room.microphone_m, source)
            arrival = distance_m / 343.0 * RATE + 40  # half the fractional-delay filter of 81 taps
            assert abs(response.direct_sample - arrival) <= 0.5
            at = np.arange(response.wave.size)
            sinc = np.sinc(at - arrival) * (np.abs(at - arrival) <= 4)
            amplitude = np.dot(response.wave, sinc) / np.dot(sinc, sinc)
            assert amplitude == pytest.approx(1 / distance_m, rel=0.35)  # early reflections may come close


def test_one_wall_reflects_what_it_does_not_absorb():
    """A source 2 m away in a hall far larger: its only early reflection is the floor's, by geometry after 4 m."""
    height_m = 3**0.5
    wave = impulse((40, 40, 40), (20, 20, height_m), (22, 20, height_m), absorption=0.36, order=1, rate_hz=RATE)

    def energy(distance_m):
        at = round(distance_m / 343.0 * RATE) + 40
        return float(np.sum(wave[at - 30 : at + 31] ** 2))

    assert energy(4.0) / energy(2.0) == pytest.approx((1 - 0.36) * (2 / 4) ** 2, rel=0.05)


def test_reverberant_speech_is_in_step(rooms):
    speech = speechlike(2.5, seed=3)
    for room in rooms:
        for response in simulate(room, rate_hz=RATE):
            heard = reverberate(speech, response.wave, direct_sample=response.direct_sample)
            assert heard.shape == speech.shape
            assert abs(gcc_phat_lag(speech, np.rint(32768 * heard))) <= 1


def test_farther_sources_have_less_direct_sound():
    drawn = DrawnRoom((6.0, 5.0, 3.0), 0.5, (1.0, 1.0, 1.5), ((1.5, 1.0, 1.5), (3.0, 3.0, 1.5)))
    near, far = (simulated(drawn, at, absorption=0.25, order=30, rate_hz=RATE) for at in (0, 1))
    assert near.direct_to_reverberant_db > far.direct_to_reverberant_db + 5


def test_direct_to_reverberant_ratio_and_t30_of_a_made_decay_are_the_known_ones():
    time = np.arange(RATE) / RATE
    decay = np.exp(-time * math.log(1000) / 0.4) * np.where(np.arange(RATE) % 2, 1.0, -1.0)
    assert measured_t30_s(decay.astype(np.float32), direct_sample=0, rate_hz=RATE) == pytest.approx(0.4, rel=1e-3)
    response = np.zeros(1000, np.float32)
    response[[100, 300, 400]] = 1.0, 0.5, 0.5
    assert direct_to_reverberant_db(response, direct_sample=100, rate_hz=RATE) == pytest.approx(10 * math.log10(2))
    assert direct_to_reverberant_db(response[:200], direct_sample=100, rate_hz=RATE) is None


def test_a_response_without_a_decay_has_no_t30():
    for response in (np.zeros(1000), np.eye(1, 1000)[0], np.ones(1000)):
        with pytest.raises(NoDecayError):
            measured_t30_s(response.astype(np.float32), direct_sample=0, rate_hz=RATE)


def test_image_order_covers_half_of_the_reverberation_time():
    """Counted over the lattice: each image room that sound reaches within the time has its order within the cap."""
    size_m, rt60_s = (3.0, 4.0, 2.5), 0.2
    reach_m = 0.5 * rt60_s * 343.0
    order = image_order(size_m, rt60_s)
    for x in range(14):
        for y in range(14):
            for z in range(16):
                if math.dist((0, 0, 0), (3 * x, 4 * y, 2.5 * z)) <= reach_m:
                    assert x + y + z <= order
    assert image_order(size_m, 3.0) == 70


@pytest.mark.parametrize(("size_m", "rt60_s"), [((8.0, 6.0, 2.5), 0.6), ((4.0, 3.0, 2.4), 0.3)])
def test_two_rounds_of_calibration_bring_a_room_to_its_reverberation_time(size_m, rt60_s):
    """Without them these rooms ring 28 % too long and 7 % too short: what is found by drawing anew is not calibration."""
    drawn = DrawnRoom(size_m, rt60_s, (1.2, 1.1, 1.2), ((2.5, 2.0, 1.5),))
    absorption, (response,) = calibrate(drawn, order=image_order(size_m, rt60_s), rate_hz=RATE)
    assert response.t30_s == pytest.approx(rt60_s, rel=0.01)
    assert absorption == round(absorption, 6)


def dead_hall():
    """So large and so short of ringing that no absorption will do, and cheap to find out."""
    return DrawnRoom((60.0, 50.0, 20.0), 0.1, (10.0, 10.0, 2.0), ((11.0, 10.0, 2.0), (12.0, 10.0, 2.0)))


def test_a_room_that_misses_is_drawn_again_by_its_next_number():
    asked = []

    def draw(attempt):
        asked.append(attempt)
        return drawn_room(1) if attempt == 2 else dead_hall()

    room = plan_room(draw, bank="b", room=0, splits=("train",), rate_hz=RATE)
    assert asked == [0, 1, 2]
    assert room.attempts == 3


def test_a_bank_whose_rooms_all_miss_is_an_error_in_one_line():
    asked = []

    def draw(attempt):
        asked.append(attempt)
        return dead_hall()

    with pytest.raises(
        RoomMissedError, match=r"bank 'hall', room 7: none of 20 drawn rooms .* requested 0.1 s, found "
    ) as told:
        plan_room(draw, bank="hall", room=7, splits=("train",), rate_hz=RATE)
    assert len(asked) == MAX_CALIBRATED
    assert "\n" not in str(told.value)


def test_a_room_whose_reflections_drown_its_direct_sound_is_not_used():
    """Mid-height and mid-width: the echoes of opposite walls arrive together and add up."""
    drowned = DrawnRoom((6.0, 3.0, 3.0), 0.25, (1.0, 1.5, 1.5), ((4.5, 1.5, 1.5),))
    with pytest.raises(RoomMissedError, match=r"none of 20 .* times as strong as the direct sound"):
        plan_room(lambda _: drowned, bank="hall", room=0, splits=("train",), rate_hz=RATE)


def test_a_drowned_source_is_placed_anew_at_its_distance():
    rng = np.random.default_rng(2)
    settled = [draw_room(rng, WantedRoom((5.0, 4.0, 2.6), 0.4, [2.5] * 3), rate_hz=RATE) for _ in range(4)]
    assert all(room.rival <= 0.85 for room in settled)
    for room in settled:
        assert all(math.dist(room.microphone_m, source) == pytest.approx(2.5, abs=0.002) for source in room.sources_m)
        planned = plan_room(lambda _, room=room: room, bank="hall", room=0, splits=("train",), rate_hz=RATE)
        assert all(response.rival <= 0.95 for response in simulate(planned, rate_hz=RATE))


def test_a_room_that_is_all_echo_is_told_without_calibrating_it():
    asked = []

    def draw(attempt):
        asked.append(attempt)
        return DrawnRoom((3.0, 3.0, 2.4), 0.8, (0.5, 0.5, 0.5), ((2.5, 2.5, 1.5),), rival=1.7)

    with pytest.raises(
        RoomMissedError, match=r"none of 100 drawn rooms .* a reflection 1.70 times as strong .*distance_m"
    ):
        plan_room(draw, bank="hall", room=0, splits=("train",), rate_hz=RATE)
    assert len(asked) == 100


def test_a_lone_echo_shows_at_half_its_strength_once_whitened():
    """From the series of ``sqrt((1 + a z) / (1 + a / z))``: 1 - a^2 / 4 at 0, a / 2 + a^3 / 16 at the echo."""
    response = np.zeros(400, np.float32)
    response[50], response[200] = 1.0, 0.4
    expected = (0.2 + 0.4**3 / 16) / (1 - 0.4**2 / 4)
    assert loudest_rival(response, direct_sample=50) == pytest.approx(expected, rel=0.02)
    assert loudest_rival(response, direct_sample=200) == pytest.approx(1 / expected, rel=0.02)


SIMULATE = """
import hashlib, json, sys
from corpus_builder.rooms.calibration import simulate
from manifests.plan.rooms import PlannedRoom
room = PlannedRoom.parse(json.loads(sys.argv[1]), where="test")
print(*(hashlib.sha256(response.wave.tobytes()).hexdigest() for response in simulate(room, rate_hz=16000)))
"""


def test_responses_have_the_same_bits_whatever_the_environment_says_of_threads(rooms):
    expected = [samples_digest(response.wave) for response in simulate(rooms[0], rate_hz=RATE)]
    plain = json.dumps(rooms[0].model_dump(mode="json"))
    for threads in ("1", "2"):
        environment = os.environ | {"PRA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        root = Path(__file__).parents[3]
        run = subprocess.run(
            [sys.executable, "-c", SIMULATE, plain],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.split() == expected


def test_other_users_of_pyroomacoustics_find_its_settings_as_they_were(rooms):
    pyroomacoustics.constants.set("num_threads", 3)
    pyroomacoustics.constants.set("c", 340.0)
    try:
        responses = simulate(rooms[0], rate_hz=RATE)
        assert pyroomacoustics.constants.get("num_threads") == 3
        assert pyroomacoustics.constants.get("c") == 340.0
    finally:
        pyroomacoustics.constants.set("c", 343.0)
        pyroomacoustics.constants.set("num_threads", 1)
    for response, again in zip(responses, simulate(rooms[0], rate_hz=RATE), strict=True):
        np.testing.assert_array_equal(response.wave, again.wave)


def test_a_bank_is_read_as_it_was_written(rooms, tmp_path):
    rows = [row for room in reversed(rooms) for row in write_room(tmp_path, room, rate_hz=RATE)]
    write_bank(tmp_path, "b", rows)
    found = read_bank(tmp_path, "b")
    assert list(found) == [f"b-{room}-{position}" for room in range(6) for position in range(2)]
    assert not list(tmp_path.glob(".*"))
    for room in rooms:
        for position, response in enumerate(simulate(room, rate_hz=RATE)):
            row = found[f"b-{room.room}-{position}"]
            np.testing.assert_array_equal(read_response(tmp_path, row), response.wave)
            np.testing.assert_array_equal(np.load(tmp_path / f"{row.name}.npy", allow_pickle=False), response.wave)
            assert (row.direct_sample, row.t30_s) == (response.direct_sample, response.t30_s)
            assert row.direct_to_reverberant_db == response.direct_to_reverberant_db


def saved(array, **flags):
    stream = io.BytesIO()
    np.save(stream, array, **flags)
    return stream.getvalue()


def test_a_damaged_or_foreign_response_is_refused(rooms, tmp_path):
    (row, *_) = rows = write_room(tmp_path, rooms[0], rate_hz=RATE)
    write_bank(tmp_path, "b", rows)
    path = tmp_path / f"{row.name}.npy"
    good = path.read_bytes()
    changed = bytearray(good)
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DigestMismatchError, match="SHA-256"):
        read_response(tmp_path, row)
    pickled = saved(np.array([{"a": 1}] * row.num_samples, dtype=object), allow_pickle=True)
    for content in (
        good[:-4],
        good + b"1234",
        b"",
        b"no npy",
        pickled,
        saved(np.zeros(row.num_samples)),
        saved(np.zeros((2, 2))),
    ):
        path.write_bytes(content)
        with pytest.raises(BadDocumentError):
            read_response(tmp_path, row)
    path.unlink()
    with pytest.raises(MissingFileError):
        read_response(tmp_path, row)
    with pytest.raises(MissingFileError, match="stillroom build"):
        read_bank(tmp_path, "other")
    (tmp_path / "bad.jsonl").write_text('{"name": "x"}\n')
    with pytest.raises(BadDocumentError, match=r"bad\.jsonl:1"):
        read_bank(tmp_path, "bad")


def hybrid_task(room, **heights):
    wanted = RoomBank.model_validate(
        {
            "rooms": 9,
            "method": "hybrid",
            "size_m": [[3, 3, 2.4], [6, 5, 3]],
            "rt60_s": {"uniform": [0.2, 0.5]},
            "distance_m": {"uniform": [0.5, 2]},
            "positions": 2,
            **heights,
        }
    )
    return RoomTask(11, RATE, "hall", wanted, room, ("train",))


@pytest.fixture(scope="module")
def hybrids():
    return [planned_room(hybrid_task(room)) for room in range(3)]


def test_a_hybrid_rooms_t30_lies_within_15_percent_and_its_direct_sound_is_in_step(hybrids):
    speech = speechlike(2.5, seed=5)
    for room in hybrids:
        assert room.rays is not None
        assert room.max_order == 3
        for response, source in zip(simulate(room, rate_hz=RATE), room.sources_m, strict=True):
            wave = response.wave
            assert reverberation.t30_s(wave[response.direct_sample :], RATE) == pytest.approx(room.rt60_s, rel=0.15)
            assert abs(response.direct_sample - math.dist(room.microphone_m, source) / 343 * RATE - 40) <= 0.5
            heard = reverberate(speech, wave, direct_sample=response.direct_sample)
            assert abs(gcc_phat_lag(speech, np.rint(32768 * heard))) <= 1


def test_a_hybrid_room_has_as_much_reverberation_as_the_image_sources_of_the_same_walls():
    drawn = DrawnRoom((5.0, 4.0, 2.8), 0.4, (1.5, 1.2, 1.2), ((3.2, 2.1, 1.6),))
    rays = PlannedRays(count=8000, radius_m=0.3, scattering=0.1, seed=3)
    image = simulated(drawn, 0, absorption=0.25, order=40, rate_hz=RATE)
    hybrid = simulated(replace(drawn, rays=rays), 0, absorption=0.25, order=3, rate_hz=RATE)
    assert hybrid.direct_to_reverberant_db == pytest.approx(image.direct_to_reverberant_db, abs=3.5)
    assert hybrid.direct_sample == image.direct_sample


def test_a_hybrid_response_has_the_same_bits_whatever_was_simulated_before(hybrids):
    first, second = hybrids[0], hybrids[1]
    expected = [response.wave for response in simulate(first, rate_hz=RATE)]
    pyroomacoustics.random.seed(8)
    chance = pyroomacoustics.random.get_rng()
    state = chance.bit_generator.state
    simulate(second, rate_hz=RATE)
    again = [response.wave for response in simulate(first, rate_hz=RATE)]
    for one, other in zip(expected, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert pyroomacoustics.random.get_rng() is chance
    assert chance.bit_generator.state == state
    other_seed = first.rays.model_copy(update={"seed": first.rays.seed ^ 1})
    (changed, *_) = simulate(first.model_copy(update={"rays": other_seed}), rate_hz=RATE)
    assert changed.wave.size != expected[0].size or np.any(changed.wave != expected[0])


def test_hybrid_responses_have_the_same_bits_in_another_process(hybrids):
    expected = [samples_digest(response.wave) for response in simulate(hybrids[0], rate_hz=RATE)]
    plain = json.dumps(hybrids[0].model_dump(mode="json"))
    environment = os.environ | {"PRA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", SIMULATE, plain]
    root = Path(__file__).parents[3]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == expected


@few
@given(
    size_m=st.tuples(st.floats(2.5, 9.0), st.floats(2.5, 9.0), st.floats(2.3, 4.0)),
    microphone_m=st.none() | st.floats(0.5, 1.9),
    source_m=st.none() | st.floats(0.5, 1.9),
    distances_m=st.lists(st.floats(1.45, 2.0), min_size=1, max_size=3),
    seed=st.integers(0, 9999),
)
def test_microphone_and_sources_stand_at_the_asked_heights_and_distances(
    size_m, microphone_m, source_m, distances_m, seed
):
    heights = Heights(microphone_m, () if source_m is None else (source_m,) * len(distances_m))
    microphone, sources = place_at(np.random.default_rng(seed), heights, size_m=size_m, distances_m=distances_m)
    if microphone_m is not None:
        assert microphone[2] == pytest.approx(microphone_m, abs=0.001)
    for source, distance_m in zip(sources, distances_m, strict=True):
        assert math.dist(microphone, source) == pytest.approx(distance_m, abs=0.002)
        if source_m is not None:
            assert source[2] == pytest.approx(source_m, abs=0.001)
    for position in (microphone, *sources):
        assert all(0.299 <= at <= side - 0.299 for at, side in zip(position, size_m, strict=True))


def test_a_planned_room_has_the_heights_of_its_bank():
    heights = {"microphone_height_m": {"uniform": [0.6, 1.0]}, "source_height_m": {"choice": [1.2, 1.7]}}
    wanted = hybrid_task(0, **heights).wanted.model_copy(update={"method": None})
    for number in range(3):
        room = planned_room(RoomTask(11, RATE, "hall", wanted, number, ("train",)))
        assert 0.6 <= room.microphone_m[2] <= 1.0
        assert all(source[2] in {1.2, 1.7} for source in room.sources_m)


def test_heights_that_fit_nowhere_are_told_in_one_line():
    with pytest.raises(HeightMissedError, match=r"microphone at 2 m and sources 0.5 m away at 0.5 m; change") as told:
        place_at(np.random.default_rng(0), Heights(2.0, (0.5,)), size_m=(4, 4, 3), distances_m=[0.5], most_tries=50)
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"microphone_height_m: 2\.9 m does not fit under the highest ceiling, 3 m"):
        hybrid_task(0, microphone_height_m=2.9)


def test_a_source_that_is_moved_keeps_its_own_distance_and_height():
    rng = np.random.default_rng(4)
    for heights, levels in ((Heights(1.2, (1.0, 1.5)), {1.5}), (Heights(), None)):
        wanted = WantedRoom((5.0, 4.0, 2.8), 0.4, [0.8, 1.6], heights)
        found = list(other_positions(rng, wanted, 1, (2.0, 2.0, 1.2)))
        assert len(found) > 20
        assert {round(math.dist((2.0, 2.0, 1.2), source), 2) for source in found} == {1.6}
        assert (
            len({source[2] for source in found}) > 10 if levels is None else {source[2] for source in found} == levels
        )


def test_absorption_begins_from_eyrings_formula_for_20_percent_less_and_stays_within_bounds():
    """A room of 60 m3 and 94 m2 whose formula is to give 0.4 s: 0.161 * 60 / (94 * 0.4) = 0.257."""
    assert eyring_exponent((5.0, 4.0, 3.0), 0.5) == pytest.approx(0.257, abs=0.0005)
    assert [absorption_of(exponent) for exponent in (0.0, 0.0005, 0.7, 50.0)] == [0.001, 0.001, 0.503415, 0.999]


def test_a_reflection_may_be_0_95_times_as_strong_as_the_direct_sound():
    assert rival_fault(0.95) is None
    assert rival_fault(0.951) == "a reflection 0.95 times as strong as the direct sound"


@pytest.mark.parametrize("rate_hz", [8_000, 24_000])
def test_at_any_rate_sound_arrives_by_its_distance_and_rooms_are_drawn_by_what_is_at_that_place(rate_hz):
    wave = impulse((40, 40, 40), (20, 20, 20), (23.43, 20, 20), absorption=0.9, order=0, rate_hz=rate_hz)
    assert np.abs(wave).argmax() == rate_hz // 100 + 40  # 10 ms
    wanted = WantedRoom((5.0, 4.0, 2.6), 0.4, [0.7, 1.1])
    assert draw_room(np.random.default_rng(2), wanted, rate_hz=rate_hz).rival <= 0.85


def test_a_response_is_cut_where_it_has_fallen_by_60_db():
    drawn = DrawnRoom((5.0, 4.0, 3.0), 0.4, (1.0, 1.2, 1.5), ((2.5, 2.0, 1.4),))
    found = simulated(drawn, 0, absorption=0.3, order=40, rate_hz=RATE)
    assert (found.wave.size - found.direct_sample) / RATE == pytest.approx(found.t30_s, rel=0.15)


def test_every_number_of_the_rays_and_the_position_changes_a_hybrid_response():
    rays = PlannedRays(count=600, radius_m=0.4, scattering=0.1, seed=3)
    drawn = DrawnRoom((4.0, 3.0, 2.5), 0.3, (1.0, 1.0, 1.2), ((2.5, 2.0, 1.4),) * 2, rays=rays)
    waves = [simulated(drawn, position, absorption=0.3, order=3, rate_hz=RATE).wave for position in range(2)]
    for changed in ({"count": 700}, {"radius_m": 0.6}, {"scattering": 0.3}, {"seed": 4}):
        other = replace(drawn, rays=rays.model_copy(update=changed))
        waves.append(simulated(other, 0, absorption=0.3, order=3, rate_hz=RATE).wave)
    assert len({wave.tobytes() for wave in waves}) == 6


def test_an_image_source_room_that_is_all_direct_sound_has_no_response_and_one_fault():
    walls = DrawnRoom((60.0, 50.0, 40.0), 0.05, (30.0, 25.0, 20.0), ((31.0, 25.0, 20.0),))
    absorption, responses = calibrate(walls, order=0, rate_hz=RATE)
    assert responses == ()
    assert 0.001 <= absorption <= 0.999
    assert fault_of(responses, rt60_s=0.05) == "no decay to measure"
