"""Domain adversarial training: a domain classifier reads the student's hidden layers, the student learns to hide the domain.

The classifier is called the critic, as in the config. Three objectives, all with an optimiser of the critic's own:

* `reversal` (Ganin and Lempitsky, arXiv 1409.7495): between the student's layers and the critic is the identity, whose gradient is
  multiplied by -strength.
* `confusion` (Tzeng et al., arXiv 1510.02192): the student lowers the cross-entropy between the critic's prediction and the uniform
  distribution; that gradient reaches the student alone. Its optimum is a critic at chance, so it cannot outrun the critic.
* `game`: the alternation of the authors' code (arXiv 2210.07978): the critic is updated on detached features, and its loss, times a
  constant, is subtracted from the student's. The critic is trained on a batch right after the student was updated on it; theirs
  right before.

The critic reads hidden layers and never the heads: heads are thrown away after distillation, and hiding a domain from them
would leave it in the features that are used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from manifests.errors import UsageError
from training.data.batch import on_device
from training.distillation.critic import Critic, CriticInput, critic_input, num_inputs
from training.distillation.domains import domain_labels
from training.distillation.optimiser import adamw, spoilt, update_unless
from training.models.encoder import scale_gradient
from training.runs.distributed import ALONE, AllReduce

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.config.schema import Adversary, Optimiser
    from training.data.batch import PairBatch
    from training.models.encoder import Encoder
    from training.models.student import Student, StudentOutput
    from training.runs.distributed import Ranks

GANIN_SLOPE = 10.0


class AdversarialLoss(NamedTuple):
    """What the adversary adds to a micro-batch.

    Attributes:
        term: Added to the student's loss: divided by the utterances of the global batch.
        cross_entropy: The critic's, divided likewise, without gradient; for the journal.
        correct: How many utterances the critic named correctly (a frame counts for its share of an utterance).
        domains: Utterances of each domain, in the order of the classes.
    """

    term: Tensor
    cross_entropy: Tensor
    correct: Tensor
    domains: list[int]


class NoAdversary:
    """Adds nothing, in place of a `DomainAdversary`: for training without an adversary."""

    domains: tuple[str, ...] = ()
    teacher_layers: tuple[int, ...] = ()
    modules: Mapping[str, torch.nn.Module] = {}
    optimisers: Mapping[str, torch.optim.Optimizer] = {}

    def loss(self, output: StudentOutput, *_: object, **__: object) -> AdversarialLoss:
        """Nought."""
        nought = torch.zeros((), device=output.hidden.device)
        return AdversarialLoss(nought, nought, nought, [])

    def update(self, *, is_spoilt: Tensor, **_: object) -> Tensor:
        """Nothing to update; a norm of nought."""
        return torch.zeros_like(is_spoilt)

    def journal_facts(self, **_: float) -> dict[str, float]:
        """None."""
        return {}


class DomainAdversary:
    """The domain classifier (critic) with its optimiser, and the loss by which the student hides the domain.

    Args:
        adversary: Its config.
        domains: Its classes.
        layers: Which hidden layers it reads, counted from 1.
        num_features: Of each.
        optimiser: The student's settings; the learning rate is the adversary's own.
        seed: Of the run.
        device: Where it computes.
        ranks: Those that train together.

    Attributes:
        teacher_layers: The teacher's layers that it compares with the student's, where the domain is `view`.
        modules: What a checkpoint holds of it, by name.
        optimisers: The same.
    """

    def __init__(
        self,
        adversary: Adversary,
        *,
        domains: tuple[str, ...],
        layers: tuple[int, ...],
        num_features: int,
        optimiser: Optimiser,
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.adversary = adversary
        self.domains = domains
        self.layers = layers
        self.teacher_layers = layers if adversary.domain == "view" else ()
        self.clip = optimiser.clip
        size = num_inputs(adversary.features, num_features=num_features, num_layers=len(layers))
        self.critic = Critic(size, num_domains=len(domains), seed=seed, standardise=adversary.standardise).to(device)
        rate = adversary.learning_rate or optimiser.learning_rate
        self.optimiser = adamw(self.critic.parameters(), learning_rate=rate)
        self.modules = {"critic": self.critic}
        self.optimisers = {"critic_optimiser": self.optimiser}
        self.all_reduce = AllReduce(ranks, self.critic.parameters())
        self.inputs: list[tuple[CriticInput, Tensor]] = []
        self.classified = 0  # utterances in them

    def loss(
        self,
        output: StudentOutput,
        batch: PairBatch,
        teacher: Tensor,
        *,
        progress: float,
        num_utterances: int,
        num_frames: Sequence[int] | None = None,
    ) -> AdversarialLoss:
        """The adversarial loss of a micro-batch.

        Args:
            output: The student's.
            batch: Names the copies that the student was given.
            teacher: Outputs of `teacher_layers`, shape (batch, layer, frame, feature).
            progress: Share of the run that is done after this step.
            num_utterances: Of the global batch, those with a frame.
            num_frames: Of each utterance, as known on the host; read from the output by default, which waits for a GPU.
        """
        strength = reversal_strength(self.adversary, progress=progress)
        found = self.sums(
            output,
            batch.student_copies,
            families=batch.student_families,
            strength=strength,
            teacher=teacher.unbind(dim=1) if self.teacher_layers else None,
            num_frames=num_frames,
        )
        count = num_utterances * (2 if self.teacher_layers else 1)
        return found._replace(
            term=found.term / count, cross_entropy=found.cross_entropy / count, correct=found.correct.float()
        )

    def sums(
        self,
        output: StudentOutput,
        copies: Sequence[str],
        *,
        families: Sequence[str] = (),
        strength: float,
        teacher: Sequence[Tensor] | None = None,
        num_frames: Sequence[int] | None = None,
    ) -> AdversarialLoss:
        """The adversarial loss summed over the utterances of a micro-batch that have a frame and a known domain.

        Args:
            output: The student's.
            copies: Which copy the student was given of each utterance.
            families: Of those copies.
            strength: Of the reversal or confusion.
            teacher: The teacher's layers of the same depths, where the domain is `view`.
            num_frames: As of `loss`.
        """
        frames = output.num_frames.tolist() if num_frames is None else num_frames
        domain = np.array(domain_labels(self.adversary.domain, self.domains, copies, families), dtype=np.int64)
        layers = [output.layers[layer - 1] for layer in self.layers]
        given = critic_input(self.adversary.features, layers, frames, is_labelled=domain >= 0)
        given = given._replace(features=self.towards_student(given.features, strength=strength))
        labels = on_device(torch.tensor(domain[given.utterance_index]), given.features.device)
        is_used = (domain >= 0) & (np.asarray(frames) > 0)
        counts = np.bincount(domain[is_used], minlength=len(self.domains))
        if teacher is not None:
            others = critic_input(self.adversary.features, teacher, frames, is_labelled=domain >= 0)
            given = joined(given, others)
            number = self.domains.index("teacher")
            labels = torch.cat([labels, torch.full_like(labels, number)])
            counts[number] += is_used.sum()
        self.inputs.append((given._replace(features=given.features.detach()), labels))
        self.classified += int(counts.sum())
        logits = self.logits(given.features)
        cross_entropy = summed_cross_entropy(logits, labels, given.weight)
        is_correct = logits.argmax(dim=1) == labels
        correct = is_correct.sum() if given.weight is None else (is_correct * given.weight).sum()
        term = self.term(logits, cross_entropy, given.weight, strength=strength)
        return AdversarialLoss(term, cross_entropy.detach(), correct, counts.tolist())

    def towards_student(self, features: Tensor, *, strength: float) -> Tensor:
        """Features as the critic gets them; the gradient that flows back to the student is reversed, but for confusion."""
        return features if self.adversary.objective == "confusion" else reverse_gradient(features, strength)

    def logits(self, features: Tensor) -> Tensor:
        """The critic's logits; but for the reversal, its own weights get no gradient from the student's loss."""
        if self.adversary.objective == "reversal":
            return torch.as_tensor(self.critic(features))
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        return torch.as_tensor(torch.func.functional_call(self.critic, fixed, (features,)))

    def term(self, logits: Tensor, cross_entropy: Tensor, weight: Tensor | None, *, strength: float) -> Tensor:
        """What is added to the student's loss."""
        match self.adversary.objective:
            case "reversal" | "game":
                return cross_entropy
            case "confusion":
                to_uniform = -functional.log_softmax(logits, dim=1).mean(dim=1)
                return strength * (to_uniform if weight is None else to_uniform * weight).sum()
            case _:
                assert_never(self.adversary.objective)

    def update(self, *, is_spoilt: Tensor | None = None, utterances: Tensor | None = None) -> Tensor:
        """Update the critic on a global batch: on the gradients at hand (reversal), else and further on detached features.

        Args:
            is_spoilt: 1 where the student is not updated; then neither is the critic, nor where its own gradient is not finite.
            utterances: Utterances of all ranks that were classified; those of this one by default.

        Returns:
            The norm of its gradient, summed over updates.
        """
        inputs = [(given, labels) for given, labels in self.inputs if len(labels)]
        self.inputs.clear()
        classified, self.classified = self.classified, 0
        nought = torch.zeros((), device=self.critic.first.weight.device)
        is_spoilt = nought if is_spoilt is None else is_spoilt
        share: Tensor | float = 1.0
        if utterances is not None:  # of tensors: a number over a tensor is rounded twice, and one rank's share is 1
            share = torch.full_like(utterances, classified) / utterances.clamp(min=1)
        has_gradient = self.adversary.objective == "reversal"
        norms = nought
        for update in range(self.adversary.critic_steps):
            if inputs and (update or not has_gradient):
                torch.autograd.backward(share * self.mean_loss(inputs))
            self.all_reduce(nought[None])
            norm = torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.clip)
            norms = norms + norm
            update_unless(torch.maximum(is_spoilt, spoilt(norm, norms)), self.optimiser)
            self.optimiser.zero_grad(set_to_none=True)
        return norms

    def mean_loss(self, inputs: Sequence[tuple[CriticInput, Tensor]]) -> Tensor:
        """The critic's cross-entropy over one rank's micro-batches."""
        features = torch.cat([given.features for given, _ in inputs])
        labels = torch.cat([labels for _, labels in inputs])
        weights = [given.weight for given, _ in inputs if given.weight is not None]
        return mean_cross_entropy(self.critic(features), labels, torch.cat(weights) if weights else None)

    def journal_facts(self, *, progress: float) -> dict[str, float]:
        """How strong the reversal or confusion is."""
        return {"reversal": reversal_strength(self.adversary, progress=progress)}


