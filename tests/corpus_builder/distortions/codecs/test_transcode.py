import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.distortions.codecs import transcode as codecs
from corpus_builder.distortions.codecs.delay import measured_delay
from corpus_builder.distortions.codecs.round_trip import TAIL_S, Setting, resampled
from corpus_builder.distortions.codecs.transcode import UnknownBitrateError, transcode
from manifests.recipe.codecs import BITRATES_KBPS, CODECS, DEFAULT_BITRATE_KBPS, nearest_bitrate_kbps
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

RATE = 16_000
OPUS_RATES = (6.0, 8.0, 9.0, 12.0, 16.0, 32.0, 64.0)
SETTINGS = [
    *((codec, rate, "audio") for codec in CODECS if codec != "opus" for rate in BITRATES_KBPS[codec]),
    *(("opus", rate, application) for application in ("audio", "voip") for rate in OPUS_RATES),
]
NARROW_BAND = ["g711-alaw", "g711-mulaw", "g726", "gsm-fr", "amr-nb"]
SPEECH = speechlike(6.0, seed=11)


def distance_db(clean, coded):
    return 10 * np.log10(np.mean((coded - clean) ** 2) / np.mean(clean**2))


def band_power(wave, low_hz, high_hz, rate_hz=RATE):
    power = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(wave.size, 1 / rate_hz)
    return power[(hertz >= low_hz) & (hertz < high_hz)].sum()


@pytest.mark.parametrize(("codec", "bitrate_kbps", "application"), SETTINGS)
def test_coded_speech_is_in_step_at_every_setting(codec, bitrate_kbps, application):
    coded = transcode(SPEECH, codec=codec, bitrate_kbps=bitrate_kbps, rate_hz=RATE, application=application)
    assert coded.shape == SPEECH.shape
    assert abs(gcc_phat_lag(SPEECH, np.rint(coded * 32768))) <= 1
    assert distance_db(SPEECH, coded) > -90  # something was done to it


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("codec", CODECS)
def test_coded_speech_is_in_step_at_other_rates(codec, rate_hz):
    speech = speechlike(3.0, rate_hz=rate_hz, seed=4)
    coded = transcode(speech, codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=rate_hz)
    assert coded.shape == speech.shape
    assert abs(gcc_phat_lag(speech, coded)) <= 1  # which is less than one at 16 kHz


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize(("codec", "bitrate_kbps", "application"), SETTINGS)
def test_coded_speech_is_in_step_at_every_setting_and_rate(codec, bitrate_kbps, application, rate_hz):
    speech = speechlike(3.0, rate_hz=rate_hz, seed=4)
    coded = transcode(speech, codec=codec, bitrate_kbps=bitrate_kbps, rate_hz=rate_hz, application=application)
    assert coded.shape == speech.shape
    assert abs(gcc_phat_lag(speech, coded)) <= max(1, rate_hz // 16_000)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    codec=st.sampled_from(CODECS),
    size=st.one_of(
        st.integers(1, 400), st.sampled_from([1, 16, 160]), st.integers(1590, 1610), st.integers(4000, 4200)
    ),
    gain=st.sampled_from([0.0, 1e-4, 0.1, 1.0, 30.0]),
)
def test_length_is_kept_and_nothing_breaks_however_short_silent_or_loud(codec, size, gain):
    wave = gain * np.random.default_rng(size).standard_normal(size)
    coded = transcode(wave, codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE)
    assert coded.shape == wave.shape
    assert coded.dtype == np.float64
    assert np.abs(coded).max() < 3 * np.abs(wave).max() + 1e-3


@pytest.mark.parametrize("level", [1.0, -1.0, 0.5])
@pytest.mark.parametrize("codec", CODECS)
def test_a_constant_neither_breaks_a_codec_nor_grows(codec, level):
    coded = transcode(np.full(8000, level), codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE)
    assert np.abs(coded).max() < 3


@pytest.mark.parametrize("codec", CODECS)
def test_a_full_scale_square_wave_is_not_clipped_or_broken(codec):
    wave = np.sign(np.sin(2 * np.pi * 440 * np.arange(16_000) / RATE + 0.1))
    coded = transcode(wave, codec=codec, bitrate_kbps=max(BITRATES_KBPS[codec]), rate_hz=RATE)
    assert np.corrcoef(wave, coded)[0, 1] > 0.8


@pytest.mark.parametrize("codec", CODECS)
def test_an_empty_wave_stays_empty(codec):
    assert transcode(np.zeros(0), codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE).shape == (0,)


@pytest.mark.parametrize("codec", CODECS)
def test_a_tenth_of_a_second_comes_out_whole_to_its_end(codec):
    speech = SPEECH[8000:9600] * 4
    coded = transcode(speech, codec=codec, bitrate_kbps=max(BITRATES_KBPS[codec]), rate_hz=RATE)
    assert np.sqrt(np.mean(coded[-320:] ** 2)) > 0.3 * np.sqrt(np.mean(speech[-320:] ** 2))


