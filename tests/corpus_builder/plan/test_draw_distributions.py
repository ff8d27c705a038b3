"""Every random draw of a plan, held against the distribution that the recipe asks for, not only against its range.

Seeds are fixed, so each test either always passes or always fails; p-values below 0.001 count as a wrong distribution.
"""

import contextlib
import math
from collections import Counter
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import numpy as np
import pytest
from scipy import stats

from corpus_builder.distortions.codecs.packet_loss import packet_is_lost
from corpus_builder.plan.draws.copy import StepDrawer, planned_copy
from corpus_builder.plan.materials.noise_levels import NoiseFile
from corpus_builder.plan.materials.seeded_random import SeededRandom, drawn, index_below, keyed_hash, rng_for
from corpus_builder.plan.materials.simulated_rooms import RoomTask, drawn_room
from corpus_builder.plan.materials.split_assignment import assigned
from corpus_builder.plan.materials.split_materials import Materials
from corpus_builder.plan.materials.utterance_store import UtteranceStore
from corpus_builder.rooms.placement import Heights, other_places, other_places_at, place, place_at
from corpus_builder.sources.relative_paths import RootFinder
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import Utterance
from manifests.plan.rooms import PlannedRoom, RecordedRoom
from manifests.recipe.channel_steps import mel_of
from manifests.recipe.codecs import PacketLoss
from manifests.recipe.distributions import Draw
from manifests.recipe.recipe import Recipe
from manifests.recipe.rooms import RoomBank
from manifests.recipe.speech import SpeechSource
from manifests.recipe.steps import Condition, Step

RATE = 16_000
TIMES = 2000
LEAST_P = 0.001


def is_uniform(values, low, high):
    """Whether continuous values are spread evenly over a range (Kolmogorov and Smirnov)."""
    found = stats.kstest(np.asarray(values, dtype=float), stats.uniform(low, high - low).cdf).pvalue
    return found > LEAST_P


def is_even(values, kinds):
    """Whether each of some kinds comes equally often, and nothing else (chi-square)."""
    return has_shares(values, dict.fromkeys(kinds, 1.0 / len(list(kinds))))


def has_shares(values, shares):
    """Whether kinds come with given shares, and nothing else (chi-square)."""
    counts = Counter(values)
    assert set(counts) <= set(shares), set(counts) - set(shares)
    expected = [share * counts.total() for share in shares.values()]
    return stats.chisquare([counts[kind] for kind in shares], expected).pvalue > LEAST_P


def draw_of(short):
    return Draw.model_validate(short)


def draws(short, times=TIMES):
    return [drawn(draw_of(short), rng_for(3, "train", f"u{number}", "c-0", "x")) for number in range(times)]


def test_a_uniform_number_is_spread_evenly_over_its_whole_range():
    assert is_uniform(draws({"uniform": [-5, 20]}), -5, 20)
    assert is_uniform(draws({"uniform": [0.3, 1.3]}), 0.3, 1.3)


def test_the_logarithm_of_a_log_uniform_number_is_spread_evenly():
    values = np.array(draws({"log_uniform": [10, 1000]}))
    assert is_uniform(np.log(values), math.log(10), math.log(1000))
    assert not is_uniform(values, 10, 1000)


def test_whole_numbers_and_choices_come_equally_often():
    assert is_even(draws({"uniform_int": [-2, 5]}), range(-2, 6))
    assert is_even(draws({"choice": ["a", "b", "c"]}), "abc")
    assert is_even(draws({"choice": [1.5, 7, 1000]}), [1.5, 7, 1000])
    assert is_even([index_below(7, rng_for(1, "", str(number), "", "")) for number in range(TIMES)], range(7))


def test_the_numbers_behind_a_name_are_pinned():
    """A plan made by one version is made by every other: these are part of the format."""
    assert keyed_hash(5, "order", "train", "u0") == 7816218846153764616
    assert rng_for(5, "train", "u0", "noise-0", "0.snr_db").random() == 0.16643140442793536
    assert drawn(draw_of({"uniform": [0, 20]}), rng_for(5, "train", "u0", "noise-0", "0.snr_db")) == 3.33
    assert index_below(2**32, rng_for(5, "train", "u0", "noise-0", "0.seed")) == 3709958353


# --- every draw of every step -----------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    """Utterances of 0.5 s: eight speakers, of whom each has five."""
    source = Located("train", "train", SpeechSource.parse({"dir": "x"}, where="test"), tmp_path)
    with contextlib.closing(
        UtteranceStore(tmp_path / "store", split="train", seed=1, finder=RootFinder(source))
    ) as made:
        for number in range(40):
            made.add(Utterance(f"u{number}", f"{number}.wav", 0.0, 8000, RATE, speaker=f"s{number % 8}"))
        made.finish()
        yield made


