"""Checkpoints: whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from manifests.errors import BadDocumentError, MissingFileError, NewerSchemaError, NoSpaceLeftError
from manifests.io.json_yaml import read_json, write_json
from tests.training.conftest import encoder_config
from training.data.sampler import ORDER, Cursor
from training.distillation.optimiser import adamw
from training.models.encoder import EncoderConfig
from training.runs.checkpoint import (
    Mark,
    NoCheckpointError,
    is_run,
    load_run,
    load_student,
    module_tensors,
    optimiser_tensors,
    read_tensors,
    restore_module,
    restore_optimiser,
    whole_checkpoints,
    write_checkpoint,
)

CONFIG = EncoderConfig.parse(encoder_config(layers=1), where="test")


def write(folder, step, *, seed=0, most=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = CONFIG.build()
    student = torch.nn.ModuleDict({"trunk": trunk})
    write_checkpoint(
        folder,
        module_tensors(student=student),
        most=most,
        step=step,
        cursor=tuple(Cursor(1, 2, 3)),
        encoder=CONFIG,
        sums={"loss": 0.1 + 0.2},
        counts={},
        best_loss=None,
        facts={"views": "cdm2"},
    )
    return trunk


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 2, 10, 100):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:09d}.{suffix}" for step in (10, 100) for suffix in ("json", "safetensors")
    ]
    marks = [mark for _, mark in whole_checkpoints(tmp_path, torn=[])]
    assert [mark.step for mark in marks] == [100, 10]
    assert marks[0].cursor == (1, 2, 3)
    assert marks[0].sums == {"loss": 0.30000000000000004}


def test_what_a_killed_process_left_of_a_checkpoint_is_removed_before_the_next_one(tmp_path):
    write(tmp_path, 1)
    (tmp_path / ".step-000000002.safetensors.node-123.part").write_bytes(bytes(1000))
    write(tmp_path, 2)
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"step-000000001", "step-000000002"}


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "mark"])
def test_a_torn_checkpoint_is_named_and_the_one_before_serves(tmp_path, damage):
    write(tmp_path, 1)
    write(tmp_path, 2)
    path = tmp_path / "step-000000002.safetensors"
    content = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(content[:-10])
        case "flipped":
            content[-5] ^= 1
            path.write_bytes(content)
        case "gone":
            path.unlink()
        case "mark":
            path.with_suffix(".json").write_text('{"schema": "stillroom/checkpoint/1", "st')
    torn = []
    assert next(whole_checkpoints(tmp_path, torn=torn))[1].step == 1
    assert torn == ["step-000000002"]


def test_an_optimiser_comes_back_bit_for_bit(tmp_path):
    def trained(steps, resume_at=None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 1))
        optimiser = adamw(model.parameters(), learning_rate=0.05)
        generator = torch.Generator().manual_seed(1)
        for step in range(steps):
            if step == resume_at:
                saved = module_tensors(model=model) | optimiser_tensors(optimiser=optimiser)
                model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 1))
                optimiser = adamw(model.parameters(), learning_rate=0.05)
                restore_module(model, saved, prefix="model")
                restore_optimiser(optimiser, saved, prefix="optimiser")
            optimiser.zero_grad()
            model(torch.randn(4, 5, generator=generator)).square().sum().backward()
            optimiser.step()
        return model.state_dict()

    straight, resumed = trained(6), trained(6, resume_at=3)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_full_disk_keeps_the_checkpoints_before(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpaceLeftError):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert [mark.step for _, mark in whole_checkpoints(tmp_path, torn=[])] == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001.json", "step-000000001.safetensors"]


def test_a_run_is_an_encoder_without_heads(tmp_path, monkeypatch):
    run = tmp_path / "my-run"
    write(run / "checkpoints", 3, seed=1)
    trunk = write(run / "checkpoints", 7, seed=2)
    best = write(run / "best", 3, seed=1, most=1)
    (run / "heard.txt").write_text("00000000000000aa\n")
    encoder = load_run(run)
    assert (encoder.name, encoder.num_layers, encoder.trained_on) == ("my-run", 1, {"00000000000000aa"})
    assert encoder.facts == {"views": "cdm2", "checkpoint": "last", "steps": 7}
    assert all(torch.equal(tensor, trunk.state_dict()[name]) for name, tensor in encoder.trunk.state_dict().items())
    assert torch.equal(
        load_run(run, checkpoint="best").trunk.state_dict()["encoder.transformer.layer_norm.weight"],
        best.state_dict()["encoder.transformer.layer_norm.weight"],
    )
    assert load_run(run, checkpoint="best").facts == {"views": "cdm2", "checkpoint": "best", "steps": 3}
    monkeypatch.chdir(run)
    assert load_run(".").name == "my-run"
    assert not is_run(run), "it has no config"
    (run / "config.yaml").write_text("")
    assert is_run(run)
    (run / "checkpoints").rename(run / "moved")
    assert not is_run(run)
    (run / "heard.txt").unlink()
    with pytest.raises(MissingFileError, match="no test may be made on that"):
        load_run(run, checkpoint="best")


def test_a_run_without_checkpoints_says_what_to_do(tmp_path):
    with pytest.raises(MissingFileError):
        load_run(tmp_path / "nothing")
    for checkpoint, folder in (("last", "checkpoints"), ("best", "best")):
        with pytest.raises(NoCheckpointError, match=f"has no whole checkpoint in {folder}/: train it first"):
            load_run(tmp_path, checkpoint=checkpoint)
    write(tmp_path / "checkpoints", 1)
    (tmp_path / "heard.txt").write_text("")
    with pytest.raises(NoCheckpointError, match="use checkpoint: last"):
        load_run(tmp_path, checkpoint="best")


def test_tensors_come_back_as_they_were(tmp_path):
    trunk = write(tmp_path, 1)
    tensors = read_tensors(tmp_path / "step-000000001.safetensors")
    assert tensors.keys() == {f"student.trunk.{name}" for name in trunk.state_dict()}


def test_the_mark_of_a_checkpoint_is_written_after_its_tensors(tmp_path, monkeypatch):
    names = []
    replace = os.replace

    def noted(source, target, **options):
        names.append(Path(target).name)
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", noted)
    write(tmp_path, 1)
    assert names == ["step-000000001.safetensors", "step-000000001.json"]


def test_a_mark_is_never_beside_the_tensors_of_another_checkpoint(tmp_path, monkeypatch):
    """A step is written again, and the disk is full after its tensors: they have no mark, and the step before serves."""
    write(tmp_path, 1)
    write(tmp_path, 2)

    def full(*_, **__):
        raise OSError("full")

    monkeypatch.setattr(Mark, "write", full)
    with pytest.raises(OSError, match="full"):
        write(tmp_path, 2)
    assert not (tmp_path / "step-000000002.json").exists()


def test_tensors_without_a_mark_are_removed_with_the_next_checkpoint_and_a_best_one_is_alone(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step, most=1)
    (tmp_path / "step-000000009.safetensors").write_bytes(b"of a process that was killed before its mark")
    write(tmp_path, 4, most=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004.json", "step-000000004.safetensors"]
    (_, mark), *others = whole_checkpoints(tmp_path, torn=[])
    assert not others
    assert mark.order == ORDER


@pytest.mark.parametrize("counts", [{"step": -1}, {"cursor": [0, -1, 0]}, {"cursor": [0, 0, 2**48]}, {"step": 2**48}])
def test_a_mark_whose_counts_are_none_is_torn(tmp_path, counts):
    write(tmp_path, 1)
    write(tmp_path, 2)
    path = tmp_path / "step-000000002.json"
    write_json(path, {**read_json(path, needed="test"), **counts})
    torn = []
    assert [mark.step for _, mark in whole_checkpoints(tmp_path, torn=torn)] == [1]
    assert torn == ["step-000000002"]


def test_a_checkpoint_of_a_later_stillroom_is_not_trained_over(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    path = tmp_path / "step-000000002.json"
    write_json(path, {**read_json(path, needed="test"), "schema": "stillroom/checkpoint/9"})
    with pytest.raises(NewerSchemaError):
        next(whole_checkpoints(tmp_path, torn=[]))


def test_states_are_restored_to_the_optimiser_of_that_name_alone():
    """One name begins with the other, as `optimiser` and `optimiser_of_critic`."""
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimisers = dict(zip(("one", "one_more"), (adamw([one], learning_rate=0.1) for one in parameters), strict=True))
    for number, one in enumerate(parameters, 1):
        one.grad = torch.full((2,), float(number))
    for optimiser in optimisers.values():
        optimiser.step()
    saved = optimiser_tensors(**optimisers)
    fresh = {name: adamw([one], learning_rate=0.1) for name, one in zip(optimisers, parameters, strict=True)}
    for name, optimiser in fresh.items():
        restore_optimiser(optimiser, saved, prefix=name)
    for name, one in zip(optimisers, parameters, strict=True):
        assert torch.equal(fresh[name].state[one]["exp_avg"], optimisers[name].state[one]["exp_avg"])


def test_heads_are_those_of_the_student_alone(tmp_path):
    run = tmp_path / "run"
    trunk = CONFIG.build()
    modules = {
        "student": torch.nn.ModuleDict({"trunk": trunk, "heads": torch.nn.Linear(2, 3)}),
        "critic": torch.nn.Linear(4, 4),
    }
    write_checkpoint(run / "checkpoints", module_tensors(**modules), step=1, cursor=(0, 0, 1), encoder=CONFIG)
    (run / "heard.txt").write_text("")
    trained = load_student(run)
    assert {name: tuple(one.shape) for name, one in trained.heads.items()} == {"weight": (3, 2), "bias": (3,)}


def test_tensors_of_a_checkpoint_lie_as_they_are_written_and_what_is_not_there_has_none():
    linear = torch.nn.Linear(2, 3)
    linear.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
    modules = module_tensors(student=linear, critic=None)
    assert {name: one.tolist() for name, one in modules.items()} == {
        "student.weight": [[0, 3], [1, 4], [2, 5]], "student.bias": linear.bias.tolist(),
    }  # fmt: skip
    state = {3: {"step": 7, "exp_avg": linear.weight}, 0: {"exp_avg": torch.ones(1)}}
    states = optimiser_tensors(optimiser=SimpleNamespace(state_dict=lambda: {"state": state}), critic_optimiser=None)
    assert {name: one.tolist() for name, one in states.items()} == {
        "optimiser.3.step": 7, "optimiser.3.exp_avg": [[0, 3], [1, 4], [2, 5]], "optimiser.0.exp_avg": [1],
    }  # fmt: skip
    for tensor in (*modules.values(), *states.values()):
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
        assert tensor.device.type == "cpu"


def test_what_does_not_fit_is_named_by_the_file_that_is_wrong(tmp_path):
    run = tmp_path / "run"
    write(run / "checkpoints", 7)
    (run / "heard.txt").write_text("")
    path = run / "checkpoints/step-000000007.json"
    mark = read_json(path, needed="test")
    write_json(path, {**mark, "encoder": {**mark["encoder"], "encoder_num_layers": 2}})
    with pytest.raises(BadDocumentError, match=rf"^{path.with_suffix('.safetensors')}: does not fit its config"):
        load_student(run)
    write_json(path, {**mark, "encoder": {**mark["encoder"], "encoder_num_heads": 7}})
    with pytest.raises(BadDocumentError, match=f"^{path}: "):
        load_student(run)
    with pytest.raises(MissingFileError, match="the folder of a training run"):
        load_student(path)


def test_the_last_checkpoint_is_loaded_unless_the_best_is_wanted(tmp_path):
    run = tmp_path / "run"
    write(run / "checkpoints", 7, seed=2)
    write(run / "best", 3, seed=1, most=1)
    (run / "heard.txt").write_text("")
    assert [load(run).facts for load in (load_run, lambda run: load_student(run).encoder)] == [
        {"views": "cdm2", "checkpoint": "last", "steps": 7}
    ] * 2
    assert load_student(run, checkpoint="best").encoder.facts["steps"] == 3
