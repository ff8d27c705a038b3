"""Unpacks and checks an untrusted pack, with bounds on everything.

The tar is read front to back without `tarfile`'s iteration, which reads extended headers of any size into memory. Only plain files
with the names of a pack are written, below one folder; the size of the unpacked bytes is bounded by that of the packed ones.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Final

from manifests.corpus.layout import IN_EVERY_PACK, PACK, packed_kind
from manifests.errors import BadDocumentError, BadTarError, MissingFileError, printable
from manifests.io.atomic import full_disk_named
from manifests.io.json_yaml import safe_relative
from manifests.io.place import opened, size_of
from manifests.pack.contents import Pack
from manifests.pack.validate import check_sums, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.io.place import Place
    from manifests.pack.contents import OpenedPack


BLOCK: Final = tarfile.BLOCKSIZE
CHUNK_BYTES: Final = 1 << 20
MOST_MEMBERS: Final = 4_000_000
MOST_EXTENDED_BYTES: Final = 1 << 16
FREE_BYTES: Final = 64 << 20
MOST_RATIO: Final = 100  # real packs: 3 to 8


def is_pack(path: Path) -> bool:
    """Whether a file starts like a gzip file."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def open_pack(path: Path, folder: Path) -> OpenedPack:
    """Unpack a pack into a new folder and check all of it.

    Args:
        path: The `.tar.gz`.
        folder: Is created; the caller removes it.

    Raises:
        MissingFileError: If there is no such file.
        BadTarError: If it is not a pack, is damaged, or holds anything but plain files.
        UnsafePathError: If a name leads out of the folder.
        BadDocumentError: If something in it breaks its schema, its digest, or another part of it.
    """
    if path.is_dir():
        raise BadDocumentError(
            path,
            "is a folder, not the .tar.gz that `stillroom pack` writes; of a corpus `stillroom pack CORPUS PACK` makes one",
        )
    if not path.is_file():
        raise MissingFileError(path, needed="a .tar.gz that `stillroom pack` writes")
    folder.mkdir(parents=True)
    found: dict[str, str] = {}
    try:
        with path.open("rb") as plain, gzip.GzipFile(fileobj=plain, mode="rb") as stream:
            bounded = Bounded(stream, plain, where=path)
            for _ in members(bounded, where=path, found=found, folder=folder):
                pass
            while rest := bounded.read(CHUNK_BYTES):  # to the end, where gzip checks its checksum
                if rest.strip(b"\0"):
                    raise BadTarError(path, "has bytes after its end-of-archive mark; refused")
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise BadTarError(
            path, f"is not a pack, or was cut: {printable(problem)}; expected a whole .tar.gz of `stillroom pack`"
        ) from None
    missing = sorted(IN_EVERY_PACK - set(found))
    if missing:
        raise BadTarError(path, f"has no {missing[0]}: it is not a pack, or was cut")
    check_sums(folder, found, where=path)
    return checked(folder, found, where=path)