def room_of(number, positions=4, bank="simulated"):
    return PlannedRoom(
        bank=bank, room=number, splits=("train",), size_m=(4, 3, 2.5), absorption=0.3, max_order=10, rt60_s=0.3,
        t30_s=(0.3,) * positions, microphone_m=(1, 1, 1), sources_m=((2, 2, 1),) * positions,
    )  # fmt: skip


def recorded_room(number, places):
    """A recorded room: how many channels each of its recordings has."""
    responses = [
        {
            "place": at,
            "t30_s": 0.3,
            "file": {"root": "rir", "path": f"{number}-{at}.wav", "rate_hz": RATE, "channel": channel},
        }
        for at, channels in enumerate(places)
        for channel in range(channels)
    ]
    plain = {"bank": "recorded", "room": number, "splits": ["train"], "label": f"r{number}", "responses": responses}
    return RecordedRoom.parse(plain, where="test")


def noise_file(name, num_samples, source="hum"):
    frames = max(1, num_samples // 1600)
    return NoiseFile(source, source, name, ("train",), num_samples, np.arange(frames + 1) * 0.01)


def materials(store, *, files=(), talkers=None, seed=1, split="train"):
    plain = {
        "schema": "stillroom/recipe/1",
        "name": "x",
        "speech": {"train": {"dir": "x"}},
        "noises": {
            "hum": {"dir": "n"},
            "white": {"colour": "white"},
            "babble": {"talkers": talkers or {"uniform_int": [2, 5]}},
        },
    }
    recipe = Recipe.parse(plain, where="test")
    rooms = {
        "simulated": [room_of(number) for number in range(3)],
        "recorded": [recorded_room(0, [2, 2]), recorded_room(1, [1, 3])],
        "lone": [recorded_room(0, [3])],
    }
    return Materials(
        seed=seed, split=split, rate_hz=RATE, noises=dict(recipe.noises), files={"hum": list(files)}, rooms=rooms,
        store=store, root="train",
    )  # fmt: skip


def copies(stuff, steps, *, times=TIMES, num_samples=4000, level="keep"):
    condition = Condition.parse({"steps": steps, "level": level}, where="test")
    return [
        planned_copy(stuff, condition, name="c", number=0, utterance=f"v{number}", index=0, num_samples=num_samples)
        for number in range(times)
    ]


WHITE = {"kind": "noise", "from": ["white"], "snr_db": 5}
LOSS = {"percent": 60, "burst_packets": 4, "conceal": "zeros"}
OPUS = {"kind": "codec", "codec": "opus"}


def first(key):
    return lambda copy: copy["steps"][0][key]


def loss(key):
    return lambda copy: copy["steps"][0]["loss"][key]


def width_mel(copy):
    return round(mel_of(copy["steps"][0]["high_hz"]) - mel_of(copy["steps"][0]["low_hz"]), 2)


def width_hz(copy):
    return copy["steps"][0]["high_hz"] - copy["steps"][0]["low_hz"]


def uniform(step, low, high, found):
    def asked(key):
        return {**step, key: {"uniform": [low, high]}}

    return asked, found, lambda values: is_uniform(values, low, high)


def whole(step, low, high, found):
    def asked(key):
        return {**step, key: {"uniform_int": [low, high]}}

    return asked, found, lambda values: is_even(values, range(low, high + 1))


def choice(step, words, found):
    def asked(key):
        return {**step, key: {"choice": words}}

    return asked, found, lambda values: is_even(values, words)


def within_loss(case):
    """The same, one level down: in the packet loss of a codec."""
    asked, found, holds = case
    return lambda key: {**OPUS, "loss": asked(key)}, found, holds


REVERB = {"kind": "freeverb"}
DRAWN = {
    ("NoiseStep", "snr_db"): uniform(WHITE, -5, 20, first("snr_db")),
    ("NoiseStep", "count"): whole(WHITE, 1, 3, lambda copy: len(copy["steps"][0].get("noises", "1"))),
    ("FreeverbStep", "reverberance"): uniform(REVERB, 10, 90, first("reverberance")),
    ("FreeverbStep", "hf_damping"): uniform(REVERB, 0, 60, first("hf_damping")),
    ("FreeverbStep", "room_scale"): uniform(REVERB, 20, 100, first("room_scale")),
    ("FreeverbStep", "pre_delay_ms"): uniform(REVERB, 0, 40, first("pre_delay_ms")),
    ("FreeverbStep", "wet_gain_db"): uniform(REVERB, -10, 5, first("wet_gain_db")),
    ("CodecStep", "codec"): choice({"kind": "codec"}, ["opus", "mp3", "gsm-fr", "g722"], first("codec")),
    ("CodecStep", "bitrate_kbps"): whole(OPUS, 6, 24, first("bitrate_kbps")),
    ("CodecStep", "application"): choice(OPUS, ["voip", "audio"], first("application")),
    ("PacketLoss", "percent"): within_loss(uniform(LOSS, 40, 75, loss("percent"))),
    ("PacketLoss", "burst_packets"): within_loss(uniform(LOSS, 2, 9, loss("burst_packets"))),
    ("PacketLoss", "conceal"): within_loss(choice(LOSS, ["zeros", "repeat", "codec"], loss("conceal"))),
    ("LowPassStep", "cutoff_hz"): uniform({"kind": "lowpass"}, 1000, 7000, first("cutoff_hz")),
    ("HighPassStep", "cutoff_hz"): uniform({"kind": "highpass"}, 50, 900, first("cutoff_hz")),
    ("BandPassStep", "low_hz"): uniform({"kind": "bandpass", "high_hz": 3000}, 100, 900, first("low_hz")),
    ("BandPassStep", "high_hz"): uniform({"kind": "bandpass", "low_hz": 300}, 1000, 7000, first("high_hz")),
    ("BandRejectStep", "width_hz"): uniform({"kind": "bandreject"}, 100, 2000, width_hz),
    ("BandRejectStep", "width_mel"): uniform({"kind": "bandreject"}, 100, 600, width_mel),
    ("BandRejectStep", "low_hz"): uniform({"kind": "bandreject", "width_hz": 300}, 100, 5000, first("low_hz")),
    ("TiltStep", "db_per_octave"): uniform({"kind": "tilt"}, 1, 8, first("db_per_octave")),
    ("GainStep", "gain_db"): uniform({"kind": "gain"}, -30, -1, first("gain_db")),
    ("ClipStep", "percent"): uniform({"kind": "clip"}, 1, 30, first("percent")),
    ("ResampleStep", "rate_hz"): whole({"kind": "resample"}, 4000, 4020, first("rate_hz")),
    ("PitchStep", "cents"): uniform({"kind": "pitch"}, 50, 500, first("cents")),
}  # fmt: skip


def parts_of(annotation):
    """Every class that an annotation speaks of."""
    if get_origin(annotation) in {Annotated, Union, UnionType, tuple, list, dict}:
        return {found for part in get_args(annotation) for found in parts_of(part)}
    return {annotation} if isinstance(annotation, type) else set()


def test_the_table_of_draws_has_every_draw_of_every_step():
    models = parts_of(Step) | {PacketLoss}
    fields = {
        (model.__name__, name)
        for model in models
        for name, field in getattr(model, "model_fields", {}).items()
        if Draw in parts_of(field.annotation)
    }
    assert fields == set(DRAWN)


@pytest.mark.parametrize(("model", "key"), DRAWN)
def test_every_draw_of_a_step_has_the_distribution_of_the_recipe(store, model, key):
    asked, found, holds = DRAWN[model, key]
    size = 64_000 if model == "PacketLoss" else 4000  # of so many packets some are always lost
    assert holds([found(copy) for copy in copies(materials(store), [asked(key)], times=1500, num_samples=size)])


def test_the_level_of_a_copy_has_the_distribution_of_the_recipe(store):
    made = copies(materials(store), [WHITE], level={"uniform": [-40, -10]})
    assert is_uniform([copy["level"] for copy in made], -40, -10)
    assert {copy["level"] for copy in copies(materials(store), [WHITE], level="match_clean", times=5)} == {
        "match_clean"
    }


def test_a_rejected_band_without_a_beginning_lies_anywhere_with_equal_chance_on_the_scale_of_its_width(store):
    in_hertz = copies(materials(store), [{"kind": "bandreject", "width_hz": 1000}])
    assert is_uniform([copy["steps"][0]["low_hz"] for copy in in_hertz], 0, 7000)
    in_mel = copies(materials(store), [{"kind": "bandreject", "width_mel": 200}])
    assert is_uniform([mel_of(copy["steps"][0]["low_hz"]) for copy in in_mel], 0, mel_of(8000) - 200)


def test_choose_takes_each_way_as_often_as_its_weight_says(store):
    ways = [[WHITE], [{"kind": "clip", "percent": 1}], [{"kind": "tilt", "db_per_octave": 3}], []]
    made = [tuple(step["kind"] for step in copy["steps"]) for copy in copies(materials(store), [{"choose": ways}])]
    assert is_even(made, [("noise",), ("clip",), ("tilt",), ()])
    weighted = copies(materials(store), [{"choose": ways, "weights": [4, 3, 0, 1]}])
    made = [tuple(step["kind"] for step in copy["steps"]) for copy in weighted]
    assert has_shares(made, {("noise",): 0.5, ("clip",): 0.375, (): 0.125})


# --- noises -----------------------------------------------------------------------------------------------------------


def test_a_segment_begins_at_any_sample_of_a_file_from_which_it_fits(store):
    """Both ends come: the first sample, and the last from which a whole segment fits."""
    steps = [{"kind": "noise", "from": ["hum"], "snr_db": 5}]
    made = copies(materials(store, files=[noise_file("a.wav", 4010)]), steps)
    assert is_even([copy["steps"][0]["offset"] for copy in made], range(11))
    made = copies(materials(store, files=[noise_file("a.wav", 64_000)]), steps)
    assert is_uniform([copy["steps"][0]["offset"] for copy in made], 0, 60_001)


def test_a_noise_that_is_too_short_begins_at_any_of_its_samples(store):
    steps = [{"kind": "noise", "from": ["hum"], "snr_db": 5}]
    made = copies(materials(store, files=[noise_file("a.wav", 12)]), steps)
    assert is_even([copy["steps"][0]["offset"] for copy in made], range(12))


def test_offset_and_file_of_a_segment_do_not_hang_together(store):
    files = [noise_file(f"{name}.wav", 4003) for name in "abc"]
    made = copies(materials(store, files=files), [{"kind": "noise", "from": ["hum"], "snr_db": 5}])
    found = [(copy["steps"][0]["recording"], copy["steps"][0]["offset"]) for copy in made]
    assert is_even(found, [(f"{name}.wav", offset) for name in "abc" for offset in range(4)])


@pytest.mark.parametrize("over", ["whole", "active"])
def test_the_speech_that_an_snr_counts_is_planned_as_requested(store, over):
    for source in ("hum", "white", "babble"):
        step = {"kind": "noise", "from": [source], "snr_db": 5, "over": over, "count": {"uniform_int": [1, 2]}}
        made = copies(materials(store, files=[noise_file("a.wav", 9000)]), [step], times=20)
        assert {copy["steps"][0]["over"] for copy in made} == {over}


def test_files_drawn_by_duration_have_the_chance_of_their_length(store):
    files = [noise_file("a.wav", 8000), noise_file("b.wav", 24_000), noise_file("c.wav", 16_000)]
    steps = [{"kind": "noise", "from": ["hum"], "draw": "duration", "snr_db": 5}]
    made = copies(materials(store, files=files), steps)
    shares = {"a.wav": 1 / 6, "b.wav": 3 / 6, "c.wav": 2 / 6}
    assert has_shares([copy["steps"][0]["recording"] for copy in made], shares)


def test_seeds_of_noise_and_of_lost_packets_cover_all_of_32_bits(store):
    made = copies(materials(store), [WHITE, {**OPUS, "loss": {"percent": 60}}], num_samples=64_000)
    noise = [copy["steps"][0]["seed"] for copy in made]
    lost = [copy["steps"][1]["loss"]["seed"] for copy in made]
    assert is_uniform(noise, 0, 2**32)
    assert is_uniform(lost, 0, 2**32)
    assert len(set(noise) | set(lost)) == 2 * TIMES


def test_a_babble_has_its_number_of_talkers_each_of_the_others_equally_often(store):
    made = copies(materials(store), [{"kind": "noise", "from": ["babble"], "snr_db": 5}])
    talkers = [copy["steps"][0]["talkers"] for copy in made]
    assert is_even([len(one) for one in talkers], range(2, 6))
    assert all(len({talker["speaker"] for talker in one}) == len(one) for one in talkers)
    first_talkers = [one[0] for one in talkers]
    assert is_even([talker["id"] for talker in first_talkers], [f"u{n}" for n in range(40) if n % 8])
    assert is_uniform([talker["offset"] for talker in first_talkers], 0, 4001)
    assert all("spare" not in copy["steps"][0] for copy in made)


def test_talkers_shorter_than_the_utterance_begin_at_any_of_their_samples(store):
    steps = [{"kind": "noise", "from": ["babble"], "snr_db": 5}]
    made = copies(materials(store), steps, num_samples=20_000)
    assert is_uniform([copy["steps"][0]["talkers"][1]["offset"] for copy in made], 0, 8000)


def test_one_interfering_talker_has_three_others_in_reserve(store):
    made = copies(materials(store, talkers=1), [{"kind": "noise", "from": ["babble"], "snr_db": 5}], times=400)
    for copy in made:
        (talker,), spare = copy["steps"][0]["talkers"], copy["steps"][0]["spare"]
        assert len({one["speaker"] for one in spare} - {"s0"}) == 3
        assert talker["speaker"] != "s0"
    same = [copy["steps"][0]["talkers"][0]["id"] == copy["steps"][0]["spare"][0]["id"] for copy in made]
    assert sum(same) < 0.1 * len(same)  # 1 in 35 by chance


# --- rooms ------------------------------------------------------------------------------------------------------------


def test_rooms_and_positions_come_equally_often_and_noise_stands_at_each_other_position(store):
    steps = [{"kind": "room", "bank": "simulated"}, {**WHITE, "in_room": True}]
    made = [copy["steps"] for copy in copies(materials(store), steps)]
    assert is_even([(room["room"], room["position"]) for room, _ in made], [(r, p) for r in range(3) for p in range(4)])
    assert all(room["response"] == f"simulated-{room['room']}-{room['position']}" for room, _ in made)
    moved = [(int(noise["response"].rpartition("-")[2]) - room["position"]) % 4 for room, noise in made]
    assert is_even(moved, [1, 2, 3])


def test_a_recording_and_then_its_channel_come_equally_often(store):
    made = [copy["steps"][0] for copy in copies(materials(store), [{"kind": "room", "bank": "recorded"}])]
    shares = {(0, at): 1 / 8 for at in range(4)} | {(1, 0): 1 / 4} | {(1, at): 1 / 12 for at in (1, 2, 3)}
    assert has_shares([(room["room"], room["position"]) for room in made], shares)


def test_noise_in_a_recorded_room_is_of_another_recording_and_of_the_same_channel_where_it_has_that(store):
    steps = [{"kind": "room", "bank": "recorded"}, {**WHITE, "in_room": True}]
    pairs = Counter(
        (room["room"], room["position"], int(noise["response"].rpartition("-")[2]))
        for room, noise in (copy["steps"] for copy in copies(materials(store), steps))
    )
    # room 0: recordings (0, 1) and (2, 3) of two channels; room 1: recording (0,) of one and (1, 2, 3) of three channels
    same_channel = {(0, 0, 2), (0, 1, 3), (0, 2, 0), (0, 3, 1), (1, 0, 1), (1, 1, 0)}
    no_such_channel = {(1, 2, 0), (1, 3, 0)}
    assert set(pairs) == same_channel | no_such_channel


def test_noise_in_a_room_of_one_recording_is_of_each_other_channel_equally_often(store):
    steps = [{"kind": "room", "bank": "lone"}, {**WHITE, "in_room": True}]
    made = [copy["steps"] for copy in copies(materials(store), steps)]
    found = [(room["position"], int(noise["response"].rpartition("-")[2])) for room, noise in made]
    assert is_even(found, [(own, other) for own in range(3) for other in range(3) if own != other])


def test_a_room_within_a_choice_minds_the_noise_that_follows_it(store):
    """Of a room with a single response nothing is left for the noise, so it is not drawn where noise follows, however nested."""
    stuff = materials(store)
    stuff.rooms["mixed"] = [recorded_room(0, [1]), recorded_room(1, [1, 1])]
    room, noise = {"kind": "room", "bank": "mixed"}, {**WHITE, "in_room": True}
    alone = copies(stuff, [{"choose": [[room], []]}], times=200)
    assert {step["room"] for copy in alone for step in copy["steps"]} == {0, 1}
    for steps in ([room, noise], [{"choose": [[room]]}, noise], [room, {"choose": [[noise]]}]):
        assert {copy["steps"][0]["room"] for copy in copies(stuff, steps, times=200)} == {1}
    further = [room, {"kind": "room", "bank": "simulated"}, noise]  # the noise stands in the second room
    assert {copy["steps"][0]["room"] for copy in copies(stuff, further, times=200)} == {0, 1}


def test_a_room_step_says_only_that_its_level_is_not_kept(store):
    for step in ({"kind": "room", "bank": "simulated"}, {"kind": "freeverb"}):
        for asked in ({}, {"keep_rms": True}):
            assert "keep_rms" not in copies(materials(store), [{**step, **asked}], times=1)[0]["steps"][0]
        (planned,) = copies(materials(store), [{**step, "keep_rms": False}], times=1)[0]["steps"]
        assert planned["keep_rms"] is False


BANK = {
    "rooms": 400,
    "method": "hybrid",
    "size_m": [[5, 4, 2.5], [9, 7, 4]],
    "rt60_s": {"uniform": [0.2, 0.9]},
    "distance_m": {"uniform": [0.5, 1.5]},
    "positions": 2,
}


@pytest.fixture(scope="module")
def shoeboxes():
    """Drawn rooms, not calibrated: each of another number of the bank."""
    wanted = RoomBank.parse(BANK, where="test")
    return [drawn_room(RoomTask(1, 8000, "b", wanted, number, ("train",)), 0) for number in range(400)]


def test_sizes_reverberation_times_and_distances_of_rooms_are_spread_evenly_over_their_ranges(shoeboxes):
    sizes = np.array([room.size_m for room in shoeboxes])
    for axis, (low, high) in enumerate(zip(*BANK["size_m"], strict=True)):
        assert is_uniform(sizes[:, axis], low, high)
    times_s = np.array([room.rt60_s for room in shoeboxes])
    assert is_uniform(times_s, 0.2, 0.9)
    gaps = np.array([np.subtract(room.sources_m, room.microphone_m) for room in shoeboxes])
    distances = np.linalg.norm(gaps, axis=2)
    for position in range(2):
        assert is_uniform(distances[:, position], 0.5, 1.5)
    numbers = np.column_stack([sizes, times_s, distances])
    pairs = np.corrcoef(numbers.T)[np.triu_indices(6, 1)]
    assert np.abs(pairs).max() < 4 / math.sqrt(len(shoeboxes))
    assert len({room.rays.seed for room in shoeboxes}) == len(shoeboxes)
    assert is_uniform([room.rays.seed for room in shoeboxes], 0, 2**32)


def test_sources_stand_in_every_direction_from_the_microphone(shoeboxes):
    for position in (0, 1):
        ways = np.array([np.subtract(room.sources_m[position], room.microphone_m) for room in shoeboxes])
        assert is_uniform(np.arctan2(ways[:, 1], ways[:, 0]), -math.pi, math.pi)


def test_another_attempt_room_bank_or_seed_gives_another_room():
    wanted = RoomBank.parse(BANK, where="test")

    def size(seed=1, bank="b", number=0, attempt=0):
        return drawn_room(RoomTask(seed, 8000, bank, wanted, number, ("train",)), attempt).size_m

    assert len({size(), size(seed=2), size(bank="c"), size(number=1), size(attempt=1)}) == 5
    assert size() == size()


def test_heights_of_a_bank_are_spread_evenly_over_their_ranges():
    heights = {"microphone_height_m": {"uniform": [0.6, 1.2]}, "source_height_m": {"uniform": [1.0, 1.5]}}
    wanted = RoomBank.parse({**BANK, **heights, "distance_m": {"uniform": [1.0, 1.5]}}, where="test")
    rooms = [drawn_room(RoomTask(1, 8000, "b", wanted, number, ("train",)), 0) for number in range(200)]
    assert is_uniform([room.microphone_m[2] for room in rooms], 0.6, 1.2)
    for position in (0, 1):
        assert is_uniform([room.sources_m[position][2] for room in rooms], 1.0, 1.5)


def rest_of_room(size_m, way):
    """The range in which a microphone may stand along each axis, with 0.3 m kept from the walls by itself and its source."""
    low = 0.3 + np.maximum(0.0, -way)
    return low, np.array(size_m) - 0.3 - np.maximum(0.0, way)


def test_a_microphone_stands_anywhere_where_it_and_its_source_fit():
    size_m, source = (5.0, 4.0, 3.0), np.random.default_rng(1)
    shares = []
    for _ in range(600):
        microphone, (speaker,) = place(source, size_m=size_m, distances_m=[1.0])
        low, high = rest_of_room(size_m, np.subtract(speaker, microphone))
        shares.append((np.array(microphone) - low) / (high - low))
    for axis in range(3):
        assert is_uniform(np.array(shares)[:, axis], 0, 1)


def test_at_given_heights_a_source_stands_in_every_direction_around_a_microphone_that_stands_anywhere():
    size_m, source = (6.0, 5.0, 3.0), np.random.default_rng(2)
    shares, angles = [], []
    for _ in range(600):
        microphone, (speaker,) = place_at(source, Heights(1.0, (1.6,)), size_m=size_m, distances_m=[1.5])
        way = np.subtract(speaker, microphone)
        assert (microphone[2], speaker[2]) == (1.0, 1.6)
        assert np.linalg.norm(way) == pytest.approx(1.5, abs=2e-3)
        low, high = rest_of_room(size_m, way)
        shares.append(((np.array(microphone) - low) / (high - low))[:2])
        angles.append(math.atan2(way[1], way[0]))
    assert is_uniform(angles, -math.pi, math.pi)
    for axis in range(2):
        assert is_uniform(np.array(shares)[:, axis], 0, 1)
    free = [
        place_at(source, Heights(None, (1.6,)), size_m=size_m, distances_m=[1.5])[0][2] for _ in range(300)
    ]  # up to 1.5 m above or below the source, 0.3 m from floor and ceiling, the farther the rarer
    assert 0.3 <= min(free) < 0.6
    assert 2.4 < max(free) <= 2.7


def test_further_places_of_a_source_lie_in_every_direction():
    where = {"size_m": (9.0, 9.0, 9.0), "microphone_m": (4.5, 4.5, 4.5), "distance_m": 2.0, "most_tries": 600}
    free = np.array(list(other_places(np.random.default_rng(3), **where))) - 4.5
    assert is_uniform(free[:, 2], -2, 2)  # Archimedes: a sphere is even along any axis
    level = np.array(list(other_places_at(np.random.default_rng(4), 5.0, **where))) - 4.5
    assert np.allclose(level[:, 2], 0.5)
    assert is_uniform(np.arctan2(level[:, 1], level[:, 0]), -math.pi, math.pi)


# --- packets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chain",
    [
        {"percent": 20.0},
        {"percent": 20.0, "burst_packets": 5.0},
        {"percent": 25.0, "burst_packets": 8.0, "bad_percent": 60.0, "good_percent": 5.0},
    ],
)
def test_the_first_packets_are_lost_as_often_as_any_other(chain):
    """The chain begins as it is in the long run, so that short utterances lose as much as long ones."""
    lost = np.array([packet_is_lost(60, seed=seed, **chain) for seed in range(1500)])
    share = chain["percent"] / 100
    for packet in (0, 1, 2, 59):
        found = stats.binomtest(int(lost[:, packet].sum()), len(lost), share).pvalue
        assert found > LEAST_P, packet


