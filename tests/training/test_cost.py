"""What a step costs, counted in the elements that all its operators write: it grows with the work, and no faster."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.oracles.made_step import config_of, models_of, ragged_batch
from training.models.student import Heads, LayerHeads
from training.step import forward_backward


class ElementsWritten(TorchDispatchMode):
    """Counts the elements of whatever an operator returns that is no view."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.count += sum(leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor))
        return output


METHODS = {
    "plain": {},
    "cdm2": {"preset": "cdm2"},
    "dat": {"preset": "cdm2-dat", "student": {"layers": 2, "mask": {}}},
    "dat-frames-of-views": {"preset": "cdm2-dat-paper", "adversary": {"features": "frames"}},
}


@pytest.mark.parametrize("name", METHODS)
def test_twice_as_many_ragged_rows_cost_at_most_twice_as_much(teacher_folder, name):
    config = config_of(teacher_folder, **METHODS[name])
    written = {}
    for rows in (12, 24):
        models = models_of(config)
        batch = ragged_batch(rows, same_views=name == "plain")
        with ElementsWritten() as elements:
            forward_backward(models, batch, config, step=1)
        assert models.student.trunk.feature_extractor.conv_layers[0].conv.weight.grad.abs().sum() > 0
        written[rows] = elements.count
    assert written[24] <= 2.1 * written[12]


@pytest.mark.parametrize("heads", [Heads(16, 3, 24), LayerHeads(16, [2, 1, 2], 24)], ids=["last", "layers"])
def test_the_matrices_of_a_head_are_not_copied_for_each_utterance(heads):
    matrices = heads.weight.numel()
    hidden = [torch.randn(64, 1, 16, requires_grad=True) for _ in range(2)]
    with ElementsWritten() as elements:
        heads(hidden).sum().backward()
    assert elements.count < 64 * matrices
