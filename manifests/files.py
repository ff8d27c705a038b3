"""Reading and writing of JSON, JSON lines and YAML, bounded and atomic.

Writing: a temporary file in the target's own folder, flushed to the disk, then renamed, then the folder flushed: a
reader sees the old file or the new one, never a half (law 4). Reading: bounded in size and depth, duplicate keys
refused, NaN and infinity refused, no YAML tags, few aliases (law 6).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import stat
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from manifests.errors import (
    BadDocumentError,
    MissingFileError,
    NoSpaceLeftError,
    UnsafePathError,
    UsageError,
    printable,
)
from manifests.storage import Place, Url, opened
from manifests.strictness import MAX_DEPTH, finite_float, unique_keys
from manifests.yaml12 import parse_yaml, yaml_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_DOCUMENT_BYTES = 512 << 20
MAX_JSON_BYTES = 32 << 20
MAX_UNICODE_JSON_BYTES = 16 << 20  # one character beyond ASCII, and every character of a text may take four bytes
MAX_JSON_MEMORY = 240 << 20
JSON_MEMORY = {
    b"{": 900,
    b"[": 450,
    b",": 320,
}  # bytes on the way into a model: `{"a":{"a":...`, `[[[...`, `{"a":1,"b":2,...`
MAX_YAML_BYTES = 4 << 20
PIECE_BYTES = 1 << 20
MAX_LINE_BYTES = 8 << 20
TOKEN = re.compile(
    rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL
)  # a string without end goes to the end: linear time


BEING_WRITTEN: set[Path] = set()


def remove_temporary_files() -> None:
    """Remove what this process is just writing; for a process that ends in the middle of it."""
    for path in tuple(BEING_WRITTEN):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A hidden sibling of `path` that no other process, here or on another host, would choose."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it is synced and renamed to `path`, on failure removed.

    Raises:
        NoSpaceLeftError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    BEING_WRITTEN.add(part)
    try:
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as problem:
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceLeftError(path) from problem
        raise
    finally:
        part.unlink(missing_ok=True)
        BEING_WRITTEN.discard(part)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give the name of a temporary folder to make; on success it becomes `folder`, new or empty until then, on failure it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(folder)
    BEING_WRITTEN.add(part)
    try:
        yield part
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        BEING_WRITTEN.discard(part)


def refuse_linked_folders(folder: Path, *names: str) -> None:
    """What is written below a folder stays below it: a link in it could send shards or checkpoints anywhere.

    Args:
        folder: That is written in; it may be a link itself, or not be there.
        names: Of its own folders that are written in.

    Raises:
        UsageError: If one of them is a link to a folder.
    """
    for place in (folder / name for name in names):
        if place.is_symlink() and place.is_dir():
            raise UsageError(
                f"{printable(place)} is a link to {printable(place.resolve())}: what is written there would lie outside of "
                f"{printable(folder)}; put a folder in its place, or make {printable(folder)} itself the link"
            )


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:  # some network file systems cannot sync a folder
        if problem.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def write_bytes(path: Place, content: bytes) -> None:
    """Write a whole file atomically, on a disk or behind a URL."""
    if isinstance(path, Url):
        path.put(content)
        return
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Place, text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Place, document: Any) -> None:
    """Write a document as indented JSON, atomically; keys keep their order, NaN is refused."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def write_json_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write JSON lines (each canonical bytes without its newline) atomically, streaming."""
    with replacing(path) as part, part.open("wb") as stream:
        for line in lines:
            stream.write(line + b"\n")


def parse_json(text: bytes, *, where: object) -> Any:
    """Parse a stranger's JSON: duplicate keys, NaN, infinity, deep nesting and what would take much memory are refused.

    Raises:
        BadDocumentError: With the place and the reason.
    """
    refuse_heavy_json(text, where=where)
    if nesting(text) > MAX_DEPTH:
        raise BadDocumentError(where, f"JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=unique_keys,
            parse_constant=refuse_constant,
            parse_float=finite_float,
        )
    except (ValueError, RecursionError) as problem:
        raise BadDocumentError(where, f"not valid JSON: {printable(problem)}") from None


