"""Which frames of an MP3 a decoder gets, from lists of frames made by hand: nothing is decoded."""

from __future__ import annotations

import ctypes
import io
import sys
from array import array

import pytest

from corpus_builder.audio.formats.mpeg_frames import Frames, Part, Shape
from corpus_builder.audio.formats.mpeg_stream import LargeView, no_warnings, part_view, runs

SHAPE = Shape(size=115, num_samples=576, rate_hz=16_000, num_channels=1, layer=3, generation=2, side_bytes=9)
HEAD = 6 + 9  # bytes of a frame that are not of the reservoir: its header with a checksum, and its side information


def frames_of(sizes: list[int], *, begin: int = 1000, gap_before: int | None = None) -> Frames:
    offsets, place = [], begin
    for number, size in enumerate(sizes):
        place += 7 if number == gap_before else 0
        offsets.append(place)
        place += size
    return Frames(SHAPE, array("Q", offsets), array("I", sizes), [])


@pytest.mark.parametrize(
    ("held", "before"),
    [(511, 1), (510, 2), (256, 2), (255, 3), (100, 6), (0, 16)],
)
def test_a_stretch_begins_four_frames_and_511_bytes_of_their_data_early(held: int, before: int) -> None:
    """Frame 20 is wanted: 4 frames for the overlap, then as many as hold 511 bytes without their heads, at most to the first."""
    frames = frames_of([HEAD + held] * 30)
    view, drop = part_view(io.BytesIO(), frames, Part(0, 30), start=20 * 576 + 5)
    first = max(20 - 4 - before, 0)
    assert view.pieces == [(1000 + first * (HEAD + held), 1000 + 30 * (HEAD + held))]
    assert drop == (20 - first) * 576 + 5


def test_a_part_is_decoded_from_its_own_first_frame_on_and_to_its_own_end() -> None:
    frames = frames_of([HEAD + 100] * 40)
    size = HEAD + 100
    for start in (0, 576, 4 * 576):
        view, drop = part_view(io.BytesIO(), frames, Part(10, 25), start=start)
        assert (view.pieces, drop) == ([(1000 + 10 * size, 1000 + 25 * size)], start)
    view, drop = part_view(io.BytesIO(), frames, Part(10, 40), start=20 * 576)
    assert (view.pieces, drop) == ([(1000 + 20 * size, 1000 + 40 * size)], 10 * 576)
    view, drop = part_view(io.BytesIO(), frames, Part(10, 40, promised=30, delay=47, padding=600), start=20 * 576)
    assert (view.pieces, drop) == ([(1000 + 21 * size, 1000 + 40 * size)], 10 * 576), "the delay of 47 + 529 is a frame"


def test_frames_that_follow_one_another_are_one_stretch_and_what_is_between_others_is_left_out() -> None:
    frames = frames_of([10, 20, 30, 40, 50], gap_before=2)
    assert list(runs(frames, 0, 5)) == [(1000, 1030), (1037, 1157)]
    assert list(runs(frames, 1, 4)) == [(1010, 1030), (1037, 1107)]
    assert list(runs(frames, 2, 3)) == [(1037, 1067)]


def test_a_view_says_that_it_has_more_and_gives_nothing_but_an_empty_tag_there() -> None:
    view = LargeView(io.BytesIO(bytes(range(20))), [(2, 5), (9, 12)])
    assert view.read(100) == bytes([2, 3, 4, 9, 10, 11])
    assert view.read(5) == b""
    assert view.seek(0, 2) == 45 * 6, "by its number of bytes a decoder guesses the length, and reads no further"
    assert view.seek(-128, 2) == 45 * 6 - 128
    assert view.read(128) == bytes(128)
    assert view.read(3) == bytes(3)
    assert view.read(1000) == bytes(128)
    assert view.seek(-1, 1) == 45 * 6 - 129
    assert view.read(128) == b""
    assert view.seek(4) == 4
    assert view.read(1) == bytes([10])


@pytest.mark.skipif(sys.platform != "linux", reason="of other C libraries the name of the variable differs")
def test_what_c_writes_is_silenced_until_the_outermost_is_left_also_by_an_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    library = ctypes.CDLL(None)
    library.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]

    def write(text: bytes) -> None:
        library.fputs(text, ctypes.c_void_p.in_dll(library, "stderr"))

    def fail() -> None:
        with no_warnings():
            write(b"in an error;")
            raise ValueError

    write(b"before;")
    with no_warnings():
        write(b"outer;")
        with no_warnings():
            write(b"inner;")
        write(b"outer again;")
    write(b"between;")
    with pytest.raises(ValueError, match=r"^$"):
        fail()
    write(b"after;")
    assert capfd.readouterr().err == "before;between;after;"
