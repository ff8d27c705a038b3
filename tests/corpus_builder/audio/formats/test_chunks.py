"""Where the samples of WAV and its relatives are by their headers, put together by hand as each standard says."""

import io
import struct

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.formats.chunks import Samples, corrected, only_chunks, plain_wav, samples_of

DATA = b"\1\2" * 50


def riff(*chunks, head=b"RIFF", order="<"):
    body = b"".join(
        name + struct.pack(order + "I", size) + content + b"\0" * (len(content) % 2) for name, size, content in chunks
    )
    return head + struct.pack(order + "I", len(body) + 4) + b"WAVE" + body


FMT = (b"fmt ", 16, struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
ODD = (b"note", 3, b"odd")


def found(kind, content):
    return samples_of(kind, io.BytesIO(content), content[:4096], len(content))


def test_the_samples_of_a_wav_begin_after_its_chunks_of_any_length():
    content = riff(FMT, ODD, (b"data", 100, DATA))
    start = content.index(DATA)
    assert found("wav", content) == Samples(start, 100, start - 4, 4, "little", wave_format=1)
    content = riff(
        (b"fmt ", 16, struct.pack(">HHIIHH", 0x55, 1, 8000, 0, 1, 0)),
        ODD,
        (b"data", 100, DATA),
        head=b"RIFX",
        order=">",
    )
    assert found("wav", content) == Samples(start, 100, start - 4, 4, "big", wave_format=0x55)
    assert found("wav", riff(FMT, ODD)) is None


@pytest.mark.parametrize("head", [b"RF64", b"BW64"])
def test_the_size_of_64_bits_counts_only_where_that_of_32_says_so(head):
    wide = (b"ds64", 28, struct.pack("<QQQI", 200, 100, 50, 0))
    content = riff(wide, FMT, (b"data", 0xFFFFFFFF, DATA), head=head)
    assert found("wav", content) == Samples(content.index(DATA), 100, 12 + 8 + 8, 8, wave_format=1)
    content = riff(wide, FMT, (b"data", 60, DATA), head=head)
    assert found("wav", content).promised == 60
    plain = riff(wide, FMT, (b"data", 0xFFFFFFFF, DATA))
    assert found("wav", plain).promised == 0xFFFFFFFF


def test_the_samples_of_wave64_are_counted_with_their_head():
    def chunk(name, content):
        code = name.ljust(4) + b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
        return code + struct.pack("<Q", 24 + len(content)) + content + bytes(-len(content) % 8)

    body = chunk(b"fmt ", b"f" * 18) + chunk(b"data", DATA)
    content = (
        b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
        + struct.pack("<Q", 40 + len(body))
        + b"wave"
        + bytes(12)
        + body
    )
    start = content.index(DATA)
    assert found("w64", content) == Samples(start, 100, start - 8, 8, more=24)
    assert found("w64", content[: start - 24]) is None


def test_the_samples_of_aiff_begin_after_their_offset():
    sound = struct.pack(">II", 6, 0) + b"offset" + DATA
    content = (
        b"FORM"
        + struct.pack(">I", 4)
        + b"AIFF"
        + b"COMM"
        + struct.pack(">I", 3)
        + b"odd\0"
        + b"SSND"
        + struct.pack(">I", len(sound))
        + sound
    )
    start = content.index(DATA)
    assert found("aiff", content) == Samples(start, 100, content.index(b"SSND") + 4, 4, "big", more=14)
    assert found("aiff", content[: content.index(b"SSND")]) is None


def test_au_says_its_size_in_either_order_or_that_it_is_not_known():
    assert found("au", b".snd" + struct.pack(">IIIII", 28, 100, 3, 8000, 1) + bytes(4) + DATA) == Samples(
        28, 100, 8, 4, "big"
    )
    assert found("au", b"dns." + struct.pack("<IIIII", 24, 100, 3, 8000, 1) + DATA) == Samples(24, 100, 8, 4, "little")
    assert found("au", b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 8000, 1) + DATA).promised is None


def sphere(*fields):
    text = "NIST_1A\n   1024\n" + "".join(f"{line}\n" for line in fields) + "end_head\n"
    return text.encode().ljust(1024) + DATA