def refuse_heavy_json(text: bytes, *, where: object) -> None:
    """Refuse what would take much memory to parse; costs next to nothing.

    Raises:
        BadDocumentError: If it is too long, or has too many values.
    """
    most = MAX_JSON_BYTES if text.isascii() else MAX_UNICODE_JSON_BYTES
    if len(text) > most:
        raise BadDocumentError(where, f"JSON of more than {most} bytes; refused")
    if sum(size * text.count(token) for token, size in JSON_MEMORY.items()) > MAX_JSON_MEMORY:
        raise BadDocumentError(
            where, f"JSON of so many values that they could take more than {MAX_JSON_MEMORY >> 20} MB; refused"
        )


def nesting(text: bytes) -> int:
    """Deepest nesting of brackets in JSON text, strings left out; cheap enough for every line."""
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for token in TOKEN.finditer(text):
        if token[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in b"]}":
            depth -= 1
    return deepest


def refuse_constant(name: str) -> Any:
    """JSON has no NaN or infinity."""
    raise ValueError(f"{name} is not a JSON number")


def read_bytes(path: Place, *, needed: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a whole file of bounded size.

    Args:
        path: A file on a disk or behind a URL.
        needed: What it is needed for, said if it is missing.
        limit: Largest size, in bytes.
    """
    try:
        with opened(path) as stream:
            if isinstance(path, Path) and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                raise BadDocumentError(path, f"is a device, which may never end; {needed}")
            content = b"".join(pieces(stream, limit + 1))
    except FileNotFoundError:
        raise MissingFileError(path, needed=needed) from None
    except IsADirectoryError:
        raise BadDocumentError(path, f"is a folder; {needed}") from None
    if len(content) > limit:
        raise BadDocumentError(path, f"is larger than {limit} bytes; refused")
    return content


def pieces(stream: IO[bytes], most: int) -> Iterator[bytes]:
    """The beginning of a stream in small pieces: one `read` of the most that may come would take that much memory first."""
    while most > 0 and (piece := stream.read(min(most, PIECE_BYTES))):
        yield piece
        most -= len(piece)


def read_json(path: Place, *, needed: str, where: object = None) -> Any:
    """Read one JSON document; `where` is what to call it in a message, if not by its path."""
    content = read_bytes(path, needed=needed, limit=MAX_JSON_BYTES)
    return parse_json(content, where=path if where is None else where)


def read_json_lines(path: Place, *, needed: str, where: object = None) -> Iterator[Any]:
    """Yield the documents of a JSON lines file, one line in memory at a time; `where` as for `read_json`."""
    named = path if where is None else where
    try:
        stream = opened(path)
    except FileNotFoundError:
        raise MissingFileError(path, needed=needed) from None
    with stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise BadDocumentError(named, f"line {number} is longer than {MAX_LINE_BYTES} bytes; refused")
            if line.strip():
                yield parse_json(line, where=f"{named}:{number}")


def read_yaml(path: Place, *, needed: str, where: object = None) -> Any:
    """Read one YAML document of at most 4 MB; `where` as for `read_json`."""
    content = read_bytes(path, needed=needed, limit=MAX_YAML_BYTES)
    return parse_yaml(content, where=path if where is None else where)


def write_yaml(path: Place, document: Any) -> None:
    """Write plain data as YAML, atomically, keys in their order."""
    write_text(path, yaml_text(document))


def safe_relative(path: str, *, where: object) -> str:
    """A stranger's relative POSIX path, checked: not absolute, no `..`, no NUL, no URL, no backslash drive.

    Returns:
        The same path.

    Raises:
        UnsafePathError: If it could lead out of its root.
    """
    pure = PurePosixPath(path)
    unsafe = (
        not path
        or path != path.strip("\0")
        or "\0" in path
        or "\\" in path
        or "://" in path
        or pure.is_absolute()
        or ".." in pure.parts
        or path.startswith(("pipe:", "~"))
        or re.match(r"^[A-Za-z]:", path)
    )
    if unsafe:
        raise UnsafePathError(path, where=where)
    return path
