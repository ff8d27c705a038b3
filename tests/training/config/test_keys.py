"""Every key of a training config moves the student, or is one of those that must not: taken from the schema, so none is forgotten."""

from __future__ import annotations

import json
import typing

import pytest
import torch
from pydantic import BaseModel

from tests.training.conftest import write_corpus, write_teacher
from training import loop
from training.config.load import resolved
from training.config.schema import TrainConfig
from training.precompute import TargetSettings, compute_targets
from training.runs.checkpoint import read_tensors

DAT = {"views.kind": "cdm1", "views.clean_share": 0.3, "adversary": {"strength": 2.0}}
CDM2 = {"views.kind": "cdm2"}
MASK = {"student.mask": {}}
LAYERS = {"student.predict": "layers", "teacher.layers": [1, 3]}
# So that the third step is in another epoch.
EPOCHS = {"batch.lanes": 1, "batch.utterances": 24, "steps": 4}
SMALL = {"batch.lanes": 1, "batch.utterances": 2}

# Key: (its value, another value, what else the config has); the student must differ.
MOVE = {
    "corpus": ("{corpus}", ["{corpus}", "{edition}"], CDM2),
    "split": ("train", "other", {}),
    "teacher.name": ("{teacher}", "{other teacher}", {}),
    "teacher.layers": ([3], [2], {}),
    "teacher.standardise": (False, True, {"teacher.name": "{pre-norm teacher}"}),
    "student.layers": (2, 1, {}),
    "student.width": (None, 16, {}),
    "student.attention_heads": (None, 4, {}),
    "student.feed_forward": (None, 32, {}),
    "student.projection_norm": (False, True, {}),
    "student.predict": ("last", "layers", {}),
    "student.predict_from": ([1, 2], [2, 1], LAYERS),
    "student.init": ("teacher", "random", {}),
    "student.dropout": (0.1, 0.3, {}),
    "student.cnn_gradient": (0.1, 0.7, {"optimiser.clip": 0.05}),
    "student.mask": (None, {}, {}),
    "student.mask.start": (0.065, 0.2, MASK),
    "student.mask.span": (10, 3, MASK),
    "batch.seconds": (2.4, 1.6, {}),
    "batch.utterances": (4, 6, {}),
    "batch.lanes": (2, 1, {}),
    "batch.window_shards": (1, 2, SMALL),
    "crop_s": (0.6, 0.4, {}),
    "views.kind": ("cdm1", "same", {}),
    "views.clean_share": (0.0, 0.6, {"views.kind": "cdm1"}),
    "views.unpaired": (None, ["room"], {"views.kind": "cdm1"}),
    "views.families": ("any", "different", CDM2),
    "views.teacher.conditions": (None, ["room"], CDM2),
    "views.teacher.clean_share": (0.0, 0.6, CDM2),
    "views.teacher.content": ("kept", "any", CDM2),
    "views.student.conditions": (None, ["phone"], {"views.kind": "cdm1"}),
    "views.student.clean_share": (0.0, 0.6, {"views.kind": "cdm1"}),
    "views.student.revisit": ("any", "last", {"views.kind": "cdm1"}),
    "adversary": (None, {"strength": 2.0}, {"views.kind": "cdm1"}),
    "adversary.objective": ("reversal", "confusion", DAT),
    "adversary.domain": ("condition", "distorted", DAT),
    "adversary.features": ("pooled", "frames", DAT),
    "adversary.layers": ("last", [1], DAT),
    "adversary.strength": (2.0, 1.0, DAT),
    "adversary.schedule": ("ganin", "constant", DAT),
    "adversary.learning_rate": (1e-3, 3e-2, DAT),
    "adversary.standardise": (False, True, DAT),
    "adversary.critic_steps": (1, 4, DAT),
    "loss.l1": (1.0, 0.2, {}),
    "loss.cosine": (1.0, 0.2, {}),
    "loss.cosine_form": ("log_sigmoid", "raw", {}),
    "loss.layers": (None, [3, 1], {"teacher.layers": [1, 3]}),
    "optimiser.learning_rate": (1e-3, 2e-3, {}),
    "optimiser.warmup_share": (0.0, 0.7, {}),
    "optimiser.clip": (5.0, 0.05, {}),
    "steps": (3, 2, {}),
    "seed": (0, 1, {}),
    "precision": ("float32", "bfloat16", {}),
    "crops": (None, {"seed": 5}, {}),
    "crops.sets": (1, 2, {**EPOCHS, "crops.seed": 3}),
    "crops.seed": (0, 1, {"crops.sets": 1}),
    "targets": (None, "{targets}", {"crops.sets": 1}),
}

