"""Weights in torch's own format, never unpickled: tensors and plain values are read, all else is a record of its name.

Both forms of `torch.save` are read: the zip of today, and the stream of before version 1.6. A tensor is read from the file when it is
asked for, so the optimiser of a checkpoint is never in memory.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from manifests.errors import BadDocumentError, MissingFileError, StillroomError, printable
from training.models.pickle_data import (
    MOST_OPCODES,
    ForbiddenNameError,
    Made,
    Named,
    NotDataError,
    Reference,
    TooManyObjectsError,
    read_pickle,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch import Tensor

ZIP_MARK = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<4s22xHH")
STREAM_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
COUNT = struct.Struct("<q")
MOST_PICKLE_BYTES = 1 << 25
MOST_SHARING = 4
FREE_BYTES = 1 << 20
DAMAGED = "is not a file of weights, or is damaged"
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class PickledCodeError(StillroomError, ValueError):
    """A file of weights that names a function which no weights need."""

    def __init__(self, path: Path, name: object) -> None:
        super().__init__(
            f"{printable(path)} names {printable(name)}, which no file of weights needs: nothing of it was run; "
            "do not use it, and get the file again from where it was published"
        )


class Storage(NamedTuple):
    """The bytes of a file that hold numbers of tensors."""

    start: int
    size: int


class StoredTensor(NamedTuple):
    """A tensor as a file describes it: a storage of so many numbers, and the place of its own among them."""

    key: str
    dtype: torch.dtype
    size: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_possible(self) -> bool:
        """Whether all its numbers are in its storage."""
        numbers = (self.size, self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or not all(type(number) is int and number >= 0 for number in numbers):
            return False
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return self.offset + last < self.size or 0 in self.shape


class WeightsFile:
    """What is in a file of `torch.save`.

    Args:
        path: Of the file.
        content: Plain containers and values; `Made`, `Named` and `Reference` stand for all else, tensors too.
        storages: By key.
    """

    def __init__(self, path: Path, content: Any, storages: dict[str, Storage]) -> None:
        self.path = path
        self.content = content
        self.storages = storages

    def tensors(self, found: Any) -> dict[str, Tensor] | None:
        """The tensors of a mapping of names to tensors, from the file; None if it is anything else.

        Raises:
            BadDocumentError: If they are not in the file, or claim more numbers than it holds.
        """
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            return None
        stored: dict[str, StoredTensor] = {}
        for name, value in found.items():
            tensor = described(value)
            if tensor is None:
                return None
            stored[name] = tensor
        self.check(stored.values())
        sizes: dict[str, int] = {}
        for tensor in stored.values():
            sizes[tensor.key] = max(sizes.get(tensor.key, 0), tensor.size * tensor.dtype.itemsize)
        with self.path.open("rb") as stream:
            numbers = {key: read_bytes(stream, self.storages[key].start, size) for key, size in sizes.items()}
        return {
            name: torch.as_strided(
                numbers[tensor.key][: tensor.size * tensor.dtype.itemsize].view(tensor.dtype),
                tensor.shape,
                tensor.strides,
                tensor.offset,
            )
            for name, tensor in stored.items()
        }

    def check(self, stored: Collection[StoredTensor]) -> None:
        """Refuse tensors outside their storage, and more numbers than the file holds (strides of 0, one storage under many names)."""
        for tensor in stored:
            storage = self.storages.get(tensor.key)
            if storage is None or not tensor.is_possible or tensor.size * tensor.dtype.itemsize > storage.size:
                raise BadDocumentError(self.path, DAMAGED)
        claimed = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in stored)
        held = sum(self.storages[key].size for key in {tensor.key for tensor in stored})
        if claimed > MOST_SHARING * held + FREE_BYTES:
            raise BadDocumentError(self.path, f"its tensors claim {claimed} bytes, it holds {held}; refused")


def read_bytes(stream: Any, start: int, size: int) -> Tensor:
    """So many bytes of a file, in memory of their own."""
    found = torch.empty(size, dtype=torch.uint8)
    stream.seek(start)
    if size and stream.readinto(found.numpy().data) != size:
        raise BadDocumentError(stream.name, DAMAGED)
    return found


def described(value: Any) -> StoredTensor | None:
    """A tensor, or a parameter, as it is described; None if it is anything else, or no plain tensor (sparse, quantised)."""
    kinds = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
    for _ in range(2):
        if not (isinstance(value, Made) and isinstance(value.of, Named) and value.of.module == "torch._utils"):
            return None
        if value.of.name not in {"_rebuild_parameter", "_rebuild_parameter_with_state"}:
            break
        value = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
    match value:
        case Made(
            of=Named(name=kind),
            arguments=(Reference(identity=("storage", Named() as typed, str(key), _, count, *_)), *place),
        ) if kind in kinds and len(place) > 2 and type(count) is int:
            offset, shape, strides, *rest = place
            own = rest[2] if kind == "_rebuild_tensor_v3" and len(rest) > 2 else None
            found = getattr(torch, own.name, None) if isinstance(own, Named) else DTYPES.get(typed.name)
            if isinstance(found, torch.dtype) and isinstance(shape, tuple) and isinstance(strides, tuple):
                # The size of an untyped storage is in bytes.
                numbers = count // found.itemsize if own is not None else count
                return StoredTensor(key, found, numbers, offset, shape, strides)
    return None


def read_weights(path: Path, *, needed: str) -> WeightsFile:
    """What `torch.save` wrote.

    Args:
        path: The file.
        needed: What it is needed for, for the message if it is missing.

    Raises:
        MissingFileError: If there is none.
        PickledCodeError: If it names a function of Python's that no weights need, such as `os.system`.
        BadDocumentError: If it is damaged, or no such file at all.
    """
    if not path.is_file():
        raise MissingFileError(path, needed=needed)
    with path.open("rb") as stream:
        is_zip = stream.read(len(ZIP_MARK)) == ZIP_MARK
    try:
        return read_zip(path) if is_zip else read_stream(path)
    except ForbiddenNameError as problem:
        raise PickledCodeError(path, problem) from None
    except TooManyObjectsError:
        raise BadDocumentError(
            path, f"holds more than {MOST_OPCODES} objects beside its weights; save the weights alone"
        ) from None
    except (NotDataError, zipfile.BadZipFile, struct.error, NotImplementedError, EOFError, ValueError) as problem:
        if isinstance(problem, StillroomError):
            raise
        raise BadDocumentError(path, DAMAGED) from None


def read_zip(path: Path) -> WeightsFile:
    """The zip of torch since 1.6: one pickle, and a member for each storage, none compressed."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise BadDocumentError(path, f"unpacks to {unpacked} bytes from {size}: a decompression bomb; refused")
        pickles = [member for member in members if member.filename.partition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise NotDataError
        root = pickles[0].filename.removesuffix("data.pkl")
        where = {
            member.filename: Storage(start_of(stream, member.header_offset), member.file_size)
            for member in members
            if member.filename.startswith(root)
        }
        order = where.get(f"{root}byteorder")
        if order is not None and read_bytes(stream, order.start, min(order.size, 6)).numpy().tobytes() != b"little":
            raise BadDocumentError(path, "was written on a machine of the other byte order")
        content, _ = read_pickle(io.BytesIO(pickled(stream, where[pickles[0].filename])))
    start = f"{root}data/"
    storages = {name.removeprefix(start): place for name, place in where.items() if name.startswith(start)}
    return WeightsFile(path, content, storages)


def start_of(stream: Any, header: int) -> int:
    """Where the bytes of a zip's member begin, from its own header."""
    stream.seek(header)
    mark, name, extra = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
    if mark != ZIP_MARK:
        raise NotDataError
    return int(header + LOCAL_HEADER.size + name + extra)


def pickled(stream: Any, place: Storage) -> bytes:
    """The bytes of a pickle, which are few: the numbers are elsewhere."""
    if place.size > MOST_PICKLE_BYTES:
        raise TooManyObjectsError
    stream.seek(place.start)
    return bytes(stream.read(place.size))


def read_stream(path: Path) -> WeightsFile:
    """The stream of torch before 1.6: five pickles, then each storage, its count of numbers before it."""
    with path.open("rb") as stream:
        head = io.BytesIO(stream.read(MOST_PICKLE_BYTES))
        magic, _ = read_pickle(head)
        if magic != STREAM_MAGIC:
            raise NotDataError
        read_pickle(head)  # the version of the form, which never changed
        machine, _ = read_pickle(head)
        if not isinstance(machine, dict) or machine.get("little_endian") is not (sys.byteorder == "little"):
            raise NotDataError
        content, references = read_pickle(head)
        keys, _ = read_pickle(head)
        kinds = dict(filter(None, map(kind_of_storage, references)))
        storages: dict[str, Storage] = {}
        position = head.tell()
        for key in keys if isinstance(keys, list) else ():
            stream.seek(position)
            (count,) = COUNT.unpack(stream.read(COUNT.size))
            if count < 0 or key not in kinds:
                raise NotDataError
            storages[key] = Storage(position + COUNT.size, count * kinds[key].itemsize)
            position += COUNT.size + storages[key].size
    return WeightsFile(path, content, storages)


def kind_of_storage(reference: Reference) -> tuple[str, torch.dtype] | None:
    """Key and type of the storage that a reference names."""
    match reference.identity:
        case ("storage", Named(name=name), str(key), *_) if name in DTYPES:
            return key, DTYPES[name]
    return None
