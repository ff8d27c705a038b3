"""Each coder against another implementation of the same standard, or the standard's own arithmetic."""

import io
import struct

import G722
import numpy as np
import pytest
import soundfile

from corpus_builder.distortions.codecs import music, opus, telephony
from corpus_builder.distortions.codecs.delay import probe
from corpus_builder.distortions.codecs.ffmpeg import av_packets, av_samples
from manifests.recipe.codecs import BITRATES_KBPS
from tests.oracles.g711 import through_a_law, through_mu_law
from tests.oracles.speechlike import speechlike

NARROW = np.rint(speechlike(3.0, rate_hz=8_000, seed=3) * 32768).astype(np.int16)
WIDE = np.rint(speechlike(3.0, rate_hz=16_000, seed=3) * 32768).astype(np.int16)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


def distance_db(wave, other):
    size = min(wave.size, other.size)
    wave, other = wave[:size].astype(np.float64), other[:size].astype(np.float64)
    return 10 * np.log10(np.sum((wave - other) ** 2) / np.sum(wave**2))


def kbps(packets, seconds):
    return 8 * sum(map(len, packets)) / seconds / 1000


@pytest.mark.parametrize(("law", "oracle"), [("ALAW", through_a_law), ("ULAW", through_mu_law)])
def test_g711_is_that_of_the_standard_for_every_16_bit_sample(law, oracle):
    coded = telephony.g711(EVERY_SAMPLE, law=law)
    expected = [oracle(int(sample)) for sample in EVERY_SAMPLE]
    np.testing.assert_array_equal(coded.decoded()[: EVERY_SAMPLE.size], expected)
    assert {len(packet) for packet in coded.packets} == {160}


@pytest.mark.parametrize("bitrate_kbps", BITRATES_KBPS["g722"])
def test_g722_is_bit_for_bit_that_of_another_implementation(bitrate_kbps):
    coded = telephony.g722(WIDE, bitrate_kbps=bitrate_kbps)
    bits = int(bitrate_kbps) // 8
    stream = np.frombuffer(b"".join(coded.packets), np.uint8)
    np.testing.assert_array_equal(stream, np.frombuffer(G722.G722(16_000, 64_000).encode(WIDE), np.uint8))
    other = G722.G722(16_000, 8_000 * bits).decode((stream >> (8 - bits)).tobytes())
    np.testing.assert_array_equal(coded.decoded(), np.asarray(other))


@pytest.mark.parametrize(("bitrate_kbps", "code"), [(24.0, 25), (32.0, 23)])
def test_g726_decodes_as_libsndfile_decodes_the_same_bits(bitrate_kbps, code):
    """FFmpeg rounds otherwise in the last bits, so the waves are near, not equal."""
    coded = telephony.g726(NARROW, bitrate_kbps=bitrate_kbps)
    bits = int(bitrate_kbps) // 8
    codewords = np.unpackbits(np.frombuffer(b"".join(coded.packets), np.uint8)).reshape(-1, bits)
    stream = np.packbits(codewords[:, ::-1].reshape(-1), bitorder="little").tobytes()
    header = struct.pack(">4sIIIII4x", b".snd", 28, len(stream), code, 8_000, 1)
    other, _ = soundfile.read(io.BytesIO(header + stream), dtype="int16")
    assert distance_db(other, coded.decoded()) < -25


@pytest.mark.parametrize(("bitrate_kbps", "subtype"), [(24.0, "G723_24"), (32.0, "G721_32"), (40.0, "G723_40")])
def test_g726_leaves_as_much_noise_as_libsndfiles(bitrate_kbps, subtype):
    stream = io.BytesIO()
    soundfile.write(stream, NARROW, 8_000, format="AU", subtype=subtype)
    stream.seek(0)
    other, _ = soundfile.read(stream, dtype="int16")
    heard = telephony.g726(NARROW, bitrate_kbps=bitrate_kbps).decoded()
    assert heard.size >= NARROW.size
    assert distance_db(NARROW, heard) == pytest.approx(distance_db(NARROW, other), abs=0.6)


def test_g726_has_two_to_five_bits_a_sample():
    for bitrate_kbps in BITRATES_KBPS["g726"]:
        coded = telephony.g726(NARROW, bitrate_kbps=bitrate_kbps)
        assert {len(packet) for packet in coded.packets} == {int(bitrate_kbps * 20 / 8)}
        assert coded.decoded().size == 160 * len(coded.packets)


