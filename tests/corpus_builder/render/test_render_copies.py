import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.audio.errors import NotFiniteAudioError
from corpus_builder.audio.levels import NotFiniteError
from corpus_builder.distortions.codecs import transcode
from corpus_builder.distortions.reverb import reverberate
from corpus_builder.render.render_copies import (
    CopyFailedError,
    LengthChangedError,
    SilentCopyError,
    UnchangedCopyError,
    render,
)
from manifests.corpus.sample import sample_key
from manifests.plan.plan import PlanRow
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

RATE = 16_000
FILE = {"root": "train", "path": "a.flac", "rate_hz": RATE}
RECORDED = {"kind": "noise", "form": "recorded", "source": "n", "root": "n", "recording": "n.flac", "offset": 700}
WHITE = {"kind": "noise", "form": "coloured", "source": "white", "colour": "white", "seed": 99}
BABBLE = {
    "kind": "noise",
    "form": "babble",
    "source": "babble",
    "talkers": [
        {"id": f"t{n}", "speaker": f"s{n}", "file": {**FILE, "path": f"t{n}.flac"}, "offset": 40 * n} for n in range(3)
    ],
}
ROOM = {"kind": "room", "bank": "b", "room": 0, "position": 0, "response": "b-0-0"}


def codec(name, bitrate_kbps=None):
    return {"kind": "codec", "codec": name, **({} if bitrate_kbps is None else {"bitrate_kbps": bitrate_kbps})}


def row_of(*chains, num_samples, levels=None):
    copies = [
        {"name": f"c-{number}", "condition": "c", "steps": list(steps), "level": (levels or {}).get(number, "keep")}
        for number, steps in enumerate(chains)
    ]
    plain = {
        "id": "u",
        "key": sample_key("u"),
        "split": "train",
        "num_samples": num_samples,
        "source": FILE,
        "copies": copies,
    }
    return PlanRow.parse(plain, where="test")


def response_of(seed):
    chance = np.random.default_rng(seed)
    response = chance.standard_normal(2500) * np.exp(-np.arange(2500) / 400) * 0.1
    response[:120] = 0.0
    response[100 + seed] = 1.0
    return response.astype(np.float32), 100 + seed


class MadeWaves:
    """Waves from numbers instead of files."""

    def __init__(self, speech):
        self.wave = speech

    def speech(self, row):
        return self.wave

    def noise(self, root, path):
        assert (root, path) == ("n", "n.flac")
        return np.random.default_rng(1).standard_normal(9000) * 0.05

    def talker(self, file):
        return speechlike(0.5, seed=int(file.path[1]) + 50)

    def response(self, name):
        return response_of(int(name[-1]))


ALL_LOST = {"percent": 100.0, "conceal": "zeros", "seed": 1, "lost_packets": 1}


def pcm16(wave):
    return np.rint(wave * 32768) / 32768


SPEECH = pcm16(speechlike(1.5, seed=21))


def rendered(*chains, speech=SPEECH, levels=None):
    return render(row_of(*chains, num_samples=speech.size, levels=levels), MadeWaves(speech), rate_hz=RATE)


def snr_db(signal, copy):
    added = copy.pcm / 32768 / 10 ** (copy.gain_db / 20) - signal
    return 10 * np.log10(np.sum(signal**2) / np.sum(added**2))


def test_the_clean_copy_is_bit_exact_to_a_16_bit_source():
    pcm = np.random.default_rng(0).integers(-32768, 32768, 3000).astype(np.int16)
    result = rendered([{**WHITE, "snr_db": 10.0}], speech=pcm / 32768.0)
    np.testing.assert_array_equal(result.clean, pcm)
    assert result.clean_gain_db == 0.0
    assert result.copies[0].gain_db < 0.0  # full-scale speech with noise would have clipped


@settings(max_examples=15, derandomize=True, deadline=None)
@given(
    noise=st.sampled_from([RECORDED, WHITE, BABBLE]),
    asked_db=st.integers(-500, 2500).map(lambda value: value / 100),
    gain=st.sampled_from([0.05, 1.0, 4.0]),
    in_room=st.booleans(),
)
def test_every_form_of_noise_has_its_snr_in_the_16_bit_samples(noise, asked_db, gain, in_room):
    speech = pcm16(np.clip(gain * SPEECH, -1.0, 0.999))
    step = {**noise, "snr_db": asked_db} | ({"response": "b-0-3"} if in_room else {})
    (copy,) = rendered([step], speech=speech).copies
    assert snr_db(speech, copy) == pytest.approx(asked_db, abs=0.1)


def test_snr_after_a_room_is_that_of_the_reverberant_speech():
    (copy,) = rendered([ROOM, {**BABBLE, "snr_db": 6.0, "response": "b-0-1"}]).copies
    response, direct_sample = response_of(0)
    reverberant = reverberate(SPEECH, response, direct_sample=direct_sample)
    assert snr_db(reverberant, copy) == pytest.approx(6.0, abs=0.1)


