"""Layers of the wav2vec 2.0 family: the same as torchaudio's where torchaudio is right, and right where it is not."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from tests.training.conftest import encoder_config, random_encoder
from training.models.encoder import (
    Encoder,
    EncoderConfig,
    group_normed,
    normalised,
    parameter_digest,
    scale_gradient,
    transformer_outputs,
    with_positions,
)

FAMILIES = {
    "base": {},
    "large": {"mode": "layer_norm", "first": True, "normalise": True},
    "wavlm-base": {"family": "wavlm"},
    "wavlm-large": {"family": "wavlm", "mode": "layer_norm", "first": True, "normalise": True},
}


@pytest.fixture(params=FAMILIES, name="encoder")
def any_encoder(request):
    return random_encoder(**FAMILIES[request.param], name="test", seed=1)


@pytest.fixture(name="waves")
def three_waves():
    generator = torch.Generator().manual_seed(2)
    return [0.1 * torch.randn(length, generator=generator) + 0.02 for length in (9000, 6500, 4000)]


def test_layers_are_torchaudios_where_there_is_no_padding(encoder, waves):
    wave = waves[0][None]
    layers, num_frames = encoder.layers(wave, torch.tensor([9000]))
    given = torch.nn.functional.layer_norm(wave, wave.shape[1:]) if encoder.config.normalize_waveform else wave
    expected, _ = encoder.trunk.extract_features(given)
    assert layers.shape == (1, 3, int(num_frames[0]), 24)
    assert len(expected) == 3
    for layer, tensor in enumerate(expected):
        torch.testing.assert_close(layers[:, layer], tensor, atol=1e-5, rtol=1e-4)


def test_an_utterance_has_the_same_features_whatever_it_is_batched_with(encoder, waves):
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    together, num_frames = encoder.layers(batch, torch.tensor([len(wave) for wave in waves]))
    for row, wave in enumerate(waves):
        alone, (frames,) = encoder.layers(wave[None], torch.tensor([len(wave)]))
        assert frames == num_frames[row] == encoder.config.num_frames(len(wave))
        torch.testing.assert_close(together[row, :, :frames], alone[0], atol=2e-5, rtol=1e-4)


def test_features_differ_between_utterances(encoder, waves):
    layers, _ = encoder.layers(torch.stack([waves[0][:4000], waves[1][:4000]]), torch.tensor([4000, 4000]))
    assert (layers[0] - layers[1]).abs().mean() > 0.05


def test_an_utterance_shorter_than_a_frame_has_none_and_harms_nobody(encoder, waves):
    alone, _ = encoder.layers(waves[2][None], torch.tensor([4000]))
    batch = torch.nn.utils.rnn.pad_sequence([waves[2], waves[1][:100]], batch_first=True)
    layers, num_frames = encoder.layers(batch, torch.tensor([4000, 100]))
    assert num_frames.tolist() == [12, 0]
    assert torch.isfinite(layers).all()
    torch.testing.assert_close(layers[0], alone[0], atol=2e-5, rtol=1e-4)
    layers, num_frames = encoder.layers(waves[1][None, :100], torch.tensor([100]))
    assert num_frames.tolist() == [0]


def test_chosen_layers_come_in_the_order_asked(encoder, waves):
    wave, num_samples = waves[1][None], torch.tensor([6500])
    every, _ = encoder.layers(wave, num_samples)
    some, _ = encoder.layers(wave, num_samples, only=(3, 1))
    assert torch.equal(some, every[:, [2, 0]])


def test_an_encoder_stays_in_eval_mode_without_gradient(encoder, waves):
    wave, num_samples = waves[1][None], torch.tensor([6500])
    torch.nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.modules())
    first, second = (encoder.layers(wave, num_samples)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_digest_tells_parameters_apart(encoder):
    before = encoder.digest
    assert len(before) == 64
    other = Encoder(encoder.config.build(), encoder.config, name="other")
    other.trunk.load_state_dict(encoder.trunk.state_dict())
    assert other.digest == before
    del other.digest
    with torch.no_grad():
        next(other.trunk.parameters()).view(-1)[0] += 1e-3
    assert other.digest != before


def test_frames_are_counted_as_the_convolutions_make_them():
    config = EncoderConfig.parse(encoder_config(), where="test")
    assert (config.receptive_samples, config.hop_samples) == (400, 320)
    for num_samples in (0, 399, 400, 719, 720, 16000, 16001):
        made = config.build().feature_extractor(torch.zeros(1, max(400, num_samples)), None)[0].shape[1]
        assert config.num_frames(num_samples) == (made if num_samples >= 400 else 0)


def test_normalisation_takes_each_utterance_for_itself():
    wave = torch.zeros(2, 1000)
    wave[0] = 5 + torch.randn(1000, generator=torch.Generator().manual_seed(0))
    wave[1, :300] = 0.01 * torch.randn(300, generator=torch.Generator().manual_seed(1)) - 0.2
    result = normalised(wave, torch.tensor([1000, 300]))
    for row, length in ((0, 1000), (1, 300)):
        expected = torch.nn.functional.layer_norm(wave[row, :length], (length,))
        torch.testing.assert_close(result[row, :length], expected, atol=1e-4, rtol=1e-4)
    assert not result[1, 300:].any()


def test_dropout_is_on_in_a_trunk_that_trains(waves):
    config = EncoderConfig.parse(encoder_config(), where="test")
    trunk = config.build().train()
    wave, num_samples = waves[1][None], torch.tensor([6500])
    outputs = [transformer_outputs(trunk, config, wave, num_samples)[0][-1] for _ in range(2)]
    assert not torch.equal(*outputs)


def test_a_scaled_gradient_leaves_values_alone():
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    scaled = scale_gradient(hidden, -0.25)
    assert torch.equal(scaled, hidden)
    scaled.square().sum().backward()
    assert torch.equal(hidden.grad, -0.25 * 2 * hidden.detach())


def test_an_encoder_knows_its_sizes_and_what_it_was_made_of():
    shape = {**encoder_config(layers=2), "sample_rate": 8000}
    config = EncoderConfig.parse(shape, where="test")
    facts = {"steps": 3}
    encoder = Encoder(config.build(), config, name="short", trained_on=frozenset({"ab"}), facts=facts)
    assert (encoder.name, encoder.sample_rate, encoder.num_layers, encoder.num_features) == ("short", 8000, 2, 24)
    assert (encoder.trained_on, encoder.facts) == ({"ab"}, {"steps": 3})
    assert encoder.facts is not facts
    assert encoder.num_parameters == sum(one.numel() for one in config.build().parameters())


def test_a_model_without_the_projections_norm_has_none():
    plain, without = (
        EncoderConfig.parse({**encoder_config(), "projection_norm": given}, where="test").build()
        for given in (True, False)
    )
    removed = set(plain.state_dict()) - set(without.state_dict())
    assert removed == {f"encoder.feature_projection.layer_norm.{name}" for name in ("weight", "bias")}
    features = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
    projection = without.eval().encoder.feature_projection
    torch.testing.assert_close(projection(features), projection.projection(features))


def test_waves_are_normalised_with_the_epsilon_of_the_config():
    """Quiet waves: an epsilon as large as their variance halves it, as if the wave had been given at that size."""
    wave = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    wave -= wave.mean()
    variance = float(wave.square().mean())
    shape = encoder_config(mode="layer_norm", first=True, normalise=True)
    config = EncoderConfig.parse({**shape, "normalize_epsilon": variance}, where="test")
    trunk, length = config.build().eval(), torch.tensor([4000])
    found, _ = Encoder(trunk, config, name="a").layers(wave, length)
    plain = config.model_copy(update={"normalize_waveform": False})
    expected, _ = Encoder(trunk, plain, name="b").layers(wave / (2 * variance) ** 0.5, length)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_digest_is_of_names_shapes_and_values_in_the_order_of_names():
    def holding(**tensors):
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return module

    values = torch.arange(6.0)
    first = parameter_digest(holding(one=values.view(2, 3), two=torch.zeros(0)))
    text = hashlib.sha256(b"one\x1f(2, 3)\x1f" + np.arange(6, dtype="<f4").tobytes() + b"two\x1f(0,)\x1f")
    assert first == text.hexdigest()
    assert parameter_digest(holding(two=torch.zeros(0), one=values.view(2, 3).double())) == first
    others = [holding(one=values.view(3, 2), two=torch.zeros(0)), holding(uno=values.view(2, 3), two=torch.zeros(0))]
    assert len({first, *map(parameter_digest, others)}) == 3


def test_sizes_of_frames_are_those_of_uneven_kernels():
    """Two convolutions: 7 samples every 3, then 4 of those every 2: a frame needs 7 + 3 * 3 samples, the next 6 more."""
    config = EncoderConfig.parse(
        {**encoder_config(), "extractor_conv_layer_config": [[4, 7, 3], [4, 4, 2]]}, where="test"
    )
    assert (config.receptive_samples, config.hop_samples) == (16, 6)
    assert [config.num_frames(length) for length in (0, 15, 16, 21, 22, 28)] == [0, 0, 1, 1, 2, 3]


def test_an_encoder_has_no_output_layer_and_does_as_its_layers_do():
    config = EncoderConfig.parse(encoder_config(layers=2), where="test")
    trunk = config.build()
    size = sum(one.numel() for one in trunk.parameters())
    assert config.model_copy(update={"aux_num_out": 5}).build().aux is None
    trunk.aux = torch.nn.Linear(24, 5)
    encoder = Encoder(trunk, config, name="tuned")
    assert (encoder.trunk.aux, encoder.num_parameters, encoder.facts) == (None, size, {})
    wave, num_samples = torch.zeros(1, 800), torch.tensor([800])
    wave[0, 100] = 1.0
    expected, expected_frames = encoder.layers(wave, num_samples)
    found, num_frames = encoder(wave, num_samples)
    assert torch.equal(found, expected)
    assert torch.equal(num_frames, expected_frames)
    assert not found.is_inference()
    assert not num_frames.is_inference()


def test_nothing_above_the_highest_of_the_chosen_layers_is_computed(encoder, waves):
    ran = []
    for number, layer in enumerate(encoder.trunk.encoder.transformer.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    encoder.layers(waves[2][None], torch.tensor([4000]), only=(2, 1))
    assert ran == [1, 2]


def test_utterances_of_no_or_one_value_are_no_harm_to_others(encoder, waves):
    """Of 10 samples the first convolution makes one frame, of 5 none, of nought there is no mean."""
    alone, _ = encoder.layers(waves[2][None], torch.tensor([4000]))
    for short in (10, 5, 0):
        batch = torch.nn.utils.rnn.pad_sequence([waves[2], waves[1][:short]], batch_first=True)
        layers, num_frames = encoder.layers(batch, torch.tensor([4000, short]))
        assert num_frames.tolist() == [12, 0]
        assert torch.isfinite(layers).all()
        torch.testing.assert_close(layers[0], alone[0], atol=2e-5, rtol=1e-4)
    assert not normalised(torch.zeros(1, 30), torch.tensor([0])).any()


@pytest.mark.parametrize("groups", [4, 2, 1])
def test_groups_of_few_channels_are_convolved_in_float32(groups):
    """In bfloat16 AMX gives wrong numbers for them; 24 channels in one group are right, and stay bfloat16."""
    config = EncoderConfig.parse(encoder_config() | {"encoder_pos_conv_groups": groups}, where="test")
    transformer = config.build().eval().encoder.transformer
    hidden = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = transformer._preprocess(hidden)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = with_positions(transformer, hidden, channels=24 // groups)
    assert torch.equal(found, exact) == (groups > 1)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)


def test_statistics_of_a_group_norm_are_those_of_an_utterance_alone():
    norm = torch.nn.GroupNorm(4, 4)
    hidden = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    found = group_normed(norm, hidden, [7, 5, 1])
    torch.testing.assert_close(found[0], norm(hidden[:1])[0])
    torch.testing.assert_close(found[1, :, :5], norm(hidden[1:2, :, :5])[0])
    assert not found[1, :, 5:].any()
    torch.testing.assert_close(found[2, :, :2], norm(hidden[2:, :, :2])[0])  # two at least
    assert not found[2, :, 2:].any()
    torch.testing.assert_close(group_normed(norm, hidden, [9, 8, 7]), norm(hidden))


@pytest.mark.parametrize("groups", [4, 2])
def test_the_gradient_of_a_ragged_group_norm_is_that_of_utterances_alone(groups):
    norm = torch.nn.GroupNorm(groups, 4).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in norm.parameters():
        parameter.data = torch.randn(4, generator=generator, dtype=torch.float64)
    hidden, coming = torch.randn(2, 3, 4, 7, generator=generator, dtype=torch.float64)
    lengths = [7, 5, 2]
    hidden.requires_grad_()
    (group_normed(norm, hidden, lengths) * coming).sum().backward()
    found = [hidden.grad.clone(), norm.weight.grad.clone(), norm.bias.grad.clone()]
    hidden.grad = norm.weight.grad = norm.bias.grad = None
    for row, length in enumerate(lengths):
        (norm(hidden[[row], :, :length]) * coming[[row], :, :length]).sum().backward()
    for one, other in zip(found, (hidden.grad, norm.weight.grad, norm.bias.grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not found[0][1, :, 5:].any()
