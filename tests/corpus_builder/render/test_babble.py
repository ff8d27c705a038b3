import json
import tarfile

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.errors import NotFiniteAudioError
from corpus_builder.render.babble import NoUsableTalkerError, next_sound, talker_segments
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


class Talkers:
    """Talkers by name: a number is the seed of a wave, None a file that cannot be used."""

    def __init__(self, **seeds):
        self.seeds = seeds

    def talker(self, file):
        seed = self.seeds[file.path]
        if seed is None:
            raise NotFiniteAudioError(file.path)
        return seed if isinstance(seed, np.ndarray) else np.random.default_rng(seed).standard_normal(4000)


def segments(part, waves, num_samples=1000):
    return list(talker_segments(part, waves, num_samples=num_samples, rate_hz=RATE, skipped=[]))


def skipped(part, waves):
    found = []
    list(talker_segments(part, waves, num_samples=1000, rate_hz=RATE, skipped=found))
    return found


def test_every_talker_begins_at_its_offset():
    waves = Talkers(a=1, b=2)
    first, second = segments(babble_of(talker("a", 10), talker("b", 700)), waves)
    np.testing.assert_array_equal(
        first, waves.talker(BabblePart.model_validate(babble_of(talker("a"))).talkers[0].file)[10:1010]
    )
    assert second.shape == (1000,)
    assert skipped(babble_of(talker("a"), talker("b")), waves) == []


def test_a_talker_who_pauses_through_the_segment_begins_at_the_next_sound():
    wave = np.zeros(4000)
    wave[3000:3500] = 0.1
    (found,) = segments(babble_of(talker("a", 100)), Talkers(a=wave))
    np.testing.assert_array_equal(found, wave[3000:4000])
    (found,) = segments(
        babble_of(talker("a", 3600)), Talkers(a=wave), num_samples=300
    )  # after the last sound: the first one
    np.testing.assert_array_equal(found, wave[3000:3300])
    assert next_sound(wave, 3200) == 3200
    assert skipped(babble_of(talker("a", 100)), Talkers(a=wave)) == []


def test_of_several_sounds_a_segment_begins_at_the_first_loud_one_after_its_offset():
    """Soft and about a level at rest; a sound is what is a tenth of the peak away from that, to either side."""
    wave = np.full(4000, 0.05)
    wave[1000:1300] += 0.004
    wave[2900:3000] -= 0.00039  # too soft for a sound
    wave[3000:3500] -= 0.00041
    (found,) = segments(babble_of(talker("a", 1300)), Talkers(a=wave))
    np.testing.assert_array_equal(found, wave[3000:4000])
    assert [next_sound(wave, offset) for offset in (0, 1299, 1300, 3499, 3500)] == [1000, 1299, 3000, 3499, 1000]


@pytest.mark.parametrize("bad", [None, np.zeros(4000)], ids=["damaged", "silent"])
def test_a_talker_that_cannot_be_used_adds_nothing_and_is_named(bad):
    waves = Talkers(a=1, b=bad, c=3)
    assert len(segments(babble_of(talker("a"), talker("b"), talker("c")), waves)) == 2
    assert skipped(babble_of(talker("a"), talker("b"), talker("c")), waves) == ["b"]


def test_a_spare_talker_is_added_where_nobody_is_left_and_only_there():
    waves = Talkers(a=None, b=None, c=3, d=4)
    part = babble_of(talker("a"), spare=[talker("b"), talker("c", 5), talker("d")])
    (found,) = segments(part, waves)
    np.testing.assert_array_equal(found, np.random.default_rng(3).standard_normal(4000)[5:1005])
    assert skipped(babble_of(talker("a"), spare=[talker("b"), talker("c"), talker("d")]), waves) == ["a", "b"]
    assert skipped(babble_of(talker("d"), spare=[talker("b")]), waves) == []


def test_where_nobody_at_all_can_be_used_the_error_names_them():
    with pytest.raises(NoUsableTalkerError, match=r"\(a, b\)"):
        segments(babble_of(talker("a"), spare=[talker("b")]), Talkers(a=None, b=np.zeros(9)))


def test_a_damaged_file_refuses_itself_and_no_utterance_that_would_have_used_it(lab):
    """The whole way: one talker is NaN, one is digital silence; every other utterance has its babble."""
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
