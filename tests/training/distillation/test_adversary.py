"""Domain adversarial training."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from manifests.errors import UsageError
from tests.oracles import distiller
from training.config.schema import Adversary, Optimiser
from training.data.view_keys import Views
from training.distillation.adversary import (
    DomainAdversary,
    NoAdversary,
    critic_layers,
    mean_cross_entropy,
    reversal_strength,
    reverse_gradient,
    summed_cross_entropy,
)
from training.distillation.critic import Critic, critic_input, num_inputs, pooled
from training.distillation.domains import (
    OneDomainError,
    conditions_in_training,
    domain_classes,
    domain_labels,
    gets_copies,
)
from training.models.student import Student, StudentOutput
from training.teacher import load_teacher

CPU = torch.device("cpu")
FIRST = "trunk.feature_extractor.conv_layers.0.conv.weight"


def domain_gradients(teacher_folder, strength):
    """Gradients of the critic's loss alone, with the reversal at `strength` or, for None, without it."""
    teacher = load_teacher(teacher_folder)
    student = Student(teacher, layers=2, num_targets=3, dropout=0.0, cnn_gradient=1.0, seed=1)
    critic = Critic(48, num_domains=2, seed=1)
    wave = 0.1 * torch.randn(4, 6000, generator=torch.Generator().manual_seed(3))
    wave[2:] *= 3
    output = student(wave, torch.tensor([6000, 6000, 5000, 4000]))
    features = pooled(output.hidden, output.num_frames)
    logits = critic(features if strength is None else reverse_gradient(features, strength))
    functional.cross_entropy(logits, torch.tensor([0, 0, 1, 1])).backward()
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


def test_pooling_one_frame_has_the_gradient_of_its_mean_alone():
    hidden = torch.ones(1, 1, 4, requires_grad=True)
    pooled(hidden, torch.tensor([1])).sum().backward()
    assert torch.equal(hidden.grad, torch.ones(1, 1, 4)), "a deviation of nought has a slope of nought"


def test_ganins_schedule_rises_from_nothing_to_the_strength():
    adversary = Adversary(strength=0.2)
    assert reversal_strength(adversary, progress=0.0) == 0
    assert reversal_strength(adversary, progress=0.1) == pytest.approx(0.2 * (2 / (1 + math.exp(-1)) - 1))
    assert reversal_strength(adversary, progress=1.0) == pytest.approx(0.2, rel=1e-3)
    assert reversal_strength(Adversary(strength=0.2, schedule="constant"), progress=0.0) == 0.2


def test_classes_are_what_the_student_can_get():
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


NOISE_ALONE = {"conditions": ["noise"], "families": {"noise"}}
TWO = {"conditions": ["noise", "room"], "families": {"noise", "room"}}


@pytest.mark.parametrize(
    ("domain", "views", "corpus", "remedy", "mended", "other"),
    [
        ("condition", Views(), TWO, "set views.kind to cdm1 or cdm2", Views(kind="cdm1"), TWO),
        ("distorted", Views(), TWO, "cdm1 or cdm2 and views.clean_share above 0", Views(kind="cdm2", clean_share=0.1), TWO),
        ("distorted", Views(kind="cdm1"), TWO, "raise views.clean_share above 0", Views(kind="cdm1", clean_share=0.1), TWO),
        ("family", Views(kind="cdm1", clean_share=1), TWO, "lower views.clean_share", Views(kind="cdm1", clean_share=0.9), TWO),
        ("condition", Views(kind="cdm1"), NOISE_ALONE, "raise views.clean_share", Views(kind="cdm1", clean_share=0.1), NOISE_ALONE),
        ("condition", Views(kind="cdm1"), NOISE_ALONE, "more conditions by the corpus", Views(kind="cdm1"), TWO),
        ("family", Views(kind="cdm1"), NOISE_ALONE, "more families of distortions by the corpus", Views(kind="cdm1"), TWO),
    ],
)  # fmt: skip
def test_the_remedy_for_a_single_domain_gives_a_second(domain, views, corpus, remedy, mended, other):
    with pytest.raises(OneDomainError, match=remedy):
        domain_classes(domain, views, **corpus)
    assert len(domain_classes(domain, mended, **other)) >= 2


