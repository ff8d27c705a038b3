"""What a recipe may request, to its edges: the last value that is read, the first that is refused; and what it says by default."""

import pytest
from pydantic import TypeAdapter, ValidationError

from manifests.errors import BadDocumentError
from manifests.recipe.codecs import (
    BITRATES_KBPS,
    CODECS,
    DEFAULT_BITRATE_KBPS,
    PacketLoss,
    nearest_bitrate_kbps,
    odds_of_bad,
)
from manifests.recipe.distributions import Draw
from manifests.recipe.noises import Babble, ColouredNoise, DividedNoise, NoiseSource, RecordedNoise
from manifests.recipe.recipe import MOST_MEMBERS, Recipe, ShardSize
from manifests.recipe.rooms import RecordedBank, RoomBank
from manifests.recipe.speech import SpeechSource
from manifests.recipe.steps import CodecStep, Condition, FreeverbStep, NoiseStep, RoomStep, noise_names
from tests.manifests.recipe.test_recipe import changed

CODEC = {"kind": "codec", "codec": "opus"}
NOISE = {"kind": "noise", "from": ["white"], "snr_db": 5}
OFFICE = {
    "rooms": 200,
    "size_m": [[3, 3, 2.4], [8, 6, 3.5]],
    "rt60_s": {"uniform": [0.2, 0.8]},
    "distance_m": {"uniform": [0.5, 3]},
}


def read(path, value):
    return Recipe.parse(changed(path, value), where="recipe.yaml")


def steps(*listed):
    return {"steps": list(listed)}


