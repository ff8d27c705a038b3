from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.audio.decode import channel_of, check_shape, file_blocks, read_header, read_stretch, sound_of
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.errors import (
    ChannelError,
    EmptyAudioError,
    MissingAudioError,
    NotFiniteAudioError,
    OddRateError,
    SilentAudioError,
    TruncatedAudioError,
    UnreadableAudioError,
)
from corpus_builder.audio.resample import at_rate, num_samples_at
from corpus_builder.plan.materials.noise_power import measure_levels

RATE_HZ = 16_000


@pytest.fixture
def noise(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pcm = np.random.RandomState(1).randint(-32768, 32768, 8000).astype(np.int16)
    path = tmp_path / "a.flac"
    soundfile.write(path, pcm, RATE_HZ)
    return path, pcm


def read(path: Path, **options: object) -> np.ndarray:
    return read_stretch(path, name=path.name, rate_hz=RATE_HZ, **options)  # type: ignore[arg-type]


def test_sixteen_bit_samples_come_out_exactly(noise: tuple[Path, np.ndarray]) -> None:
    path, pcm = noise
    assert np.array_equal(np.rint(read(path) * 32768).astype(np.int64), pcm)


@given(st.integers(0, 7999), st.integers(1, 8000))
def test_a_stretch_is_a_slice_of_the_whole(start: int, length: int) -> None:
    pcm = np.random.RandomState(2).randint(-32768, 32768, 8000).astype(np.int16)
    path = Path("/dev/shm/stillroom-test-stretch.wav") if Path("/dev/shm").is_dir() else Path("stretch.wav")
    soundfile.write(path, pcm, RATE_HZ)
    try:
        if start + length > 8000:
            with pytest.raises(TruncatedAudioError):
                read(path, start=start, num_frames=length)
        else:
            assert np.array_equal(read(path, start=start, num_frames=length) * 32768, pcm[start : start + length])
    finally:
        path.unlink()


def test_one_channel_of_several_is_read_and_must_be_named(tmp_path: Path) -> None:
    pcm = np.random.RandomState(3).randint(-3000, 3000, (500, 3)).astype(np.int16)
    path = tmp_path / "three.wav"
    soundfile.write(path, pcm, RATE_HZ)
    assert np.array_equal(read(path, channel=2) * 32768, pcm[:, 2])
    with pytest.raises(ChannelError, match="has 3 channels; say which with channel: 0 to 2"):
        read(path)
    with pytest.raises(ChannelError, match="there is no channel 3"):
        read(path, channel=3)


@given(st.integers(1, 5000), st.sampled_from([8000, 11025, 22050, 24000, 44100, 48000]))
def test_resampling_gives_exactly_the_rounded_length(length: int, rate_hz: int) -> None:
    wave = np.random.RandomState(length).standard_normal(length)
    expected = int(np.floor(length * RATE_HZ / rate_hz + 0.5))
    assert num_samples_at(length, from_hz=rate_hz, to_hz=RATE_HZ) == expected
    assert at_rate(wave, from_hz=rate_hz, to_hz=RATE_HZ).shape == (expected,)


def test_resampling_keeps_a_tone_in_place() -> None:
    def tone(rate_hz: int) -> np.ndarray:
        time_s = np.arange(rate_hz) / rate_hz
        return np.sin(2 * np.pi * 440 * time_s) * np.hanning(rate_hz)

    for rate_hz in (8000, 44100, 48000):
        assert np.abs(at_rate(tone(rate_hz), from_hz=rate_hz, to_hz=RATE_HZ) - tone(RATE_HZ)).max() < 1e-3


def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, noise: tuple[Path, np.ndarray]) -> None:
    path, pcm = noise
    broken = tmp_path / "broken"

    def made(content: bytes, suffix: str = ".wav") -> Path:
        target = tmp_path / f"broken{len(content)}{suffix}"
        target.write_bytes(content)
        return target

    soundfile.write(tmp_path / "a.wav", pcm, RATE_HZ)
    whole = (tmp_path / "a.wav").read_bytes()
    for target, kind in (
        (tmp_path / "gone.wav", MissingAudioError),
        (made(b""), EmptyAudioError),
        (made(b"no audio at all, only words" * 9), UnreadableAudioError),
        (made(whole[: len(whole) // 2]), TruncatedAudioError),
        (made(path.read_bytes()[:9000], ".flac"), TruncatedAudioError),
    ):
        with pytest.raises(kind):
            read(target)
    soundfile.write(broken.with_suffix(".wav"), np.zeros(0), RATE_HZ)
    with pytest.raises(EmptyAudioError):
        read_header(broken.with_suffix(".wav"), name="x")
    bad = pcm / 32768
    bad[77] = np.nan
    soundfile.write(broken.with_suffix(".wav"), bad, RATE_HZ, subtype="FLOAT")
    with pytest.raises(NotFiniteAudioError):
        read(broken.with_suffix(".wav"))
    with pytest.raises(OddRateError, match="16000 Hz where 8000 Hz were planned"):
        read_stretch(path, name="a", rate_hz=8000)
    soundfile.write(broken.with_suffix(".wav"), pcm, 500)
    with pytest.raises(OddRateError, match="500 Hz"):
        read_header(broken.with_suffix(".wav"), name="x")


def test_a_named_pipe_is_refused_and_not_waited_for_and_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.wav", tmp_path / "loop.wav"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with pytest.raises(UnreadableAudioError, match="it is a pipe, a socket or a device"):
        read_header(pipe, name="pipe")
    with pytest.raises(UnreadableAudioError, match="it is a pipe, a socket or a device"):
        read_stretch(pipe, name="pipe", rate_hz=16000)
    with pytest.raises(UnreadableAudioError, match="its link leads to itself"):
        read_header(loop, name="loop")


def test_a_wave_written_to_a_pipe_is_not_called_cut_off(tmp_path: Path, noise: tuple[Path, np.ndarray]) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise[1], RATE_HZ)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert read_header(path, name="x").num_frames == 8000


def test_levels_are_the_power_of_each_100_ms(tmp_path: Path) -> None:
    wave = np.repeat([0.5, 0.0, 0.05, 1.0], [1600, 1600, 1600, 700])
    wave[::2] *= -1
    means = np.repeat([0.25, 0.125, 0.0, 0.0], [1600, 1600, 1600, 700])  # no part of any power
    wave += means
    path = tmp_path / "steps.wav"
    soundfile.write(path, wave, RATE_HZ, subtype="FLOAT")
    levels = measure_levels(path, name="x", channel=None)
    assert levels.power_db == (-6.0, -200.0, -26.0)
    assert (levels.num_frames, levels.rate_hz) == (5500, RATE_HZ)
    assert levels.mean == round(0.375 * 1600 / 5500, 6)
    soundfile.write(path, wave[:100], RATE_HZ, subtype="FLOAT")
    assert measure_levels(path, name="x", channel=None).power_db == (-6.0,)


def test_levels_of_a_long_file_do_not_depend_on_how_it_is_read(tmp_path: Path) -> None:
    wave = np.random.RandomState(4).standard_normal(8000 * 61) * 0.1
    path = tmp_path / "long.wav"
    soundfile.write(path, wave, 8000, subtype="DOUBLE")
    expected = 10 * np.log10(np.var(wave.reshape(-1, 800), axis=1))
    assert np.abs(np.array(measure_levels(path, name="x", channel=None).power_db) - expected).max() <= 0.0501


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.7])
def test_a_noise_of_one_value_is_silent(tmp_path: Path, constant: float) -> None:
    path = tmp_path / "zero.wav"
    soundfile.write(path, np.full(8000, constant), RATE_HZ)
    with pytest.raises(SilentAudioError, match="digital silence"):
        measure_levels(path, name="zero.wav", channel=None)


