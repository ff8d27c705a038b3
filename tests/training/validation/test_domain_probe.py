"""Which rows the domain probe is fitted to, with which labels, and how its classifier is fitted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from training.config.schema import Adversary
from training.data.view_keys import Views
from training.distillation.critic import Critic
from training.validation.domain_probe import (
    DomainProbe,
    LabelledFeatures,
    evenly_spaced,
    fitted_predictions,
    named_layers,
)

CPU = torch.device("cpu")
NUMBERS = {"clean": 1.0, "noise-0": 2.0, "room-0": 3.0}
FAMILY = {"clean": "clean", "noise-0": "sound", "room-0": "echo"}


def fixed(copies=tuple(NUMBERS), *, batches=(("a", "b"), ("c",)), targets=None, requests=None):
    """A wave of a copy is its number; the teacher's layer k of it is 100 + number + k / 10, over two of three frames."""

    def teacher_outputs(teacher, crops, copy, *, only, device):
        if requests is not None:
            requests.append((teacher, copy, only, device))
        layers = [100 + NUMBERS[copy] + layer / 10 for layer in only]
        values = torch.tensor(layers)[None, :, None, None].repeat(len(crops), 1, 3, 2)
        values[:, :, 2] = -1000  # no real frame
        return values, torch.tensor([2] * len(crops))

    return SimpleNamespace(
        batches=list(batches),
        copies=list(copies),
        targets=targets,
        waves=lambda crops, copy: (torch.full((len(crops), 4), NUMBERS[copy]), torch.tensor([4] * len(crops))),
        families=lambda crops, copy: [FAMILY[copy]] * len(crops),
        teacher_outputs=teacher_outputs,
    )


class OfNumbers(torch.nn.Module):
    """A student whose layer k of a wave is its number + k / 10, over two of three frames."""

    def forward(self, wave, num_samples):
        assert not self.training
        assert num_samples.tolist() == [4] * len(wave)
        layers = [wave[:, :1, None].expand(-1, 3, 2).clone() + layer / 10 for layer in (1, 2, 3)]
        for layer in layers:
            layer[:, 2] = -1000
        return SimpleNamespace(layers=layers, num_frames=torch.tensor([2] * len(wave)))


def probe_of(fit=None, *, kind="cdm2", layers=(3, 1), held_out=None, **adversary):
    fit = fit or fixed()
    views = Views(kind=kind)
    settings = Adversary.model_validate(adversary)
    return DomainProbe(settings, layers=layers, views=views, fit=fit, held_out=held_out or fit, seed=5)


def rows_of(probe, utterances):
    """(means of the layers that are read, class) of each row."""
    found = probe.features(utterances, OfNumbers(), "teacher", device=CPU)
    assert found.features.shape[1] == 8  # two layers of two features, their means and deviations
    means = found.features[:, [0, 4]].tolist()
    return [
        (*(round(one, 3) for one in row), probe.classes[label]) for row, label in zip(means, found.labels, strict=True)
    ]


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("condition", {"clean": "clean", "noise-0": "noise", "room-0": "room"}),
        ("family", {"clean": "clean", "noise-0": "sound", "room-0": "echo"}),
        ("distorted", {"clean": "clean", "noise-0": "distorted", "room-0": "distorted"}),
    ],
)
def test_the_student_is_given_every_copy_with_its_label(domain, names):
    found = rows_of(probe_of(domain=domain), fixed())
    expected = [
        (round(NUMBERS[copy] + 0.3, 3), round(NUMBERS[copy] + 0.1, 3), names[copy])
        for count in (2, 1)
        for copy in NUMBERS
        for _ in range(count)
    ]
    assert found == expected


@pytest.mark.parametrize(("kind", "teachers"), [("cdm2", ["noise-0", "room-0"]), ("cdm1", ["clean"])])
def test_by_views_the_student_is_given_copies_and_the_teacher_what_it_gets_in_training(kind, teachers):
    requests = []
    probe = probe_of(domain="view", kind=kind)
    found = rows_of(probe, fixed(requests=requests))
    expected = []
    for count in (2, 1):
        for copy, number in NUMBERS.items():
            if copy != "clean":
                expected += [(round(number + 0.3, 3), round(number + 0.1, 3), "student")] * count
            if copy in teachers:
                expected += [(round(100 + number + 0.3, 3), round(100 + number + 0.1, 3), "teacher")] * count
    assert found == expected
    assert requests == [("teacher", copy, (3, 1), CPU) for copy in teachers] * 2


