"""A plan may be anybody's: each number outside what a recipe may request is refused, each at its edge is read."""

import pytest
from pydantic import TypeAdapter, ValidationError

from manifests.errors import BadDocumentError
from manifests.plan.plan import (
    PASSED_OVER,
    LocalRoots,
    NoiseLevels,
    OlderPlanError,
    Plan,
    PlanRow,
    SpeechSpectrum,
    left_out_counts,
    passed_over_lines,
)
from manifests.plan.rooms import PlannedRoom, RecordedRoom, RoomResponse, parse_room, response_name
from manifests.plan.steps import FileSpan, PlannedCopy, PlannedStep

SPAN = {"root": "train", "path": "a.wav", "rate_hz": 16_000}
WHITE = {"kind": "noise", "form": "coloured", "source": "w", "colour": "white", "seed": 1, "snr_db": 5.0}
RECORDED = {
    "kind": "noise", "form": "recorded", "source": "n", "root": "n", "recording": "a.wav", "offset": 0, "snr_db": 5.0
}  # fmt: skip
TALKER = {"id": "t", "file": SPAN, "offset": 0}
BABBLE = {"kind": "noise", "form": "babble", "source": "b", "talkers": [TALKER], "snr_db": 5.0}
PART = {key: value for key, value in WHITE.items() if key not in {"kind", "snr_db"}}
SEVERAL = {"kind": "noise", "form": "several", "noises": [PART, PART], "snr_db": 5.0}
ROOM = {"kind": "room", "bank": "b", "room": 0, "position": 0, "response": "b-0-0"}
REVERB = {
    "kind": "freeverb", "reverberance": 0.0, "hf_damping": 0.0, "room_scale": 0.0, "pre_delay_ms": 0.0, "wet_gain_db": 0.0
}  # fmt: skip
CODEC = {"kind": "codec", "codec": "opus", "bitrate_kbps": 16.0}
LOSS = {"percent": 5.0, "conceal": "zeros", "seed": 0, "lost_packets": 1}
BURSTS = {**LOSS, "burst_packets": 2.0, "bad_percent": 50.0, "good_percent": 5.0}

