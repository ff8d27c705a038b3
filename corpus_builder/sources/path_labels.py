"""Labels of a folder's files, from a template of their paths or a table, and the pattern that selects the files."""

from __future__ import annotations

import csv
import fnmatch
import io
import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus_builder.sources.utterance import Refused
from manifests.errors import BadDocumentError, UnsafePathError, printable
from manifests.io.json_yaml import read_bytes, safe_relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifests.io.place import Place

LONGEST_PATTERN = 200
BLANKS_AFTER_QUOTE = re.compile(r'(?<!")"[ \t]+(?=[,\r\n]|\Z)')  # `"a.wav" ,text`, which csv takes for an error

NOT_PLAIN = re.compile(
    r"[^!-\[\]-~]|//|(?:^|/)\.?(?:/|$)"
)  # what is no visible ASCII, a backslash, an empty part, a `.`


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


@dataclass(frozen=True)
class LabelTable:
    """A table of labels: its rows by path, each removed when its file is found.

    Attributes:
        name: Its file name, for messages.
        rows: By their paths as the table spells them: the number of the line, and the labels.
        spellings: The paths of rows that are not in plain form, by their plain form.
        refused: What is no row, or names no path below the folder.
    """

    name: str
    rows: dict[str, tuple[int, dict[str, str]]]
    spellings: dict[str, list[str]]
    refused: list[Refused]

    def add(self, line: int, path: str, labels: dict[str, str]) -> None:
        """Add a row.

        Raises:
            ValueError: If there is one for the same path.
        """
        if path in self.rows:
            raise ValueError(f"path {printable(path)!r} occurs twice; line {self.rows[path][0]} is used")
        self.rows[path] = line, labels
        if (plain := plain_form(path)) != path:
            self.spellings.setdefault(plain, []).append(path)

    def pop(self, path: str) -> dict[str, str] | None:
        """Labels of a file whose path the table spells as the disk does."""
        row = self.rows.pop(path, None)
        return None if row is None else row[1]

    def pop_spelling(self, path: str) -> dict[str, str] | None:
        """Labels of a file whose path the table spells in another way: in NFC for NFD, with `./`, `//`, backslashes or blanks around it."""
        plain = plain_form(path)
        for spelling in (plain, *self.spellings.get(plain, ())):
            if spelling in self.rows:
                return self.pop(spelling)
        return None


def trimmed(path: str) -> str:
    r"""A path of a table with `/` for each backslash, and no blanks around its parts."""
    return "/".join(part.strip() for part in path.replace("\\", "/").split("/"))


def plain_form(path: str) -> str:
    """A path as most tables spell it: in NFC, `/` for a backslash, no blanks around its parts, none of them empty or `.`."""
    if not NOT_PLAIN.search(path):  # nearly always
        return path
    parts = trimmed(unicodedata.normalize("NFC", path)).split("/")
    return "/".join(part for part in parts if part not in {"", "."})


def read_table(path: Place) -> LabelTable:
    """A CSV with the column `path` (relative to the folder); other columns are labels, empty cells are none.

    Blanks around cells, a byte order mark and any ends of lines are accepted. A bad row is refused alone.

    Raises:
        BadDocumentError: If it is no text, the column is missing, or a column occurs twice.
    """
    content = read_bytes(path, needed="the table of labels")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadDocumentError(path, "is UTF-16 text; expected a CSV table in UTF-8: save it as UTF-8")
    lines = list(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""))
    rows = csv_rows(lines)
    names = table_head(path, next(rows, (1, [])))
    table = LabelTable(path.name, {}, {}, [])
    for line, cells in rows:
        try:
            table.add(line, *table_row(names, cells))
        except (ValueError, UnsafePathError) as problem:
            table.refused.append(Refused(f"{printable(table.name)}:{line}", str(problem)))
    return table


def csv_rows(lines: list[str]) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Cells of each row that is not blank, with the number of its line; what is no CSV gives its error, and the next line begins a row."""
    start = 0
    has_blanks_after_quotes = True  # perhaps: removed where a row is no CSV with them
    while start < len(lines):
        reader = csv.reader((lines[at] for at in range(start, len(lines))), skipinitialspace=True, strict=True)
        read = 0
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield start + read + 1, cells
                read = reader.line_num
            start = len(lines)
        except csv.Error as problem:
            start += read
            if has_blanks_after_quotes:
                lines[start:] = [BLANKS_AFTER_QUOTE.sub('"', line) for line in lines[start:]]
                has_blanks_after_quotes = False
            else:
                yield start + 1, problem
                start += 1


def table_head(path: Place, head: tuple[int, list[str] | csv.Error]) -> list[str]:
    """Names of the columns; an empty one has no labels.

    Raises:
        BadDocumentError: If there is no column `path`, or one occurs twice.
    """
    if isinstance(head[1], csv.Error):
        raise BadDocumentError(path, f"not a CSV table: {printable(head[1])}")
    names = [name.strip() for name in head[1]]
    if "path" not in names:
        apart = next((sign for sign in (";", "\t", "|") if len(names) == 1 and sign in names[0]), None)
        what = f"save it with commas in place of {apart!r}" if apart else "name the column that has the files 'path'"
        raise BadDocumentError(path, f"has no column 'path'; its columns are {printable(', '.join(names))}: {what}")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise BadDocumentError(path, f"has more than one column {printable(twice[0])!r}; rename or remove one")
    return names


def table_row(names: list[str], cells: list[str] | csv.Error) -> tuple[str, dict[str, str]]:
    """Path and labels of a row.

    Raises:
        ValueError: If it does not fit the head, or is no text.
        UnsafePathError: If its path leads out of the folder.
    """
    if isinstance(cells, csv.Error):
        raise ValueError(f"is no row of a CSV table: {printable(cells)}; mend its quotation marks")  # noqa: TRY004 (bad data)
    if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
        raise ValueError(
            f"has {len(cells)} cells, the head of the table has {len(names)}; a text with a comma needs quotation marks"
        )
    if "\0" in (whole := "".join(cells)) or not is_unicode(whole):
        raise ValueError("is not UTF-8 text, or holds a NUL character; save the table as UTF-8")
    row = dict(zip(names, cells, strict=False))
    below = row.pop("path")
    if trimmed(below).startswith("/"):
        raise ValueError(
            f"the column path: {printable(below)!r} is absolute; write it relative to the folder of the recipe's dir"
        )
    safe_relative(trimmed(below), where="the column path")
    labels = {name: value.strip() for name, value in row.items() if value.strip()}
    if "" in labels:
        raise ValueError("has a cell in a column without a name")
    return below, labels


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_labels(below: str, *, template: Template | None, row: dict[str, str] | None) -> dict[str, Any] | None:
    """Labels of a file from the template and then the table; None if its path does not fit the template."""
    labels: dict[str, Any] = {}
    if template is not None:
        fits = template.fullmatch(below)
        if fits is None:
            return None
        labels.update(fits)
    return {**labels, **(row or {})}
