from collections import Counter

import pytest
from pydantic import TypeAdapter

from corpus_builder.plan.draws.channel import drawn_channel_step
from corpus_builder.plan.materials.seeded_random import SeededRandom
from manifests.plan.steps import PlannedStep
from manifests.recipe.channel_steps import mel_of
from manifests.recipe.steps import Step

RATE = 16_000


def drawn(step, times=300, rate_hz=RATE):
    """Planned steps of many utterances, checked by the plan's own model; None where nothing was planned."""
    asked = TypeAdapter(Step).validate_python(step)
    found = [
        drawn_channel_step(asked, "0", SeededRandom(3, "train", f"u{number}", "c-0"), rate_hz=rate_hz)
        for number in range(times)
    ]
    return [plain and TypeAdapter(PlannedStep).validate_python(plain) for plain in found]


def test_a_band_on_the_mel_scale_lies_anywhere_below_half_the_rate_with_equal_chance():
    bands = drawn({"kind": "bandreject", "width_mel": {"uniform": [10, 149.8]}}, times=2000)
    widths = [mel_of(band.high_hz) - mel_of(band.low_hz) for band in bands]
    assert 9.9 < min(widths) < max(widths) < 149.9
    assert all(0 <= band.low_hz < band.high_hz < RATE / 2 for band in bands)
    middle = [(mel_of(band.low_hz) + mel_of(band.high_hz)) / 2 / mel_of(RATE / 2) for band in bands]
    quarters = Counter(int(4 * place) for place in middle)
    assert all(abs(quarters[number] - 500) < 100 for number in range(4))


def test_a_band_in_hertz_has_its_width_and_its_place():
    for band in drawn({"kind": "bandreject", "width_hz": {"uniform": [100, 900]}, "low_hz": {"uniform": [500, 2000]}}):
        assert 500 <= band.low_hz <= 2000
        assert 99.98 <= band.high_hz - band.low_hz <= 900.02


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ({"kind": "pitch", "cents": {"choice": [0, 100]}}, {"cents": 100}),
        ({"kind": "gain", "gain_db": {"choice": [0, -6]}}, {"gain_db": -6}),
        ({"kind": "tilt", "db_per_octave": {"choice": [0, 3]}}, {"db_per_octave": 3}),
        ({"kind": "resample", "rate_hz": {"choice": [16_000, 8000]}}, {"rate_hz": 8000}),
    ],
)
def test_what_would_change_nothing_is_not_planned(step, changes):
    found = drawn(step)
    assert any(plan is None for plan in found)
    assert {tuple(plan.model_dump(exclude={"kind"}).items()) for plan in found if plan} == {tuple(changes.items())}


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "lowpass", "cutoff_hz": {"uniform": [1000, 3000]}},
        {"kind": "highpass", "cutoff_hz": {"log_uniform": [50, 500]}},
        {"kind": "bandpass", "low_hz": 300, "high_hz": {"choice": [3400, 7000]}},
        {"kind": "clip", "percent": {"log_uniform": [0.1, 20]}},
    ],
)
def test_what_is_drawn_lies_within_the_range_and_another_name_draws_another_value(step):
    found = drawn(step)
    assert len({str(plan) for plan in found}) > 1
    assert all(plan is not None for plan in found)


def test_a_pitch_of_no_cents_leaves_a_copy_that_is_clean_on_purpose(lab):
    """Zero is among the cents: those copies hold no step, are called clean, and refuse nothing; weights of choose are kept."""
    lab.without_rooms()
    lab.recipe["noises"] = {}
    lab.recipe["conditions"] = {
        "some": {
            "steps": [
                {
                    "choose": [
                        [{"kind": "pitch", "cents": {"uniform_int": [-1, 1]}}],
                        [{"kind": "clip", "percent": 2}],
                        [],
                    ],
                    "weights": [6, 3, 1],
                }
            ]
        }
    }
    lab.recipe["copies"] = {"train": {"some": 25}}
    built = lab.build()
    assert built.corpus is not None
    assert (lab.folder / "corpus/refused.jsonl").read_text() == ""
    copies = [copy for row in lab.rows("corpus") for copy in row.copies]
    kinds = Counter("+".join(step.kind for step in copy.steps) or "clean" for copy in copies)
    for kind, chance in {"pitch": 0.4, "clip": 0.3, "clean": 0.3}.items():
        assert abs(kinds[kind] / len(copies) - chance) < 4 * (chance * (1 - chance) / len(copies)) ** 0.5
