"""Writes tars with fixed headers, and reads untrusted ones with bounds.

Written with the standard library: time, owner, group and mode are fixed and members keep the order in which they are given,
so the same content is the same bytes. (webdataset's `TarWriter` takes a time too, but importing webdataset imports torch:
2 seconds and 250 MB in every worker.) Any tar reader, webdataset among them, can read them.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from manifests.errors import BadTarError, UnsafePathError, printable
from manifests.io.json_yaml import safe_relative
from manifests.io.place import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MODE = 0o444
MAX_MEMBERS = 10_000_000
MAX_HEADER_BYTES = 1 << 20
MAX_NAME = 1024
MAGIC = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class TarEntry(NamedTuple):
    """A member of a tar: its name, and offset and size of its content."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> tarfile.TarInfo:
    """A header without time, owner or host.

    Raises:
        ValueError: If the name does not fit a plain USTAR header.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = MODE
    info.mtime = 0
    info.uname = info.gname = "stillroom"
    return info


class TarBuilder:
    """Writes members one after another, and gives the offset of each.

    Args:
        stream: Anything with `write` and `tell`; not closed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed by close)

    def add(self, name: str, content: bytes) -> TarEntry:
        """Append a plain file; returns offset and size of its content."""
        info = header(name, len(content))
        self.tar.addfile(info, io.BytesIO(content))
        padded = -len(content) % tarfile.BLOCKSIZE
        return TarEntry(name, self.tar.offset - padded - len(content), len(content))

    def close(self) -> None:
        """Write the end of the archive."""
        self.tar.close()


class HeaderStream:
    """The stream of a tar for `tarfile`, bounded: `tarfile` allocates what a header says for a long name or a pax record.

    Args:
        stream: The open file.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        """Read a part of a header.

        Raises:
            tarfile.ReadError: If it is larger than any plain header.
        """
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes; refused")
        return self.stream.read(size)


@contextlib.contextmanager
def opened_headers(path: Path) -> Iterator[tarfile.TarFile]:
    """An untrusted plain tar, for its headers alone; the contents of members cannot be read through it."""
    with path.open("rb") as stream, tarfile.open(fileobj=cast("IO[bytes]", HeaderStream(stream)), mode="r:") as tar:
        yield tar


def entries(path: Path) -> Iterator[TarEntry]:
    """The members of an untrusted tar, checked: plain files, safe names, inside the file, each name once.

    Raises:
        BadTarError: If it is truncated, not a tar, or holds anything but plain files.
        UnsafePathError: If a name leads out of the folder it would be unpacked to.
    """
    total = path.stat().st_size
    seen: set[str] = set()
    end = 0
    try:
        with opened_headers(path) as tar:
            for info in tar:
                if not info.isreg() or info.issparse():
                    raise BadTarError(path, f"member {printable(info.name)!r} is a link, a device or a folder; refused")
                safe_relative(info.name, where=path)
                if info.name in seen:
                    raise BadTarError(path, f"member {printable(info.name)!r} occurs twice")
                if info.offset_data + info.size > total:
                    raise BadTarError(path, f"ends inside member {printable(info.name)!r}: the file was cut off")
                seen.add(info.name)
                if len(seen) > MAX_MEMBERS:
                    raise BadTarError(path, f"has more than {MAX_MEMBERS} members; refused")
                end = info.offset_data + info.size + -info.size % tarfile.BLOCKSIZE
                yield TarEntry(info.name, info.offset_data, info.size)
    except (tarfile.TarError, EOFError, ValueError) as problem:
        if isinstance(problem, BadTarError | UnsafePathError):
            raise
        raise BadTarError(path, f"cannot be read as a tar: {printable(problem)}") from None
    with path.open("rb") as stream:
        stream.seek(end)
        tail = stream.read(2 * tarfile.BLOCKSIZE)
    if len(tail) < 2 * tarfile.BLOCKSIZE or tail.strip(b"\0"):
        raise BadTarError(path, "has no end-of-archive mark: the file was cut off between two members")


class ExternalMember(NamedTuple):
    """A plain file of a tar: its name as key and suffix, and offset and size of its content."""

    key: str
    suffix: str
    offset: int
    size: int


def split_name(name: str) -> tuple[str, str] | None:
    """Key and suffix of a member, parted at the first dot of its last part as webdataset does; None if it has no such dot."""
    folder, slash, base = name.rpartition("/")
    key, dot, suffix = base.partition(".")
    return (folder + slash + key, suffix) if key and dot and suffix else None


def external_members(path: Path) -> Iterator[ExternalMember]:
    """The plain files of an untrusted tar that have a key; folders are skipped.

    Raises:
        BadTarError: If it is compressed, cut off, not a tar, or holds a link, a device, or a name twice.
        UnsafePathError: If a name leads out of the folder it would be unpacked to.
    """
    total = path.stat().st_size
    with opened(path) as stream:
        magic = stream.read(2)
    if magic in MAGIC:
        raise BadTarError(
            path,
            f"is compressed ({MAGIC[magic]}), so that its members cannot be read by their offsets: decompress it to a plain .tar",
        )
    seen: set[str] = set()
    try:
        with opened_headers(path) as tar:
            for info in tar:
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise BadTarError(path, f"member {printable(info.name)!r} is a link or a device; refused")
                safe_relative(info.name, where=path)
                if not info.name.isprintable():
                    raise BadTarError(
                        path, f"member {printable(info.name)!r} has a name that is not plain text; refused"
                    )
                if info.name in seen or len(info.name) > MAX_NAME:
                    raise BadTarError(path, f"member {printable(info.name)!r} occurs twice, or its name is too long")
                if info.offset_data + info.size > total:
                    raise BadTarError(path, f"ends inside member {printable(info.name)!r}: the file was cut off")
                seen.add(info.name)
                if len(seen) > MAX_MEMBERS:
                    raise BadTarError(path, f"has more than {MAX_MEMBERS} members; refused")
                parts = split_name(info.name)
                if parts is not None:
                    yield ExternalMember(*parts, info.offset_data, info.size)
    except (tarfile.TarError, EOFError, ValueError) as problem:
        if isinstance(problem, BadTarError | UnsafePathError):
            raise
        raise BadTarError(path, f"cannot be read as a tar: {printable(problem)}") from None


def grouped(members: Iterator[ExternalMember]) -> Iterator[tuple[str, list[ExternalMember]]]:
    """Consecutive members of one key."""
    key, group = "", list[ExternalMember]()
    for member in members:
        if member.key != key and group:
            yield key, group
            group = []
        key = member.key
        group.append(member)
    if group:
        yield key, group
