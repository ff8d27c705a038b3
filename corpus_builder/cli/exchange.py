"""`stillroom index`, `subset`, `unpack` and `lhotse`: to and from other toolkits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from corpus_builder.cli.options import FOLDER, MAX_REFUSED, PLACE, REASONS_SHOWN, ROOTS, WORKERS, parse_allowance
from manifests.errors import printable

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.io.place import Place

SPLITS = click.option("--split", "splits", multiple=True, metavar="SPLIT", help="Only this split; may be repeated.")


@click.command("index")
@click.argument("shards", nargs=-1, required=True, metavar="[SPLIT=]SHARDS...")
@click.option("--out", type=FOLDER, metavar="DIR", help="Write the index there; by default beside the shards.")
@click.option("--split", default="train", show_default=True, metavar="SPLIT", help="Of shards named without SPLIT=.")
@click.option(
    "--clean",
    metavar="SUFFIX",
    help="The member that is the clean speech (clean.flac), where samples have several; the others become copies.",
)
@click.option("--name", metavar="NAME", help="Of the corpus; the folder's name by default.")
@MAX_REFUSED
@WORKERS
@click.pass_context
def index_command(
    context: click.Context,
    *,
    shards: tuple[str, ...],
    out: Path | None,
    split: str,
    clean: str | None,
    name: str | None,
    max_refused: str,
    workers: int,
) -> None:
    """Index tars of any WebDataset of audio, so that `train` streams them and `verify` checks them.

    SHARDS are tars, folders of tars, patterns ('tars/*.tar') or URLs of tars, of samples with one or more members .flac, .wav, .ogg,
    .opus or .mp3 and perhaps .json, .txt or .cls. The tars are not changed.
    """
    from corpus_builder.exchange.index_webdataset import index_shards

    allowed = parse_allowance(max_refused)
    made = index_shards(shards, out=out, split=split, clean=clean, name=name, workers=workers)
    totals = made.corpus.totals
    click.echo(
        f"{printable(made.folder)}: {totals.samples} utterances, {totals.seconds / 3600:.2f} h, {totals.shards} shards, "
        f"{made.corpus.sample_rate} Hz, {len(made.refused)} refused"
    )
    for part, counts in made.corpus.copies.items():
        click.echo(
            f"{part}: " + (", ".join(f"{n} {name}" for name, n in counts.items()) or "no copies but the clean one")
        )
    for reason, count in made.left_out.most_common(REASONS_SHOWN):
        click.echo(f"left out {count} times: {printable(reason)}")
    for one in made.refused[:REASONS_SHOWN]:
        click.echo(f"refused in {one.split}: {printable(one.id, limit=80)}: {printable(one.reason)}")
    if len(made.refused) > REASONS_SHOWN:
        click.echo(f"... and {len(made.refused) - REASONS_SHOWN} more refused; all are listed in refused.jsonl")
    if not allowed.allows(len(made.refused), total=totals.samples + len(made.refused)):
        context.exit(1)


@click.command("subset")
@click.argument("corpus", type=PLACE)
@click.argument("out", type=FOLDER)
@click.option(
    "--where",
    "expressions",
    multiple=True,
    required=True,
    metavar="EXPRESSION",
    help="FIELD, one of = != < <= > >=, VALUE[,VALUE]; may be repeated: all must hold. Fields: split, speaker, language, id, "
    "seconds; of copies condition, copy, domain, family, snr_db. A value @FILE stands for the lines of a file.",
)
def subset_command(*, corpus: Place, out: Path, expressions: tuple[str, ...]) -> None:
    """Write a part of CORPUS as a manifest OUT over the same shards; no audio is copied.

    stillroom subset corpus short --where split=train --where 'seconds<10'

    stillroom subset corpus loud  --where 'snr_db>=5' --where condition=noise,far
    """
    from corpus_builder.exchange.subset import subset
    from manifests.corpus.filter import parse_where

    sealed = subset(corpus, out, where=parse_where(expressions))
    click.echo(f"{printable(out)}: {sealed.totals.samples} utterances, {sealed.totals.seconds / 3600:.2f} h")
    for split, entries in sealed.splits.items():
        copies = ", ".join(f"{count} {name}" for name, count in sealed.copies[split].items()) or "none"
        click.echo(f"{split}: {sum(entry.samples for entry in entries)} utterances; copies that each has: {copies}")


@click.command("unpack")
@click.argument("corpus", type=PLACE)
@click.argument("out", type=FOLDER)
@click.option(
    "--condition",
    required=True,
    metavar="C",
    help="Which copy: a condition (its first copy), a copy such as noise-1, or clean.",
)
@ROOTS
@SPLITS
@click.pass_context
def unpack_command(
    context: click.Context, *, corpus: Place, out: Path, condition: str, roots: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    """Write one copy of each utterance of CORPUS as plain files in the source's own tree, for any other toolkit.

    Each file has the relative path, name and container of its source. With --root all other files of the source's folder are
    linked beside them, so that OUT replaces it; utterances that are stretches of longer files need it too.
    """
    from corpus_builder.exchange.unpack import unpack
    from corpus_builder.sources.roots import parse_roots

    done = unpack(corpus, out, condition=condition, roots=parse_roots(roots), splits=splits)
    click.echo(
        f"{printable(out)}: {done.files} files with {done.utterances} utterances of {printable(condition)}, {done.linked} linked"
    )
    if done.linked_audio:
        click.echo(
            f"{done.linked_audio} of the linked files are audio without such a copy: they are those of the source, undistorted",
            err=True,
        )
    if done.without:
        click.echo(
            f"{done.without} utterances have no such copy: their files are those of the source, where --root is given",
            err=True,
        )
    for name in done.unused_roots:
        click.echo(f"--root {printable(name)}: no utterance comes from there", err=True)
    if done.missing_roots:
        names = " ".join(f"--root {name}=DIR" for name in done.missing_roots)
        click.echo(f"other files of the source were not linked; add {names} to link them")
    context.exit(0)


@click.command("lhotse")
@click.argument("corpus", type=PLACE)
@click.argument("out", type=FOLDER)
@SPLITS
@click.option(
    "--shard-size", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Utterances a shard."
)
def lhotse_command(*, corpus: Place, out: Path, splits: tuple[str, ...], shard_size: int) -> None:
    """Export CORPUS to Lhotse Shar, a folder a split in OUT: the clean wave as the recording, each copy as a field of its own.

    Plain lhotse reads it back: CutSet.from_shar(in_dir="OUT/train"); the copy noise-0 is cut.noise_0 and cut.load_noise_0().
    """
    from corpus_builder.exchange.lhotse_export import export_shar

    for split, written in export_shar(corpus, out, splits=splits, shard_size=shard_size).items():
        fields = ", ".join(written.fields) or "none"
        click.echo(f"{split}: {written.cuts} cuts; copies: {fields}")
