import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from corpus_builder.distortions.reverb import reverberate
from corpus_builder.rooms.measured_rir import (
    UnfitResponseError,
    check_onset,
    decay_end,
    faded,
    noise_knee,
    usable_response,
)
from tests.oracles import reverberation
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.measured_response import measured_response
from tests.oracles.speechlike import speechlike

RATE = 16_000
few = settings(max_examples=40, derandomize=True, deadline=None)
SPEECH = speechlike(2.0, seed=4)


def taken(wave, rate_hz=RATE):
    return usable_response(np.asarray(wave, dtype=np.float64), rate_hz=rate_hz, name="hall/a.wav")


@few
@given(
    seed=st.integers(0, 999),
    fraction=st.floats(
        -0.45, 0.45
    ),  # midway between two samples either may be taken, or a reflection that is as strong
    t60_s=st.floats(0.15, 1.2),
    lead_s=st.floats(0.0, 0.5),
    tail=st.floats(0.01, 0.12),
    gain=st.sampled_from([1.0, 0.003, -0.5, 40.0]),
)
def test_the_direct_sound_is_found_within_half_a_sample_wherever_it_lies(seed, fraction, t60_s, lead_s, tail, gain):
    wave, arrival = measured_response(
        seed=seed, fraction=fraction, t60_s=t60_s, lead_s=lead_s, tail=tail, seconds=lead_s + 1.5 * t60_s + 0.2
    )
    assume(arrival >= 0)
    response = taken(gain * wave)
    lead = round(0.005 * RATE)
    begin = 0 if response.direct_sample < lead else round(arrival) - lead  # what comes before is cut to 5 ms
    assert abs(begin + response.direct_sample - arrival) <= 0.501
    assert response.wave[response.direct_sample] > 0
    heard = reverberate(SPEECH, response.wave, direct_sample=response.direct_sample)
    assert abs(gcc_phat_lag(SPEECH, np.rint(32768 * heard))) <= 1


@pytest.mark.parametrize("floor_db", [-55.0, -70.0, -90.0])
@pytest.mark.parametrize("t60_s", [0.25, 0.5, 1.0])
def test_t30_is_that_of_the_decay_whatever_noise_follows_it(t60_s, floor_db):
    wave, _ = measured_response(seed=3, t60_s=t60_s, tail=0.3, direct=2.0, floor_db=floor_db, seconds=2.5 * t60_s + 0.5)
    response = taken(wave)
    assert response.t30_s == pytest.approx(t60_s, rel=0.12)
    assert response.t30_s == pytest.approx(reverberation.t30_s(response.wave[response.direct_sample :], RATE), rel=1e-6)


def test_the_noise_after_the_decay_is_cut_off():
    wave, arrival = measured_response(t60_s=0.3, tail=0.2, floor_db=-60, seconds=3.0)
    response = taken(wave)
    assert response.wave.size < arrival + 0.45 * RATE
    assert abs(response.wave[-1]) < 1e-3


def test_a_louder_reflection_is_not_taken_for_the_direct_sound():
    """A mode of the room, slow and twice as high as the direct sound: the largest sample is not where the sound arrives."""
    wave, arrival = measured_response(seed=1, tail=0.03, seconds=1.2)
    since = np.arange(wave.size) - arrival - 400
    wave += np.where(since > 0, 2.0 * np.sin(2 * np.pi * 60 * since / RATE) * np.exp(-since / 1200), 0.0)
    assert np.abs(wave).argmax() > arrival + 300
    response = taken(wave)
    assert abs(response.direct_sample - round(0.005 * RATE)) <= 1
    heard = reverberate(SPEECH, response.wave, direct_sample=response.direct_sample)
    assert abs(gcc_phat_lag(SPEECH, np.rint(32768 * heard))) <= 1


def test_what_still_sounds_after_a_pause_is_no_noise_floor():
    """A sparse response: a reflection 90 ms after everything else went below the floor's level is kept."""
    wave, arrival = measured_response(t60_s=0.15, tail=0.2, floor_db=-90, seconds=1.5)
    late = round(arrival) + round(0.3 * RATE)
    wave[late : late + 40] += 0.02 * np.random.default_rng(3).standard_normal(40)
    assert taken(wave).wave.size > late - arrival + 40


@pytest.mark.parametrize("padding", [0, 1, 20_000])
def test_digital_silence_at_the_end_changes_nothing(padding):
    wave, _ = measured_response(t60_s=0.4, tail=0.2, floor_db=-60, seconds=1.2)
    expected, found = taken(wave), taken(np.pad(wave, (0, padding)))
    np.testing.assert_allclose(found.wave, expected.wave, atol=1e-6)
    assert found.t30_s == pytest.approx(expected.t30_s, rel=1e-6)


def noise(size=RATE):
    return np.random.default_rng(1).standard_normal(size)