def test_sphere_promises_samples_times_bytes_times_channels_unless_they_are_compressed():
    fields = ["channel_count -i 2", "sample_n_bytes -i 2", "sample_count -i 25", "sample_coding -s3 pcm"]
    assert found("sphere", sphere(*fields)) == Samples(1024, 100)
    assert found("sphere", sphere("sample_count -i 25", "speaker -s7 a, b, c")) == Samples(1024, 25)
    assert found("sphere", sphere(*fields[:3], "sample_coding -s26 pcm,embedded-shorten-v2.00")) == Samples(1024, None)
    assert found("sphere", sphere(*fields[:2])) == Samples(1024, None)
    assert found("sphere", b"NIST_1A\n   many\n") is None


def test_the_samples_of_core_audio_begin_after_a_count_of_edits():
    head = b"caff\0\1\0\0" + b"desc" + struct.pack(">q", 32) + b"d" * 32
    content = head + b"data" + struct.pack(">q", 104) + bytes(4) + DATA
    start = content.index(DATA)
    assert found("caf", content) == Samples(start, 100, start - 12, 8, "big", more=4)
    live = head + b"data" + struct.pack(">q", -1) + bytes(4) + DATA  # up to the end of the file
    assert found("caf", live) == Samples(start, 0, start - 12, 8, "big", more=4)
    view = corrected(found("caf", live), io.BytesIO(live), len(live))
    assert view is not None
    assert view.read() == content
    assert found("caf", head) is None


def test_a_promise_that_a_pipe_leaves_says_nothing_and_any_other_counts_what_is_missing():
    size = 1000
    for promised, says_nothing, missing in (
        (None, True, 0), (100, False, 0), (956, False, 0), (1000, False, 44), (0x7FFF0000, True, 0), (0xFFFFFFFF, True, 0),
        (1_989_999_999, False, 1_989_999_999 - 956), (1_990_000_000, True, 0),
    ):  # fmt: skip
        samples = Samples(44, promised)
        assert (samples.says_nothing(size), samples.missing(size)) == (says_nothing, missing)
    assert Samples(44, 1_990_000_000).missing(44 + 995_000_000) == 995_000_000  # half of it is there: it was cut off
    assert Samples(44, 0x7FFF0000).missing(44 + 2_000_000_000) == 0  # however much is there


def test_a_size_of_zero_or_one_that_a_pipe_leaves_is_corrected_to_what_is_there_in_its_own_width_and_order():
    content = b"h" * 44 + DATA
    for samples, new in (
        (Samples(44, 0, 40, 4, "big"), struct.pack(">I", 100)),
        (Samples(44, 0, 40, 4, "big", more=14), struct.pack(">I", 114)),
        (Samples(44, 0, 20, 8, "little", more=24), struct.pack("<Q", 124)),
        (Samples(44, None, 8, 4, "big"), struct.pack(">I", 100)),
        (Samples(44, 0x7FFF0000, 40), struct.pack("<I", 100)),
        (Samples(44, 0xFFFFFFFF, 40, 4, "big", more=14), struct.pack(">I", 114)),
        (Samples(44, 1_990_000_000, 40), struct.pack("<I", 100)),
    ):
        view = corrected(samples, io.BytesIO(content), len(content))
        assert view is not None
        assert view.read() == content[: samples.size_at] + new + content[samples.size_at + len(new) :]
    for samples in (
        Samples(44, 100, 40),
        Samples(44, 101, 40),  # cut off
        Samples(44, 1_989_999_999, 40),
        Samples(144, 0, 40),
        Samples(44, 0),
        Samples(44, None),
        Samples(144, None, 40),
        Samples(44, 0, 40, 0),
    ):
        assert corrected(samples, io.BytesIO(content), len(content)) is None
    large = 44 + 0x7FFF0000  # all that is promised is there
    assert corrected(Samples(44, 0x7FFF0000, 40), io.BytesIO(content), large) is None
    assert corrected(Samples(44, 0x7FFF0000, 40), io.BytesIO(content), large - 1) is not None
    notes = b"h" * 44 + b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert corrected(Samples(44, 0, 40), io.BytesIO(notes), len(notes)) is None  # no samples: notes follow


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"LIST\4\0\0\0INFO", True), (b"LIST\3\0\0\0INF\0note\2\0\0\0ab", True), (b"LIST\3\0\0\0INF", True), (b"LIST\5\0\0\0INFO", False),
        (b"LIST\6\0\0\0INFO", False), (b"LIST\4\0\0\0INFOmore", False), (b"1IST\4\0\0\0INFO", False), (b"LIST\4\0\0\0INFO" + DATA, False),
        (b"LI", False),
    ],
)  # fmt: skip
def test_named_chunks_up_to_the_end_are_no_samples(content, expected):
    assert only_chunks(Samples(4, 0), io.BytesIO(b"head" + content), 4 + len(content)) is expected