EDGES = [
    (WHITE, "snr_db", [-60.0, 100.0], [-60.1, 100.1]),
    (RECORDED, "snr_db", [-60.0, 100.0], [-60.1, 100.1]),
    (BABBLE, "snr_db", [-60.0, 100.0], [-60.1, 100.1]),
    (SEVERAL, "snr_db", [-60.0, 100.0], [-60.1, 100.1]),
    (WHITE, "seed", [0, 2**32 - 1], [-1, 2**32, 1.5]),
    (WHITE, "over", ["whole", "active"], ["half"]),
    (WHITE, "colour", ["white", "pink", "brown"], ["blue"]),
    (RECORDED, "offset", [0, 2**48 - 1], [-1, 2**48]),
    (RECORDED, "recording", ["a/b.wav"], ["../a.wav", "/a.wav"]),
    (BABBLE, "talkers", [[TALKER]], [[], [{**TALKER, "offset": -1}]]),
    (SEVERAL, "noises", [[PART] * 16], [[PART], [PART] * 17]),
    (ROOM, "room", [0], [-1]),
    (ROOM, "position", [0], [-1]),
    (REVERB, "reverberance", [0.0, 100.0], [-0.1, 100.1]),
    (REVERB, "hf_damping", [0.0, 100.0], [-0.1, 100.1]),
    (REVERB, "room_scale", [0.0, 100.0], [-0.1, 100.1]),
    (REVERB, "pre_delay_ms", [0.0, 500.0], [-0.1, 500.1]),
    (REVERB, "wet_gain_db", [-10.0, 10.0], [-10.1, 10.1]),
    (CODEC, "bitrate_kbps", [1.0, 512.0], [0.9, 512.1]),
    (CODEC, "codec", ["mp3"], ["speex"]),
    (CODEC, "application", ["voip", "audio"], ["music"]),
    (CODEC, "loss", [LOSS, BURSTS], [{**LOSS, "percent": 0.0}, {**LOSS, "lost_packets": 0}, {**LOSS, "seed": 2**32}]),
    (CODEC, "loss", [{**BURSTS, "percent": 5.0}], [{**BURSTS, "percent": 4.9}, {**BURSTS, "percent": 50.0}]),
    (CODEC, "loss", [{**BURSTS, "burst_packets": 1.0}], [{**BURSTS, "burst_packets": 0.9}]),
    (CODEC, "loss", [{**LOSS, "conceal": "codec"}], [{**LOSS, "conceal": "hide"}]),
    (CODEC, "loss", [{**BURSTS, "burst_packets": 1e6}], [{**BURSTS, "burst_packets": 1.1e6}]),
    ({"kind": "codec", "codec": "gsm-fr"}, "loss", [LOSS], [{**LOSS, "conceal": "codec"}]),
    ({"kind": "lowpass"}, "cutoff_hz", [0.0, 24_000.0], [-1.0, 24_001.0]),
    ({"kind": "highpass"}, "cutoff_hz", [0.0, 24_000.0], [-1.0, 24_001.0]),
    ({"kind": "bandpass", "low_hz": 1.0}, "high_hz", [24_000.0], [24_001.0]),
    ({"kind": "bandreject", "high_hz": 9.0}, "low_hz", [0.0], [-1.0]),
    ({"kind": "tilt"}, "db_per_octave", [-12.0, 12.0], [-12.1, 12.1]),
    ({"kind": "gain"}, "gain_db", [-60.0, 60.0], [-60.1, 60.1]),
    ({"kind": "clip"}, "percent", [0.01, 90.0], [0.0, 90.1]),
    ({"kind": "resample"}, "rate_hz", [1000, 48_000], [999, 48_001]),
    ({"kind": "pitch"}, "cents", [-1200.0, 1200.0], [-1200.1, 1200.1]),
]  # fmt: skip


@pytest.mark.parametrize(("step", "key", "fits", "fails"), EDGES)
def test_a_number_of_a_planned_step_is_read_to_its_edges_and_refused_beyond(step, key, fits, fails):
    adapter = TypeAdapter(PlannedStep)
    for value in fits:
        adapter.validate_python({**step, key: value})
    for value in fails:
        with pytest.raises(ValidationError):
            adapter.validate_python({**step, key: value})


def test_a_spectrum_goes_with_speech_shaped_noise_and_with_no_other():
    adapter = TypeAdapter(PlannedStep)
    adapter.validate_python({**WHITE, "colour": "speech", "spectrum": "train"})
    for wrong in ({**WHITE, "spectrum": "train"}, {**WHITE, "colour": "speech"}):
        with pytest.raises(ValidationError, match="spectrum goes with colour: speech"):
            adapter.validate_python(wrong)


def test_packets_are_lost_only_in_codecs_that_have_them():
    adapter = TypeAdapter(PlannedStep)
    with pytest.raises(ValidationError, match="mp3 is a stream"):
        adapter.validate_python({"kind": "codec", "codec": "mp3", "loss": LOSS})


def test_the_source_of_several_noises_names_each_of_theirs_once():
    noises = [PART, {**PART, "source": "v"}, PART]
    assert TypeAdapter(PlannedStep).validate_python({**SEVERAL, "noises": noises}).source == "w+v"


@pytest.mark.parametrize("level", [-100, -23.5, 0, "keep", "match_clean"])
def test_a_level_is_a_word_or_dbfs(level):
    plain = {"name": "c-0", "condition": "c", "steps": []}
    assert PlannedCopy.parse({**plain, "level": level}, where="x").level == level
    assert PlannedCopy.parse(plain, where="x").level == "keep"
    for wrong in (-100.1, 0.1, "loud"):
        with pytest.raises(BadDocumentError):
            PlannedCopy.parse({**plain, "level": wrong}, where="x")