def decaying(wave, t60_s=0.4):
    return wave * np.exp(-np.arange(len(wave)) / RATE * np.log(1000) / t60_s)


def two_arrivals():
    wave, arrival = measured_response(seed=2, tail=0.02)
    wave[round(arrival) + 300] += 1.6
    return wave


@pytest.mark.parametrize(
    ("wave", "said"),
    [
        (np.zeros(RATE), "digital silence"),
        (np.zeros(0), "digital silence"),
        (np.ones(1), "1 samples, too few"),
        (np.eye(1, RATE, 300)[0], "no decaying Schroeder curve|before it could decay"),
        (np.ones(RATE), "no dominant onset|no decaying"),
        (noise(), "no dominant onset|no decaying"),
        (decaying(noise())[::-1], "no dominant onset|no decaying|before it could decay"),
        (np.sin(np.arange(RATE) / 5), "no dominant onset|no decaying"),
        (speechlike(2.0), "no dominant onset|no decaying|before it could decay"),
        (two_arrivals(), "no dominant onset"),
        (measured_response(floor_db=-20)[0], "no decaying Schroeder curve: it falls by|no dominant onset"),
        (measured_response(seconds=0.06)[0], "ends 10 ms after its direct sound"),
    ],
)
def test_what_is_no_room_response_is_refused_by_name(wave, said):
    with pytest.raises(UnfitResponseError, match=said) as told:
        taken(wave)
    assert str(told.value).startswith("hall/a.wav ")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("floor_db", "is_taken"), [(-60, True), (-55, True), (-53, False), (-45, False)])
def test_a_response_is_taken_only_if_it_decays_by_35_db_before_its_noise(floor_db, is_taken):
    wave, _ = measured_response(seed=4, tail=0.1, floor_db=floor_db)
    if is_taken:
        assert taken(wave).t30_s == pytest.approx(0.4, rel=0.15)
    else:
        with pytest.raises(UnfitResponseError, match=r"it falls by \d\d\.\d dB before its noise, 35 are needed"):
            taken(wave)


@few
@given(wave=st.lists(st.floats(-1, 1, width=32), max_size=400), repeat=st.integers(1, 40))
def test_any_wave_is_either_refused_by_name_or_gives_a_copy_in_step(wave, repeat):
    try:
        response = taken(np.tile(np.array(wave), repeat))
    except UnfitResponseError:
        return
    heard = reverberate(SPEECH, response.wave, direct_sample=response.direct_sample)
    assert abs(gcc_phat_lag(SPEECH, np.rint(32768 * heard))) <= 1


def spikes(**at):
    """A thousand samples at 8 kHz that are zero but for some."""
    wave = np.zeros(1000)
    for place, value in at.items():
        wave[int(place[1:])] = value
    return wave


@pytest.mark.parametrize(
    ("wave", "said"),
    [
        (spikes(_300=0.3, _400=0.4, _500=1.0), "strong sound begins 25.0 ms before the peak"),
        (spikes(_300=-0.3, _400=-0.4, _500=1.0), "strong sound begins 25.0 ms before the peak"),
        (spikes(_300=0.2, _420=-0.25, _500=-1.0), "strong sound begins 10.0 ms before the peak"),
        (spikes(_491=-0.25, _500=1.0), "strong sound begins 1.1 ms before the peak"),
        (spikes(_500=0.1, _600=1.0), "its direct sound is 0.10 of its largest sample"),
        (spikes(_500=-0.1, _509=0.3, _600=-1.0), "its direct sound is 0.10 of its largest sample"),
    ],
)
def test_an_onset_is_refused_for_strong_sound_before_it_and_for_too_little_at_it(wave, said):
    with pytest.raises(UnfitResponseError) as refused:
        check_onset(wave, 500, rate_hz=8_000, name="hall/b.wav")
    assert str(refused.value).startswith(f"hall/b.wav has no dominant onset: {said}")


@pytest.mark.parametrize(
    "wave",
    [
        spikes(_500=1.0),
        spikes(_300=-0.24, _500=-1.0),  # weak, and both turned
        spikes(_492=0.9, _500=1.0),  # within the millisecond around it
        spikes(_508=-0.3, _600=1.0),  # so much within a millisecond after it, negative, too
    ],
)
def test_an_onset_that_is_strong_enough_and_first_is_accepted_whatever_its_polarity(wave):
    check_onset(wave, 500, rate_hz=8_000, name="hall/b.wav")


def test_a_response_that_ends_too_soon_is_refused_with_the_time_that_it_has():
    wave, _ = measured_response(seconds=0.085, lead_s=0.05)
    with pytest.raises(UnfitResponseError, match=r"ends 35 ms after its direct sound"):
        taken(wave)
    assert decay_end(decaying(noise(640), t60_s=0.02), rate_hz=RATE, name="a") > 0  # 40 ms are four blocks
    with pytest.raises(UnfitResponseError, match=r"ends 40 ms after its direct sound"):
        decay_end(decaying(noise(639), t60_s=0.02), rate_hz=RATE, name="a")


