"""The dataset card of a corpus: `README.md`, Markdown with the front matter that dataset hubs read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifests.corpus.provenance import software
from manifests.errors import printable

if TYPE_CHECKING:
    from manifests.corpus.shard_index import Corpus
    from manifests.recipe.recipe import Recipe

LIBRARIES = ("python", "stillroom", "numpy", "scipy", "soundfile", "soxr", "av", "fast-mp3-augment", "pyroomacoustics")

MARKUP = frozenset("\\`*_{}[]()<>#+-!|&~$\"'@:/")


def card(sealed: Corpus, recipe: Recipe) -> str:
    """The card, from checked names and numbers; licences, which are a stranger's text, with every mark of markup escaped.

    Args:
        sealed: What the corpus holds.
        recipe: As published.
    """
    hours = sealed.totals.seconds / 3600
    lines = [
        "---",
        f"pretty_name: {sealed.name}",
        "task_categories: [automatic-speech-recognition, audio-classification]",
        "tags: [webdataset, speech, robustness, stillroom]",
        "---",
        "",
        f"# {sealed.name}",
        "",
        (
            f"{sealed.totals.samples} utterances ({hours:.2f} h, each counted once) with distorted copies that are in step with the "
            f"clean one, {sealed.sample_rate} Hz, 16-bit FLAC in {sealed.totals.shards} tars ({sealed.totals.bytes / 1e9:.3f} GB)."
        ),
        "",
        "| split | utterances | hours | shards | GB | copies of each |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for split, entries in sealed.splits.items():
        copies = ", ".join(f"{count} x {name}" for name, count in sealed.copies.get(split, {}).items()) or "none"
        lines.append(
            f"| {split} | {sum(entry.samples for entry in entries)} | {sum(entry.seconds for entry in entries) / 3600:.2f} "
            f"| {len(entries)} | {sum(entry.bytes for entry in entries) / 1e9:.3f} | {copies} |"
        )
    known = software()
    lines += [
        "",
        "A sample is `<key>.json`, `<key>.clean.flac` and `<key>.<condition>-<n>.flac`; the JSON says what was done to each copy, in",
        "numbers. Plain tools read it:",
        "",
        "```python",
        "import io, json, soundfile, webdataset",
        f'for sample in webdataset.WebDataset("shards/{next((e.name for es in sealed.splits.values() for e in es), "NAME")}.tar", shardshuffle=False):',
        '    about = json.loads(sample["json"])',
        '    clean, rate = soundfile.read(io.BytesIO(sample["clean.flac"]))',
        "```",
        "",
        (
            f"Noises: {', '.join(recipe.noises) or 'none'}. Rooms: {', '.join(recipe.rooms) or 'none'}. "
            f"Seed {recipe.seed}; recipe {sealed.recipe_sha256[:16]}, plan {sealed.plan_sha256[:16]}."
        ),
        "",
        (
            f"Made with {', '.join(f'{name} {known[name]}' for name in LIBRARIES if name in known)}. "
            "`sha256sum -c SHA256SUMS` checks every file but `provenance.json` and `roots.local.json`, which tell of one machine."
        ),
        "",
        "The licences of the speech and noise it was made from hold for it too.",
        *licences(recipe),
    ]
    return "\n".join(lines) + "\n"


def licences(recipe: Recipe) -> list[str]:
    """What the recipe says of licences and citations: a stranger's text, so it is put in so that it is nothing but text."""
    lines = []
    for name, source in recipe.file_sources():
        if source.licence is not None:
            lines.append(f"- {name}: {plain_text(source.licence)}")
        if source.citation is not None:
            lines.append(f"- {name}, to be cited as: {plain_text(source.citation)}")
    return ["", *lines] if lines else []


def plain_text(text: str) -> str:
    """Text that Markdown and HTML take for nothing but text, in one line."""
    return "".join(f"&#{ord(letter)};" if letter in MARKUP else letter for letter in printable(text, limit=8000))
