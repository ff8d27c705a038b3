"""Where a corpus is written: its own folder, or a working folder whose files are uploaded to a URL as they are finished.

All files but the tars are small and are in both; a tar is removed here once it is uploaded. The files at the URL decide: they are
fetched before anything else is done, so that another machine can continue. Marks of completion are written last in both: a shard's
index after its tar, `plan.json` after its rows, a bank's list after its responses, `corpus.json` after everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.workers.stale_files import private_folder
from manifests.corpus.layout import (
    CORPUS,
    PLAN,
    PLAN_FOLDER,
    RECIPE,
    ROOMS_FOLDER,
    SEAL,
    SHARDS_FOLDER,
    UTTERANCES_FOLDER,
    index_name,
    plan_rows_name,
    prints_name,
    sources_name,
    tar_name,
    top_names,
)
from manifests.errors import UsageError, printable
from manifests.io.atomic import replacing
from manifests.io.place import size_of, sizes_below
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from manifests.io.place import Place

TRANSFERS = 8
ROWS = re.compile(r"-[0-9]{6}\.jsonl$")
FETCHING = threading.Lock()


@dataclass(frozen=True)
class Target:
    """Where a corpus is written.

    Attributes:
        work: The working folder; the corpus itself if there is no URL.
        url: Where it is uploaded to.
    """

    work: Path
    url: Url | None = None

    @classmethod
    def of(cls, work: str | Path, url: str = "") -> Target:
        """From the texts of a task."""
        return cls(Path(work), Url(url) if url else None)

    @classmethod
    def at(cls, corpus: Place, *, scratch: Path | None = None) -> Target:
        """The target of a command: a folder, or a URL with a working folder of its own.

        Args:
            corpus: As the user named it.
            scratch: Where the working folder of a URL is made; the system's folder for temporary files by default.
        """
        if isinstance(corpus, Path):
            return cls(corpus)
        code = hashlib.sha256(corpus.text.encode()).hexdigest()[:12]
        parent = scratch if scratch is not None else private_folder()
        return cls(parent / f"{corpus.name or 'corpus'}-{code}", corpus)

    def __str__(self) -> str:
        return str(self.url or self.work)

    def shard_sizes(self) -> dict[str, int]:
        """Files of finished and unfinished shards with their sizes, listed again: network disks cache old listings."""
        place = (self.work if self.url is None else self.url) / SHARDS_FOLDER
        return sizes_below(place)

    def index(self, name: str, *, sizes: Mapping[str, int] | None = None) -> Path:
        """A shard's index as a local file, fetched if need be; it does not exist if the shard is not finished.

        Raises:
            FileNotFoundError: If the URL has none.
        """
        local = self.work / index_name(name)
        if self.url is None:
            return local
        remote = self.url / index_name(name)
        size = size_of(remote) if sizes is None else sizes.get(remote.name)
        if size is None:
            raise FileNotFoundError(str(remote))
        if size_of(local) != size:
            with replacing(local) as part:
                remote.fetch(part)
        return local

    def tar_size(self, name: str, *, sizes: Mapping[str, int] | None = None) -> int | None:
        """Size of a shard's tar, at the URL if there is one; None if it does not exist."""
        if sizes is not None:
            return sizes.get(f"{name}.tar")
        return size_of((self.work if self.url is None else self.url) / tar_name(name))

    def fetch(self) -> None:
        """Download all files but the tars; remove what another corpus left in the working folder.

        Raises:
            UsageError: If the URL has other files than those of a corpus.
            MissingFileError: If the corpus is not sealed, and there is no bucket to write to; NoAccessError if it may not be written.
            UnreachableError: If it does not respond.
        """
        if self.url is None:
            return
        remote = sizes_below(self.url)
        known = top_names(sent=True)
        unknown = sorted(name for name in remote if name.partition("/")[0] not in known and not name.startswith("."))
        if unknown:
            raise UsageError(
                f"{self.url} has {printable(unknown[0])!r}, which is no file of a plan or corpus; choose an empty folder"
            )
        if CORPUS not in remote:  # before hours of planning
            self.url.check_writable()
        mark = self.work / PLAN
        if PLAN in remote and mark.exists() and mark.read_bytes() != (self.url / PLAN).read():
            self.clear()
        if CORPUS not in remote:
            (self.work / CORPUS).unlink(missing_ok=True)
        marks = [
            PLAN,
            *sorted(name for name in remote if name.startswith(f"{ROOMS_FOLDER}/") and name.endswith(".jsonl")),
        ]
        planned = PLAN in remote
        wanted = [
            name for name in remote
            if name not in marks and not name.endswith(".tar")
            and (planned or not name.startswith(f"{PLAN_FOLDER}/"))
        ]  # fmt: skip
        for names in (wanted, [name for name in marks if name in remote]):
            transfer(self.fetch_one, [name for name in names if size_of(self.work / name) != remote[name]])

    def fetch_anew(self) -> None:
        """As `fetch`; without a plan at the URL nothing stays that another corpus left in the working folder."""
        self.fetch()
        if self.url is not None and (self.work / PLAN).exists() and not (self.url / PLAN).exists():
            self.clear()

    def fetch_for(self, name: str) -> None:
        """Download what a worker on another machine needs for one shard and does not have."""
        if self.url is None or (self.work / plan_rows_name(name)).exists():
            return
        with FETCHING:  # threads of one process would write the same temporary files
            rooms = [f"{ROOMS_FOLDER}/{one}" for one in sizes_below(self.url / ROOMS_FOLDER)]
            plan = sizes_below(self.url / PLAN_FOLDER)
            shared = [f"{PLAN_FOLDER}/{one}" for one in plan if not ROWS.search(one)]
            for below in (*rooms, *shared, plan_rows_name(name)):
                if not (self.work / below).exists():
                    self.fetch_one(below)

    def fetch_one(self, name: str) -> None:
        """Download one file."""
        assert self.url is not None
        with replacing(self.work / name) as part:
            (self.url / name).fetch(part)

    def send(self, names: Iterable[str], *, marks: Iterable[str] = ()) -> None:
        """Upload files that the URL does not have with their sizes, then those that mark them as finished.

        Args:
            names: Relative paths.
            marks: Uploaded one after another when all others are.
        """
        if self.url is None:
            return
        url = self.url
        remote = sizes_below(url)
        names, marks = list(names), list(marks)
        if all(remote.get(name) == size_of(self.work / name) for name in (*names, *marks)):
            return
        transfer(
            lambda name: (url / name).put_file(self.work / name),
            [name for name in names if remote.get(name) != size_of(self.work / name)],
        )
        for name in marks:
            (url / name).put_file(self.work / name)

    def send_plan(self) -> None:
        """Upload the plan."""
        files = (self.work / PLAN_FOLDER).glob("*.jsonl")
        rows = sorted(f"{PLAN_FOLDER}/{path.name}" for path in files if path.name[0] != ".")
        self.send([RECIPE, *rows], marks=[PLAN])

    def send_rooms(self) -> None:
        """Upload the responses of all banks, then their lists."""
        files = [path for path in (self.work / ROOMS_FOLDER).glob("*") if path.name[0] != "." and path.is_file()]
        names = sorted(f"{ROOMS_FOLDER}/{path.name}" for path in files)
        lists = [name for name in names if name.endswith(".jsonl")]
        self.send([name for name in names if name not in lists], marks=lists)

    def send_shard(self, name: str) -> None:
        """Upload a finished shard, its index last, and remove its tar here."""
        if self.url is None:
            return
        for path in (tar_name(name), prints_name(name), sources_name(name), index_name(name)):
            (self.url / path).put_file(self.work / path)
        (self.work / tar_name(name)).unlink(missing_ok=True)

    def send_seal(self) -> None:
        """Upload what is written when all shards are finished, `corpus.json` last."""
        if self.url is None:
            return
        lists = sorted(f"{UTTERANCES_FOLDER}/{path.name}" for path in (self.work / UTTERANCES_FOLDER).glob("[!.]*"))
        for name in (*lists, *SEAL):
            (self.url / name).put_file(self.work / name)

    def unseal(self) -> None:
        """Remove `corpus.json`: shards are about to be made again."""
        (self.work / CORPUS).unlink(missing_ok=True)
        if self.url is not None and (self.url / CORPUS).exists():
            (self.url / CORPUS).remove()

    def clear(self) -> None:
        """Empty the working folder of a URL."""
        if self.url is None:
            return
        for path in self.work.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def transfer(move: Callable[[str], None], names: list[str]) -> None:
    """Move several files at once; the error of the first that fails is raised."""
    if len(names) <= 1:
        for name in names:
            move(name)
        return
    with ThreadPoolExecutor(TRANSFERS) as threads:
        futures = [threads.submit(move, name) for name in names]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
