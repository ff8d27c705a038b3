"""Domain adversarial training: a critic names the domain of what the student heard, the student learns to hide it.

Three objectives, all with the critic's own optimiser:

* `reversal` (Ganin and Lempitsky, arXiv 1409.7495): between the student's layers and the critic stands the identity, whose
  gradient is multiplied by -strength.
* `confusion` (Tzeng et al., arXiv 1510.02192): the student lowers the cross-entropy between the critic's answer and the uniform
  distribution; that gradient reaches the student alone. Its optimum is a critic at chance, so it cannot outrun the critic.
* `game`: the alternation of the authors' code (arXiv 2210.07978): every `critic_every` steps the critic is updated on
  detached features; every step the student's loss has the critic's, times a constant, taken away. The critic meets a batch
  right after the student was updated on it; theirs right before.

The critic reads hidden layers and never the heads: heads are thrown away after distillation, and hiding a domain from them
would leave it in the features that are kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional

from manifests.errors import UsageError
from training.distillation.critic import Critic, CriticRows, critic_rows, row_size
from training.distillation.domains import domain_labels
from training.distillation.optimiser import adamw
from training.models.encoder import scale_gradient
from training.runs.distributed import ALONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config.schema import Adversary, Optimiser
    from training.models.encoder import Encoder
    from training.models.student import Heard, Student
    from training.runs.distributed import Ranks

GANIN_SLOPE = 10.0


class Judgement(NamedTuple):
    """What the critic made of a micro-batch.

    Attributes:
        loss: Its cross-entropy, summed over judged utterances, without gradient; for the journal.
        term: What is added to the student's loss, summed likewise.
        right: How many utterances it named rightly (frames count for their share of an utterance).
        asked: Utterances of each domain, in the order of the classes.
    """

    loss: Tensor
    term: Tensor
    right: Tensor
    asked: list[int]


class Opponent:
    """The critic with its own optimiser, which keeps pace with the student so that the reversal does not outrun it.

    Args:
        adversary: How it is asked to be.
        domains: Its classes.
        layers: Which hidden layers it reads, counted from 1.
        num_features: Of each.
        optimiser: The student's settings; the learning rate is the adversary's own.
        seed: Of the run.
        device: Where it computes.
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
    ) -> None:
        self.adversary = adversary
        self.domains = domains
        self.layers = layers
        self.clip = optimiser.clip
        size = row_size(adversary.features, num_features=num_features, num_layers=len(layers))
        self.critic = Critic(
            size, hidden=adversary.hidden, num_domains=len(domains), seed=seed, standardise=adversary.standardise
        ).to(device)
        rate = adversary.learning_rate or optimiser.learning_rate
        self.optimiser = adamw(self.critic.parameters(), optimiser, learning_rate=rate)
        self.judged: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def judge(
        self,
        heard: Heard,
        copies: Sequence[str],
        *,
        families: Sequence[str] = (),
        strength: float,
        teacher: Sequence[Tensor] | None = None,
    ) -> Judgement:
        """Name the domain of each utterance of a micro-batch; utterances without a frame are not asked about.

        Args:
            heard: What the student made of it.
            copies: Which copy the student heard of each.
            families: Of those copies.
            strength: Of the reversal or confusion.
            teacher: The teacher's layers of the same depths, where the domain is `view`.
        """
        named = domain_labels(self.adversary.domain, self.domains, copies, families).to(heard.num_frames.device)
        rows = critic_rows(
            self.adversary.features,
            [heard.layers[layer - 1] for layer in self.layers],
            heard.num_frames,
            asked=named >= 0,
        )
        voices = named[named.ge(0) & (heard.num_frames > 0)]
        rows = rows._replace(features=self.hidden_from(rows.features, strength=strength))
        labels = named[rows.voices]
        if teacher is not None:
            own = critic_rows(self.adversary.features, teacher, heard.num_frames, asked=named >= 0)
            rows = joined_rows(rows, own)
            place = self.domains.index("teacher")
            labels = torch.cat([labels, torch.full_like(labels, place)])
            voices = torch.cat([voices, torch.full_like(voices, place)])
        self.judged.append((rows.features.detach(), labels, rows.weight))
        answers = self.answers(rows.features)
        loss = summed_cross_entropy(answers, labels, rows.weight)
        is_right = answers.argmax(dim=1) == labels
        right = is_right.sum() if rows.weight is None else (is_right * rows.weight).sum()
        asked = torch.bincount(voices, minlength=len(self.domains)).tolist()
        return Judgement(loss.detach(), self.term(answers, loss, rows.weight, strength=strength), right, asked)

    def hidden_from(self, features: Tensor, *, strength: float) -> Tensor:
        """Features as the critic gets them; what flows back to the student is reversed unless it is confused instead."""
        return features if self.adversary.objective == "confusion" else reverse_gradient(features, strength)

    def answers(self, features: Tensor) -> Tensor:
        """Logits; but for the reversal, the critic's own weights get no gradient from the student's loss."""
        if self.adversary.objective == "reversal":
            return torch.as_tensor(self.critic(features))
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        return torch.as_tensor(torch.func.functional_call(self.critic, fixed, (features,)))

    def term(self, answers: Tensor, loss: Tensor, weight: Tensor | None, *, strength: float) -> Tensor:
        """What is added to the student's loss."""
        match self.adversary.objective:
            case "reversal" | "game":
                return loss
            case "confusion":
                surprise = -functional.log_softmax(answers, dim=1).mean(dim=1)
                return strength * (surprise if weight is None else surprise * weight).sum()
            case _:
                assert_never(self.adversary.objective)

    def update(self, step: int, *, ranks: Ranks = ALONE) -> None:
        """Update the critic on a global batch: on the gradients at hand (reversal), else and further on detached features.

        Args:
            step: Of the student, from 1; the critic rests unless `critic_every` divides it.
            ranks: Each has judged a part of the batch.
        """
        judged = [rows for rows in self.judged if len(rows[1])]
        self.judged.clear()
        if step % self.adversary.critic_every:
            self.optimiser.zero_grad(set_to_none=True)
            return
        here = float(sum(len(labels) if weight is None else weight.sum() for _, labels, weight in judged))
        share = here / max(ranks.sums({"judged": here})["judged"], 1e-9)
        at_hand = self.adversary.objective == "reversal"
        for update in range(self.adversary.critic_steps):
            if judged and (update or not at_hand):
                torch.autograd.backward(share * self.mean_loss(judged))
            ranks.sum_gradients(self.critic.parameters())
            torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.clip)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)

    def mean_loss(self, judged: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> Tensor:
        """The critic's cross-entropy over rows of one rank's micro-batches."""
        features = torch.cat([features for features, _, _ in judged])
        labels = torch.cat([labels for _, labels, _ in judged])
        weights = [weight for _, _, weight in judged if weight is not None]
        return mean_cross_entropy(self.critic(features), labels, torch.cat(weights) if weights else None)


def joined_rows(rows: CriticRows, others: CriticRows) -> CriticRows:
    """The rows of the student, then those of the teacher."""
    weight = None if rows.weight is None or others.weight is None else torch.cat([rows.weight, others.weight])
    return CriticRows(torch.cat([rows.features, others.features]), torch.cat([rows.voices, others.voices]), weight)


def summed_cross_entropy(answers: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Cross-entropy summed over utterances."""
    if weight is None:
        return functional.cross_entropy(answers, labels, reduction="sum")
    return (functional.cross_entropy(answers, labels, reduction="none") * weight).sum()


def mean_cross_entropy(answers: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Cross-entropy averaged over utterances."""
    if weight is None:
        return functional.cross_entropy(answers, labels)
    return summed_cross_entropy(answers, labels, weight) / weight.sum()


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