@pytest.mark.parametrize(("channels", "rate_hz", "problem"), [
    (0, 16_000, "has 0 channels; at most 1024 are read"), (1025, 16_000, "has 1025 channels; at most 1024 are read"),
    (1, 999, "has a sample rate of 999 Hz; 1000 to 1000000 are read"), (1, 1_000_001, "has a sample rate of 1000001 Hz"),
    (1, 1000, None), (1024, 1_000_000, None),
])  # fmt: skip
def test_a_plausible_file_has_some_channels_and_a_rate_of_audio(
    channels: int, rate_hz: int, problem: str | None
) -> None:
    if problem is None:
        check_shape(channels, rate_hz, name="a.wav")
        return
    with pytest.raises((ChannelError, OddRateError), match=f"^a.wav {problem}"):
        check_shape(channels, rate_hz, name="a.wav")


def test_the_channel_that_is_read_is_the_requested_one_or_the_only_one() -> None:
    assert [channel_of(count, channel, name="a") for count, channel in ((1, None), (1, 0), (1, "mix"), (2, 1), (3, "mix"))] == [
        None, None, None, 1, "mix",
    ]  # fmt: skip
    with pytest.raises(
        ChannelError, match=r"^a has 2 channels; say which with channel: 0 to 1 in the recipe, or mix for"
    ):
        channel_of(2, None, name="a")
    with pytest.raises(ChannelError, match=r"^a has 2 channel\(s\); there is no channel 2"):
        channel_of(2, 2, name="a")
    with pytest.raises(ChannelError, match=r"^a has 1 channel\(s\); there is no channel 1"):
        channel_of(1, 1, name="a")


