"""Frames of training and dev utterances on disk, for the probes that read frames.

At most `MOST_TRAIN` training and `MOST_DEV` dev utterances are stored, in half precision, so neither memory nor disk grows with the
corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from evaluation.data.alignments import AlignedTask
from evaluation.data.transcripts import TextTask
from evaluation.data.utterances import keyed_order
from evaluation.features import state_slice
from manifests.corpus.sample import CLEAN
from manifests.io.atomic import full_disk_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from io import BufferedWriter
    from pathlib import Path

    from torch import Tensor

    from evaluation.config import Features
    from evaluation.features import UtteranceFeatures

MOST_TRAIN = 3000  # ten hours of LibriSpeech: 34 GB of all layers of HuBERT base
MOST_DEV = 200
NUMBER_BYTES = 2
LARGEST = 65504.0  # of a half-precision number
PROTOCOL = {"train": MOST_TRAIN, "dev": MOST_DEV, "bits": 8 * NUMBER_BYTES}
"""What decides scores beside the config: part of the protocol, so that scores by other numbers are not mixed with these."""

FrameTask = TextTask | AlignedTask
Role = Literal["train", "dev", "test"]


def limited(task: FrameTask, *, seed: int) -> FrameTask:
    """A task with at most `MOST_TRAIN` training and `MOST_DEV` dev utterances, chosen by keyed hash; it notes what it leaves out."""
    parts: tuple[tuple[Mapping[str, Any], int], ...] = ((task.train, MOST_TRAIN), (task.dev, MOST_DEV))
    train, dev = (
        {key: labels[key] for key in keyed_order(labels, seed=seed, purpose="frames")[:most]} for labels, most in parts
    )
    notes = task.notes
    if len(train) < len(task.train):
        notes = (*notes, f"{task.name}: trained on {len(train)} of its {len(task.train)} utterances, chosen by hash")
    limited_task: FrameTask = replace(cast("Any", task), train=train, dev=dev, notes=notes)
    return limited_task


def stored_members(tasks: Iterable[object], chosen: Mapping[str, str]) -> dict[str, frozenset[tuple[str, str]]]:
    """Sample key and member of all frames that the probes of some tasks are trained or chosen on, by role.

    Args:
        tasks: As limited; those that do not read frames need none.
        chosen: By sample key, the copy that a probe on distorted speech is trained on.
    """
    train: set[tuple[str, str]] = set()
    dev: set[tuple[str, str]] = set()
    for task in tasks:
        if isinstance(task, TextTask | AlignedTask):
            train |= {(key, chosen[key] if task.probe == "distorted" else CLEAN) for key in task.train}
            dev |= {(key, CLEAN) for key in task.dev}
            if not task.dev:  # the learning rate is chosen on clean training utterances
                train |= {(key, CLEAN) for key in task.train}
    return {"train": frozenset(train), "dev": frozenset(dev)}


def stored_bytes(num_samples: Iterable[int], *, num_frames: Callable[[int], int], num_states: int, width: int) -> int:
    """Size of the frames of some members on disk.

    Args:
        num_samples: Length of each member.
        num_frames: Number of frames of so many samples.
        num_states: Stored states: 1 for one layer, the layers for `sum`, layers and heads for `sum+heads`.
        width: Features of a state.
    """
    return NUMBER_BYTES * num_states * width * sum(map(num_frames, num_samples))


@dataclass
class FrameStore:
    """States of utterances in one file, by sample key and member, float16 of shape (state, frame, feature).

    Args:
        path: A new file; the caller removes it.
        features: Which states are stored.
    """

    path: Path
    features: Features
    places: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    stream: BufferedWriter | None = None
    size: int = 0

    def add(self, utterance: UtteranceFeatures, member: str) -> None:
        """Write one member's states."""
        states = utterance.states(member, self.features).cpu().clamp(-LARGEST, LARGEST).half().contiguous()
        with full_disk_named(self.path):
            if self.stream is None:
                self.stream = self.path.open("wb")
            written = self.stream.write(states.numpy().tobytes())
        self.places[utterance.key, member] = self.size, tuple(states.shape)
        self.size += written

    def close(self) -> None:
        """Flush and close the file; nothing is added after that."""
        if self.stream is not None:
            self.stream.close()

    def states(self, key: str, member: str, features: Features, *, num_layers: int) -> Tensor:
        """States of one utterance, those that the features name."""
        self.close()
        offset, shape = self.places[key, member]
        values = np.fromfile(self.path, dtype=np.float16, count=int(np.prod(shape)), offset=offset)
        states = torch.from_numpy(values.astype(np.float32).reshape(shape))
        return states if len(states) == 1 else states[state_slice(features, num_layers=num_layers)]
