"""Teachers, students and losses of every shape, by config, through the whole loop."""

from __future__ import annotations

import json

import pytest
import torch

from evaluation.config_paths import model_with_path
from evaluation.models import load_model
from manifests.errors import BadDocumentError, UsageError
from tests.oracles import fairseq_models
from tests.oracles.updates import before_update
from tests.training.conftest import RATE_HZ, write_teacher
from tests.training.test_loop import config_of, die, journal, last_tensors
from training import loop
from training.config.load import load_config
from training.runs.checkpoint import load_run
from training.teacher import load_teacher

THIN = {"layers": 3, "width": 16, "feed_forward": 16, "predict": "layers", "init": "random", "cnn_gradient": 0}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
KEYS = {
    "deep and thin": {"student": THIN, "teacher.layers": "all", "loss": {"layers": [1, 1, 2], "cosine_form": "raw"}},
    "masked": {"student": {"layers": 2, "mask": {"start": 0.1, "span": 3}}},
    "standardised, in bfloat16": {"teacher.standardise": True, "precision": "bf16"},
    "the teacher's first layers": {"student": {"layers": 2, "projection_norm": True}},
}


def asked(corpus, teacher, case, **keys):
    given = {**KEYS[case], **keys}
    chosen = {"name": str(teacher), **{key[8:]: given.pop(key) for key in list(given) if key.startswith("teacher.")}}
    return config_of(corpus, teacher, preset="cdm2", teacher=chosen, steps=given.pop("steps", 3), **given)


@pytest.mark.parametrize("case", KEYS)
def test_every_shape_trains_and_goes_on_as_if_it_had_never_stopped(case, corpus, teacher_folder, tmp_path):
    assert loop.distil(asked(corpus, teacher_folder, case), tmp_path / "straight") == "done"
    losses = [line["loss"] for line in journal(tmp_path / "straight") if "loss" in line]
    assert all(0 < loss < 10 for loss in losses)
    with before_update(3, die), pytest.raises(InterruptedError):
        loop.distil(asked(corpus, teacher_folder, case), tmp_path / "stopped")
    assert loop.distil(asked(corpus, teacher_folder, case), tmp_path / "stopped") == "done"
    one, two = last_tensors(tmp_path / "straight"), last_tensors(tmp_path / "stopped")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    student = load_run(tmp_path / "straight")
    assert student.num_layers == (3 if case == "deep and thin" else 2)
    assert load_teacher(tmp_path / "straight").digest == student.digest  # a run can teach


def test_a_mask_moves_no_other_draw(corpus, teacher_folder, tmp_path):
    """With spans that never come the run is the unmasked one, but for the vector nobody hears."""
    rare = {"student": {"layers": 2, "mask": {"start": 1e-9, "span": 1}}}
    for name, keys in (("plain", {"student": {"layers": 2}}), ("masked", rare)):
        loop.distil(config_of(corpus, teacher_folder, preset="cdm2", steps=2, **keys), tmp_path / name)
    plain, masked = last_tensors(tmp_path / "plain"), last_tensors(tmp_path / "masked")
    assert {name for name in masked if not name.startswith("optimiser")} - plain.keys() == {"student.mask_vector"}
    assert all(torch.equal(plain[name], masked[name]) for name in plain if name.startswith("student."))


def test_frozen_convolutions_stay_as_they_began(corpus, teacher_folder, tmp_path):
    keys = {"student": {"layers": 2, "cnn_gradient": 0}}
    loop.distil(config_of(corpus, teacher_folder, preset="cdm2", steps=2, **keys), tmp_path / "run")
    theirs, found = load_teacher(teacher_folder).trunk.state_dict(), load_run(tmp_path / "run").trunk.state_dict()
    for name, tensor in found.items():
        if name.startswith("feature_extractor."):
            assert torch.equal(tensor, theirs[name])
    assert not torch.equal(
        found["encoder.feature_projection.projection.weight"], theirs["encoder.feature_projection.projection.weight"]
    )


def test_what_a_students_first_weights_had_heard_it_has_heard(corpus, teacher_folder, tmp_path):
    source = write_teacher(tmp_path / "source", seed=3)
    (source / "heard.txt").write_text("feedfeedfeedfeed\n")
    keys = {"student": {"layers": 2, "init": str(source)}}
    loop.distil(config_of(corpus, teacher_folder, preset="cdm2", steps=1, **keys), tmp_path / "run")
    heard = load_run(tmp_path / "run").trained_on
    assert "feedfeedfeedfeed" in heard
    assert load_teacher(teacher_folder).trained_on < heard


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"teacher.layers": [1, 4]}, "teacher.layers: small has layers 1 to 3, not 4"),
        ({"loss": {"layers": [1, 2]}}, "2 weights for the 3 layers"),
        ({"student": {"layers": 3, "predict": "layers", "predict_from": [1]}}, "1 layers for the 3 layers"),
        ({"student": {"layers": 9}}, "student.layers: 9, but the teacher small has 3"),
    ],
)
def test_what_does_not_fit_the_teacher_is_one_line_and_leaves_nothing(keys, message, corpus, teacher_folder, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        loop.distil(asked(corpus, teacher_folder, "masked", **{"student": {"layers": 2}, **keys}), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"student": {"predict_from": [1]}}, "needs predict: layers"),
        ({"student": {"layers": 2, "predict": "layers", "predict_from": [3]}}, "layer 3 of a student with 2"),
        ({"student": {"mask": {"start": 0}}}, r"student.mask.start"),
        ({"teacher": {"name": "nano", "layers": [1, 1]}}, "twice"),
        ({"precision": "float16"}, "precision"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_path(keys, message, corpus):
    with pytest.raises(BadDocumentError, match=message) as caught:
        config_of(corpus, "nano", **keys)
    assert "\n" not in str(caught.value)


def test_models_are_found_beside_the_config(tmp_path, corpus):
    _, checkpoint = fairseq_models.distiller()
    torch.save(checkpoint, tmp_path / "distilhubert.ckpt")
    write_teacher(tmp_path / "teacher")
    config = {"corpus": str(corpus), "teacher": {"name": "teacher"}, "student": {"init": "distilhubert.ckpt"}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    found = load_config(tmp_path / "config.yaml")
    assert found.teacher.name == str(tmp_path / "teacher")
    assert found.student.init == str(tmp_path / "distilhubert.ckpt")
    (tmp_path / "config.yaml").write_text(json.dumps({"corpus": str(corpus), "teacher": {"name": "hubert_base"}}))
    found = load_config(tmp_path / "config.yaml", overrides=("precision=bf16",))
    assert (found.teacher.name, found.student.init, found.precision) == ("hubert_base", "teacher", "bfloat16")


def test_an_evaluation_reads_a_distilhubert_of_s3prl(tmp_path):
    _, checkpoint = fairseq_models.distiller()
    torch.save(checkpoint, tmp_path / "distilhubert.ckpt")
    source = model_with_path("distilhubert.ckpt", tmp_path)
    assert isinstance(source, str)
    assert load_model(source, RATE_HZ).num_layers == 2
