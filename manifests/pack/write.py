"""Writes a pack: everything of a corpus except the audio of speech and noise, as one `.tar.gz`.

```
<name>/pack.json  recipe.yaml  corpus.json  provenance.json  README.md  croissant.json  refused.jsonl
<name>/plan/…                     every drawn number
<name>/rooms/<bank>.jsonl  *.npy  geometry, and the simulated responses as float32
<name>/shards/<shard>.json        the index of each shard, with the digest of each wave
<name>/proof/<shard>.jsonl        a fingerprint of each wave
<name>/sources.jsonl              each stretch of a source file: digest of the file and of its decoded PCM
<name>/SHA256SUMS
```

The same corpus gives the same bytes: the tar has fixed headers and order, gzip no time and no name, and time and command in it are
those of the sealing. `read` unpacks it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, cast

from manifests.corpus.fingerprints import decoded_sources
from manifests.corpus.layout import (
    CARD,
    CORPUS,
    CROISSANT,
    LEVELS,
    LOCAL_ROOTS,
    PACK,
    PACKED_SOURCES,
    PLAN,
    PROVENANCE,
    RECIPE,
    REFUSED,
    ROOMS,
    ROOMS_FOLDER,
    SPECTRA,
    SUMS,
    bank_name,
    index_name,
    listed_sums,
    plan_rows_name,
    prints_name,
    read_plan,
    read_recipe,
    sums_text,
)
from manifests.corpus.provenance import home_folder
from manifests.corpus.shard_index import read_corpus
from manifests.errors import BadDocumentError, BadTarError, DigestMismatchError, StillroomError, UsageError, printable
from manifests.io.atomic import replacing
from manifests.io.digest import bytes_digest, canonical_json, digest
from manifests.io.json_yaml import read_bytes
from manifests.io.place import place_of
from manifests.io.progress import Progress
from manifests.io.tar import TarBuilder
from manifests.pack.contents import Pack
from manifests.pack.fetched import fetched
from manifests.pack.read import pack_at
from manifests.plan.plan import LocalRoots
from manifests.recipe.rooms import RoomBank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from manifests.corpus.shard_index import Corpus
    from manifests.io.place import Place


GZIP_LEVEL: Final = 8


ENDINGS: Final = (".tar.gz", ".tgz")


class NamesThisMachineError(StillroomError, ValueError):
    """A file of the corpus names a folder of this machine, and a pack is for others."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(
            f"{printable(name)} holds {printable(folder)!r}, a folder of this machine (in a text or custom field of the sources?); "
            "nothing was packed: remove it from the manifest or table, and build again"
        )


def pack_path(target: Place, name: str) -> Place:
    """The file to write: the target itself, or `<name>.tar.gz` in it if it is a folder.

    Raises:
        UsageError: If its name does not end in .tar.gz or .tgz.
    """
    if target.is_dir():
        return target / f"{name}.tar.gz"
    if not target.name.lower().endswith(ENDINGS):
        raise UsageError(
            f"{printable(target)}: a pack is a gzip tar; name a file that ends in .tar.gz, or an existing folder"
        )
    return target


