"""What the headers of MPEG audio say, by the tables of ISO/IEC 11172-3 and 13818-3, and streams that are put together by hand."""

import io
import struct

import pytest

from corpus_builder.audio.errors import ChannelError, TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.mpeg_frames import (
    Frames,
    Part,
    alike,
    check_promises,
    first_frame,
    mpeg_frames,
    own_header,
    shape_of,
)


@pytest.mark.parametrize(
    ("head", "size", "num_samples", "rate_hz", "channels", "layer", "generation", "side"),
    [
        ("fffb9000", 417, 1152, 44_100, 2, 3, 1, 32),  # 128 kbit/s
        ("fffb92c0", 418, 1152, 44_100, 1, 3, 1, 17),  # with a byte of padding
        ("fffb5440", 192, 1152, 48_000, 2, 3, 1, 32),  # 64 kbit/s, joint stereo
        ("fff38000", 208, 576, 22_050, 2, 3, 2, 17),  # 64 kbit/s
        ("fff388c0", 288, 576, 16_000, 1, 3, 2, 9),
        ("ffe380c0", 417, 576, 11_025, 1, 3, 2, 9),  # MPEG-2.5
        ("ffe38800", 576, 576, 8_000, 2, 3, 2, 17),
        ("fffda400", 576, 1152, 48_000, 2, 2, 1, 32),  # 192 kbit/s
        ("fff518c0", 72, 1152, 16_000, 1, 2, 2, 9),  # 8 kbit/s
        ("ffffc200", 420, 384, 44_100, 2, 1, 1, 0),  # 384 kbit/s, padded by four bytes
        ("fff7e480", 512, 384, 24_000, 2, 1, 2, 0),  # 256 kbit/s
    ],
)
def test_a_frames_size_and_samples_follow_from_its_header(
    head, size, num_samples, rate_hz, channels, layer, generation, side
):
    assert shape_of(bytes.fromhex(head)) == (size, num_samples, rate_hz, channels, layer, generation, side)


@pytest.mark.parametrize(
    "head", ["fffb00c0", "fffbf0c0", "fffb9cc0", "fff990c0", "ffeb90c0", "fefb90c0", "ffdb90c0", "fffb90"]
)
def test_what_is_no_header_of_a_frame_is_none(head):
    """Free format, bit rate 15, rate 3, layer 0, version 1, no sync word, too short."""
    assert shape_of(bytes.fromhex(head)) is None


def test_every_value_of_the_last_four_bits_is_a_frame_of_the_same_shape():
    """Copyright, original, and emphasis, of which one value is reserved and decoders take it."""
    shapes = [shape_of(bytes((0xFF, 0xFB, 0x90, 0xC0 | bits))) for bits in range(16)]
    assert shapes == [(417, 1152, 44_100, 1, 3, 1, 17)] * 16


def test_frames_of_one_stream_have_one_rate_layer_and_generation_and_any_bit_rate():
    shapes = {
        name: shape_of(bytes.fromhex(name))
        for name in ("fff388c0", "fff318c0", "fff38800", "fff384c0", "fff588c0", "fffb98c0")
    }
    first = shapes["fff388c0"]
    assert [alike(first, shape) for shape in shapes.values()] == [True, True, True, False, False, False]
    assert not alike(first, shape_of(bytes.fromhex("ffe384c0")))  # 12 kHz


def xing(flags, *, shape, mark=b"Xing", promised=77, lame=b"LAME3.100", delay=576, padding=1000, side=b""):
    frame = bytes.fromhex("fff388c0") + side.ljust(shape.side_bytes, b"\0") + mark + struct.pack(">I", flags)
    frame += struct.pack(">I", promised) * (flags & 1) + b"\1\2\3\4" * (flags >> 1 & 1) + b"\5" * 100 * (flags >> 2 & 1)
    frame += b"\6" * 4 * (flags >> 3 & 1)
    return frame + lame.ljust(21, b"\0") + (delay << 12 | padding).to_bytes(3)


def test_the_header_of_an_encoder_has_its_frames_its_delay_and_its_padding():
    shape = shape_of(bytes.fromhex("fff388c0"))
    for flags in range(16):
        for mark in (b"Xing", b"Info"):
            found = own_header(xing(flags, shape=shape, mark=mark), shape, first=5)
            assert found == Part(5, 5, promised=77 if flags & 1 else 0, delay=576, padding=1000)
    assert own_header(xing(1, shape=shape, lame=b""), shape, first=0) == Part(0, 0, promised=77, delay=0)
    assert own_header(xing(1, shape=shape, mark=b"Xinh"), shape, first=0) is None
    assert (
        own_header(xing(1, shape=shape, side=b"\0\0\1"), shape, first=0) is None
    )  # audio that happens to hold the word
    fraunhofer = bytes(36) + b"VBRI" + bytes(6) + struct.pack(">I", 9) + struct.pack(">I", 321)
    assert own_header(fraunhofer, shape, first=2) == Part(2, 2, promised=321, delay=None)


