"""Weights in torch's own format, never unpickled: a file that holds more is refused."""

from __future__ import annotations

import argparse
import pickle
import re
import shlex
from typing import TYPE_CHECKING, Any

import torch

from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable

if TYPE_CHECKING:
    from pathlib import Path

CONVERSION = (
    "python -c \"import sys, torch; from omegaconf import OmegaConf; s = torch.load(sys.argv[1], map_location='cpu', "
    "weights_only=False); c = OmegaConf.to_container(OmegaConf.create(s.get('cfg') or vars(s['args']))); "
    "torch.save({'model': s['model'], 'cfg': c}, sys.argv[2])\" %s %s"
)


class PickledObjectsError(StillroomError, ValueError):
    """A checkpoint that can only be read by running what it holds."""

    def __init__(self, path: Path) -> None:
        converted = path.with_suffix(".converted.pt").name
        command = CONVERSION % tuple(shlex.quote(printable(name, limit=1000)) for name in (path, converted))
        super().__init__(
            f"{printable(path)} holds Python objects beside its weights, and reading them would run a stranger's code: if you trust "
            f"it, convert it once where it can be read (for fairseq's: an environment with fairseq), with {command}"
        )


def read_weights(path: Path, *, needed: str, namespace: bool = False) -> Any:
    """What `torch.save` wrote: tensors and plain containers alone.

    Args:
        path: The file.
        needed: What it is needed for, said if it is missing.
        namespace: Whether an `argparse.Namespace` may be among them; it is a plain container too, but none of torch's.

    Raises:
        MissingFileError: If there is none.
        PickledObjectsError: If it holds anything else.
        BadDocumentError: If it is damaged, or no such file at all.
    """
    if not path.is_file():
        raise MissingFileError(path, needed=needed)
    try:
        with torch.serialization.safe_globals([argparse.Namespace] if namespace else []):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if re.search(r"Unsupported (global|class)|Trying to|Can only", str(problem)):
            raise PickledObjectsError(path) from None
        raise BadDocumentError(path, "is not a file of weights, or is damaged") from None
    except Exception as problem:  # torch raises almost anything at bytes that are none of its own
        if isinstance(problem, MemoryError):
            raise
        raise BadDocumentError(path, f"is not a file of weights, or is damaged ({type(problem).__name__})") from None
