"""Can the domain be seen in the student's layers? A fresh critic is asked, which has played against nobody.

It is fitted on fixed utterances of the training split and asked about fixed ones of dev: other speakers and other noises. So
its accuracy tells what the layers give away, where that of the critic in the loop may only tell that it was outrun. Asked at
step 0 it tells whether there is anything to hide, asked at each validation whether it is hidden by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError
from training.data.views import Views, condition_of
from training.distillation.critic import Critic, critic_rows
from training.distillation.domains import domain_classes, domain_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.config.schema import Adversary
    from training.models.encoder import Encoder
    from training.models.student import Heard, Student
    from training.validation.utterances import Panel

VISIBLE_OVER_MAJORITY = 0.10
PROBE_UPDATES = 150
PROBE_RATE = 3e-3
PROBE_DECAY = 1e-2
FRAMES_OF_AN_UTTERANCE = 8


class NotVisibleError(UsageError):
    """The critic cannot see the domain in the layers it reads, so there is nothing to hide."""

    def __init__(self, warning: str) -> None:
        super().__init__(f"{warning} (adversary.require_visible)")


class Seen(NamedTuple):
    """What a fresh critic saw in held-out utterances.

    Attributes:
        accuracy: Share that it named rightly, where each domain counts as much as any other.
        majority: Share that always giving one answer would name rightly: one of the number of domains.
    """

    accuracy: float
    majority: float


class Rows(NamedTuple):
    """Features of shape (row, feature) and their classes, shape (row,)."""

    features: Tensor
    labels: Tensor


class FreshCritic:
    """Asks a critic that is new each time.

    Args:
        adversary: Whose features, domain and width it takes.
        layers: The student's layers that it reads, counted from 1.
        views: Of the run; they say what the teacher hears, where the domain is `view`.
        fit: Utterances to learn from.
        held_out: Utterances to be asked about.
        seed: Of the run.
    """

    def __init__(
        self, adversary: Adversary, *, layers: tuple[int, ...], views: Views, fit: Panel, held_out: Panel, seed: int
    ) -> None:
        self.adversary, self.layers, self.seed = adversary, layers, seed
        self.teacher_hears_copies = views.kind in {"cdm2", "same"}
        self.fit, self.held_out = fit, held_out
        self.copies = [copy for copy in held_out.copies if copy in fit.copies]
        self.classes = self.known_classes()

    def known_classes(self) -> tuple[str, ...]:
        """The domains of what both panels have; empty if there are fewer than two."""
        conditions = [condition_of(copy) for copy in self.copies if copy != CLEAN]
        if not conditions:
            return ()
        families = {
            family
            for copy in self.copies
            for crops in self.fit.batches
            for family in (self.fit.families(crops, copy) if self.adversary.domain == "family" else ())
        }
        everything = Views(kind="cdm1", clean_share=0.5)
        return domain_classes(self.adversary.domain, everything, conditions, families=families)

    def seen(self, student: Student, teacher: Encoder, *, device: torch.device) -> Seen | None:
        """How well the domain of held-out utterances is named; None where there are not two domains."""
        if not self.classes:
            return None
        fit, held_out = (self.rows(panel, student, teacher, device=device) for panel in (self.fit, self.held_out))
        return seen_in(fit, held_out, hidden=self.adversary.hidden, classes=len(self.classes), seed=self.seed)

    def question(self) -> str:
        """What is asked before the first step, in one line for a person who waits for it."""
        learning, asked = (sum(map(len, panel.batches)) for panel in (self.fit, self.held_out))
        return (
            f"before the first step: can a critic of its own name the domain ({self.adversary.domain}) from {named_layers(self.layers)} of the "
            f"untrained student? It learns from {learning} utterances and is asked about {asked} others, each in {len(self.copies)} copies"
        )

    @torch.no_grad()
    def rows(self, panel: Panel, student: Student, teacher: Encoder, *, device: torch.device) -> Rows:
        """Rows of every copy of a panel; of the teacher's layers too where the domain is `view`.

        The student hears without dropout, and is left in the mode it was found in.
        """
        domain = self.adversary.domain
        was_training = student.training
        student.eval()
        found: list[Rows] = []
        for crops in panel.batches:
            for copy in self.copies:
                if domain == "view" and copy == CLEAN and self.teacher_hears_copies:
                    continue
                if domain != "view" or copy != CLEAN:
                    wave, num_samples = panel.waves(crops, copy)
                    families = panel.families(crops, copy) if domain == "family" else ()
                    labels = domain_labels(domain, self.classes, [copy] * len(crops), families)
                    found.append(self.labelled(student(wave.to(device), num_samples), labels))
                kept = panel.targets is None or panel.targets.plan.has(copy)
                if domain == "view" and (copy == CLEAN) != self.teacher_hears_copies and kept:
                    outputs, num_frames = panel.taught(teacher, crops, copy, only=self.layers, device=device)
                    labels = torch.full((len(crops),), self.classes.index("teacher"))
                    found.append(self.picked(list(outputs.unbind(dim=1)), num_frames, labels))
        student.train(was_training)
        return Rows(torch.cat([rows.features for rows in found]), torch.cat([rows.labels for rows in found]))

    def labelled(self, heard: Heard, labels: Tensor) -> Rows:
        """Rows of the student's layers."""
        return self.picked([heard.layers[layer - 1] for layer in self.layers], heard.num_frames, labels)

    def picked(self, layers: Sequence[Tensor], num_frames: Tensor, labels: Tensor) -> Rows:
        """Rows as the critic of the loop gets them; of frames at most eight an utterance, evenly spaced."""
        kind = self.adversary.features
        if kind == "frames":
            layers, num_frames = evenly_spaced(layers, num_frames)
        rows = critic_rows(kind, layers, num_frames, asked=labels >= 0)
        return Rows(rows.features.cpu(), labels[rows.voices.cpu()])