def write_pack(corpus: str | Place, target: str | Place, *, progress: bool = True) -> tuple[Place, Pack]:
    """Pack a sealed corpus.

    Args:
        corpus: Its folder or URL.
        target: The file to write, or a folder to write `<name>.tar.gz` in, or the URL of either; an earlier pack of the same
            corpus is replaced.
        progress: Show how far it is.

    Returns:
        The file, and its `pack.json`.

    Raises:
        MissingFileError: If the corpus is not sealed, or has no fingerprints.
        UsageError: If it is a subset or an index, the name is not that of a pack, or another file has it.
        DigestMismatchError: If a file of the corpus does not have its digest in SHA256SUMS.
        NamesThisMachineError: If a file names a folder of this machine.
    """
    corpus, target = place_of(corpus), place_of(target)
    sealed = read_corpus(corpus)
    if sealed.borrowed is not None:
        what = (
            "an index of external shards, which have no plan"
            if sealed.borrowed.foreign
            else "a subset, which has no shards of its own"
        )
        raise UsageError(
            f"{printable(corpus)} is {what}: pack a whole corpus that `stillroom build` made; `stillroom rebuild` takes a part of its pack by "
            "--split, --condition and --limit"
        )
    path = pack_path(target, sealed.name)
    if real(corpus) in real(path).parents:
        raise UsageError(f"{printable(path)} is in the corpus itself; name a path outside it for the pack")
    with contextlib.ExitStack() as stack:
        if not isinstance(path, Path):
            path.parent.check_writable()
        refuse_other(path, sealed)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillroom-pack-")))
        packer = Packer(fetched(corpus, scratch / "corpus", needed="a sealed corpus"), sealed)
        local = path if isinstance(path, Path) else scratch / path.name
        with replacing(local) as part, part.open("wb") as plain:
            stream = GzipWriter(plain)
            pack = packer.write(cast("IO[bytes]", stream), progress=progress)
            stream.close()
        if not isinstance(path, Path):
            path.put_file(local)
    return path, pack


def refuse_other(path: Place, sealed: Corpus) -> None:
    """Refuse to write over anything but an earlier pack of the same plan.

    Raises:
        UsageError: If another file is there.
    """
    try:
        found = pack_at(path)
    except (BadTarError, BadDocumentError):
        raise UsageError(
            f"{printable(path)} exists and is no pack that can be read; choose another name, or remove it first"
        ) from None
    if found is not None and found.plan_sha256 != sealed.plan_sha256:
        raise UsageError(
            f"{printable(path)} is the pack of another corpus, {printable(found.name)!r} with plan {found.plan_sha256[:12]} (this one is "
            f"{printable(sealed.name)!r} with plan {sealed.plan_sha256[:12]}); choose another name, or remove it first"
        )


def real(place: Place) -> PurePath:
    """A path without links, or the text of a URL as one."""
    return place.resolve() if isinstance(place, Path) else PurePath(str(place))


