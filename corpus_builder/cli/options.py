"""Options that several commands of the builder share: places, roots, limits, workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manifests.errors import UsageError, printable
from manifests.io.place import Place, place_of
from manifests.io.url import Url


class FolderType(click.Path):
    """A file or folder on a disk: what is not read or written at URLs would be made in a folder named `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As a `Path`."""
        place = place_of(value)
        if isinstance(place, Url):
            raise UsageError(f"{printable(place)} is a URL; a file or folder on a disk is due here")
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
    help="Where a root of the recipe lies, a folder or a URL; may be repeated.",
)
LIMIT = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only N utterances a split, by keyed hash of their ids."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Number of processes."
)
REASONS_SHOWN = 5


def parse_allowance(text: str) -> tuple[float, bool]:
    """`N` or `P%`, as a number and whether it is a percentage.

    Raises:
        UsageError: If it is neither.
    """
    number = text.removesuffix("%")
    percent = text.endswith("%")
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = -1
    if not 0 <= value <= (100 if percent else 2**48):
        raise UsageError(f"--max-refused {printable(text)!r}: a number such as 10, or a share such as 1%, is due here")
    return value, percent