# --- assignment to splits and shards ----------------------------------------------------------------------------------


def test_over_seeds_each_name_goes_to_train_eight_times_of_ten():
    names = [f"n{number}" for number in range(20)]
    splits = ("train", "dev", "test")
    owners = [assigned(names, splits, seed=seed, owner="musan") for seed in range(300)]
    for name in names:
        assert has_shares([owner[name] for owner in owners], {"train": 0.8, "dev": 0.1, "test": 0.1})


def test_another_seed_or_source_assigns_otherwise():
    names = [f"n{number}" for number in range(40)]
    splits = ("train", "dev", "test")
    one = assigned(names, splits, seed=1, owner="musan")
    assert one != assigned(names, splits, seed=2, owner="musan")
    assert one != assigned(names, splits, seed=1, owner="demand")
    assert assigned(names[:3], splits, seed=1, owner="x").keys() == set(names[:3])


def test_few_names_leave_each_split_one_and_the_largest_the_rest():
    def counts(number, splits):
        return Counter(assigned([str(n) for n in range(number)], splits, seed=1, owner="x").values())

    splits = ("train", "dev", "test")
    assert counts(3, splits) == {"train": 1, "dev": 1, "test": 1}
    assert counts(7, splits) == {"train": 5, "dev": 1, "test": 1}
    assert counts(18, splits) == {"train": 14, "dev": 2, "test": 2}
    assert counts(5, ("a", "b")) == {"a": 4, "b": 1}