def test_the_samples_of_a_part_are_without_delay_and_padding_where_its_header_says_them():
    assert Part(2, 12, delay=576, padding=1000).span(576) == (0, 5760)  # nothing is promised
    assert Part(2, 12, promised=10, delay=576, padding=1000).span(576) == (576 + 529, 5760 - 1000 + 529)
    assert Part(2, 12, promised=10, delay=576, padding=100).span(576) == (1105, 5760)
    assert Part(2, 4, promised=10, delay=576, padding=1000).span(576) == (1105, 1105)
    assert Part(2, 3, promised=10, delay=576).span(576) == (576, 576)
    assert Part(2, 12, promised=10, delay=0).span(576) == (529, 5760)
    assert Part(2, 12, promised=10).span(576) == (0, 5760)  # Fraunhofer's header says no delay
    frames = Frames(
        shape_of(bytes.fromhex("fff388c0")), parts=[Part(0, 3), Part(3, 13, promised=10, delay=576, padding=1000)]
    )
    assert frames.num_samples == 3 * 576 + 5760 - 576 - 1000


def test_a_part_that_has_fewer_frames_than_promised_says_how_many_samples_of_how_many():
    frames = Frames(shape_of(bytes.fromhex("fff388c0")), parts=[Part(0, 3, promised=4), Part(3, 8, promised=6)])
    check_promises(frames, name="a.mp3")  # one more may be the header itself
    frames.parts[1].promised = 7
    with pytest.raises(
        TruncatedAudioError, match=rf"a\.mp3 ends after {8 * 576} samples where {10 * 576} are promised"
    ):
        check_promises(frames, name="a.mp3")


MONO, STEREO = bytes.fromhex("fff518c0") + b"m" * 68, bytes.fromhex("fff51800") + b"s" * 68
TAG = b"TAG" + b"x" * 125


def found(content, *, start=0):
    return mpeg_frames(io.BytesIO(content), start, len(content), name="a.mp2")


def test_a_stream_is_counted_frame_by_frame_over_junk_tags_and_zeros():
    frames = found(b"junk" + 3 * MONO + TAG + 2 * MONO + bytes(9) + MONO)
    assert list(frames.offsets) == [4, 76, 148, 348, 420, 501]
    assert set(frames.sizes) == {72}
    assert [(part.first, part.end) for part in frames.parts] == [(0, 3), (3, 5), (5, 6)]
    assert frames.num_samples == 6 * 1152
    assert list(found(3 * MONO + b"\1\2 and words").offsets) == [0, 72, 144]
    assert list(found(3 * MONO, start=72).offsets) == [72, 144]
    assert list(found(3 * MONO + bytes(500) + 3 * MONO).offsets) == [0, 72, 144, 716, 788, 860]


@pytest.mark.parametrize(("first", "then"), [(MONO, STEREO), (STEREO, MONO)])
def test_a_stream_that_changes_its_channels_is_refused(first, then):
    with pytest.raises(ChannelError, match=r"a\.mp2 changes its number of channels on the way"):
        found(3 * first + then)


def test_damage_within_a_stream_is_named_with_its_place():
    with pytest.raises(UnreadableAudioError, match="damaged: 5 bytes from byte 216 on belong to no frame"):
        found(3 * MONO + b"xxxxx" + 4 * MONO)
    with pytest.raises(TruncatedAudioError, match=rf"ends after {3 * 1152} samples within a frame"):
        found(3 * MONO + MONO[:-1])
    with pytest.raises(UnreadableAudioError, match="it has no frame of MPEG audio"):
        found(b"words " * 50)


def test_the_first_frame_is_found_across_windows_but_not_behind_a_megabyte_of_junk():
    for junk in ((1 << 16) - 1, (1 << 16) - 3, 1 << 16, (1 << 20) - 1):
        assert list(found(b"j" * junk + 3 * MONO).offsets)[:1] == [junk]
    with pytest.raises(UnreadableAudioError, match="no frame"):
        found(b"j" * (1 << 20) + 3 * MONO)


def test_a_sync_word_counts_only_if_frames_follow_it():
    lone = bytes.fromhex("fff518c0") + b"n" * 100
    twice = MONO + bytes.fromhex("fff518c0") + b"n" * 100
    source = io.BytesIO(lone + 4 * MONO)
    assert first_frame(source, 0, 400, len(lone) + 288) == len(lone)
    source = io.BytesIO(twice + 4 * MONO)
    assert first_frame(source, 0, 400, len(twice) + 288) == len(twice)
    stereo = shape_of(bytes.fromhex("fff514c0"))  # of another rate
    assert first_frame(io.BytesIO(4 * MONO), 0, 288, 288, like=stereo) is None


def test_what_follows_junk_and_is_of_another_stream_is_junk_too():
    other = bytes.fromhex("fff514c0") + b"o" * 44  # 24 kHz
    assert list(found(3 * MONO + b"xx" + 4 * other).offsets) == [0, 72, 144]


def test_a_header_without_frames_is_no_part():
    shape = shape_of(bytes.fromhex("fff388c0"))
    head = xing(1, shape=shape, promised=0, lame=b"").ljust(288, b"\0")
    audio = bytes.fromhex("fff388c0") + b"m" * 284
    frames = found(head + TAG + head + 3 * audio)
    assert [(part.first, part.end) for part in frames.parts] == [(0, 3)]
    assert list(frames.offsets) == [2 * 288 + 128 + 288 * at for at in range(3)]
    with pytest.raises(TruncatedAudioError, match=rf"ends after {2 * 576} samples where {9 * 576} are promised"):
        found(xing(1, shape=shape, promised=9, lame=b"").ljust(288, b"\0") + 2 * audio + audio[:-1])
