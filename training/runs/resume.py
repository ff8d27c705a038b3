"""The checkpoints of a run in training: written, and restored on every rank when it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from manifests.errors import StillroomError, printable
from training.data.sampler import ORDER
from training.runs.checkpoint import (
    Mark,
    module_tensors,
    optimiser_tensors,
    read_tensors,
    restore_module,
    restore_optimiser,
    whole_checkpoints,
    write_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import nn, optim

    from training.models.encoder import EncoderConfig
    from training.runs.distributed import Ranks


class OtherRunsCheckpointError(StillroomError, ValueError):
    """A checkpoint in a run's folder is not this run's."""

    def __init__(self, run: Path, *, stem: str, why: str) -> None:
        super().__init__(
            f"{printable(run)}: the checkpoint {stem} is of another run ({printable(why)}): take it out, or go on with the folder "
            "that it came from; nothing was overwritten"
        )


class OtherOrderError(StillroomError, ValueError):
    """A run was begun when its batches came in another order."""

    def __init__(self, run: Path, *, found: int) -> None:
        super().__init__(
            f"{printable(run)} was begun with the batches in another order (version {found}, this Stillroom has {ORDER}): let the "
            "Stillroom that began it finish it, or start a new run in another folder"
        )


@dataclass(frozen=True)
class Checkpoints:
    """Writes and restores what a run is made of.

    Attributes:
        run: Its folder.
        modules: By name: the student, and the critic if there is one.
        optimisers: By name, likewise.
        encoder: Shape of the student.
        run_sha256: Digest that names the run; None on ranks that do not write, and for runs of a Stillroom that gave none.
        facts: What a report says of the student.
    """

    run: Path
    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, optim.Optimizer]
    encoder: EncoderConfig
    run_sha256: str | None
    facts: Mapping[str, Any]

    def write(self, folder: Literal["checkpoints", "best"], *, training_audio: Mapping[str, Any], **mark: Any) -> None:
        """Write everything, or for `best` the student alone.

        Args:
            folder: Of the run.
            training_audio: How much the student was trained on, and how long it took.
            **mark: Step, cursor, sums, counts and best loss, as of `Mark`.
        """
        if folder == "best":
            tensors = module_tensors(student=self.modules["student"])
        else:
            tensors = module_tensors(**self.modules) | optimiser_tensors(**self.optimisers)
        write_checkpoint(
            self.run / folder,
            tensors,
            most=2 if folder == "checkpoints" else 1,
            encoder=self.encoder,
            run_sha256=self.run_sha256,
            facts={**self.facts, **training_audio},
            **mark,
        )

    def restore(self, ranks: Ranks, *, steps: int, report: Callable[[str], None]) -> Mark | None:
        """Fill everything from the newest whole checkpoint; None if there is none. Rank 0 reads it and sends it to the others.

        Args:
            ranks: Those that train together.
            steps: Of the whole run.
            report: Gets a line if a checkpoint is torn.

        Raises:
            OtherRunsCheckpointError: If it is another run's.
            OtherOrderError: If the run is not done, and its batches came in another order.
        """
        found = newest_checkpoint(self.run, run_sha256=self.run_sha256, report=report) if ranks.is_first else None
        plain = ranks.broadcast(found[1].plain() if found is not None else None)
        if plain is None:
            return None
        mark = Mark.parse(plain, where=self.run)
        if mark.order != ORDER and mark.step < steps:
            raise OtherOrderError(self.run, found=mark.order)
        tensors = ranks.broadcast_tensors(read_tensors(found[0]) if found is not None else None)
        try:
            for name, module in self.modules.items():
                restore_module(module, tensors, prefix=name)
            for name, optimiser in self.optimisers.items():
                restore_optimiser(optimiser, tensors, prefix=name)
        except (RuntimeError, ValueError, KeyError) as problem:
            why = " ".join(str(problem).split())
            raise OtherRunsCheckpointError(self.run, stem=f"step-{mark.step:09d}", why=why) from None
        return mark


def newest_checkpoint(run: Path, *, run_sha256: str | None, report: Callable[[str], None]) -> tuple[Path, Mark] | None:
    """The newest whole checkpoint; None if there is none. Torn ones are named in one line.

    Raises:
        OtherRunsCheckpointError: If it is another run's.
    """
    torn: list[str] = []
    found = next(whole_checkpoints(run / "checkpoints", torn=torn), None)
    if torn:
        instead = f"goes on from step {found[1].step}" if found is not None else "starts from the beginning"
        report(f"{printable(run)}: torn checkpoint {', '.join(torn)} left aside; {instead}")
    if found is None:
        return None
    path, mark = found
    if run_sha256 is not None and mark.run_sha256 is not None and mark.run_sha256 != run_sha256:
        why = f"it says {mark.run_sha256[:12]}, provenance.json {run_sha256[:12]}"
        raise OtherRunsCheckpointError(run, stem=path.stem, why=why)
    return found