@pytest.mark.parametrize(
    ("path", "fits", "fails"),
    [
        ("conditions.noise.steps.0.snr_db", [{"uniform": [-60, 100]}], [{"uniform": [-60, 101]}, {"uniform": [-61, 0]}]),
        ("conditions.noise.steps.0.snr_db", [{"choice": [-60, 0, 100]}], [{"choice": [0, 5, 101]}]),
        ("conditions.noise.steps.0.snr_db", [{"uniform": [3, 3]}], [{"uniform": [3.1, 3]}, {"uniform": [1, 2, 3]}, {"even": [1, 2]}, {}]),
        ("conditions.noise.steps.0.snr_db", [{"uniform_int": [1, 2]}], [{"uniform_int": [1, 2.5]}, {"uniform_int": [1.5, 2]}]),
        ("conditions.noise.steps.0.snr_db", [{"log_uniform": [0.1, 2]}], [{"log_uniform": [0, 2]}, {"log_uniform": [-1, 2]}]),
        ("conditions.noise.steps.0.count", [1, 16, {"uniform_int": [1, 16]}], [0, 17, 1.5, {"uniform": [1, 3]}]),
        ("conditions.noise.steps.0.over", ["whole", "active"], ["half"]),
        ("conditions.noise.steps.0.draw", ["source"], ["sources"]),
        ("conditions.noise.steps.0.from", [["white"], {"white": 1e9, "musan": 0.1}], [{"white": 0}, {"white": 1e10}, {}]),
        ("conditions.noise.level", [-100, 0, "keep", "match_clean", {"uniform": [-30, 0]}], [-100.1, 0.1, "loud", {"uniform": [-30, 1]}, {"choice": ["keep"]}]),
        ("conditions.noise.steps", [[NOISE] * 16], [[], [NOISE] * 17]),
        ("conditions.some.steps", [[{"choose": [[NOISE], []], "weights": [0, 1]}]], [[{"choose": [[NOISE], []], "weights": [1]}], [{"choose": [[NOISE], []], "weights": [0, 0]}], [{"choose": [[NOISE], []], "weights": [1, -1]}], [{"choose": [[NOISE]], "weights": [1, 1]}], [{"choose": []}]]),
        ("noises.babble.talkers", [1, 64], [0, 65, {"uniform_int": [1, 65]}]),
        ("noises.white.colour", ["pink", "brown", "speech"], ["blue"]),
        ("sample_rate", [8000, 48_000], [7999, 48_001]),
        ("seed", [0, 2**63 - 1], [-1, 2**63]),
        ("rooms.office.rooms", [1, 100_000], [0, 100_001]),
        ("rooms.office.rt60_s", [0.1, 3], [0.09, 3.1, {"uniform": [0.2, 3.1]}]),
        ("rooms.office.distance_m", [0.1, 10.5], [0.09, 10.7, {"uniform": [0.5, 10.7]}]),  # the diagonal is 10.6 m
        ("rooms.office.positions", [2, 64], [0, 65]),
        ("rooms.office.method", ["image", "hybrid"], ["rays"]),
        ("rooms.office.size_m", [[[3, 3, 3], [3, 3, 3]]], [[[3, 3, 3.1], [8, 6, 3]], [[0, 3, 3], [8, 6, 3]], [[3, 3, 3], [201, 6, 3]]]),
        ("rooms.office.microphone_height_m", [0.3, 3.2], [0.29, 3.21, {"uniform": [1, 3.3]}]),
        ("rooms.office.source_height_m", [0.3, 3.2], [0.29, 3.21]),
        ("rooms.office.split", ["own", "shared"], ["all"]),
        ("shards", [{"samples": 1}, {"gigabytes": 1000.0}], [{"samples": 0}, {"samples": 1_000_001}, {"gigabytes": 1000.1}, {"samples": 5, "gigabytes": 1.0}]),
        ("copies.train.noise", [0, 1000], [-1, 1001]),
        ("speech.test.channel", [0, 1023], [-1, 1024]),
        ("speech.test.min_s", [0, 600], [-1, 601]),
        ("speech.test.fields", ["{speaker}/{id}.flac"], ["{id}/{id}.flac", "a.flac", "{Id}.flac"]),
        ("speech.test", [{"dir": "x"}, {"cuts": "x.jsonl", "strip": "/a"}], [{"cuts": "x.jsonl", "dir": "x"}, {}, {"dir": "x", "strip": "/a"}, {"cuts": "x.jsonl", "table": "t.csv"}, {"cuts": "x.jsonl", "pattern": "*.wav"}, {"cuts": "x.jsonl", "fields": "{id}.wav"}]),
        ("speech.test.fields", ["{a1_}/{b}.wav"], ["{1d}.wav", "{_a}.wav", "{a b}.wav", "{}.wav"]),
        ("speech.test.pattern", ["*.wav", "a/**/*"], ["/data/*", "../*", "a/../../*"]),
        ("noises.musan", [{"dir": "x"}, {"cuts": "x", "strip": "/a"}], [{"dir": "x", "strip": "/a"}, {"dir": "x", "cuts": "y"}, {"dir": "x", "split": "all"}]),
        ("noises.wham", [{"train": {"dir": "x"}}], [{"valid": {"dir": "x"}}, {"train": {"dir": "x"}, "valid": {"dir": "x"}}]),
        ("rooms.hall", [{"responses": {"dir": "x", "channel": 0}}, {"responses": {"list": "x"}}, {"responses": {"cuts": "x", "strip": "/a"}}, {"responses": {"dir": "x", "max_s": 30}}],
         [{"responses": {}}, {"responses": {"dir": "x", "list": "y"}}, {"responses": {"dir": "x", "channel": "mix"}}, {"responses": {"dir": "x", "strip": "/a"}}, {"responses": {"list": "x", "pattern": "*"}},
          {"responses": {"list": "x", "table": "t"}}, {"responses": {"cuts": "x", "fields": "{id}.wav"}}, {"responses": {"dir": "x", "max_s": 30.1}}, {"responses": {"dir": "x", "min_s": 9, "max_s": 8}}]),
        ("conditions.noise.steps.0.count", [{"choice": [1, 3]}], [{"log_uniform": [1, 3]}, {"choice": [1, 2.5]}]),
        ("conditions.noise.steps.0.snr_db", [{"choice": [1] * 10_000}], [{"choice": [1] * 10_001}, {"choice": []}]),
        ("conditions.phone.steps", [[{"kind": "lowpass", "cutoff_hz": 20}], [{"kind": "highpass", "cutoff_hz": 7999}]], [[{"kind": "lowpass", "cutoff_hz": 19.9}], [{"kind": "highpass", "cutoff_hz": 8000}]]),
        ("conditions.phone.steps", [[{"kind": "resample", "rate_hz": 2000}], [{"kind": "resample", "rate_hz": {"choice": [8000, 16_000]}}]], [[{"kind": "resample", "rate_hz": 1999}], [{"kind": "resample", "rate_hz": {"choice": [8000, 16_001]}}]]),
        ("conditions.phone.steps", [[{"kind": "bandpass", "low_hz": 300, "high_hz": 301}]], [[{"kind": "bandpass", "low_hz": 300, "high_hz": 300}], [{"kind": "bandpass", "low_hz": {"choice": [100, 300]}, "high_hz": {"choice": [300, 900]}}]]),
        ("conditions.phone.steps", [[{"kind": "bandreject", "width_hz": 1999, "low_hz": 6000}]], [[{"kind": "bandreject", "width_hz": 2000, "low_hz": 6000}], [{"kind": "bandreject", "width_hz": 100, "width_mel": 100}]]),
        ("conditions.phone.steps", [[{"kind": "bandreject", "width_mel": 600, "low_hz": 4000}]], [[{"kind": "bandreject", "width_mel": 900, "low_hz": 4000}], [{"kind": "bandreject", "width_mel": {"choice": [600, 900]}, "low_hz": {"choice": [0, 4000]}}]]),
        ("conditions.phone.steps", [[{**CODEC, "codec": {"choice": ["opus", "gsm-fr"]}, "application": {"choice": ["voip", "audio"]}}]],
         [[{**CODEC, "codec": {"choice": ["opus", "mp4"]}}], [{**CODEC, "application": {"choice": ["voip", "music"]}}], [{"kind": "codec", "codec": "mp3", "application": "voip"}]]),
        ("conditions.phone.steps", [[{"kind": "codec", "codec": "g726", "bitrate_kbps": 20}], [{"kind": "codec", "codec": {"choice": ["opus", "aac"]}, "bitrate_kbps": 16}]],
         [[{"kind": "codec", "codec": {"choice": ["opus", "aac"]}, "bitrate_kbps": 15}], [{"kind": "codec", "codec": {"choice": ["aac", "opus"]}, "bitrate_kbps": 65}]]),
        ("conditions.phone.steps", [[{**CODEC, "codec": {"choice": ["opus", "gsm-fr"]}, "loss": {"percent": 5, "conceal": {"choice": ["zeros", "repeat"]}}}]],
         [[{**CODEC, "codec": {"choice": ["opus", "mp3"]}, "loss": {"percent": 5}}], [{**CODEC, "codec": {"choice": ["opus", "gsm-fr"]}, "loss": {"percent": 5, "conceal": {"choice": ["zeros", "codec"]}}}],
          [{**CODEC, "loss": {"percent": 5, "conceal": {"choice": ["zeros", "hide"]}}}], [{"kind": "codec", "codec": "g722", "loss": {"percent": 5, "conceal": "codec"}}]]),
        ("conditions.phone.steps", [[{**CODEC, "bitrate_kbps": 6}], [{**CODEC, "bitrate_kbps": {"uniform": [6, 64]}}]], [[{**CODEC, "bitrate_kbps": 5}], [{**CODEC, "bitrate_kbps": {"uniform": [6, 65]}}]]),
    ],
)  # fmt: skip
def test_a_value_of_a_recipe_is_read_to_its_edges_and_refused_beyond(path, fits, fails):
    for value in fits:
        read(path, value)
    for value in fails:
        with pytest.raises(BadDocumentError):
            read(path, value)


