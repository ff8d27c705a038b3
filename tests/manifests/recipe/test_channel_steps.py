import copy
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.plan.materials.seeded_random import drawn, rng_for
from manifests.errors import BadDocumentError
from manifests.io.yaml12 import parse_yaml
from manifests.recipe.channel_steps import CHANNEL_KINDS, hertz_of, mel_of, probability_of_no_step, probability_of_zero
from manifests.recipe.recipe import Recipe

RECIPE = {
    "schema": "stillroom/recipe/1",
    "name": "tiny",
    "speech": {"train": {"dir": "train"}},
    "noises": {"white": {"colour": "white"}, "musan": {"dir": "musan"}},
    "conditions": {"c": {"steps": []}},
    "copies": {"train": {"c": 1}},
}
GOOD = [
    {"kind": "lowpass", "cutoff_hz": {"uniform": [2000, 6000]}},
    {"kind": "highpass", "cutoff_hz": 300},
    {"kind": "bandpass", "low_hz": {"uniform": [200, 400]}, "high_hz": {"choice": [3400, 7000]}},
    {"kind": "bandreject", "width_mel": {"uniform": [10, 149.8]}},
    {"kind": "bandreject", "width_hz": 500, "low_hz": {"log_uniform": [100, 4000]}},
    {"kind": "tilt", "db_per_octave": {"uniform": [-6, 6]}},
    {"kind": "gain", "gain_db": -6.0},
    {"kind": "clip", "percent": {"log_uniform": [0.1, 10]}},
    {"kind": "resample", "rate_hz": {"choice": [8000, 11025, 16000]}},
    {"kind": "pitch", "cents": {"uniform_int": [-500, 500]}},
]


def recipe_with(step):
    data = copy.deepcopy(RECIPE)
    data["conditions"]["c"]["steps"] = [step]
    return Recipe.parse(data, where="recipe")


@pytest.mark.parametrize("step", GOOD, ids=lambda step: step["kind"])
def test_each_kind_is_read_and_written_back_the_same(step):
    recipe = recipe_with(step)
    assert Recipe.parse(recipe.plain(), where="again") == recipe
    assert recipe.plain()["conditions"]["c"]["steps"] == [step]


