"""A Markdown table that reads well in a terminal.

`tabulate` cannot write it: it makes every column two wider than its header, and needs a further library for wide characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from manifests.errors import printable


@dataclass(frozen=True)
class Table:
    """A table with its title; the first column is text, the others are numbers.

    Attributes:
        rows: Each as long as the header.
        words: How many columns, from the left, are text.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def lines(self) -> list[str]:
        """Markdown lines, columns aligned for a terminal."""
        shown = [[escaped(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(3, *(width_of(row[column]) for row in shown)) for column in range(len(self.header))]
        rules = ["-" * width if column < self.words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
        lines = [self.line(row, widths) for row in shown]
        return [f"**{escaped(self.title)}**", "", lines[0], self.line(rules, widths), *lines[1:]]

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


def percent(share: float, *, spread: float | None = None) -> str:
    """A share as `93.5`, or as `93.5 ±0.4` with half the range of several probes."""
    return f"{100 * share:.1f}" + ("" if spread is None else f" ±{100 * spread:.1f}")


def smaller_percent(parameters: int, *, than: int) -> float:
    """By how many percent a model is smaller than another; negative if it is larger."""
    return 100.0 * (1.0 - parameters / than)
