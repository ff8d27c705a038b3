"""A Markdown table that reads well in a terminal.

`tabulate` cannot write it: it makes every column two wider than its header, and needs a further library for wide characters.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ROWS = 12
MOST_LETTERS = 95  # of a path under a table; the name of a file is shorter


class Quantity(str):
    """Text of a cell, with the numbers that it shows: unrounded, in the unit of the text.

    Args:
        text: As a page shows it.
        numbers: By what they are (`low`, `high`, a unit); the empty name is for the number that needs none.
    """

    __slots__ = ("numbers",)
    numbers: dict[str, float]

    def __new__(cls, text: str, numbers: dict[str, float]) -> Self:
        """The text; its numbers are an attribute."""
        found = super().__new__(cls, text)
        found.numbers = numbers
        return found


@dataclass(frozen=True)
class Table:
    """A table with its title; the first column is text, the others are numbers.

    Attributes:
        rows: Each as long as the header.
        words: How many columns, from the left, are text.
        more: Where the rows are that are left out.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    more: str = ""

    def head(self, file: str) -> Table:
        """The first `MOST_ROWS` rows, and in which file all of them are; the same table where it has no more."""
        more = more_rows(len(self.rows), file)
        return replace(self, rows=self.rows[:MOST_ROWS], more=more) if more else self

    def csv(self) -> str:
        """All rows as CSV: a column for each number of a cell, unrounded; text where a cell has none."""
        columns = []
        for name, *cells in zip(self.header, *self.rows, strict=True):
            kinds = list(dict.fromkeys(kind for cell in cells for kind in numbers_of(cell))) or [""]
            for place, kind in enumerate(kinds):
                values = [
                    numbers_of(cell).get(kind, cell if place == 0 and not numbers_of(cell) else "") for cell in cells
                ]
                columns.append([*map(printable_value, [f"{name} {kind}".strip(), *values])])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
        return text.getvalue()

    def lines(self) -> list[str]:
        """Markdown lines, columns aligned for a terminal."""
        shown = [[escaped(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(3, *(width_of(row[column]) for row in shown)) for column in range(len(self.header))]
        rules = ["-" * width if column < self.words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
        lines = [self.line(row, widths) for row in shown]
        more = ["", escaped(self.more)] if self.more else []
        return [f"**{escaped(self.title)}**", "", lines[0], self.line(rules, widths), *lines[1:], *more]

    def line(self, cells: list[str], widths: list[int]) -> str:
        """One row."""
        padded = [
            cell + " " * (width - width_of(cell)) if column < self.words else " " * (width - width_of(cell)) + cell
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"


def escaped(text: str) -> str:
    """Untrusted text as one line without control characters or Markdown markup."""
    return re.sub(r"([\\`*\[\]<>|&#~])|(?<!\w)_|_(?!\w)", lambda found: "\\" + found[0], printable(text, limit=120))


def width_of(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters two, combining marks none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def more_rows(count: int, file: str) -> str:
    """The line under a table that is cut; empty where it is not. A long path loses its beginning, so that the file is named."""
    path = printable(file, limit=2000)
    shown = path if len(path) <= MOST_LETTERS else "…" + path[1 - MOST_LETTERS :]
    return f"{MOST_ROWS} of {count} rows; all: {shown}" if count > MOST_ROWS else ""


def numbers_of(cell: str) -> dict[str, float]:
    """The numbers of a cell; none of plain text."""
    return cell.numbers if isinstance(cell, Quantity) else {}


def printable_value(value: float | str) -> str:
    """A number with all its digits, or a text as one line that no spreadsheet takes for a formula; empty for what is not a number."""
    if isinstance(value, str):
        return ("'" if value.startswith(("=", "+", "-", "@")) else "") + printable(value, limit=2000)
    return "" if math.isnan(value) else repr(float(value))


def file_names(tables: Sequence[Table]) -> list[str]:
    """A name for the CSV file of each table, by its place and its title's first words."""
    slugs = (re.sub(r"[^a-z0-9]+", "-", table.title.lower())[:88].strip("-") for table in tables)
    return [f"{number:02d}-{slug}.csv" for number, slug in enumerate(slugs, 1)]


def percent(share: float, *, spread: float | None = None) -> Quantity:
    """A share as `93.5`, or as `93.5 ±0.4` with half the range of several probes."""
    numbers = {"": 100 * share} | ({} if spread is None else {"±": 100 * spread})
    return Quantity(f"{100 * share:.1f}" + ("" if spread is None else f" ±{100 * spread:.1f}"), numbers)


def points(value: float, low: float, high: float) -> Quantity:
    """A difference of shares and the ends of its interval as `+1.5 [-0.4, +3.2]`."""
    numbers = {"": 100 * value, "low": 100 * low, "high": 100 * high}
    return Quantity(f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]", numbers)


def smaller_percent(parameters: int, *, than: int) -> float:
    """By how many percent a model is smaller than another; negative if it is larger."""
    return 100.0 * (1.0 - parameters / than)
