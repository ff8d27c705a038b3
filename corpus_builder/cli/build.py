"""`stillroom plan`, `build`, `verify` and `show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from corpus_builder.cli.options import (
    FOLDER,
    LIMIT,
    MAX_REFUSED,
    PLACE,
    REASONS_SHOWN,
    ROOTS,
    SCRATCH,
    WORKERS,
    parse_allowance,
)
from manifests.errors import MissingFileError, UsageError, printable

if TYPE_CHECKING:
    from corpus_builder.build.build_corpus import Built
    from corpus_builder.cli.options import Allowance
    from corpus_builder.verify.report import Level
    from manifests.corpus.shard_index import Corpus
    from manifests.io.place import Place
    from manifests.plan.plan import Plan


@click.command("plan")
@click.argument("recipe", type=FOLDER)
@click.argument("plan", type=FOLDER)
@ROOTS
@LIMIT
@WORKERS
def plan_command(recipe: Path, plan: Path, roots: tuple[str, ...], limit: int | None, workers: int) -> None:
    """Only decide: draw every number that RECIPE leaves open, and write them to the folder PLAN.

    All random numbers are drawn here: which noise, from which sample, at which SNR, which room, which codec. A finished plan is not
    made twice.
    """
    from corpus_builder.plan import make_plan
    from corpus_builder.sources.roots import parse_roots

    made, existed = make_plan.plan(recipe, plan, roots=parse_roots(roots), limit=limit, workers=workers)
    if existed:
        click.echo(f"{printable(plan)} has this plan already; nothing to do")
    print_plan(made)


def print_plan(plan: Plan) -> None:
    """Print what a plan has: utterances, filtered, refused."""
    from manifests.plan.plan import left_out_counts, passed_over_lines

    for split in dict.fromkeys(file.split for file in plan.files):
        files = [file for file in plan.files if file.split == split]
        hours = sum(file.seconds for file in files) / 3600
        click.echo(f"{split}: {sum(file.rows for file in files)} utterances, {hours:.2f} h, {len(files)} shards")
    for split, counts in plan.filtered.items():
        if by_recipe := left_out_counts(counts):
            what = ", ".join(f"{count} ({printable(reason)})" for reason, count in by_recipe.items())
            click.echo(f"{split}: left out {what}")
    for line in passed_over_lines(plan.filtered):
        click.echo(line)
    for one in plan.refused[:REASONS_SHOWN]:
        click.echo(f"refused in {printable(one.split)}: {printable(one.id, limit=80)}: {printable(one.reason)}")
    if len(plan.refused) > REASONS_SHOWN:
        click.echo(f"... and {len(plan.refused) - REASONS_SHOWN} more refused; all are listed in plan.json")


@click.command("build")
@click.argument("source", type=PLACE, metavar="RECIPE|PLAN")
@click.argument("corpus", type=PLACE)
@ROOTS
@LIMIT
@WORKERS
@click.option("--dask", "address", metavar="ADDRESS", help="Render on the Dask cluster whose scheduler is at ADDRESS.")
@click.option(
    "--slice",
    "part",
    metavar="I/N",
    help="Only every N-th shard, from the I-th; for job arrays. Without it: the rest, and corpus.json.",
)
@click.option("--rooms", "only_rooms", is_flag=True, help="Stop after the rooms; slices need them.")
@click.option(
    "--stop-after",
    "time",
    metavar="TIME",
    help="After TIME (3h50m) finish the shards that were begun and end with exit code 75, as on SIGTERM and SIGUSR1.",
)
@SCRATCH
@click.option(
    "--dry-run", "dry", is_flag=True, help="Build nothing: estimate size and time from a timed sample of the work."
)
@MAX_REFUSED
@click.pass_context
def build_command(
    context: click.Context,
    *,
    source: Place,
    corpus: Place,
    roots: tuple[str, ...],
    limit: int | None,
    workers: int,
    address: str | None,
    part: str | None,
    only_rooms: bool,
    time: str | None,
    scratch: Path | None,
    dry: bool,
    max_refused: str,
) -> None:
    """Render a recipe or a finished plan into the sharded corpus CORPUS, a folder or a URL (s3://bucket/corpus).

    An interrupted build is continued. When all shards are finished, corpus.json is written, which training needs.
    """
    import contextlib

    from corpus_builder.build.build_corpus import Slice, build
    from corpus_builder.build.dask_executor import dask_executor
    from corpus_builder.sources.roots import parse_roots
    from corpus_builder.workers.preemption import EXIT_STOPPED, Stop, StoppedError, parse_time

    allowed = parse_allowance(max_refused)
    given_roots = parse_roots(roots)
    slice_ = None if part is None else Slice.parse(part)
    if only_rooms and slice_ is not None:
        raise UsageError("--rooms with --slice: rooms are made once, for all slices; leave out --slice")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop(None if time is None else parse_time(time)))
        try:
            if dry:
                print_estimate(source, corpus, roots=given_roots, limit=limit, workers=workers)
                return
            executor = None if address is None else stack.enter_context(dask_executor(address))
            built = build(
                source,
                corpus,
                roots=given_roots,
                workers=workers,
                limit=limit,
                part=slice_,
                only_rooms=only_rooms,
                executor=executor,
                scratch=scratch,
                stop=stop,
            )
        except StoppedError:
            click.echo(f"stopped ({stop.reason}); the same command continues from here", err=True)
            context.exit(EXIT_STOPPED)
    print_built(built, corpus, only_rooms=only_rooms, part=part)
    if built.stopped:
        context.exit(EXIT_STOPPED)
    if built.undone or not within(built, allowed):
        context.exit(1)


def print_estimate(source: Place, corpus: Place, *, roots: dict[str, Place], limit: int | None, workers: int) -> None:
    """Print the estimated cost of a build."""
    from corpus_builder.build.dry_run import estimate

    remote = not isinstance(corpus, Path)
    click.echo(estimate(source, roots=roots, limit=limit, workers=workers, remote=remote).lines(workers=workers))


def within(built: Built, allowed: Allowance) -> bool:
    """Whether no more utterances were refused than allowed; prints a line if more were."""
    if built.corpus is None:
        return True
    refused, _ = refusals(built.corpus)
    if allowed.allows(refused, total=built.corpus.totals.samples + refused):
        return True
    click.echo(
        f"{refused} utterances were refused, more than --max-refused {allowed}; the reasons are in refused.jsonl",
        err=True,
    )
    return False


def refusals(corpus: Corpus) -> tuple[int, int]:
    """How many utterances were refused, and how many other things: noises, room responses."""
    utterances = sum(count for split, count in corpus.refused.items() if split in corpus.splits)
    return utterances, sum(corpus.refused.values()) - utterances


def print_built(built: Built, corpus: Place, *, only_rooms: bool, part: str | None) -> None:
    """Print the result of a build."""
    from manifests.plan.plan import passed_over_lines

    if only_rooms:
        click.echo(f"the rooms of {printable(corpus)} are finished; {built.left} shards are left")
        return
    for name, why in built.undone:
        click.echo(f"shard {name} was left undone: {printable(why)}; run the same command again", err=True)
    if built.stopped:
        left = f"{built.left} of {len(built.plan.files)} shards are left"
        click.echo(f"stopped ({built.stopped}), {left}; the same command continues from here", err=True)
        return
    if built.corpus is None:
        if part is not None and not built.undone:
            click.echo(f"slice {part} is finished; when all are, the same command without --slice seals the corpus")
        return
    for line in passed_over_lines(built.corpus.filtered):
        click.echo(line)
    totals = built.corpus.totals
    utterances, others = refusals(built.corpus)
    refused = f"{utterances} refused" + (f", and {others} noises or room responses" if others else "")
    note = " (it was finished before)" if built.was_sealed else ""
    click.echo(
        f"{printable(corpus)}: {totals.samples} utterances, {totals.seconds / 3600:.2f} h, {totals.shards} shards, "
        f"{totals.bytes / 1e9:.3f} GB, {refused}{note}"
    )


@click.command("verify")
@click.argument("corpus", type=PLACE)
@click.option(
    "--level",
    type=click.Choice(["bytes", "pcm", "physics"]),
    default="pcm",
    show_default=True,
    help="How thoroughly to check.",
)
@WORKERS
@click.option("--against", type=PLACE, metavar="OTHER", help="Also compare with another corpus, or with a pack of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON document.")
@click.pass_context
def verify_command(
    context: click.Context, *, corpus: Place, level: str, workers: int, against: Place | None, as_json: bool
) -> None:
    """Check CORPUS with code independent of what wrote it, and print what is wrong.

    bytes: every file exists, is whole, and has its digest. pcm: also every sample decodes to the PCM of the index, all
    copies are as long as the clean one and none is the clean one, the JSON agrees with plan and index, and plain webdataset and
    tar read the shards. physics: also lag, SNR, level, bands and clipping of each copy, reverberation time and direct path of each
    response, and how often each thing was drawn, are measured from the audio.
    """
    from corpus_builder.verify.verify_corpus import verify

    if against is not None and not against.exists():
        from manifests.pack.view import NEEDED

        raise MissingFileError(against, needed=NEEDED)
    report = verify(corpus, level=cast("Level", level), workers=workers)
    differ, document = False, report.plain()
    if not as_json:
        for finding in report.findings:
            click.echo(f"{printable(finding.where)}: {printable(finding.what, limit=400)}")
        for line in report.measurement_lines():
            click.echo(line)
        click.echo(report.summary())
    if against is not None:
        from corpus_builder.rebuild.diff import differences

        with differences(against, corpus) as found:
            differ = found.any
            document |= {"against": found.plain() | {"differences": [json.loads(line) for line in found.every()]}}
            if not as_json:
                for line in (*found.summary(), *found.every()):
                    click.echo(line)
    if as_json:
        from manifests.results.reports import VerifyReport, reported

        click.echo(json.dumps(reported(VerifyReport, document), indent=1))
    if report.findings or differ:
        context.exit(1)


@click.command("show")
@click.argument("corpus", type=PLACE)
@click.option(
    "--html",
    "page",
    type=FOLDER,
    metavar="PAGE",
    help="Write one self-contained HTML page with plots, spectrograms and players.",
)
@click.option(
    "--samples", type=click.IntRange(0, 200), default=6, show_default=True, metavar="N", help="Utterances on the page."
)
def show_command(corpus: Place, page: Path | None, samples: int) -> None:
    """Describe CORPUS: hours, copies, domains, what was drawn, what was refused.

    The page shows the same as plots, and a few utterances with spectrogram, player and parameters of each copy. It needs no network.
    """
    from corpus_builder.pages.summary import description

    click.echo(description(corpus))
    if page is not None:
        from corpus_builder.pages.corpus_page import write_page
        from manifests.corpus.shard_index import read_corpus

        if read_corpus(corpus).borrowed is not None:
            raise UsageError("--html needs a plan, which a subset or an index does not have: show the whole corpus")
        shown = write_page(corpus, page, samples=samples)
        click.echo(f"{printable(page)}: {shown} utterances shown")