def test_gsm_is_bit_for_bit_decoded_by_another_decoder():
    coded = telephony.gsm_full_rate(NARROW)
    assert {len(packet) for packet in coded.packets} == {33}
    np.testing.assert_array_equal(coded.decoded(), av_samples(coded.packets, decoder="gsm", rate_hz=8_000))


@pytest.mark.parametrize("bitrate_kbps", BITRATES_KBPS["amr-nb"])
def test_amr_is_heard_alike_by_both_decoders_at_its_bit_rate(bitrate_kbps):
    plain, concealing = (
        telephony.amr_narrow_band(NARROW, bitrate_kbps=bitrate_kbps, conceals_itself=which) for which in (False, True)
    )
    assert plain.packets == concealing.packets
    assert distance_db(plain.decoded() * 32768, concealing.decoded()) < -15
    speech_bits = round(bitrate_kbps * 20)
    assert {len(packet) for packet in plain.packets} == {1 + -(-speech_bits // 8)}  # octets of RFC 4867 after a header


@pytest.mark.parametrize("bitrate_kbps", [40.0, 64.0])
def test_opus_is_heard_alike_by_another_decoder(bitrate_kbps):
    samples = (WIDE / 32768).astype(np.float32)
    coded = opus.opus(samples, bitrate_kbps=bitrate_kbps, application="audio", rate_hz=16_000)
    other = av_samples(coded.packets, decoder="opus", rate_hz=16_000)
    assert distance_db(other[coded.skip_samples :], coded.decoded()) < -15
    assert {packet[0] & 3 for packet in coded.packets} == {0}  # one frame a packet
    assert coded.decode(coded.packets).size == 960 * len(coded.packets)


def test_aac_is_heard_alike_by_a_decoder_in_whole_numbers():
    samples = (WIDE / 32768).astype(np.float32)
    packets, header = av_packets(
        samples, coder="aac", sample_format="fltp", bitrate_kbps=32, rate_hz=16_000, options={"aac_coder": "fast"}
    )
    other = av_samples(packets, decoder="aac_fixed", rate_hz=16_000, header=header) / 2.0**31
    assert distance_db(music.aac(samples, bitrate_kbps=32.0, rate_hz=16_000), other) < -60


@pytest.mark.parametrize("bitrate_kbps", [16.0, 32.0, 64.0])
def test_aac_spends_the_bits_it_was_given(bitrate_kbps):
    samples = probe(16_000).astype(np.float32)
    packets, _ = av_packets(
        samples,
        coder="aac",
        sample_format="fltp",
        bitrate_kbps=bitrate_kbps,
        rate_hz=16_000,
        options={"aac_coder": "fast"},
    )
    assert kbps(packets, samples.size / 16_000) == pytest.approx(bitrate_kbps, rel=0.1)


@pytest.mark.parametrize(("rate_hz", "rates"), [(16_000, BITRATES_KBPS["vorbis"]), (22_050, BITRATES_KBPS["vorbis"]), (24_000, BITRATES_KBPS["vorbis"]), (32_000, (48.0, 64.0, 80.0)), (44_100, (48.0, 64.0, 80.0)), (48_000, (48.0, 64.0, 80.0))])  # fmt: skip
def test_vorbis_has_the_nominal_bit_rate_that_its_header_tells(rate_hz, rates):
    for bitrate_kbps in rates:
        stream = io.BytesIO()
        quality = music.vorbis_quality(bitrate_kbps, rate_hz=rate_hz)
        silence = np.zeros(100, np.float32)
        soundfile.write(stream, silence, rate_hz, format="OGG", subtype="VORBIS", compression_level=1 - quality)
        head = stream.getvalue()
        place = head.index(b"\x01vorbis")  # Vorbis I specification, section 4.2.2
        assert int.from_bytes(head[place + 20 : place + 24], "little") / 1000 == pytest.approx(bitrate_kbps, abs=1.0)


def test_vorbis_longer_than_a_block_comes_out_whole():
    samples = speechlike(9.0, seed=2).astype(np.float32)
    heard = music.vorbis(samples, bitrate_kbps=80.0, rate_hz=16_000)
    assert heard.size == samples.size > 2 * music.BLOCK
    assert distance_db(samples, heard) < -10
