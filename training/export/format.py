"""The result of writing a student for another library, and the errors of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import torch

from manifests.errors import StillroomError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class NotExportableError(StillroomError, ValueError):
    """A format that cannot represent this student."""

    def __init__(self, what: object, *, form: str, why: list[str], instead: str) -> None:
        super().__init__(f"{printable(what)} cannot be written as {form}: {'; '.join(why)}; {instead}")


@dataclass(frozen=True)
class Written:
    """A model in another format.

    Attributes:
        name: Of its file in the folder; empty if it is the folder.
        loads: How it is loaded, for a person.
        code: Lines of Python that load it from the current folder and give `layers` for the tensor `wave`, of shape (1, time).
        outputs: Runs the model in the other library on one utterance of shape (time,); returns its layers, (layer, frame, feature).
        note: What else a user must know.
        is_rounded: Whether its weights are coarser than the run's, so that its outputs are compared by their relative difference.
    """

    name: str
    loads: str
    code: str
    outputs: Callable[[Tensor], Tensor]
    note: str = ""
    is_rounded: bool = False


def saved(value: object) -> bytes:
    """The bytes that `torch.save` writes; its own writing to a file does not say that the disk is full."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def library_missing(form: str, *, install: str) -> NoReturn:
    """The library that reads a format is not installed.

    Raises:
        UsageError: Always.
    """
    raise UsageError(
        f"--to {form} compares what it writes by the library that reads it, which is not installed: {install}"
    )
