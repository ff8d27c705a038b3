"""How long files are and where they end: counted, whatever their headers say, and held against a second decoder (ffmpeg's, by PyAV)."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import soundfile

from corpus_builder.audio import sound as sound_module
from corpus_builder.audio.decode import file_blocks, read_header, read_stretch, sound_of
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.errors import EmptyAudioError, TruncatedAudioError, UnfitAudioError, UnreadableAudioError
from corpus_builder.audio.formats.flac_frames import is_whole
from corpus_builder.audio.sound import Sound, blocks, joined
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000
PCM = (speechlike(0.5, seed=0) * 60000).clip(-32000, 32000).astype(np.int16)
OTHER = (speechlike(0.4, seed=1) * 60000).clip(-32000, 32000).astype(np.int16)


def coded(pcm, form, subtype=None, **options):
    stream = io.BytesIO()
    soundfile.write(stream, pcm, RATE_HZ, format=form, subtype=subtype, **options)
    return stream.getvalue()


def mp3(pcm=PCM, **options):
    return coded(pcm, "MP3", "MPEG_LAYER_III", **{"bitrate_mode": "VARIABLE", "compression_level": 0.6} | options)


@pytest.fixture
def put(tmp_path):
    def put_(content: bytes, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return put_


def whole(path):
    header = read_header(path, name=path.name)
    wave = read_stretch(path, name=path.name, rate_hz=header.rate_hz)
    assert wave.size == header.num_frames
    return wave


def by_ffmpeg(content, kind):
    with av.open(io.BytesIO(content), format=kind) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def frame_sizes(content):
    """Sizes of the frames of an MPEG-2 layer III stream at 16 kHz, by a loop of its own."""
    kbits, sizes, place = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160), [], 0
    while content[place : place + 1] == b"\xff":
        sizes.append(72_000 * kbits[content[place + 2] >> 4] // RATE_HZ + (content[place + 2] >> 1 & 1))
        place += sizes[-1]
    assert place == len(content)
    return sizes


def without_its_header(content):
    return content[frame_sizes(content)[0] :]


ID3 = b"ID3\x03\x00\x00\x00\x00\x0e\x10" + b"APIC" + bytes(1804)
APE = b"APETAGEX" + struct.pack("<III", 2000, 40, 0) + bytes(12) + bytes(8)
TAG = b"TAG" + bytes(125)


def test_an_mp3_without_a_header_is_as_long_as_its_frames(put, capfd):
    content = without_its_header(mp3())
    wave = whole(put(content, "a.mp3"))
    expected = by_ffmpeg(content, "mp3")
    assert wave.size == expected.size == 576 * len(frame_sizes(content))
    assert soundfile.info(io.BytesIO(content)).frames != wave.size, (
        "libsndfile's guess is right by chance: choose another wave"
    )
    assert np.abs(wave - expected).max() < 1 / 32768
    capfd.readouterr()
    whole(put(content, "a.mp3"))
    assert capfd.readouterr().err == ""


def test_an_mp3_with_a_header_is_what_libsndfile_reads(put):
    for options in ({}, {"bitrate_mode": "CONSTANT"}, {"compression_level": 0.9}):
        content = mp3(**options)
        wave = whole(put(content, "a.mp3"))
        assert wave.size == PCM.size
        assert (
            np.abs(wave - soundfile.read(io.BytesIO(content))[0]).max() < 1e-6
        )  # libmpg123 does not round alike every time


@pytest.mark.parametrize("headed", [True, False])
def test_tags_and_junk_around_an_mp3_change_nothing(put, headed, capfd):
    content = mp3() if headed else without_its_header(mp3())
    expected = whole(put(content, "a.mp3"))
    junk = np.random.default_rng(3).integers(0, 256, 5000).astype(np.uint8).tobytes().replace(b"\xff", b"\xfe")
    for around in (
        ID3 + content,
        junk + content,
        content + TAG,
        content + APE + TAG,
        ID3 + content + bytes(300),
        content + junk,
    ):
        wave = whole(put(around, "a.mp3"))
        assert wave.size == expected.size
        assert np.abs(wave - expected).max() < 1e-6
    assert capfd.readouterr().err == ""


def test_junk_is_passed_over_where_a_name_says_that_there_is_mpeg_audio_in_whatever_case(put):
    content = b"\x00no audio" * 50 + without_its_header(mp3())
    expected = read_header(put(without_its_header(mp3()), "a.mp3"), name="a").num_frames
    for name in ("A.MP3", "a.mp2", "a.Mpga"):
        assert read_header(put(content, name), name="a").num_frames == expected
    for name, known in (("talks/u.1.mp3", True), ("talks.mp3/u", False), ("u.wav", False)):
        if known:
            with sound_of(content, name=name) as found:
                assert found.num_frames == expected
        else:
            with (
                pytest.raises(UnreadableAudioError, match="of no audio format that is read"),
                sound_of(content, name=name),
            ):
                pass
    with pytest.raises(
        UnreadableAudioError, match=r"^talk cannot be decoded: its content is of no audio format that is read"
    ):
        read_header(put(content, "a.mp3.dat"), name="talk")


def test_joined_mp3s_are_read_one_after_another(put):
    one, other = mp3(), mp3(OTHER)
    expected = np.concatenate([whole(put(one, "one.mp3")), whole(put(other, "other.mp3"))])
    for both in (one + other, one + TAG + ID3 + other):
        path = put(both, "both.mp3")
        assert np.abs(whole(path) - expected).max() < 1e-6
        cut = read_stretch(path, name="x", start=7000, num_frames=3000, rate_hz=RATE_HZ)
        assert np.abs(cut - expected[7000:10_000]).max() < 1 / 32768


def test_an_mp3_that_was_cut_off_or_damaged_is_refused(put):
    content = mp3()
    sizes = frame_sizes(content)
    bare = without_its_header(content)
    for cut in (
        content[: len(content) * 6 // 10],
        content[: sum(sizes[:-3])],
        content[:-1],
        bare[:-1],
        bare[: len(bare) // 2 + 3],
    ):
        with pytest.raises(TruncatedAudioError, match="was cut off"):
            read_header(put(cut, "a.mp3"), name="a.mp3")
    at_a_frame = bare[: sum(sizes[1:6])]
    assert whole(put(at_a_frame, "a.mp3")).size == 5 * 576, "a stream that ends properly is not called cut off"
    place = sum(sizes[1:5])
    with pytest.raises(UnreadableAudioError, match=r"is damaged: .* bytes from byte"):
        read_header(put(bare[:place] + bytes([1] * 40) + bare[place + 40 :], "a.mp3"), name="a.mp3")


def test_damaged_frames_of_an_mp3_make_the_decoder_write_nothing(put, capfd):
    content = bytearray(without_its_header(mp3(compression_level=0.2)))
    chance, place = np.random.default_rng(0), 0
    for size in frame_sizes(bytes(content)):
        for at in chance.integers(6, size, 12):
            content[place + at] ^= 0xA5
        place += size
    path = put(bytes(content), "a.mp3")
    soundfile.read(path)
    assert "mpg123" in capfd.readouterr().err, "the test's own file is not damaged enough"
    whole(path)
    assert capfd.readouterr().err == ""


def with_length(content, length):
    """A FLAC file whose STREAMINFO has another number of samples."""
    return content[:21] + bytes([content[21] & 0xF0 | length >> 32]) + (length & 0xFFFFFFFF).to_bytes(4) + content[26:]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_S8"])
@pytest.mark.parametrize("length", [0, 4000, 8000, 16_000, 1 << 35])
def test_a_flac_is_as_long_as_its_last_frame_says(put, length, subtype):
    content = coded(PCM, "FLAC", subtype)
    expected, _ = soundfile.read(io.BytesIO(content))
    path = put(with_length(content, length), "a.flac")
    assert np.array_equal(whole(path), expected)
    assert np.array_equal(
        read_stretch(path, name="x", start=5000, num_frames=2000, rate_hz=RATE_HZ), expected[5000:7000]
    )
    assert np.array_equal(whole(put(path.read_bytes() + TAG, "b.flac")), expected)


@pytest.mark.parametrize("length", [0, 4000, 8000, 16_000])
@pytest.mark.parametrize("cut", [1, 2, 500, 4000])
def test_a_flac_that_was_cut_off_is_refused_whatever_its_header_says(put, cut, length):
    path = put(with_length(coded(PCM, "FLAC"), length)[:-cut], "a.flac")
    with pytest.raises(TruncatedAudioError):
        read_stretch(path, name="a", rate_hz=RATE_HZ)
    with pytest.raises(TruncatedAudioError):
        read_header(path, name="a")


def test_a_flac_cut_between_two_frames_is_told_by_its_md5(put):
    content = coded(np.resize(PCM, 8192), "FLAC")  # two frames, with the same first four bytes
    place = content.rindex(content[content.index(b"\xff\xf8") :][:4])
    with pytest.raises(TruncatedAudioError, match="ends after 4096 samples where 8192 are promised"):
        read_header(put(content[:place], "a.flac"), name="a")
    assert whole(put(content + b"no tag" * 50, "a.flac")).size == 8192


def test_a_flac_frame_is_whole_by_a_loop_over_the_bits_of_its_crc():
    for size in (1, 2, 3, 15, 16, 63, 64, 65, 200, 1000):
        content, value = np.random.default_rng(size).bytes(size), 0
        for byte in content:
            value ^= byte << 8
            for _ in range(8):
                value = (value << 1 ^ (0x8005 if value & 0x8000 else 0)) & 0xFFFF
        frame = content + value.to_bytes(2)
        assert is_whole(frame)
        for wrong in (1, 2, 3, 1 << 8, 1 << 15 | 3, 1 << 8 * size):
            assert not is_whole((int.from_bytes(frame) ^ wrong).to_bytes(size + 2))


@pytest.mark.parametrize("size", [0, 0x7F000000, 2_000_000_000, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF, 0xFFFFFFFF - 36])
def test_a_wav_whose_size_says_nothing_is_read_to_its_end(put, size):
    content = bytearray(coded(PCM, "WAV"))
    content[40:44] = size.to_bytes(4, "little")
    assert np.array_equal(whole(put(bytes(content), "a.wav")) * 32768, PCM)
    content[4:8] = size.to_bytes(4, "little")
    assert np.array_equal(whole(put(bytes(content), "a.wav")) * 32768, PCM)


def test_a_wav_without_samples_is_empty_also_where_notes_follow(put):
    content = coded(PCM[:0], "WAV")
    note = b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    for empty in (content, content + note):
        with pytest.raises(EmptyAudioError):
            read_header(put(empty, "a.wav"), name="a")


PLAIN = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
    ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("AU", "ULAW"), ("NIST", "PCM_16"), ("NIST", "ULAW"),
    ("WAV", "GSM610"), ("WAV", "MS_ADPCM"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype"), PLAIN)
def test_a_file_whose_bytes_end_before_its_header_says_is_told_to_be_cut_off(put, form, subtype):
    content = coded(PCM, form, subtype)
    expected, _ = soundfile.read(io.BytesIO(content))
    assert np.array_equal(whole(put(content, "a.wav")), expected)
    for cut in (content[: len(content) * 6 // 10], content[:-200]):
        with pytest.raises(TruncatedAudioError, match="was cut off"):
            read_header(put(cut, "a.wav"), name="a")
        with pytest.raises(TruncatedAudioError):
            read_stretch(put(cut, "a.wav"), name="a", num_frames=100, rate_hz=RATE_HZ)


def test_a_core_audio_file_that_was_cut_off_is_refused(put):
    content = coded(PCM, "CAF")
    for cut in (content[: len(content) * 6 // 10], content[:-200]):
        with pytest.raises(UnfitAudioError):  # libsndfile calls it malformed
            read_header(put(cut, "a.caf"), name="a")


@pytest.mark.parametrize("kind", ["MP3 MPEG_LAYER_III", "OGG VORBIS", "OGG OPUS"])
def test_a_file_read_by_the_block_is_the_same_as_at_once(put, kind):
    path = put(coded(TALK, *kind.split()), "a.x")
    expected = whole(path)
    found = np.concatenate(
        list(file_blocks(path, name="a", num_frames=expected.size, step=1000, downmix=Downmix(None)))
    )
    assert found.size == expected.size
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_each_link_of_a_chained_ogg_is_read_and_a_cut_one_refused(put, subtype):
    one, other = coded(PCM, "OGG", subtype), coded(OTHER, "OGG", subtype)
    expected = np.concatenate([soundfile.read(io.BytesIO(content))[0] for content in (one, other)])
    assert np.array_equal(whole(put(one, "a.ogg")), expected[: PCM.size])
    path = put(one + other, "a.ogg")
    found = whole(path)
    assert np.array_equal(found, expected)
    cut = read_stretch(path, name="x", start=6000, num_frames=5000, rate_hz=RATE_HZ)
    assert np.abs(cut - expected[6000:11_000]).max() < 1 / 32768
    for size in (1, 30, len(other) // 2):
        with pytest.raises(TruncatedAudioError, match="was cut off"):
            read_header(put((one + other)[:-size], "a.ogg"), name="a")
    damaged = bytearray(one)
    damaged[-100] ^= 1
    with pytest.raises(UnreadableAudioError, match="is damaged"):
        read_header(put(bytes(damaged), "a.ogg"), name="a")


def test_links_of_different_rates_are_refused(put):
    slow = io.BytesIO()
    soundfile.write(slow, PCM, 8000, format="OGG", subtype="VORBIS")
    with pytest.raises(UnreadableAudioError, match="changes its rate or channels"):
        read_header(put(coded(PCM, "OGG", "VORBIS") + slow.getvalue(), "a.ogg"), name="a")


LOSSLESS = ("FLAC PCM_16", "FLAC PCM_24", "WAV PCM_16", "WAV PCM_24", "WAV DOUBLE", "WAV ALAW", "W64 PCM_16", "AIFF PCM_24", "AU ULAW",
            "NIST PCM_16", "CAF ALAC_16", "WAV GSM610", "WAV IMA_ADPCM", "WAV MS_ADPCM", "AU G721_32")  # fmt: skip
TALK = (speechlike(12.0, seed=5) * 2).clip(-0.99, 0.99)


@pytest.mark.parametrize("kind", [*LOSSLESS, "MP3 MPEG_LAYER_III", "OGG VORBIS", "OGG OPUS"])
def test_a_stretch_is_the_same_stretch_of_the_whole_file(put, kind):
    form, subtype = kind.split()
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.7} if form == "MP3" else {}
    path = put(coded(TALK, form, subtype, **options), "a.x")
    expected = whole(path)
    chance = np.random.default_rng(len(kind))
    for first in (0, 1, expected.size - 100, *chance.integers(0, expected.size - 100, 7).tolist()):
        length = int(chance.integers(1, min(30_000, expected.size - first) + 1))
        found = read_stretch(path, name="a", start=first, num_frames=length, rate_hz=RATE_HZ)
        error = found - expected[first : first + length]
        if kind in LOSSLESS:
            assert not error.any()
        else:
            assert np.abs(error).max() < 1 / 32768


def test_what_is_wrong_is_told_without_a_path_or_a_number_of_the_system(put, tmp_path):
    for name, content in (("c.m4a", b"12345"), ("d.webm", b"\x1a\x45\xdf\xa3xx"), ("e.wav", b"RIFF1234WAVEfmt "), ("f.mp3", b"no"),
                          ("g.ogg", b"OggS\0\2"), ("h.flac", b"fLaC"), ("i.amr", b"#!AMR\n"), ("j.au", b"only words" * 99)):  # fmt: skip
        with pytest.raises(UnfitAudioError) as caught:
            read_header(put(content, name), name=name)
        text = str(caught.value)
        assert text.startswith(name)
        assert str(tmp_path) not in text
        assert "Errno" not in text
        assert "0x" not in text


def sound(num_frames, *, rate_hz=RATE_HZ, channels=1, coding="VORBIS"):
    return Sound(num_frames, rate_hz, channels, (f"part of {num_frames}",), coding)


def test_joined_sounds_are_as_long_as_all_and_must_have_one_rate_and_as_many_channels():
    found = joined([sound(5), sound(7, coding="OPUS"), sound(11)], name="a")
    assert found == Sound(23, RATE_HZ, 1, ("part of 5", "part of 7", "part of 11"), "VORBIS")
    for other in (sound(7, rate_hz=8000), sound(7, channels=2)):
        with pytest.raises(
            UnreadableAudioError, match=r"^a cannot be decoded: it changes its rate or channels on the way"
        ):
            joined([sound(5), other], name="a")


@pytest.mark.parametrize("kind", ["ogg", "mp3"])
def test_a_stretch_that_begins_in_a_later_part_is_found_there(put, kind):
    parts = [coded(pcm, "OGG", "VORBIS") if kind == "ogg" else mp3(pcm) for pcm in (PCM, OTHER, PCM)]
    path = put(b"".join(parts), f"a.{kind}")
    expected = whole(path)
    sizes = [whole(put(part, f"b.{kind}")).size for part in parts]
    for start in (sizes[0] - 1, sizes[0], sizes[0] + 100, sizes[0] + sizes[1], sizes[0] + sizes[1] + 700):
        cut = read_stretch(path, name="x", start=start, num_frames=900, rate_hz=RATE_HZ)
        assert np.abs(cut - expected[start : start + 900]).max() < 1 / 32768


def test_a_single_frame_of_mp3_is_too_few_and_is_told_so(put):
    content = without_its_header(mp3())
    single = content[: frame_sizes(content)[0]]
    with pytest.raises(UnreadableAudioError, match="it has a single frame of MPEG audio, too few for a decoder"):
        read_header(put(single, "a.mp3"), name="a.mp3")


def test_mp3_in_a_wav_ends_where_its_chunk_does(put):
    frames = without_its_header(mp3())
    header = struct.pack("<HHIIHH", 0x55, 1, RATE_HZ, 1000, 1, 0)
    chunks = b"fmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(frames))
    content = b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(frames)) + b"WAVE" + chunks + frames
    count = 576 * len(frame_sizes(frames))
    assert read_header(put(content + b"LIST\4\0\0\0INFO", "a.wav"), name="a").num_frames == count
    with pytest.raises(TruncatedAudioError, match="within a frame or a page"):
        read_header(put(content[:-1], "a.wav"), name="a")


def test_a_wav_that_was_cut_off_says_how_many_samples_of_how_many_are_there(put):
    content = coded(np.column_stack([PCM, PCM]), "WAV", "PCM_24")
    with pytest.raises(
        TruncatedAudioError, match=rf"ends after {PCM.size - 100} samples where {PCM.size} are promised"
    ):
        read_header(put(content[: -6 * 100], "a.wav"), name="a")


def test_a_flac_that_was_cut_off_says_the_larger_of_what_its_header_and_its_last_frame_promise(put):
    content = bytearray(coded(PCM, "FLAC"))
    for length, promised in ((0, PCM.size), (99_999, 99_999)):
        content[8 + 14 : 8 + 18] = length.to_bytes(4)
        with pytest.raises(TruncatedAudioError, match=rf"where {promised} are promised"):
            read_header(put(bytes(content[:-3]), "a.flac"), name="a")


def test_blocks_are_of_one_length_although_the_parts_of_a_file_end_between_them(put):
    path = put(coded(PCM, "OGG", "VORBIS") + coded(OTHER, "OGG", "VORBIS"), "a.ogg")
    expected = whole(path)
    found = list(file_blocks(path, name="a", num_frames=expected.size, step=3000, downmix=Downmix(None)))
    assert [block.size for block in found] == [3000, 3000, 3000, 3000, 2400]
    assert np.array_equal(np.concatenate(found), expected)


def test_of_many_channels_only_so_many_samples_are_in_memory_at_once(put, monkeypatch):
    monkeypatch.setattr(sound_module, "MOST_INTERLEAVED", 900)
    content = coded(np.column_stack([PCM, -PCM, PCM // 2]), "WAV", "PCM_16")
    with sound_of(put(content, "a.wav"), name="a") as found:
        sizes = [block.size for block in blocks(found, start=7000, step=5000, downmix=Downmix(2))]
    assert sizes == [300, 300, 300, 100]
    with sound_of(put(coded(PCM, "WAV", "PCM_16"), "b.wav"), name="b") as found:
        assert [block.size for block in blocks(found, start=0, step=5000, downmix=Downmix(None))] == [5000, 3000]
