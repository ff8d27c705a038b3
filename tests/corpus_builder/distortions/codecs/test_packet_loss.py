"""Packets that are lost: how many, in which runs, and what stands in for them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.distortions.codecs import telephony
from corpus_builder.distortions.codecs.packet_loss import packet_count, packet_is_lost
from corpus_builder.distortions.codecs.packets import Coded
from corpus_builder.distortions.codecs.transcode import transcode
from manifests.plan.steps import PlannedPacketLoss
from manifests.recipe.codecs import CONCEALING_CODECS, DEFAULT_BITRATE_KBPS, PACKET_CODECS
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

RATE = 16_000
SPEECH = speechlike(4.0, seed=21)
WAYS = [(codec, conceal) for codec in PACKET_CODECS for conceal in ("zeros", "repeat")] + [
    (codec, "codec") for codec in CONCEALING_CODECS
]


def loss(conceal="zeros", *, percent=10.0, seed=1, **numbers):
    return PlannedPacketLoss(percent=percent, conceal=conceal, seed=seed, lost_packets=1, **numbers)


def sent(codec, lost=None, wave=SPEECH):
    return transcode(wave, codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE, loss=lost)


def runs(flags):
    return [sum(1 for _ in group) for gone, group in itertools.groupby(flags) if gone]


@pytest.mark.parametrize("percent", [1.0, 10.0, 50.0])
def test_independent_losses_are_as_many_as_asked_and_do_not_cling(percent):
    flags = packet_is_lost(200_000, seed=5, percent=percent)
    rate = percent / 100
    assert flags.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / flags.size))
    assert np.mean(flags[1:][flags[:-1]]) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / flags.sum()))


@pytest.mark.parametrize(("percent", "burst_packets"), [(5.0, 2.0), (10.0, 4.0), (30.0, 10.0)])
def test_bursts_have_the_mean_loss_and_the_mean_length_of_gilberts_chain(percent, burst_packets):
    flags = packet_is_lost(200_000, seed=6, percent=percent, burst_packets=burst_packets)
    lengths = runs(flags)
    # lengths are geometric: their standard deviation is sqrt(1 - 1/burst) * burst
    spread = burst_packets * np.sqrt(1 - 1 / burst_packets) / np.sqrt(len(lengths))
    assert np.mean(lengths) == pytest.approx(burst_packets, abs=4 * spread)
    assert flags.mean() == pytest.approx(percent / 100, rel=8 / np.sqrt(len(lengths)))


def test_elliotts_two_states_lose_what_each_is_said_to_lose():
    numbers = {"percent": 12.0, "burst_packets": 20.0, "bad_percent": 50.0, "good_percent": 2.0}
    flags = packet_is_lost(400_000, seed=7, **numbers)
    assert flags.mean() == pytest.approx(0.12, rel=0.05)
    # two packets k apart are both lost with chance rate^2 + covariance; the states forget by (1 - enter - leave) a packet
    bad = (12 - 2) / (50 - 2)
    memory = 1 - 1 / 20 - (1 / 20) * bad / (1 - bad)
    for apart in (1, 5):
        both = np.mean(flags[apart:] & flags[:-apart])
        assert both == pytest.approx(0.12**2 + (0.5 - 0.02) ** 2 * bad * (1 - bad) * memory**apart, rel=0.06)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 300), burst=st.sampled_from([None, 1.5, 8.0]))
def test_the_first_packets_are_the_same_however_many_are_asked_for(seed, count, burst):
    longer = packet_is_lost(400, seed=seed, percent=20.0, burst_packets=burst)
    np.testing.assert_array_equal(packet_is_lost(count, seed=seed, percent=20.0, burst_packets=burst), longer[:count])


def test_the_losses_of_a_seed_are_frozen():
    """A change here would change every corpus that was planned with losses."""
    assert np.flatnonzero(packet_is_lost(40, seed=3, percent=20.0)).tolist() == [3, 4, 5, 8, 33, 38, 39]
    assert np.flatnonzero(packet_is_lost(40, seed=7, percent=20.0, burst_packets=3.0)).tolist() == [
        3,
        4,
        5,
        9,
        10,
        11,
        27,
        28,
        29,
        30,
    ]


@pytest.mark.parametrize(("codec", "conceal"), WAYS)
def test_speech_with_losses_has_its_length_and_is_in_step(codec, conceal):
    heard = sent(codec, loss(conceal))
    assert heard.shape == SPEECH.shape
    assert abs(gcc_phat_lag(SPEECH, heard)) <= 1
    assert not np.array_equal(heard, sent(codec))
    np.testing.assert_array_equal(heard, sent(codec, loss(conceal)))


@pytest.mark.parametrize(("codec", "conceal"), WAYS)
def test_a_loss_that_loses_nothing_is_no_loss(codec, conceal):
    heard = sent(codec, loss(conceal, percent=1e-9))
    if (codec, conceal) == ("amr-nb", "codec"):  # OpenCORE's decoder stands in for FFmpeg's
        assert np.mean((heard - sent(codec)) ** 2) < 0.01 * np.mean(heard**2)
    else:
        np.testing.assert_array_equal(heard, sent(codec))


@pytest.mark.parametrize(("codec", "conceal"), WAYS)
def test_everything_may_be_lost(codec, conceal):
    heard = sent(codec, loss(conceal, percent=100.0), wave=SPEECH[:8000])
    assert heard.shape == (8000,)
    assert np.abs(heard).max() < 1e-3


@pytest.mark.parametrize("num_samples", [1, 16, 160, 321])
@pytest.mark.parametrize(("codec", "conceal"), WAYS)
def test_very_short_speech_may_lose_packets(codec, conceal, num_samples):
    heard = sent(codec, loss(conceal, percent=50.0), wave=SPEECH[4000 : 4000 + num_samples])
    assert heard.shape == (num_samples,)
    assert np.abs(heard).max() < 2 * np.abs(SPEECH).max()


def test_zeros_are_heard_exactly_where_packets_are_lost_and_nothing_else_changes():
    samples = np.rint(speechlike(2.0, rate_hz=8_000, seed=3) * 32768).astype(np.int16)
    coded = telephony.g711(samples, law="ALAW")
    gone = packet_is_lost(len(coded.packets), seed=4, percent=20.0)
    whole, holed = coded.decoded().reshape(-1, 160), coded.decoded_with_losses(gone, conceal="zeros").reshape(-1, 160)
    assert gone.any()
    assert not holed[gone].any()
    np.testing.assert_array_equal(holed[~gone], whole[~gone])


def test_the_last_packet_heard_is_repeated_and_silence_before_the_first():
    coded = Coded([bytes([number]) for number in range(1, 8)], lambda sent: np.repeat([p[0] for p in sent], 3), 3)
    gone = np.array([True, False, True, True, False, False, True])
    heard = coded.decoded_with_losses(gone, conceal="repeat").reshape(-1, 3)
    assert heard[:, 0].tolist() == [0, 2, 2, 2, 5, 6, 6]
    assert (heard == heard[:, :1]).all()


@pytest.mark.parametrize("codec", CONCEALING_CODECS)
def test_the_codecs_own_concealment_goes_on_with_the_voice_and_then_fades(codec):
    """A steady voice; the decoder fills the first lost packet with most of its power, and a long gap with little."""
    time_s = np.arange(2 * RATE) / RATE
    voice = 0.1 * sum(np.cos(2 * np.pi * 150 * harmonic * time_s + harmonic) / harmonic for harmonic in range(1, 12))
    one_by_one = sent(codec, loss("codec", percent=10.0, seed=2), wave=voice)
    holes = sent(codec, loss("zeros", percent=10.0, seed=2), wave=voice)
    rest = sent(codec, wave=voice)
    gone = np.repeat(packet_is_lost(packet_count(voice.size, rate_hz=RATE), seed=2, percent=10.0), 320)
    gone &= np.abs(holes) < 1e-4
    assert gone.sum() > 1000
    assert np.mean(one_by_one[gone] ** 2) > 0.2 * np.mean(rest[gone] ** 2)
    long_gap = packet_is_lost(100, seed=7, percent=20.0, burst_packets=60.0)
    assert long_gap[27:].all()
    assert not long_gap[:27].any()
    faded = sent(codec, loss("codec", percent=20.0, burst_packets=60.0, seed=7), wave=voice)
    assert np.mean(faded[60 * 320 :] ** 2) < 0.1 * np.mean(rest[60 * 320 :] ** 2)
