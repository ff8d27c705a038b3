"""What an evaluation takes, before it is run: audio that each model processes, and frames on disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from evaluation.extraction import stored_features
from evaluation.features import state_slice
from evaluation.tasks.frame_store import stored_bytes
from manifests.errors import NoSpaceLeftError, StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from evaluation.extraction import EvaluationSetup
    from evaluation.models import InspectedModel


class NotEnoughSpaceError(NoSpaceLeftError):
    """A disk that cannot hold the frames of one model."""

    def __init__(self, folder: Path, *, needed: int, free: int) -> None:
        StillroomError.__init__(
            self,
            f"{printable(folder)}: frames of one model take {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free on its disk: choose "
            "results on a larger disk, or features: last for the tasks ctc and frames, or fewer layers for abx",
        )


def frame_bytes(models: Mapping[str, InspectedModel], setup: EvaluationSetup) -> int:
    """Most bytes of frames that are on disk at once: those of the largest model, removed before the next is measured."""
    return max((probed_bytes(model, setup) + compared_bytes(model, setup) for model in models.values()), default=0)


def probed_bytes(model: InspectedModel, setup: EvaluationSetup) -> int:
    """Bytes of the frames that probes are trained and chosen on."""
    stored = stored_features(setup.tasks)
    if stored is None:
        return 0
    return stored_bytes(
        [
            setup.dataset.of(role)[key].sample.num_samples
            for role, members in setup.plan.frames.items()
            for key, _ in members
        ],
        num_frames=model.clock.num_frames,
        num_states=len(range(model.facts.layers + model.num_heads)[state_slice(stored, num_layers=model.facts.layers)]),
        width=model.num_features,
    )


def compared_bytes(model: InspectedModel, setup: EvaluationSetup) -> int:
    """Bytes of the frames that ABX compares, at most: those of each token, clean and in each condition."""
    if setup.plan.abx is None:
        return 0
    rate_hz, members = setup.dataset.sample_rate, 1 + len(setup.dataset.conditions)
    return stored_bytes(
        [round((token.end_s - token.start_s) * rate_hz) for context in setup.plan.abx.contexts for token in context],
        num_frames=lambda num_samples: members * (num_samples // model.clock.hop + 1),
        num_states=len(setup.config.layers or range(model.facts.layers)),
        width=model.num_features,
    )


def check_disk(folder: Path, needed: int, *, log: Callable[[str], None]) -> None:
    """Report the space that frames take while a model is measured.

    Raises:
        NotEnoughSpaceError: If the disk of the results has less.
    """
    if needed == 0:
        return
    place = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    log(
        f"frames of one model at a time take {needed / 1e9:.3g} GB in {printable(folder)}, {free / 1e9:.3g} GB are free"
    )
    if needed > free:
        raise NotEnoughSpaceError(folder, needed=needed, free=free)
