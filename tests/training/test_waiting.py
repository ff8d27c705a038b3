"""Nothing waits for the device: a step on one that exists only by name, and a count of copies that the host would wait for.

Two such devices, since neither can do it all without a GPU: FakeTensorMode's `cuda`, on which whatever reads a value raises (item, tolist,
nonzero, boolean indexing), but torch's engine of gradients will not start; and `meta`, which takes whole backward passes.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.oracles.made_step import config_of, models_of, ragged_batch
from tests.training.conftest import write_teacher
from training.distillation.optimiser import adamw, spoilt, update_unless
from training.runs.step_sums import StepSums
from training.step import correct_for_lost, forward_backward

LANES = 1
COPIES = {torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_}


class BlockingCopies(TorchDispatchMode):
    """Lists operators that read tensors of two devices, or copy from one to another, so that the host waits."""

    def __init__(self):
        super().__init__()
        self.found, self.copies = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        given, made = (
            [leaf for leaf in tree_leaves(one) if isinstance(leaf, torch.Tensor)] for one in ((args, kwargs), output)
        )
        devices = {
            tensor.device.type
            for tensor in (*given, *made)
            if tensor.ndim or tensor.device.type != "cpu" or len(given) == 1
        }
        if len(devices) > 1:
            if func.overloadpacket in COPIES and (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
                self.copies += 1
            else:
                self.found.append(str(func))
        return output


def lanes_of(config):
    """The micro-batches of a step."""
    same = config.views.kind == "none"
    return [ragged_batch(4, lane=lane, same_views=same, seed=lane) for lane in range(LANES)]


def stepped(models, config, batches):
    """A whole step: micro-batches, sums, what was lost, clipping, both updates; returns what would be sent to the host."""
    trained = [parameter for parameter in models.student.parameters() if parameter.requires_grad]
    optimiser = adamw(trained, learning_rate=1e-3)
    sums = StepSums(models.adversary.domains, rate_hz=16000, device=models.device)
    counts = dict.fromkeys(sums.counts, 1.0)
    found = [forward_backward(models, batch, config, step=2) for batch in batches]
    total = sums.vector([losses for losses, _ in found], counts, signal=None)
    correct_for_lost(total, trained, batches[-1], models.student)
    norm = torch.nn.utils.clip_grad_norm_(trained, config.optimiser.clip)
    is_spoilt = spoilt(norm, total)
    update_unless(is_spoilt, optimiser)
    optimiser.zero_grad(set_to_none=True)
    critic_norm = models.adversary.update(is_spoilt=is_spoilt, utterances=sums.classified(total))
    return total, norm, critic_norm


DAT = {"preset": "cdm2-dat"}
METHODS = {
    "plain": {"preset": "distilhubert", "loss": {"layers": [1, 2, 3]}},
    "cdm2-masked": {"preset": "cdm2", "student": {"layers": 2, "mask": {}}, "teacher": {"standardise": True}},
    "condition": DAT,
    "family": {**DAT, "adversary": {"domain": "family", "features": "frames", "standardise": True}},
    "distorted": {**DAT, "adversary": {"domain": "distorted", "objective": "confusion"}},
    "view": {"preset": "cdm2-dat-paper"},
    "view-frames": {**DAT, "adversary": {"domain": "view", "features": "frames"}},
    "large-bfloat16": {**DAT, "precision": "bf16", "teacher": {"name": "large"}},
    "wavlm": {**DAT, "teacher": {"name": "wavlm"}},
}


@pytest.fixture(scope="module", name="teachers")
def three_teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    write_teacher(folder / "base")
    write_teacher(folder / "large", mode="layer_norm", first=True, normalise=True)
    write_teacher(folder / "wavlm", family="wavlm")
    return folder


def given(teachers, name):
    keys = METHODS[name]
    teacher = {"name": "base", **keys.get("teacher", {})}
    return config_of(None, **{**keys, "teacher": {**teacher, "name": str(teachers / teacher["name"])}})


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_step_reads_nothing_and_copies_nothing_that_the_host_waits_for(monkeypatch, teachers, name):
    config = given(teachers, name)
    # Both know no such device; how they work on a GPU is the other test's.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch.optim, "AdamW", lambda *_, **__: Mock())
    models = models_of(config, "meta")
    with BlockingCopies() as copies:
        sums, norm, critic_norm = stepped(models, config, lanes_of(config))
    assert {one.device.type for one in (sums, norm, critic_norm)} == {"meta"}
    assert not copies.found
    assert copies.copies >= LANES * 3, "waves and masks were sent"


def faked(module):
    """The same module with parameters on the fake `cuda`; torch's own way there would not swap a fake for a real one."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in ((name, tensor) for name, tensor in held.items() if tensor is not None):
                fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                is_parameter = isinstance(tensor, torch.nn.Parameter)
                held[name] = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake
    return module


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_a_fake_gpu_never_reads_a_value(monkeypatch, teachers, name):
    """All but the backward pass, in whose place every parameter is given a gradient."""
    config = given(teachers, name)
    models = models_of(config)
    batches = lanes_of(config)
    with FakeTensorMode() as mode, BlockingCopies() as copies:
        modules = [faked(module) for module in (models.student, models.teacher, *models.adversary.modules.values())]
        weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]

        def backward(loss):
            assert loss.device.type == "cuda"
            for weight in weights:
                weight.grad = torch.empty_like(weight)

        monkeypatch.setattr(torch.autograd, "backward", backward)
        batches = [batch.moved(mode.from_tensor) for batch in batches]
        stepped(replace(models, device=torch.device("cuda")), config, batches)
    assert not copies.found
    assert copies.copies >= LANES * 3, "waves and masks were sent"


@pytest.mark.parametrize("name", ["item", "nonzero", "copy", "index"])
def test_what_would_wait_is_found(name):
    """The two devices and the count, each with what they are for."""
    with FakeTensorMode(), BlockingCopies() as copies:
        tensor = torch.ones(3, device="cuda")
        if name == "copy":
            torch.tensor([1, 2], device="cuda")
        elif name == "index":
            tensor.index_put((torch.tensor([1, 2]),), torch.zeros((), device="cuda"))
        else:
            with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
                tensor.sum().item() if name == "item" else tensor[tensor > 0]
    assert bool(copies.found) == (name in {"copy", "index"})