@pytest.mark.parametrize("codec", CODECS)
def test_a_wave_louder_than_full_scale_is_not_clipped(codec):
    coded = transcode(SPEECH, codec=codec, bitrate_kbps=max(BITRATES_KBPS[codec]), rate_hz=RATE)
    loud = transcode(40 * SPEECH, codec=codec, bitrate_kbps=max(BITRATES_KBPS[codec]), rate_hz=RATE)
    assert np.abs(40 * SPEECH).max() > 5
    assert np.abs(loud).max() > 0.5 * np.abs(40 * SPEECH).max()
    assert distance_db(SPEECH, loud / 40) < distance_db(SPEECH, coded) + 1.5


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_wave_gives_the_same_bits(codec):
    first = transcode(SPEECH, codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE)
    again = transcode(SPEECH.copy(), codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("codec", "low", "high"), [(codec, rates[0], rates[-1]) for codec, rates in BITRATES_KBPS.items() if len(rates) > 1]
)
def test_a_higher_bit_rate_lies_nearer_to_the_speech(codec, low, high):
    poor, rich = (transcode(SPEECH, codec=codec, bitrate_kbps=rate, rate_hz=RATE) for rate in (low, high))
    assert distance_db(SPEECH, rich) < distance_db(SPEECH, poor) - (0.5 if codec == "g722" else 2)


@pytest.mark.parametrize("codec", NARROW_BAND)
def test_telephone_codecs_leave_nothing_above_4_khz(codec):
    coded = transcode(SPEECH, codec=codec, bitrate_kbps=DEFAULT_BITRATE_KBPS[codec], rate_hz=RATE)
    assert band_power(coded, 4200, 8001) < 1e-6 * band_power(coded, 0, 4000)
    assert band_power(SPEECH, 4200, 8001) > 1e-4 * band_power(SPEECH, 0, 4000)


def test_g722_carries_wide_band_speech_up_to_7_khz_at_each_bit_rate():
    for bitrate_kbps in BITRATES_KBPS["g722"]:
        coded = transcode(SPEECH, codec="g722", bitrate_kbps=bitrate_kbps, rate_hz=RATE)
        assert band_power(coded, 4200, 6500) > 0.3 * band_power(SPEECH, 4200, 6500)


def test_the_application_of_opus_changes_what_is_heard():
    voip, audio = (
        transcode(SPEECH, codec="opus", bitrate_kbps=16.0, rate_hz=RATE, application=word) for word in ("voip", "audio")
    )
    assert distance_db(audio, voip) > -40


@pytest.mark.parametrize("first", ["gsm-fr", "amr-nb", "opus", "aac"])
@pytest.mark.parametrize("second", ["g711-alaw", "g726", "mp3", "amr-nb"])
def test_tandem_coding_is_in_step_and_worse_than_either_codec_alone(first, second):
    once = transcode(SPEECH, codec=first, bitrate_kbps=DEFAULT_BITRATE_KBPS[first], rate_hz=RATE)
    twice = transcode(once, codec=second, bitrate_kbps=DEFAULT_BITRATE_KBPS[second], rate_hz=RATE)
    assert abs(gcc_phat_lag(SPEECH, twice)) <= 1
    assert distance_db(SPEECH, twice) > distance_db(SPEECH, once) - 0.5


def test_resampling_by_blocks_is_that_of_one_call_to_the_last_bit():
    wave = np.random.RandomState(0).standard_normal(200_000)
    for from_hz, to_hz in ((16_000, 8_000), (8_000, 16_000), (48_000, 22_050)):
        np.testing.assert_array_equal(resampled(wave, from_hz, to_hz), soxr.resample(wave, from_hz, to_hz))


def test_the_measured_delays_lie_where_rounding_cannot_tip_them():
    """A calibration that stood near a half could round one way here and the other way on another machine."""
    fractions = [measured_delay(Setting(codec, rate, RATE, application)) % 1.0 for codec, rate, application in SETTINGS]
    assert all(not 0.4 < fraction < 0.6 for fraction in fractions), dict(zip(SETTINGS, fractions, strict=True))


@pytest.mark.parametrize("codec", CODECS)
def test_the_silence_after_the_end_is_longer_than_any_delay(codec):
    for rate_hz in (8_000, 16_000, 48_000):
        assert measured_delay(Setting(codec, BITRATES_KBPS[codec][0], rate_hz)) < 0.7 * TAIL_S * rate_hz


@settings(max_examples=30, derandomize=True, deadline=None)
@given(delay=st.integers(-20, 20), length=st.integers(1, 20), size=st.integers(0, 30))
def test_shifting_takes_a_delay_out_and_pads_with_silence(delay, length, size):
    wave = np.arange(1.0, size + 1.0)
    expected = [wave[at + delay] if 0 <= at + delay < size else 0.0 for at in range(length)]
    np.testing.assert_array_equal(codecs.shifted(wave, delay=delay, length=length), expected)


def test_an_unknown_bit_rate_is_named_with_those_there_are():
    with pytest.raises(UnknownBitrateError, match=r"amr-nb has no bit rate of 12 kbit/s; it has 4.75, .*12.2"):
        transcode(SPEECH, codec="amr-nb", bitrate_kbps=12.0, rate_hz=RATE)
    with pytest.raises(UnknownBitrateError, match="6 to 64 in whole numbers"):
        transcode(SPEECH, codec="opus", bitrate_kbps=6.5, rate_hz=RATE)


def test_the_nearest_bit_rate_is_one_the_codec_has():
    assert nearest_bitrate_kbps("amr-nb", 11.0) == 10.2
    assert nearest_bitrate_kbps("opus", 17.3) == 17.0
    assert nearest_bitrate_kbps("mp3", 20.0) == 16.0
    assert all(DEFAULT_BITRATE_KBPS[codec] in BITRATES_KBPS[codec] for codec in CODECS)
