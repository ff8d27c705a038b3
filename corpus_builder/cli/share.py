"""`stillroom pack`, `rebuild`, `diff` and `audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from corpus_builder.cli.options import LIMIT, PLACE, ROOTS, SCRATCH, WORKERS
from manifests.errors import printable
from manifests.io.place import size_of

if TYPE_CHECKING:
    from pathlib import Path

    from corpus_builder.audit.audit_corpora import Sound
    from manifests.io.place import Place


@click.command("pack")
@click.argument("corpus", type=PLACE)
@click.argument("pack", type=PLACE)
def pack_command(corpus: Place, pack: Place) -> None:
    """Put everything of CORPUS but the audio of speech and noise into the file PACK, to be shared.

    Both may be URLs. PACK is a .tar.gz, or a folder to write NAME.tar.gz in. It has recipe, plan, simulated responses, shard indexes, fingerprints,
    digests of all sources, provenance, licences and card: with it and the sources another lab can rebuild the corpus and compare every wave.
    """
    from manifests.pack.write import write_pack

    path, held = write_pack(corpus, pack)
    click.echo(
        f"{printable(path)}: {held.samples} utterances, {held.waves} waves, {held.responses} responses, {held.sources} sources, "
        f"{(size_of(path) or 0) / 1e6:.1f} MB"
    )


@click.command("rebuild")
@click.argument("pack", type=PLACE)
@click.argument("corpus", type=PLACE)
@ROOTS
@WORKERS
@SCRATCH
@click.option("--accept", type=click.Choice(["near"]), help="Exit 0 too if waves are near, not identical.")
@click.option("--split", "splits", multiple=True, metavar="S", help="Only this split; may be repeated.")
@click.option(
    "--condition", "conditions", multiple=True, metavar="C", help="Only copies of this condition; may be repeated."
)
@LIMIT
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.pass_context
def rebuild_command(
    context: click.Context,
    *,
    pack: Place,
    corpus: Place,
    roots: tuple[str, ...],
    workers: int,
    scratch: Path | None,
    accept: str | None,
    splits: tuple[str, ...],
    conditions: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Render the corpus of PACK from your own copies of its sources into CORPUS, and compare each wave.

    PACK and CORPUS may be URLs. Sources are checked first: all that are missing or different are listed, and nothing is rendered. Exit code 0: every wave is
    identical (or near, with --accept near); 1: not all are. The waves that are not identical are listed in CORPUS/rebuilt.jsonl.
    """
    import json

    from corpus_builder.rebuild.plan_subset import Selection
    from corpus_builder.rebuild.rebuild_corpus import SourcesDifferError, rebuild
    from corpus_builder.sources.roots import parse_roots
    from corpus_builder.workers.preemption import EXIT_STOPPED, Stop, StoppedError

    with Stop() as stop:
        try:
            rebuilt = rebuild(
                pack,
                corpus,
                roots=parse_roots(roots),
                workers=workers,
                selection=Selection(splits, conditions, limit),
                scratch=scratch,
                stop=stop,
            )
        except SourcesDifferError as problem:
            for one in problem.problems:
                click.echo(str(one))
            click.echo(f"stillroom: {problem}", err=True)
            context.exit(1)
        except StoppedError:
            click.echo(f"stopped ({stop.reason}); the same command continues from here", err=True)
            context.exit(EXIT_STOPPED)
    for name, why in rebuilt.built.undone:
        click.echo(f"shard {name} was left undone: {printable(why)}; run the same command again", err=True)
    if rebuilt.proof is None:
        context.exit(EXIT_STOPPED if rebuilt.built.stopped else 1)
    proof = rebuilt.proof
    if as_json:
        click.echo(json.dumps(rebuilt.plain(), indent=1))
    else:
        for line in proof.table():
            click.echo(line)
        click.echo(
            f"{printable(corpus)}: {proof.total('identical')} waves identical, {proof.total('near')} near, "
            f"{proof.total('different')} different"
        )
    if proof.total("different") or (proof.total("near") and accept != "near"):
        click.echo("the waves that are not identical are listed in rebuilt.jsonl, each with the reason", err=True)
        context.exit(1)


@click.command("diff")
@click.argument("first", type=PLACE, metavar="A")
@click.argument("second", type=PLACE, metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a line of JSON too.")
@click.pass_context
def diff_command(context: click.Context, first: Place, second: Place, as_json: bool) -> None:  # noqa: FBT001
    """Compare A and B, each a corpus, a pack or a plan, or the URL of one.

    First a summary of recipe, sources, utterances, conditions, parameters and PCM, then every difference as a line of JSON. Exit
    code 1 if anything differs.
    """
    if print_differences(first, second, as_json=as_json):
        context.exit(1)


def print_differences(first: Place, second: Place, *, as_json: bool) -> bool:
    """Print the differences; returns whether there are any."""
    import json

    from corpus_builder.rebuild.diff import differences

    with differences(first, second) as found:
        if as_json:
            click.echo(json.dumps(found.plain()))
        else:
            for line in found.summary():
                click.echo(line)
        for line in found.every():
            click.echo(line)
        return found.any


@click.command("audit")
@click.argument("corpora", type=PLACE, nargs=-1, required=True, metavar="CORPUS...")
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="NAME=DIR",
    help="Folder or URL of a root, to compare its files by sound; A:NAME=DIR for the first corpus alone, B: the second; may be repeated.",
)
@click.option(
    "--sound",
    type=click.Choice(["noises", "all", "none"]),
    default="noises",
    show_default=True,
    help="What is compared by acoustic fingerprint: noises, speech too, or nothing.",
)
@click.option(
    "--cache", type=PLACE, metavar="DIR", help="Keep fingerprints here, by the digest of their file; may be a URL."
)
@click.option("--editions", is_flag=True, help="Things that splits of the same name in two corpora share are no leaks.")
@WORKERS
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.pass_context
def audit_command(
    context: click.Context,
    *,
    corpora: tuple[Place, ...],
    roots: tuple[str, ...],
    sound: str,
    cache: Place | None,
    editions: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Look for the same utterance, speaker, recording, noise or room in two splits of CORPUS..., or in two of them.

    Each CORPUS is a corpus, a pack or a plan, or the URL of one. Recordings are compared by digest, and noises by an acoustic fingerprint too where
    their files are available, which finds them at another rate, gain or cut, or through a codec. Exit code 1 if anything was found.
    Nothing found is not a proof that there is nothing: see docs/audit.md.
    """
    import json

    from corpus_builder.audit.audit_corpora import audit
    from corpus_builder.sources.roots import parse_roots

    found = audit(
        corpora, roots=parse_roots(roots), sound=cast("Sound", sound), cache=cache, editions=editions, workers=workers
    )
    if as_json:
        click.echo(json.dumps(found.plain(), indent=1))
    else:
        for line in found.lines():
            click.echo(line)
    if found.leaky:
        context.exit(1)