@pytest.mark.parametrize(
    ("loss", "is_read"),
    [
        ({"percent": 50, "burst_packets": 1}, True),  # as long in the bad state as in the good one: odds of 1
        ({"percent": 51, "burst_packets": 1}, False),
        ({"percent": 51, "burst_packets": {"uniform": [1, 9]}}, False),
        ({"percent": {"uniform": [10, 51]}, "burst_packets": 1}, False),
        ({"percent": 10, "burst_packets": 5, "good_percent": 10}, True),
        ({"percent": {"uniform": [9, 20]}, "burst_packets": 5, "good_percent": 10}, False),
        ({"percent": 50, "burst_packets": 5, "bad_percent": 50}, False),
        ({"percent": 5, "good_percent": 1}, False),
        ({"percent": {"uniform": [10, 60]}, "burst_packets": 9, "bad_percent": 50}, False),
        ({"percent": 40, "burst_packets": 1, "bad_percent": 60, "good_percent": 35}, True),
        ({"percent": 5, "burst_packets": 1001}, False),
    ],
)
def test_losses_in_bursts_are_read_where_a_chain_can_have_them(loss, is_read):
    if is_read:
        PacketLoss.parse(loss, where="x")
    else:
        with pytest.raises(BadDocumentError):
            PacketLoss.parse(loss, where="x")


def test_odds_of_the_bad_state_give_the_mean_loss():
    for percent, bad, good in ((20.0, 100.0, 0.0), (25.0, 60.0, 5.0), (90.0, 95.0, 1.0)):
        odds = odds_of_bad(percent, bad_percent=bad, good_percent=good)
        share = odds / (1 + odds)
        assert share * bad + (1 - share) * good == pytest.approx(percent)