def evenly_spaced(layers: Sequence[Tensor], num_frames: Tensor) -> tuple[list[Tensor], Tensor]:
    """Eight real frames of each utterance (its first again and again where it has fewer), and how many those are."""
    place = torch.arange(FRAMES_OF_AN_UTTERANCE, device=num_frames.device)
    chosen = place * num_frames[:, None] // FRAMES_OF_AN_UTTERANCE
    picked = [layer.gather(1, chosen[:, :, None].expand(-1, -1, layer.shape[2])) for layer in layers]
    return picked, torch.where(num_frames > 0, FRAMES_OF_AN_UTTERANCE, 0)


def seen_in(fit: Rows, asked: Rows, *, hidden: int, classes: int, seed: int) -> Seen:
    """What a new critic that was fitted to rows sees in others.

    Each domain counts as much as any other, in both: a panel has one clean row and one of each copy an utterance, so that of ten conditions
    and the domain `distorted` nine of ten rows have one answer, and no critic could be ten points above giving it.
    """
    answers = fitted_answers(fit, asked.features, hidden=hidden, classes=classes, seed=seed)
    every = torch.bincount(asked.labels, minlength=classes)
    right = torch.bincount(asked.labels[answers == asked.labels], minlength=classes)
    is_asked = every > 0
    return Seen(float((right[is_asked] / every[is_asked]).mean()), 1 / int(is_asked.sum()))


def fitted_answers(fit: Rows, asked: Tensor, *, hidden: int, classes: int, seed: int) -> Tensor:
    """Classes that a new critic gives to rows, shape (row,), after it was fitted to others on the CPU.

    Features are brought to zero mean and unit variance over the rows it is fitted to, so that layers of any scale are seen
    alike; each class weighs the same; 150 updates on all rows at once, AdamW.
    """
    critic = Critic(
        fit.features.shape[1], hidden=hidden, num_domains=classes, seed=seed, name="fresh critic", standardise=True
    )
    critic.settle(fit.features)
    optimiser = torch.optim.AdamW(critic.parameters(), lr=PROBE_RATE, weight_decay=PROBE_DECAY)
    weight = 1.0 / torch.bincount(fit.labels, minlength=classes).clamp(min=1)
    with torch.enable_grad():
        for _ in range(PROBE_UPDATES):
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(functional.cross_entropy(critic(fit.features), fit.labels, weight=weight))
            optimiser.step()
    with torch.no_grad():
        answers: Tensor = critic(asked).argmax(dim=1)
    return answers


def named_layers(layers: Sequence[int]) -> str:
    """Layers in words."""
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"


def invisible(seen: Seen, adversary: Adversary, *, layers: Sequence[int]) -> str | None:
    """One line for a person where the domain can hardly be seen before training; None where it can.

    Raises:
        NotVisibleError: If the config requires that it can.
    """
    if seen.accuracy >= seen.majority + VISIBLE_OVER_MAJORITY:
        return None
    line = (
        f"before training, a critic names the domain ({adversary.domain}) from {named_layers(layers)} of the student rightly in "
        f"{seen.accuracy:.0%}, always giving one answer in {seen.majority:.0%} (each domain counts alike): "
        "this critic can hardly see what it is to hide; choose other adversary.layers, features or domain"
    )
    if adversary.require_visible:
        raise NotVisibleError(line)
    return line
