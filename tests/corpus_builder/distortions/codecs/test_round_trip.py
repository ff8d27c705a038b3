"""At which rate each codec runs, how samples become its own and come back, and which packets a decoder is given."""

import numpy as np
import pytest

from corpus_builder.distortions.codecs import music, opus
from corpus_builder.distortions.codecs.packet_loss import packet_count, packet_is_lost
from corpus_builder.distortions.codecs.packets import Coded, split
from corpus_builder.distortions.codecs.round_trip import (
    Setting,
    as_wave,
    codec_rate_hz,
    music_coded,
    received,
    resampled,
    sixteen_bit,
    telephone_coded,
)
from manifests.plan.steps import PlannedPacketLoss


@pytest.mark.parametrize(
    ("codec", "bitrate_kbps", "rates"),
    [
        ("g711-alaw", 64.0, {8_000: 8_000, 48_000: 8_000}),
        ("g726", 32.0, {16_000: 8_000}),
        ("gsm-fr", 13.0, {16_000: 8_000}),
        ("amr-nb", 12.2, {16_000: 8_000}),
        ("g722", 64.0, {8_000: 16_000, 48_000: 16_000}),
        ("opus", 16.0, {8_000: 8_000, 11_025: 12_000, 12_000: 12_000, 16_000: 16_000, 22_050: 24_000, 24_000: 24_000, 44_100: 48_000}),
        ("mp3", 64.0, {8_000: 8_000, 11_025: 11_025, 16_000: 16_000, 32_000: 32_000, 44_100: 44_100, 48_000: 48_000, 96_000: 48_000}),
        ("aac", 64.0, {8_000: 16_000, 11_025: 16_000, 16_000: 16_000, 22_050: 22_050, 48_000: 48_000}),
        ("vorbis", 32.0, {8_000: 16_000, 16_000: 16_000, 22_050: 22_050, 32_000: 24_000, 44_100: 24_000}),
        ("vorbis", 48.0, {16_000: 16_000, 32_000: 32_000, 44_100: 44_100, 48_000: 48_000, 96_000: 48_000}),
    ],
)  # fmt: skip
def test_a_codec_runs_at_its_own_rate_or_the_next_that_it_has(codec, bitrate_kbps, rates):
    assert {rate_hz: codec_rate_hz(Setting(codec, bitrate_kbps, rate_hz)) for rate_hz in rates} == rates


def test_samples_are_rounded_to_16_bits_and_come_back_over_the_gain():
    np.testing.assert_array_equal(
        sixteen_bit(np.array([0.6, -0.6, 1.4, -1.4, 29_000.5]) / 32768), [1, -1, 1, -1, 29_000]
    )
    pcm = np.array([16_384, -32_768], np.int16)
    assert as_wave(pcm, 1.0).tolist() == [0.5, -1.0]
    assert as_wave(pcm, 0.5).tolist() == [1.0, -2.0]
    assert as_wave(np.array([0.25], np.float32), 0.5).tolist() == [0.5]
    wave = np.array([0.1, 0.2])
    assert resampled(wave, 8_000, 8_000) is wave
    tone = np.sin(np.arange(800) / 3)
    assert resampled(tone, 8_000, 16_000, divisor=0.5).size == 1600
    np.testing.assert_allclose(resampled(tone, 8_000, 16_000, divisor=0.5)[200:-200:2], 2 * tone[100:-100], atol=1e-3)


def coded(**options):
    """Six packets of three samples, each its number; a decoder that is given 90 and more conceals."""
    return Coded(
        [bytes([number]) for number in range(1, 7)],
        lambda sent: np.repeat([packet[0] for packet in sent], 3),
        3,
        **options,
    )


LOST = np.array([True, False, True, True, False, True])


def test_what_the_format_says_to_drop_at_the_start_is_dropped_with_losses_and_without():
    assert coded(skip_samples=4).decoded().tolist() == [2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]
    for conceal, expected in (("zeros", [0, 2, 0, 0, 5, 0]), ("repeat", [0, 2, 2, 2, 5, 5])):
        assert coded().decoded_with_losses(LOST, conceal=conceal)[::3].tolist() == expected
        assert (
            coded(skip_samples=4).decoded_with_losses(LOST, conceal=conceal).tolist()
            == np.repeat(expected, 3)[4:].tolist()
        )


def test_before_the_first_packet_there_is_nothing_to_repeat_although_the_last_one_is_there():
    found = coded().decoded_with_losses(np.array([True, True, False, True, False, False]), conceal="repeat")
    assert found[::3].tolist() == [0, 0, 3, 3, 5, 6]


def test_a_decoder_conceals_by_what_was_received_last():
    stands_in = coded(stand_in=lambda latest: bytes([90 + latest[0]]), skip_samples=3)
    assert stands_in.decoded_with_losses(LOST, conceal="codec")[::3].tolist() == [2, 92, 92, 5, 95]
    before_any = coded(stand_in=lambda latest: bytes([90 + latest[0]]))
    assert before_any.decoded_with_losses(LOST, conceal="codec")[0] == 91