def test_every_kind_of_the_channel_is_shown_here():
    assert {step["kind"] for step in GOOD} == set(CHANNEL_KINDS)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "lowpass", "cutoff_hz": {"uniform": [4000, 8000]}}, "steps.0.cutoff_hz: 8000 Hz is not below half"),
        ({"kind": "bandpass", "low_hz": 300, "high_hz": 9000}, "steps.0.high_hz: 9000 Hz is not below"),
        ({"kind": "bandpass", "low_hz": {"uniform": [300, 900]}, "high_hz": {"uniform": [800, 3400]}}, "must stay below"),
        ({"kind": "bandreject"}, "exactly one of width_hz and width_mel"),
        ({"kind": "bandreject", "width_hz": 3000, "low_hz": {"uniform": [0, 6000]}}, "steps.0.width_hz: the band may reach 9000"),
        ({"kind": "bandreject", "width_mel": 3000}, "steps.0.width_mel: the band may reach"),
        ({"kind": "bandreject", "width_hz": {"uniform": [100, 3000]}, "low_hz": 6000}, "steps.0.width_hz: the band may reach 9000"),
        ({"kind": "bandreject", "width_mel": {"uniform": [100, 3000]}}, "steps.0.width_mel: the band may reach"),
        ({"kind": "resample", "rate_hz": 22050}, "steps.0.rate_hz: 22050 Hz is above the sample rate"),
        ({"kind": "resample", "rate_hz": {"uniform": [4000, 8000]}}, "expected whole numbers"),
        ({"kind": "pitch", "cents": 2400}, r"is outside \[-1200, 1200\]"),
        ({"kind": "clip", "percent": 0}, r"is outside \[0.01, 90\]"),
        ({"kind": "tilt", "db_per_octave": "up"}, "expected numbers"),
        ({"kind": "equaliser"}, "kind: expected one of noise, .*pitch"),
        ({"choose": [[], [GOOD[0]]], "weights": [1]}, "expected 2 weights"),
        ({"choose": [[], [GOOD[0]]], "weights": [0, 0]}, "not all 0"),
        ({"choose": [[], [GOOD[0]]], "weights": [-1, 2]}, "weights.0"),
        ({"kind": "noise", "from": {}, "snr_db": 3}, "steps.0.*from"),
        ({"kind": "noise", "from": {"white": 0}, "snr_db": 3}, "from.white"),
        ({"kind": "noise", "from": {"what": 1}, "snr_db": 3}, "no noise source 'what'"),
        ({"kind": "noise", "from": ["white"], "snr_db": 3, "count": {"uniform": [1, 3]}}, "whole numbers"),
        ({"kind": "noise", "from": ["white"], "snr_db": 3, "over": "speech"}, "over"),
        ({"kind": "noise", "from": ["musan", "white"], "snr_db": 3, "draw": "duration"}, "'white' has no files"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_path(step, message):
    with pytest.raises(BadDocumentError, match=message) as told:
        recipe_with(step)
    assert "\n" not in str(told.value)


@given(st.floats(0, 24_000))
def test_mel_and_hertz_are_each_others_inverse(frequency_hz):
    assert hertz_of(mel_of(frequency_hz)) == pytest.approx(frequency_hz, abs=1e-6)
    assert mel_of(1000.0) == pytest.approx(1000.0, abs=0.1)


def test_the_chances_of_choose_add_up_to_one_and_follow_its_weights():
    equal = recipe_with({"choose": [[], [GOOD[0]], [GOOD[1]]]}).conditions["c"].steps[0]
    assert equal.chances == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    weighted = recipe_with({"choose": [[], [GOOD[0]]], "weights": [3, 1]}).conditions["c"].steps[0]
    assert weighted.chances == (0.75, 0.25)


@pytest.mark.parametrize(
    ("draw", "chance"),
    [
        (0, 1.0),
        (3, 0.0),
        ({"choice": [0, 5, 0, 7]}, 0.5),
        ({"uniform_int": [-500, 500]}, 1 / 1001),
        ({"uniform_int": [1, 9]}, 0.0),
        ({"uniform": [-1, 1]}, 0.005),
        ({"uniform": [0, 1]}, 0.005),
        ({"uniform": [0.02, 1]}, 0.0),
        ({"log_uniform": [0.1, 1]}, 0.0),
        ({"uniform": [0, 0]}, 1.0),
        ({"uniform": [3, 3]}, 0.0),
        ({"uniform": [-0.001, 0.003]}, 1.0),
    ],
)
def test_the_chance_that_nothing_is_planned_is_known(draw, chance):
    step = recipe_with({"kind": "pitch", "cents": draw}).conditions["c"].steps[0]
    assert probability_of_no_step(step) == pytest.approx(chance)
    for other in ({"kind": "gain", "gain_db": draw}, {"kind": "tilt", "db_per_octave": draw}):
        if draw not in (0, {"choice": [0, 5, 0, 7]}, {"uniform_int": [1, 9]}) and "500" not in str(draw):
            assert probability_of_no_step(recipe_with(other).conditions["c"].steps[0]) == pytest.approx(chance)


def test_by_counting_nothing_is_planned_as_often_as_is_said():
    draw = (
        recipe_with({"kind": "tilt", "db_per_octave": {"uniform": [-0.1, 0.1]}}).conditions["c"].steps[0].db_per_octave
    )
    zeros = sum(drawn(draw, rng_for(1, "train", f"u{number}", "c-0", "0")) == 0.0 for number in range(4000))
    assert abs(zeros / 4000 - probability_of_zero(draw)) < 4 * (0.05 * 0.95 / 4000) ** 0.5


def test_whether_a_lower_rate_is_lower_the_corpus_decides():
    assert probability_of_no_step(recipe_with({"kind": "resample", "rate_hz": 16000}).conditions["c"].steps[0]) is None
    for rates, due in ((4000, 0.0), (7999, 0.0), (8000, None), ({"choice": [4000, 16000]}, None)):
        step = recipe_with({"kind": "resample", "rate_hz": rates}).conditions["c"].steps[0]
        assert probability_of_no_step(step) == due


@pytest.mark.parametrize("page", ["noise.md", "channel.md", "codecs.md", "rooms.md"])
def test_the_examples_of_the_pages_are_read_and_so_is_what_is_written_of_them(page):
    text = (Path(__file__).resolve().parents[3] / "docs" / page).read_text()
    for example in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        speech = {split: {"dir": split} for split in ("train", "dev", "test")}
        found = {**RECIPE, "speech": speech, "copies": {}, **parse_yaml(example.encode(), where=page)}
        recipe = Recipe.parse(found, where=page)
        assert recipe.conditions
        assert Recipe.parse(recipe.plain(), where="published") == recipe
