"""Leaks: the same utterance, speaker, recording, noise or room in two splits, or in two corpora.

What is known of each split is written to a temporary database as facts: a kind of thing, and a value that is equal where the thing
is the same (a digest, a geometry, a label). What two splits share is found in one pass in the order of the values, so that memory does
not grow with the corpora. Nothing here reads audio. An audit cannot prove that there is no leak, so its result is "no match found".
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from manifests.errors import printable
from manifests.results.reports import AuditReport, How, Kind, reported

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from manifests.recipe.speech import Channel

KINDS: Final[tuple[Kind, ...]] = ("utterance", "speaker", "recording", "noise", "room")
HOW_TEXTS: Final[dict[How, str]] = {
    "file": "digest of the file",
    "pcm": "digest of the PCM",
    "path": "path below the root",
    "label": "label: in two corpora it may name two people",
    "geometry": "size and absorption",
    "response": "digest of the response",
    "sound": "acoustic fingerprint",
}
EXAMPLES: Final = 5
NO_MATCH: Final = "no match found"
TABLES: Final = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;
CREATE TABLE fact (kind, how, value, grp, used, example, PRIMARY KEY (kind, how, value, grp)) WITHOUT ROWID;
CREATE TABLE use (corpus, root, path, kind, grp, used, channel, example, PRIMARY KEY (corpus, root, path, kind, grp))
    WITHOUT ROWID;
CREATE TABLE source (corpus, root, path, sha256, pcm);
CREATE INDEX by_path ON source (corpus, root, path);
"""
ADD_FACT: Final = (
    "INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "example = CASE WHEN excluded.used > used THEN excluded.example ELSE example END, used = max(used, excluded.used)"
)
ADD_USE: Final = (  # a copy's noise has no channel, the levels of its file have
    "INSERT INTO use VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET channel = coalesce(channel, excluded.channel), "
    "example = CASE WHEN excluded.used > used THEN excluded.example ELSE example END, used = max(used, excluded.used)"
)
OF_FILES: Final = (
    (
        "SELECT DISTINCT use.kind, 'file', source.sha256, use.grp, use.used, use.example FROM use JOIN source "
        "USING (corpus, root, path) WHERE source.sha256 IS NOT NULL"
    ),
    (
        "SELECT DISTINCT use.kind, 'pcm', source.pcm, use.grp, use.used, use.example FROM use JOIN source "
        "USING (corpus, root, path) WHERE source.pcm IS NOT NULL"
    ),
    (
        "SELECT use.kind, 'path', use.corpus || ':' || use.root || '/' || use.path, use.grp, use.used, use.example FROM use "
        "WHERE NOT EXISTS (SELECT 1 FROM source WHERE source.corpus = use.corpus AND source.root = use.root "
        "AND source.path = use.path AND source.sha256 IS NOT NULL)"
    ),
)


class Group(NamedTuple):
    """One split of one corpus, the corpus by its letter."""

    corpus: str
    split: str

    def __str__(self) -> str:
        return f"{self.corpus}:{printable(self.split)}"


@dataclass
class Leak:
    """The things that two splits share, of one kind and recognised in one way.

    Attributes:
        used: How many of them are in utterances of both; the others were only assigned to both.
        examples: The name of the thing in each of the two.
    """

    kind: Kind
    how: How
    first: Group
    second: Group
    count: int = 0
    used: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, first: str, second: str, *, used: bool) -> None:
        """One more thing that is the same."""
        self.count += 1
        self.used += used
        if len(self.examples) < EXAMPLES:
            self.examples.append((first, second))

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "kind": self.kind, "how": self.how, "between": [list(self.first), list(self.second)], "count": self.count,
            "heard": self.used, "examples": [list(pair) for pair in self.examples],
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """As lines of text."""
        note = (
            "" if self.used == self.count else f", {self.used} of them used in both, the others only assigned to both"
        )
        yield f"  {self.first} and {self.second}: {self.count} the same by {HOW_TEXTS[self.how]}{note}"
        for first, second in self.examples:
            yield f"    {printable(first)}" + ("" if first == second else f" = {printable(second)}")


@dataclass(frozen=True)
class Unchecked:
    """Things that could not be compared.

    Attributes:
        count: How many.
        total: Out of how many.
    """

    kind: Kind
    corpus: str
    split: str | None
    count: int
    total: int
    why: str

    def __str__(self) -> str:
        where = self.corpus if self.split is None else str(Group(self.corpus, self.split))
        return f"{self.kind}, {where}: {self.count} of {self.total} {self.why}"