def test_a_wave_of_31_samples_is_too_short_for_a_response_and_one_of_32_is_looked_at():
    with pytest.raises(UnfitResponseError, match="has 31 samples, too few for a room response"):
        taken(decaying(np.ones(31)))
    with pytest.raises(UnfitResponseError, match="ends 2 ms after its direct sound"):
        taken(decaying(np.ones(32)))


def stairs(level_db, block):
    """Blocks of samples of one magnitude and alternating sign."""
    sign = np.where(np.arange(block) % 2, -1.0, 1.0)
    return np.concatenate([sign * 10 ** (level / 20) for level in level_db])


def test_the_knee_is_where_the_line_through_the_blocks_after_the_first_meets_the_noise():
    """Blocks fall by 5 dB each from 0 dB to a floor of -60 dB; the direct sound in the first is far above the line."""
    for count in (16, 60):  # of 16 blocks the last tenth is noise, and of the last half most is decay
        wave = stairs([30.0] + [max(-5.0 * at, -60.0) for at in range(1, count)], 100)
        end, beyond = noise_knee(wave, 100)
        assert end == 1250  # the middle of the twelfth block after the first
        assert beyond == pytest.approx(1e-6 * 100 * 10 / (np.log(10) * 5))  # the exponential decay from there on


def test_a_decay_without_noise_is_cut_at_60_db():
    """Of an exponential the energy still to come falls as the wave itself does: by 60 dB in its reverberation time."""
    wave = decaying(np.where(np.arange(RATE) % 2, -1.0, 1.0), t60_s=0.3)
    assert decay_end(wave, rate_hz=RATE, name="a") == pytest.approx(0.3 * RATE + 1, abs=1)
    later = np.pad(wave, (160, 0))  # the first block has nothing: what is counted are samples of the wave as it is
    assert decay_end(later, rate_hz=RATE, name="a") == pytest.approx(0.3 * RATE + 161, abs=1)


def test_fades_are_raised_cosines_over_half_the_head_and_the_last_5_ms():
    """At 1000 Hz, so that they have a few samples: the head has 8, 5 ms are 5."""
    into, out = [0.0955, 0.3455, 0.6545, 0.9045], [0.933, 0.75, 0.5, 0.25, 0.067]
    found = faded(np.ones(30), head=True, direct=8, rate_hz=1000)
    np.testing.assert_allclose(found, [*into, *[1.0] * 21, *out], atol=1e-4)
    found = faded(np.ones(30), head=False, direct=8, rate_hz=1000)
    np.testing.assert_allclose(found, [*[1.0] * 25, *out], atol=1e-4)
    found = faded(np.ones(6), head=False, direct=2, rate_hz=1000)  # no more than half of what follows the direct sound
    np.testing.assert_allclose(found, [1.0, 1.0, 1.0, 1.0, 1.0, 0.5], atol=1e-4)


def test_what_came_before_is_faded_in_only_where_something_was_cut_off():
    for lead_s, is_cut in ((0.004, False), (0.02, True)):
        wave, arrival = measured_response(t60_s=0.3, tail=0.2, floor_db=-60, lead_s=lead_s)
        response = taken(wave)
        begin = round(arrival) - response.direct_sample
        assert (begin > 0) == is_cut
        scaled = wave / np.abs(wave).max()
        assert np.allclose(response.wave[:8], scaled[begin : begin + 8], atol=1e-6) != is_cut


def test_polarity_is_turned_and_the_scale_is_that_of_the_largest_sample():
    wave, _ = measured_response(seed=8, t60_s=0.2, tail=0.05)
    for gain in (-3.0, 0.01):
        response = taken(gain * wave)
        assert response.wave[response.direct_sample] == pytest.approx(1.0, abs=0.02)
        np.testing.assert_allclose(response.wave, taken(wave).wave, atol=1e-6)


def test_two_reflections_that_add_up_below_half_the_band_make_a_response_of_no_use():
    for strength, is_taken in ((0.7, True), (0.8, False)):
        wave, arrival = measured_response(seed=2, tail=0.02)
        wave[round(arrival) + 300] += strength
        wave[round(arrival) + 302] += strength
        if is_taken:
            assert taken(wave).rival < 0.95
        else:
            with pytest.raises(UnfitResponseError, match=r"a reflection is 1\.04 times as strong as its direct sound"):
                taken(wave)


def test_a_response_that_is_next_to_nothing_but_its_direct_sound_is_refused():
    with pytest.raises(UnfitResponseError, match=r"^hall/a.wav has no decaying Schroeder curve: no line can be laid"):
        taken(measured_response(tail=0.001, floor_db=-100, t60_s=0.3)[0])