@pytest.mark.parametrize("pair", [("speech", "noises"), ("speech", "rooms"), ("noises", "rooms")])
def test_no_name_means_two_things(pair):
    twice = {"speech": {"dir": "x"}, "noises": {"colour": "white"}, "rooms": OFFICE}
    first, second = pair
    data = changed(f"{first}.both", twice[first])
    data[second]["both"] = twice[second]
    with pytest.raises(BadDocumentError, match=f"'both' names both something under {first} and under {second}"):
        Recipe.parse(data, where="recipe.yaml")


@pytest.mark.parametrize("name", ["clean", "json"])
def test_names_of_a_samples_own_members_are_reserved(name):
    with pytest.raises(BadDocumentError, match=f"'{name}' is reserved"):
        read(f"conditions.{name}", steps(CODEC))


def test_noise_in_a_room_needs_one_room_whatever_was_chosen():
    room, other = {"kind": "room", "bank": "office"}, {"kind": "room", "bank": "hall"}
    inside = {**NOISE, "in_room": True}

    def with_hall(listed):
        data = changed("rooms.hall", OFFICE)
        data["conditions"]["far"] = {"steps": listed}
        return Recipe.parse(data, where="recipe.yaml")

    with_hall([{"choose": [[room, CODEC], [room]]}, inside])
    with_hall([room, {"choose": [[CODEC], []]}, inside])
    with_hall([room, {"choose": [[inside], []]}])
    for listed in (
        [{"choose": [[room], []]}, inside],
        [{"choose": [[room], [other]]}, inside],
        [{"choose": [[room, inside], [inside]]}],
        [inside, room],
    ):
        with pytest.raises(BadDocumentError, match="no room step comes before"):
            with_hall(listed)


def test_the_room_of_a_noise_is_the_last_one_before_it():
    single = {**OFFICE, "positions": 1}
    rooms = {"many": {"kind": "room", "bank": "office"}, "one": {"kind": "room", "bank": "single"}}

    def with_rooms(*names):
        data = changed("rooms.single", single)
        data["conditions"]["far"] = steps(*(rooms[name] for name in names), {**NOISE, "in_room": True})
        return Recipe.parse(data, where="recipe.yaml")

    with_rooms("one", "many")
    for names in (("one",), ("many", "one")):
        with pytest.raises(
            BadDocumentError, match="in_room: bank 'single' has one position; give it positions: 2 or more"
        ):
            with_rooms(*names)
    assert read("rooms.alone", single).rooms["alone"].positions == 1


@pytest.mark.parametrize("draw", ["file", "duration"])
def test_sources_without_files_are_drawn_by_file_only_with_weights(draw):
    def step(listed):
        return steps({**NOISE, "from": listed, "draw": draw})

    for fits in (["musan", "wham"], {"musan": 1, "white": 2, "babble": 1}):
        read("conditions.noise", step(fits))
    for listed, named in ((["musan", "white", "babble"], "white"), (["musan", "babble"], "babble")):
        with pytest.raises(
            BadDocumentError, match=f"steps.0.draw: '{named}' has no files, so that it cannot be drawn by {draw}"
        ):
            read("conditions.noise", step(listed))
    read("conditions.noise", steps({**NOISE, "from": ["white", "babble"], "draw": "source"}))


