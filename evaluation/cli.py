"""`stillroom evaluate` and `stillroom report`; what is heavy is imported when they run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from manifests.errors import printable


@click.command("evaluate")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where models run."
)
def evaluate_command(config: Path, results: Path, device: str) -> None:
    """Measure how robust the models of CONFIG are, into the folder RESULTS.

    CONFIG names a corpus, models, tasks and measures. RESULTS gets results.json and report.md. Stopped, the same command
    goes on with the models that are not finished.
    """
    from evaluation.config import EvaluationConfig

    asked = EvaluationConfig.read(config)  # before torch is loaded: a typing error is told at once
    from evaluation.evaluate import evaluate

    evaluate(asked, results, device=device, say=click.echo)
    click.echo(f"stillroom report {shlex.quote(printable(results))} shows the table; it stands in report.md there too")


@click.command("report")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the report to this file too.")
def report_command(results: tuple[Path, ...], markdown: Path | None) -> None:
    """Print the tables of one or several RESULTS folders of the same data."""
    from evaluation.report import read_results, report_text
    from manifests.files import write_text

    text = report_text([read_results(folder) for folder in results], names=[str(folder) for folder in results])
    if markdown is not None:
        write_text(markdown, text)
    click.echo(text, nl=False)
