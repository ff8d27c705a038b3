"""Which checkpoint a run goes on from, and what is no checkpoint of its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from manifests.io.json_yaml import read_json, write_json
from tests.training.conftest import encoder_config
from training.data.sampler import ORDER
from training.distillation.optimiser import adamw
from training.models.encoder import EncoderConfig
from training.runs.checkpoint import read_tensors, whole_checkpoints
from training.runs.distributed import Ranks
from training.runs.resume import Checkpoints, OtherOrderError, OtherRunsCheckpointError, newest_checkpoint

CONFIG = EncoderConfig.parse(encoder_config(layers=1), where="test")
OWN = "1234567890ab" + "0" * 52


def checkpoints_of(run, *, run_sha256=OWN, features=3):
    """A student and a critic, each with an optimiser that has taken a step."""
    modules = {"student": torch.nn.Linear(features, 2), "critic": torch.nn.Linear(2, 2)}
    optimisers = {
        name: adamw(modules[kind].parameters(), learning_rate=0.1)
        for name, kind in (("optimiser", "student"), ("critic_optimiser", "critic"))
    }
    for module in modules.values():
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
    for optimiser in optimisers.values():
        optimiser.step()
    return Checkpoints(run, modules, optimisers, CONFIG, run_sha256, facts={"views": "cdm2"})


def written(run, *steps, **options):
    checkpoints = checkpoints_of(run, **options)
    for step in steps:
        for folder in ("checkpoints", "best"):
            checkpoints.write(
                folder, training_audio={"audio_s": 5.0 * step}, step=step, cursor=(1, 0, step), sums={"loss": 0.5}, counts={"utterances": 8.0}, best_loss=0.25
            )  # fmt: skip
    return checkpoints


def test_everything_comes_back_and_facts_have_the_audio(tmp_path):
    kept = written(tmp_path, 3, 5, 8)
    fresh = checkpoints_of(tmp_path)
    mark = fresh.restore(Ranks(), steps=9, report=str)
    assert (mark.step, mark.cursor, mark.order, mark.sums, mark.counts, mark.best_loss) == (
        8,
        (1, 0, 8),
        ORDER,
        {"loss": 0.5},
        {"utterances": 8.0},
        0.25,
    )
    assert (mark.facts, mark.run_sha256) == ({"views": "cdm2", "audio_s": 40.0}, OWN)
    for name, module in kept.modules.items():
        assert all(torch.equal(one, module.state_dict()[key]) for key, one in fresh.modules[name].state_dict().items())
    for name, optimiser in kept.optimisers.items():
        states = zip(optimiser.state.values(), fresh.optimisers[name].state.values(), strict=True)
        assert all(torch.equal(one["exp_avg"], other["exp_avg"]) for one, other in states)
    assert [found.step for _, found in whole_checkpoints(tmp_path / "checkpoints", torn=[])] == [8, 5]
    ((path, best),) = whole_checkpoints(tmp_path / "best", torn=[])
    assert (best.step, set(read_tensors(path))) == (8, {"student.weight", "student.bias"})


def test_a_checkpoint_of_another_order_ends_it_unless_the_run_is_done(tmp_path):
    written(tmp_path, 8)
    path = tmp_path / "checkpoints/step-000000008.json"
    write_json(path, {**read_json(path, needed="test"), "order": 1})
    with pytest.raises(OtherOrderError, match=rf"in another order \(version 1, this Stillroom has {ORDER}\)"):
        checkpoints_of(tmp_path).restore(Ranks(), steps=9, report=str)
    assert checkpoints_of(tmp_path).restore(Ranks(), steps=8, report=str).step == 8


def test_a_checkpoint_of_another_run_is_named_with_both_digests(tmp_path):
    written(tmp_path, 8)
    with pytest.raises(OtherRunsCheckpointError) as caught:
        checkpoints_of(tmp_path, run_sha256="f" * 64).restore(Ranks(), steps=9, report=str)
    line = "the checkpoint step-000000008 is of another run (it says 1234567890ab, provenance.json ffffffffffff): take it out"
    assert line in str(caught.value)
    assert checkpoints_of(tmp_path, run_sha256=None).restore(Ranks(), steps=9, report=str).step == 8
    with pytest.raises(OtherRunsCheckpointError, match="the checkpoint step-000000008 is of another run") as caught:
        checkpoints_of(tmp_path, features=4).restore(Ranks(), steps=9, report=str)
    assert "\n" not in str(caught.value)


def test_torn_checkpoints_are_named_with_where_the_run_goes_on(tmp_path):
    written(tmp_path, 3, 8)
    said = []
    for name, line in (
        ("step-000000008", f"{tmp_path}: torn checkpoint step-000000008 left aside; goes on from step 3"),
        (
            "step-000000003",
            f"{tmp_path}: torn checkpoint step-000000008, step-000000003 left aside; starts from the beginning",
        ),
    ):
        (tmp_path / f"checkpoints/{name}.safetensors").write_bytes(b"torn")
        newest_checkpoint(tmp_path, run_sha256=OWN, report=said.append)
        assert said[-1] == line
    assert checkpoints_of(tmp_path / "new").restore(Ranks(), steps=9, report=said.append) is None
    assert len(said) == 2


class FirstOfTwo:
    """Rank 0 as it sends, or rank 1 as it is given what rank 0 sent."""

    count = 2

    def __init__(self, given=None):
        self.is_first, self.given, self.sent = given is None, given, []

    def broadcast(self, plain):
        return self.passed(plain)

    def broadcast_tensors(self, tensors):
        return self.passed(tensors)

    def passed(self, own):
        if self.is_first:
            self.sent.append(own)
            return own
        assert own is None, "nothing of its own is read"
        return self.given.pop(0)


def test_ranks_but_the_first_go_on_from_what_it_sends_though_another_run_is_on_their_disk(tmp_path):
    kept = written(tmp_path / "first", 8)
    written(tmp_path / "other", 9, run_sha256="f" * 64)
    first = FirstOfTwo()
    mark = checkpoints_of(tmp_path / "first").restore(first, steps=9, report=str)
    fresh = checkpoints_of(tmp_path / "other")
    assert fresh.restore(FirstOfTwo(first.sent), steps=9, report=str) == mark
    assert torch.equal(fresh.modules["critic"].weight, kept.modules["critic"].weight)
    assert checkpoints_of(tmp_path / "other").restore(FirstOfTwo([None]), steps=9, report=str) is None


def test_a_checkpoint_or_run_of_a_stillroom_that_gave_no_name_is_gone_on_from(tmp_path):
    written(tmp_path, 8, run_sha256=None)
    assert checkpoints_of(tmp_path).restore(Ranks(), steps=9, report=str).step == 8
    path, mark = newest_checkpoint(tmp_path, run_sha256=OWN, report=str)
    assert (path.name, mark.run_sha256) == ("step-000000008.safetensors", None)


@pytest.mark.parametrize("place", ["critic", "optimiser"])
def test_weights_that_do_not_fit_or_moments_of_no_parameter_are_another_runs(tmp_path, place):
    kept, fresh = checkpoints_of(tmp_path), checkpoints_of(tmp_path)
    if place == "critic":
        fresh.modules["critic"] = torch.nn.Linear(5, 5)
    else:
        state = {"state": {"first": {"step": 1}}}
        kept.optimisers["optimiser"] = SimpleNamespace(state_dict=lambda: state)
    kept.write("checkpoints", training_audio={}, step=8, cursor=(0, 0, 8))
    with pytest.raises(OtherRunsCheckpointError) as caught:
        fresh.restore(Ranks(), steps=9, report=str)
    assert str(caught.value).startswith(f"{tmp_path}: the checkpoint step-000000008 is of another run (")
    assert "\n" not in str(caught.value)
    assert "\\" not in str(caught.value), "lines of a cause are joined, not escaped"