class GzipWriter:
    """Writes gzip without a time or name in its header.

    `Z_FILTERED` ignores short matches: digests are random, and a match of four of their digits costs more than the digits. It
    makes packs 5 % smaller than `gzip.GzipFile`, which has no such setting.

    Args:
        stream: Where the bytes go; not closed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.count = stream, 0
        self.state = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS + 16, 9, zlib.Z_FILTERED)

    def write(self, content: bytes) -> int:
        """Compress all of it."""
        self.stream.write(self.state.compress(content))
        self.count += len(content)
        return len(content)

    def tell(self) -> int:
        """Number of bytes written, before compression."""
        return self.count

    def close(self) -> None:
        """Flush the compressor."""
        self.stream.write(self.state.flush())


class Packer:
    """Writes one corpus into a tar.

    Args:
        corpus: Its folder.
        sealed: Its `corpus.json`.
    """

    def __init__(self, corpus: Path, sealed: Corpus) -> None:
        self.corpus, self.sealed = corpus, sealed
        self.plan, self.recipe = read_plan(corpus), read_recipe(corpus)
        if digest(self.plan) != sealed.plan_sha256:
            raise BadDocumentError(corpus / PLAN, "is not the plan that the corpus was sealed with")
        self.expected = listed_sums(read_bytes(corpus / SUMS, needed="the digests of the corpus"), where=corpus / SUMS)
        self.sums: dict[str, str] = {}
        self.private = private_folders(corpus)
        self.waves = 0

    def write(self, stream: IO[bytes], *, progress: bool) -> Pack:
        """Write the tar; returns its `pack.json`."""
        shards = [file.name for file in self.plan.files]
        simulated = [name for name, bank in self.recipe.rooms.items() if isinstance(bank, RoomBank)]
        sources = list(self.sources())
        responses = sorted(
            path.name for name in simulated for path in (self.corpus / ROOMS_FOLDER).glob(f"{name}-*.npy")
            if path.name.rsplit("-", 2)[0] == name
        )  # fmt: skip
        pack = self.described(responses=len(responses), sources=len(sources))
        tar = TarBuilder(stream)
        self.add(tar, PACK, canonical_json(pack) + b"\n")
        top = [RECIPE, CORPUS, PROVENANCE, CARD, CROISSANT, REFUSED]
        plans = [PLAN, LEVELS, ROOMS, *([SPECTRA] if self.plan.spectra_sha256 else [])]
        banks = [name for name in map(bank_name, self.recipe.rooms) if (self.corpus / name).exists()]
        for name in [*top, *plans, *banks, *(f"{ROOMS_FOLDER}/{name}" for name in responses)]:
            self.copy(tar, name)
        with Progress("packing", total=len(shards), unit="shards", shown=progress) as shown:
            for name in shards:
                for file in (plan_rows_name(name), index_name(name), prints_name(name)):
                    self.copy(tar, file)
                shown.advance()
        self.add(tar, PACKED_SOURCES, b"".join(line + b"\n" for line in sources))
        tar.add(f"{self.sealed.name}/{SUMS}", sums_text(self.sums).encode())
        tar.close()
        return pack

    def described(self, *, responses: int, sources: int) -> Pack:
        """The `pack.json`."""
        waves = sum(
            entry.samples * (1 + sum(self.sealed.copies.get(split, {}).values()))
            for split, entries in self.sealed.splits.items()
            for entry in entries
        )
        return Pack.parse(
            {
                "schema": Pack.SCHEMA,
                "name": self.sealed.name,
                "recipe_sha256": self.sealed.recipe_sha256,
                "plan_sha256": self.sealed.plan_sha256,
                "corpus_sha256": self.expected.get(CORPUS, ""),
                "samples": self.sealed.totals.samples,
                "waves": waves,
                "responses": responses,
                "sources": sources,
            },
            where=self.corpus / SUMS,
        )

    def copy(self, tar: TarBuilder, name: str) -> None:
        """Add a file of the corpus, which must have its digest in SHA256SUMS."""
        needed = "a part of the corpus; if it was built by an earlier Stillroom, build it again"
        content = read_bytes(self.corpus / name, needed=needed)
        found = bytes_digest(content)
        if name != PROVENANCE and found != (expected := self.expected.get(name, "not listed")):
            raise DigestMismatchError(self.corpus / name, expected=expected, found=found)
        self.add(tar, name, content)

    def add(self, tar: TarBuilder, name: str, content: bytes) -> None:
        """Add a member, unless it names a folder of this machine."""
        if not name.endswith(".npy"):
            for folder in self.private:
                if folder in content:
                    raise NamesThisMachineError(name, folder.decode(errors="replace"))
        self.sums[name] = bytes_digest(content)
        tar.add(f"{self.sealed.name}/{name}", content)

    def sources(self) -> Iterator[bytes]:
        """Every stretch of a source file that was decoded, once, in the order of the shards.

        Raises:
            BadDocumentError: If a file changed while the corpus was built.
        """
        seen: dict[bytes, bytes] = {}
        for file in self.plan.files:
            for source in decoded_sources(self.corpus, file.name):
                line = canonical_json(source)
                key, value = (bytes.fromhex(digest(list(source.stretch)))[:12], bytes.fromhex(bytes_digest(line))[:12])
                if seen.setdefault(key, value) != value:
                    where = f"root {source.root}: {source.path}"
                    raise BadDocumentError(where, "was changed while the corpus was built; build it again")
                if seen[key] is value:
                    yield line


def private_folders(corpus: Path) -> list[bytes]:
    """Folders of this machine that no pack may name: those of the roots, of the corpus and of the user, and targets of links."""
    home = home_folder()
    folders = {str(corpus.absolute())} | ({str(home)} if home is not None else set())
    local = corpus / LOCAL_ROOTS
    if local.exists():
        folders |= set(LocalRoots.read(local, needed="the roots").roots.values())
    folders |= {os.path.realpath(folder) for folder in folders if "://" not in folder}
    return [f"{folder.rstrip('/')}/".encode() for folder in sorted(folders) if len(folder.strip("/")) > 0]
