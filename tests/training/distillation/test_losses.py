"""The distance between predictions and the teacher's layers."""

from __future__ import annotations

import pytest
import torch

from manifests.errors import BadDocumentError, UsageError
from tests.oracles import distiller
from training.config.model import LossWeights
from training.distillation.losses import check_layer_weights, layer_distance, real_frames, standardised


def tensors(*, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 2, 7, 5, generator=generator) for _ in range(2)]


def test_the_distance_is_that_of_a_slow_loop_over_real_frames():
    predictions, target = tensors()
    num_frames = [7, 4, 1]
    found = layer_distance(predictions, target, torch.tensor(num_frames))
    l1, cosine = distiller.distance(predictions.numpy(), target.numpy(), num_frames)
    assert float(found.l1) / 12 == pytest.approx(l1, rel=1e-5)
    assert float(found.cosine) / 12 == pytest.approx(cosine, rel=1e-5)


def test_padding_counts_for_nothing_and_gets_no_gradient():
    predictions, target = tensors()
    num_frames = torch.tensor([7, 4, 0])
    spoilt = predictions.clone()
    spoilt[1, :, 4:] = 1e6
    spoilt[2] = -1e6
    spoilt.requires_grad_()
    clean, dirty = (layer_distance(given, target, num_frames) for given in (predictions, spoilt))
    assert torch.equal(torch.stack(clean), torch.stack(dirty))
    (dirty.l1 + dirty.cosine).backward()
    assert not spoilt.grad[1, :, 4:].any()
    assert not spoilt.grad[2].any()
    assert spoilt.grad[0].any()


def test_lanes_sum_to_the_mean_over_the_global_batch():
    predictions, target = tensors(batch=5)
    num_frames = torch.tensor([7, 3, 5, 2, 6])
    whole = layer_distance(predictions, target, num_frames)
    parts = [layer_distance(predictions[rows], target[rows], num_frames[rows]) for rows in (slice(0, 1), slice(1, 5))]
    torch.testing.assert_close(sum(part.l1 for part in parts), whole.l1)
    torch.testing.assert_close(sum(part.cosine for part in parts), whole.cosine)


def test_half_precision_is_compared_in_float32():
    predictions, target = (tensor.bfloat16() for tensor in tensors())
    found = layer_distance(predictions, target, torch.tensor([7, 7, 7]))
    assert found.l1.dtype == found.cosine.dtype == torch.float32
    torch.testing.assert_close(
        found.l1, layer_distance(predictions.float(), target.float(), torch.tensor([7, 7, 7])).l1
    )


def test_a_perfect_prediction_has_the_least_distance():
    _, target = tensors()
    found = layer_distance(target, target, torch.tensor([7, 7, 7]))
    assert float(found.l1) == 0
    assert float(found.cosine) / 21 == pytest.approx(0.313261687, rel=1e-5)  # -log(sigmoid(1))


def test_real_frames_come_first():
    assert real_frames(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False, False, False]]


def test_layers_weigh_by_ratio():
    predictions, target = tensors()
    num_frames = torch.tensor([7, 4, 1])
    single = [layer_distance(predictions[:, [layer]], target[:, [layer]], num_frames) for layer in (0, 1)]
    found = layer_distance(predictions, target, num_frames, weights=LossWeights(layers=(3.0, 1.0)))
    for part in ("l1", "cosine"):
        expected = 0.75 * getattr(single[0], part) + 0.25 * getattr(single[1], part)
        torch.testing.assert_close(getattr(found, part), expected)
    equal = layer_distance(predictions, target, num_frames, weights=LossWeights(layers=(2.0, 2.0)))
    torch.testing.assert_close(torch.stack(equal), torch.stack(layer_distance(predictions, target, num_frames)))
    only = layer_distance(predictions, target, num_frames, weights=LossWeights(layers=(0.0, 1.0)))
    torch.testing.assert_close(only.l1, single[1].l1)


def test_a_raw_cosine_is_one_minus_itself():
    predictions, target = tensors()
    found = layer_distance(predictions, target, torch.tensor([7, 4, 1]), weights=LossWeights(cosine_form="raw"))
    expected = 0.0
    for row, frames in enumerate((7, 4, 1)):
        for frame in range(frames):
            for layer in range(2):
                one, two = predictions[row, layer, frame].double(), target[row, layer, frame].double()
                expected += (1 - one @ two / (one.norm() * two.norm())) / 2
    assert float(found.cosine) == pytest.approx(float(expected), rel=1e-5)


def test_standardised_targets_have_no_norm_of_their_own():
    predictions, target = tensors()
    num_frames = torch.tensor([7, 4, 1])
    assert float(standardised(target).mean(dim=-1).abs().max()) < 1e-6
    torch.testing.assert_close(standardised(target).var(dim=-1, correction=0), torch.ones(3, 2, 7), atol=1e-3, rtol=0)
    plain = layer_distance(predictions, target, num_frames, standardise=True)
    large = layer_distance(predictions, 500 * target + 30, num_frames, standardise=True)
    torch.testing.assert_close(torch.stack(large), torch.stack(plain), rtol=1e-4, atol=1e-4)
    expected = layer_distance(predictions, standardised(target), num_frames)
    assert torch.equal(torch.stack(plain), torch.stack(expected))


@pytest.mark.parametrize("layers", [None, (3.0, 1.0)])
def test_frames_of_an_utterance_count_by_its_weight(layers):
    predictions, target = tensors()
    num_frames, weights = torch.tensor([7, 4, 2]), LossWeights(layers=layers)
    found = layer_distance(predictions, target, num_frames, weights=weights, of_utterances=[0.0, 2.5, 1.0])
    rows = [layer_distance(predictions[[row]], target[[row]], num_frames[[row]], weights=weights) for row in range(3)]
    for part in ("l1", "cosine"):
        expected = 2.5 * getattr(rows[1], part) + getattr(rows[2], part)
        torch.testing.assert_close(getattr(found, part), expected)


def test_weights_for_other_layers_than_the_teachers_are_refused():
    check_layer_weights(LossWeights(), (4, 8, 12))
    check_layer_weights(LossWeights(layers=(1.0, 1.0, 2.0)), (4, 8, 12))
    with pytest.raises(UsageError, match=r"2 weights for the 3 layers of the teacher \(4, 8, 12\)"):
        check_layer_weights(LossWeights(layers=(1.0, 1.0)), (4, 8, 12))
    with pytest.raises(BadDocumentError, match="all weights are 0"):
        LossWeights.parse({"layers": [0, 0]}, where="test")