def test_filters_are_held_against_the_rate_of_the_recipe():
    data = changed("conditions.cut", steps({"kind": "lowpass", "cutoff_hz": 5000}))
    for rate_hz in (16_000, 10_001):
        Recipe.parse({**data, "sample_rate": rate_hz}, where="recipe.yaml")
    with pytest.raises(BadDocumentError, match="5000 Hz is not below half the sample rate, 4000 Hz"):
        Recipe.parse({**data, "sample_rate": 8000}, where="recipe.yaml")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({**CODEC, "bitrate_kbps": 65}, "bitrate_kbps: opus has no bit rate of 65 kbit/s; it has 6 to 64 in whole numbers"),
        ({"kind": "codec", "codec": "amr-nb", "bitrate_kbps": 4}, "amr-nb has no bit rate of 4 kbit/s; it has 4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2"),
        ({"kind": "codec", "codec": {"choice": ["opus", "g726"]}, "bitrate_kbps": 50}, "g726 has no bit rate of 50 kbit/s; it has 16, 24, 32, 40; give codecs of other rates steps of their own under choose"),
        ({"kind": "codec", "codec": "mp3", "loss": {"percent": 5}}, "loss: mp3 is a stream, not packets; packets are lost in g711-alaw, g711-mulaw, g722, g726, gsm-fr, amr-nb, opus"),
        ({"kind": "codec", "codec": "gsm-fr", "loss": {"percent": 5, "conceal": "codec"}}, "loss.conceal: the decoder of gsm-fr has no concealment (amr-nb and opus do); write zeros or repeat"),
        ({**CODEC, "loss": {"percent": {"uniform": [4, 60]}, "burst_packets": 9, "bad_percent": 50, "good_percent": 3}}, "percent: 4 to 60 is not from good_percent 3 to below bad_percent 50"),
        ({**CODEC, "loss": {"percent": {"uniform": [5, 80]}, "burst_packets": {"uniform": [2, 9]}}}, "burst_packets: 2 is too short for 80 percent of loss; it needs at least 4"),
        ({"kind": "codec", "codec": {"choice": ["mp3", "aac"]}, "application": "voip"}, "application: only opus has applications, not mp3, aac"),
        ({"kind": "bandpass", "low_hz": {"uniform": [100, 900]}, "high_hz": {"uniform": [800, 3400]}}, "low_hz may reach 900 and high_hz 800: the lower edge must stay below the upper one"),
        ({"kind": "bandreject", "width_mel": 900, "low_hz": 4000}, "width_mel: the band may reach 9745.25 Hz, which is not below half the sample rate, 8000 Hz"),
    ],
)  # fmt: skip
def test_what_a_step_cannot_have_is_refused_with_what_it_can(step, message):
    with pytest.raises(BadDocumentError) as caught:
        read("conditions.phone.steps", [step])
    assert str(caught.value).endswith(message)


def test_usual_bit_rates_are_those_that_plans_were_made_with():
    assert DEFAULT_BITRATE_KBPS == {
        "g711-alaw": 64, "g711-mulaw": 64, "g722": 64, "g726": 32, "gsm-fr": 13, "amr-nb": 12.2, "opus": 16, "mp3": 32, "aac": 32,
        "vorbis": 48,
    }  # fmt: skip


def test_a_recipe_is_published_with_what_was_written_and_the_defaults_and_nothing_else():
    data = changed("shards", {"gigabytes": 2.0})
    data["rooms"]["hall"] = {"responses": {"dir": "x", "root": "halls"}, "room": "r"}
    data["noises"]["musan"] |= {"group": "g", "split": "shared"}
    recipe = Recipe.parse(data, where="x")
    plain = recipe.plain()
    assert plain["noises"]["wham"] == {
        name: {"dir": folder, "pattern": "**/*", "min_s": 0.0, "max_s": 600.0}
        for name, folder in (("train", "tr"), ("test", "tt"))
    }
    assert plain["shards"] == {"gigabytes": 2.0}
    assert Recipe.parse(plain, where="again") == recipe
    assert set(recipe.source_roots()) == {"train", "test", "musan", "wham-train", "wham-test", "halls"}
    assert [name for name, _ in recipe.file_sources()] == ["train", "test", "musan", "wham-train", "wham-test", "hall"]
    assert RecordedNoise.parse({"dir": "x"}, where="x").split == "own"


def test_a_shard_has_at_least_one_utterance():
    assert ShardSize.parse({"gigabytes": 1e-6}, where="x").samples_of(utterances=3, num_samples=9**9, waves=6) == 1


def test_noise_sources_of_a_chain_are_found_at_every_depth():
    listed = [
        {**NOISE, "from": ["a"]},
        {"choose": [[], [{**NOISE, "from": {"b": 1, "c": 2}}], [{"choose": [[{**NOISE, "from": ["d"]}]]}]]},
    ]
    assert noise_names(Condition.parse(steps(*listed), where="x").steps) == {"a", "b", "c", "d"}