class Facts:
    """The database.

    Args:
        path: A new file; the caller removes it.
    """

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path)
        self.database.executescript(TABLES)
        self.groups: dict[Group, int] = {}
        self.unchecked: list[Unchecked] = []
        self.declared: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.database.close()

    def group(self, corpus: str, split: str) -> int:
        """The number of a split."""
        return self.groups.setdefault(Group(corpus, split), len(self.groups))

    def add(self, facts: Iterable[tuple[Kind, How, str, int, bool, str]]) -> None:
        """Add facts: kind, way, value, split, whether it is used in an utterance, and its name."""
        self.database.executemany(ADD_FACT, facts)

    def add_uses(self, uses: Iterable[tuple[str, str, str, Kind, int, bool, Channel | None, str]]) -> None:
        """Add files: corpus, root, path, kind, split, whether used, channel, and an utterance or source that has it."""
        self.database.executemany(ADD_USE, uses)

    def add_sources(self, sources: Iterable[tuple[str, str, str, str | None, str | None]]) -> None:
        """Add digests: corpus, root, path, and those of the file and of the PCM of a stretch of it, None where unknown."""
        self.database.executemany("INSERT INTO source VALUES (?, ?, ?, ?, ?)", sources)

    def join(self) -> None:
        """Add facts of the files that are used: by digest, or within a corpus by path where there is none."""
        for query in OF_FILES:
            rows = self.database.execute(query)
            while some := rows.fetchmany(4096):
                self.add(some)
        without = (
            "SELECT kind, grp, count(*), sum(NOT EXISTS (SELECT 1 FROM source s WHERE s.corpus = use.corpus AND "
            "s.root = use.root AND s.path = use.path AND s.sha256 IS NOT NULL)) FROM use GROUP BY kind, grp"
        )
        names = list(self.groups)
        for kind, group, total, count in self.database.execute(without):
            if count:
                corpus, split = names[group]
                why = "files have no digest: they were compared within their corpus, by path"
                self.unchecked.append(Unchecked(kind, corpus, split, count, total, why))

    def files(
        self, kinds: tuple[Kind, ...]
    ) -> Iterator[tuple[str, str, str, str | None, Channel | None, Kind, list[int]]]:
        """Corpus, root, path, digest, channel and kind of each file that is used, with the splits that use it."""
        query = (
            "SELECT corpus, root, path, (SELECT max(sha256) FROM source s WHERE s.corpus = use.corpus AND s.root = use.root "
            "AND s.path = use.path), channel, kind, grp FROM use ORDER BY corpus, root, path, kind"
        )
        rows = self.database.execute(query)
        for (corpus, root, path, sha256, channel, kind), found in itertools.groupby(rows, key=lambda row: row[:6]):
            if kind in kinds:
                yield corpus, root, path, sha256, channel, kind, [row[6] for row in found]

    def checked(self) -> dict[Kind, int]:
        """How many different things of each kind were compared."""
        query = "SELECT kind, count(*) FROM (SELECT DISTINCT kind, how, value FROM fact WHERE how != 'pcm' OR kind = 'utterance') GROUP BY kind"
        found = dict(self.database.execute(query))
        return {kind: int(found.get(kind, 0)) for kind in KINDS}

    def leaks(self, *, editions: bool) -> Leaks:
        """The things that two splits share.

        Args:
            editions: The corpora are editions of one: things that splits of the same name share are no leaks.
        """
        found = Leaks(list(self.groups), editions=editions)
        rows = self.database.execute(
            "SELECT kind, how, value, grp, used, example FROM fact ORDER BY kind, how, value, grp"
        )
        for (kind, how, _), same in itertools.groupby(rows, key=lambda row: row[:3]):
            for first, second in itertools.combinations(list(same), 2):
                names = (first[5], second[5])
                found.add(kind, how, (first[3], second[3]), names, used=bool(first[4] and second[4]))
        return found


class Leaks:
    """Leaks by kind, way and pair of splits.

    Args:
        groups: Every split by its number.
        editions: Splits of the same name in two corpora may share.
    """

    def __init__(self, groups: list[Group], *, editions: bool) -> None:
        self.groups, self.editions = groups, editions
        self.found: dict[tuple[str, str, int, int], Leak] = {}

    def add(self, kind: Kind, how: How, groups: tuple[int, int], names: tuple[str, str], *, used: bool) -> None:
        """Add one thing that two splits share."""
        (one, first), (other, second) = sorted(zip(groups, names, strict=True))
        if one == other or (self.editions and self.groups[one].split == self.groups[other].split):
            return
        leak = self.found.setdefault((kind, how, one, other), Leak(kind, how, self.groups[one], self.groups[other]))
        leak.add(first, second, used=used)

    def of(self, kind: Kind) -> list[Leak]:
        """Those of one kind, in the order of the splits."""
        order = list(HOW_TEXTS)
        return [
            self.found[key]
            for key in sorted(self.found, key=lambda key: (key[2], key[3], order.index(self.found[key].how)))
            if key[0] == kind
        ]


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        corpora: Description of each, by its letter.
        checked: How many different things of each kind were compared.
        declared: Sources that the recipes themselves share between splits.
    """

    corpora: dict[str, str]
    checked: dict[Kind, int]
    leaks: Leaks
    unchecked: list[Unchecked]
    declared: list[str]

    @property
    def leaky(self) -> bool:
        """Whether anything was found."""
        return bool(self.leaks.found)

    def plain(self) -> dict[str, Any]:
        """As one JSON document."""
        report = {
            "schema": AuditReport.SCHEMA,
            "answer": "leaks" if self.leaky else NO_MATCH,
            "corpora": self.corpora,
            "checked": self.checked,
            "leaks": [leak.plain() for kind in KINDS for leak in self.leaks.of(kind)],
            "declared": self.declared,
            "not_checked": [
                {"kind": one.kind, "corpus": one.corpus, "split": one.split, "count": one.count, "of": one.total, "why": one.why}
                for one in self.unchecked
            ],
        }  # fmt: skip
        return reported(AuditReport, report)

    def lines(self) -> Iterator[str]:
        """As lines of text."""
        for letter, words in self.corpora.items():
            yield f"{letter}  {words}"
        for kind in KINDS:
            leaks = self.leaks.of(kind)
            number = f"{self.checked[kind]} compared"
            yield f"{kind:<10} {'LEAK' if leaks else NO_MATCH if self.checked[kind] else 'nothing to compare'} ({number})"
            for leak in leaks:
                yield from leak.lines()
        for text in self.declared:
            yield f"declared   {text}"
        for one in self.unchecked:
            yield f"not checked  {one}"
        yield "leaks were found" if self.leaky else f"{NO_MATCH} in what could be checked"