def spool_of(folder, ids, *, seed=1, split="train"):
    source = Located(split, split, SpeechSource.parse({"dir": "x"}, where="test"), folder)
    made = UtteranceStore(folder / f"{split}-{seed}", split=split, seed=seed, finder=RootFinder(source))
    for name in ids:
        made.add(Utterance(name, f"{name}.wav", 0.0, 8000, RATE))
    made.finish()
    return made


def shards_of(folder, ids, *, samples=50, limit=None, **options):
    with contextlib.closing(spool_of(folder, ids, **options)) as made:
        return {
            shard: [made.read(at).utterance.id for at in places] for shard, places in made.shards(samples, limit=limit)
        }


def test_utterances_are_assigned_to_shards_by_the_hash_of_their_ids(tmp_path):
    ids = [f"u{number}" for number in range(2000)]
    shards = shards_of(tmp_path, ids)
    assert sorted(shards) == list(range(40))
    assert sorted(name for names in shards.values() for name in names) == sorted(ids)
    assert is_even([shard for shard, names in shards.items() for _ in names], range(40))
    for shard, names in shards.items():
        hashes = [keyed_hash(1, "order", "train", name) for name in names]
        assert hashes == sorted(hashes)
        assert {value % 40 for value in hashes} == {shard}
    neighbours = [shard for shard, names in shards.items() for name in names if int(name[1:]) < 200]
    assert is_even(neighbours, range(40))
    other_seed, other_split = shards_of(tmp_path, ids, seed=2), shards_of(tmp_path, ids, split="dev")
    assert shards[0] not in (other_seed[0], other_split[0])


