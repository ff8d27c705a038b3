"""Where a corpus is made: its own folder, or a place of work whose files are sent to a URL as they are finished.

Everything above the tars is small and stands in both; tars go away here once they are there. The URL is the truth: what it has
is fetched before anything is decided, so that another machine can go on. The marks come last there as here: a shard's index
after its tar, `plan.json` after its rows, a bank's list after its responses, `corpus.json` after everything.
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
from manifests.corpus.fingerprints import proof_name, sources_name
from manifests.errors import UsageError, printable
from manifests.io.atomic import replacing
from manifests.io.place import size_of, sizes_below
from manifests.io.url import Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from manifests.io.place import Place

TRANSFERS = 8
SEAL = ("refused.jsonl", "README.md", "croissant.json", "provenance.json", "SHA256SUMS", "corpus.json")
OURS = {"plan", "rooms", "shards", "proof", "recipe.yaml", *SEAL}
ROWS = re.compile(r"-[0-9]{6}\.jsonl$")
FETCHING = threading.Lock()


@dataclass(frozen=True)
class Target:
    """Where a corpus is made.

    Attributes:
        work: The folder that is written in; the corpus itself if there is no URL.
        url: Where it is sent.
    """

    work: Path
    url: Url | None = None

    @classmethod
    def of(cls, work: str | Path, url: str = "") -> Target:
        """From plain text, as a task carries it."""
        return cls(Path(work), Url(url) if url else None)

    @classmethod
    def at(cls, corpus: Place, *, scratch: Path | None = None) -> Target:
        """The target of a command: a folder as it is, a URL with a place of work of its own.

        Args:
            corpus: What the user named.
            scratch: Where the place of work of a URL is made; the system's folder for temporary files by default.
        """
        if isinstance(corpus, Path):
            return cls(corpus)
        code = hashlib.sha256(corpus.text.encode()).hexdigest()[:12]
        above = scratch if scratch is not None else private_folder()
        return cls(above / f"{corpus.name or 'corpus'}-{code}", corpus)

    def __str__(self) -> str:
        return str(self.url or self.work)

    def shard_sizes(self) -> dict[str, int]:
        """Files of finished and unfinished shards with their sizes, listed anew: network disks remember old listings."""
        place = self.work / "shards" if self.url is None else self.url / "shards"
        return sizes_below(place)

    def index(self, name: str, *, sizes: Mapping[str, int] | None = None) -> Path:
        """A shard's index as a local file, fetched if it has to be; not there if the shard is not finished.

        Raises:
            FileNotFoundError: If the URL has none.
        """
        local = self.work / "shards" / f"{name}.json"
        if self.url is None:
            return local
        there = self.url / "shards" / f"{name}.json"
        size = size_of(there) if sizes is None else sizes.get(there.name)
        if size is None:
            raise FileNotFoundError(str(there))
        if size_of(local) != size:
            with replacing(local) as part:
                there.fetch(part)
        return local

    def tar_size(self, name: str, *, sizes: Mapping[str, int] | None = None) -> int | None:
        """Size of a shard's tar where it counts; None if it is not there."""
        if sizes is not None:
            return sizes.get(f"{name}.tar")
        return size_of((self.work if self.url is None else self.url) / "shards" / f"{name}.tar")

    def fetch(self) -> None:
        """Bring what the URL has above its tars; drop what another corpus left in the place of work.

        Raises:
            UsageError: If the URL holds something else than a corpus.
            UnreachableError: If it does not answer.
        """
        if self.url is None:
            return
        there = sizes_below(self.url)
        strange = sorted(name for name in there if name.partition("/")[0] not in OURS and not name.startswith("."))
        if strange:
            raise UsageError(
                f"{self.url} holds {printable(strange[0])!r}, which is not of a plan or corpus; choose a new place"
            )
        mark = self.work / "plan" / "plan.json"
        if "plan/plan.json" in there and mark.exists() and mark.read_bytes() != (self.url / "plan/plan.json").read():
            self.forget()
        if "corpus.json" not in there:
            (self.work / "corpus.json").unlink(missing_ok=True)
        marks = [
            "plan/plan.json",
            *sorted(name for name in there if name.startswith("rooms/") and name.endswith(".jsonl")),
        ]
        planned = "plan/plan.json" in there
        wanted = [
            name for name in there
            if name not in marks and not name.endswith(".tar")
            and (planned or not name.startswith("plan/"))
        ]  # fmt: skip
        for names in (wanted, [name for name in marks if name in there]):
            transfer(self.fetch_one, [name for name in names if size_of(self.work / name) != there[name]])

    def fetch_for(self, name: str) -> None:
        """What a worker on another machine needs for one shard, if it is not in its place of work."""
        if self.url is None or (self.work / "plan" / f"{name}.jsonl").exists():
            return
        with FETCHING:  # threads of one process would write the same temporary files
            rooms = [f"rooms/{one}" for one in sizes_below(self.url / "rooms")]
            shared = [f"plan/{one}" for one in sizes_below(self.url / "plan") if not ROWS.search(one)]
            for below in (*rooms, *shared, f"plan/{name}.jsonl"):
                if not (self.work / below).exists():
                    self.fetch_one(below)

    def fetch_one(self, name: str) -> None:
        """Bring one file."""
        assert self.url is not None
        with replacing(self.work / name) as part:
            (self.url / name).fetch(part)

    def send(self, names: Iterable[str], *, marks: Iterable[str] = ()) -> None:
        """Send files that the URL does not have in their length, then those that mark them as finished.

        Args:
            names: Relative paths.
            marks: Sent one after another when all others are there.
        """
        if self.url is None:
            return
        url = self.url
        there = sizes_below(url)
        names, marks = list(names), list(marks)
        if all(there.get(name) == size_of(self.work / name) for name in (*names, *marks)):
            return
        transfer(
            lambda name: (url / name).put_file(self.work / name),
            [name for name in names if there.get(name) != size_of(self.work / name)],
        )
        for name in marks:
            (url / name).put_file(self.work / name)

    def send_plan(self) -> None:
        """Send the plan."""
        rows = sorted(f"plan/{path.name}" for path in (self.work / "plan").glob("*.jsonl") if path.name[0] != ".")
        self.send(["recipe.yaml", *rows], marks=["plan/plan.json"])

    def send_rooms(self) -> None:
        """Send the responses of all banks, then their lists."""
        found = sorted(path.name for path in (self.work / "rooms").glob("*") if path.name[0] != "." and path.is_file())
        lists = [f"rooms/{name}" for name in found if name.endswith(".jsonl")]
        self.send([f"rooms/{name}" for name in found if not name.endswith(".jsonl")], marks=lists)

    def send_shard(self, name: str) -> None:
        """Send a finished shard, its index last; its tar goes away here."""
        if self.url is None:
            return
        tar = self.work / "shards" / f"{name}.tar"
        (self.url / "shards" / tar.name).put_file(tar)
        for proof in (proof_name(name), sources_name(name)):
            (self.url / proof).put_file(self.work / proof)
        (self.url / "shards" / f"{name}.json").put_file(self.work / "shards" / f"{name}.json")
        tar.unlink(missing_ok=True)

    def send_seal(self) -> None:
        """Send what stands above the shards, `corpus.json` last."""
        if self.url is None:
            return
        for name in SEAL:
            (self.url / name).put_file(self.work / name)

    def unseal(self) -> None:
        """Take the seal away: shards are about to be made again."""
        (self.work / "corpus.json").unlink(missing_ok=True)
        if self.url is not None and (self.url / "corpus.json").exists():
            (self.url / "corpus.json").remove()

    def forget(self) -> None:
        """Empty the place of work of a URL; what counts stands there."""
        if self.url is None:
            return
        for path in self.work.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def transfer(move: Callable[[str], None], names: list[str]) -> None:
    """Move several files at once; the first that fails is told."""
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
