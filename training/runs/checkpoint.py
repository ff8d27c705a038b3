"""Checkpoints without pickle: tensors in a safetensors file, the rest in the JSON beside it, written last.

`checkpoints/step-000002500.safetensors` holds student, heads, critic and optimiser states by name;
`checkpoints/step-000002500.json` its digest, the cursor of the order, the journal's sums and what is needed to rebuild the
student. The JSON is the mark: without it, or with another digest, a checkpoint is torn and the one before it serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import safetensors.torch
import torch
from pydantic import Field, model_validator

from manifests.errors import BadDocumentError, MissingFileError, NewerSchemaError, StillroomError, printable
from manifests.io.atomic import write_bytes
from manifests.io.digest import bytes_digest, file_digest
from manifests.io.place import local_path
from manifests.io.records import Document, Sha256
from training.data.sampler import ORDER
from training.models.encoder import Encoder, EncoderConfig
from training.models.native_format import filled, read_safetensors, trained_on_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor, nn

TRUNK_PREFIX = "student.trunk."
HEADS_PREFIX = "student.heads."
MOST_COUNTED = 2**48  # batches and steps: more cannot be a count, and would overflow


class Mark(Document):
    """The JSON of a checkpoint.

    Attributes:
        step: Updates done.
        cursor: Epoch, window and batch of the next global batch.
        order: Which order that is a place in (`training.data.sampler.ORDER`); version 1 of the document knew only the first.
        sha256: Of the safetensors file.
        encoder: Shape of the student.
        sums: Of the journal line that is being filled.
        counts: Of the whole run: audio seconds, utterances, seconds of work.
        best_loss: Lowest validation loss so far.
        run_sha256: Digest that names the run, from its `provenance.json`.
        facts: Of the student, for a report.
    """

    SCHEMA: ClassVar[str] = "stillroom/checkpoint/2"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    step: Annotated[int, Field(ge=0)]
    cursor: Annotated[tuple[int, int, int], Field(strict=False)]
    order: Annotated[int, Field(ge=1, le=MOST_COUNTED)] = 1
    sha256: Sha256
    encoder: EncoderConfig
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    best_loss: float | None = None
    run_sha256: Sha256 | None = None
    facts: dict[str, Any] = {}

    @model_validator(mode="after")
    def check_counts(self) -> Self:
        """Step and cursor are counts."""
        if not all(0 <= count < MOST_COUNTED for count in (self.step, *self.cursor)):
            raise ValueError(f"step and cursor are counts, from 0 to below {MOST_COUNTED}")
        return self


class NoCheckpointError(StillroomError, FileNotFoundError):
    """A run has no checkpoint of the wanted kind."""

    def __init__(self, run: Path, *, folder: str) -> None:
        remedy = (
            "it was trained without a validation split; use checkpoint: last"
            if folder == "best" and (run / "checkpoints").exists()
            else "train it first: stillroom train CONFIG RUN"
        )
        super().__init__(f"{printable(run)} has no whole checkpoint in {folder}/: {remedy}")


def module_tensors(**modules: nn.Module | None) -> dict[str, Tensor]:
    """Parameters of several modules by `<module>.<name>`, on the CPU; None has none."""
    return {
        f"{prefix}.{name}": tensor.detach().to("cpu").contiguous()
        for prefix, module in modules.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }


def optimiser_tensors(**optimisers: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """States of several optimisers by `<optimiser>.<parameter>.<name>`, on the CPU."""
    return {
        f"{prefix}.{number}.{name}": torch.as_tensor(value).detach().to("cpu").contiguous()
        for prefix, optimiser in optimisers.items()
        if optimiser is not None
        for number, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_module(module: nn.Module, tensors: Mapping[str, Tensor], *, prefix: str) -> None:
    """Fill a module from a checkpoint's tensors."""
    start = f"{prefix}."
    module.load_state_dict(
        {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    )


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, prefix: str) -> None:
    """Fill an optimiser's state from a checkpoint's tensors."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        owner, _, rest = name.partition(".")
        number, _, key = rest.partition(".")
        if owner == prefix:
            state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], *, most: int = 2, **mark: Any) -> None:
    """Write a checkpoint, then remove all but the newest; before it, what a killed process left of one.

    Args:
        folder: `checkpoints/` or `best/`.
        tensors: By name, on the CPU.
        most: How many stay.
        **mark: Fields of `Mark` but its digest.

    Raises:
        NoSpaceLeftError: If the disk is full; the checkpoints before it stay.
    """
    for part in folder.glob(".step-*.part"):  # the run's lock is held: nobody else writes here
        part.unlink(missing_ok=True)
    content = safetensors.torch.save(tensors)
    stem = f"step-{mark['step']:09d}"
    (folder / f"{stem}.json").unlink(missing_ok=True)  # a mark is never beside another's tensors
    write_bytes(folder / f"{stem}.safetensors", content)
    written = {"schema": Mark.SCHEMA, "order": ORDER, "sha256": bytes_digest(content), **mark}
    Mark.model_validate(written).write(folder / f"{stem}.json")
    for path in sorted(folder.glob("step-*.json"))[:-most]:
        path.unlink()
    marks = {path.stem for path in folder.glob("step-*.json")}
    for path in folder.glob("step-*.safetensors"):
        if path.stem not in marks:
            path.unlink()


def whole_checkpoints(folder: Path, *, torn: list[str]) -> Iterator[tuple[Path, Mark]]:
    """Checkpoints whose bytes are what their mark says, newest first.

    Args:
        folder: `checkpoints/` or `best/`.
        torn: Gets the names of those that are not.

    Raises:
        NewerSchemaError: At one that a later Stillroom wrote: it is whole, and must not be trained over.
    """
    for path in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            mark = Mark.read(path, needed="a checkpoint")
            if file_digest(path.with_suffix(".safetensors")) == mark.sha256:
                yield path.with_suffix(".safetensors"), mark
                continue
        except NewerSchemaError:
            raise
        except (BadDocumentError, OSError):
            pass
        torn.append(path.stem)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint."""
    return read_safetensors(path, needed="a checkpoint")


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()


