"""The outline of a record says of its copies what the whole record says."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from manifests.corpus.sample import step_keeps_content
from manifests.corpus.sample_view import Kind, SampleOutline
from manifests.plan.channel_steps import AnyPlannedChannelStep
from manifests.plan.steps import PlannedStep

STEPS = TypeAdapter(PlannedStep)
SPAN = {"root": "train", "path": "a.wav", "rate_hz": 16000}
TALKERS = [{"id": name, "file": SPAN, "offset": 0} for name in "abc"]
RECORDED = {"form": "recorded", "source": "hiss", "root": "hiss", "recording": "a.wav", "offset": 0}
COLOURED = {"form": "coloured", "source": "white", "colour": "white", "seed": 1}
LOSS = {"percent": 10.0, "conceal": "zeros", "seed": 1, "lost_packets": 2}
REST = [
    {"kind": "room", "bank": "office", "room": 0, "position": 0, "response": "office-0-0"},
    {"kind": "freeverb", "reverberance": 50, "hf_damping": 50, "room_scale": 50, "pre_delay_ms": 0, "wet_gain_db": 0},
    {"kind": "codec", "codec": "g711-mulaw"},
    {"kind": "codec", "codec": "g711-mulaw", "loss": LOSS},
    {"kind": "lowpass", "cutoff_hz": 3000.0},
    {"kind": "pitch", "cents": 300.0},
]


def babble(count):
    return {"form": "babble", "source": "babble", "talkers": TALKERS[:count]}


parts = st.sampled_from([RECORDED, COLOURED, babble(1), babble(2), babble(3)])
noises = st.one_of(parts, st.lists(parts, min_size=2, max_size=3).map(lambda some: {"form": "several", "noises": some}))
steps = st.one_of(noises.map(lambda noise: {"kind": "noise", "snr_db": 5.0, **noise}), st.sampled_from(REST))


def record_of(*copies):
    return {
        "schema": "stillroom/sample/1",
        "id": "a",
        "custom": {"text": [1]},
        "copies": [
            {"name": f"c-{number}", "condition": "c", "domain": "d", "family": "f", "gain_db": 0.0, "steps": list(some)}
            for number, some in enumerate(copies)
        ],
    }


@given(st.lists(st.lists(steps, max_size=3), max_size=3))
def test_it_answers_as_the_whole_record_does(copies):
    outline = SampleOutline.model_validate_json(json.dumps(record_of(*copies)))
    due = [all(step_keeps_content(STEPS.validate_json(json.dumps(step))) for step in some) for some in copies]
    assert [copy.keeps_content for copy in outline.copies] == due
    assert [(copy.name, copy.family) for copy in outline.copies] == [(f"c-{n}", "f") for n in range(len(copies))]


def test_it_knows_every_kind_of_step_and_no_other():
    channel = {
        kind for model in get_args(AnyPlannedChannelStep) for kind in get_args(model.model_fields["kind"].annotation)
    }
    assert channel < set(get_args(Kind))
    assert set(get_args(Kind)) - channel == {"noise", "room", "freeverb", "codec"}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "stillroom/sample/2"},
        {"copies": [{"name": 1}]},
        {"copies": [{"name": "c-0", "family": "f", "steps": [{"kind": "erase"}]}]},
    ],
)
def test_what_it_cannot_know_is_left_to_the_whole_record(change):
    with pytest.raises(ValidationError):
        SampleOutline.model_validate_json(json.dumps(record_of() | change))
