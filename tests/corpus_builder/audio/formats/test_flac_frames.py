"""The header of a FLAC frame, built here bit by bit with a checksum by a loop, and files whose STREAMINFO is wrong."""

import io

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.decode import read_header
from corpus_builder.audio.errors import TruncatedAudioError
from corpus_builder.audio.formats.flac_frames import coded_number, flac_view, frame_header, stream_info


def crc8(content):
    value = 0
    for byte in content:
        for bit in range(7, -1, -1):
            value = (value << 1 | byte >> bit & 1) ^ (0x107 if value & 0x80 else 0)
    for _ in range(8):
        value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value & 0xFF


def info_of(*, channels=2, block_size=4096):
    content = b"fLaC" + b"\x80\0\0\x22" + (16).to_bytes(2) + block_size.to_bytes(2) + bytes(3) + (999).to_bytes(3)
    content += (44_100 << 44 | (channels - 1) << 41 | 15 << 36 | 0x812345678).to_bytes(8) + bytes(range(16))
    return stream_info(io.BytesIO(b"tag" + content), 3)


def header(number, *, block=12, rate=9, channels=1, variable=False, extra=b"", size=4):
    head = bytes([0xFF, 0xF8 | variable, block << 4 | rate, channels << 4 | size << 1]) + chr(number).encode() + extra
    return head + bytes([crc8(head)])


def test_stream_info_has_every_number_of_its_bits():
    info = info_of(channels=6)
    assert info == (11, 4096, 999, 44_100, 6, 16, 0x812345678, bytes(range(16)))


def test_a_number_is_coded_as_utf_8_codes_a_character():
    for number in (0, 127, 128, 2047, 2048, 65_535 - 2000, 65_536, 0x10FFFF):
        code = chr(number).encode()
        assert coded_number(bytes(4) + code + b"more") == (number, 4 + len(code))
        if len(code) > 1:
            assert coded_number(bytes(4) + code[:-1]) == (None, 4)
            assert coded_number(bytes(4) + code[:-1] + b"\x41") == (None, 4)
    assert coded_number(bytes(4) + b"\xfe" + b"\x81" * 6) == (0o010101010101, 11)  # 36 bits, more than UTF-8 has
    for first in (b"\x80", b"\xbf", b"\xff"):
        assert coded_number(bytes(4) + first + b"\x80" * 8) == (None, 4)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (header(3), (3 * 4096, 4096)),
        (header(300), (300 * 4096, 4096)),
        (header(70_000, variable=True), (70_000, 4096)),
        (header(1, block=1), (4096, 192)),
        (header(1, block=2), (4096, 576)),
        (header(1, block=5), (4096, 4608)),
        (header(1, block=8), (4096, 256)),
        (header(1, block=15), (4096, 32_768)),
        (header(2, block=6, extra=b"\x63"), (8192, 100)),
        (header(2, block=7, extra=b"\x03\xe7"), (8192, 1000)),
        (header(2, rate=12, extra=b"\x10"), (8192, 4096)),
        (header(2, rate=13, extra=b"\x3e\x80"), (8192, 4096)),
        (header(2, rate=14, extra=b"\x3e\x80"), (8192, 4096)),
        (header(2, block=7, rate=14, extra=b"\x00\x09\x3e\x80"), (8192, 10)),
        (header(2, channels=8), (8192, 4096)),  # left and side, and so on: two channels
        (header(2, channels=10), (8192, 4096)),
    ],
)
def test_a_frames_header_has_its_first_sample_and_how_many(head, expected):
    assert frame_header(head + b"audio", info_of()) == expected
    assert (
        frame_header(head[:-1] + bytes([head[-1] ^ 1]) + b"audio", info_of()) is None
    )  # its checksum is of other bytes
    assert frame_header(head[:-1], info_of()) is None


