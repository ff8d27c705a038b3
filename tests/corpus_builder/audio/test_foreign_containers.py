"""What only ffmpeg reads, of every listed kind: the whole of it, each stretch of it, and nothing that it names."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, get_args

import av
import numpy as np
import pytest
import soundfile

from corpus_builder.audio.containers import ContainerError, audio_stream, frame_wave
from corpus_builder.audio.decode import AUDIO_SUFFIXES, read_header, read_stretch
from corpus_builder.audio.errors import TruncatedAudioError, UnfitAudioError
from corpus_builder.audio.formats.content import ContainerContent
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from pathlib import Path

WAVE = (speechlike(1.5, seed=3) * 3).clip(-0.9, 0.9).astype(np.float32)
KINDS = {  # suffix: muxer, codec, rate
    ".webm": ("webm", "libopus", 48_000), ".mka": ("matroska", "aac", 16_000), ".mkv": ("matroska", "flac", 16_000),
    ".mov": ("mov", "aac", 16_000), ".3gp": ("3gp", "libopencore_amrnb", 8000), ".amr": ("amr", "libopencore_amrnb", 8000),
    ".wma": ("asf", "wmav2", 48_000), ".mp2": ("mp2", "mp2", 16_000), ".ts": ("mpegts", "aac", 16_000), ".wv": ("wv", "wavpack", 16_000),
    ".tta": ("tta", "tta", 16_000), ".ac3": ("ac3", "ac3", 48_000), ".oga": ("oga", "flac", 16_000), ".aac": ("adts", "aac", 16_000),
    ".m4a": ("ipod", "aac", 16_000),
}  # fmt: skip
EXACT = {".mkv", ".wv", ".tta", ".oga"}
TOLD_WHEN_CUT = (
    ".ts", ".ac3", ".webm", ".mka", ".mkv", ".mov", ".3gp", ".amr", ".wma", ".mp2", ".wv", ".tta", ".oga", ".aac", ".m4a"
)  # fmt: skip


def made(path: Path, *, channels: int = 1, title: str | None = None) -> Path:
    """A file of the kind that its suffix names."""
    muxer, codec, rate_hz = KINDS[path.suffix]
    waves = np.stack([np.repeat(WAVE, 3) if rate_hz == 48_000 else WAVE[::2] if rate_hz == 8000 else WAVE] * channels)
    with av.open(str(path), "w", format=muxer) as container:
        if title is not None:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = "mono" if channels == 1 else "stereo"
        if codec in {"libopencore_amrnb", "wmav2"}:
            stream.bit_rate = {"libopencore_amrnb": 12_200, "wmav2": 64_000}[codec]
        if codec in {"wavpack", "tta"}:
            stream.codec_context.format = {"wavpack": "s16p", "tta": "s16"}[codec]
        form = stream.codec_context.format.name
        plain = {"f": waves, "s": np.rint(waves * 32767).astype(np.int16 if "16" in form else np.int32)}[form[0]]
        if form.startswith("s32"):
            plain = plain << 16
        if not form.endswith("p"):
            plain = plain.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(plain), format=form, layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", KINDS)
def test_each_kind_is_read_to_its_end_and_a_stretch_is_the_same_stretch_of_the_whole(tmp_path, suffix):
    path = made(tmp_path / f"a{suffix}")
    header = read_header(path, name="a")
    whole = read_stretch(path, name="a", rate_hz=header.rate_hz)
    with av.open(str(path)) as container:
        expected = sum(frame.samples for frame in container.decode(audio=0))
    assert whole.size == header.num_frames
    assert 0 <= expected - header.num_frames < (1100 if suffix in {".m4a", ".mov", ".3gp"} else 1)
    assert abs(whole.size / header.rate_hz - 1.5) < 0.15
    if suffix in EXACT:
        assert np.array_equal(whole * 32768, np.rint(WAVE * 32767))
    for start, length in ((0, 100), (1, 3000), (header.num_frames // 2, 2000), (header.num_frames - 10, 10)):
        found = read_stretch(path, name="a", start=start, num_frames=length, rate_hz=header.rate_hz)
        error = np.abs(found - whole[start : start + length]).max()
        assert error < 1e-6 if suffix == ".mp2" else error == 0.0


def test_every_listed_suffix_is_of_audio_and_the_content_decides(tmp_path):
    assert set(KINDS) | {".wav", ".flac", ".ogg", ".opus", ".mp3", ".spx", ".ape", ".mp4"} <= AUDIO_SUFFIXES
    for suffix, other in ((".webm", ".wav"), (".mov", ".mp3"), (".aac", ".flac")):
        path = made(tmp_path / f"a{suffix}")
        expected = read_header(path, name="a")
        assert read_header(path.rename(tmp_path / f"b{other}"), name="b") == expected
    soundfile.write(tmp_path / "c.wav", WAVE, 16_000)
    (tmp_path / "c.wav").rename(tmp_path / "c.webm")
    assert read_header(tmp_path / "c.webm", name="c").num_frames == WAVE.size


@pytest.mark.parametrize("suffix", TOLD_WHEN_CUT)
def test_a_container_that_was_cut_off_is_refused(tmp_path, suffix):
    path = made(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    for size in (len(content) * 6 // 10, len(content) - (300 if suffix == ".tta" else 3)):  # a TTA ends with a tag
        path.write_bytes(content[:size])
        with pytest.raises(UnfitAudioError) as caught:
            read_header(path, name="a")
        assert isinstance(caught.value, TruncatedAudioError) or "cannot be decoded" in str(caught.value)


def test_metadata_that_is_no_utf_8_does_not_matter(tmp_path):
    path = made(tmp_path / "a.m4a", title="caf\u00e9")
    content = path.read_bytes()
    assert b"caf\xc3\xa9" in content
    path.write_bytes(content.replace(b"caf\xc3\xa9", b"caf\xe9\xe9"))
    assert read_header(path, name="a").num_frames > 20_000


def test_one_of_two_channels_is_read_and_a_riff_mp3(tmp_path):
    path = made(tmp_path / "a.mka", channels=2)
    assert read_header(path, name="a").num_channels == 2
    assert read_stretch(path, name="a", channel=1, num_frames=500, rate_hz=16_000).size == 500
    stream = io.BytesIO()
    soundfile.write(stream, WAVE, 16_000, format="MP3", subtype="MPEG_LAYER_III")
    mp3 = stream.getvalue()
    fmt = b"\x55\0\1\0" + (16_000).to_bytes(4, "little") + (4000).to_bytes(4, "little") + b"\1\0\0\0\0\0"
    chunks = b"fmt " + len(fmt).to_bytes(4, "little") + fmt + b"data" + len(mp3).to_bytes(4, "little") + mp3
    riff = b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks
    (tmp_path / "a.wav").write_bytes(riff)
    assert read_header(tmp_path / "a.wav", name="a").num_frames == WAVE.size
    (tmp_path / "a.wav").write_bytes(riff[:-5])
    with pytest.raises(TruncatedAudioError):
        read_header(tmp_path / "a.wav", name="a")


def test_a_file_that_names_another_yields_none_of_its_samples(tmp_path):
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, WAVE, 16_000)
    made(tmp_path / "secret.ts")
    playlists = {
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "plain concat": f"file '{secret}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.5,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{secret}</BaseURL></Period></MPD>',
        "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    }
    for number, text in enumerate(playlists.values()):
        for suffix in (".webm", ".m4a", ".mka", ".ts", ".mp3", ".wav", ".ogg", ".ac3", ".aac"):
            path = tmp_path / f"list{number}{suffix}"
            for start in ("", "\n", "\ufeff"):
                path.write_text(start + text)
                with pytest.raises(UnfitAudioError):
                    read_header(path, name="a")
                with pytest.raises(UnfitAudioError):
                    read_stretch(path, name="a", rate_hz=16_000)


def test_a_playlist_behind_the_first_bytes_of_a_container_is_not_followed(tmp_path):
    secret = made(tmp_path / "secret.ts")
    for head, suffix in (
        (b"\x1a\x45\xdf\xa3", ".webm"),
        (b"\0\0\0\x18ftypM4A ", ".m4a"),
        (b"OggS\0", ".ogg"),
        (b"#!AMR\n", ".amr"),
    ):
        path = tmp_path / f"list{suffix}"
        path.write_bytes(head + f"\n#EXTM3U\n#EXTINF:1,\n{secret}\nffconcat version 1.0\nfile {secret}\n".encode())
        try:
            header = read_header(path, name="a")
        except UnfitAudioError:
            continue
        assert suffix == ".amr", header  # any bytes are frames of AMR


def test_ffmpeg_is_never_left_to_guess_the_kind_of_a_container(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "secret.wav", WAVE, 16_000)
    text = b"ffconcat version 1.0\nfile secret.wav\n"
    (tmp_path / "list.webm").write_bytes(text)
    with av.open("list.webm") as container:
        assert next(container.decode(audio=0)).samples, "ffmpeg does not follow this playlist: the test shows nothing"
    for kind in get_args(ContainerContent):
        with pytest.raises(ContainerError), audio_stream(io.BytesIO(text), kind) as (container, stream):
            next(container.decode(stream))


@pytest.mark.parametrize(
    ("form", "plain"),
    [
        ("u8p", np.array([[0, 128, 192], [255, 64, 128]], np.uint8)),
        ("s16p", np.array([[-32768, 0, 16384], [32767, -16384, 0]], np.int16)),
        ("s32p", np.array([[-(2**31), 0, 2**30], [2**31 - 1, -(2**30), 0]], np.int32)),
        ("fltp", np.array([[-1.0, 0.0, 0.5], [0.9999695, -0.5, 0.0]], np.float32)),
        ("dblp", np.array([[-1.0, 0.0, 0.5], [0.9999695, -0.5, 0.0]])),
    ],
)
def test_full_scale_is_one_in_every_format_of_samples_interleaved_or_not(form, plain):
    expected = np.array([[-1.0, 0.0, 0.5], [1.0, -0.5, 0.0]])
    for name, samples in ((form, plain), (form[:-1], plain.T.reshape(1, -1))):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=name, layout="stereo")
        np.testing.assert_allclose(frame_wave(frame), expected, atol=0.008 if form == "u8p" else 4e-5)


def test_each_channel_of_a_file_with_two_is_its_own(tmp_path):
    for suffix in (".tta", ".wv"):  # samples of one come interleaved, of the other not
        muxer, codec, rate_hz = KINDS[suffix]
        path = tmp_path / f"two{suffix}"
        two = np.stack([WAVE, -0.5 * WAVE])
        with av.open(str(path), "w", format=muxer) as container:
            stream = container.add_stream(codec, rate=rate_hz)
            stream.layout = "stereo"
            form = stream.codec_context.format = {"wavpack": "s16p", "tta": "s16"}[codec]
            plain = np.rint(two * 32767).astype(np.int16)
            plain = plain if form.endswith("p") else plain.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(plain), format=form, layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
        for channel in range(2):
            found = read_stretch(path, name="a", start=5000, num_frames=3000, channel=channel, rate_hz=rate_hz)
            np.testing.assert_array_equal(found * 32768, np.rint(two[channel] * 32767)[5000:8000])


@pytest.mark.parametrize(("rate_hz", "layout"), [(32_000, "mono"), (48_000, "stereo")])
def test_a_file_that_changes_its_rate_or_its_channels_on_the_way_is_refused(tmp_path, rate_hz, layout):
    parts = []
    for rate, channels in ((48_000, "mono"), (rate_hz, layout)):
        with av.open(str(tmp_path / "part.ac3"), "w", format="ac3") as container:
            stream = container.add_stream("ac3", rate=rate, layout=channels)
            waves = np.stack([WAVE[:12_000]] * (1 if channels == "mono" else 2))
            frame = av.AudioFrame.from_ndarray(waves, format="fltp", layout=channels)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
        parts.append((tmp_path / "part.ac3").read_bytes())
    path = tmp_path / "a.ac3"
    path.write_bytes(b"".join(parts))
    with pytest.raises(UnfitAudioError, match="a cannot be decoded: it changes its rate or channels on the way"):
        read_header(path, name="a")


def test_a_kind_whose_header_counts_samples_must_have_as_many(tmp_path):
    path = made(tmp_path / "a.wv")
    content = bytearray(path.read_bytes())
    assert int.from_bytes(content[12:16], "little") == WAVE.size
    content[12:16] = (WAVE.size + 5000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(
        TruncatedAudioError, match=rf"ends after {WAVE.size} samples where {WAVE.size + 5000} are promised"
    ):
        read_header(path, name="a")


def test_a_film_without_sound_has_no_audio_stream(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for packet in (
            *stream.encode(av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuv420p")),
            *stream.encode(None),
        ):
            container.mux(packet)
    with pytest.raises(UnfitAudioError, match="a cannot be decoded: it has no audio stream"):
        read_header(path, name="a")
