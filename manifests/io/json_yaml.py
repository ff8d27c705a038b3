"""Reading and writing of JSON, JSON lines and YAML, bounded and atomic.

Writing: a temporary file in the target's own folder, flushed to the disk, then renamed, then the folder flushed: a
reader sees the old file or the new one, never a part (law 4). Reading: bounded in size and depth, duplicate keys
refused, NaN and infinity refused, no YAML tags, few aliases (law 6).
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from manifests.errors import BadDocumentError, MissingFileError, UnsafePathError, printable
from manifests.io.atomic import replacing, write_bytes, write_text
from manifests.io.place import Place, opened
from manifests.io.yaml12 import MAX_DEPTH, finite_float, parse_yaml, unique_keys, yaml_text

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


def json_bytes(document: Any) -> bytes:
    """A document as indented JSON; keys keep their order, NaN is refused."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_json(path: Place, document: Any) -> None:
    """Write a document as `json_bytes` spells it, atomically."""
    write_bytes(path, json_bytes(document))


def write_json_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write JSON lines (each canonical bytes without its newline) atomically, streaming."""
    with replacing(path) as part, part.open("wb") as stream:
        for line in lines:
            stream.write(line + b"\n")


def parse_json(text: bytes, *, where: object) -> Any:
    """Parse untrusted JSON: duplicate keys, NaN, infinity, deep nesting and what would take much memory are refused.

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
    """Refuse JSON that would take much memory to parse; costs almost nothing.

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
    """Deepest nesting of brackets in JSON text, without those in strings; cheap enough for every line."""
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
        needed: What it is needed for, for the message if it is missing.
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
    """The beginning of a stream in small pieces: one large `read` would allocate all its memory first."""
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
    """Check an untrusted relative POSIX path: not absolute, no `..`, no NUL, no URL, no backslash, no drive.

    Returns:
        The same path.

    Raises:
        UnsafePathError: If it could lead out of its root.
    """
    pure = PurePosixPath(path)
    unsafe = (
        not path
        or "\0" in path
        or "\\" in path
        or "://" in path
        or pure.is_absolute()
        or ".." in pure.parts
        or path.startswith(("pipe:", "~"))
        or re.match(r"^[A-Za-z]:(/|$)", path)
    )
    if unsafe:
        raise UnsafePathError(path, where=where)
    return path
