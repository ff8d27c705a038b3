"""Positions near walls and corners, of several sources each at its own height and distance."""

import math

import numpy as np
import pytest

from corpus_builder.rooms.placement import (
    HeightMissedError,
    Heights,
    RoomTooSmallError,
    check_distance,
    other_places,
    other_places_at,
    place,
    place_at,
    way_to,
)

SIZE_M = (4.0, 5.0, 3.0)
CORNERS = [(x, y, z) for x in (0.4, 3.6) for y in (0.4, 4.6) for z in (0.4, 2.6)]


def assert_inside(position, size_m=SIZE_M):
    assert all(0.299 <= at <= side - 0.299 for at, side in zip(position, size_m, strict=True))
    assert all(at == round(at, 3) for at in position)


@pytest.mark.parametrize("microphone_m", CORNERS)
def test_further_positions_of_a_source_keep_off_every_wall_at_their_distance(microphone_m):
    rng = np.random.default_rng(1)
    found = list(other_places(rng, size_m=SIZE_M, microphone_m=microphone_m, distance_m=1.5, most_tries=400))
    assert 10 < len(found) < 200  # an eighth of the sphere is inside, and a little more
    for source in found:
        assert_inside(source)
        assert math.dist(microphone_m, source) == pytest.approx(1.5, abs=0.002)


@pytest.mark.parametrize("microphone_m", CORNERS)
def test_further_positions_at_a_height_have_it_too(microphone_m):
    rng = np.random.default_rng(1)
    options = {"size_m": SIZE_M, "microphone_m": microphone_m, "distance_m": 1.8, "most_tries": 200}
    found = list(other_places_at(rng, 1.7, **options))
    assert 10 < len(found) < 130
    for source in found:
        assert_inside(source)
        assert source[2] == 1.7
        assert math.dist(microphone_m, source) == pytest.approx(1.8, abs=0.002)
    assert (
        list(other_places_at(rng, 1.5 + math.copysign(1.2, 1.5 - microphone_m[2]), **options)) == []
    )  # 2.3 m above or below


def test_a_way_to_a_height_is_as_long_as_it_should_be_or_none_and_in_every_direction():
    rng = np.random.default_rng(2)
    ways = [way_to(rng, 2.0, microphone_m=1.2, distance_m=1.0) for _ in range(200)]
    assert {round(way[2], 9) for way in ways} == {0.8}
    assert {round(math.hypot(*way[:2]), 9) for way in ways} == {0.6}
    assert len({(way[0] > 0, way[1] > 0) for way in ways}) == 4
    for height_m in (2.3, 0.1):
        assert way_to(rng, height_m, microphone_m=1.2, distance_m=1.0) is None


def test_each_source_has_its_own_height_and_distance():
    heights = Heights(1.1, (0.9, 1.6, 2.2))
    for seed in range(5):
        microphone, sources = place_at(np.random.default_rng(seed), heights, size_m=SIZE_M, distances_m=[0.7, 1.9, 1.4])
        assert microphone[2] == 1.1
        assert [source[2] for source in sources] == [0.9, 1.6, 2.2]
        assert [math.dist(microphone, source) for source in sources] == pytest.approx([0.7, 1.9, 1.4], abs=0.002)
    assert [Heights().are_free, heights.are_free, Heights(1.1).are_free, Heights(None, (1.0,)).are_free] == [
        True,
        False,
        False,
        False,
    ]


def test_long_distances_at_given_heights_are_found_toward_one_corner():
    """Four sources 2.8 m away in 2.4 by 2.4 m: only if all directions are of one quarter is there a microphone for them."""
    corners = set()
    for seed in range(4):
        microphone, sources = place_at(
            np.random.default_rng(seed), Heights(1.2, (1.2,) * 4), size_m=(3.0, 3.0, 2.4), distances_m=[2.8] * 4
        )
        for source in sources:
            assert_inside(source, (3.0, 3.0, 2.4))
        corners |= {(source[0] > microphone[0], source[1] > microphone[1]) for source in sources}
    assert len(corners) > 1


def test_long_distances_are_put_toward_any_corner():
    corners = set()
    for seed in range(12):
        microphone, sources = place(
            np.random.default_rng(seed), size_m=(3.0, 3.0, 2.4), distances_m=[3.7, 3.6], most_tries=50
        )
        for source in sources:
            assert_inside(source, (3.0, 3.0, 2.4))
            assert math.dist(microphone, source) == pytest.approx(math.dist(microphone, sources[0]), abs=0.102)
        corners.add(tuple(at > other for at, other in zip(sources[0], microphone, strict=True)))
    assert len(corners) > 3


def test_a_microphone_is_drawn_by_each_axis_of_its_own():
    placed = [place(np.random.default_rng(seed), size_m=(6.0, 6.0, 6.0), distances_m=[0.5])[0] for seed in range(100)]
    correlation = np.corrcoef(np.array(placed).T)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.4


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        (Heights(2.9), "a microphone at 2.9 m and sources 0.5 m away at any height, 2 m away at any height; change"),
        (Heights(None, (1.0, 2.95)), "a microphone anywhere and sources 0.5 m away at 1 m, 2 m away at 2.95 m; change"),
    ],
)
def test_heights_that_fit_nowhere_are_named_each_with_its_distance(heights, said):
    with pytest.raises(HeightMissedError) as missed:
        place_at(np.random.default_rng(0), heights, size_m=(4.0, 4.5, 3.0), distances_m=[0.5, 2.0], most_tries=20)
    assert said in str(missed.value)
    assert str(missed.value).startswith("a room of 4 x 4.5 x 3 m with 0.3 m free along its walls")


def test_a_distance_is_too_long_from_just_above_the_rooms_inner_diagonal():
    longest_m = math.dist((0, 0, 0), (3.4, 4.4, 2.4))
    check_distance(SIZE_M, longest_m - 1e-6)
    with pytest.raises(RoomTooSmallError, match=r"at most 6\.06 m .* but 6.1 m is requested"):
        check_distance(SIZE_M, 6.1)
    with pytest.raises(RoomTooSmallError, match=r"at most 0\.00 m"):
        check_distance((4.0, 0.6, 3.0), 0.1)
