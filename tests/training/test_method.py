"""The method, held against steps that are written out: losses, gradients, every weight's change, and the critic's.

The tolerances are under a tenth of what the smallest wrong wiring of `tests/mutants/training.yaml` changes.
"""

from __future__ import annotations

import json

import pytest
import torch

from tests.oracles.training_steps import training_steps
from tests.oracles.updates import recorded_updates
from tests.training.conftest import write_corpus, write_teacher
from training import loop
from training.config.load import resolved
from training.data.joined_corpus import open_corpus
from training.setup import make_student
from training.stream import pairs
from training.teacher import load_teacher
from training.validation.utterances import FixedUtterances

FAMILY_OF = {"noise": "noise", "phone": "codec", "room": "room"}
COPIES = ("noise-0", "noise-1", "phone-0", "room-0")
CROP_S = 0.7

PLAIN = {
    "views": {"kind": "cdm1", "clean_share": 0.3},
    "teacher": {"name": "pre-norm", "layers": [3, 1, 2], "standardise": True},
    "student": {"layers": 2, "predict": "layers", "predict_from": [2, 1, 2], "dropout": 0.2, "cnn_gradient": 0.4,
                "mask": {"start": 0.08, "span": 4}},
    "loss": {"l1": 0.7, "cosine": 1.9, "cosine_form": "raw", "layers": [1, 2, 5]},
    "optimiser": {"learning_rate": 2e-3, "warmup_share": 0.4, "clip": 0.2},
}  # fmt: skip
DISTILHUBERT = {"optimiser": {"learning_rate": 1e-3}, "teacher": {"layers": "all"}}
REVERSAL = {
    "views": {"kind": "cdm2", "student": {"clean_share": 0.3}},
    "teacher": {"name": "pre-norm", "layers": [2, 3]},
    "student": {"layers": 2, "dropout": 0.05},
    "adversary": {"layers": [1, 2], "strength": 0.6, "critic_steps": 3, "learning_rate": 4e-3},
    "optimiser": {"learning_rate": 1e-3, "warmup_share": 0.2, "clip": 3.0},
}  # fmt: skip
CONFUSION = {
    "views": {"kind": "cdm2", "teacher": {"clean_share": 0.3}, "student": {"clean_share": 0.2}},
    "teacher": {"layers": [3]},
    "student": {"layers": 1, "cnn_gradient": 1.0},
    "adversary": {"objective": "confusion", "domain": "family", "features": "frames", "strength": 2.0,
                  "standardise": True},
    "optimiser": {"learning_rate": 2e-3, "warmup_share": 0.0, "clip": 1.0},
}  # fmt: skip
VIEW_GAME = {
    "views": {"kind": "cdm2", "clean_share": 0.2},
    "teacher": {"layers": [3]},
    "student": {"layers": 2, "init": "random"},
    "adversary": {"objective": "game", "domain": "view", "layers": [2, 1], "strength": 1.5, "schedule": "constant",
                  "critic_steps": 3},
    "optimiser": {"learning_rate": 1e-3, "clip": 0.9},
}  # fmt: skip
VIEW_REVERSAL = {
    "views": {"kind": "cdm2"},
    "teacher": {"layers": [1, 3]},
    "student": {"layers": 2},
    "adversary": {"domain": "view", "features": "frames", "layers": [2], "strength": 0.9, "critic_steps": 1},
    "optimiser": {"learning_rate": 1e-3, "clip": 0.9},
}  # fmt: skip
DISTORTED = {
    "views": {"kind": "same", "clean_share": 0.4},
    "teacher": {"layers": [2]},
    "student": {"layers": 2, "cnn_gradient": 0.0},
    "adversary": {"domain": "distorted", "features": "pooled", "strength": 0.5},
    "optimiser": {"learning_rate": 1e-3},
    "precision": "float32",
}  # fmt: skip
METHODS = {
    "plain": (PLAIN, (), ()),
    "distilhubert": (DISTILHUBERT, (), ()),
    "reversal": (REVERSAL, ("clean", "noise", "phone", "room"), (1, 2)),
    "confusion": (CONFUSION, ("clean", "codec", "noise", "room"), (1,)),
    "view-game": (VIEW_GAME, ("teacher", "student"), (2, 1)),
    "view-reversal": (VIEW_REVERSAL, ("teacher", "student"), (2,)),
    "distorted": (DISTORTED, ("clean", "distorted"), (2,)),
}


