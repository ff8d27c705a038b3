"""distil(): the whole of training, read top to bottom."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Literal

import torch

from manifests.errors import StillroomError, printable
from manifests.io.lock import writing
from manifests.io.place import local_path
from manifests.io.progress import stderr_line
from training.config.load import load_config
from training.config.schema import TrainConfig
from training.dataloader import loader
from training.distillation.optimiser import learning_rate_scale, spoilt, update_unless
from training.runs.distributed import Ranks, alone
from training.runs.folder import failure_recorded, write_status
from training.runs.journal import training_log
from training.runs.precision import with_precision
from training.runs.signals import StopSignals
from training.sanity_check import full_ids
from training.setup import set_up
from training.step import correct_for_lost, forward_backward, not_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from manifests.results.reports import State
    from training.data.batch import PairBatch
    from training.runs.step_sums import StepResult
    from training.setup import Setup

Outcome = Literal["done", "preempted", "interrupted"]


class NonFiniteLossError(StillroomError, ArithmeticError):
    """The loss, or its gradient, is no longer a number."""

    def __init__(
        self, *, step: int, utterances: str, what: Literal["loss", "gradient"] = "loss", teacher: str | None = None
    ) -> None:
        cause = "" if teacher is None else f", as {teacher}"
        mend = "lower optimiser.learning_rate" if teacher is None else "set precision: float32, or choose other layers"
        super().__init__(
            f"the {what} of step {step} is not finite{cause}; its utterances are {utterances}: {mend}, or "
            "listen to those; the last checkpoint is kept"
        )


def distil(  # noqa: C901, PLR0912, PLR0915 (the one long function)
    config: TrainConfig | str | Path,
    run: str | Path,
    *,
    ranks: Ranks | None = None,
    report: Callable[[str], None] | None = None,
) -> Outcome:
    """Distil a student; goes on from the run's last whole checkpoint, if it has one.

    Args:
        config: A resolved config, or the file of one.
        run: The run's folder; rank 0 alone writes to it.
        ranks: This process among those that train together; alone by default.
        report: Gets single lines for a person; standard error by default.

    Returns:
        `done`; or `preempted` (SIGTERM, SIGUSR1) or `interrupted` (Ctrl-C), with a checkpoint written.

    Raises:
        StillroomError: What a person can mend: see the error classes of this package.
        NonFiniteLossError: If the loss or its gradient is NaN or infinite; that step changes no weight, and the run ends after the next one.
    """
    config, run = config if isinstance(config, TrainConfig) else load_config(config), local_path(run)
    ranks = ranks or alone()
    config = with_precision(config, run, ranks=ranks)
    report = (report or stderr_line) if ranks.is_first else no_report
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        if ranks.is_first:
            stack.enter_context(writing(run))
            stack.enter_context(failure_recorded(run, config))
        stack.enter_context(torch.random.fork_rng([ranks.device] if ranks.device.type == "cuda" else []))
        setup = set_up(config, run, ranks=ranks, report=report, stack=stack)
        config, models, optimiser, validator = setup.config, setup.models, setup.optimiser, setup.validator
        if setup.done >= config.steps:
            report(f"{printable(run)}: all {setup.done} steps were done before")
            return "done"
        log = stack.enter_context(training_log(run, config, mark=setup.mark, ranks=ranks, **setup.log_facts(report)))
        if setup.mark is None and ranks.is_first:
            for facts in validator.before_training(models.adversary):
                log.journal.write({"step": 0, **facts})
        ranks.broadcast_modules(models.student, *models.adversary.modules.values())
        best_loss = setup.mark.best_loss if setup.mark is not None else None

        def save(folder: Literal["checkpoints", "best"]) -> None:
            """Write a checkpoint of the step that was just done."""
            log.journal.sync()
            setup.checkpoints.write(
                folder,
                step=step,
                cursor=tuple(batch.next_cursor),
                sums=dict(log.since_line),
                counts=dict(log.in_all),
                best_loss=best_loss,
                training_audio={**log.training_audio(), "wall_s": log.in_all.get("wall_s", 0.0)},
            )

        reading = loader(setup.stream, workers=config.workers, device=ranks.device, give_up=stop.request)
        batches = log.timed(stack.enter_context(contextlib.closing(reading)))
        for step in range(setup.done + 1, config.steps + 1):
            for batch in micro_batches(batches):
                if batch.keys:  # a rank's lanes may be empty, and add nothing
                    log.add(batch, *forward_backward(models, batch, config, step=step))
                if batch.lost:
                    lost_frames = sum(map(models.student.config.num_frames, batch.lost))
                    log.add_damage(batch, frames=lost_frames, step=step, most=config.damaged_shards)
            sums = setup.all_reduce(log.sums(signal=stop.received))  # with the gradients, over ranks
            if config.damaged_shards:
                correct_for_lost(sums, setup.trained, batch, models.student)

            rate = config.optimiser.learning_rate * learning_rate_scale(
                step, updates=config.steps, warmup_share=config.optimiser.warmup_share
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            norm = torch.nn.utils.clip_grad_norm_(setup.trained, config.optimiser.clip)
            is_spoilt = spoilt(norm, sums)  # on the device; the host reads the step when the next is done
            update_unless(is_spoilt, optimiser)
            optimiser.zero_grad(set_to_none=True)
            utterances = log.step_sums.classified(sums)
            critic_norm = models.adversary.update(is_spoilt=is_spoilt, utterances=utterances)
            log.end_step(step, batch, sums, norm, critic_norm)

            is_last = step == config.steps
            is_logged, is_validated, is_saved = (
                is_last or step % every == 0
                for every in (config.log_every, config.validate_every, config.checkpoint_every)
            )
            check_finite(log.read(every=is_logged or is_validated or is_saved), setup)
            stopping = stop.received if ranks.count == 1 else log.signal  # a signal to one rank stops all
            if stopping:
                check_finite(log.read(every=True), setup)
            if is_logged:
                facts = models.adversary.journal_facts(progress=step / config.steps)
                log.write_line({"step": step, "learning_rate": rate, **facts})
            if is_validated and ranks.is_first and validator.has_losses:
                found = validator.measure(step)
                log.journal.write({"step": step, **found})
                if "val_loss" in found and (best_loss is None or found["val_loss"] < best_loss):
                    best_loss = found["val_loss"]
                    save("best")
            if (is_saved or stopping) and ranks.is_first:
                save("checkpoints")
                state: State = "done" if is_last else "preempted" if stopping else "running"
                write_status(run, state, step=step, steps=config.steps)
            if stopping and not is_last:
                return "interrupted" if stopping == signal.SIGINT else "preempted"
    return "done"


def check_finite(results: Iterable[StepResult], setup: Setup) -> None:
    """Check the steps that the host has read.

    Raises:
        NonFiniteLossError: At the first one that was not taken, as its loss or gradient is not finite.
    """
    for result in results:
        if result.problem is not None:
            utterances = full_ids(setup.stream, setup.reader, result.cursor)
            lanes = setup.stream.one_step(setup.reader, result.cursor) if setup.config.targets is None else ()
            teacher = not_finite(setup.models, lanes, precision=setup.config.precision)
            raise NonFiniteLossError(step=result.step, utterances=utterances, what=result.problem, teacher=teacher)


def micro_batches(batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
    """This rank's micro-batches of one global batch."""
    for batch in batches:
        yield batch
        if batch.ends_step:
            return
    raise AssertionError("an endless stream ended")


def no_report(_: str) -> None:
    """What a rank that is not the first reports to a person."""