def test_a_stream_is_split_into_whole_packets_and_samples_need_as_many_as_hold_them():
    assert split(b"abcdefg", 3) == [b"abc", b"def"]
    assert split(b"abcdef", 3) == [b"abc", b"def"]
    assert split(b"ab", 3) == []
    assert [packet_count(samples, rate_hz=8_000) for samples in (1, 160, 161, 320)] == [1, 1, 2, 2]
    assert packet_count(160, rate_hz=16_000) == 1
    assert packet_count(321, rate_hz=16_000) == 2


@pytest.mark.parametrize(
    ("codec", "bitrate_kbps", "packet"),
    [
        ("g711-alaw", 64.0, b"\xd5" * 160), ("g711-mulaw", 64.0, b"\xff" * 160), ("g722", 64.0, 160), ("g726", 16.0, 40), ("g726", 24.0, 60),
        ("g726", 32.0, 80), ("g726", 40.0, 100), ("gsm-fr", 13.0, 33), ("amr-nb", 4.75, 13), ("amr-nb", 7.95, 21), ("amr-nb", 12.2, 32),
    ],
)  # fmt: skip
def test_a_packet_of_20_ms_has_the_bytes_of_its_codec_and_bit_rate(codec, bitrate_kbps, packet):
    """Silence is one byte in either law of G.711, and another in each; a frame of AMR has a byte for its mode."""
    rate_hz = 16_000 if codec == "g722" else 8_000
    found = telephone_coded(
        np.zeros(5 * rate_hz // 50, np.int16), Setting(codec, bitrate_kbps, 16_000), conceals_itself=False
    )
    assert len(found.packets) >= 5
    if isinstance(packet, bytes):
        assert found.packets[2] == packet
    else:
        assert len(found.packets[2]) == packet
    assert found.decoded().size == len(found.packets) * rate_hz // 50


def test_g722_decodes_fewer_bits_at_its_lower_rates():
    """What the last one or two bits of the lower band held is missing."""
    tone = (3000 * np.sin(np.arange(1600) / 4)).astype(np.int16)
    made = [telephone_coded(tone, Setting("g722", rate, 16_000), conceals_itself=False) for rate in (64.0, 56.0, 48.0)]
    assert made[0].packets == made[1].packets == made[2].packets
    assert len({one.decoded().tobytes() for one in made}) == 3


@pytest.mark.parametrize(
    ("codec", "by_itself", "rate_hz"), [("mp3", music.mp3, 16_000), ("aac", music.aac, 22_050), ("vorbis", music.vorbis, 24_000)]
)  # fmt: skip
def test_a_music_codec_has_the_bit_rate_of_its_setting_and_the_rate_that_it_runs_at(codec, by_itself, rate_hz):
    noise = np.random.default_rng(3).standard_normal(rate_hz // 4).astype(np.float32) / 10
    found = {}
    for bitrate_kbps in (32.0, 64.0):
        decoded, decoded_hz = music_coded(noise, Setting(codec, bitrate_kbps, 16_000), loss=None, coder_hz=rate_hz)
        assert decoded_hz == rate_hz
        np.testing.assert_array_equal(decoded, by_itself(noise, bitrate_kbps=bitrate_kbps, rate_hz=rate_hz))
        found[bitrate_kbps] = decoded.tobytes()
    assert found[32.0] != found[64.0]


@pytest.mark.parametrize("application", ["voip", "audio"])
def test_opus_has_the_application_and_the_bit_rate_of_its_setting_and_its_own_losses(application):
    noise = np.random.default_rng(3).standard_normal(8000).astype(np.float32) / 10
    loss = PlannedPacketLoss.parse(PLANNED_LOSS | {"conceal": "repeat"}, where="test")
    for bitrate_kbps, planned in ((12.0, None), (24.0, None), (24.0, loss)):
        setting = Setting("opus", bitrate_kbps, 16_000, application)
        coded_alone = opus.opus(noise, bitrate_kbps=bitrate_kbps, application=application, rate_hz=16_000)
        decoded, decoded_hz = music_coded(noise, setting, loss=planned, coder_hz=16_000)
        assert decoded_hz == 48_000
        expected = coded_alone.decoded() if planned is None else received(coded_alone, planned)
        np.testing.assert_array_equal(decoded, expected)


PLANNED_LOSS = {
    "percent": 40.0,
    "burst_packets": 2.0,
    "bad_percent": 90.0,
    "good_percent": 5.0,
    "seed": 11,
    "lost_packets": 3,
}


@pytest.mark.parametrize("conceal", ["zeros", "repeat", "codec"])
def test_packets_are_lost_as_they_are_planned_and_concealed_as_it_is_planned(conceal):
    packets = Coded(
        [bytes([number]) for number in range(1, 61)],
        lambda sent: np.repeat([packet[0] for packet in sent], 3),
        3,
        stand_in=lambda latest: bytes([90 + latest[0]]),
    )
    is_lost = packet_is_lost(60, seed=11, percent=40.0, burst_packets=2.0, bad_percent=90.0, good_percent=5.0)
    loss = PlannedPacketLoss.parse(PLANNED_LOSS | {"conceal": conceal}, where="test")
    np.testing.assert_array_equal(received(packets, loss), packets.decoded_with_losses(is_lost, conceal=conceal))
    assert 0 < is_lost.sum() < 60
    np.testing.assert_array_equal(received(packets, None), packets.decoded())
