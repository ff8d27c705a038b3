"""The domain probe: can a newly trained classifier name the domain from the student's layers?

It is fitted on fixed utterances of the training split and tested on fixed ones of dev: other speakers and other noises. So its accuracy
measures what the layers give away; that of the critic in the loop may only show that the student outran it. At step 0 it
says whether there is anything to hide, at each validation whether it is hidden by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from manifests.corpus.sample import CLEAN
from training.data.view_keys import Views
from training.data.views import condition_of
from training.distillation.critic import Critic, critic_input
from training.distillation.domains import domain_classes, domain_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.config.schema import Adversary
    from training.models.encoder import Encoder
    from training.models.student import Student
    from training.validation.utterances import FixedUtterances

VISIBLE_OVER_MAJORITY = 0.10
PROBE_UPDATES = 150
PROBE_RATE = 3e-3
PROBE_DECAY = 1e-2
FRAMES_OF_AN_UTTERANCE = 8


class Accuracy(NamedTuple):
    """Accuracy of a new classifier on held-out utterances.

    Attributes:
        accuracy: Share that it named correctly, where each domain counts as much as any other.
        majority: Share that always naming one domain would get right: one over the number of domains.
    """

    accuracy: float
    majority: float


class LabelledFeatures(NamedTuple):
    """Features of shape (row, feature) and their classes, shape (row,)."""

    features: Tensor
    labels: Tensor


class DomainProbe:
    """Fits a new classifier each time.

    Args:
        adversary: Whose features and domain it takes.
        layers: The student's layers that it reads, counted from 1.
        views: Of the run; they say what the teacher gets, where the domain is `view`.
        fit: Utterances to learn from.
        held_out: Utterances to be tested on.
        seed: Of the run.
    """

    def __init__(
        self,
        adversary: Adversary,
        *,
        layers: tuple[int, ...],
        views: Views,
        fit: FixedUtterances,
        held_out: FixedUtterances,
        seed: int,
    ) -> None:
        self.adversary, self.layers, self.seed = adversary, layers, seed
        self.teacher_gets_copies = views.kind in {"cdm2", "same"}
        self.fit, self.held_out = fit, held_out
        self.copies = [copy for copy in held_out.copies if copy in fit.copies]
        self.classes = self.known_classes()

    def known_classes(self) -> tuple[str, ...]:
        """The domains of what both sets of utterances have; empty if there are fewer than two."""
        conditions = [condition_of(copy) for copy in self.copies if copy != CLEAN]
        if not conditions:
            return ()
        families = {
            family
            for copy in self.copies
            for crops in self.fit.batches
            for family in (self.fit.families(crops, copy) if self.adversary.domain != "view" else ())
        }
        everything = Views(kind="cdm1", clean_share=0.5)
        return domain_classes(self.adversary.domain, everything, conditions, families=families)

    def accuracy(self, student: Student, teacher: Encoder, *, device: torch.device) -> Accuracy | None:
        """How well the domain of held-out utterances is named; None where there are not two domains."""
        if not self.classes:
            return None
        fit, held_out = (self.features(these, student, teacher, device=device) for these in (self.fit, self.held_out))
        return probe_accuracy(fit, held_out, classes=len(self.classes), seed=self.seed)

    def announcement(self) -> str:
        """What is measured before the first step, in one line for a person who waits for it."""
        fit, held_out = (sum(map(len, utterances.batches)) for utterances in (self.fit, self.held_out))
        return (
            f"before the first step: can a new classifier name the domain ({self.adversary.domain}) from {named_layers(self.layers)} of the "
            f"untrained student? It is fitted on {fit} utterances and tested on {held_out} others, each in {len(self.copies)} copies"
        )

    @torch.no_grad()
    def features(
        self, utterances: FixedUtterances, student: Student, teacher: Encoder, *, device: torch.device
    ) -> LabelledFeatures:
        """Features of every copy of some utterances; from the teacher's layers too where the domain is `view`.

        The student runs without dropout, and is left in the mode it was found in.
        """
        domain = self.adversary.domain
        was_training = student.training
        student.eval()
        found: list[LabelledFeatures] = []
        for crops in utterances.batches:
            for copy in self.copies:
                if domain == "view" and copy == CLEAN and self.teacher_gets_copies:
                    continue
                if domain != "view" or copy != CLEAN:
                    wave, num_samples = utterances.waves(crops, copy)
                    families = utterances.families(crops, copy) if domain != "view" else ()
                    labels = domain_labels(domain, self.classes, [copy] * len(crops), families)
                    output = student(wave.to(device), num_samples)
                    layers = [output.layers[layer - 1] for layer in self.layers]
                    found.append(self.labelled(layers, output.num_frames, labels))
                is_stored = utterances.targets is None or utterances.targets.plan.has(copy)
                if domain == "view" and (copy == CLEAN) != self.teacher_gets_copies and is_stored:
                    outputs, num_frames = utterances.teacher_outputs(
                        teacher, crops, copy, only=self.layers, device=device
                    )
                    labels = [self.classes.index("teacher")] * len(crops)
                    found.append(self.labelled(list(outputs.unbind(dim=1)), num_frames, labels))
        student.train(was_training)
        return LabelledFeatures(torch.cat([one.features for one in found]), torch.cat([one.labels for one in found]))

    def labelled(self, layers: Sequence[Tensor], num_frames: Tensor, labels: Sequence[int]) -> LabelledFeatures:
        """Features as the critic of the loop gets them; of frames at most eight an utterance, evenly spaced."""
        kind = self.adversary.features
        if kind == "frames":
            layers, num_frames = evenly_spaced(layers, num_frames)
        given = critic_input(kind, layers, num_frames.tolist(), is_labelled=[label >= 0 for label in labels])
        return LabelledFeatures(given.features.cpu(), torch.tensor(labels)[given.utterance_index])


def evenly_spaced(layers: Sequence[Tensor], num_frames: Tensor) -> tuple[list[Tensor], Tensor]:
    """Eight real frames of each utterance (its first again and again where it has fewer), and how many those are."""
    number = torch.arange(FRAMES_OF_AN_UTTERANCE, device=num_frames.device)
    chosen = number * num_frames[:, None] // FRAMES_OF_AN_UTTERANCE
    picked = [layer.gather(1, chosen[:, :, None].expand(-1, -1, layer.shape[2])) for layer in layers]
    return picked, torch.where(num_frames > 0, FRAMES_OF_AN_UTTERANCE, 0)


def probe_accuracy(fit: LabelledFeatures, held_out: LabelledFeatures, *, classes: int, seed: int) -> Accuracy:
    """Accuracy on held-out rows of a new classifier that was fitted to others.

    Each domain counts as much as any other, in both: there are one clean row and one of each copy an utterance, so with ten conditions
    and the domain `distorted` nine of ten rows have one label, and no classifier could be ten points above always naming it.
    """
    predictions = fitted_predictions(fit, held_out.features, classes=classes, seed=seed)
    every = torch.bincount(held_out.labels, minlength=classes)
    correct = torch.bincount(held_out.labels[predictions == held_out.labels], minlength=classes)
    is_there = every > 0
    return Accuracy(float((correct[is_there] / every[is_there]).mean()), 1 / int(is_there.sum()))


def fitted_predictions(fit: LabelledFeatures, features: Tensor, *, classes: int, seed: int) -> Tensor:
    """Classes that a new classifier predicts for rows, shape (row,), after it was fitted to others on the CPU.

    Features are brought to zero mean and unit variance over the rows it is fitted to, so that the scale of a layer does not
    matter; each class weighs the same; 150 updates on all rows at once, AdamW.
    """
    classifier = Critic(fit.features.shape[1], num_domains=classes, seed=seed, name="fresh critic", standardise=True)
    classifier.fit_scaling(fit.features)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=PROBE_RATE, weight_decay=PROBE_DECAY)
    weight = 1.0 / torch.bincount(fit.labels, minlength=classes).clamp(min=1)
    with torch.enable_grad():
        for _ in range(PROBE_UPDATES):
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(functional.cross_entropy(classifier(fit.features), fit.labels, weight=weight))
            optimiser.step()
    with torch.no_grad():
        predictions: Tensor = classifier(features).argmax(dim=1)
    return predictions


def named_layers(layers: Sequence[int]) -> str:
    """Layers in words."""
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"


def visibility_warning(found: Accuracy, adversary: Adversary, *, layers: Sequence[int]) -> str | None:
    """One line for a person where the domain can hardly be named before training; None where it can."""
    if found.accuracy >= found.majority + VISIBLE_OVER_MAJORITY:
        return None
    return (
        f"before training, a new classifier names the domain ({adversary.domain}) from {named_layers(layers)} of the student correctly in "
        f"{found.accuracy:.0%}, always naming one domain would be in {found.majority:.0%} (each domain counts alike): "
        "there is hardly anything to hide in these layers; choose other adversary.layers, features or domain"
    )
