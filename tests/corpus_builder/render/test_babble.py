import json
import tarfile

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.errors import NotFiniteAudioError
from corpus_builder.render.babble import NoTalkerHeardError, next_sound, voices
from manifests.plan.steps import BabblePart

RATE = 16_000


def talker(name, offset=0):
    return {
        "id": name,
        "speaker": f"s-{name}",
        "file": {"root": "train", "path": name, "rate_hz": RATE},
        "offset": offset,
    }


def babble_of(*talkers, spare=()):
    return BabblePart(form="babble", source="b", talkers=list(talkers), spare=list(spare) or None)


class Voices:
    """Talkers by name: a number is the seed of a voice, None a file that cannot be used."""

    def __init__(self, **seeds):
        self.seeds = seeds

    def talker(self, file):
        seed = self.seeds[file.path]
        if seed is None:
            raise NotFiniteAudioError(file.path)
        return seed if isinstance(seed, np.ndarray) else np.random.default_rng(seed).standard_normal(4000)


def heard(part, waves, num_samples=1000):
    return list(voices(part, waves, num_samples=num_samples, rate_hz=RATE, unheard=[]))


def unheard(part, waves):
    missed = []
    list(voices(part, waves, num_samples=1000, rate_hz=RATE, unheard=missed))
    return missed


def test_every_talker_is_heard_from_its_offset():
    waves = Voices(a=1, b=2)
    first, second = heard(babble_of(talker("a", 10), talker("b", 700)), waves)
    np.testing.assert_array_equal(
        first, waves.talker(BabblePart.model_validate(babble_of(talker("a"))).talkers[0].file)[10:1010]
    )
    assert second.shape == (1000,)
    assert unheard(babble_of(talker("a"), talker("b")), waves) == []


def test_a_talker_who_pauses_through_the_segment_is_heard_from_the_next_sound_on():
    wave = np.zeros(4000)
    wave[3000:3500] = 0.1
    (found,) = heard(babble_of(talker("a", 100)), Voices(a=wave))
    np.testing.assert_array_equal(found, wave[3000:4000])
    (found,) = heard(
        babble_of(talker("a", 3600)), Voices(a=wave), num_samples=300
    )  # after the last sound: the first one
    np.testing.assert_array_equal(found, wave[3000:3300])
    assert next_sound(wave, 3200) == 3200
    assert unheard(babble_of(talker("a", 100)), Voices(a=wave)) == []


@pytest.mark.parametrize("bad", [None, np.zeros(4000)], ids=["damaged", "silent"])
def test_a_talker_that_cannot_be_heard_adds_nothing_and_is_named(bad):
    waves = Voices(a=1, b=bad, c=3)
    assert len(heard(babble_of(talker("a"), talker("b"), talker("c")), waves)) == 2
    assert unheard(babble_of(talker("a"), talker("b"), talker("c")), waves) == ["b"]


def test_a_spare_talker_stands_in_where_nobody_is_left_and_only_there():
    waves = Voices(a=None, b=None, c=3, d=4)
    part = babble_of(talker("a"), spare=[talker("b"), talker("c", 5), talker("d")])
    (found,) = heard(part, waves)
    np.testing.assert_array_equal(found, np.random.default_rng(3).standard_normal(4000)[5:1005])
    assert unheard(babble_of(talker("a"), spare=[talker("b"), talker("c"), talker("d")]), waves) == ["a", "b"]
    assert unheard(babble_of(talker("d"), spare=[talker("b")]), waves) == []


def test_where_nobody_at_all_can_be_heard_the_error_names_them():
    with pytest.raises(NoTalkerHeardError, match=r"\(a, b\)"):
        heard(babble_of(talker("a"), spare=[talker("b")]), Voices(a=None, b=np.zeros(9)))


def test_a_damaged_file_refuses_itself_and_no_utterance_that_would_have_heard_it(lab):
    """The whole way: one voice is NaN, one is digital silence; every other utterance has its babble."""
    lab.without_rooms()
    lab.recipe["conditions"] = {
        "babble": {"steps": [{"kind": "noise", "from": ["babble"], "snr_db": 5}]},
        "talker": {"steps": [{"kind": "noise", "from": ["one"], "snr_db": 5}]},
    }
    lab.recipe["noises"] = {"babble": {"talkers": 3}, "one": {"talkers": 1}}
    lab.recipe["copies"] = {"train": {"babble": 4, "talker": 4}}
    broken = lab.folder / "speech" / "train" / "s1" / "u1.wav"
    soundfile.write(broken, np.full(7000, np.nan, dtype=np.float32), RATE, subtype="FLOAT")
    soundfile.write(lab.folder / "speech" / "train" / "s2" / "u2.wav", np.zeros(7000, dtype=np.int16), RATE)
    built = lab.build()
    assert built.corpus is not None
    refused = (lab.folder / "corpus" / "refused.jsonl").read_text().splitlines()
    assert len(refused) == 2
    assert "NaN" in refused[0]
    assert "silence" in refused[1]
    named = [
        copy.get("unheard", []) for path in (lab.folder / "corpus/shards").glob("*.tar") for copy in copies_in(path)
    ]
    assert {name for names in named for name in names} == {"u1", "u2"}


def copies_in(tar):
    """The copies that the JSON of each sample of a shard tells of, by plain tarfile."""
    with tarfile.open(tar) as stream:
        for member in stream:
            if member.name.endswith(".json"):
                yield from json.load(stream.extractfile(member))["copies"]