def test_a_stretch_beyond_its_file_says_how_far_it_should_have_reached(
    noise: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, pcm = noise
    with pytest.raises(TruncatedAudioError, match=r"a\.flac ends after 8000 samples where 8001 are promised"):
        read(path, start=7000, num_frames=1001)
    for start in (8000, 8001):
        with pytest.raises(EmptyAudioError, match=r"a\.flac has no samples"):
            read(path, start=start)
    np.testing.assert_array_equal(read(path, start=7990) * 32768, pcm[7990:])
    with pytest.raises(UnreadableAudioError, match="it is a folder"):
        read(tmp_path)
    bad = pcm / 32768
    bad[77] = -np.inf
    soundfile.write(tmp_path / "bad.wav", bad, RATE_HZ, subtype="DOUBLE")
    with pytest.raises(NotFiniteAudioError):
        read(tmp_path / "bad.wav")
    assert read(tmp_path / "bad.wav", start=78).size == 8000 - 78


def test_blocks_of_a_file_are_all_of_one_length_but_the_last_and_end_where_they_should(tmp_path: Path) -> None:
    pcm = np.random.RandomState(5).randint(-3000, 3000, (2500, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, RATE_HZ)
    for num_frames, sizes in ((2500, [1000, 1000, 500]), (2000, [1000, 1000]), (1700, [1000, 700]), (300, [300])):
        found = list(file_blocks(tmp_path / "a.wav", name="a", num_frames=num_frames, step=1000, downmix=Downmix(1)))
        assert [block.size for block in found] == sizes
        np.testing.assert_array_equal(np.concatenate(found) * 32768, pcm[:num_frames, 1])


def test_junk_before_mpeg_audio_is_passed_over_only_by_its_suffix_in_either_case(tmp_path: Path) -> None:
    junk = b"words " * 9
    frame = bytes.fromhex("fff518c0") + bytes(68)
    for suffix in (".MP2", ".mp2", ".mpga", ".MP3"):
        (tmp_path / f"a{suffix}").write_bytes(junk + 9 * frame)
        assert read_header(tmp_path / f"a{suffix}", name="a").num_frames == 9 * 1152
    (tmp_path / "a.txt").write_bytes(junk + 9 * frame)
    with pytest.raises(UnreadableAudioError, match="its content is of no audio format that is read"):
        read_header(tmp_path / "a.txt", name="a")
    with sound_of(junk + 9 * frame, name="mp2") as sound:  # by its member's suffix, such as a sample of a tar has
        assert sound.num_frames == 9 * 1152
