"""`stillroom train`, `stillroom teacher` and `stillroom targets`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

EXIT_CODES = {"done": 0, "preempted": 75, "interrupted": 130}


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key of the config, such as optimiser.learning_rate=1e-3; may be given several times.",
)
@click.option("--gloo-timeout", default=3600, show_default=True, metavar="SECONDS", type=click.IntRange(1),
              help="How long a rank waits for the others on the CPU, where rank 0 checks corpus and teacher first.")  # fmt: skip
@click.option("--nccl-timeout", default=1800, show_default=True, metavar="SECONDS", type=click.IntRange(1),
              help="How long GPUs wait for each other, while rank 0 validates and writes checkpoints.")  # fmt: skip
@click.pass_context
def train_command(
    context: click.Context, /, config: Path, run: Path, overrides: tuple[str, ...], **timeouts: int
) -> None:
    """Distil a student as the YAML file CONFIG describes, into the folder RUN.

    The same command goes on where an earlier one was stopped. SIGTERM and SIGUSR1 write a checkpoint and leave with exit
    code 75, Ctrl-C with 130. On several GPUs or nodes: torchrun --nproc-per-node=N -m stillroom train CONFIG RUN; torchrun leaves with
    its own exit code, so look into RUN/status.json (running, preempted, failed, done).
    """
    from datetime import timedelta

    from training.config.load import load_config

    if "RANK" not in os.environ:  # several ranks find a mistake together, and one says it
        load_config(config, overrides=overrides)  # before torch is loaded: a typing error is reported at once
    from training.loop import distil
    from training.runs.distributed import Timeouts, joined_ranks

    gloo, nccl = (timedelta(seconds=timeouts[f"{name}_timeout"]) for name in ("gloo", "nccl"))
    with joined_ranks(Timeouts(gloo, nccl)) as ranks:
        outcome = distil(load_config(config, overrides=overrides), run, ranks=ranks)
        if outcome != "done" and ranks.is_first:
            click.echo("stopped, with a checkpoint; the same command goes on from it", err=True)
    context.exit(EXIT_CODES[outcome])


@click.command("teacher")
@click.argument("name")
def teacher_command(name: str) -> None:
    """Fetch the published weights of the teacher NAME, such as hubert_base, into torch's cache (TORCH_HOME).

    NAME may be the id of a model of the Hugging Face hub (facebook/hubert-base-ls960), which goes into the hub's cache (HF_HOME). It may also be a folder or a checkpoint that is here: then it is read, checked and described.
    """
    from training.teacher import description, fetch_teacher, load_teacher

    where = Path(name) if Path(name).exists() else fetch_teacher(name)
    click.echo(f"{description(load_teacher(name))}, in {where}")


def parsed_layers(context: click.Context, option: click.Parameter, value: str) -> str | tuple[int, ...]:
    """`4,8,12`, `thirds` or `all`."""
    if value in {"thirds", "all"}:
        return value
    try:
        return tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is none of 4,8,12 (numbers), thirds, all", context, option) from None


def parsed_part(context: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    """`I/N`, from 1."""
    first, _, last = value.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise click.BadParameter(f"{value!r} is not I/N, such as 3/40", context, option)
    return int(first), int(last)


@click.command("targets")
@click.argument("corpus")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--teacher", required=True, metavar="NAME", help="Name, folder or checkpoint, as in a config.")
@click.option(
    "--layers", default="thirds", show_default=True, callback=parsed_layers, help="4,8,12, or thirds, or all."
)
@click.option("--split", "splits", multiple=True, help="Which; train and dev by default. May be given several times.")
@click.option("--condition", "--conditions", "conditions", multiple=True, metavar="NAME,...",
              help="Copies that the teacher is run on too, beside the clean utterances (for cdm2).")  # fmt: skip
@click.option("--crop-s", default=15.625, show_default=True, help="Longest crop in seconds; of the config.")
@click.option("--crops", "crop_sets", default=1, show_default=True, type=click.IntRange(1, 65536),
              help="Crops of each long utterance; epochs take them in turn.")  # fmt: skip
@click.option("--seed", "crop_seed", default=0, show_default=True, type=click.IntRange(0), help="Of the crops.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True,
              help="In which the teacher computes.")  # fmt: skip
@click.option("--slice", "part", default="1/1", metavar="I/N", callback=parsed_part, help="Only each Nth shard.")
@click.pass_context
def targets_command(context: click.Context, /, corpus: str, out: Path, **options: Any) -> None:
    """Run a teacher over CORPUS once, and store the outputs of its layers in the folder OUT; `targets: OUT` trains on them.

    The same command goes on where an earlier one was stopped. SIGTERM and SIGUSR1 leave with exit code 75. Slices may run at the same
    time, on several GPUs or nodes; the last one, or the command without --slice, finishes.
    """
    import signal

    from training.precompute import TargetSettings, compute_targets

    part = options.pop("part")
    conditions = tuple(name for words in options.pop("conditions") for name in words.split(",") if name)
    stopped = compute_targets(
        corpus, out, TargetSettings(**options, conditions=conditions), part=part, report=click.echo
    )
    if stopped:
        click.echo("stopped; the same command goes on with the shards that are left", err=True)
        context.exit(130 if stopped == signal.SIGINT else 75)
