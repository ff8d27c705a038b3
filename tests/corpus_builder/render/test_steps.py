"""New forms of noise and the channel through the whole of rendering: from a plan row to 16-bit samples."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.render.render_copies import render
from tests.corpus_builder.render.test_render_copies import (
    BABBLE,
    RATE,
    RECORDED,
    ROOM,
    SPEECH,
    WHITE,
    MadeWaves,
    pcm16,
    row_of,
    snr_db,
)
from tests.oracles.active_level import active_level_db
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

PINK = {**WHITE, "source": "pink", "colour": "pink"}
BROWN = {**WHITE, "source": "brown", "colour": "brown"}
SHAPED = {**WHITE, "source": "shaped", "colour": "speech", "spectrum": "train"}
TALKER = {**BABBLE, "source": "talker", "talkers": BABBLE["talkers"][:1]}


def part(step):
    return {key: value for key, value in step.items() if key != "kind"}


SEVERAL = {
    "kind": "noise",
    "form": "several",
    "noises": [part(PINK), part(RECORDED), part(BABBLE) | {"response": "b-0-2"}],
}
NOISES = [PINK, BROWN, SHAPED, TALKER, SEVERAL]
CHANNELS = [
    {"kind": "bandpass", "low_hz": 300.0, "high_hz": 3400.0},
    {"kind": "tilt", "db_per_octave": -4.0},
    {"kind": "clip", "percent": 5.0},
    {"kind": "resample", "rate_hz": 8000},
    {"kind": "gain", "gain_db": 9.0},
]


class Waves(MadeWaves):
    def spectrum(self, split):
        assert split == "train"
        return -30 * np.linspace(0, 1, 257)


def rendered(*chains, speech=SPEECH):
    return render(row_of(*chains, num_samples=speech.size), Waves(speech), rate_hz=RATE)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(noise=st.sampled_from(NOISES), asked_db=st.integers(-500, 2500).map(lambda value: value / 100))
def test_every_form_of_noise_has_its_snr_in_the_16_bit_samples(noise, asked_db):
    (copy,) = rendered([{**noise, "snr_db": asked_db}]).copies
    assert snr_db(SPEECH, copy) == pytest.approx(asked_db, abs=0.1)


@settings(max_examples=8, derandomize=True, deadline=None)
@given(
    noise=st.sampled_from([PINK, RECORDED, SEVERAL]), asked_db=st.integers(-5, 25).map(float), pause_s=st.floats(0, 2)
)
def test_over_active_speech_the_snr_is_that_of_the_active_level(noise, asked_db, pause_s):
    speech = pcm16(np.pad(speechlike(1.0, seed=6), (0, round(pause_s * RATE))))
    (copy,) = rendered([{**noise, "snr_db": asked_db, "over": "active"}], speech=speech).copies
    added = copy.pcm / 32768 / 10 ** (copy.gain_db / 20) - speech
    found_db = active_level_db(speech, RATE) - 10 * np.log10(np.mean(added**2))
    assert found_db == pytest.approx(asked_db, abs=0.1)


def test_chains_through_the_channel_keep_length_and_step():
    speech = pcm16(speechlike(4.0, seed=8))
    chains = [[{**PINK, "snr_db": 15.0}, step] for step in CHANNELS] + [
        [ROOM, CHANNELS[0], {**SEVERAL, "snr_db": 20.0}]
    ]
    for copy in rendered(*chains, speech=speech).copies:
        assert copy.pcm.shape == speech.shape
        assert abs(gcc_phat_lag(speech, copy.pcm)) <= 1, copy.planned.steps


def test_a_gain_never_clips_and_clipping_does_not_scale():
    loud, clipped = rendered([{"kind": "gain", "gain_db": 40.0}], [{"kind": "clip", "percent": 10.0}]).copies
    assert loud.gain_db < -10.0
    assert np.abs(loud.pcm.astype(int)).max() <= 32767
    assert clipped.gain_db == 0.0
    top = np.abs(clipped.pcm).max()
    assert np.mean(np.abs(clipped.pcm) == top) == pytest.approx(0.10, abs=0.002)


def test_a_gain_that_is_taken_back_whole_refuses_nothing():
    full_scale = pcm16(SPEECH / np.abs(SPEECH).max() * 32767 / 32768)
    result = rendered([{"kind": "gain", "gain_db": 12.0}], speech=full_scale)
    assert result.copies[0].gain_db == pytest.approx(-12.0, abs=0.011)


@pytest.mark.parametrize("num_samples", [37, 160, 1600])
def test_very_short_utterances_pass_through_every_form(num_samples):
    speech = pcm16(0.3 * np.cos(np.arange(num_samples)))
    chains = [[{**noise, "snr_db": 5.0, "over": over}] for noise in NOISES for over in ("whole", "active")]
    result = rendered(*chains, *([step] for step in CHANNELS), speech=speech)
    assert all(copy.pcm.shape == (num_samples,) for copy in result.copies)


def digest_of_everything():
    chains = [[{**noise, "snr_db": 5.0, "over": "active"}] for noise in NOISES] + [[step] for step in CHANNELS]
    result = rendered(*chains, [{"kind": "pitch", "cents": 333.0}], [{"kind": "pitch", "cents": -250.0}])
    return hashlib.sha256(b"".join(copy.pcm.tobytes() for copy in result.copies)).hexdigest()


def test_another_process_with_other_threads_renders_the_same_bits():
    expected = digest_of_everything()
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    run = subprocess.run(
        [sys.executable, "-c", "from tests.corpus_builder.render.test_steps import digest_of_everything as d; print(d())"],
        cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == expected
