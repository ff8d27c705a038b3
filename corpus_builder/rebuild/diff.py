"""Compares two corpora, packs or plans: recipe, sources, utterances, conditions, parameters, PCM.

Both are read into a temporary database, so that two corpora of millions of utterances in whatever order need little memory.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, get_args

from corpus_builder.rebuild.wave_verdict import Indexed, Verdict, compared, shard_samples
from manifests.corpus.layout import plain_rows, tar_name
from manifests.io.place import place_of
from manifests.pack.view import View, open_view
from manifests.results.reports import DiffReport, reported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.rebuild.wave_verdict import Files
    from manifests.io.place import Place

PARTS = ("recipe", "sources", "utterances", "conditions", "parameters", "pcm")
ABSENT = "absent"


@dataclass
class Differences:
    """The differences of two corpora, packs or plans.

    Attributes:
        first: Description of the first.
        second: Description of the second.
        lines: Every difference as a line of JSON, in a temporary file.
        counts: How many differences of each part.
        same: How many things of each part are the same.
        pcm: How many waves have each verdict; None if one of the two has no waves.
    """

    first: str
    second: str
    lines: IO[str]
    counts: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    pcm: Counter[str] | None = None

    def add(self, part: str, **details: Any) -> None:
        """Add one difference."""
        self.counts[part] += 1
        self.lines.write(json.dumps({"part": part, **details}) + "\n")

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return sum(self.counts.values()) > 0

    def every(self) -> Iterator[str]:
        """Every difference as a line of JSON."""
        self.lines.seek(0)
        for line in self.lines:
            yield line.rstrip("\n")

    def summary(self) -> list[str]:
        """One screen."""
        lines = [f"A  {self.first}", f"B  {self.second}"]
        for part in PARTS:
            if part == "pcm" and self.pcm is None:
                lines.append(f"{part:<12}not compared: a plan has no waves")
                continue
            same = "" if part == "recipe" else f"{self.same[part]} the same, "
            text = f"{same}{self.counts[part]} differ" if self.counts[part] or same else "the same"
            if part == "pcm" and self.pcm is not None:
                text = ", ".join(f"{self.pcm[verdict]} {verdict}" for verdict in ("identical", "near", "different"))
            lines.append(f"{part:<12}{text}")
        return lines

    def plain(self) -> dict[str, Any]:
        """The summary, as plain data."""
        parts: dict[str, Any] = {
            part: {"same": self.same[part], "different": self.counts[part]} for part in PARTS if part != "pcm"
        }
        report = {
            "schema": DiffReport.SCHEMA, "a": self.first, "b": self.second, **parts,
            "pcm": None if self.pcm is None else {verdict: self.pcm[verdict] for verdict in get_args(Verdict)},
        }  # fmt: skip
        return reported(DiffReport, report)


@contextlib.contextmanager
def differences(first: str | Place, second: str | Place) -> Iterator[Differences]:
    """Compare two corpora, packs or plans; the result can be read inside the context.

    Args:
        first: A folder of a corpus or plan, or a pack; or the URL of one.
        second: The same.

    Raises:
        MissingFileError: If one does not exist.
        StillroomError: If one is damaged.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillroom-diff-")))
        pair = open_view(place_of(first), scratch / "a"), open_view(place_of(second), scratch / "b")
        lines = stack.enter_context((scratch / "lines.jsonl").open("w+", encoding="utf-8"))
        found = Differences(pair[0].description, pair[1].description, lines)
        database = stack.enter_context(contextlib.closing(sqlite3.connect(scratch / "both.sqlite")))
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        compare_recipes(found, *pair)
        otherwise = compare_sources(found, database, *pair)
        for name, item in zip("ab", pair, strict=True):
            load(database, name, item)
        compare_rows(found, database, pair, otherwise)
        yield found


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of plain data by its path; the items of a list by number."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None or not value:
        yield path, value
        return
    for key, item in items:
        yield from flat(item, f"{path}.{key}" if path else str(key))


def different_leaves(first: Any, second: Any) -> Iterator[tuple[str, Any, Any]]:
    """Paths at which two plain documents differ, with both values."""
    one, other = dict(flat(first)), dict(flat(second))
    for path in sorted(one.keys() | other.keys()):
        if one.get(path, ABSENT) != other.get(path, ABSENT):
            yield path, one.get(path, ABSENT), other.get(path, ABSENT)


def compare_recipes(found: Differences, first: View, second: View) -> None:
    """Every setting that differs, defaults written out."""
    for path, one, other in different_leaves(first.recipe.plain(), second.recipe.plain()):
        found.add("recipe", path=path, a=one, b=other)


