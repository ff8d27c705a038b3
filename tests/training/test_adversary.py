"""Domain adversarial training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.oracles import distiller
from training.adversary import (
    Critic,
    OneDomainError,
    Opponent,
    domain_classes,
    domain_labels,
    pooled,
    reversal_strength,
    reverse_gradient,
)
from training.config import Adversary, Optimiser
from training.student import Student
from training.teacher import load_teacher
from training.views import Views

CPU = torch.device("cpu")
FIRST = "trunk.feature_extractor.conv_layers.0.conv.weight"


def domain_gradients(teacher_folder, strength):
    """Gradients of the critic's loss alone, with the reversal at `strength` or, for None, without it."""
    teacher = load_teacher(teacher_folder)
    student = Student(teacher, layers=2, num_targets=3, dropout=0.0, cnn_gradient=1.0, seed=1)
    critic = Critic(24, hidden=16, num_domains=2, seed=1)
    wave = 0.1 * torch.randn(4, 6000, generator=torch.Generator().manual_seed(3))
    wave[2:] *= 3
    heard = student(wave, torch.tensor([6000, 6000, 5000, 4000]))
    features = pooled(heard.hidden, heard.num_frames)
    answers = critic(features if strength is None else reverse_gradient(features, strength))
    functional.cross_entropy(answers, torch.tensor([0, 0, 1, 1])).backward()
    return (
        {name: parameter.grad for name, parameter in student.named_parameters()},
        {name: parameter.grad for name, parameter in critic.named_parameters()},
    )


def test_the_reversed_gradient_is_minus_strength_times_the_plain_one_down_to_the_first_layer(teacher_folder):
    plain, plain_critic = domain_gradients(teacher_folder, None)
    reversed_, reversed_critic = domain_gradients(teacher_folder, 0.3)
    assert plain[FIRST].abs().max() > 1e-6
    for name, gradient in plain.items():
        if gradient is not None:
            torch.testing.assert_close(reversed_[name], -0.3 * gradient, rtol=1e-3, atol=1e-7)
    for name, gradient in plain_critic.items():
        torch.testing.assert_close(reversed_critic[name], gradient)


def test_the_critic_does_not_reach_the_heads(teacher_folder):
    gradients, _ = domain_gradients(teacher_folder, 0.3)
    assert all(gradient is None for name, gradient in gradients.items() if name.startswith("heads."))


def test_pooling_takes_mean_and_deviation_of_real_frames():
    hidden = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    num_frames = torch.tensor([6, 3, 1])
    expected = distiller.statistics(hidden.numpy(), num_frames.tolist())
    np.testing.assert_allclose(pooled(hidden, num_frames).numpy(), expected, atol=1e-5)
    hidden[1, 3:] = 1e6
    np.testing.assert_allclose(pooled(hidden, num_frames).numpy(), expected, atol=1e-5)


def test_pooling_one_frame_has_a_finite_gradient():
    hidden = torch.ones(1, 1, 4, requires_grad=True)
    pooled(hidden, torch.tensor([1])).sum().backward()
    assert torch.isfinite(hidden.grad).all()


def test_ganins_schedule_rises_from_nothing_to_the_strength():
    adversary = Adversary(strength=0.2)
    assert reversal_strength(adversary, progress=0.0) == 0
    assert reversal_strength(adversary, progress=0.1) == pytest.approx(0.2 * (2 / (1 + math.exp(-1)) - 1))
    assert reversal_strength(adversary, progress=1.0) == pytest.approx(0.2, rel=1e-3)
    assert reversal_strength(Adversary(strength=0.2, schedule="constant"), progress=0.0) == 0.2


def test_classes_are_what_the_student_can_hear():
    views = Views(kind="cdm1", clean_share=0.1)
    assert domain_classes("condition", views, ["room", "noise"]) == ("clean", "noise", "room")
    assert domain_classes("condition", Views(kind="cdm2"), ["room", "noise"]) == ("noise", "room")
    assert domain_classes("distorted", views, ["noise"]) == ("clean", "distorted")
    assert domain_classes("view", Views(), []) == ("teacher", "student")


@pytest.mark.parametrize(
    ("domain", "views"),
    [
        ("condition", Views()),
        ("condition", Views(kind="cdm1")),
        ("distorted", Views(kind="cdm2")),
        ("distorted", Views()),
    ],
)
def test_a_single_domain_is_one_clear_line(domain, views):
    with pytest.raises(OneDomainError, match="needs at least two domains") as caught:
        domain_classes(domain, views, ["noise"])
    assert "\n" not in str(caught.value)


def test_labels_name_what_was_heard():
    copies = ["clean", "room-1", "noise-0"]
    assert domain_labels("condition", ("clean", "noise", "room"), copies).tolist() == [0, 2, 1]
    assert domain_labels("distorted", ("clean", "distorted"), copies).tolist() == [0, 1, 1]
    assert domain_labels("view", ("teacher", "student"), copies).tolist() == [1, 1, 1]


def opponent(**options):
    return Opponent(
        Adversary(**{"hidden": 32, "learning_rate": 1e-2, **options}),
        domains=("clean", "noise"),
        num_features=8,
        optimiser=Optimiser(),
        seed=0,
        device=CPU,
    )


def two_domains(generator):
    hidden = torch.randn(16, 5, 8, generator=generator)
    hidden[8:] *= 2
    return hidden, torch.full((16,), 5), ["clean"] * 8 + ["noise-0"] * 8


def accuracy_after(steps, **options):
    judge = opponent(**options)
    generator = torch.Generator().manual_seed(0)
    right = []
    for _ in range(steps):
        judgement = judge.judge(*two_domains(generator), strength=0.0, teacher=None)
        assert judgement.asked == [8, 8]
        right.append(int(judgement.right))
        torch.autograd.backward(judgement.loss / 16)
        judge.update()
    return sum(right[-5:]) / 80


def test_a_critic_learns_to_tell_visible_domains_apart():
    assert accuracy_after(40) > 0.9


def test_more_steps_of_the_critic_learn_faster_from_the_same_batches():
    assert accuracy_after(8, critic_steps=8) > accuracy_after(8, critic_steps=1)


def test_an_utterance_without_a_frame_is_not_judged():
    judge = opponent()
    hidden, num_frames, copies = two_domains(torch.Generator().manual_seed(0))
    num_frames[0] = 0
    assert judge.judge(hidden, num_frames, copies, strength=0.1, teacher=None).asked == [7, 8]


def test_for_views_the_teachers_layer_is_the_other_class():
    judge = Opponent(
        Adversary(domain="view"),
        domains=("teacher", "student"),
        num_features=8,
        optimiser=Optimiser(),
        seed=0,
        device=CPU,
    )
    hidden, num_frames, copies = two_domains(torch.Generator().manual_seed(0))
    hidden.requires_grad_()
    judgement = judge.judge(hidden, num_frames, copies, strength=0.5, teacher=torch.zeros(16, 5, 8))
    assert judgement.asked == [16, 16]
    torch.autograd.backward(judgement.loss)
    assert hidden.grad.abs().sum() > 0
