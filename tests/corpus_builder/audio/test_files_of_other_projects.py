"""Kinds of files that test suites of other projects hold: as both ffmpeg and libsndfile read them, or refused in one line."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import soundfile

from corpus_builder.audio.decode import read_header, read_stretch
from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 48_000
PCM = (speechlike(1.0, seed=7) * 60000).clip(-32000, 32000).astype(np.int16)
FLOATS = (PCM[None] / 32768).astype(np.float32)


def coded(form, subtype, pcm=PCM, rate_hz=RATE_HZ, **options):
    stream = io.BytesIO()
    soundfile.write(stream, pcm, rate_hz, format=form, subtype=subtype, **options)
    return stream.getvalue()


def by_pyav(form, codec, samples, *, layout="mono", sample_format="s16", **options):
    """A file of samples of shape (channel, time)."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=form) as container:
        track = container.add_stream(codec, rate=RATE_HZ, options=options)
        track.layout, track.codec_context.format, track.bit_rate = layout, sample_format, 64_000
        interleaved = np.ascontiguousarray(samples.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(interleaved, format=sample_format.removesuffix("p"), layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        for piece in av.AudioResampler(format=sample_format, layout=layout, rate=RATE_HZ).resample(frame):
            for packet in track.encode(piece):
                container.mux(packet)
        for packet in track.encode(None):
            container.mux(packet)
    return stream.getvalue()


def by_ffmpeg(content, kind):
    with av.open(io.BytesIO(content), format=kind) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


@pytest.fixture
def wave_of(tmp_path: Path):
    def read(content: bytes, suffix: str, **options):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        header = read_header(path, name=path.name)
        wave = read_stretch(path, name=path.name, rate_hz=header.rate_hz, **options)
        assert wave.size == header.num_frames
        return wave

    return read


@pytest.mark.parametrize(("count", "layout"), [(8, "7.1"), (16, "hexadecagonal")])
def test_eight_and_more_channels_in_planes_are_each_read(wave_of, count, layout):
    samples = np.stack([np.roll(PCM, 100 * number) for number in range(count)])[:, :6000]
    content = by_pyav("wv", "wavpack", samples, layout=layout, sample_format="s16p")
    for number in (0, count - 1):
        assert np.array_equal(wave_of(content, ".wv", channel=number) * 32768, samples[number])


def test_a_flac_of_32_bits_is_read_and_told_when_cut(wave_of):
    samples = (PCM[None].astype(np.int64) * 65_000).clip(-(2**31), 2**31 - 1).astype(np.int32)
    content = by_pyav("flac", "flac", samples, sample_format="s32", strict="experimental")
    assert np.array_equal(wave_of(content, ".flac") * 2**31, samples[0])
    for cut in (1, 500, len(content) // 2):
        with pytest.raises(TruncatedAudioError):
            wave_of(content[:-cut], ".flac")


def test_a_container_behind_an_id3_tag_is_whole(wave_of):
    tag = b"ID3\x03\0\0\0\0\x01\x00" + bytes(128)
    content = by_pyav("tta", "tta", PCM[None])
    assert np.array_equal(wave_of(tag + content, ".tta") * 32768, PCM)
    with pytest.raises(TruncatedAudioError):
        wave_of((tag + content)[:-300], ".tta")


def ogg_pages(content):
    places, place = [], 0
    while place < len(content):
        places.append(place)
        table = content[place + 27 : place + 27 + content[place + 26]]
        place += 27 + len(table) + sum(table)
    return [content[start:end] for start, end in zip(places, [*places[1:], place], strict=True)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_junk_between_the_pages_of_an_ogg_is_passed_over_and_a_lost_page_is_not(wave_of, subtype):
    content = coded("OGG", subtype, np.tile(PCM, 3))
    pages = ogg_pages(content)
    assert len(pages) > 3
    expected = wave_of(content, ".ogg")
    for number in (1, len(pages) - 1):
        junk = b"".join((*pages[:number], b"no page" * 99, *pages[number:]))
        assert np.array_equal(wave_of(junk, ".ogg"), expected)
        assert np.array_equal(soundfile.read(io.BytesIO(junk))[0], expected)
    with pytest.raises(UnreadableAudioError, match="is damaged"):
        wave_of(b"".join((*pages[:-2], b"no page" * 99, pages[-1])), ".ogg")
    with pytest.raises(UnreadableAudioError, match="is damaged"):
        wave_of(b"".join((*pages[:-1], b"no page" * 99)), ".ogg")


def mp3_frames(content):
    """Offset and size of each frame of MPEG-1 layer III at 48 kHz."""
    kbits, place = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320), 0
    while place < len(content):
        assert content[place : place + 2] == b"\xff\xfb"
        size = 144_000 * kbits[content[place + 2] >> 4] // RATE_HZ
        yield place, size
        place += size


def test_an_mp3_is_not_shortened_by_a_header_that_does_not_say_its_delay(wave_of):
    content = coded("MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE")
    sizes = [size for _, size in mp3_frames(content)]
    own = struct.pack(">4sHHHIIHHHH", b"VBRI", 1, 1105, 80, len(content), len(sizes) - 1, 0, 1, 1, 1)
    content = content[:4] + bytes(32) + own + bytes(sizes[0] - 36 - len(own)) + content[sizes[0] :]
    expected = by_ffmpeg(content, "mp3")
    wave = wave_of(content, ".mp3")
    assert wave.size == expected.size == 1152 * (len(sizes) - 1)
    assert np.abs(wave - expected).max() < 1 / 32768


def test_every_value_of_emphasis_and_copyright_is_a_frame_of_mp3(wave_of):
    content = bytearray(coded("MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT"))
    expected = wave_of(bytes(content), ".mp3")
    for number, (place, _) in enumerate(mp3_frames(bytes(content))):
        content[place + 3] = content[place + 3] & 0xF0 | number & 15
    assert np.abs(wave_of(bytes(content), ".mp3") - expected).max() < 1e-6


def test_layer_ii_is_read_to_its_last_frame(wave_of):
    content = by_pyav("mp2", "mp2", PCM[None])
    expected = by_ffmpeg(content, "mp3")
    assert np.abs(wave_of(content, ".mp2") - expected / 32768).max() <= 1.5 / 32768


def test_noise_with_the_look_of_one_frame_is_no_mp3(wave_of):
    noise = np.random.default_rng(1).integers(1, 255, 9000).astype(np.uint8).tobytes()
    header = bytes((0xFF, 0xFB, 0x90, 0x00))  # 417 bytes
    with pytest.raises(UnreadableAudioError, match="no frame of MPEG audio"):
        wave_of(noise[:3000] + header + noise[:413] + b"\0" + noise, ".mp3")


def test_a_coding_without_a_decoder_and_a_header_without_a_rate_are_one_line(wave_of):
    content = by_pyav("matroska", "flac", PCM[None])
    with pytest.raises(UnreadableAudioError, match="has a coding that is not read"):
        wave_of(content.replace(b"A_FLAC", b"A_NEW1"), ".mka")
    adts = bytearray(by_pyav("adts", "aac", FLOATS, sample_format="fltp"))
    place = 0
    while place < len(adts):
        size = (adts[place + 3] & 3) << 11 | adts[place + 4] << 3 | adts[place + 5] >> 5
        adts[place + 2] |= 15 << 2
        place += size
    with pytest.raises(UnreadableAudioError):
        wave_of(bytes(adts), ".aac")


def test_a_header_that_leads_to_before_or_far_behind_the_file_is_one_line(wave_of):
    wma = bytearray(by_pyav("asf", "wmav2", FLOATS, sample_format="fltp"))
    wma[148:156] = b"\xff" * 8  # a size of its header
    w64 = bytearray(coded("W64", "PCM_16"))
    w64[56:64] = b"\xff" * 6 + b"\x7f\0"  # that of its chunk `fmt`
    for content, suffix in ((wma, ".wma"), (w64, ".w64")):
        with pytest.raises(UnreadableAudioError, match="cannot be decoded"):
            wave_of(bytes(content), suffix)


@pytest.mark.parametrize(
    ("form", "mark", "gap", "size"),
    [
        ("CAF", b"data", 4, b"\xff" * 8), ("CAF", b"data", 4, bytes(8)), ("AU", b".snd", 8, b"\x7f\xff\xff\xff"),
        ("AU", b".snd", 8, b"\xff" * 4), ("RF64", b"ds64", 16, b"\xff" * 8), ("W64", b"data\xf3", 16, b"\xff" * 7 + b"\x7f"),
        ("AIFF", b"SSND", 4, b"\xff" * 4), ("WAV", b"data", 4, b"\xff" * 4), ("WAV", b"data", 4, (2 * PCM.size + 1).to_bytes(4, "little")),
    ],
)  # fmt: skip
def test_a_size_that_says_nothing_or_a_byte_more_loses_no_sample(wave_of, form, mark, gap, size):
    content = bytearray(coded(form, "PCM_16"))
    place = content.index(mark) + gap
    content[place : place + len(size)] = size
    assert np.array_equal(wave_of(bytes(content), ".wav") * 32768, PCM)


def test_a_sample_of_which_half_is_missing_is_told_with_the_right_numbers(wave_of):
    with pytest.raises(TruncatedAudioError, match=f"ends after {PCM.size - 1} samples where {PCM.size} are promised"):
        wave_of(coded("WAV", "PCM_16")[:-1], ".wav")


def test_joined_flacs_and_mp3_of_a_free_format_are_refused_by_name(wave_of, tmp_path):
    one, other = coded("FLAC", "PCM_16"), coded("FLAC", "PCM_16", PCM[:9000])
    for content in (one + one, one + other, other + one):
        with pytest.raises(UnreadableAudioError, match="it is several FLAC files, joined"):
            wave_of(content, ".flac")
    content = bytearray(coded("MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT"))
    for place, _ in [*mp3_frames(bytes(content))]:
        content[place + 2] &= 0x0F
    with pytest.raises(UnreadableAudioError, match="it is of a free format"):
        wave_of(bytes(content), ".mp3")