def test_a_limit_takes_the_utterances_of_the_smallest_hashes(tmp_path):
    ids = [f"u{number}" for number in range(300)]
    few = shards_of(tmp_path, ids, limit=90)
    assert len(few) == 2
    taken = {name for names in few.values() for name in names}
    assert taken == set(sorted(ids, key=lambda name: keyed_hash(1, "order", "train", name))[:90])


# --- names of draws ---------------------------------------------------------------------------------------------------


class NotedRandom(SeededRandom):
    """The generators of a copy, with a note of each that was asked for."""

    def rng(self, step):
        NOTED.append(step)
        return super().rng(step)


NOTED: list[str] = []
TEN = {"uniform": [1, 10]}
EVERY_STEP = [
    {"kind": "room", "bank": "simulated"},
    {"kind": "room", "bank": "recorded"},
    {"kind": "noise", "from": ["hum", "white", "babble"], "snr_db": TEN, "count": {"uniform_int": [3, 4]}, "in_room": True},
    {"kind": "noise", "from": ["white"], "snr_db": TEN},
    {"kind": "noise", "from": ["babble"], "snr_db": TEN, "in_room": True},
    {"kind": "noise", "from": ["hum"], "snr_db": TEN},
    {
        "kind": "freeverb", "reverberance": TEN, "hf_damping": TEN, "room_scale": TEN, "pre_delay_ms": TEN,
        "wet_gain_db": TEN,
    },
    {
        "kind": "codec", "codec": {"choice": ["opus"]}, "bitrate_kbps": {"uniform": [6, 20]},
        "application": {"choice": ["voip", "audio"]},
        "loss": {"percent": {"uniform": [30, 60]}, "burst_packets": {"uniform": [2, 5]}, "conceal": {"choice": ["zeros"]}},
    },
    {"kind": "lowpass", "cutoff_hz": {"uniform": [100, 200]}},
    {"kind": "highpass", "cutoff_hz": {"uniform": [100, 200]}},
    {"kind": "bandpass", "low_hz": {"uniform": [100, 200]}, "high_hz": {"uniform": [300, 400]}},
    {"kind": "bandreject", "width_hz": {"uniform": [100, 200]}},
    {"kind": "bandreject", "width_mel": {"uniform": [100, 200]}, "low_hz": {"uniform": [100, 200]}},
    {"kind": "tilt", "db_per_octave": TEN},
    {"kind": "gain", "gain_db": TEN},
    {"kind": "clip", "percent": TEN},
]  # fmt: skip
MORE_STEPS = [
    {"kind": "resample", "rate_hz": {"uniform_int": [4000, 8000]}},
    {"kind": "pitch", "cents": {"uniform": [100, 200]}},
    {"choose": [[{"kind": "clip", "percent": TEN}, {"kind": "tilt", "db_per_octave": TEN}], [{"kind": "gain", "gain_db": TEN}]]},
    {"choose": [[{"choose": [[{"kind": "clip", "percent": TEN}], [{"kind": "gain", "gain_db": TEN}]]}]], "weights": [1]},
]  # fmt: skip


