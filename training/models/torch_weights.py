"""Weights in torch's own format, never unpickled: a file that holds more is refused."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import shlex
import struct
import warnings
import zipfile
from typing import IO, TYPE_CHECKING, Any

import torch

from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable

if TYPE_CHECKING:
    from pathlib import Path

LOCAL_MARK, END_MARK, WIDE_PLACE_MARK, WIDE_END_MARK = b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
END = struct.Struct("<4sHHHHLLH")  # .ZIP File Format Specification 6.3.10, sections 4.3.16, 4.3.15 and 4.3.14
WIDE_PLACE = struct.Struct("<4sLQL")
WIDE_END = struct.Struct("<4sQHHLLQQQQ")
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
    refuse_compressed(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace] if namespace else []), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another pickle protocol: what comes of it is said in one line below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if re.search(r"Unsupported (global|class)|Trying to|Can only", str(problem)):
            raise PickledObjectsError(path) from None
        raise BadDocumentError(path, "is not a file of weights, or is damaged") from None
    except Exception as problem:  # torch raises almost anything at bytes that are none of its own
        if isinstance(problem, MemoryError):
            raise
        raise BadDocumentError(path, f"is not a file of weights, or is damaged ({type(problem).__name__})") from None
    refuse_expanded(found, where=path)
    return found


def refuse_compressed(path: Path) -> None:
    """Refuse a zip that unpacks to more than it holds: torch stores its tensors as they are, so this is a bomb.

    Raises:
        BadDocumentError: If it is one, or if Python and torch could read different members in it.
    """
    with path.open("rb") as stream:
        if stream.read(len(LOCAL_MARK)) != LOCAL_MARK:
            return  # torch takes it for no zip
        ended = ends_as_torch_writes(stream)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            packed = any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        ended = False
    if not ended:
        raise BadDocumentError(path, "is not a file of weights, or is damaged")
    size = path.stat().st_size
    if unpacked > size or packed:
        raise BadDocumentError(path, f"unpacks to {unpacked} bytes from {size}: a decompression bomb; refused")


def ends_as_torch_writes(stream: IO[bytes]) -> bool:
    """Whether a zip's list of members stands where its end says, and the end is the end of the file.

    Otherwise Python's reader, which looks for the list just before the end, and torch's, which goes to the place that the end names, may find
    two lists: one that was looked at, and another that is loaded.
    """
    size = stream.seek(0, os.SEEK_END)
    end = size - END.size
    if end < 0:
        return False
    stream.seek(end)
    mark, *disks, _, _, length, start, comment = END.unpack(stream.read(END.size))
    if mark != END_MARK or any(disks) or comment:
        return False
    place = end - WIDE_PLACE.size
    if place < 0:
        return bool(start + length == end)
    stream.seek(place)
    mark, _, told, _ = WIDE_PLACE.unpack(stream.read(WIDE_PLACE.size))
    if mark != WIDE_PLACE_MARK:
        return bool(start + length == end)
    wide = place - WIDE_END.size
    if told != wide or wide < 0:
        return False
    stream.seek(wide)
    mark, own, *_, length, start = WIDE_END.unpack(stream.read(WIDE_END.size))
    return bool(mark == WIDE_END_MARK and own == WIDE_END.size - 12 and start + length == wide)


def refuse_expanded(found: Any, *, where: object) -> None:
    """Refuse tensors that say they have more numbers than the file holds (strides of 0, one storage under many names).

    Raises:
        BadDocumentError: If they do.
    """
    claimed = 0
    held: dict[int, int] = {}
    pending: list[Any] = [found]
    seen: set[int] = set()
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor) and item.layout is torch.strided:
            storage = item.untyped_storage()
            claimed += item.numel() * item.element_size()
            held[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, torch.Tensor):
            raise BadDocumentError(where, f"holds a tensor of layout {item.layout}; plain ones are due")
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)
    if claimed > MOST_SHARING * sum(held.values()) + FREE_BYTES:
        raise BadDocumentError(where, f"its tensors claim {claimed} bytes, it holds {sum(held.values())}; refused")