def test_a_copy_to_which_nothing_was_applied_is_clean_in_every_domain():
    views = Views(kind="cdm1")
    classes = {"condition": ("clean", "double"), "distorted": ("clean", "distorted"), "family": ("clean", "noise")}
    for domain, names in classes.items():
        assert domain_classes(domain, views, ["double"], families={"clean", "noise"}) == names
        copies, families = ["double-0", "double-1", "clean", "double-0"], ["noise", "clean", "clean", "clean"]
        assert domain_labels(domain, names, copies, families) == [1, 0, 0, 0]
    assert domain_labels("view", ("teacher", "student"), ["double-1"], ["clean"]) == [1]


def test_labels_name_the_students_copies():
    copies = ["clean", "room-1", "noise-0"]
    assert domain_labels("condition", ("clean", "noise", "room"), copies) == [0, 2, 1]
    assert domain_labels("distorted", ("clean", "distorted"), copies) == [0, 1, 1]
    assert domain_labels("view", ("teacher", "student"), copies) == [1, 1, 1]
    families = ["clean", "room+noise", "noise"]
    assert domain_labels("family", ("clean", "noise", "room"), copies, families) == [0, -1, 1]


def test_classes_follow_what_views_leave_the_student():
    views = Views.model_validate({"kind": "cdm2", "student": {"conditions": ["noise"], "clean_share": 0.5}})
    assert domain_classes("condition", views, ["room", "noise"]) == ("clean", "noise")
    assert domain_classes("family", Views(kind="cdm2"), [], families={"room", "noise"}) == ("noise", "room")
    with pytest.raises(OneDomainError, match="family needs at least two domains, the student would get: noise"):
        domain_classes("family", Views(kind="cdm2"), ["noise", "music"], families={"noise"})


def adversary_of(*, domains=("clean", "noise"), layers=(1,), clip=5.0, **options):
    return DomainAdversary(
        Adversary.model_validate({"learning_rate": 1e-2, **options}),
        domains=domains,
        layers=layers,
        num_features=8,
        optimiser=Optimiser(clip=clip),
        seed=0,
        device=CPU,
    )


def output_of(hidden, num_frames):
    return StudentOutput(hidden, torch.zeros(0), num_frames, (hidden,))


def two_domains(generator, *, scale=2.0):
    hidden = torch.randn(16, 5, 8, generator=generator)
    hidden[8:] *= scale
    return output_of(hidden, torch.full((16,), 5)), ["clean"] * 8 + ["noise-0"] * 8


def accuracy_after(steps, **options):
    adversary = adversary_of(**options)
    generator = torch.Generator().manual_seed(0)
    right = []
    for _ in range(steps):
        found = adversary.sums(*two_domains(generator), strength=0.0)
        assert found.domains == [8, 8]
        right.append(float(found.correct))
        if found.term.requires_grad:
            torch.autograd.backward(found.term / 16)
        adversary.update()
    return sum(right[-5:]) / 80


@pytest.mark.parametrize("objective", ["reversal", "confusion", "game"])
def test_a_critic_learns_to_name_visible_domains(objective):
    assert accuracy_after(40, objective=objective) > 0.9


def test_a_critic_of_single_frames_counts_an_utterance_once():
    assert 0.6 < accuracy_after(60, features="frames") <= 1


