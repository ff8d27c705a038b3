"""Domain adversarial training: a critic names the domain of what the student heard, the student learns to hide it.

By gradient reversal (Ganin and Lempitsky, arXiv 1409.7495): between the student's last transformer layer and the critic stands
the identity, whose gradient is multiplied by -strength. The critic reads that layer and never the heads: heads are thrown away
after distillation, and hiding a domain from them would leave it in the features that are kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifests.errors import UsageError, printable
from manifests.sample import CLEAN
from training.encoder import scale_gradient
from training.losses import real_frames
from training.order import named_number
from training.schedules import adamw
from training.student import SEED_RANGE
from training.views import condition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config import Adversary, Optimiser
    from training.views import Views

VARIANCE_FLOOR = 1e-5
GANIN_SLOPE = 10.0

Domain = Literal["condition", "distorted", "view"]


class Judgement(NamedTuple):
    """What the critic made of a micro-batch.

    Attributes:
        loss: Cross-entropy, summed over judged rows; the gradient to the student is reversed.
        right: How many rows it named rightly.
        asked: Rows of each domain, in the order of the classes.
    """

    loss: Tensor
    right: Tensor
    asked: list[int]


class OneDomainError(UsageError):
    """A critic with a single domain has nothing to tell apart."""

    def __init__(self, domain: str, *, found: Sequence[str]) -> None:
        remedy = {
            "distorted": "set views.clean_share between 0 and 1, so that the student hears clean and distorted speech",
            "condition": "use a corpus with more conditions, raise views.clean_share above 0, or set views.kind to cdm1 or cdm2",
        }.get(domain, "choose another domain")
        shown = ", ".join(printable(name) for name in found) or "none"
        super().__init__(
            f"adversary.domain: {domain} needs at least two domains, the student would hear: {shown}; {remedy}"
        )


def domain_classes(domain: Domain, views: Views, conditions: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes that the critic tells apart, in the order of its outputs.

    Args:
        domain: What the critic names.
        views: What the student hears.
        conditions: Conditions of the split.

    Raises:
        OneDomainError: If there are fewer than two.
    """
    hears_clean = views.kind == "none" or views.clean_share > 0
    hears_copies = views.kind != "none" and views.clean_share < 1
    match domain:
        case "view":
            return ("teacher", "student")
        case "condition":
            classes = ((CLEAN,) if hears_clean else ()) + (tuple(sorted(conditions)) if hears_copies else ())
        case "distorted":
            classes = ((CLEAN,) if hears_clean else ()) + (("distorted",) if hears_copies else ())
        case _:
            assert_never(domain)
    if len(classes) < 2:
        raise OneDomainError(domain, found=classes)
    return classes


def domain_labels(domain: Domain, classes: Sequence[str], copies: Sequence[str]) -> Tensor:
    """The class of what the student heard of each utterance, shape (batch,), int64.

    Args:
        domain: What the critic names.
        classes: From `domain_classes`.
        copies: Which copy the student heard of each utterance.
    """
    match domain:
        case "view":
            names = ["student"] * len(copies)
        case "condition":
            names = [condition_of(copy) for copy in copies]
        case "distorted":
            names = [CLEAN if copy == CLEAN else "distorted" for copy in copies]
        case _:
            assert_never(domain)
    return torch.tensor([classes.index(name) for name in names], dtype=torch.int64)


def pooled(hidden: Tensor, num_frames: Tensor) -> Tensor:
    """Mean and standard deviation over each utterance's real frames.

    Args:
        hidden: Shape (batch, frame, feature).
        num_frames: Shape (batch,).

    Returns:
        Shape (batch, 2 * feature), float32; means first.
    """
    hidden = hidden.float()
    weight = real_frames(num_frames, hidden.shape[1])[:, :, None] / num_frames.clamp(min=1)[:, None, None]
    mean = (hidden * weight).sum(dim=1)
    variance = ((hidden - mean[:, None]).square() * weight).sum(dim=1)
    return torch.cat([mean, torch.sqrt(variance + VARIANCE_FLOOR)], dim=1)


