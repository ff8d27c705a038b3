"""The DistilHuBERT student."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manifests.errors import UsageError
from tests.oracles import distiller
from training.student import Heads, Student
from training.teacher import load_teacher


@pytest.fixture(name="teacher")
def small_teacher(teacher_folder):
    return load_teacher(teacher_folder)


def make_student(teacher, **options):
    return Student(
        teacher, **{"layers": 2, "num_targets": 3, "dropout": 0.0, "cnn_gradient": 1.0, "seed": 5, **options}
    )


def wave_of(seconds=0.5, rows=2):
    return 0.1 * torch.randn(rows, int(16000 * seconds), generator=torch.Generator().manual_seed(4))


def test_before_training_the_student_is_the_teacher_up_to_its_last_layer(teacher):
    wave, num_samples = wave_of(), torch.tensor([8000, 8000])
    heard = make_student(teacher).eval()(wave, num_samples)
    expected, num_frames = teacher.layers(wave, num_samples, only=(2,))
    torch.testing.assert_close(heard.hidden, expected[:, 0])
    assert torch.equal(heard.num_frames, num_frames)
    assert heard.predictions.shape == (2, 3, 24, 24)


def test_the_student_does_not_share_memory_with_its_teacher(teacher):
    student = make_student(teacher)
    theirs = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert not theirs & {parameter.data_ptr() for parameter in student.parameters()}
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_heads_are_those_of_a_slow_loop():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        heads = Heads(6, 3, 4)
        hidden = torch.randn(2, 5, 6)
    found = heads(hidden).detach().numpy()
    state = {name: tensor.numpy() for name, tensor in heads.state_dict().items()}
    for row in range(2):
        expected = distiller.expand_last(
            hidden[row].numpy(), state["expand.weight"], state["expand.bias"], state["weight"], state["bias"]
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_first_weights_of_the_heads_depend_on_the_seed_alone(teacher):
    torch.manual_seed(1)
    first = make_student(teacher).heads.state_dict()
    torch.manual_seed(2)
    again = make_student(teacher).heads.state_dict()
    other = make_student(teacher, seed=6).heads.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight"], other["weight"])


def test_making_a_student_leaves_the_callers_chance_alone(teacher):
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    make_student(teacher)
    assert torch.equal(torch.rand(1), expected)


def gradients(student):
    student.zero_grad()
    student(wave_of(), torch.tensor([8000, 6000])).predictions.square().sum().backward()
    return {name: parameter.grad for name, parameter in student.named_parameters()}


def test_gradients_into_the_convolutions_are_a_tenth_and_no_others(teacher):
    free, slow = gradients(make_student(teacher)), gradients(make_student(teacher, cnn_gradient=0.1))
    for name, gradient in free.items():
        if gradient is None:
            continue
        factor = 0.1 if "feature_extractor" in name else 1.0
        torch.testing.assert_close(slow[name], factor * gradient, rtol=1e-4, atol=1e-6)
    assert free["trunk.feature_extractor.conv_layers.0.conv.weight"].any()


def test_frozen_convolutions_have_no_gradient(teacher):
    found = gradients(make_student(teacher, cnn_gradient=0.0))
    assert found["trunk.feature_extractor.conv_layers.0.conv.weight"] is None
    assert found["trunk.encoder.feature_projection.projection.weight"].any()


def test_dropout_is_the_students_own(teacher):
    student = make_student(teacher, dropout=0.5).train()
    wave, num_samples = wave_of(), torch.tensor([8000, 8000])
    assert not torch.equal(student(wave, num_samples).hidden, student(wave, num_samples).hidden)
    student = make_student(teacher, dropout=0.0).train()
    assert torch.equal(student(wave, num_samples).hidden, student(wave, num_samples).hidden)


def test_more_layers_than_the_teacher_has_are_refused(teacher):
    with pytest.raises(UsageError, match=r"student.layers: 4 asked for, the teacher small has 3"):
        make_student(teacher, layers=4)