@pytest.mark.parametrize(
    ("key", "fits", "fails"),
    [
        ("start", [0.0, 1e8], [-0.1, 1.1e8]),
        ("num_frames", [0, 2**48 - 1], [-1, 2**48]),
        ("rate_hz", [1, 1_000_000], [0, 1_000_001]),
        ("channel", [0, 1023], [-1, 1024]),
        ("path", ["a.wav", "a/b.wav"], ["../a.wav", "/a.wav", "a/../../b.wav"]),
        ("sha256", ["0" * 64], ["0" * 63, "g" * 64]),
    ],
)
def test_a_span_of_a_file_is_read_to_its_edges_and_refused_beyond(key, fits, fails):
    for value in fits:
        FileSpan.parse({**SPAN, key: value}, where="x")
    for value in fails:
        with pytest.raises(BadDocumentError):
            FileSpan.parse({**SPAN, key: value}, where="x")


def test_a_row_has_a_length_and_a_key_without_a_dot():
    row = {"id": "u", "key": "u-1", "split": "train", "num_samples": 1, "source": SPAN, "copies": []}
    for fits in ({}, {"id": "i" * 4096}, {"key": "k" * 60}, {"num_samples": 2**40 - 1}):
        PlanRow.parse(row | fits, where="x")
    for wrong in (
        {"id": "i" * 4097},
        {"key": "k" * 61},
        {"num_samples": 2**40},
        {"num_samples": 0},
        {"key": "a.b"},
        {"id": ""},
        {"split": "9"},
        {"more": 1},
    ):
        with pytest.raises(BadDocumentError):
            PlanRow.parse({**row, **wrong}, where="x")


def test_a_row_of_rooms_is_simulated_or_recorded_by_its_keys():
    simulated = {
        "bank": "b", "room": 0, "splits": ["train"], "size_m": [4, 3, 2.5], "absorption": 0.2, "max_order": 9,
        "rt60_s": 0.3, "t30_s": [0.3], "microphone_m": [1, 1, 1], "sources_m": [[2, 2, 1], [1, 2, 1]],
    }  # fmt: skip
    responses = [{"place": place, "t30_s": 0.3, "file": {**SPAN, "channel": at}} for at, place in enumerate((0, 0, 1))]
    recorded = {"bank": "b", "room": 0, "splits": ["train"], "label": "hall", "responses": responses}
    one, other = parse_room(simulated, where="x"), parse_room(recorded, where="x")
    assert isinstance(one, PlannedRoom)
    assert isinstance(other, RecordedRoom)
    assert (one.num_positions, other.num_positions) == (2, 3)
    for fits in ({"absorption": 1.0}, {"max_order": 0}, {"max_order": 500}, {"t30_s": [0.3, 0.31]}):
        assert parse_room({**simulated, **fits}, where="x").num_positions == 2
    for wrong in ({"absorption": 0.0}, {"absorption": 1.1}, {"max_order": 501}, {"sources_m": []}):
        with pytest.raises(BadDocumentError):
            parse_room({**simulated, **wrong}, where="x")


def test_levels_of_a_noise_name_a_file_below_its_root():
    plain = {
        "source": "n", "root": "n", "path": "a.wav", "splits": ["train"], "num_samples": 9, "rate_hz": 8000,
        "sha256": "0" * 64, "power_db": [-20.0],
    }  # fmt: skip
    assert NoiseLevels.parse(plain, where="x").splits == ("train",)
    with pytest.raises(BadDocumentError):
        NoiseLevels.parse({**plain, "path": "../a.wav"}, where="x")
    for mean, fits in ((1e6, True), (-1e6, True), (1.1e6, False), (None, True)):
        if fits:
            assert NoiseLevels.parse({**plain, "mean": mean}, where="x").mean == mean
        else:
            with pytest.raises(BadDocumentError):
                NoiseLevels.parse({**plain, "mean": mean}, where="x")