def test_a_critic_that_standardises_sees_what_is_small_beside_the_rest():
    """The domain moves one feature by a thousandth, another is large for all: only a standardising critic learns it soon."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(16, 5, 8, generator=generator) * 1e-4
    hidden[..., 0] += 5
    hidden[8:, :, 1] += 1e-3
    output, copies = output_of(hidden, torch.full((16,), 5)), ["clean"] * 8 + ["noise-0"] * 8
    right = {}
    for standardise in (False, True):
        adversary = adversary_of(standardise=standardise)
        if standardise:
            adversary.critic.fit_scaling(pooled(hidden, output.num_frames))
        for _ in range(30):
            found = adversary.sums(output, copies, strength=0.0)
            torch.autograd.backward(found.term / 16)
            adversary.update()
        right[standardise] = float(found.correct)
    assert right[True] == 16
    assert right[False] < 16


def test_more_steps_of_the_critic_learn_faster_from_the_same_batches():
    assert accuracy_after(8, critic_steps=8) > accuracy_after(8, critic_steps=1)


@pytest.mark.parametrize("objective", ["reversal", "game"])
def test_the_critics_gradient_is_clipped(objective):
    """By plain descent at rate 1 an update moves the weights by the gradient, which is as long as the clip."""
    adversary = adversary_of(objective=objective, clip=1e-3, critic_steps=1)
    before = torch.cat([one.detach().clone().flatten() for one in adversary.critic.parameters()])
    adversary.optimiser = torch.optim.SGD(adversary.critic.parameters(), lr=1.0, fused=True)
    found = adversary.sums(*two_domains(torch.Generator().manual_seed(0)), strength=1.0)
    if objective == "reversal":
        torch.autograd.backward(found.term / 16)
    adversary.update()
    after = torch.cat([one.detach().flatten() for one in adversary.critic.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def student_gradient(adversary, *, strength):
    """What reaches the hidden layer, and whether the critic's own weights got a gradient."""
    hidden = torch.randn(16, 5, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    copies = ["clean"] * 8 + ["noise-0"] * 8
    found = adversary.sums(output_of(hidden, torch.full((16,), 5)), copies, strength=strength)
    torch.autograd.backward(found.term)
    return hidden.grad, [parameter.grad for parameter in adversary.critic.parameters()]


def test_the_game_gives_the_student_minus_the_constant_times_the_critics_gradient_and_the_critic_none():
    by_reversal, critics = student_gradient(adversary_of(), strength=0.3)
    by_game, nothing = student_gradient(adversary_of(objective="game"), strength=0.3)
    torch.testing.assert_close(by_game, by_reversal)
    assert all(gradient is not None for gradient in critics)
    assert all(gradient is None for gradient in nothing)


def test_confusion_draws_the_predictions_to_the_uniform_distribution():
    """By hand: the gradient of -mean(log p) over all classes, times the strength; none to the critic."""
    adversary = adversary_of(objective="confusion")
    found, nothing = student_gradient(adversary, strength=0.3)
    assert all(gradient is None for gradient in nothing)
    hidden = torch.randn(16, 5, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    logits = adversary.critic(pooled(hidden, torch.full((16,), 5)))
    uniform = torch.full_like(logits, 0.5)
    (0.3 * functional.cross_entropy(logits, uniform, reduction="sum")).backward()
    torch.testing.assert_close(found, hidden.grad)


@pytest.mark.parametrize("objective", ["reversal", "confusion", "game"])
def test_hiding_brings_a_fixed_critic_nearer_to_chance(objective):
    """Against a critic that has learned, steps along the student's gradient lower what it knows; confusion stops at chance."""
    adversary = adversary_of(objective=objective)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        adversary.sums(*two_domains(generator), strength=0.0)
        adversary.critic.zero_grad()
        given, labels = adversary.inputs[-1]
        torch.autograd.backward(functional.cross_entropy(adversary.critic(given.features), labels))
        adversary.update()
    output, copies = two_domains(generator)
    hidden = output.hidden.clone().requires_grad_()
    before = float(adversary.sums(output, copies, strength=1.0).cross_entropy)
    mover = torch.optim.Adam([hidden], lr=0.02)
    for _ in range(150):
        mover.zero_grad()
        torch.autograd.backward(adversary.sums(output_of(hidden, output.num_frames), copies, strength=1.0).term)
        mover.step()
    after = float(adversary.sums(output_of(hidden.detach(), output.num_frames), copies, strength=1.0).cross_entropy)
    chance = 16 * math.log(2)
    assert before < 0.5 * chance
    if objective == "confusion":
        assert after == pytest.approx(chance, rel=0.05), "it ends at chance"
    else:
        assert after > 1.5 * chance, "it outruns a critic that is not updated"


def test_an_utterance_without_a_frame_or_a_class_is_not_counted():
    adversary = adversary_of()
    output, copies = two_domains(torch.Generator().manual_seed(0))
    output.num_frames[0] = 0
    copies[15] = "unknown-0"
    assert adversary.sums(output, copies, strength=0.1).domains == [7, 7]


@pytest.mark.parametrize(("kind", "index"), [("pooled", [1, 2]), ("frames", [1, 1, 1, 2])])
def test_an_utterance_without_a_frame_is_no_row(kind, index):
    rows = critic_input(
        kind, [torch.randn(3, 4, 2)], torch.tensor([0, 3, 1]), is_labelled=torch.ones(3, dtype=torch.bool)
    )
    assert rows.utterance_index.tolist() == index
    assert len(rows.features) == len(index)


def test_rows_of_frames_are_the_real_frames_of_all_layers_and_weigh_one_an_utterance():
    layers = [torch.randn(3, 4, 2), torch.randn(3, 4, 2)]
    rows = critic_input("frames", layers, torch.tensor([4, 2, 3]), is_labelled=torch.tensor([True, True, False]))
    assert rows.utterance_index.tolist() == [0, 0, 0, 0, 1, 1]
    assert rows.weight.tolist() == [0.25] * 4 + [0.5] * 2
    assert torch.equal(rows.features[4], torch.cat([layers[0][1, 0], layers[1][1, 0]]))


def test_for_views_the_teachers_layers_are_the_other_class():
    adversary = adversary_of(domains=("teacher", "student"), domain="view")
    output, copies = two_domains(torch.Generator().manual_seed(0))
    hidden = output.hidden.requires_grad_()
    found = adversary.sums(output_of(hidden, output.num_frames), copies, strength=0.5, teacher=[torch.zeros(16, 5, 8)])
    assert found.domains == [16, 16]
    torch.autograd.backward(found.term)
    assert hidden.grad.abs().sum() > 0


def test_a_layer_that_student_or_teacher_lacks_is_one_clear_line(teacher_folder):
    teacher = load_teacher(teacher_folder)
    student = Student(teacher, layers=2, num_targets=3, dropout=0.0, cnn_gradient=1.0, seed=1)
    assert critic_layers(Adversary(), student=student, teacher=teacher) == (2,)
    assert critic_layers(Adversary(layers=(1, 2), domain="view"), student=student, teacher=teacher) == (1, 2)
    with pytest.raises(UsageError, match=r"adversary\.layers: the student has layers 1 to 2, not 3"):
        critic_layers(Adversary(layers=(3,)), student=student, teacher=teacher)


def test_a_critics_share_of_all_ranks_is_of_the_utterances_of_its_own_step():
    """Of 16 utterances of 32 it is a half, by plain descent half as far as alone, in the second step too."""
    moved = []
    for utterances in (16.0, 32.0):
        adversary = adversary_of(objective="game", clip=1e9, critic_steps=1)
        adversary.optimiser = torch.optim.SGD(adversary.critic.parameters(), lr=0.0, fused=True)
        for step in (1, 2):
            before = torch.cat([one.detach().clone().flatten() for one in adversary.critic.parameters()])
            if step == 2:
                adversary.optimiser.param_groups[0]["lr"] = 1e-3
            adversary.sums(*two_domains(torch.Generator().manual_seed(0)), strength=1.0)
            adversary.update(utterances=torch.tensor(utterances))
        moved.append(torch.cat([one.detach().flatten() for one in adversary.critic.parameters()]) - before)
    assert torch.allclose(moved[0], 2 * moved[1], rtol=1e-3, atol=1e-7)
    alone = adversary_of(objective="game", clip=1e9, critic_steps=1)
    alone.optimiser = torch.optim.SGD(alone.critic.parameters(), lr=1e-3, fused=True)
    before = torch.cat([one.detach().clone().flatten() for one in alone.critic.parameters()])
    alone.sums(*two_domains(torch.Generator().manual_seed(0)), strength=1.0)
    alone.update()
    assert torch.allclose(
        torch.cat([one.detach().flatten() for one in alone.critic.parameters()]) - before,
        moved[0],
        rtol=1e-3,
        atol=1e-7,
    )


@pytest.mark.parametrize(
    ("keys", "width", "message"),
    [
        ({"layers": [1, 5]}, 24, "adversary.layers: the student has layers 1 to 4, not 5; choose among those"),
        ({"layers": [4, 2], "domain": "view"}, 32,
         "adversary.layers: domain view compares with the teacher's layers, small has 1 to 3, not 4; choose among those"),
        ({"layers": [3], "domain": "view"}, 24,
         "adversary.domain: view compares layers of one width, the student's have 24 features, those of small 32: choose condition, family or distorted"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_compared_are_named(keys, width, message):
    """A student of four layers, and a teacher of three of 32 features."""
    student = SimpleNamespace(config=SimpleNamespace(encoder_num_layers=4, encoder_embed_dim=width))
    teacher = SimpleNamespace(name="small", num_layers=3, num_features=32)
    with pytest.raises(UsageError) as caught:
        critic_layers(Adversary.model_validate(keys), student=student, teacher=teacher)
    assert str(caught.value) == message


def test_layers_are_those_configured_or_the_students_last():
    student = SimpleNamespace(config=SimpleNamespace(encoder_num_layers=3, encoder_embed_dim=32))
    teacher = SimpleNamespace(name="small", num_layers=3, num_features=32)
    assert critic_layers(Adversary(), student=student, teacher=teacher) == (3,)
    assert critic_layers(Adversary(layers=(2, 1)), student=student, teacher=teacher) == (2, 1)
    assert critic_layers(Adversary(layers=(3, 1), domain="view"), student=student, teacher=teacher) == (3, 1)
    narrow = SimpleNamespace(name="narrow", num_layers=1, num_features=8)
    assert critic_layers(Adversary(layers=(2,)), student=student, teacher=narrow) == (2,)


def test_the_remedy_names_where_copies_are_chosen():
    for keys, where in (
        ({"student": {"conditions": ["noise"]}}, r"views\.student\.conditions"),
        ({"teacher": {"conditions": ["noise"]}}, "the corpus"),
    ):
        views = Views.model_validate({"kind": "cdm2", **keys})
        with pytest.raises(
            OneDomainError,
            match=rf"condition needs .* would get: noise; raise .* or give it more conditions by {where}$",
        ):
            domain_classes("condition", views, ["noise"])


def test_a_critic_is_two_layers_on_scaled_features_drawn_by_seed_and_name():
    rows = torch.tensor([[1.0, 5.0, 0.0], [3.0, 5.0, 4.0], [5.0, 5.0, 2.0]])
    critic = Critic(3, num_domains=2, seed=7, standardise=True)
    assert {name: tuple(one.shape) for name, one in critic.state_dict().items()} == {
        "centre": (3,), "scale": (3,), "first.weight": (256, 3), "first.bias": (256,), "second.weight": (2, 256),
        "second.bias": (2,),
    }  # fmt: skip
    plain = Critic(3, num_domains=2, seed=7)
    assert set(plain.state_dict()) == {"first.weight", "first.bias", "second.weight", "second.bias"}
    torch.testing.assert_close(critic(rows), plain(rows))
    critic.fit_scaling(rows)
    assert critic.centre.tolist() == [3.0, 5.0, 2.0]
    assert critic.scale.tolist() == pytest.approx([2.0, 1e-6, 2.0]), (
        "a feature that is constant is not divided by nought"
    )
    scaled = torch.tensor([[-1.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    hidden = (scaled @ plain.first.weight.T + plain.first.bias).clamp(min=0)
    torch.testing.assert_close(critic(rows), hidden @ plain.second.weight.T + plain.second.bias)
    for other in (Critic(3, num_domains=2, seed=8), Critic(3, num_domains=2, seed=7, name="fresh critic")):
        assert not torch.equal(other.first.weight, plain.first.weight)
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    assert torch.equal(Critic(3, num_domains=2, seed=7).second.weight, plain.second.weight)
    assert torch.equal(torch.get_rng_state(), drawn), "nobody else's random numbers move"


def test_a_constant_layer_has_the_least_deviation_and_each_layer_its_own_columns():
    """By hand: deviations are the root of the variance plus 1e-5; means come before deviations, layer by layer."""
    layers = [torch.full((3, 2, 1), 4.0), torch.tensor([[[1.0], [3.0]], [[9.0], [9.0]], [[2.0], [100.0]]])]
    rows = critic_input("pooled", layers, [2, 2, 1], is_labelled=[True, False, True])
    least = 1e-5**0.5
    assert rows.utterance_index.tolist() == [0, 2]
    assert rows.weight is None
    expected = torch.tensor([[4.0, least, 2.0, (1 + 1e-5) ** 0.5], [4.0, least, 2.0, least]])
    torch.testing.assert_close(rows.features, expected, rtol=1e-5, atol=0)
    assert [num_inputs(kind, num_features=8, num_layers=3) for kind in ("pooled", "frames")] == [48, 24]


def test_frames_weigh_by_their_utterance_in_loss_and_in_what_is_named_correctly():
    """An utterance of one frame weighs as much as one of four; with a critic that is set by hand."""
    adversary = adversary_of(features="frames", objective="confusion")
    hidden = torch.zeros(3, 4, 8)
    with torch.no_grad():
        for parameter in adversary.critic.parameters():
            parameter.zero_()
        adversary.critic.second.bias.copy_(torch.tensor([math.log(3.0), 0.0]))  # 3/4 to 1/4 for every frame
    output = output_of(hidden, torch.tensor([4, 1, 2]))
    found = adversary.sums(output, ["clean", "noise-0", "clean"], strength=0.5)
    assert float(found.correct) == pytest.approx(2.0)
    assert float(found.cross_entropy) == pytest.approx(2 * math.log(4 / 3) + math.log(4))
    assert float(found.term) == pytest.approx(0.5 * 3 * (math.log(4 / 3) + math.log(4)) / 2)
    assert found.domains == [2, 1]
    loss = adversary.mean_loss(adversary.inputs)
    assert float(loss.detach()) == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3)


def pair_batch(copies, families):
    return SimpleNamespace(student_copies=copies, student_families=families)


def test_the_loss_of_a_micro_batch_is_its_share_of_the_global_batch():
    """The same sums over 10 utterances, at the strength of that place in the run; families are those of the batch."""
    options = {"domain": "family", "strength": 0.8, "domains": ("clean", "codec", "noise")}
    one, other = adversary_of(**options), adversary_of(**options)
    output, _ = two_domains(torch.Generator().manual_seed(0))
    copies, families = ["phone-0"] * 8 + ["noise-0"] * 8, ["codec"] * 8 + ["noise"] * 4 + ["clean"] * 4
    hidden = [output.hidden.clone().requires_grad_() for _ in range(2)]
    found = one.loss(
        output_of(hidden[0], output.num_frames), pair_batch(copies, families), torch.zeros(16, 0, 5, 8), progress=0.1,
        num_utterances=10,
    )  # fmt: skip
    strength = 0.8 * math.tanh(0.5)  # Ganin's slope of 10 at a tenth: 2 / (1 + exp(-1)) - 1
    sums = other.sums(output_of(hidden[1], output.num_frames), copies, families=families, strength=strength)
    assert found.domains == sums.domains == [4, 8, 4]
    assert float(found.cross_entropy) == pytest.approx(float(sums.cross_entropy) / 10)
    assert found.correct.dtype == torch.float32
    assert float(found.correct) == float(sums.correct)
    torch.autograd.backward(found.term)
    torch.autograd.backward(sums.term / 10)
    torch.testing.assert_close(hidden[0].grad, hidden[1].grad)


def test_views_of_frames_are_the_students_then_the_teachers_with_their_own_weights():
    """The teacher's classes are at the place of their name, and the mean is over both."""
    adversary = adversary_of(domains=("teacher", "student"), domain="view", features="frames", layers=(2, 1))
    assert adversary.teacher_layers == (2, 1)
    layers = tuple(torch.full((2, 3, 4), float(number)) for number in (1, 2))
    output = StudentOutput(layers[-1], torch.zeros(0), torch.tensor([3, 1]), layers)
    teacher = torch.stack([torch.full((2, 3, 4), 20.0), torch.full((2, 3, 4), 10.0)], dim=1)
    count = {"num_features": 4, "seed": 0, "device": CPU}
    adversary = DomainAdversary(
        adversary.adversary, domains=("teacher", "student"), layers=(2, 1), optimiser=Optimiser(), **count
    )
    found = adversary.loss(
        output, pair_batch(["clean", "noise-0"], ()), teacher, progress=1.0, num_utterances=2, num_frames=[3, 1]
    )
    ((given, labels),) = adversary.inputs
    assert given.utterance_index.tolist() == [0, 0, 0, 1] * 2
    assert given.weight.tolist() == pytest.approx([1 / 3] * 3 + [1.0] + [1 / 3] * 3 + [1.0])
    assert labels.tolist() == [1] * 4 + [0] * 4
    assert given.features[0].tolist() == [2.0] * 4 + [1.0] * 4
    assert given.features[4].tolist() == [20.0] * 4 + [10.0] * 4
    assert (found.domains, adversary.classified) == ([2, 2], 4)
    logits = adversary.critic(given.features).detach().log_softmax(dim=1)
    by_hand = -sum(float(weight * logits[row, labels[row]]) for row, weight in enumerate(given.weight))
    assert float(found.cross_entropy) == pytest.approx(by_hand / 4, rel=1e-5), "of two utterances, twice"


def test_a_gradient_of_the_critic_that_is_not_finite_changes_nothing_and_norms_add_up():
    adversary = adversary_of(objective="game", critic_steps=3, clip=1e9)
    output, copies = two_domains(torch.Generator().manual_seed(0))
    adversary.sums(output, copies, strength=1.0)
    norms = []
    alone = adversary_of(objective="game", critic_steps=1, clip=1e9)
    for _ in range(3):
        alone.sums(output, copies, strength=1.0)
        norms.append(float(alone.update()))
    assert float(adversary.update()) == pytest.approx(sum(norms), rel=1e-5)
    before = [one.detach().clone() for one in adversary.critic.parameters()]
    adversary.sums(output_of(output.hidden * math.nan, output.num_frames), copies, strength=1.0)
    assert not math.isfinite(float(adversary.update()))
    adversary.sums(output, copies, strength=1.0)
    adversary.update(is_spoilt=torch.ones(()))
    assert all(torch.equal(one, other) for one, other in zip(before, adversary.critic.parameters(), strict=True))
    adversary.sums(output, copies, strength=1.0)
    adversary.update()
    assert not torch.equal(before[0], next(adversary.critic.parameters()))


def test_the_critics_rate_is_its_own_or_the_students():
    for own, expected in ((3e-3, 3e-3), (None, 2e-4)):
        made = DomainAdversary(
            Adversary(learning_rate=own), domains=("clean", "noise"), layers=(1,), num_features=8,
            optimiser=Optimiser(learning_rate=2e-4), seed=0, device=CPU,
        )  # fmt: skip
        assert made.optimiser.param_groups[0]["lr"] == expected


def test_without_a_second_domain_the_line_says_what_the_student_would_get_and_what_helps():
    lines = {
        "condition needs at least two domains, the student would get: clean; set views.kind to cdm1 or cdm2": ("condition", Views(), {}),
        "distorted needs at least two domains, the student would get: clean; set views.kind to cdm1 or cdm2 and views.clean_share above 0":
            ("distorted", Views(), {}),
        "family needs at least two domains, the student would get: clean; lower views.clean_share, so that the student gets distorted "
        "speech too": ("family", Views.model_validate({"kind": "cdm1", "clean_share": 0.25, "student": {"clean_share": 0.75}}), {}),
        "distorted needs at least two domains, the student would get: distorted; raise views.clean_share above 0, so that the student "
        "gets clean speech too": ("distorted", Views(kind="cdm2"), {}),
        "family needs at least two domains, the student would get: none; raise views.clean_share above 0, so that the student gets clean "
        "speech too, or give it more families of distortions by the corpus": ("family", Views(kind="cdm2"), {}),
    }  # fmt: skip
    for line, (domain, views, options) in lines.items():
        with pytest.raises(OneDomainError) as caught:
            domain_classes(domain, views, ["noise", "room"], **options)
        assert str(caught.value) == f"adversary.domain: {line}"


def test_without_an_adversary_nothing_is_added_updated_or_journaled():
    nobody = NoAdversary()
    found = nobody.loss(output_of(torch.ones(2, 3, 4), torch.tensor([3, 1])), None, None, progress=0.5)
    assert [float(one) for one in found[:3]] == [0.0] * 3
    assert found.domains == []
    assert float(nobody.update(is_spoilt=torch.ones(()), utterances=None)) == 0
    assert (nobody.journal_facts(progress=1.0), nobody.modules, nobody.optimisers) == ({}, {}, {})
    assert (nobody.domains, nobody.teacher_layers) == ((), ())


def test_cross_entropy_is_that_of_each_row_times_its_weight_and_the_mean_is_over_weights():
    """Rows of probabilities 1/4 and 3/4, 1/2 and 1/2, 0.9 and 0.1."""
    logits = torch.tensor([[1 / 4, 3 / 4], [1 / 2, 1 / 2], [0.9, 0.1]]).log()
    labels, weight = torch.tensor([1, 0, 0]), torch.tensor([1.0, 0.25, 0.5])
    by_hand = [-math.log(3 / 4), math.log(2), -math.log(0.9)]
    weighted = by_hand[0] + 0.25 * by_hand[1] + 0.5 * by_hand[2]
    assert float(summed_cross_entropy(logits, labels, None)) == pytest.approx(sum(by_hand))
    assert float(summed_cross_entropy(logits, labels, weight)) == pytest.approx(weighted)
    assert float(mean_cross_entropy(logits, labels, None)) == pytest.approx(sum(by_hand) / 3)
    assert float(mean_cross_entropy(logits, labels, weight)) == pytest.approx(weighted / 1.75)


def test_conditions_in_training_are_those_of_the_student_by_name():
    views = Views.model_validate(
        {"kind": "cdm2", "student": {"conditions": ["room", "far"]}, "teacher": {"conditions": ["noise"]}}
    )
    assert conditions_in_training(views, ["room", "noise", "codec"]) == ["room"]
    assert conditions_in_training(Views(kind="cdm1"), {"room": 2, "codec": 1}) == ["codec", "room"]


def test_the_student_gets_copies_unless_every_utterance_is_clean_by_one_share_or_the_other():
    for keys, expected in (
        ({"kind": "none"}, False), ({"kind": "cdm1"}, True), ({"kind": "cdm1", "clean_share": 1.0}, False),
        ({"kind": "cdm2", "student": {"clean_share": 1.0}}, False), ({"kind": "cdm2", "teacher": {"clean_share": 1.0}}, True),
        ({"kind": "cdm1", "clean_share": 0.5, "student": {"clean_share": 0.25}}, True),
    ):  # fmt: skip
        assert gets_copies(Views.model_validate(keys)) == expected, keys


def test_a_critics_rows_of_several_micro_batches_are_one_mean_over_all_of_them():
    """Of frames too: weights are side by side as the rows are. Three utterances of 2 frames, then one of 4."""
    adversary = adversary_of(features="frames", objective="game")
    generator = torch.Generator().manual_seed(2)
    for count, frames, copies in ((3, 2, ["clean", "noise-0", "clean"]), (1, 4, ["noise-0"])):
        adversary.sums(
            output_of(torch.randn(count, frames, 8, generator=generator), torch.full((count,), frames)),
            copies,
            strength=1.0,
        )
    rows = torch.cat([given.features for given, _ in adversary.inputs])
    labels = [0, 0, 1, 1, 0, 0, 1, 1, 1, 1]
    logs = adversary.critic(rows).detach().log_softmax(dim=1)
    weights = [0.5] * 6 + [0.25] * 4
    expected = (
        -sum(weight * float(logs[row, label]) for row, (weight, label) in enumerate(zip(weights, labels, strict=True)))
        / 4
    )
    assert float(adversary.mean_loss(adversary.inputs).detach()) == pytest.approx(expected, rel=1e-5)
    assert adversary.classified == 4
