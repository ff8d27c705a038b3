"""`stillroom init`: a commented file to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from manifests.errors import UsageError, printable
from manifests.io.atomic import write_text

PACKAGE = Path(__file__).parent
TEMPLATES = PACKAGE / "templates"
KINDS = ("recipe", "train", "evaluate")


def recipe_files() -> dict[str, Path]:
    """The recipes that come with Stillroom, by name: in the package as installed, beside it in a checkout."""
    folder = next(place for place in (PACKAGE / "recipes", PACKAGE.parent / "recipes") if place.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def file_text(kind: str, *, source: str | None = None) -> str:
    """The text of a new file.

    Args:
        kind: `recipe`, `train` or `evaluate`.
        source: A recipe by name, or a preset of training; a template by default.

    Raises:
        UsageError: If there is none of that name.
    """
    text = (TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8")
    if source is None:
        return text
    if kind == "recipe":
        recipes = recipe_files()
        if source in recipes:
            return recipes[source].read_text(encoding="utf-8")
        raise UsageError(f"--from {printable(source)}: no such recipe; there are {', '.join(recipes)}")
    if kind == "train":
        from training.config.presets import PRESETS

        if source in PRESETS:
            return text.replace("preset: cdm2-dat", f"preset: {source}", 1)
        raise UsageError(f"--from {printable(source)}: no such preset; there are {', '.join(PRESETS)}")
    raise UsageError("--from goes with recipe and train")


@click.command("init")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("out", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "source", metavar="NAME", help="A recipe (paper_double, ...) or a preset of training.")
def init_command(kind: str, out: Path | None, source: str | None) -> None:
    """Write a commented recipe, training config or evaluation config to OUT (KIND.yaml, or NAME.yaml, by default)."""
    path = out or Path(f"{source or kind}.yaml")
    text = file_text(kind, source=source)
    if path.exists():
        raise UsageError(f"{printable(path)} exists: choose another name, or remove it first")
    write_text(path, text)
    then = {"recipe": "build {} CORPUS --dry-run", "train": "train {} RUN", "evaluate": "evaluate {} RESULTS --dry-run"}
    click.echo(f"{printable(path)}: edit its paths, then `stillroom {then[kind].format(shlex.quote(printable(path)))}`")
