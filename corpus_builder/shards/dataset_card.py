"""The dataset card of a corpus: `README.md`, Markdown with the front matter that dataset hubs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from manifests.corpus.layout import tar_name
from manifests.corpus.provenance import software
from manifests.corpus.sample import CLEAN
from manifests.errors import printable
from manifests.plan.plan import passed_over_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifests.corpus.shard_index import Corpus
    from manifests.recipe.recipe import Recipe

LIBRARIES = ("python", "stillroom", "numpy", "scipy", "soundfile", "soxr", "av", "fast-mp3-augment", "pyroomacoustics")
MARKUP = frozenset("\\`*_{}[]()<>#+-!|&~$\"'@:/")


def card(sealed: Corpus, recipe: Recipe, roots: Mapping[str, str]) -> str:
    """The card, from checked names and numbers, and licences and citations, whose markup is escaped.

    Args:
        sealed: What the corpus holds.
        recipe: As published.
        roots: One path below each root.
    """
    environment = jinja2.Environment(  # noqa: S701 (Markdown; untrusted text is escaped by `plain_text`)
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    splits = [
        {
            "name": split,
            "samples": sum(entry.samples for entry in entries),
            "seconds": sum(entry.seconds for entry in entries),
            "shards": len(entries),
            "bytes": sum(entry.bytes for entry in entries),
            "copies": ", ".join(f"{count} x {name}" for name, count in sealed.copies.get(split, {}).items()),
        }
        for split, entries in sealed.splits.items()
    ]
    licences = [
        (name, source.licence and plain_text(source.licence), source.citation and plain_text(source.citation))
        for name, source in recipe.file_sources()
        if source.licence or source.citation
    ]
    waves = dict.fromkeys(
        f"{name}-{number}"
        for copies in sealed.copies.values()
        for name, count in copies.items()
        for number in range(count)
    )
    versions = software()
    names = (entry.name for entries in sealed.splits.values() for entry in entries)
    return environment.get_template("dataset_card.md").render(
        corpus=sealed,
        recipe=recipe,
        splits=splits,
        waves=[CLEAN, *waves],
        tar_pattern=lambda split: tar_name(f"{split}-{'[0-9]' * 6}"),
        licences=licences,
        roots=[(name, plain_text(path)) for name, path in sorted(roots.items())],
        passed_over=[plain_text(line) for line in passed_over_lines(sealed.filtered)],
        first_tar=tar_name(next(names, "NAME")),
        libraries=", ".join(f"{name} {versions[name]}" for name in LIBRARIES if name in versions),
        hours=lambda seconds: f"{seconds / 3600:.2f}",
        gigabytes=lambda size: f"{size / 1e9:.3f}",
    )


def plain_text(text: str) -> str:
    """Text in one line with every character of Markdown and HTML markup escaped."""
    return "".join(f"&#{ord(letter)};" if letter in MARKUP else letter for letter in printable(text, limit=8000))
