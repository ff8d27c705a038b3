"""AAC in MP4 and ADTS: lengths, places after a seek, channels, and files that only call themselves so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from corpus_builder.audio import containers
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
    from collections.abc import Iterator, Sequence

RATE_HZ = 16_000
KINDS = {".m4a": "ipod", ".mp4": "mp4", ".aac": "adts"}


def tones(seconds: float, *, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = [
        0.3 * np.sin(2 * np.pi * (300 + 200 * number) * time_s) * (1 + np.sin(2 * np.pi * time_s))
        for number in range(channels)
    ]
    return np.array(waves, np.float32)


def write_aac(
    path: Path, waves: np.ndarray, *, rate_hz: int = RATE_HZ, codec: str = "aac", bit_rate: int = 128_000
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {1: "mono", 2: "stereo"}[len(waves)]
    with av.open(str(path), "w", format=KINDS[path.suffix]) as container:
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        stream.bit_rate = bit_rate
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


def remuxed(path: Path, sources: Sequence[Path], *, gap: int = 0) -> Path:
    """The packets of some files with 16 kHz and one channel in one file; after 60 of them some time is missing."""
    with av.open(str(path), "w", format=KINDS[path.suffix]) as container:
        packets: list[av.Packet] = []
        for source in sources:
            with av.open(str(source)) as plain:
                if not packets:
                    stream = container.add_stream_from_template(plain.streams.audio[0])
                packets += [packet for packet in plain.demux(audio=0) if packet.size]
        step, time = packets[0].duration, packets[0].dts
        for number, packet in enumerate(packets):
            packet.stream = stream
            packet.pts = packet.dts = time + number * step + (gap if number > 60 else 0)
            container.mux(packet)
    return path


@pytest.fixture
def decoded_frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of samples of the frames that are decoded; half a second is far into a file, and no decoder is kept from before."""
    frames: list[int] = []
    plain = containers.check_frame

    def counted(frame: av.AudioFrame, *, rate_hz: int, channels: int) -> None:
        frames.append(frame.samples)
        plain(frame, rate_hz=rate_hz, channels=channels)

    monkeypatch.setattr(containers, "check_frame", counted)
    monkeypatch.setattr(containers, "FAR_FRAMES", RATE_HZ // 2)
    containers.KEPT.clear()
    yield frames
    containers.KEPT.clear()


def whole_of(path: Path) -> np.ndarray:
    """The first channel by ffmpeg alone, decoded from the start."""
    with av.open(str(path)) as container:
        whole = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return whole / 2.0**31 if whole.dtype == np.int32 else whole.astype(np.float64)


def cut(path: Path, start: int, num_frames: int = 3000) -> np.ndarray:
    return read_stretch(path, name="a", start=start, num_frames=num_frames, rate_hz=RATE_HZ)


def test_a_cut_far_into_an_mp4_is_sought_and_the_same_as_the_whole(tmp_path: Path, decoded_frames: list[int]) -> None:
    path = remuxed(tmp_path / "a.m4a", 5 * [write_aac(tmp_path / "plain.m4a", tones(4.0))])
    whole = whole_of(path)
    for start, num_frames in ((200_001, 3000), (100_000, 90_000), (whole.size - 9000, 9000), (250_880, 10)):
        assert np.array_equal(cut(path, start, num_frames), whole[start : start + num_frames])
    decoded_frames.clear()
    cut(path, 250_000)
    assert sum(decoded_frames) < 220_000, "it was decoded from the start"


def test_a_lossless_cut_counts_the_frames_of_packets_that_are_shorter(
    tmp_path: Path, decoded_frames: list[int]
) -> None:
    path = remuxed(tmp_path / "a.m4a", 5 * [write_aac(tmp_path / "plain.m4a", tones(4.0), codec="alac")])
    assert np.array_equal(cut(path, 200_001), whole_of(path)[200_001:203_001])
    assert decoded_frames


def test_a_cut_with_substituted_noise_is_the_same_as_the_whole(tmp_path: Path, decoded_frames: list[int]) -> None:
    hiss = 0.1 * np.random.default_rng(5).standard_normal((1, 3 * RATE_HZ)).astype(np.float32)
    noise = write_aac(tmp_path / "noise.m4a", hiss, bit_rate=24_000)
    plain = write_aac(tmp_path / "plain.m4a", tones(4.0))
    path = remuxed(tmp_path / "a.m4a", [plain, plain, noise, noise, plain, plain])
    whole = whole_of(path)
    assert whole.size > 22 * RATE_HZ
    assert np.abs(whole[8 * RATE_HZ + 5000 :][:9000] - whole[11 * RATE_HZ + 5000 + 64 :][:9000]).max() > 0.01
    for start, num_frames in ((150_000, 9000), (200_000, 9000), (60_000, 120_000), (240_000, 100_000), (250_000, 9000)):
        assert np.array_equal(cut(path, start, num_frames), whole[start : start + num_frames])
    decoded_frames.clear()
    cut(path, 300_000)
    assert sum(decoded_frames) < 220_000, "without noise in the cut nothing has to come before it"


def test_packets_that_are_far_apart_do_not_shift_a_cut(tmp_path: Path, decoded_frames: list[int]) -> None:
    path = remuxed(tmp_path / "a.m4a", 4 * [write_aac(tmp_path / "plain.m4a", tones(3.0))], gap=5 * 1024)
    assert np.array_equal(cut(path, 150_000), whole_of(path)[150_000:153_000])
    assert decoded_frames


def test_what_an_edit_list_leaves_out_does_not_shift_a_cut(tmp_path: Path, decoded_frames: list[int]) -> None:
    path = remuxed(tmp_path / "a.m4a", 4 * [write_aac(tmp_path / "plain.m4a", tones(3.0))])
    content = bytearray(path.read_bytes())
    entries = content.index(b"elst") + 8  # of version 0: milliseconds, the first sample, 1.0
    edits = [(3000, 1024), (6000, 1024 + 5 * RATE_HZ)]
    assert content[entries : entries + 4] == (1).to_bytes(4)
    content[entries : entries + 16] = len(edits).to_bytes(4) + b"".join(
        length.to_bytes(4) + first.to_bytes(4) + b"\0\1\0\0" for length, first in edits
    )
    for box in (b"moov", b"trak", b"edts", b"elst"):
        place = content.index(box) - 4
        content[place : place + 4] = (int.from_bytes(content[place : place + 4]) + 12).to_bytes(4)
    path.write_bytes(content)
    whole = whole_of(path)
    assert whole.size < 9.1 * RATE_HZ
    for start in (20_000, 46_000, 60_000, 100_000, 134_000):
        assert np.array_equal(cut(path, start), whole[start : start + 3000])
    assert decoded_frames


def test_cuts_in_order_decode_a_file_once_and_a_changed_file_anew(tmp_path: Path, decoded_frames: list[int]) -> None:
    path = tmp_path / "a.aac"
    path.write_bytes(3 * write_aac(tmp_path / "plain.aac", tones(2.0)).read_bytes())
    whole = whole_of(path)
    for start in range(20_000, 80_000, 3000):
        assert np.array_equal(cut(path, start), whole[start : start + 3000])
    assert sum(decoded_frames) < 84_000
    assert np.array_equal(cut(path, 40_000), whole[40_000:43_000]), "a kept decoder cannot go back"
    content = 3 * write_aac(tmp_path / "b.aac", 0.5 * tones(2.0)).read_bytes()
    path.write_bytes(content)
    assert np.abs(whole_of(path)[60_000:63_000]).max() < 0.7 * np.abs(whole[60_000:63_000]).max()
    assert np.array_equal(cut(path, 60_000), whole_of(path)[60_000:63_000]), "it was written to"
    (tmp_path / "c.aac").write_bytes(content[: len(content) // 3] * 2 + path.read_bytes())
    (tmp_path / "c.aac").replace(path)
    assert np.array_equal(cut(path, 70_000), whole_of(path)[70_000:73_000]), "another has its name"


def test_few_files_are_kept_open_and_each_is_closed(tmp_path: Path, decoded_frames: list[int]) -> None:
    source = write_aac(tmp_path / "a.aac", tones(2.0))
    for number in range(4):
        path = tmp_path / f"{number}.aac"
        path.write_bytes(source.read_bytes())
        cut(path, 20_000)
    assert len(containers.KEPT) == containers.MOST_KEPT
    before = len(list(Path("/dev/fd").iterdir()))
    containers.KEPT.clear()
    assert len(list(Path("/dev/fd").iterdir())) == before - containers.MOST_KEPT
    assert decoded_frames


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
