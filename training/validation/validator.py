"""What is measured of a student beside the training losses: the domain probe before the first step, losses and probe at each validation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from manifests.errors import printable
from training.config.schema import Adversary
from training.data.tar_reader import UNREADABLE
from training.distillation.adversary import DomainAdversary, critic_layers
from training.validation.domain_probe import DomainProbe, visibility_warning
from training.validation.loss import validation_losses
from training.validation.utterances import FixedUtterances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from training.config.schema import TrainConfig
    from training.data.corpus import CorpusReader
    from training.data.sampler import Batching
    from training.distillation.adversary import NoAdversary
    from training.models.encoder import Encoder
    from training.models.student import Student
    from training.targets.reader import TargetsReader


class Validator:
    """Measures a student on fixed utterances, the same for every method.

    Without a dev split there are no losses, and the probe's held-out utterances are others of the training split.

    Args:
        config: Of the run.
        reader: Of its corpus.
        student: Measured.
        teacher: Compared with.
        layers: The teacher's, that the student predicts.
        batching: Where and how long crops are.
        targets: The teacher's stored outputs, if they take its place.
        device: Where both are.
        report: Gets lines for a person.

    Attributes:
        has_losses: Whether there is a dev split.
    """

    def __init__(
        self,
        config: TrainConfig,
        reader: CorpusReader,
        student: Student,
        teacher: Encoder,
        layers: tuple[int, ...],
        *,
        batching: Batching,
        targets: TargetsReader | None,
        device: torch.device,
        report: Callable[[str], None],
    ) -> None:
        self.config, self.student, self.teacher, self.layers = config, student, teacher, layers
        self.device, self.report = device, report
        self.has_losses = reader.has_split(config.dev)
        if not self.has_losses:
            report(
                f"{printable(reader.url)} has no split {config.dev!r}: trained without validation, and no best checkpoint is written"
            )
        utterances = functools.partial(
            FixedUtterances,
            reader,
            crop_samples=batching.crop_samples,
            grid=batching.grid,
            targets=targets,
            only_readable=config.damaged_shards > 0,
        )
        count = config.validate_utterances
        if self.has_losses:
            held_out = self.utterances = utterances(split=config.dev, utterances=count)
        else:
            count = min(count, sum(entry.samples for entry in reader.shards(config.split)) // 2)
            held_out = utterances(split=config.split, utterances=count, skip=count)
        adversary = config.adversary or Adversary()
        self.probe = DomainProbe(
            adversary,
            layers=critic_layers(adversary, student=student, teacher=teacher),
            views=config.views,
            fit=utterances(split=config.split, utterances=count),
            held_out=held_out,
            seed=config.seed,
        )

    def before_training(self, adversary: DomainAdversary | NoAdversary) -> Iterator[dict[str, Any]]:
        """Fit the critic's scaling, and measure whether the untrained student has anything to hide: facts for the journal."""
        if not isinstance(adversary, DomainAdversary) or not self.probe.classes:
            return
        if adversary.adversary.standardise:
            features = self.probe.features(self.probe.fit, self.student, self.teacher, device=self.device).features
            adversary.critic.fit_scaling(features)
        self.report(self.probe.announcement())
        found = self.probe.accuracy(self.student, self.teacher, device=self.device)
        if found is None:
            return
        warning = visibility_warning(found, adversary.adversary, layers=adversary.layers)
        facts = {"domain_visible": found.accuracy, "domain_visible_majority": found.majority}
        yield {**facts, **({"warning": warning} if warning is not None else {})}
        if warning is not None:
            self.report(warning)

    def measure(self, step: int) -> dict[str, Any]:
        """The losses on dev and the accuracy of the domain probe; or a warning where shards cannot be read."""
        student, teacher = self.student, self.teacher
        try:
            found: dict[str, Any] = validation_losses(
                self.utterances,
                student,
                teacher,
                layers=self.layers,
                weights=self.config.loss,
                standardise=self.config.teacher.standardise,
                device=self.device,
            )
            domain = self.probe.accuracy(student, teacher, device=self.device)
        except UNREADABLE as problem:
            if not self.config.damaged_shards:
                raise
            self.report(f"step {step} is not validated: {problem}")
            return {"warning": str(problem)}
        if domain is not None:
            found |= {"domain_fresh": domain.accuracy, "domain_fresh_majority": domain.majority}
        return found
