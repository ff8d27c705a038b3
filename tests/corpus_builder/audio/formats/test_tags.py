"""Where tags begin and end, with sizes that have a bit in every byte."""

import io
import struct

import pytest

from corpus_builder.audio.formats.mpeg_frames import after_tag
from corpus_builder.audio.formats.tags import stream_end, stream_start, tag_size
from corpus_builder.audio.formats.views import View, patched

AUDIO = b"\xff\xf5\x18\xc0" + b"a" * 96


def id3(size, *, flags=0, major=4):
    """The head of an ID3v2 tag: its size is in four bytes of seven bits."""
    return b"ID3" + bytes([major, 0, flags, size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])


def ape(items, *, has_header):
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, len(items) + 32, 1, has_header << 31) + bytes(8)
    return (b"APETAGEX" + bytes(24) if has_header else b"") + items + footer


def lyrics(text):
    body = b"LYRICSBEGIN" + text
    return body + b"%06d" % len(body) + b"LYRICS200"


TAG = b"TAG" + b"x" * 125


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (id3(0), 10), (id3(257), 267), (id3(257, flags=0x10), 277), (id3(257, flags=0xE0), 267), (id3(2**21 + 2**14 + 129), 2**21 + 2**14 + 139),
        (id3(0x0FFFFFFF), 0x0FFFFFFF + 10), (id3(5, major=0xFF), 0), (id3(5)[:9], 0), (b"ID3\x04\0\0\0\0\x80\x01", 0), (b"TAG" + bytes(9), 0),
    ],
)  # fmt: skip
def test_the_size_of_an_id3_tag_is_with_its_head_and_its_footer(head, size):
    assert tag_size(head) == size


def test_a_stream_begins_after_all_its_tags():
    content = id3(300) + bytes(300) + id3(5, flags=0x10) + bytes(15) + AUDIO
    assert stream_start(io.BytesIO(content), content[:64]) == len(content) - len(AUDIO)
    assert stream_start(io.BytesIO(AUDIO), AUDIO) == 0


@pytest.mark.parametrize(
    "tags",
    [
        b"", TAG, TAG + TAG, ape(b"i" * 40, has_header=True), ape(b"i" * 40, has_header=False), lyrics(b"la" * 30),
        ape(b"i" * 4, has_header=True) + lyrics(b"la") + TAG, lyrics(b"la" * 70) + ape(b"", has_header=False) + TAG,
    ],
    ids=["none", "v1", "v1 twice", "ape", "ape of one end", "lyrics", "all", "all, in another order"],
)  # fmt: skip
def test_a_stream_ends_before_all_its_tags(tags):
    content = AUDIO + tags
    assert stream_end(io.BytesIO(content), 0, len(content)) == len(AUDIO)


def test_a_tag_that_calls_itself_larger_than_the_file_ends_the_stream_where_it_begins():
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, 10**6, 1, 0) + bytes(8)
    content = AUDIO + footer
    assert stream_end(io.BytesIO(content), 7, len(content)) == 7
    assert stream_end(io.BytesIO(AUDIO), 0, len(AUDIO)) == len(AUDIO)
    assert stream_end(io.BytesIO(AUDIO + b"xxxx00LYRICS200"), 0, len(AUDIO) + 15) == len(AUDIO) + 15


@pytest.mark.parametrize(
    ("frame", "place"),
    [
        (TAG, 1000 + 128), (ape(b"i" * 8, has_header=True), 1000 + 32), (b"APETAGEX" + struct.pack("<II", 2000, 72) + bytes(16), 1000 + 104),
        (id3(30), 1000 + 40), (b"\0\0\0\xff", None), (b"\xff\xf5", None), (b"junk", None), (b"", None),
    ],
)  # fmt: skip
def test_between_two_frames_a_tag_is_passed_over_and_nothing_else(frame, place):
    assert after_tag(frame, 1000) == place


def test_a_view_is_its_pieces_one_after_another_wherever_it_is_read():
    source = io.BytesIO(bytes(range(100)))
    pieces = [(10, 20), b"abc", (50, 53), b"", (0, 5), b"z"]
    whole = bytes(range(10, 20)) + b"abc" + bytes(range(50, 53)) + bytes(range(5)) + b"z"
    view = View(source, pieces)
    assert view.size == len(whole)
    assert view.read() == whole
    assert view.read(1) == b""
    for place in range(len(whole) + 1):
        for size in (0, 1, 4, 100):
            assert view.seek(place) == place
            assert view.read(size) == whole[place : place + size]
            assert view.tell() == min(place + size, len(whole))
    assert (view.seek(-3, 2), view.read(2), view.seek(-1, 1), view.read()) == (
        len(whole) - 3,
        whole[-3:-1],
        len(whole) - 2,
        whole[-2:],
    )
    assert view.seek(-5) == 0
    assert View(io.BytesIO(b"short"), [(0, 3), (4, 9)]).read() == b"shot"  # as far as the file goes
    assert patched(source, 4, b"xyz", size=50).read() == bytes(range(4)) + b"xyz" + bytes(range(7, 50))