def test_defaults_are_those_that_digests_cover():
    """A recipe's digest is taken with its defaults written out: another default is another recipe."""
    plain = NoiseStep.parse(NOISE, where="x").model_dump(mode="json", by_alias=True)
    assert plain == {
        "kind": "noise", "from": ["white"], "draw": None, "count": None, "snr_db": 5, "over": "whole", "in_room": False
    }  # fmt: skip
    assert RoomStep.parse({"kind": "room", "bank": "b"}, where="x").keep_rms is None
    assert FreeverbStep.parse({"kind": "freeverb"}, where="x").model_dump(mode="json") == {
        "kind": "freeverb", "reverberance": 50, "hf_damping": 50, "room_scale": 100, "pre_delay_ms": 0, "wet_gain_db": 0,
        "keep_rms": None,
    }  # fmt: skip
    assert CodecStep.parse(CODEC, where="x").model_dump(mode="json") == {
        **CODEC, "bitrate_kbps": None, "application": None, "loss": None
    }  # fmt: skip
    assert PacketLoss.parse({"percent": 5}, where="x").model_dump(mode="json") == {
        "percent": 5, "burst_packets": None, "bad_percent": 100.0, "good_percent": 0.0, "conceal": "zeros"
    }  # fmt: skip
    assert Condition.parse(steps(CODEC), where="x").level.values == ("keep",)
    bank = RoomBank.parse(OFFICE, where="x")
    assert (bank.positions, bank.split, bank.method) == (3, "own", None)
    assert RecordedBank.parse({"responses": {"dir": "x"}}, where="x").responses.max_s == 30.0
    speech = SpeechSource.parse({"dir": "x"}, where="x")
    assert (speech.pattern, speech.min_s, speech.max_s, speech.channel) == ("**/*", 0.0, 600.0, None)
    recipe = Recipe.parse({"schema": "stillroom/recipe/1", "name": "x", "speech": {"train": {"dir": "x"}}}, where="x")
    assert (recipe.seed, recipe.sample_rate, recipe.shards.samples) == (0, 16_000, 512)


@pytest.mark.parametrize("short", [3, 2.5, "keep", {"uniform": [1, 2]}, {"choice": ["a"]}, {"uniform_int": [1, 3]}])
def test_a_draw_is_written_as_it_was_read(short):
    assert Draw.model_validate(short).model_dump(mode="json") == short


def test_the_ends_of_a_draw_are_its_smallest_and_largest_number():
    assert [(draw.low, draw.high) for draw in map(Draw.model_validate, (4, {"choice": [3, 9, -2]}))] == [
        (4, 4),
        (-2, 9),
    ]
    with pytest.raises(ValueError, match="expected numbers"):
        _ = Draw.model_validate("keep").low


def test_a_noise_source_is_known_by_its_keys():
    adapter = TypeAdapter(NoiseSource)
    kinds = {
        RecordedNoise: {"dir": "x", "group": "g"},
        DividedNoise: {"train": {"dir": "x"}},
        ColouredNoise: {"colour": "pink"},
        Babble: {"talkers": 3},
    }
    for kind, plain in kinds.items():
        assert type(adapter.validate_python(plain)) is kind
        assert type(adapter.validate_python(adapter.validate_python(plain))) is kind
    with pytest.raises(ValidationError):
        adapter.validate_python({"colour": "pink", "dir": "x"})


def test_bit_rates_are_the_nearest_and_of_two_as_near_the_lower():
    assert nearest_bitrate_kbps("g726", 28.0) == 24.0
    assert nearest_bitrate_kbps("g726", 28.1) == 32.0
    assert nearest_bitrate_kbps("amr-nb", 1.0) == 4.75
    assert nearest_bitrate_kbps("mp3", 500.0) == 128.0
    assert all(
        nearest_bitrate_kbps(codec, DEFAULT_BITRATE_KBPS[codec]) == DEFAULT_BITRATE_KBPS[codec] for codec in CODECS
    )
    assert all(list(rates) == sorted(set(rates)) for rates in BITRATES_KBPS.values())


@pytest.mark.parametrize(("waves", "most"), [(1, 40_000), (7, 10_000), (100_000, 1)])
def test_a_shard_has_no_more_members_than_its_index_can_be_read_with(waves, most):
    size = {"utterances": 10, "num_samples": 10, "waves": waves}
    assert ShardSize(samples=1_000_000).samples_of(**size) == most
    assert ShardSize.parse({"gigabytes": 1000.0}, where="x").samples_of(**size) == most
    assert most * (waves + 1) <= max(MOST_MEMBERS, waves + 1)


def test_a_shard_of_a_gigabyte_holds_the_clean_wave_and_every_copy():
    """Ten seconds at 16 kHz take 195,200 bytes as FLAC, and 1,200 more for a member: of six waves 848 go into a gigabyte."""
    size = ShardSize.parse({"gigabytes": 1.0}, where="x")
    assert size.samples_of(utterances=100, num_samples=100 * 160_000, waves=6) == int(1e9 / (6 * (195_200 + 1200)))