def test_a_spectrum_is_relative_to_its_strongest_part():
    plain = {"split": "train", "rate_hz": 16_000, "utterances": 1, "power_db": [0.0, -200.0]}
    assert SpeechSpectrum.parse({**plain, "power_db": [0.0] * 65_536}, where="x").utterances == 1
    for wrong in ([0.0], [0.1, 0.0], [-200.1, 0.0], [0.0] * 65_537):
        with pytest.raises(BadDocumentError):
            SpeechSpectrum.parse({**plain, "power_db": wrong}, where="x")


def test_a_number_beyond_what_a_recipe_may_have_is_refused_with_its_range():
    with pytest.raises(ValidationError, match="expected a number from -60 to 100, got 101"):
        TypeAdapter(PlannedStep).validate_python({**WHITE, "snr_db": 101.0})


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True), ({"name": "Big-hall_2-123456-999999"}, True), ({"name": "b-0"}, False), ({"name": "b-0-1234567"}, False),
        ({"absorption": 1.0}, True), ({"absorption": 0.0}, False), ({"t30_s": 0.0}, False), ({"rate_hz": 8000}, True),
        ({"rate_hz": 7999}, False), ({"rate_hz": 48_001}, False), ({"direct_to_reverberant_db": None}, True),
        ({"num_samples": 0}, False), ({"direct_sample": -1}, False),
    ],
)  # fmt: skip
def test_a_response_has_a_name_of_three_parts_and_numbers_that_are_possible(changed, fits):
    plain = {
        "name": "b-0-12", "bank": "b", "room": 0, "position": 12, "rate_hz": 16_000, "t30_s": 0.2, "direct_to_reverberant_db": 1.5,
        "direct_sample": 40, "num_samples": 100, "sha256": "5" * 64,
    }  # fmt: skip
    if fits:
        RoomResponse.parse(plain | changed, where="x")
    else:
        with pytest.raises(BadDocumentError):
            RoomResponse.parse(plain | changed, where="x")
    assert response_name("b", 3, 12) == "b-3-12"


def test_no_folder_of_a_root_has_a_nul():
    plain = {"schema": "stillroom/roots/1", "roots": {"a": "/x", "b": "s3://b"}}
    assert LocalRoots.parse(plain, where="x").roots == {"a": "/x", "b": "s3://b"}
    with pytest.raises(BadDocumentError, match="NUL"):
        LocalRoots.parse({**plain, "roots": {"a": "/x", "b": "/y\0"}}, where="x")


def test_files_that_are_not_read_are_counted_apart_from_what_a_recipe_leaves_out():
    filtered = {"train": {PASSED_OVER + ".txt": 2, "shorter than min_s": 3}, "hum": {PASSED_OVER + ".md": 1}}
    assert passed_over_lines(filtered) == [
        "train: 2 files that end in .txt are not read",
        "hum: 1 files that end in .md are not read",
    ]
    assert [left_out_counts(counts) for counts in filtered.values()] == [{"shorter than min_s": 3}, {}]


def test_a_plan_of_an_earlier_version_is_named_by_it_and_not_rendered():
    plain = {
        "schema": "stillroom/plan/2", "name": "p", "recipe_sha256": "0" * 64, "sample_rate": 16_000, "files": [], "levels_sha256": "0" * 64,
        "rooms_sha256": "0" * 64,
    }  # fmt: skip
    Plan.parse(plain, where="x").check_current(where="x")
    with pytest.raises(
        OlderPlanError,
        match=r"^p\.tar\.gz: its plan is 'stillroom/plan/1', .* this Stillroom renders 'stillroom/plan/2'",
    ):
        Plan.parse({**plain, "schema": "stillroom/plan/1"}, where="x").check_current(where="p.tar.gz")
