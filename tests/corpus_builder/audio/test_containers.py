"""AAC in MP4 and ADTS: lengths, places after a seek, channels, and files that only call themselves so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from corpus_builder.audio.decode import read_header, read_stretch
from corpus_builder.audio.errors import (
    ChannelError,
    EmptyAudioError,
    MissingAudioError,
    TruncatedAudioError,
    UnfitAudioError,
    UnreadableAudioError,
)
from corpus_builder.plan.materials.noise_power import measure_levels
from tests.corpus_builder.conftest import Inline, Lab

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000
KINDS = {".m4a": "ipod", ".mp4": "mp4", ".aac": "adts"}


def tones(seconds: float, *, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = [
        0.3 * np.sin(2 * np.pi * (300 + 200 * number) * time_s) * (1 + np.sin(2 * np.pi * time_s))
        for number in range(channels)
    ]
    return np.array(waves, np.float32)


def write_aac(path: Path, waves: np.ndarray, *, rate_hz: int = RATE_HZ, codec: str = "aac") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {1: "mono", 2: "stereo"}[len(waves)]
    with av.open(str(path), "w", format=KINDS[path.suffix]) as container:
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        form = stream.codec_context.format.name
        if form == "s32p":
            waves = np.rint(waves * 32767).astype(np.int32) << 16
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waves), format=form, layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


@pytest.mark.parametrize("suffix", [".m4a", ".mp4"])
def test_an_mp4_comes_out_in_place_and_as_long_as_what_was_put_in(tmp_path: Path, suffix: str) -> None:
    (wave,) = tones(3.0)
    path = write_aac(tmp_path / f"a{suffix}", wave[None])
    header = read_header(path, name="a")
    assert (header.rate_hz, header.num_channels) == (RATE_HZ, 1)
    assert abs(header.num_frames - wave.size) <= RATE_HZ // 1000  # this muxer tells it in milliseconds
    decoded = read_stretch(path, name="a", rate_hz=RATE_HZ)
    assert decoded.size == header.num_frames
    assert correlation(decoded[: wave.size - 100], wave[: decoded.size][: wave.size - 100]) > 0.999


def test_adts_is_counted_by_decoding(tmp_path: Path) -> None:
    path = write_aac(tmp_path / "a.aac", tones(2.0))
    assert read_stretch(path, name="a", rate_hz=RATE_HZ).size == read_header(path, name="a").num_frames >= 2 * RATE_HZ


@pytest.mark.parametrize("suffix", [".m4a", ".aac"])
@pytest.mark.parametrize("start", [0, 1000, 100_001, 150_000])
def test_a_stretch_is_a_slice_of_the_whole_also_after_a_seek(tmp_path: Path, suffix: str, start: int) -> None:
    path = write_aac(tmp_path / f"a{suffix}", tones(12.0))
    whole = read_stretch(path, name="a", rate_hz=RATE_HZ)
    found = read_stretch(path, name="a", start=start, num_frames=20_000, rate_hz=RATE_HZ)
    assert np.abs(found - whole[start : start + 20_000]).max() < 1e-6


def test_a_cut_of_a_long_mp4_is_found_by_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from corpus_builder.audio import containers

    path = write_aac(tmp_path / "a.m4a", tones(60.0))
    frames: list[int] = []
    plain = containers.frame_wave

    def counted(frame: av.AudioFrame) -> np.ndarray:
        frames.append(frame.samples)
        return plain(frame)

    monkeypatch.setattr(containers, "frame_wave", counted)
    read_stretch(path, name="a", start=50 * RATE_HZ, num_frames=RATE_HZ, rate_hz=RATE_HZ)
    assert sum(frames) > 50 * RATE_HZ, "up to ten minutes it is decoded from the start"
    frames.clear()
    monkeypatch.setattr(containers, "SEEK_FROM_S", 30.0)
    read_stretch(path, name="a", start=50 * RATE_HZ, num_frames=RATE_HZ, rate_hz=RATE_HZ)
    assert sum(frames) < 4 * RATE_HZ


def test_one_channel_of_two_is_read_and_must_be_named(tmp_path: Path) -> None:
    waves = tones(2.0, channels=2)
    path = write_aac(tmp_path / "a.m4a", waves)
    with pytest.raises(ChannelError, match="has 2 channels; say which"):
        read_stretch(path, name="a", rate_hz=RATE_HZ)
    found = read_stretch(path, name="a", channel=1, rate_hz=RATE_HZ)
    length = min(found.size, waves.shape[1]) - 100
    assert correlation(found[:length], waves[1, :length]) > 0.99
    assert abs(correlation(found[:length], waves[0, :length])) < 0.5


def test_lossless_alac_gives_the_very_samples(tmp_path: Path) -> None:
    waves = tones(1.0)
    path = write_aac(tmp_path / "a.m4a", waves, codec="alac")
    found = read_stretch(path, name="a", rate_hz=RATE_HZ)
    assert np.array_equal(found * 32768, np.rint(waves[0] * 32767).astype(np.int16))


def test_levels_of_an_mp4_noise_are_those_of_its_samples(tmp_path: Path) -> None:
    path = write_aac(tmp_path / "a.m4a", tones(2.5))
    levels = measure_levels(path, name="a", channel=None)
    wave = read_stretch(path, name="a", rate_hz=RATE_HZ)
    frames = wave[: wave.size // 1600 * 1600].reshape(-1, 1600)
    assert levels.num_frames == wave.size
    assert np.allclose(levels.power_db[: len(frames)], 10 * np.log10(np.mean(frames**2, axis=1)), atol=0.051)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyAudioError),
        (b"not audio at all " * 50, UnreadableAudioError),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n", UnreadableAudioError),
    ],
    ids=["empty", "text", "playlist"],
)
@pytest.mark.parametrize("suffix", [".m4a", ".aac"])
def test_what_only_calls_itself_so_is_one_line(
    tmp_path: Path, content: bytes, error: type[UnfitAudioError], suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnfitAudioError) as caught:
        read_header(path, name="x")
    assert "\n" not in str(caught.value)
    assert suffix == ".aac" or caught.type is error


def test_a_missing_a_cut_off_and_an_early_ending_mp4_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingAudioError):
        read_header(tmp_path / "gone.m4a", name="gone")
    path = write_aac(tmp_path / "a.m4a", tones(3.0))
    with pytest.raises(TruncatedAudioError):
        read_stretch(path, name="a", start=2 * RATE_HZ, num_frames=2 * RATE_HZ, rate_hz=RATE_HZ)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UnfitAudioError):
        read_stretch(path, name="a", rate_hz=RATE_HZ)


def test_a_corpus_is_built_of_mp4_at_another_rate(lab: Lab) -> None:
    lab.without_rooms()
    for number in range(3):
        path = lab.folder / "speech" / "train" / f"m{number}" / "talk.m4a"
        write_aac(path, tones(0.6, rate_hz=44_100), rate_hz=44_100)
    lab.recipe["speech"]["train"] = {"dir": "speech/train", "fields": "{speaker}/{id}.m4a", "pattern": "*/*.m4a"}
    for number in range(3):
        path = lab.folder / "speech" / "train" / f"m{number}" / "talk.m4a"
        path.rename(path.with_name(f"talk{number}.m4a"))
    built = lab.build(executor=Inline())
    assert built.corpus is not None
    assert sum(shard.samples for shard in built.corpus.splits["train"]) == 3