@pytest.fixture(scope="module", name="made")
def corpus_and_teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("method")
    write_corpus(folder / "corpus", shards=3, samples=6, copies=COPIES, lengths_s=(0.4, 1.0), splits=("train",))
    write_teacher(folder / "teacher")
    write_teacher(folder / "pre-norm", first=True)  # its layers are large and not standardised already
    return folder


def config_of(made, keys):
    given = keys.get("teacher", {})
    teacher = {**given, "name": str(made / given.get("name", "teacher"))}
    return resolved(
        {
            "corpus": str(made / "corpus"), "crop_s": CROP_S, "batch": {"utterances": 8, "lanes": 2}, "steps": 5, "log_every": 1,
            "validate_utterances": 6, "workers": 0, "seed": 11, **keys, "teacher": teacher,
        },
        where="test",
    )  # fmt: skip


def expected_steps(made, config, classes, layers):
    teacher = load_teacher(config.teacher.name)
    chosen = (1, 2, 3) if isinstance(config.teacher.layers, str) else config.teacher.layers
    student = make_student(config.student, teacher, target_layers=chosen, seed=config.seed)
    batches = pairs(
        made / "corpus", views=config.views, seed=config.seed, utterances=8, lanes=2, crop_s=CROP_S, epochs=None
    )
    with open_corpus(made / "corpus") as reader:
        fixed = FixedUtterances(reader, split="train", utterances=6, crop_samples=round(16000 * CROP_S))
        panel = [fixed.waves(crops, copy) for crops in fixed.batches for copy in fixed.copies]
    first = [one.detach().clone() for one in student.parameters() if one.requires_grad]
    found = training_steps(
        config, student=student, teacher=teacher, batches=batches, targets=chosen, classes=classes, layers=layers,
        family_of=FAMILY_OF, panel=panel,
    )  # fmt: skip
    return first, [step for step, _ in zip(found, range(config.steps), strict=False)]


LOSSES, FIRST_GRADIENTS, LATER, CHANGES = 1e-6, 1e-5, 1e-4, 1e-3
SUMS = {"loss", "l1", "cosine", "domain_loss"}
# Softmax does not see what is added to all keys alike, so its gradient is rounding alone.
WITHOUT_GRADIENT = "attention.k_proj.bias"


def distance(found, expected):
    """Norm of the difference over the norm of what is expected."""
    return float((found - expected).double().norm() / expected.double().norm())


@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_the_steps_written_out(tmp_path, made, name):
    keys, classes, layers = METHODS[name]
    config = config_of(made, keys)
    first, steps = expected_steps(made, config, classes, layers)
    with recorded_updates() as updates:
        assert loop.distil(config, tmp_path / "run", report=str) == "done"
    lines = [json.loads(line) for line in (tmp_path / "run/journal.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    assert len(lines) == len(steps) == len(updates.weights) == config.steps
    for number, (line, step) in enumerate(zip(lines, steps, strict=True)):
        for key, expected in step.journal.items():
            tolerance = LOSSES if key in SUMS else LATER if number else FIRST_GRADIENTS
            if key == "domain_loss" and config.adversary.standardise:
                tolerance = FIRST_GRADIENTS  # features that hardly vary are scaled up with their rounding
            assert line[key] == pytest.approx(expected, rel=tolerance, abs=LOSSES), (number, key)
        assert ("domain_loss" in line) == ("reversal" in line) == bool(classes)
    for found, (key, expected) in zip(updates.gradients[0], steps[0].gradients.items(), strict=True):
        assert (found is None) == (expected is None), key
        if expected is not None and not key.endswith(WITHOUT_GRADIENT):
            assert distance(found, expected) < FIRST_GRADIENTS, key
    for found, began, (key, expected) in zip(updates.weights[-1], first, steps[-1].weights.items(), strict=True):
        if steps[0].gradients[key] is None:
            assert torch.equal(found, began), key
        elif not key.endswith(WITHOUT_GRADIENT):
            assert distance(found - began, expected - began) < CHANGES, key
    if classes:
        after = dict(updates.critic)  # the last update at each step
        assert sorted(after) == list(range(1, config.steps + 1))
        assert len(updates.critic) == len(after) * config.adversary.critic_steps
        for found, expected in zip(after[max(after)], steps[-1].critic, strict=True):
            assert distance(found, expected) < LATER
