"""`stillroom plan`, `build`, `verify` and `show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from corpus_builder.cli.options import FOLDER, LIMIT, PLACE, REASONS_SHOWN, ROOTS, WORKERS, parse_allowance
from manifests.errors import UsageError, printable

if TYPE_CHECKING:
    from corpus_builder.build.build_corpus import Built
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
    """Only decide: RECIPE's ranges become the numbers in the folder PLAN.

    Every draw is thrown here: which noise, from which sample, at which SNR, which room, which codec. A finished plan is not made
    twice.
    """
    from corpus_builder.plan.make_plan import check_target, make_plan, no_empty_folder
    from corpus_builder.sources.roots import parse_roots
    from manifests.io.lock import writing

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
    help="Only every N-th shard, from the I-th; for job arrays. Without it: the rest, and the seal.",
)
@click.option("--rooms", "only_rooms", is_flag=True, help="Stop after the rooms; slices need them.")
@click.option(
    "--stop-after",
    "time",
    metavar="TIME",
    help="Finish the shards in hand after TIME (3h50m) and leave with exit code 75, as on SIGTERM and SIGUSR1.",
)
@click.option(
    "--scratch",
    type=FOLDER,
    metavar="DIR",
    help="Where a corpus at a URL is made before it is sent; a temporary folder.",
)
@click.option(
    "--dry-run", "dry", is_flag=True, help="Build nothing: say how large it will be, from a timed sample of the work."
)
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

    Goes on where it was stopped. The corpus is sealed when all shards are done; training needs the seal.
    """
    import contextlib

    from corpus_builder.build.build_corpus import Slice, build
    from corpus_builder.build.dask_executor import dask_executor
    from corpus_builder.sources.roots import parse_roots
    from corpus_builder.workers.preemption import EXIT_STOPPED, Stop, StoppedError, parse_time

    allowed = parse_allowance(max_refused)
    given = parse_roots(roots)
    slice_ = None if part is None else Slice.parse(part)
    if only_rooms and slice_ is not None:
        raise UsageError(
            f"--rooms with --slice {printable(part)}: rooms are made once, for all slices; leave out --slice"
        )
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop(None if time is None else parse_time(time)))
        try:
            if dry:
                from corpus_builder.build.dry_run import estimate

                told = estimate(source, roots=given, limit=limit, workers=workers, remote=not isinstance(corpus, Path))
                click.echo(told.lines(workers=workers))
                return
            executor = None if address is None else stack.enter_context(dask_executor(address))
            built = build(
                source,
                corpus,
                roots=given,
                workers=workers,
                limit=limit,
                part=slice_,
                only_rooms=only_rooms,
                executor=executor,
                scratch=scratch,
                stop=stop,
            )
        except StoppedError:
            click.echo(f"stopped ({stop.reason}); the same command goes on where this one left off", err=True)
            context.exit(EXIT_STOPPED)
    tell_built(built, corpus, only_rooms=only_rooms, part=part)
    if built.stopped:
        context.exit(EXIT_STOPPED)
    if built.undone or not within(built, allowed):
        context.exit(1)


def within(built: Built, allowed: tuple[float, bool]) -> bool:
    """Whether no more utterances were refused than allowed; says so if more were."""
    if built.corpus is None:
        return True
    refused, _ = refusals(built.corpus)
    number, percent = allowed
    most = number / 100 * (built.corpus.totals.samples + refused) if percent else number
    if refused <= most:
        return True
    shown = f"{number:g}%" if percent else f"{number:g}"
    click.echo(
        f"{refused} utterances were refused, more than --max-refused {shown}; reasons stand in refused.jsonl", err=True
    )
    return False


def refusals(corpus: Corpus) -> tuple[int, int]:
    """How many utterances were refused, and how many other things: noises, room responses."""
    utterances = sum(count for split, count in corpus.refused.items() if split in corpus.splits)
    return utterances, sum(corpus.refused.values()) - utterances


def tell_built(built: Built, corpus: Place, *, only_rooms: bool, part: str | None) -> None:
    """What a build came to, on standard output."""
    if only_rooms:
        click.echo(f"the rooms of {printable(corpus)} are done; {built.left} shards are left")
        return
    for name, why in built.undone:
        click.echo(f"shard {name} was left undone: {printable(why)}; run the same command again", err=True)
    if built.stopped:
        told = f"stopped ({built.stopped}), {built.left} of {len(built.plan.files)} shards are left"
        click.echo(f"{told}; the same command goes on where this one left off", err=True)
        return
    if built.corpus is None:
        if part is not None and not built.undone:
            click.echo(f"slice {part} is done; when all are, the same command without --slice seals the corpus")
        return
    totals = built.corpus.totals
    utterances, others = refusals(built.corpus)
    refused = f"{utterances} refused" + (f", and {others} noises or room responses" if others else "")
    note = " (it was there already)" if built.was_sealed else ""
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
    help="How deep to look.",
)
@WORKERS
@click.option(
    "--against", type=FOLDER, metavar="OTHER", help="Also say what differs from another corpus, or from a pack of it."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON document.")
@click.pass_context
def verify_command(
    context: click.Context, *, corpus: Place, level: str, workers: int, against: Path | None, as_json: bool
) -> None:
    """Re-open CORPUS as a stranger would, and say what is off.

    bytes: every file is there, whole, and what its digest says. pcm: also every sample decodes to the PCM that the index names, all
    copies are as long as the clean one and none is the clean one, the JSON agrees with plan and index, and plain webdataset and
    tar read the shards. physics: also lag, SNR, level, bands and clipping of each copy, reverberation time and direct path of each
    response, and how often each thing was drawn, are measured from the audio.
    """
    from corpus_builder.verify.verify_corpus import verify

    if against is not None:
        from manifests.pack.view import check_comparable

        check_comparable(corpus, against)
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

        assert isinstance(corpus, Path), "check_comparable looked"
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
    help="Write one self-contained HTML page to look at and to listen to.",
)
@click.option(
    "--samples", type=click.IntRange(0, 200), default=6, show_default=True, metavar="N", help="Utterances on the page."
)
def show_command(corpus: Place, page: Path | None, samples: int) -> None:
    """Say what CORPUS holds: hours, copies, domains, what was drawn, what was refused.

    The page shows the same as plots, and a few utterances with each copy's spectrogram, player and parameters. It needs no network.
    """
    from corpus_builder.pages.summary import description

    click.echo(description(corpus))
    if page is not None:
        from corpus_builder.pages.corpus_page import write_page
        from manifests.corpus.shard_index import read_corpus

        if read_corpus(corpus).borrowed is not None:
            raise UsageError("--html needs the plan, which a subset or an index has not: show the whole corpus")
        shown = write_page(corpus, page, samples=samples)
        click.echo(f"{printable(page)}: {shown} utterances to see and to hear")