def test_noise_in_a_room_is_heard_from_its_own_position():
    dry, wet = rendered([{**RECORDED, "snr_db": 0.0}], [{**RECORDED, "snr_db": 0.0, "response": "b-0-2"}]).copies
    added = [copy.pcm / 32768 / 10 ** (copy.gain_db / 20) - SPEECH for copy in (dry, wet)]
    response, direct_sample = response_of(2)
    expected = reverberate(added[0], response, direct_sample=direct_sample)
    assert np.corrcoef(added[1], expected)[0, 1] > 0.999
    assert np.corrcoef(added[1], added[0])[0, 1] < 0.9


CHAINS = [
    [{**RECORDED, "snr_db": 12.0}],
    [ROOM],
    [ROOM, {**BABBLE, "snr_db": 15.0, "response": "b-0-4"}],
    [codec("amr-nb", 5.9)],
    [ROOM, {**WHITE, "snr_db": 20.0}, codec("opus")],
    [{**RECORDED, "snr_db": 20.0}, codec("g711-mulaw"), codec("mp3", 32.0)],
]


def test_every_chain_keeps_length_and_step():
    speech = pcm16(speechlike(4.0, seed=8))
    for copy in rendered(*CHAINS, speech=speech).copies:
        assert copy.pcm.shape == speech.shape
        assert copy.pcm.dtype == np.int16
        assert abs(gcc_phat_lag(speech, copy.pcm)) <= 1, copy.planned.steps


def test_levels_are_set_at_the_end():
    chain = [ROOM, {**WHITE, "snr_db": 0.0}]
    kept, matched, asked = rendered(chain, chain, chain, levels={1: "match_clean", 2: -30.0}).copies

    def dbfs(pcm):
        return 10 * np.log10(np.mean((pcm / 32768.0) ** 2))

    clean_dbfs = dbfs(32768 * SPEECH)
    assert dbfs(kept.pcm) == pytest.approx(clean_dbfs + 3.0, abs=0.2)
    assert dbfs(matched.pcm) == pytest.approx(clean_dbfs, abs=0.01)
    assert dbfs(asked.pcm) == pytest.approx(-30.0, abs=0.01)


def test_a_row_without_copies_and_a_copy_without_steps_are_the_clean_wave():
    assert rendered().copies == ()
    result = rendered([])
    np.testing.assert_array_equal(result.copies[0].pcm, result.clean)


def test_a_source_that_would_clip_is_scaled_once_for_all_its_copies():
    result = rendered([{**WHITE, "snr_db": 30.0}], speech=SPEECH * 12)
    assert result.clean_gain_db < 0.0
    assert result.clean_gain_db == round(result.clean_gain_db, 2)
    np.testing.assert_allclose(result.clean, SPEECH * 12 * 32768 * 10 ** (result.clean_gain_db / 20), atol=0.51)
    assert snr_db(result.clean / 32768, result.copies[0]) == pytest.approx(30.0, abs=0.1)


def test_a_copy_to_match_the_clean_wave_matches_it_as_it_was_scaled():
    result = rendered([{**WHITE, "snr_db": 0.0}], speech=SPEECH * 12, levels={0: "match_clean"})
    assert result.clean_gain_db < -6.0
    (copy,) = result.copies
    found = np.std(copy.pcm / 10 ** (copy.gain_db / 20)) / np.std(result.clean.astype(float))
    assert found == pytest.approx(1.0, abs=1e-3)


def test_a_level_is_set_before_a_copy_is_scaled_against_clipping():
    """The gain alone would clip; at its level the copy does not, so that nothing is scaled."""
    (copy,) = rendered([{"kind": "gain", "gain_db": 40.0}], levels={0: -30.0}).copies
    assert copy.gain_db == 0.0
    assert 20 * np.log10(np.std(copy.pcm / 32768)) == pytest.approx(-30.0, abs=0.01)


def test_talkers_that_cannot_be_used_are_named_with_the_copy_that_lacks_them():
    class OneUnusable(MadeWaves):
        def talker(self, file):
            if file.path == "t1.flac":
                raise NotFiniteAudioError(file.path)
            return super().talker(file)

    row = row_of([{**WHITE, "snr_db": 5.0}], [{**BABBLE, "snr_db": 5.0}], num_samples=SPEECH.size)
    copies = render(row, OneUnusable(SPEECH), rate_hz=RATE).copies
    assert [copy.skipped_talkers for copy in copies] == [(), ("t1",)]


def test_a_copy_that_is_the_clean_one_is_an_error_by_name():
    with pytest.raises(UnchangedCopyError, match="c-0: its steps left every 16-bit sample"):
        rendered([{**WHITE, "snr_db": 100.0}], speech=pcm16(SPEECH / 100))
    with pytest.raises(UnchangedCopyError):
        rendered([ROOM], speech=np.zeros(400))


