"""The search itself, on frames that are put together by hand: which pairs, at which lag, how alike and how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.audit.fingerprint_search import Library, beats_other_orders, most_wrong

if TYPE_CHECKING:
    from pathlib import Path


def frames(seed: int, count: int) -> Any:
    """Frames of a recording that is like no other."""
    return np.random.RandomState(seed).randint(1, 1 << 32, count, dtype=np.uint64).astype(np.uint32)


def library_of(path: Path, *recordings: Any) -> Library:
    library = Library(path)
    assert [library.add(one) for one in recordings] == list(range(len(recordings)))
    return library


def matches(path: Path, *recordings: Any, groups: Any = None) -> list[Any]:
    return sorted(library_of(path, *recordings).matches(groups), key=lambda one: (one.first, one.second))


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_common_stretch_is_found_at_its_lag_with_its_length_and_share_of_wrong_bits(
    is_swapped: bool, tmp_path: Path
) -> None:
    """267 frames of 11.625 ms that begin at frame 67 of one and 100 of the other; every second has one wrong bit of 32.

    Aligned, both have 394 frames, in six blocks of 66 or 65: four are the same, one of frame 66 alone and one of five frames are not.
    """
    one = frames(1, 400)
    common = one[67:334].copy()
    common[::2] ^= np.uint32(1 << 20)
    other = np.concatenate([frames(2, 100), common, frames(3, 60)])
    pair = (other, one) if is_swapped else (one, other)
    (found,) = matches(tmp_path / "library", frames(4, 50), *pair)
    assert (found.first, found.second, found.wrong) == (1, 2, 1 / 64)
    assert found.lag_s == pytest.approx((-33 if is_swapped else 33) * 0.011625)
    assert found.seconds == round((66 * 3 + 65) * 0.011625 + 0.37, 2)


def test_each_pair_is_found_once_and_of_one_group_none(tmp_path: Path) -> None:
    same, other = frames(1, 300), frames(2, 300)
    recordings = (same, other, same[20:], np.concatenate([frames(3, 90), same]), other)
    assert [(one.first, one.second) for one in matches(tmp_path / "all", *recordings)] == [
        (0, 2),
        (0, 3),
        (1, 4),
        (2, 3),
    ]
    groups = np.array([7, 4, 7, 2, 4])
    found = matches(tmp_path / "groups", *recordings, groups=groups)
    assert [(one.first, one.second, round(one.lag_s / 0.011625)) for one in found] == [(0, 3, 90), (2, 3, 110)]


@pytest.mark.parametrize(("count", "is_found"), [(64, True), (63, False)])
def test_the_shortest_recordings_that_are_compared_have_64_frames(count: int, is_found: bool, tmp_path: Path) -> None:
    short = frames(1, count)
    assert bool(matches(tmp_path / "library", short, short)) == is_found


def test_frames_of_silence_count_for_nothing(tmp_path: Path) -> None:
    """Of 200 frames 137 are silent in one or the other: what is left is too little."""
    one, other = frames(1, 200), frames(1, 200)
    one[:70], other[133:] = 0, 0
    assert matches(tmp_path / "library", one, other) == []
    one[69] = other[69]
    assert len(matches(tmp_path / "more", one, other)) == 1


def test_nothing_is_found_in_a_library_without_frames(tmp_path: Path) -> None:
    assert list(Library(tmp_path / "none").matches()) == []
    assert matches(tmp_path / "empty", frames(1, 0), frames(1, 0)) == []


def test_the_share_of_wrong_bits_that_is_allowed_is_ten_deviations_below_a_half() -> None:
    shares = most_wrong(np.array([0, 63, 64, 128, 256, 1024]))
    assert shares.tolist() == pytest.approx([-1, -1, 0.2, 0.5 - 0.15 * 2**0.5, 0.35, 0.425])


def test_steady_frames_agree_as_well_in_any_order() -> None:
    steady, changing = np.full(256, 0xABCDEF01, dtype=np.uint32), frames(5, 256)
    assert beats_other_orders(changing, changing)
    assert not beats_other_orders(steady, steady)
    silent = changing.copy()
    silent[128:] = 0
    assert beats_other_orders(silent, changing), "by the frames that both have"
    """With the first b bits random and the others steady, another order differs in b / 64 of all bits; 9 * 0.015 of them are needed."""
    for bits, beats in ((8, False), (10, True)):
        mask = np.uint32((1 << bits) - 1)
        partly = (changing & mask) | (steady & ~mask)
        assert beats_other_orders(partly, partly) == beats