def pack_at(place: Place) -> Pack | None:
    """The `pack.json` of a pack, read from its first block; None where no file is.

    Raises:
        StillroomError: If the file is not a pack.
    """
    if size_of(place) is None:
        return None
    try:
        with opened(place) as plain, gzip.GzipFile(fileobj=plain, mode="rb") as stream:
            bounded = Bounded(stream, plain, where=place)
            info = header(bounded, where=place)
            if info is not None and info.name.endswith(f"/{PACK}") and info.size <= MOST_EXTENDED_BYTES:
                return Pack.parse_text(bounded.read(info.size), where=f"{place}: {PACK}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise BadTarError(place, printable(problem)) from None
    raise BadTarError(place, f"does not begin with {PACK}")


class Bounded:
    """A decompressed stream, bounded by the size of what was read of the file.

    Args:
        stream: The decompressed stream.
        plain: The file that it reads.
        where: What to call the file in messages.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, plain: IO[bytes], *, where: object) -> None:
        self.stream, self.plain, self.where, self.count = stream, plain, where, 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        content = self.stream.read(size)
        self.count += len(content)
        if self.count > FREE_BYTES + MOST_RATIO * self.plain.tell():
            raise BadTarError(self.where, f"unpacks to more than {MOST_RATIO} times its size; refused")
        return content


def members(stream: Bounded, *, where: object, found: dict[str, str], folder: Path) -> Iterator[tuple[str, int]]:
    """Write every member of a tar below a folder, and put the digest of each into `found`."""
    top: str | None = None
    longer: str | None = None
    for _ in range(MOST_MEMBERS):
        info = header(stream, where=where)
        if info is None:
            return
        if info.type in {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME}:
            longer = extended_name(stream, info, where=where) or longer
            continue
        name, longer = (longer or info.name).removeprefix("./"), None
        if info.type == tarfile.DIRTYPE and info.size == 0:
            if name.rstrip("/."):
                safe_relative(name, where=where)
            continue
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise BadTarError(where, f"member {printable(name)!r} is not a plain file; refused")
        safe_relative(name, where=where)
        before, _, inside = name.partition("/")
        if top is None:
            top = before
        kind = packed_kind(inside) if before == top else None
        if kind is None or kind.most_packed_bytes is None:
            raise BadTarError(where, f"member {printable(name)!r} does not belong in a pack; refused")
        if inside in found:
            raise BadTarError(where, f"member {printable(name)!r} occurs twice")
        if info.size > kind.most_packed_bytes:
            most = f"{info.size} bytes, at most {kind.most_packed_bytes} may be"
            raise BadTarError(where, f"member {printable(name)!r} has {most}; refused")
        found[inside] = written(stream, folder / inside, info.size, name=name, where=where)
        yield inside, info.size
    raise BadTarError(where, f"has more than {MOST_MEMBERS} members; refused")


def header(stream: Bounded, *, where: object) -> tarfile.TarInfo | None:
    """The next header; None at the end mark.

    Raises:
        BadTarError: If it is not a header, or the file ends without an end mark.
    """
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise BadTarError(where, "has no end-of-archive mark: the file was cut off, or is not a tar")
    if not block.strip(b"\0"):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as problem:
        raise BadTarError(where, f"cannot be read as a tar: {printable(problem)}") from None
    if info.size < 0:
        raise BadTarError(where, f"member {printable(info.name)!r} has a size below zero")
    return info


def extended_name(stream: Bounded, info: tarfile.TarInfo, *, where: object) -> str | None:
    """The name of the next member in an extended header (pax or GNU), if it has one.

    Raises:
        BadTarError: If it is large or damaged, or changes more of the member than its name.
    """
    if info.size > MOST_EXTENDED_BYTES:
        raise BadTarError(where, f"an extended header of {info.size} bytes; refused")
    content = stream.read(info.size + -info.size % BLOCK)[: info.size]
    if len(content) < info.size:
        raise BadTarError(where, "ends inside an extended header: the file was cut off")
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return content.rstrip(b"\0").decode("utf-8", "surrogateescape")
    name = None
    while content:
        match = re.match(rb"(\d{1,5}) ([^=\n]{1,100})=", content)
        end = int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise BadTarError(where, "an extended header that is damaged; refused")
        value = content[match.end() : end - 1]
        if match[2] == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif match[2] in {b"size", b"linkpath"} or match[2].startswith(b"GNU.sparse"):
            raise BadTarError(where, f"an extended header that changes the {match[2].decode()} of a member; refused")
        content = content[end:]
    return name if info.type == tarfile.XHDTYPE else None


def written(stream: Bounded, path: Path, size: int, *, name: str, where: object) -> str:
    """Write a member to a new file, and give its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = hashlib.sha256()
    left = size
    with full_disk_named(path), path.open("xb") as target:
        while left:
            content = stream.read(min(left, CHUNK_BYTES))
            if not content:
                raise BadTarError(where, f"ends inside member {printable(name)!r}: the file was cut off")
            target.write(content)
            state.update(content)
            left -= len(content)
    if len(stream.read(-size % BLOCK)) < -size % BLOCK:
        raise BadTarError(where, f"ends inside member {printable(name)!r}: the file was cut off")
    return state.hexdigest()