@pytest.mark.parametrize(
    "head",
    [
        header(3, channels=0), header(3, channels=2), header(3, channels=11), header(3, block=0), header(3, rate=15), b"\xff\xfa" + header(3)[2:],
        b"\xff\xf8\xc9", bytes([*header(3)[:3], header(3)[3] | 1]) + header(3)[4:],
    ],
)  # fmt: skip
def test_what_cannot_be_a_frame_of_this_stream_is_none(head):
    assert frame_header(head, info_of()) is None


def coded(pcm, **options):
    stream = io.BytesIO()
    soundfile.write(stream, pcm, 16_000, format="FLAC", **options)
    return bytearray(stream.getvalue())


NOISE = np.random.default_rng(3).integers(-30_000, 30_000, (20_000, 8)).astype(np.int16)


def viewed(content, *, end=None, quick=False):
    info = stream_info(io.BytesIO(content), 0)
    assert info is not None
    return flac_view(io.BytesIO(content), info, end or len(content), name="a.flac", quick=quick)


@pytest.mark.parametrize("quick", [False, True])
def test_a_last_frame_that_is_larger_than_the_tail_that_is_read_first_is_found_too(quick):
    """Eight channels of noise: 64 KB a frame, and a STREAMINFO that says no size of frames and another length."""
    content = coded(NOISE)
    content[8 + 4 : 8 + 10] = bytes(6)
    content[8 + 14 : 8 + 18] = (5).to_bytes(4)
    view = viewed(content, quick=quick)
    assert view is not None
    assert soundfile.info(view).frames == 20_000


def test_a_flac_of_which_no_frame_is_left_is_cut_off_with_what_it_promised(tmp_path):
    content = coded(NOISE[:, 0])
    begin = bytes(content).index(b"\xff\xf8")
    path = tmp_path / "a.flac"
    path.write_bytes(content[: begin + 5])
    with pytest.raises(TruncatedAudioError, match=r"a\.flac ends after 0 samples where 20000 are promised"):
        read_header(path, name="a.flac")


def test_a_wrong_length_is_replaced_and_nothing_else():
    content = coded(NOISE[:3000, 0])
    content[8 + 13] = content[8 + 13] & 0xF0 | 0xA  # 10 * 2 ** 32 samples too many
    view = viewed(content + b"TAG of an MP3", end=len(content), quick=True)
    assert view is not None
    view.seek(0)
    assert view.read() == bytes(coded(NOISE[:3000, 0]))


def crc16(content):
    value = 0
    for byte in content:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x18005 if value & 0x8000 else 0)) & 0xFFFF
    return value


def test_a_length_beyond_32_bits_is_written_in_all_its_bits():
    """A last frame whose header has the number 3 * 2 ** 32 + 5 of a stream of variable blocks, and no length in STREAMINFO."""
    number = 3 * 2**32 + 5
    code = bytes([0xFE, *(0x80 | number >> shift & 63 for shift in range(30, -1, -6))])
    head = bytes([0xFF, 0xF9, 0xC9, 0x08]) + code
    frame = head + bytes([crc8(head)]) + b"audio"
    frame += crc16(frame).to_bytes(2)
    info = (16).to_bytes(2) + (4096).to_bytes(2) + bytes(6) + (44_100 << 44 | 15 << 36).to_bytes(8) + bytes(16)
    content = b"fLaC\x80\0\0\x22" + info + frame
    view = viewed(content)
    assert view is not None
    view.seek(8 + 10)
    assert int.from_bytes(view.read(8)) == 44_100 << 44 | 15 << 36 | number + 4096


def test_of_24_bits_too_the_md5_tells_that_a_flac_was_cut_between_two_frames():
    content = coded(NOISE[:, 0].astype(np.int32) << 16, subtype="PCM_24")
    info = stream_info(io.BytesIO(content), 0)
    assert info is not None
    starts = [
        place
        for place in range(len(content))
        if content[place : place + 2] == b"\xff\xf8" and frame_header(bytes(content[place : place + 16]), info)
    ]
    cut = content[: starts[-1]]
    with pytest.raises(TruncatedAudioError, match=r"ends after 16384 samples where 20000 are promised"):
        viewed(cut)