class Critic(nn.Module):
    """Two layers: pooled features in, one logit a domain out.

    Args:
        num_features: Of the student's last layer; pooled features are twice as many.
        hidden: Width.
        num_domains: Classes.
        seed: Of its first weights.
    """

    def __init__(self, num_features: int, *, hidden: int, num_domains: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_number(seed, "critic") % SEED_RANGE)
            self.first = nn.Linear(2 * num_features, hidden)
            self.second = nn.Linear(hidden, num_domains)

    def forward(self, features: Tensor) -> Tensor:
        """Shape (batch, 2 * feature) to (batch, domain)."""
        return torch.as_tensor(self.second(torch.relu(self.first(features))))


class Opponent:
    """The critic with its own optimiser, which keeps pace with the student so that the reversal does not outrun it.

    Args:
        adversary: How it is asked to be.
        domains: Its classes.
        num_features: Of the student's last layer.
        optimiser: The student's settings; the learning rate is the adversary's own.
        seed: Of the run.
        device: Where it computes.
    """

    def __init__(
        self,
        adversary: Adversary,
        *,
        domains: tuple[str, ...],
        num_features: int,
        optimiser: Optimiser,
        seed: int,
        device: torch.device,
    ) -> None:
        self.adversary = adversary
        self.domains = domains
        self.clip = optimiser.clip
        self.critic = Critic(num_features, hidden=adversary.hidden, num_domains=len(domains), seed=seed).to(device)
        rate = adversary.learning_rate or optimiser.learning_rate
        self.optimiser = adamw(self.critic.parameters(), optimiser, learning_rate=rate)
        self.judged: list[tuple[Tensor, Tensor]] = []

    def judge(
        self, hidden: Tensor, num_frames: Tensor, copies: Sequence[str], *, strength: float, teacher: Tensor | None
    ) -> Judgement:
        """Name the domain of each utterance of a micro-batch; utterances without a frame are not asked about.

        Args:
            hidden: The student's last layer, shape (batch, frame, feature).
            num_frames: Shape (batch,).
            copies: Which copy the student heard of each.
            strength: Of the reversal.
            teacher: The teacher's layer of the same depth, where the domain is `view`.
        """
        has_frames = num_frames > 0
        labels = domain_labels(self.adversary.domain, self.domains, copies)[has_frames.cpu()]
        features = reverse_gradient(pooled(hidden, num_frames)[has_frames], strength)
        if teacher is not None:
            features = torch.cat([features, pooled(teacher, num_frames)[has_frames]])
            labels = torch.cat([labels, torch.full_like(labels, self.domains.index("teacher"))])
        asked = torch.bincount(labels, minlength=len(self.domains)).tolist()
        labels = labels.to(hidden.device)
        answers = self.critic(features)
        self.judged.append((features.detach(), labels))
        right = (answers.argmax(dim=1) == labels).sum()
        return Judgement(functional.cross_entropy(answers, labels, reduction="sum"), right, asked)

    def update(self) -> None:
        """One step on the gradients at hand, then the further ones on the same global batch."""
        features = torch.cat([features for features, _ in self.judged])
        labels = torch.cat([labels for _, labels in self.judged])
        self.judged.clear()
        for further in range(self.adversary.critic_steps):
            if further and len(labels):
                torch.autograd.backward(functional.cross_entropy(self.critic(features), labels))
            torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.clip)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """The same features; their gradient is multiplied by -strength."""
    return scale_gradient(features, -strength)


def reversal_strength(adversary: Adversary, *, progress: float) -> float:
    """How strong the reversal is when a share `progress` of the run is done."""
    match adversary.schedule:
        case "constant":
            return adversary.strength
        case "ganin":
            return adversary.strength * (2.0 / (1.0 + math.exp(-GANIN_SLOPE * progress)) - 1.0)
        case _:
            assert_never(adversary.schedule)
