"""The DistilHuBERT student."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from manifests.errors import BadDocumentError, MissingFileError, UsageError
from tests.oracles import distiller
from tests.training.conftest import write_teacher
from training.config.model import InputMask, StudentShape
from training.data.sampler import Cursor
from training.models.initialisation import copy_parts
from training.models.masking import masked_frames, masked_frames_of
from training.models.student import Heads, LayerHeads, Student, frame_grid, student_config
from training.runs.checkpoint import module_tensors, write_checkpoint
from training.setup import make_student
from training.teacher import load_teacher


@pytest.fixture(name="teacher")
def small_teacher(teacher_folder):
    return load_teacher(teacher_folder)


def student_of(teacher, **options):
    return Student(
        teacher, **{"layers": 2, "num_targets": 3, "dropout": 0.0, "cnn_gradient": 1.0, "seed": 5, **options}
    )


def wave_of(seconds=0.5, rows=2):
    return 0.1 * torch.randn(rows, int(16000 * seconds), generator=torch.Generator().manual_seed(4))


def test_before_training_the_student_is_the_teacher_up_to_its_last_layer(teacher):
    wave, num_samples = wave_of(), torch.tensor([8000, 8000])
    heard = student_of(teacher).eval()(wave, num_samples)
    expected, num_frames = teacher.layers(wave, num_samples, only=(2,))
    torch.testing.assert_close(heard.hidden, expected[:, 0])
    assert torch.equal(heard.num_frames, num_frames)
    assert heard.predictions.shape == (2, 3, 24, 24)


def test_the_student_does_not_share_memory_with_its_teacher(teacher):
    student = student_of(teacher)
    theirs = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert not theirs & {parameter.data_ptr() for parameter in student.parameters()}
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_heads_are_those_of_a_slow_loop():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        heads = Heads(6, 3, 4)
        hidden = torch.randn(2, 5, 6)
    found = heads([hidden]).detach().numpy()
    state = {name: tensor.numpy() for name, tensor in heads.state_dict().items()}
    for row in range(2):
        expected = distiller.expand_last(
            hidden[row].numpy(), state["expand.weight"], state["expand.bias"], state["weight"], state["bias"]
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_first_weights_of_the_heads_depend_on_the_seed_alone(teacher):
    torch.manual_seed(1)
    first = student_of(teacher).heads.state_dict()
    torch.manual_seed(2)
    again = student_of(teacher).heads.state_dict()
    other = student_of(teacher, seed=6).heads.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight"], other["weight"])


def test_making_a_student_leaves_the_callers_chance_alone(teacher):
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    student_of(teacher)
    assert torch.equal(torch.rand(1), expected)


def gradients(student):
    student.zero_grad()
    student(wave_of(), torch.tensor([8000, 6000])).predictions.square().sum().backward()
    return {name: parameter.grad for name, parameter in student.named_parameters()}


def test_gradients_into_the_convolutions_are_a_tenth_and_no_others(teacher):
    free, slow = gradients(student_of(teacher)), gradients(student_of(teacher, cnn_gradient=0.1))
    for name, gradient in free.items():
        if gradient is None:
            continue
        factor = 0.1 if "feature_extractor" in name else 1.0
        torch.testing.assert_close(slow[name], factor * gradient, rtol=1e-4, atol=1e-6)
    assert free["trunk.feature_extractor.conv_layers.0.conv.weight"].any()


def test_frozen_convolutions_have_no_gradient(teacher):
    found = gradients(student_of(teacher, cnn_gradient=0.0))
    assert found["trunk.feature_extractor.conv_layers.0.conv.weight"] is None
    assert found["trunk.encoder.feature_projection.projection.weight"].any()


def test_dropout_is_the_students_own(teacher):
    student = student_of(teacher, dropout=0.5).train()
    wave, num_samples = wave_of(), torch.tensor([8000, 8000])
    assert not torch.equal(student(wave, num_samples).hidden, student(wave, num_samples).hidden)
    student = student_of(teacher, dropout=0.0).train()
    assert torch.equal(student(wave, num_samples).hidden, student(wave, num_samples).hidden)


def test_dropout_is_in_attention_feed_forward_and_residual_paths_and_not_on_the_projection(teacher):
    config = student_config(teacher.config, layers=2, dropout=0.25)
    assert (config.encoder_attention_dropout, config.encoder_ff_interm_dropout, config.encoder_dropout) == (0.25,) * 3
    assert (config.encoder_projection_dropout, config.encoder_layer_drop) == (0.0, 0.0)
    assert teacher.config.encoder_projection_dropout == 0.1


def test_more_layers_than_the_teacher_has_are_refused(teacher):
    with pytest.raises(UsageError, match=r"student.layers: 4, but the teacher small has 3"):
        student_of(teacher, layers=4)


def asked(teacher, *, targets=(1, 2, 3), seed=5, **shape):
    return make_student(
        StudentShape(**{"dropout": 0.0, "projection_norm": True, **shape}), teacher, target_layers=targets, seed=seed
    )


def test_the_student_a_config_asks_for_by_default_is_distilhuberts(teacher):
    by_hand = Student(teacher, layers=2, num_targets=3, dropout=0.0, cnn_gradient=0.1, seed=5)
    found, expected = asked(teacher).state_dict(), by_hand.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_student_without_the_projections_norm_has_all_else_of_its_teacher_but_the_projection(teacher):
    student = asked(teacher, projection_norm=False)
    names = [name for name, _ in student.trunk.named_parameters()]
    assert not any("feature_projection.layer_norm" in name for name in names)
    theirs = teacher.trunk.state_dict()
    for name, tensor in student.trunk.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_student_of_a_base_hubert_has_no_such_norm_by_default_and_any_other_has(tmp_path):
    cases = {
        "hubert": ({}, False),
        "wavlm": ({"family": "wavlm"}, True),
        "large": ({"mode": "layer_norm", "first": True}, True),
    }
    for name, (given, has_norm) in cases.items():
        found = load_teacher(write_teacher(tmp_path / name, **given))
        assert asked(found, projection_norm=None).config.projection_norm == has_norm, name


def test_a_deep_and_thin_student_is_taught_layer_to_layer(teacher):
    student = asked(teacher, layers=3, width=16, feed_forward=20, attention_heads=4, predict="layers").eval()
    wave, num_samples = wave_of(), torch.tensor([8000, 8000])
    heard = student(wave, num_samples)
    assert heard.hidden.shape == (2, 24, 16)
    assert heard.predictions.shape == (2, 3, 24, 24)
    assert isinstance(student.heads, LayerHeads)
    for target in range(3):
        expected = heard.layers[target] @ student.heads.weight[target] + student.heads.bias[target]
        torch.testing.assert_close(heard.predictions[:, target], expected)
    assert student.copied == ("feature_extractor",)
    conv = "feature_extractor.conv_layers.3.conv.weight"
    assert torch.equal(student.trunk.state_dict()[conv], teacher.trunk.state_dict()[conv])
    assert student.trunk.encoder.transformer.layers[0].attention.k_proj.weight.shape == (16, 16)


def test_layers_predict_targets_evenly_or_as_asked(teacher):
    assert asked(teacher, layers=3, predict="layers").heads.predict_from == (1, 2, 3)
    assert asked(teacher, layers=2, predict="layers").heads.predict_from == (1, 1, 2)
    assert asked(teacher, layers=3, predict="layers", targets=(3,)).heads.predict_from == (3,)
    five = asked(teacher, layers=5, predict="layers", init="random")
    assert five.heads.predict_from == (2, 3, 5), "1.67 and 3.33 are rounded"
    assert asked(teacher, layers=3, predict="layers", predict_from=(3, 1, 1)).heads.predict_from == (3, 1, 1)
    with pytest.raises(UsageError, match="2 layers for the 3 layers of the teacher"):
        asked(teacher, layers=3, predict="layers", predict_from=(1, 2))


def test_a_random_student_has_the_teachers_shape_and_nothing_of_its_weights(teacher):
    student, again, other = (asked(teacher, init="random", layers=4, seed=seed) for seed in (5, 5, 6))
    assert student.config.encoder_num_layers == 4  # more than the teacher has
    theirs = teacher.trunk.state_dict()
    for name, tensor in student.trunk.state_dict().items():
        if tensor.ndim > 1:
            assert name not in theirs or not torch.equal(tensor, theirs[name]), name
        assert torch.equal(tensor, again.trunk.state_dict()[name])
    assert not torch.equal(student.heads.weight, other.heads.weight)
    theirs = other.trunk.state_dict()
    drawn = [
        name
        for name, tensor in student.trunk.state_dict().items()
        if tensor.ndim > 1 and not torch.equal(tensor, theirs[name])
    ]
    assert {name.partition(".")[0] for name in drawn} == {"feature_extractor", "encoder"}
    assert student.trained_on == frozenset()
    heard = student.eval()(wave_of(), torch.tensor([8000, 8000]))
    assert 0.5 < float(heard.hidden.detach().std()) < 2


def test_a_random_student_is_drawn_as_hubert_was(teacher):
    """Deviations of 0.02 for linear layers, nought for their biases, the root of 2 / fan-in for convolutions."""
    trunk = asked(teacher, init="random", layers=4).trunk
    for layer in trunk.encoder.transformer.layers:
        for linear in (layer.attention.q_proj, layer.feed_forward.intermediate_dense):
            assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
            assert not linear.bias.any()
    for block in trunk.feature_extractor.conv_layers[1:]:
        fan_in = block.conv.weight[0].numel()
        assert float(block.conv.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.15)


def test_a_student_begins_with_a_run_or_any_other_model(teacher, tmp_path):
    source = asked(teacher, seed=9)
    with torch.no_grad():
        for parameter in source.trunk.parameters():
            parameter.add_(0.01)
    run = tmp_path / "run"
    write_checkpoint(
        run / "checkpoints", module_tensors(student=source), step=1, cursor=(0, 0, 1), encoder=source.config
    )
    (run / "config.yaml").write_text("corpus: none\n")
    (run / "heard.txt").write_text("fedcba9876543210\n")
    student = asked(teacher, init=str(run))
    assert all(
        torch.equal(tensor, student.trunk.state_dict()[name]) for name, tensor in source.trunk.state_dict().items()
    )
    assert student.trained_on == {"fedcba9876543210"}
    other = asked(teacher, init=str(write_teacher(tmp_path / "other", seed=4)))
    conv = "feature_extractor.conv_layers.0.conv.weight"
    assert not torch.equal(other.trunk.state_dict()[conv], teacher.trunk.state_dict()[conv])


def test_a_source_that_does_not_fit_is_one_line(teacher, tmp_path):
    with pytest.raises(MissingFileError):
        asked(teacher, init=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"student.layers: 4, but student.init other has 3"):
        asked(teacher, init=str(write_teacher(tmp_path / "other")), layers=4)
    with pytest.raises(BadDocumentError, match="describes no model"):
        asked(teacher, width=17, init="random")


def test_masked_frames_are_hidden_from_the_student(teacher):
    student = asked(teacher, mask=InputMask()).eval()
    wave, num_samples = wave_of(), torch.tensor([8000, 8000])
    nothing = torch.zeros(2, 24, dtype=torch.bool)
    plain = asked(teacher).eval()(wave, num_samples)
    assert torch.equal(student(wave, num_samples, nothing).hidden, plain.hidden)
    everything = student(wave, num_samples, ~nothing).hidden
    other = student(wave.flip(0), num_samples, ~nothing).hidden
    assert torch.equal(everything, other)  # what was said is not to be heard
    some = nothing.clone()
    some[0, 3:9] = True
    found = student(wave, num_samples, some).hidden
    assert not torch.equal(found[0], plain.hidden[0])
    torch.testing.assert_close(found[1], plain.hidden[1])
    found.sum().backward()
    assert student.mask_vector.grad is not None


def test_masks_are_named_by_seed_epoch_and_utterance_alone():
    mask = InputMask(start=0.1, span=4)
    options = {"num_frames": [60, 40], "longest": 60, "seed": 1, "epoch": 2}
    both = masked_frames(mask, keys=["a", "b"], **options)
    assert both.shape == (2, 60)
    assert not both[1, 40:].any()
    alone = masked_frames(mask, keys=["b"], **{**options, "num_frames": [40], "longest": 40})
    assert torch.equal(alone[0], both[1, :40])
    assert not torch.equal(masked_frames(mask, keys=["a", "b"], **{**options, "epoch": 3}), both)
    assert not torch.equal(masked_frames(mask, keys=["a", "b"], **{**options, "seed": 2}), both)


def test_masks_hide_spans_and_as_many_frames_as_they_should():
    mask = InputMask(start=0.065, span=10)
    keys = [str(number) for number in range(200)]
    found = masked_frames(mask, keys=keys, num_frames=[500] * 200, longest=500, seed=0, epoch=0)
    inner = found[:, 9:].float().mean()
    assert float(inner) == pytest.approx(1 - (1 - 0.065) ** 10, abs=0.01)
    row = found[0].tolist()
    lengths, run = [], 0
    for hidden in [*row, False]:
        run = run + 1 if hidden else 0
        lengths.append(run)
    longest_of_spans = [length for length, following in itertools.pairwise(lengths) if length and not following]
    assert all(length >= 10 for length in longest_of_spans[:-1])


def hidden_by_hand(starts, span, longest):
    return [
        any(starts[place] for place in range(max(0, frame - span + 1), frame + 1)) if frame < len(starts) else False
        for frame in range(longest)
    ]


def test_a_mask_is_of_the_spans_that_its_draws_begin():
    mask, lengths = InputMask(start=0.2, span=3), (17, 9)
    found = masked_frames(mask, keys=["a", "b"], num_frames=lengths, longest=20, seed=4, epoch=1)
    for row, (key, frames) in enumerate(zip("ab", lengths, strict=True)):
        single = masked_frames(
            InputMask(start=0.2, span=1), keys=[key], num_frames=[frames], longest=frames, seed=4, epoch=1
        )
        assert 0 < int(single.sum()) < frames
        assert found[row].tolist() == hidden_by_hand(single[0].tolist(), 3, 20)
    assert masked_frames(mask, keys=[], num_frames=[], longest=7, seed=0, epoch=0).shape == (0, 7)


def test_a_batchs_mask_is_that_of_its_utterances_in_its_epoch(teacher):
    mask = InputMask(start=0.2, span=2)
    batch = SimpleNamespace(
        keys=("a", "b"),
        num_samples=torch.tensor([8000, 5000]),
        student_wave=torch.zeros(2, 8000),
        cursor=Cursor(3, 1, 2),
    )
    assert masked_frames_of(None, batch, teacher.config, seed=6) is None
    found = masked_frames_of(mask, batch, teacher.config, seed=6)
    expected = masked_frames(mask, keys=["a", "b"], num_frames=[24, 15], longest=24, seed=6, epoch=3)
    assert torch.equal(found, expected)


def test_an_utterance_too_short_for_a_frame_has_no_masked_one(teacher):
    """Alone its wave is as wide as that of one frame."""
    certain = InputMask(start=0.99, span=2)
    short = SimpleNamespace(
        keys=("a", "b"), num_samples=torch.tensor([100, 90]), student_wave=torch.zeros(2, 100), cursor=Cursor()
    )
    assert masked_frames_of(certain, short, teacher.config, seed=6).tolist() == [[False], [False]]
    both = masked_frames(certain, keys=["a", "b"], num_frames=[0, 3], longest=4, seed=6, epoch=0)
    assert both.tolist() == [[False] * 4, [True, True, True, False]]


def test_parts_that_fit_are_copied_by_name_and_others_are_drawn(teacher):
    whole = (
        "feature_extractor",
        "encoder.feature_projection",
        "encoder.transformer.pos_conv_embed",
        "encoder.transformer.layer_norm",
    )
    layers = tuple(f"encoder.transformer.layers.{number}" for number in range(2))
    assert asked(teacher).copied == (*whole, *layers)
    assert asked(teacher, init="random").copied == ()
    wide = asked(teacher, feed_forward=40)
    assert wide.copied == whole
    assert wide.trunk.encoder.transformer.layers[1].feed_forward.intermediate_dense.weight.shape == (40, 24)
    changed = teacher.config.model_copy(
        update={
            "extractor_conv_layer_config": ((16, 10, 5), (16, 5, 2), *teacher.config.extractor_conv_layer_config[2:])
        }
    )
    with pytest.raises(UsageError) as caught:
        copy_parts(changed.build(), teacher)
    assert str(caught.value) == (
        "student.init: the convolutions of small are not those of the student; choose another source, or random"
    )


def test_convolutions_learn_unless_their_gradient_is_nought(teacher):
    for gradient in (0.1, 1.0, 0.0):
        parameters = dict(student_of(teacher, cnn_gradient=gradient).named_parameters())
        learns = {name.startswith("trunk.feature_extractor"): one.requires_grad for name, one in parameters.items()}
        assert learns == {True: gradient > 0, False: True}


def test_the_vector_of_masked_frames_is_drawn_by_the_seed(teacher):
    vectors = [asked(teacher, mask=InputMask(), seed=seed).mask_vector.detach() for seed in (5, 5, 6)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    assert vectors[0].shape == (24,)
    assert 0 <= float(vectors[0].min()) < 0.3 < 0.7 < float(vectors[0].max()) <= 1


def test_a_student_of_a_source_without_the_projections_norm_has_none_whatever_is_configured(teacher):
    config, shape = teacher.config, StudentShape(projection_norm=True)
    given = {"layers": 2, "dropout": 0.0, "shape": shape}
    assert student_config(config, **given).projection_norm
    bare = config.model_copy(update={"projection_norm": False})
    assert not student_config(bare, **given).projection_norm
    by_default = {**given, "shape": StudentShape()}
    assert not student_config(config, **by_default).projection_norm
    assert student_config(config.model_copy(update={"pretrained_as": "wav2vec2"}), **by_default).projection_norm
    pre_norm = config.model_copy(update={"encoder_layer_norm_first": True})
    assert student_config(pre_norm, **by_default).projection_norm
    sizes = student_config(
        config, layers=3, dropout=0.2, shape=StudentShape(width=12, attention_heads=3, feed_forward=40)
    )
    assert (sizes.encoder_num_layers, sizes.encoder_embed_dim, sizes.encoder_num_heads) == (3, 12, 3)
    assert (sizes.encoder_ff_interm_features, sizes.sample_rate) == (40, config.sample_rate)


def test_a_grid_of_frames_is_kernels_with_their_strides(teacher):
    assert frame_grid(teacher.config) == [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]


def test_a_random_student_may_have_more_layers_than_its_source_but_one_of_a_source_may_not(teacher, tmp_path):
    """A source of four layers for a teacher of three, and the other way round."""
    deep = load_teacher(write_teacher(tmp_path / "deep", layers=4))
    assert len(student_of(teacher, layers=4, source=deep).trunk.encoder.transformer.layers) == 4
    with pytest.raises(UsageError) as caught:
        student_of(deep, layers=4, source=teacher)
    assert str(caught.value) == (
        "student.layers: 4, but student.init small has 3 to begin with; choose fewer, or set student.init: random"
    )


@pytest.mark.parametrize("make", [lambda: Heads(16, 3, 100), lambda: LayerHeads(16, (2, 1, 2), 100)])
def test_heads_begin_as_linear_layers_of_the_students_width(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        heads = make()
    assert heads.weight.shape == (3, 16, 100)
    assert heads.bias.shape == (3, 1, 100)
    for parameter in (heads.weight, heads.bias):
        assert 0.24 < float(parameter.detach().max()) <= 0.25
        assert -0.25 <= float(parameter.detach().min()) < -0.24
        assert abs(float(parameter.detach().mean())) < 0.03


def test_heads_lead_from_the_students_width_to_the_teachers(teacher):
    student = asked(teacher, width=16, targets=(1, 3))
    assert student.heads.expand.weight.shape == (32, 16)
    assert student.heads.weight.shape == (2, 16, 24)
    assert student.eval()(wave_of(), torch.tensor([8000, 8000])).predictions.shape == (2, 2, 24, 24)


def test_a_student_takes_its_shape_from_its_source_and_predicts_its_teacher(teacher, tmp_path):
    source = load_teacher(write_teacher(tmp_path / "source", family="wavlm"))
    student = student_of(teacher, source=source)
    assert student.config.family == "wavlm"
    assert student.trained_on == source.trained_on
    given = teacher.config.model_copy(update={"encoder_embed_dim": 12, "encoder_num_heads": 3})
    narrow = SimpleNamespace(config=given, num_layers=3, num_features=12, name="narrow", trained_on=frozenset({"a"}))
    narrow.trunk = given.build()
    found = student_of(teacher, source=narrow)
    assert found.heads.weight.shape == (3, 12, 24)
    assert (found.mask, found.trained_on) == (None, {"a"})
