"""`stillroom audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from corpus_builder.cli import FOLDER, WORKERS

if TYPE_CHECKING:
    from pathlib import Path

    from corpus_builder.audit import Sound


@click.command("audit")
@click.argument("corpora", type=FOLDER, nargs=-1, required=True, metavar="CORPUS...")
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="NAME=DIR",
    help="Where a root lies, to listen to its files; A:NAME=DIR for the first corpus alone, B: the second; may be repeated.",
)
@click.option(
    "--sound",
    type=click.Choice(["noises", "all", "none"]),
    default="noises",
    show_default=True,
    help="What is compared by acoustic fingerprint: noises, speech too, or nothing.",
)
@click.option("--cache", type=FOLDER, metavar="DIR", help="Keep fingerprints here, by the digest of their file.")
@click.option("--editions", is_flag=True, help="What splits of one name in two corpora share is no leak.")
@WORKERS
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.pass_context
def audit_command(
    context: click.Context,
    *,
    corpora: tuple[Path, ...],
    roots: tuple[str, ...],
    sound: str,
    cache: Path | None,
    editions: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Look for the same utterance, speaker, recording, noise or room in two splits of CORPUS..., or in two of them.

    Each CORPUS is a corpus, a pack or a plan. Recordings are compared by digest, and noises by an acoustic fingerprint too where
    their files can be had, which finds them at another rate, gain or cut, or through a codec. Exit code 1 if anything was found.
    Nothing found is not a proof that there is nothing: see docs/audit.md.
    """
    import json

    from corpus_builder.audit import audit
    from corpus_builder.roots import parse_roots

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
