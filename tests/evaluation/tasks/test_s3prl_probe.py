"""Classification on a weighted sum of layers against s3prl's own: its featurizer, its pooling and its linear model, the same features."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from evaluation.features import Scaling
from evaluation.tasks.weighted_sum import fitted_sum, scaled_rows

pytest.importorskip("s3prl.upstream.interfaces")
from s3prl.downstream.model import UtteranceLevel
from s3prl.upstream.interfaces import Featurizer

STATES, FEATURES, CLASSES, STRIDE = 4, 12, 3, 320


class Layers(torch.nn.Module):
    """An upstream as s3prl has them, that gives features which were made before."""

    def __init__(self, states: list[torch.Tensor]):
        super().__init__()
        self.states = states

    def get_downsample_rates(self, key: str) -> int:
        return STRIDE

    def forward(self, waves):
        return {"hidden_states": [state[: len(waves)] for state in self.states]}


def utterances(count: int, *, seed: int):
    """Frames of shape (utterance, state, frame, feature), padded with rubbish, their lengths, and labels that one state tells."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 20, count)
    labels = rng.integers(0, CLASSES, count)
    frames = rng.normal(size=(count, STATES, 20, FEATURES)) * 3 + 1
    frames[:, 2, :, 0] += 4.0 * labels[:, None]
    return frames.astype(np.float32), lengths, labels


def pooled(frames, lengths):
    """Means over real frames, shape (utterance, state, feature)."""
    return np.stack([one[:, :length].mean(axis=1) for one, length in zip(frames, lengths, strict=True)])


def as_s3prl(frames, lengths, scaling):
    """The same features as s3prl's probe gets them: waves by their lengths, and one padded tensor a state."""
    scaled = torch.from_numpy(((frames - scaling.mean[:, None]) * scaling.inverse[:, None]).astype(np.float32))
    waves = [torch.zeros(int(length) * STRIDE) for length in lengths]
    longest = int(lengths.max())
    return waves, [scaled[:, state, :longest].contiguous() for state in range(STATES)]


def s3prl_probe(waves, states, probe):
    """s3prl's featurizer and utterance-level linear model with the weights of ours."""
    featurizer = Featurizer(Layers([state[:1] for state in states]), upstream_device="cpu")
    model = UtteranceLevel(FEATURES, CLASSES, pooling="MeanPooling", post_net={"select": "FrameLevel"})
    weighted, linear = probe.module
    with torch.no_grad():
        featurizer.weights.copy_(weighted.weights)
        model.post_net.linear.weight.copy_(linear.weight)
        model.post_net.linear.bias.copy_(linear.bias)
    return featurizer, model


def s3prl_logits(featurizer, model, waves, states):
    features = featurizer(waves, {"hidden_states": states})
    lengths = torch.IntTensor([len(feature) for feature in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    return model(padded, lengths)[0]


@pytest.fixture(scope="module")
def both():
    train, train_lengths, train_labels = utterances(90, seed=1)
    rows = pooled(train, train_lengths)
    names = np.array([f"word {label}" for label in train_labels])
    scaling = Scaling.fitted(rows)
    probe = fitted_sum(rows, names, scaling, learning_rate=1e-2, seed=0, probe=0)
    frames, lengths, labels = utterances(60, seed=2)
    waves, states = as_s3prl(frames, lengths, scaling)
    return probe, s3prl_probe(waves, states, probe), pooled(frames, lengths), waves, states, labels


def test_logits_and_accuracy_are_those_of_s3prl_on_the_same_features(both):
    probe, (featurizer, model), rows, waves, states, labels = both
    with torch.no_grad():
        ours = probe.module(scaled_rows(rows, probe.scaling))
        theirs = s3prl_logits(featurizer, model, waves, states)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    told = probe.predictions(rows)
    accuracy = float(np.mean(told == np.array([f"word {label}" for label in labels])))
    their_accuracy = (theirs.argmax(dim=-1) == torch.from_numpy(labels)).float().mean().item()
    assert accuracy == pytest.approx(their_accuracy, abs=1e-6)
    assert 0.5 < accuracy <= 1.0  # a probe that learned nothing would agree for nothing


def test_a_step_of_training_has_the_gradients_of_s3prl(both):
    probe, (featurizer, model), rows, waves, states, labels = both
    target = torch.from_numpy(labels)
    weighted, linear = probe.module
    ours = functional.cross_entropy(probe.module(scaled_rows(rows, probe.scaling)), target)
    theirs = functional.cross_entropy(s3prl_logits(featurizer, model, waves, states), target)
    gradients = torch.autograd.grad(ours, [weighted.weights, linear.weight])
    expected = torch.autograd.grad(theirs, [featurizer.weights, model.post_net.linear.weight])
    assert gradients[0].abs().max() > 1e-4
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-6)
