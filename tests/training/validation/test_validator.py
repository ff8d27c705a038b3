"""What a validator measures of whom, and what it says before the first step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.config.load import resolved
from training.config.schema import Adversary
from training.data.sampler import Batching, CropGrid
from training.data.tar_reader import DamagedShardError
from training.distillation.adversary import DomainAdversary
from training.validation import validator
from training.validation.domain_probe import Accuracy, LabelledFeatures
from training.validation.validator import Validator

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_dev", [True, False])
@pytest.mark.parametrize("has_adversary", [True, False])
def test_its_sets_of_utterances_and_its_probe_are_those_that_the_run_is_configured_to(
    monkeypatch, has_dev, has_adversary
):
    """Eleven utterances are there to train on; seven are wanted."""
    made, said = [], []
    monkeypatch.setattr(validator, "FixedUtterances", lambda reader, **given: made.append((reader, given)) or len(made))
    monkeypatch.setattr(validator, "DomainProbe", lambda adversary, **given: (adversary, given))
    monkeypatch.setattr(validator, "critic_layers", lambda *given, **named: (*given, *named.values()))
    shards = {"fit": [SimpleNamespace(samples=5), SimpleNamespace(samples=6)]}
    reader = SimpleNamespace(
        url="a\ncorpus", has_split=lambda split: has_dev and split == "kept", shards=shards.__getitem__
    )
    keys = {
        "split": "fit",
        "dev": "kept",
        "validate_utterances": 7,
        "damaged_shards": int(has_dev),
        "seed": 3,
        "views": {"kind": "cdm2"},
    }
    adversary = {"adversary": {"strength": 0.5, "learning_rate": 0.1}} if has_adversary else {}
    config = resolved({"corpus": "x", "teacher": {"name": "nano"}, **keys, **adversary}, where="test")
    batching = Batching(lanes=2, crop_samples=900, lane_utterances=4, grid=CropGrid(320))
    given = {"batching": batching, "targets": "targets", "device": CPU, "report": said.append}
    found = Validator(config, reader, "student", "teacher", (2, 5), **given)
    shared = {
        "crop_samples": 900,
        "grid": batching.grid,
        "targets": "targets",
        "only_readable": has_dev,
        "split": "fit",
    }
    if has_dev:
        sets = [{**shared, "split": "kept", "utterances": 7}, {**shared, "utterances": 7}]
        assert (found.utterances, said) == (1, [])
    else:
        sets = [{**shared, "utterances": 5, "skip": 5}, {**shared, "utterances": 5}]
        assert said == ["a\\ncorpus has no split 'kept': trained without validation, and no best checkpoint is written"]
    assert made == [(reader, one) for one in sets]
    settings = Adversary(strength=0.5, learning_rate=0.1) if has_adversary else Adversary()
    probe = {"layers": (settings, "student", "teacher"), "views": config.views, "fit": 2, "held_out": 1, "seed": 3}
    assert found.probe == (settings, probe)
    assert (found.has_losses, found.config, found.student, found.teacher) == (has_dev, config, "student", "teacher")
    assert (found.layers, found.device) == ((2, 5), CPU)


def validator_of(*, accuracy, classes=("a", "b"), damaged_shards=0):
    """One whose probe has an answer; and a record of what was requested and said."""
    found, requests, said = Validator.__new__(Validator), [], []

    def features(utterances, student, teacher, *, device):
        requests.append(("features", utterances, student, teacher, device))
        return LabelledFeatures(torch.tensor([[1.0], [5.0]]), torch.tensor([0, 1]))

    def answer(student, teacher, *, device):
        requests.append(("accuracy", student, teacher, device))
        return accuracy

    found.probe = SimpleNamespace(
        classes=classes,
        fit="fit",
        held_out="held out",
        features=features,
        accuracy=answer,
        announcement=lambda: "announced",
    )
    found.student, found.teacher, found.device, found.report = "student", "teacher", CPU, said.append
    found.layers, found.utterances = (2, 5), "utterances"
    loss, teacher = object(), SimpleNamespace(standardise="standardise")
    found.config = SimpleNamespace(loss=loss, teacher=teacher, damaged_shards=damaged_shards)
    return found, requests, said


def adversary_of(*, standardise=False, scaled=None, **settings):
    found = DomainAdversary.__new__(DomainAdversary)
    found.adversary = Adversary(standardise=standardise, **settings)
    found.layers = (3,)
    found.critic = SimpleNamespace(fit_scaling=scaled.append if scaled is not None else None)
    return found


REQUEST = ("accuracy", "student", "teacher", CPU)


def test_a_domain_that_is_visible_is_a_fact_and_no_warning():
    found, requests, said = validator_of(accuracy=Accuracy(0.75, 0.25))
    assert list(found.before_training(adversary_of())) == [{"domain_visible": 0.75, "domain_visible_majority": 0.25}]
    assert (requests, said) == ([REQUEST], ["announced"])


def test_a_domain_that_is_hardly_visible_is_a_fact_with_a_warning_which_is_said():
    found, _, said = validator_of(accuracy=Accuracy(0.3, 0.25))
    (facts,) = found.before_training(adversary_of())
    warning = facts.pop("warning")
    assert facts == {"domain_visible": 0.3, "domain_visible_majority": 0.25}
    assert "from layer 3 of the student correctly in 30%" in warning
    assert said == ["announced", warning]


def test_the_critics_scaling_is_fitted_to_the_rows_that_the_probe_learns_from():
    scaled = []
    found, requests, _ = validator_of(accuracy=Accuracy(0.75, 0.25))
    list(found.before_training(adversary_of(standardise=True, scaled=scaled)))
    assert requests == [("features", "fit", "student", "teacher", CPU), REQUEST]
    assert [one.tolist() for one in scaled] == [[[1.0], [5.0]]]


def test_nothing_is_measured_before_training_without_an_adversary_or_two_domains():
    for classes, adversary, accuracy in (
        (("a", "b"), object(), Accuracy(0.75, 0.25)),
        ((), adversary_of(standardise=True), Accuracy(0.75, 0.25)),
    ):
        found, requests, said = validator_of(accuracy=accuracy, classes=classes)
        assert (list(found.before_training(adversary)), requests, said) == ([], [], [])
    found, requests, said = validator_of(accuracy=None)
    assert (list(found.before_training(adversary_of())), requests, said) == ([], [REQUEST], ["announced"])


@pytest.mark.parametrize("accuracy", [Accuracy(0.75, 0.25), None])
def test_losses_and_the_probes_accuracy_are_measured_of_the_same_student(monkeypatch, accuracy):
    calls = []
    monkeypatch.setattr(
        validator, "validation_losses", lambda *given, **options: calls.append((given, options)) or {"val_loss": 1.5}
    )
    found, requests, said = validator_of(accuracy=accuracy)
    domain = {"domain_fresh": 0.75, "domain_fresh_majority": 0.25} if accuracy else {}
    assert found.measure(4) == {"val_loss": 1.5, **domain}
    options = {"layers": (2, 5), "weights": found.config.loss, "standardise": "standardise", "device": CPU}
    assert calls == [(("utterances", "student", "teacher"), options)]
    assert (requests, said) == ([REQUEST], [])


@pytest.mark.parametrize("damaged_shards", [0, 2])
def test_damage_is_an_error_or_a_warning_and_other_errors_are_errors(monkeypatch, damaged_shards):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(validator, "validation_losses", fail)
    found, _, said = validator_of(accuracy=None, damaged_shards=damaged_shards)
    problem = DamagedShardError("dev.tar", "is cut off")
    if damaged_shards:
        assert found.measure(7) == {"warning": str(problem)}
        assert said == [f"step 7 is not validated: {problem}"]
    else:
        with pytest.raises(DamagedShardError):
            found.measure(7)
    problem = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        found.measure(7)