# Key: the same; not a bit of the student may differ.
STILL = {
    "dev": ("none", "dev", {}),
    "validate_every": (1, 2, {"dev": "dev"}),
    "validate_utterances": (3, 5, {"dev": "dev"}),
    "log_every": (1, 2, {}),
    "checkpoint_every": (1, 2, {}),
    "workers": (0, 1, {}),
    "tensorboard": (False, True, {}),
    "stage": (None, {"dir": "{stage}"}, {}),
    "stage.dir": ("{stage}", "{other stage}", {}),
    "stage.gigabytes": (None, 1e-5, {"stage.dir": "{stage}"}),
    "damaged_shards": (0, 2, {}),
    "compile": (
        None,
        False,
        {},
    ),  # compiled, a student differs in its last digits: tests/training/runs/test_compiled.py
}
# `schema` has one value; `preset` says where a resolved config came from, and is tested below.
RECORDS = {"schema", "preset"}


def keys_of(model, prefix=""):
    """Every key with dots; a mapping that may be left out is a key too."""
    found = set()
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        parts = list(typing.get_args(field.annotation)) or [field.annotation]
        models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        for part in models:
            found |= keys_of(part, f"{key}.")
        if not models or type(None) in parts:
            found.add(key)
    return found


@pytest.fixture(scope="module", name="places")
def corpora_teachers_targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    copies = ("noise-0", "noise-1", "phone-0", "pitch-0", "room-0")
    sizes = {"samples": 6, "lengths_s": (0.4, 1.0), "splits": ("train", "dev", "other")}
    write_corpus(folder / "corpus", copies=copies, **sizes)
    write_corpus(folder / "edition", copies=("music-0", "music-1"), **sizes)
    write_teacher(folder / "teacher")
    write_teacher(folder / "other teacher", seed=1)
    write_teacher(
        folder / "pre-norm teacher", first=True
    )  # the others' layers end in a norm, so are standardised already
    settings = TargetSettings(str(folder / "teacher"), layers=(1, 3), conditions=("noise",), crop_s=0.6, crop_sets=1)
    compute_targets(folder / "corpus", folder / "targets", settings, report=str)
    return folder


def placed(value, folder):
    """A value with `{name}` as that folder."""
    text = json.dumps(value)
    for name in (
        "other teacher",
        "pre-norm teacher",
        "other stage",
        "corpus",
        "edition",
        "teacher",
        "targets",
        "stage",
    ):
        text = text.replace(f"{{{name}}}", str(folder / name))
    return json.loads(text)


def nested(flat):
    """Dotted keys as mappings; None for a mapping leaves it out."""
    result = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        if isinstance(value, dict):
            place.setdefault(last, {}).update(value)
        else:
            place[last] = value
    return result


def config_of(folder, key, value, more):
    base = {
        "corpus": "{corpus}",
        "dev": "none",
        "teacher.name": "{teacher}",
        "teacher.layers": [1, 3],
        "student.layers": 2,
        "batch.lanes": 2,
        "crop_s": 0.6,
        "views.kind": "none",
        "steps": 3,
        "validate_utterances": 4,
        "optimiser.learning_rate": 1e-3,
        "workers": 0,
    }
    if not any(name.startswith("batch.") and name != "batch.lanes" for name in (key, *more)):
        base["batch.utterances"] = 4
    return resolved(nested(placed({**base, **more, key: value}, folder)), where="test")


@pytest.fixture(scope="module", name="student_of")
def trained_students(places, tmp_path_factory):
    """A function from a config to the tensors of its student, which trains each once."""
    known = {}
    runs = tmp_path_factory.mktemp("runs")

    def student(config):
        text = config.model_dump_json()
        if text not in known:
            run = runs / str(len(known))
            torch.set_num_threads(1)
            assert loop.distil(config, run, report=str) == "done"
            tensors = read_tensors(max((run / "checkpoints").glob("*.safetensors")))
            known[text] = {name: one for name, one in tensors.items() if name.startswith("student.")}
        return known[text]

    return student


def test_every_key_of_the_schema_is_tried():
    assert keys_of(TrainConfig) == MOVE.keys() | STILL.keys() | RECORDS
    assert not MOVE.keys() & STILL.keys()


@pytest.mark.parametrize("key", MOVE)
def test_a_key_of_the_method_moves_the_student(places, student_of, key):
    one, other, more = MOVE[key]
    first, second = (student_of(config_of(places, key, value, more)) for value in (one, other))
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in (first, second)]
    if shapes[0] == shapes[1]:
        apart = sum(float((first[name] - second[name]).double().square().sum()) for name in first) ** 0.5
        assert apart > (0 if key == "targets" else 1e-3), "targets differ by the rounding of float16 alone"


@pytest.mark.parametrize("key", STILL)
def test_any_other_key_changes_not_a_bit_of_it(places, student_of, key):
    if key == "tensorboard":
        pytest.importorskip("tensorboard")
    one, other, more = STILL[key]
    configs = [config_of(places, key, value, more) for value in (one, other)]
    assert configs[0] != configs[1]
    first, second = map(student_of, configs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_presets_name_is_a_record_alone(places, student_of):
    config = config_of(places, "seed", 0, {})
    first, second = student_of(config), student_of(config.model_copy(update={"preset": "cdm2-dat"}))
    assert all(torch.equal(first[name], second[name]) for name in first)