def compare_sources(found: Differences, database: sqlite3.Connection, first: View, second: View) -> Files:
    """Source files by root and path.

    Returns:
        Those that are the same, but were decoded to another PCM.
    """
    database.execute(
        "CREATE TABLE source (which, root, path, stretch, sha256, pcm, PRIMARY KEY (root, path, stretch, which))"
    )
    for name, item in (("a", first), ("b", second)):
        rows = ((name, *source) for source in item.sources())
        database.executemany("INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?)", rows)
    names = (
        "SELECT root, path, max(which = 'a'), max(which = 'b'), max(CASE which WHEN 'a' THEN sha256 END), "
        "max(CASE which WHEN 'b' THEN sha256 END) FROM source GROUP BY root, path ORDER BY root, path"
    )
    for root, path, in_first, in_second, one, other in database.execute(names):
        if not (in_first and in_second):
            found.add("sources", root=root, path=path, only="a" if in_first else "b")
        elif one and other and one != other:
            found.add("sources", root=root, path=path, a=one, b=other)
        else:
            found.same["sources"] += 1
    decoded = (
        "SELECT DISTINCT a.root, a.path FROM source a JOIN source b USING (root, path, stretch) "
        "WHERE a.which = 'a' AND b.which = 'b' AND a.sha256 = b.sha256 AND a.pcm != b.pcm ORDER BY a.root, a.path"
    )
    otherwise = [(str(root), str(path)) for root, path in database.execute(decoded)]
    for root, path in otherwise:
        found.add("sources", root=root, path=path, decoder_differs=True)
    return frozenset(otherwise)


def load(database: sqlite3.Connection, name: str, item: View) -> None:
    """Read rows, index entries and fingerprints of one of the two into a table of its own."""
    database.execute(f"CREATE TABLE {name} (split, id, shard, row, sample, prints, PRIMARY KEY (split, id))")
    for file in item.plan.files:
        indexed = shard_samples(item.folder, file.name, tars=item.place) if item.has_waves else {}
        database.executemany(
            f"INSERT OR REPLACE INTO {name} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 (the name is a or b)
            (
                (row["split"], row["id"], file.name, json.dumps(row), *stored(indexed.get(row["key"])))
                for row in plain_rows(item.folder, file.name)
            ),
        )


def stored(sample: Indexed | None) -> tuple[str | None, str | None]:
    """A sample and its fingerprints as text."""
    if sample is None:
        return None, None
    return sample.sample.model_dump_json(), json.dumps(sample.prints)


def restored(item: View, shard: str, sample: str | None, prints: str | None) -> Indexed | None:
    """A sample and its fingerprints from the text that `stored` made."""
    if sample is None or prints is None:
        return None
    from manifests.corpus.shard_index import IndexedSample

    tar = None if item.kind == "pack" else item.place / tar_name(shard)
    return Indexed(IndexedSample.model_validate_json(sample), json.loads(prints), tar)


def compare_rows(found: Differences, database: sqlite3.Connection, pair: tuple[View, View], otherwise: Files) -> None:
    """Utterances, their conditions and parameters, and their waves."""
    for name, other in (("a", "b"), ("b", "a")):
        alone = (
            f"SELECT split, id FROM {name} WHERE NOT EXISTS (SELECT 1 FROM {other} o WHERE o.split = {name}.split "  # noqa: S608
            f"AND o.id = {name}.id) ORDER BY split, id"
        )
        for split, utterance in database.execute(alone):
            found.add("utterances", split=split, id=utterance, only=name)
    if all(item.has_waves for item in pair):
        found.pcm = Counter()
    both = (
        "SELECT a.shard, a.row, a.sample, a.prints, b.shard, b.row, b.sample, b.prints FROM a JOIN b USING (split, id) "
        "ORDER BY split, id"
    )
    for fields in database.execute(both):
        found.same["utterances"] += 1
        first, second = json.loads(fields[1]), json.loads(fields[5])
        compare_parameters(found, first, second)
        if found.pcm is not None:
            this = restored(pair[0], fields[0], fields[2], fields[3])
            that = restored(pair[1], fields[4], fields[6], fields[7])
            compare_waves(found, shared(first, second), this, that, otherwise)


def compare_parameters(found: Differences, first: dict[str, Any], second: dict[str, Any]) -> None:
    """What was planned for one utterance: which copies, and every number."""
    who = {"split": first["split"], "id": first["id"]}
    one = {copy["name"]: copy for copy in first["copies"]}
    other = {copy["name"]: copy for copy in second["copies"]}
    for name in sorted(one.keys() ^ other.keys()):
        found.add("conditions", **who, copy=name, only="a" if name in one else "b")
    for name in sorted(one.keys() & other.keys()):
        differing = list(different_leaves(one[name], other[name]))
        kinds = [[step["kind"] for step in copy["steps"]] for copy in (one[name], other[name])]
        part = "conditions" if kinds[0] != kinds[1] else "parameters"
        for path, this, that in differing:
            found.add(part, **who, copy=name, path=path, a=this, b=that)
        found.same["conditions"] += kinds[0] == kinds[1]
        found.same["parameters"] += not differing
    for path, this, that in different_leaves(first | {"copies": []}, second | {"copies": []}):
        found.add("parameters", **who, path=path, a=this, b=that)


def shared(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The first row with the copies that both have."""
    names = {copy["name"] for copy in second["copies"]}
    return first | {"copies": [copy for copy in first["copies"] if copy["name"] in names]}


def compare_waves(
    found: Differences, row: dict[str, Any], first: Indexed | None, second: Indexed | None, otherwise: Files
) -> None:
    """The waves of one utterance."""
    assert found.pcm is not None
    for verdict in compared(row, first, second, decoded_otherwise=otherwise):
        found.pcm[verdict.verdict] += 1
        if verdict.verdict == "identical":
            found.same["pcm"] += 1
        else:
            found.add("pcm", **verdict.plain())