def test_a_copy_of_which_nothing_is_left_is_an_error_by_name():
    with pytest.raises(SilentCopyError, match="c-0: every sample of it is the same"):
        rendered([{**codec("opus", 16.0), "loss": ALL_LOST}])


@pytest.mark.parametrize(
    ("steps", "speech", "reason"),
    [
        ([{**RECORDED, "snr_db": 5.0}], np.zeros(400), "c-0: the speech .* is silent"),
        ([{**RECORDED, "offset": 9000, "snr_db": 5.0}], SPEECH, "c-0: a segment was planned to begin at sample 9000"),
        ([codec("amr-nb", 12.0)], SPEECH, "c-0: amr-nb has no bit rate of 12 kbit/s"),
    ],
)
def test_a_copy_that_cannot_be_made_says_which_and_why(steps, speech, reason):
    with pytest.raises(CopyFailedError, match=reason) as told:
        rendered(steps, speech=speech)
    assert "\n" not in str(told.value)


class Unusable(MadeWaves):
    def talker(self, file):
        raise NotFiniteAudioError(file.path)


def test_of_many_copies_the_one_that_cannot_be_made_is_named_and_not_its_condition():
    row = row_of([], [{**WHITE, "snr_db": 5.0}], [{**BABBLE, "snr_db": 5.0}], num_samples=SPEECH.size)
    with pytest.raises(CopyFailedError, match=r"^c-2: no talker of the babble can be used \(t0, t1, t2\)"):
        render(row, Unusable(SPEECH), rate_hz=RATE)


@pytest.mark.parametrize("problem", [soundfile.LibsndfileError(2), av.InvalidDataError(1, "bad data")])
def test_a_codec_that_gives_up_fails_its_copy_and_is_named(monkeypatch, problem):
    def fails(*_, **__):
        raise problem

    monkeypatch.setattr(transcode, "through", fails)
    with pytest.raises(CopyFailedError, match=r"^c-0: mp3 could not code the wave: ."):
        rendered([codec("mp3", 64.0)])


def test_the_unchanged_the_constant_and_the_silent_copy_are_named_by_their_copy():
    with pytest.raises(UnchangedCopyError, match=r"^c-1: its steps left"):
        rendered([], [{**WHITE, "snr_db": 100.0}], speech=pcm16(SPEECH / 100))
    constant = np.full(400, 0.25)
    with pytest.raises(SilentCopyError, match=r"^c-0: every sample of it is the same"):
        rendered([], speech=constant)
    with pytest.raises(CopyFailedError, match=r"^c-1: a distorted copy that was to be brought to a level is silent"):
        rendered([{**WHITE, "snr_db": 5.0}], [codec("g711-alaw", 64.0) | {"loss": ALL_LOST}], levels={1: -20.0})


def test_a_file_that_grew_is_refused_like_one_that_shrank():
    with pytest.raises(LengthChangedError, match=r"the file has 1600 samples .* where 1601 were planned"):
        render(row_of(num_samples=1601), MadeWaves(np.zeros(1600)), rate_hz=RATE)


def test_a_file_that_changed_its_length_or_holds_nan_is_refused():
    with pytest.raises(LengthChangedError, match=r"1600 samples .* 1599 were planned"):
        render(row_of(num_samples=1599), MadeWaves(np.zeros(1600)), rate_hz=RATE)
    with pytest.raises(NotFiniteError):
        rendered(speech=np.array([0.0, np.nan]))


@pytest.mark.parametrize("num_samples", [37, 160, 1600])
def test_very_short_utterances_pass_through_every_chain(num_samples):
    speech = pcm16(0.3 * np.cos(np.arange(num_samples)))
    result = rendered(*CHAINS, speech=speech)
    assert all(copy.pcm.shape == (num_samples,) for copy in result.copies)


def digest_of_all_chains():
    result = rendered(*CHAINS)
    return hashlib.sha256(b"".join(copy.pcm.tobytes() for copy in result.copies) + result.clean.tobytes()).hexdigest()


def test_another_process_with_other_threads_renders_the_same_bits():
    expected = digest_of_all_chains()
    assert digest_of_all_chains() == expected
    for threads in ("1", "2"):
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }
        script = (
            "from tests.corpus_builder.render.test_render_copies import digest_of_all_chains as digest; print(digest())"
        )
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[3],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == expected


def test_the_order_of_copies_does_not_matter():
    forward = [copy.pcm for copy in rendered(*CHAINS).copies]
    backward = [copy.pcm for copy in rendered(*reversed(CHAINS)).copies]
    for one, other in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(one, other)


def test_plan_rows_survive_json_so_that_what_is_rendered_is_what_is_written():
    row = row_of(*CHAINS, num_samples=SPEECH.size)
    again = PlanRow.parse(json.loads(json.dumps(row.model_dump(mode="json"))), where="test")
    assert again == row