def core_audio(after, *, size=4):
    desc = struct.pack(">d4sIIIII", 16_000, b"lpcm", 2, 2, 1, 1, 16)
    return b"caff\0\1\0\0desc" + struct.pack(">q", 32) + desc + b"data" + struct.pack(">q", size) + bytes(4) + after


def big_endian_pcm(after, *, size=8):
    """AIFF of 16 kHz."""
    comm = struct.pack(">hIh", 1, 0, 16) + b"\x40\x0c\xfa" + bytes(7)
    body = b"AIFFCOMM" + struct.pack(">I", 18) + comm + b"SSND" + struct.pack(">I", size) + bytes(8) + after
    return b"FORM" + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("caf", core_audio(b"free" + struct.pack(">q", 9) + bytes(9) + b"info" + struct.pack(">q", 14) + b"\0\0\0\1title\0one\0")),
        ("aiff", big_endian_pcm(b"ANNO" + struct.pack(">I", 3) + b"odd\0" + b"AUTH" + struct.pack(">I", 4) + b"they")),
    ],
)  # fmt: skip
def test_chunks_behind_no_samples_are_no_samples_in_the_other_order_of_bytes_too(kind, content):
    assert soundfile.info(io.BytesIO(content)).frames == 0
    assert corrected(found(kind, content), io.BytesIO(content), len(content)) is None
    make = core_audio if kind == "caf" else big_endian_pcm
    streamed = make(DATA, size=0)
    view = corrected(found(kind, streamed), io.BytesIO(streamed), len(streamed))
    assert view is not None
    assert view.read() == make(DATA, size=len(DATA) + (4 if kind == "caf" else 8))


def wav_of(*, num_channels, rate_hz, num_frames, subtype="PCM_16"):
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((num_frames, num_channels)), rate_hz, format="WAV", subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize(("num_channels", "rate_hz", "num_frames"), [(1, 16_000, 1), (2, 8_000, 301), (3, 48_000, 7)])
@pytest.mark.parametrize("after", [b"", b"LIST\4\0\0\0abcd", b"\1"])
def test_a_plain_wav_is_as_libsndfile_has_it(num_channels, rate_hz, num_frames, after):
    content = wav_of(num_channels=num_channels, rate_hz=rate_hz, num_frames=num_frames) + after
    with soundfile.SoundFile(io.BytesIO(content)) as opened:
        expected = opened.frames, opened.samplerate, opened.channels
    assert plain_wav(content[:4096], len(content)) == expected == (num_frames, rate_hz, num_channels)
    sized = (
        content[:40] + struct.pack("<I", 2 * num_channels * num_frames - 1) + content[44:]
    )  # not a whole frame at its end
    with soundfile.SoundFile(io.BytesIO(sized)) as opened:
        assert (plain_wav(sized[:4096], len(sized)) or (0,))[0] == opened.frames == num_frames - 1


def test_a_wav_that_is_not_plain_is_left_to_the_decoder():
    content = wav_of(num_channels=1, rate_hz=16_000, num_frames=100)
    assert plain_wav(content[:44], len(content)) == (100, 16_000, 1)
    others = {
        "cut off": (content, len(content) - 1),
        "within its header": (content[:43], len(content)),
        "no samples": (content[:40] + bytes(4), 44),
        "size of a stream": (content[:40] + struct.pack("<I", 0x7FFF0000), 1 << 32),
        "24 bits": (wav_of(num_channels=1, rate_hz=16_000, num_frames=100, subtype="PCM_24"), 10_000),
        "floats": (wav_of(num_channels=1, rate_hz=16_000, num_frames=100, subtype="FLOAT"), 10_000),
        "frames of another size": (content[:32] + b"\3" + content[33:], len(content)),
        "big-endian": (b"RIFX" + content[4:], len(content)),
        "another chunk first": (content[:36] + b"LIST" + content[40:], len(content)),
        "mu-law": (content[:20] + b"\7" + content[21:], len(content)),
    }
    assert {what for what, (head, size) in others.items() if plain_wav(head, size) is not None} == set()
