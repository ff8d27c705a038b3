import pytest
from pydantic import TypeAdapter

from manifests.corpus.sample import SampleCopy, domain_of, family_of, keeps_content
from manifests.plan.steps import PlannedStep

TALKER = {"id": "t", "file": {"root": "train", "path": "t.wav", "rate_hz": 16_000}, "offset": 0}
WHITE = {"form": "coloured", "source": "white", "colour": "white", "seed": 1}
ONE = {"form": "babble", "source": "talker", "talkers": [TALKER]}
BABBLE = {"form": "babble", "source": "babble", "talkers": [TALKER, TALKER]}
NOISE = {"kind": "noise", "snr_db": 3.0}


def steps(*plain):
    return tuple(TypeAdapter(PlannedStep).validate_python(step) for step in plain)


@pytest.mark.parametrize(
    ("step", "keeps", "domain", "family"),
    [
        ({**NOISE, **WHITE}, True, "white", "noise"),
        ({**NOISE, **BABBLE}, True, "babble", "noise"),
        ({**NOISE, **ONE}, False, "talker", "noise"),
        ({**NOISE, "form": "several", "noises": [WHITE, BABBLE, WHITE]}, True, "white+babble", "noise"),
        ({**NOISE, "form": "several", "noises": [WHITE, ONE]}, False, "white+talker", "noise"),
        ({"kind": "room", "bank": "b", "room": 0, "position": 0, "response": "b-0-0"}, True, "b", "room"),
        ({"kind": "codec", "codec": "amr-nb"}, True, "amr-nb", "codec"),
        ({"kind": "lowpass", "cutoff_hz": 3000.0}, True, "lowpass", "channel"),
        ({"kind": "highpass", "cutoff_hz": 300.0}, True, "highpass", "channel"),
        ({"kind": "bandpass", "low_hz": 300.0, "high_hz": 3400.0}, True, "bandpass", "channel"),
        ({"kind": "bandreject", "low_hz": 300.0, "high_hz": 3400.0}, True, "bandreject", "channel"),
        ({"kind": "tilt", "db_per_octave": 3.0}, True, "tilt", "channel"),
        ({"kind": "gain", "gain_db": 3.0}, True, "gain", "channel"),
        ({"kind": "clip", "percent": 3.0}, True, "clip", "channel"),
        ({"kind": "resample", "rate_hz": 8000}, True, "resample", "channel"),
        ({"kind": "pitch", "cents": 50.0}, False, "pitch", "channel"),
    ],
)
def test_each_kind_declares_whether_it_keeps_the_content(step, keeps, domain, family):
    chain = steps(step)
    copy = SampleCopy(name="c-0", condition="c", domain=domain, family=family, gain_db=0.0, steps=chain)
    assert keeps_content(chain) is copy.keeps_content is keeps
    assert domain_of(chain) == domain
    assert family_of(chain) == family


def test_one_step_that_does_not_keep_it_is_enough():
    pitch, white = {"kind": "pitch", "cents": 9.0}, {**NOISE, **WHITE}
    assert keeps_content(steps(white, white))
    assert not keeps_content(steps(white, pitch, white))
    assert keeps_content(())