def joined(student: CriticInput, teacher: CriticInput) -> CriticInput:
    """The student's rows, then the teacher's."""
    weight = None if student.weight is None or teacher.weight is None else torch.cat([student.weight, teacher.weight])
    index = np.concatenate([student.utterance_index, teacher.utterance_index])
    return CriticInput(torch.cat([student.features, teacher.features]), index, weight)


def summed_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Cross-entropy summed over utterances."""
    if weight is None:
        return functional.cross_entropy(logits, labels, reduction="sum")
    return (functional.cross_entropy(logits, labels, reduction="none") * weight).sum()


def mean_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Cross-entropy averaged over utterances."""
    if weight is None:
        return functional.cross_entropy(logits, labels)
    return summed_cross_entropy(logits, labels, weight) / weight.sum()


def critic_layers(adversary: Adversary, *, student: Student, teacher: Encoder) -> tuple[int, ...]:
    """Which hidden layers of the student the critic reads, counted from 1.

    Raises:
        UsageError: If the student, or for the domain `view` the teacher, has no such layer, or their widths differ.
    """
    depth = student.config.encoder_num_layers
    layers = (depth,) if adversary.layers == "last" else adversary.layers
    if max(layers) > depth:
        raise UsageError(
            f"adversary.layers: the student has layers 1 to {depth}, not {max(layers)}; choose among those"
        )
    if adversary.domain == "view":
        if max(layers) > teacher.num_layers:
            raise UsageError(
                f"adversary.layers: domain view compares with the teacher's layers, {teacher.name} has 1 to "
                f"{teacher.num_layers}, not {max(layers)}; choose among those"
            )
        if student.config.encoder_embed_dim != teacher.num_features:
            raise UsageError(
                f"adversary.domain: view compares layers of one width, the student's have {student.config.encoder_embed_dim} "
                f"features, those of {teacher.name} {teacher.num_features}: choose condition, family or distorted"
            )
    return layers


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """The same features; their gradient is multiplied by -strength."""
    return scale_gradient(features, -strength)


def reversal_strength(adversary: Adversary, *, progress: float) -> float:
    """How strong the reversal or confusion is when a share `progress` of the run is done."""
    match adversary.schedule:
        case "constant":
            return adversary.strength
        case "ganin":
            return adversary.strength * (2.0 / (1.0 + math.exp(-GANIN_SLOPE * progress)) - 1.0)
        case _:
            assert_never(adversary.schedule)
