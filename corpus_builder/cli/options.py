"""Options that several commands of the builder share: places, roots, limits, workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from manifests.errors import UsageError, printable
from manifests.io.place import Place, place_of
from manifests.io.url import Url


class FolderType(click.Path):
    """A file or folder on a disk: a URL is refused, since it would be written to a folder named `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As a `Path`."""
        place = place_of(value)
        if isinstance(place, Url):
            raise UsageError(f"expected a file or folder on a disk, got the URL {printable(place)}")
        return super().convert(place, param, ctx)


FOLDER = FolderType(path_type=Path)


class PlaceType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A folder or a URL."""

    name = "place"

    def convert(self, value: str | Place, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """As a `Path` or a `Url`."""
        del param, ctx
        return place_of(value)


PLACE = PlaceType()
ROOTS = click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="NAME=DIR",
    help="Folder or URL of a root of the recipe; may be repeated.",
)
LIMIT = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only N utterances a split, by keyed hash of their ids."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Number of processes."
)
SCRATCH = click.option(
    "--scratch",
    type=FOLDER,
    metavar="DIR",
    help="Where the files of a corpus at a URL are written before they are uploaded; a temporary folder by default.",
)
MAX_REFUSED = click.option(
    "--max-refused",
    default="0",
    show_default=True,
    metavar="N|P%",
    help="Exit 1 if more utterances than this are refused.",
)
REASONS_SHOWN = 5


@dataclass(frozen=True)
class Allowance:
    """How many utterances may be refused: a number, or a percentage of all."""

    number: float
    is_percentage: bool

    def __str__(self) -> str:
        return f"{self.number:g}%" if self.is_percentage else f"{self.number:g}"

    def allows(self, refused: int, *, total: int) -> bool:
        """Whether so many of the utterances may be refused."""
        return refused <= (self.number / 100 * total if self.is_percentage else self.number)


def parse_allowance(text: str) -> Allowance:
    """Read `N` or `P%`.

    Raises:
        UsageError: If it has another form.
    """
    number = text.removesuffix("%")
    percent = text.endswith("%")
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = -1
    if not 0 <= value <= (100 if percent else 2**48):
        raise UsageError(
            f"--max-refused: expected a number such as 10, or a percentage such as 1%, got {printable(text)!r}"
        )
    return Allowance(value, percent)
