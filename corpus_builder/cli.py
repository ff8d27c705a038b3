"""`stillroom plan`, `build`, `verify` and `show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manifests.errors import UsageError, printable

if TYPE_CHECKING:
    from corpus_builder.build import Built
    from manifests.plan import Plan

FOLDER = click.Path(path_type=Path)
ROOTS = click.option(
    "--root", "roots", multiple=True, metavar="NAME=DIR", help="Where a root of the recipe lies; may be repeated."
)
LIMIT = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only N utterances a split, by keyed hash of their ids."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Number of processes."
)
REASONS_SHOWN = 5


@click.command("plan")
@click.argument("recipe", type=FOLDER)
@click.argument("plan", type=FOLDER)
@ROOTS
@LIMIT
@WORKERS
def plan_command(recipe: Path, plan: Path, roots: tuple[str, ...], limit: int | None, workers: int) -> None:
    """Only decide: RECIPE's ranges become the numbers in the folder PLAN.

    Every draw is thrown here: which noise, from which sample, at which SNR, which room, which codec. A finished plan is not made
    twice.
    """
    from corpus_builder.plan import check_target, make_plan, no_empty_folder
    from corpus_builder.roots import parse_roots
    from manifests.lock import writing

    check_target(plan, recipe)
    with no_empty_folder(plan), writing(plan):
        made, was_there = make_plan(recipe, plan, roots=parse_roots(roots), limit=limit, workers=workers)
    if was_there:
        click.echo(f"{printable(plan)} holds this plan already; nothing to do")
    tell_plan(made)


def tell_plan(plan: Plan) -> None:
    """What a plan came to, on standard output."""
    for split in dict.fromkeys(file.split for file in plan.files):
        files = [file for file in plan.files if file.split == split]
        hours = sum(file.seconds for file in files) / 3600
        click.echo(f"{split}: {sum(file.rows for file in files)} utterances, {hours:.2f} h, {len(files)} shards")
    for split, counts in plan.filtered.items():
        click.echo(
            f"{split}: left out " + ", ".join(f"{count} ({printable(reason)})" for reason, count in counts.items())
        )
    for one in plan.refused[:REASONS_SHOWN]:
        click.echo(f"refused in {printable(one.split)}: {printable(one.id, limit=80)}: {printable(one.reason)}")
    if len(plan.refused) > REASONS_SHOWN:
        click.echo(f"... and {len(plan.refused) - REASONS_SHOWN} more refused; all stand in plan.json")


@click.command("build")
@click.argument("source", type=FOLDER, metavar="RECIPE|PLAN")
@click.argument("corpus", type=FOLDER)
@ROOTS
@LIMIT
@WORKERS
@click.option(
    "--slice",
    "part",
    metavar="I/N",
    help="Only every N-th shard, from the I-th; for job arrays. Without it: the rest, and the seal.",
)
@click.option("--rooms", "only_rooms", is_flag=True, help="Stop after the rooms; slices need them.")
@click.option(
    "--max-refused",
    default="0",
    show_default=True,
    metavar="N|P%",
    help="Exit 1 if more utterances than this are refused.",
)
@click.pass_context
def build_command(
    context: click.Context,
    *,
    source: Path,
    corpus: Path,
    roots: tuple[str, ...],
    limit: int | None,
    workers: int,
    part: str | None,
    only_rooms: bool,
    max_refused: str,
) -> None:
    """Render a recipe or a finished plan into the sharded corpus CORPUS.

    Goes on where it was stopped. The corpus is sealed when all shards are done; training needs the seal.
    """
    from corpus_builder.build import Slice, build
    from corpus_builder.roots import parse_roots

    allowed = parse_allowance(max_refused)
    built = build(
        source,
        corpus,
        roots=parse_roots(roots),
        workers=workers,
        limit=limit,
        part=None if part is None else Slice.parse(part),
        only_rooms=only_rooms,
    )
    tell_built(built, corpus, only_rooms=only_rooms, part=part)
    if built.undone or not within(built, allowed):
        context.exit(1)


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


def within(built: Built, allowed: tuple[float, bool]) -> bool:
    """Whether no more utterances were refused than allowed; says so if more were."""
    if built.corpus is None:
        return True
    splits = set(built.corpus.splits)
    refused = sum(count for split, count in built.corpus.refused.items() if split in splits)
    number, percent = allowed
    most = number / 100 * (built.corpus.totals.samples + refused) if percent else number
    if refused <= most:
        return True
    shown = f"{number:g}%" if percent else f"{number:g}"
    click.echo(
        f"{refused} utterances were refused, more than --max-refused {shown}; reasons stand in refused.jsonl", err=True
    )
    return False


def tell_built(built: Built, corpus: Path, *, only_rooms: bool, part: str | None) -> None:
    """What a build came to, on standard output."""
    if only_rooms:
        click.echo(f"the rooms of {printable(corpus)} are done; {built.left} shards are left")
        return
    for name, why in built.undone:
        click.echo(f"shard {name} was left undone: {printable(why)}; run the same command again", err=True)
    if built.corpus is None:
        if part is not None and not built.undone:
            click.echo(f"slice {part} is done; when all are, the same command without --slice seals the corpus")
        return
    totals = built.corpus.totals
    note = " (it was there already)" if built.was_sealed else ""
    click.echo(
        f"{printable(corpus)}: {totals.samples} utterances, {totals.seconds / 3600:.2f} h, {totals.shards} shards, "
        f"{totals.bytes / 1e9:.3f} GB, {sum(built.corpus.refused.values())} refused{note}"
    )


@click.command("verify")
@click.argument("corpus", type=FOLDER)
@click.option(
    "--level", type=click.Choice(["bytes", "pcm"]), default="pcm", show_default=True, help="How deep to look."
)
@WORKERS
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON document.")
@click.pass_context
def verify_command(context: click.Context, corpus: Path, level: str, workers: int, as_json: bool) -> None:  # noqa: FBT001
    """Re-open CORPUS as a stranger would, and say what is off.

    bytes: every file is there, whole, and what its digest says. pcm: also every sample decodes to the PCM that the index names, all
    copies are as long as the clean one and none is the clean one, the JSON agrees with plan and index, and plain webdataset and
    tar read the shards.
    """
    from corpus_builder.verify import verify

    report = verify(corpus, level="bytes" if level == "bytes" else "pcm", workers=workers)
    if as_json:
        click.echo(json.dumps(report.plain(), indent=1))
    else:
        for finding in report.findings:
            click.echo(f"{printable(finding.where)}: {printable(finding.what, limit=400)}")
        click.echo(report.summary())
    if report.findings:
        context.exit(1)


@click.command("show")
@click.argument("corpus", type=FOLDER)
def show_command(corpus: Path) -> None:
    """Say what CORPUS holds: hours, copies, domains, ranges of SNR and reverberation, what was refused."""
    from corpus_builder.show import description

    click.echo(description(corpus))
