"""Weights in torch's own format, never unpickled: a file that holds more is refused."""

from __future__ import annotations

import argparse
import pickle
import re
import shlex
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable

if TYPE_CHECKING:
    from pathlib import Path

ZIP_MARK = b"PK\x03\x04"
MOST_SHARING = 4
FREE_BYTES = 1 << 20
CONVERSION = (
    'python -c "import argparse, json, sys, torch; from omegaconf import OmegaConf; s = torch.load(sys.argv[1], '
    "map_location='cpu', weights_only=False); plain = lambda o: vars(o) if isinstance(o, argparse.Namespace) else "
    "OmegaConf.to_container(o, enum_to_str=True) if OmegaConf.is_config(o) else getattr(o, 'value', str(o)); "
    "c = json.loads(json.dumps(s.get('cfg') or s['args'], default=plain)); "
    "torch.save({'model': s['model'], 'cfg': c}, sys.argv[2])\" %s %s"
)


class PickledObjectsError(StillroomError, ValueError):
    """A checkpoint that can only be read by running what it holds."""

    def __init__(self, path: Path) -> None:
        converted = path.with_suffix(".converted.pt").name
        command = CONVERSION % tuple(shlex.quote(printable(name, limit=1000)) for name in (path, converted))
        super().__init__(
            f"{printable(path)} holds Python objects beside its weights, and reading them would run code that is in the file: if you trust "
            f"it, convert it once where it can be read (for fairseq's: an environment with fairseq), with {command}"
        )


def read_weights(path: Path, *, needed: str, namespace: bool = False) -> Any:
    """What `torch.save` wrote: tensors and plain containers alone.

    Args:
        path: The file.
        needed: What it is needed for, for the message if it is missing.
        namespace: Whether an `argparse.Namespace` may be among them; it is a plain container too, but torch does not allow it by default.

    Raises:
        MissingFileError: If there is none.
        PickledObjectsError: If it holds anything else.
        BadDocumentError: If it is damaged, or no such file at all.
    """
    if not path.is_file():
        raise MissingFileError(path, needed=needed)
    refuse_compressed(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace] if namespace else []), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another pickle protocol: the result is reported in one line below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if re.search(r"Unsupported (global|class)|Trying to|Can only", str(problem)):
            raise PickledObjectsError(path) from None
        raise BadDocumentError(path, "is not a file of weights, or is damaged") from None
    except Exception as problem:  # torch raises almost anything at bytes that it did not write
        if isinstance(problem, MemoryError):
            raise
        raise BadDocumentError(path, f"is not a file of weights, or is damaged ({type(problem).__name__})") from None
    refuse_expanded(found, where=path)
    return found


def refuse_compressed(path: Path) -> None:
    """Refuse a zip that unpacks to more bytes than it has: torch stores its tensors uncompressed, so this is a decompression bomb.

    Raises:
        BadDocumentError: If it is one, or cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(ZIP_MARK)) != ZIP_MARK:
            return  # torch does not read it as a zip either
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        raise BadDocumentError(path, "is not a file of weights, or is damaged") from None
    size = path.stat().st_size
    if unpacked > size:
        raise BadDocumentError(path, f"unpacks to {unpacked} bytes from {size}: a decompression bomb; refused")


def refuse_expanded(found: Any, *, where: object) -> None:
    """Refuse tensors that claim more numbers than the file holds (strides of 0, one storage under many names).

    Raises:
        BadDocumentError: If they do.
    """
    claimed = 0
    stored: dict[int, int] = {}
    pending: list[Any] = [found]
    seen: set[int] = set()
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor) and item.layout is torch.strided:
            storage = item.untyped_storage()
            claimed += item.numel() * item.element_size()
            stored[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, torch.Tensor):
            raise BadDocumentError(where, f"holds a tensor of layout {item.layout}; expected plain ones")
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)
    if claimed > MOST_SHARING * sum(stored.values()) + FREE_BYTES:
        raise BadDocumentError(where, f"its tensors claim {claimed} bytes, it holds {sum(stored.values())}; refused")
