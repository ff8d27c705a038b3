import hashlib

from hypothesis import given
from hypothesis import strategies as st

from manifests.corpus.sample import MEMBER_PATTERN, domain_of, family_of, sample_key
from manifests.plan.steps import ColouredNoiseStep, PlannedCodecStep, PlannedRoomStep


@given(st.text(min_size=1))
def test_a_key_survives_webdatasets_grouping(utterance_id):
    key = sample_key(utterance_id)
    assert MEMBER_PATTERN.fullmatch(f"{key}.noise-0.flac")
    assert len(key) <= 53
    assert "." not in key
    assert "/" not in key


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_ids_have_different_keys(first, second):
    assert (sample_key(first) == sample_key(second)) == (first == second)


def test_the_key_is_readable_and_pinned():
    assert sample_key("a.b/c d") == "a_b_c_d-5da271558148"
    assert sample_key("x" * 41) == "x" * 40 + "-" + hashlib.sha256(b"x" * 41).hexdigest()[:12]
    assert sample_key("103-1240-0000") == "103-1240-0000-023efe9d1de5"


def test_a_domain_has_one_token_a_step_in_order():
    room = PlannedRoomStep(kind="room", bank="office", room=3, position=1, response="office-0003-1")
    noise = ColouredNoiseStep(kind="noise", form="coloured", source="hiss", colour="white", seed=1, snr_db=3.0)
    codec = PlannedCodecStep(kind="codec", codec="amr-nb", bitrate_kbps=12.2)
    assert domain_of((room, noise, codec)) == "office+hiss+amr-nb"
    assert family_of((room, noise, codec)) == "room+noise+codec"
    assert domain_of((codec, noise, codec)) == "amr-nb+hiss+amr-nb"
    assert family_of((codec, noise, codec)) == "codec+noise+codec"
    assert domain_of(()) == family_of(()) == "clean"
