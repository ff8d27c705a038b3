"""`stillroom evaluate`, `report` and `export`; what is heavy is imported when they run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from manifests.errors import printable


@click.command("evaluate")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="Where models run; on the GPU by default, if there is one."
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key of the config, such as limit=100 or models.mine=runs/mine; may be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print what it takes, write nothing.")
@click.option(
    "--best", is_flag=True, help="Of every run take the checkpoint with the lowest validation loss, not the last."
)
def evaluate_command(
    config: Path,
    results: Path,
    *,
    device: str | None,
    overrides: tuple[str, ...],
    best: bool,
    dry_run: bool,
) -> None:
    """Measure how robust the models of CONFIG are, into the folder RESULTS.

    CONFIG names a corpus, models, tasks and measures. RESULTS gets results.json and report.md. Stopped, the same command
    goes on with the models that are not finished.
    """
    from evaluation.config import EvaluationConfig

    # Before torch is loaded: a typing error is reported at once.
    read = EvaluationConfig.read(config, overrides=overrides)
    if best:
        read = read.with_best()
    from evaluation import evaluate_models

    if dry_run:
        evaluate_models.chosen_device(device)
        evaluate_models.dry_run(read, results, log=click.echo)
        return
    evaluate_models.evaluate(read, results, device=device, log=click.echo)
    click.echo(
        f"stillroom report {shlex.quote(printable(results))} prints the tables, which are in report.md there too"
    )


@click.command("report")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the report to this file too.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PAGE",
    help="Write it as one self-contained HTML page, with plots and heat maps.",
)
@click.option(
    "--csv",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write every table into this folder, as CSV with unrounded numbers; pages then show twelve rows of longer tables.",
)
@click.option("--against", metavar="SYSTEM", help="Compare every system with this one (the plain student by default).")
def report_command(
    results: tuple[Path, ...], *, markdown: Path | None, page: Path | None, csv: Path | None, against: str | None
) -> None:
    """Print the tables of one or several RESULTS folders of the same data."""
    from evaluation.report.make_report import report

    click.echo(report(results, markdown=markdown, html=page, csv=csv, against=against), nl=False)


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["huggingface", "s3prl", "torchaudio", "onnx"]),
    help="The library that reads it.",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="The newest, or that with the lowest validation loss.",
)
@click.option(
    "--audio",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="Speech to compare on, mono; may be given several times. By default utterances of the run's corpus.",
)
@click.option("--int8", is_flag=True, help="Round the weights of matrix products to integers; with --to onnx alone.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RESULTS",
    help="A folder of `stillroom evaluate` with scores of this student, for its model card; may be given several times.",
)
def export_command(
    *, run: Path, out: Path, form: str, checkpoint: str, audio: tuple[Path, ...], int8: bool, results: tuple[Path, ...]
) -> None:
    """Write the student of RUN into the folder OUT for another library, with a model card.

    It is loaded back by that library, both are given the same speech, and the largest difference is printed; above 1e-4 nothing
    is written. With --int8 it is compared by the root mean square of a layer's differences, which may be a tenth of the layer's.
    """
    from evaluation.report.model_card import export_with_card

    done = export_with_card(run, out, form=form, checkpoint=checkpoint, audio=audio, int8=int8, results=results)  # type: ignore[arg-type]  # click checked both
    click.echo(f"{done.path}: {done.loads}")
    click.echo(
        f"largest difference from the run over {done.utterances} utterances ({done.seconds:.1f} s): {done.shown_difference}"
    )
    if done.note:
        click.echo(done.note)
