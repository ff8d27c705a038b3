"""Labels of a folder's files: a template of their paths, a table beside them, and which files are meant."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

from manifests.errors import BadDocumentError, printable
from manifests.files import read_bytes, safe_relative

if TYPE_CHECKING:
    from manifests.storage import Place

LABELS = ("id", "text", "speaker", "language")
LONGEST_PATTERN = 200


def pattern_of(pattern: str) -> re.Pattern[str]:
    """A glob pattern (`**`, `*`, `?`) as an expression for relative paths.

    Raises:
        UnsafePathError: If it leads out of the folder.
        BadDocumentError: If it is too long, or a `**` is not a whole part of it.
    """
    safe_relative(pattern, where="pattern")
    if len(pattern) > LONGEST_PATTERN or pattern.count("*") > 10:
        raise BadDocumentError(
            "pattern", f"is longer than {LONGEST_PATTERN} characters or has more than 10 stars; refused"
        )
    pieces = []
    parts = pattern.split("/")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            pieces.append("(?:[^/]+/)*[^/]+" if last else "(?:[^/]+/)*")
        elif "**" in part:
            raise BadDocumentError("pattern", f"{printable(pattern)!r}: ** stands for whole folders, such as **/*.flac")
        else:
            expression = re.sub(r"\*|\?|[^*?]+", lambda found: glob_piece(found[0]), part)
            pieces.append(expression + ("" if last else "/"))
    return re.compile("".join(pieces))


def glob_piece(piece: str) -> str:
    """One star, question mark or literal of a pattern."""
    return {"*": "[^/]*", "?": "[^/]"}.get(piece) or re.escape(piece)


def template_of(template: str) -> re.Pattern[str]:
    """A template such as `{speaker}/{id}.flac` as an expression; each name is `[^/]+`, everything else is literal."""
    pieces = re.split(r"\{([a-z][a-z0-9_]*)\}", template)
    return re.compile(
        "".join(f"(?P<{piece}>[^/]+)" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))
    )


def read_table(path: Place) -> dict[str, dict[str, str]]:
    """A CSV with the column `path` (relative to the folder); other columns are labels, empty cells are none.

    Returns:
        For each path its labels.

    Raises:
        BadDocumentError: If the column is missing, a column stands twice, a row has more cells than the head, or a path stands twice.
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
                raise BadDocumentError(f"{path}:{rows.line_num}", f"path {printable(below)!r} stands twice")
            table[below] = {name: value for name, value in row.items() if value}
    except (csv.Error, UnicodeDecodeError) as problem:
        raise BadDocumentError(path, f"not a CSV table: {printable(problem)}") from None
    return table


def find_labels(below: str, *, template: re.Pattern[str] | None, row: dict[str, str] | None) -> dict[str, Any] | None:
    """Labels of a file from the template and then the table; None if its path does not fit the template."""
    labels: dict[str, Any] = {}
    if template is not None:
        fits = template.fullmatch(below)
        if fits is None:
            return None
        labels.update(fits.groupdict())
    return {**labels, **(row or {})}