@dataclass(frozen=True)
class TrainedStudent:
    """A student from a checkpoint.

    Attributes:
        encoder: Without its heads.
        heads: Their weights by name.
    """

    encoder: Encoder
    heads: dict[str, Tensor]


def load_run(run: str | Path, *, checkpoint: Literal["last", "best"] = "last") -> Encoder:
    """The student of a run as a frozen encoder, without its heads; see `load_student`."""
    return load_student(run, checkpoint=checkpoint).encoder


def load_student(run: str | Path, *, checkpoint: Literal["last", "best"] = "last") -> TrainedStudent:
    """The student of a run.

    Args:
        run: The run's folder.
        checkpoint: The newest, or that with the lowest validation loss.

    Raises:
        MissingFileError: If there is no such run.
        NoCheckpointError: If it has no whole checkpoint of that kind.
    """
    run = local_path(run)
    if not run.is_dir():
        raise MissingFileError(run, needed="the folder of a training run")
    folder = "best" if checkpoint == "best" else "checkpoints"
    found = next(whole_checkpoints(run / folder, torn=[]), None)
    if found is None:
        raise NoCheckpointError(run, folder=folder)
    path, mark = found
    tensors = read_tensors(path)
    own = {name.removeprefix(TRUNK_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(TRUNK_PREFIX)}
    trunk = filled(mark.encoder, own, where=path.with_suffix(".json"), weights=path)
    trained_on = trained_on_beside(run, required=True)
    facts = {**mark.facts, "checkpoint": checkpoint, "steps": mark.step}
    heads = {
        name.removeprefix(HEADS_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(HEADS_PREFIX)
    }
    return TrainedStudent(
        Encoder(trunk, mark.encoder, name=run.resolve().name, trained_on=trained_on, facts=facts), heads
    )