@pytest.mark.parametrize("talkers", [1, {"uniform_int": [2, 5]}])
def test_no_two_draws_of_a_copy_share_a_name(store, talkers):
    stuff = materials(store, files=[noise_file("a.wav", 9000)], talkers=talkers)
    most = 0
    for steps in (EVERY_STEP, MORE_STEPS, [*MORE_STEPS, *EVERY_STEP[:8]]):
        condition = Condition.parse({"steps": steps}, where="test")
        for number in range(40):
            NOTED.clear()
            random = NotedRandom(1, "train", f"v{number}", "c-0")
            drawer = StepDrawer(stuff, random, 0, 4000)
            for at, step in enumerate(condition.steps):
                drawer.draw(step, f"{at}", condition.steps[at + 1 :])
            names = [*NOTED, "level"]
            most = max(most, len(names))
            assert len(set(names)) == len(names), Counter(names).most_common(3)
    assert most > 40


def test_every_kind_of_step_is_among_those_whose_names_are_noted():
    kinds = {get_args(field.annotation)[0] for model in parts_of(Step) if (field := kind_field(model)) is not None}
    assert kinds == {step["kind"] for step in [*EVERY_STEP, *MORE_STEPS] if "kind" in step}


def kind_field(model):
    field = getattr(model, "model_fields", {}).get("kind")
    return field if field is not None and get_origin(field.annotation) is Literal else None


def test_copies_utterances_splits_and_seeds_each_have_draws_of_their_own(store):
    condition = Condition.parse({"steps": [{**WHITE, "snr_db": {"uniform": [0, 100]}}]}, where="test")

    def planned(name="c", number=0, utterance="u", **options):
        stuff = materials(store, **options)
        made = planned_copy(stuff, condition, name=name, number=number, utterance=utterance, index=0, num_samples=4000)
        return made["steps"][0]["seed"]

    variants = [{}, {"name": "d"}, {"number": 1}, {"utterance": "v"}, {"seed": 2}, {"split": "test"}]
    assert len({planned(**variant) for variant in variants}) == len(variants)
    assert planned() == planned()