def test_of_a_teacher_whose_outputs_are_stored_only_those_copies_are_taken():
    stored = SimpleNamespace(plan=SimpleNamespace(has=lambda copy: copy == "room-0"))
    found = rows_of(probe_of(domain="view"), fixed(targets=stored))
    assert {first for first, _, name in found if name == "teacher"} == {103.3}
    assert {first for first, _, name in found if name == "student"} == {2.3, 3.3}


def test_without_two_domains_nothing_is_measured():
    alone = fixed(copies=("clean",))
    probe = probe_of(alone)
    assert (probe.classes, probe.accuracy(OfNumbers(), "teacher", device=CPU)) == ((), None)
    assert probe_of(fixed(), held_out=alone).classes == ()
    assert probe_of(fixed()).classes == ("clean", "noise", "room")


def test_an_announcement_counts_the_utterances_of_both_sets():
    fit, held_out = fixed(), fixed(copies=("clean", "room-0"), batches=(("a", "b"), ("c",), ("d", "e")))
    assert probe_of(fit, held_out=held_out, layers=(1, 3), domain="family").announcement() == (
        "before the first step: can a new classifier name the domain (family) from layers 1, 3 of the untrained student? It is fitted on 3 "
        "utterances and tested on 5 others, each in 2 copies"
    )
    assert (named_layers((4,)), named_layers((4, 2))) == ("layer 4", "layers 4, 2")


def test_rows_of_frames_have_their_utterances_label_and_those_without_one_are_left_out():
    probe = probe_of(features="frames", layers=(1,))
    layer = torch.arange(12.0).view(3, 4, 1)
    found = probe.labelled([layer], torch.tensor([4, 2, 3]), [2, -1, 0])
    assert found.labels.tolist() == [2] * 8 + [0] * 8
    assert found.features[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 8, 9, 9, 9, 10, 10]
    pooled = probe_of(layers=(1,)).labelled([layer], torch.tensor([4, 0, 3]), [2, 1, 0])
    assert pooled.labels.tolist() == [2, 0]
    assert pooled.features[:, 0].tolist() == [1.5, 9.0]


def test_eight_frames_are_picked_of_however_few():
    layers = [torch.arange(10.0)[None, :, None].repeat(3, 1, 1) + shift for shift in (0, 100)]
    (first, second), num_frames = evenly_spaced(layers, torch.tensor([10, 3, 1]))
    assert first[:, :, 0].tolist() == [[0, 1, 2, 3, 5, 6, 7, 8], [0, 0, 0, 1, 1, 1, 2, 2], [0] * 8]
    assert torch.equal(second, first + 100)
    assert num_frames.tolist() == [8, 8, 8]


def test_a_classifier_is_fitted_by_150_updates_on_all_rows_each_class_weighing_the_same():
    """Written out: of many rows some are so near a boundary between classes that one update less would move them across."""
    generator = torch.Generator().manual_seed(0)
    rows = 3.0 + 2.0 * torch.randn(60, 5, generator=generator)
    labels = (torch.arange(60) % 6 == 0).long() * 2  # class 1 has no row
    others = 3.0 + 2.0 * torch.randn(60_000, 5, generator=generator)
    model = Critic(5, num_domains=3, seed=9, name="fresh critic")
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.01)
    mean, deviation = rows.mean(dim=0), rows.std(dim=0)
    weight = torch.tensor([1 / 50, 1.0, 1 / 10])
    for _ in range(150):
        loss = functional.cross_entropy(model((rows - mean) / deviation), labels, weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        expected = model((others - mean) / deviation).argmax(dim=1)
    found = fitted_predictions(LabelledFeatures(rows, labels), others, classes=3, seed=9)
    assert int((found != expected).sum()) <= 2
    assert 6000 < int((found == 2).sum()) < 54_000
