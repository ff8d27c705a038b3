"""Probes that read frames: CTC over a text, and the phone of every frame.

Probes are trained on stored frames, read batch by batch, and tested on the frames of each test utterance as it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.data.alignments import AlignedTask, FrameClock, frame_classes
from evaluation.data.labels import FOLDS
from evaluation.data.transcripts import TextTask
from evaluation.data.utterances import TooFewFramesError, keyed_order
from evaluation.measures.error_rates import edit_counts
from evaluation.tasks.dev_choice import best_on_dev
from evaluation.tasks.weighted_sum import LEARNING_RATES, WeightedSum, run_adam, seeded_thread
from manifests.corpus.sample import CLEAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from evaluation.exposure.test_copies import CopyOutcomes
    from evaluation.features import Scaling, UtteranceFeatures
    from evaluation.tasks.frame_store import FrameStore, FrameTask, Role
    from manifests.results.scores import TaskMeasure

UTTERANCES = 16
FRAME_UPDATES = 600
TRIAL_SHARE = 3  # learning rates are tried for a third of the updates
HIDDEN = 256


class FrameClassifier(nn.Module):
    """Weighted sum of states, then one linear layer, or two bidirectional LSTM layers and a linear one.

    Args:
        num_states: States in the sum.
        num_features: Of each.
        num_classes: Of the output.
        is_recurrent: Whether there are LSTM layers between.
    """

    def __init__(self, num_states: int, num_features: int, num_classes: int, *, is_recurrent: bool) -> None:
        super().__init__()
        self.sum = WeightedSum(num_states)
        self.lstm = (
            nn.LSTM(num_features, HIDDEN, num_layers=2, bidirectional=True, batch_first=True) if is_recurrent else None
        )
        self.output = nn.Linear(2 * HIDDEN if is_recurrent else num_features, num_classes)

    def forward(self, states: Tensor, lengths: Sequence[int]) -> Tensor:
        """Shape (batch, frame, state, feature) to (batch, frame, class)."""
        summed = self.sum(states)
        if self.lstm is not None:
            packed = nn.utils.rnn.pack_padded_sequence(
                summed, torch.tensor(list(lengths)), batch_first=True, enforce_sorted=False
            )
            summed, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        logits: Tensor = self.output(summed)
        return logits


@dataclass
class FrameProbes:
    """All probes of one frame-level task on one model.

    Args:
        task: Texts or alignments.
        scaling: Of clean train, shape (state, feature), of the states that the task reads.
        num_layers: Of the model.
        clock: Times of its frames.

    Attributes:
        probes: One for each seed, after `fit`.
        learning_rate: Chosen on dev.
        outcomes: By measure and probe.
    """

    task: FrameTask
    scaling: Scaling
    num_layers: int
    clock: FrameClock
    probes: list[FrameClassifier] = field(default_factory=list)
    learning_rate: float = 0.0
    outcomes: dict[tuple[TaskMeasure, int], CopyOutcomes] = field(default_factory=dict)

    def fit(
        self,
        train: FrameStore,
        dev: FrameStore | None,
        *,
        members: dict[str, str],
        seed: int,
        probes: int,
    ) -> None:
        """Choose the learning rate on clean dev (on a tenth held back of train, where there is none), then train every probe.

        Args:
            train: States of the training utterances.
            dev: The same of dev; None if there is none.
            members: Which copy of each training utterance the probe is trained on.
            seed: Of the evaluation.
            probes: How many.

        Raises:
            TooFewFramesError: If no utterance is long enough, or no frame has a phone.
        """
        keys = [
            key
            for key in keyed_order(self.task.keys("train"), seed=seed, purpose="frames")
            if (key, members[key]) in train.places
        ]
        if not any(self.has_target(key, train.places[key, members[key]][1][1]) for key in keys):
            raise TooFewFramesError(self.task.name, "no frame with something to learn is left to train on")
        dev_keys = [] if dev is None else keyed_order(self.task.keys("dev"), seed=seed, purpose="frames")
        dev_keys = [key for key in dev_keys if dev is not None and (key, CLEAN) in dev.places]
        back = max(1, len(keys) // FOLDS)
        role: Role = "train"
        tested, learned, store = keys[:back], keys[back:] or keys, train
        if dev is not None and dev_keys:
            tested, learned, store, role = dev_keys, keys, dev, "dev"

        def error(rate: float) -> float:
            probe = self.trained(learned, train, members, rate=rate, seed=seed, probe=0, share=TRIAL_SHARE)
            return self.error_rate(probe, tested, store, role=role)

        self.learning_rate = best_on_dev(LEARNING_RATES, error)
        self.probes = [
            self.trained(keys, train, members, rate=self.learning_rate, seed=seed, probe=probe, share=1)
            for probe in range(probes)
        ]

    def has_target(self, key: str, length: int) -> bool:
        """Whether a training utterance of so many frames has something to learn: a text, or a frame with a phone."""
        match self.task:
            case TextTask():
                return True
            case AlignedTask(train=segments):
                return bool((self.classes(segments[key], length) >= 0).any())

    def trained(
        self,
        keys: Sequence[str],
        store: FrameStore,
        members: dict[str, str],
        *,
        rate: float,
        seed: int,
        probe: int,
        share: int,
    ) -> FrameClassifier:
        """One probe at one learning rate, for one `share`-th of its updates."""
        shape = store.states(keys[0], members[keys[0]], self.task.features, num_layers=self.num_layers).shape
        match self.task:
            case TextTask():
                classes, recurrent = len(self.task.units) + 1, self.task.task.head == "blstm"
                updates = self.task.task.updates
            case AlignedTask():
                classes, recurrent, updates = len(self.task.names), False, FRAME_UPDATES
        with seeded_thread(seed, self.task.name, probe) as generator:
            classifier = FrameClassifier(shape[0], shape[2], classes, is_recurrent=recurrent)

            def loss_of() -> Tensor:
                batch = torch.randint(len(keys), (min(UTTERANCES, len(keys)),), generator=generator).tolist()
                chosen = [keys[number] for number in batch]
                states = [self.states(store, key, members[key]) for key in chosen]
                lengths = [len(one) for one in states]
                logits = classifier(nn.utils.rnn.pad_sequence(states, batch_first=True), lengths)
                return self.loss(logits, lengths, chosen)

            run_adam(classifier, loss_of, learning_rate=rate, updates=max(1, updates // share))
        return classifier

    def loss(self, logits: Tensor, lengths: Sequence[int], keys: Sequence[str]) -> Tensor:
        """CTC loss, or cross-entropy of the frames that have a phone."""
        match self.task:
            case TextTask(units=units, train=train):
                number_of = {unit: number for number, unit in enumerate(units, 1)}
                targets = [[number_of[unit] for unit in train[key]] for key in keys]
                return functional.ctc_loss(
                    logits.log_softmax(-1).transpose(0, 1),
                    torch.tensor([number for target in targets for number in target]),
                    torch.tensor(list(lengths)),
                    torch.tensor([len(target) for target in targets]),
                    zero_infinity=True,
                )
            case AlignedTask(train=train):
                rows = [
                    torch.from_numpy(self.classes(train[key], length))
                    for key, length in zip(keys, lengths, strict=True)
                ]
                target = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
                if not bool((target >= 0).any()):
                    return logits.sum() * 0.0
                return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1)

    def states(self, store: FrameStore, key: str, member: str) -> Tensor:
        """Scaled states of one utterance, shape (frame, state, feature)."""
        states = store.states(key, member, self.task.features, num_layers=self.num_layers)
        return self.scaling.scaled(states).transpose(0, 1)

    def classes(self, segments: tuple[tuple[float, float, str], ...], length: int) -> NDArray[np.int64]:
        """The phone of each frame, -1 where there is none."""
        assert isinstance(self.task, AlignedTask)
        return frame_classes(segments, self.task.names, self.clock.times_s(length))

    @torch.no_grad()
    def error_rate(self, probe: FrameClassifier, keys: Sequence[str], store: FrameStore, *, role: Role) -> float:
        """Error rate by the first measure of the task, over clean utterances of one store."""
        wrong = total = 0.0
        for key in keys:
            if (key, CLEAN) not in store.places:
                continue
            states = self.states(store, key, CLEAN)
            if len(states):
                logits = probe(states[None], [len(states)])[0]
                (measure, (count, out_of)), *_ = self.outcome(logits, key, role=role).items()
                wrong += out_of - count if measure == "accuracy" else count
                total += out_of
        return wrong / max(1.0, total)

    @torch.no_grad()
    def test(self, utterance: UtteranceFeatures) -> None:
        """Add the outcomes of one test utterance: of every copy, by every probe."""
        if utterance.key not in self.task.test:
            return
        names = list(utterance.frames)
        states = torch.stack(
            [self.scaling.scaled(utterance.states(name, self.task.features).cpu()).transpose(0, 1) for name in names]
        )
        for number, probe in enumerate(self.probes):
            logits = probe(states, [states.shape[1]] * len(names))
            for row, name in enumerate(names):
                for measure, outcome in self.outcome(logits[row], utterance.key, role="test").items():
                    self.outcomes.setdefault((measure, number), {})[utterance.key, name] = outcome

    def outcome(self, logits: Tensor, key: str, *, role: Role) -> dict[TaskMeasure, tuple[float, float]]:
        """Count and total of one utterance for each measure, from logits of shape (frame, class); dev is chosen on by the first."""
        best = logits.argmax(dim=-1)
        match self.task:
            case TextTask() as task:
                found = [task.units[number - 1] for number in torch.unique_consecutive(best).tolist() if number]
                return edit_counts(task.of(role)[key], found, units=task.task.units)
            case AlignedTask() as task:
                truth = torch.from_numpy(self.classes(task.of(role)[key], len(best)))
                is_known = truth >= 0
                return {"accuracy": (float((best[is_known] == truth[is_known]).sum()), float(is_known.sum()))}
