"""Labels of a folder's files, from a template of their paths or a table, and the pattern that selects the files."""

from __future__ import annotations

import csv
import fnmatch
import io
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manifests.errors import BadDocumentError, printable
from manifests.io.json_yaml import read_bytes, safe_relative

if TYPE_CHECKING:
    from manifests.io.place import Place

LONGEST_PATTERN = 200


@dataclass(frozen=True)
class Glob:
    """A glob pattern for relative paths, matched one part at a time: linear in the path for each part of the pattern.

    Attributes:
        parts: An expression for one name each; None for `**`, any number of folders (at the end: at least one name).
    """

    parts: tuple[re.Pattern[str] | None, ...]

    def fullmatch(self, below: str) -> bool:
        """Whether a relative path fits."""
        names = below.split("/")
        reached = {0}  # how many names the parts so far can have taken
        for number, part in enumerate(self.parts):
            if part is not None:
                reached = {at + 1 for at in reached if at < len(names) and part.fullmatch(names[at])}
            elif reached:
                fewest = 1 if number == len(self.parts) - 1 else 0
                reached = set(range(min(reached) + fewest, len(names) + 1))
        return len(names) in reached


def pattern_of(pattern: str) -> Glob:
    """A glob pattern (`**`, `*`, `?`) for relative paths.

    Raises:
        UnsafePathError: If it leads out of the folder.
        BadDocumentError: If it is too long, or a `**` is not a whole part of it.
    """
    safe_relative(pattern, where="pattern")
    if len(pattern) > LONGEST_PATTERN or pattern.count("*") > 10:
        raise BadDocumentError(
            "pattern", f"is longer than {LONGEST_PATTERN} characters or has more than 10 stars; refused"
        )
    parts = pattern.split("/")
    if any("**" in part and part != "**" for part in parts):
        raise BadDocumentError("pattern", f"{printable(pattern)!r}: ** stands for whole folders, such as **/*.flac")
    # only `*` and `?` are special: a bracket in a file's name is a bracket
    return Glob(
        tuple(None if part == "**" else re.compile(fnmatch.translate(part.replace("[", "[[]"))) for part in parts)
    )


@dataclass(frozen=True)
class Template:
    """A template such as `{speaker}/{id}.flac`: each name takes one character or more but `/`, the first as many as it can.

    A backtracking expression would do the same, but take exponential time for a hostile template with many names in one part; this
    is linear in the path for each name.

    Attributes:
        names: In their order.
        literals: The text before the first name, between names, and after the last.
    """

    names: tuple[str, ...]
    literals: tuple[str, ...]

    def fullmatch(self, below: str) -> dict[str, str] | None:
        """The value of each name, or None if a path does not fit."""
        first, *after = self.literals
        ends: list[list[int]] = []  # of each name, the last first: where it may end so that the rest fits
        starts = {len(below)}
        for literal in reversed(after):
            found = [end for end in offsets(below, literal) if end + len(literal) in starts]
            ends.append(found)
            starts = starts_before(below, found)
        if not below.startswith(first) or (self.names and len(first) not in starts):
            return None
        values: dict[str, str] = {}
        at = len(first)
        for name, literal, found in zip(self.names, after, reversed(ends), strict=True):
            end = found[bisect_right(found, folder_end(below, at)) - 1]
            values[name] = below[at:end]
            at = end + len(literal)
        return values if at == len(below) else None


def folder_end(below: str, start: int) -> int:
    """Where the part of a path that holds an offset ends."""
    slash = below.find("/", start)
    return len(below) if slash < 0 else slash


def offsets(below: str, literal: str) -> list[int]:
    """All offsets of a text in a path, overlaps too, in order; every offset if it is empty."""
    if not literal:
        return list(range(len(below) + 1))
    found = []
    at = below.find(literal)
    while at >= 0:
        found.append(at)
        at = below.find(literal, at + 1)
    return found


def starts_before(below: str, ends: list[int]) -> set[int]:
    """Where a name of one character or more, none of them `/`, may begin that ends at one of some offsets."""
    starts: set[int] = set()
    for end in ends:
        at = end - 1
        while at >= 0 and below[at] != "/" and at not in starts:
            starts.add(at)
            at -= 1
    return starts


def template_of(template: str) -> Template:
    """A template such as `{speaker}/{id}.flac`; everything but its names is literal."""
    pieces = re.split(r"\{([a-z][a-z0-9_]*)\}", template)
    return Template(tuple(pieces[1::2]), tuple(pieces[0::2]))


def read_table(path: Place) -> dict[str, dict[str, str]]:
    """A CSV with the column `path` (relative to the folder); other columns are labels, empty cells are none.

    Returns:
        For each path its labels.

    Raises:
        BadDocumentError: If the column is missing, a column occurs twice, a row has more cells than the head, or a path occurs twice.
    """
    content = read_bytes(path, needed="the table of labels")
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if "path" not in (rows.fieldnames or ()):
            raise BadDocumentError(
                path, f"has no column 'path'; its columns are {printable(', '.join(rows.fieldnames or ()))}"
            )
        twice = sorted({name for name in rows.fieldnames or () if (rows.fieldnames or []).count(name) > 1})
        if twice:
            raise BadDocumentError(path, f"has more than one column {printable(twice[0])!r}; rename or remove one")
        table: dict[str, dict[str, str]] = {}
        for row in rows:
            if None in row or row["path"] is None:
                raise BadDocumentError(f"{path}:{rows.line_num}", "has more or fewer cells than the head of the table")
            below = safe_relative(row.pop("path"), where=f"{path}:{rows.line_num}")
            if below in table:
                raise BadDocumentError(f"{path}:{rows.line_num}", f"path {printable(below)!r} occurs twice")
            table[below] = {name: value for name, value in row.items() if value}
    except (csv.Error, UnicodeDecodeError) as problem:
        raise BadDocumentError(path, f"not a CSV table: {printable(problem)}") from None
    return table


def find_labels(below: str, *, template: Template | None, row: dict[str, str] | None) -> dict[str, Any] | None:
    """Labels of a file from the template and then the table; None if its path does not fit the template."""
    labels: dict[str, Any] = {}
    if template is not None:
        fits = template.fullmatch(below)
        if fits is None:
            return None
        labels.update(fits)
    return {**labels, **(row or {})}
