"""The plain files of a tar that Stillroom did not write, grouped into samples as webdataset groups them."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, NamedTuple

from manifests.errors import BadTarError, UnsafePathError, printable
from manifests.files import safe_relative
from manifests.storage import opened
from manifests.tars import MAX_MEMBERS, opened_headers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_NAME = 1024
MAGIC = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class ForeignMember(NamedTuple):
    """A plain file of a tar: its name as key and suffix, and where its content lies."""

    key: str
    suffix: str
    offset: int
    size: int


def split_name(name: str) -> tuple[str, str] | None:
    """Key and suffix of a member, parted at the first dot of its last part as webdataset does; None if it has no such dot."""
    folder, slash, base = name.rpartition("/")
    key, dot, suffix = base.partition(".")
    return (folder + slash + key, suffix) if key and dot and suffix else None


def foreign_members(path: Path) -> Iterator[ForeignMember]:
    """The plain files of a stranger's tar that have a key; folders are passed over.

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
            f"is compressed ({MAGIC[magic]}), so that nothing in it can be read by its place: unpack it to a plain .tar",
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
                    raise BadTarError(path, f"member {printable(info.name)!r} stands twice, or its name is too long")
                if info.offset_data + info.size > total:
                    raise BadTarError(path, f"ends inside member {printable(info.name)!r}: the file was cut off")
                seen.add(info.name)
                if len(seen) > MAX_MEMBERS:
                    raise BadTarError(path, f"has more than {MAX_MEMBERS} members; refused")
                parts = split_name(info.name)
                if parts is not None:
                    yield ForeignMember(*parts, info.offset_data, info.size)
    except (tarfile.TarError, EOFError, ValueError) as problem:
        if isinstance(problem, BadTarError | UnsafePathError):
            raise
        raise BadTarError(path, f"cannot be read as a tar: {printable(problem)}") from None


def grouped(members: Iterator[ForeignMember]) -> Iterator[tuple[str, list[ForeignMember]]]:
    """Neighbours of one key."""
    key, group = "", list[ForeignMember]()
    for member in members:
        if member.key != key and group:
            yield key, group
            group = []
        key = member.key
        group.append(member)
    if group:
        yield key, group
