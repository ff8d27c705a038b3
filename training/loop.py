"""distil(): the whole of training, read top to bottom."""

from __future__ import annotations

import contextlib
import io
import math
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import torch

from manifests.corpus.sample import CLEAN
from manifests.errors import StillroomError, printable
from manifests.io.lock import writing
from manifests.io.progress import Progress, stderr_line
from training.data.joined_corpus import open_corpus
from training.data.sampler import Cursor, named_number
from training.data.tar_reader import UNREADABLE
from training.dataloader import loader
from training.distillation.adversary import reversal_strength
from training.distillation.losses import check_layer_weights, layer_distance
from training.distillation.optimiser import adamw, learning_rate_scale
from training.models.initialisation import SEED_RANGE
from training.models.masking import hidden_frames
from training.runs.checkpoint import module_tensors, optimiser_tensors, write_checkpoint
from training.runs.distributed import Ranks, alone
from training.runs.folder import StopSignals, failure_told, prepare_run, run_facts, write_status
from training.runs.journal import Board, DistinctCount, Journal, Meters, heard_so_far, journal_line, noted, speeds
from training.sanity_check import check_first_batch, full_ids
from training.setup import (
    batching_of,
    checked_rate,
    dev_validation,
    fresh_critic,
    make_student,
    opponent_of,
    resume,
    with_targets,
)
from training.stream import PairStream
from training.targets.reader import TargetsReader, check_layers
from training.teacher import chosen_layers, load_teacher
from training.validation.domain_probe import invisible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from manifests.results.reports import State
    from training.config.schema import TrainConfig
    from training.validation.loss import Validation

Outcome = Literal["done", "preempted", "interrupted"]
SUMMED = ("loss", "l1", "cosine", "domain", "right")
SCALED = ("loss", "l1", "cosine", "domain")


class NonFiniteLossError(StillroomError, ArithmeticError):
    """The loss, or its gradient, is no longer a number."""

    def __init__(self, *, step: int, heard: str, what: Literal["loss", "gradient"] = "loss") -> None:
        super().__init__(
            f"the {what} of step {step} is not finite; it heard the utterances {heard}: lower optimiser.learning_rate, or "
            "listen to those; the last checkpoint is kept"
        )


class TooMuchDamageError(StillroomError, ValueError):
    """More shards cannot be read than the config allows."""

    def __init__(self, count: int, *, most: int, last: str) -> None:
        super().__init__(
            f"{count} shards cannot be read, damaged_shards: {most} are allowed; the last one: {last}; the last checkpoint is kept"
        )


def distil(  # noqa: C901, PLR0912, PLR0915 (the one long function)
    config: TrainConfig, run: Path, *, ranks: Ranks | None = None, say: Callable[[str], None] | None = None
) -> Outcome:
    """Distil a student; goes on from the run's last whole checkpoint, if it has one.

    Args:
        config: As resolved.
        run: The run's folder; rank 0 alone writes to it.
        ranks: This process among those that train together; alone by default.
        say: Where single lines for a person go; standard error by default.

    Returns:
        `done`; or `preempted` (SIGTERM, SIGUSR1) or `interrupted` (Ctrl-C), with a checkpoint written.

    Raises:
        StillroomError: What a person can mend: see the classes of this room.
        NonFiniteLossError: If the loss or its gradient is NaN or infinite; nothing of that step is kept.
    """
    ranks = ranks or alone()
    say = (say or stderr_line) if ranks.is_first else unsaid
    device = ranks.device
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        if ranks.is_first:
            stack.enter_context(writing(run))
            stack.enter_context(failure_told(run, config))
        lanes = ranks.lanes(config.batch.lanes)
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))

        # What is taught, by whom, from which audio: everything is checked before the first step.
        reader = stack.enter_context(open_corpus(config.corpus))
        targets = stack.enter_context(TargetsReader(config.targets)) if config.targets is not None else None
        teacher = targets.teacher() if targets is not None else load_teacher(config.teacher.name)
        rate_hz = checked_rate(reader, teacher)
        layers = chosen_layers(config.teacher.layers, teacher=teacher)
        if targets is not None:
            config = with_targets(config, targets, reader, rate_hz=rate_hz, layers=layers)
        check_layer_weights(config.loss, layers)
        batching = batching_of(config, reader, rate_hz=rate_hz, hop_samples=teacher.config.hop_samples, say=say)
        adversary = config.adversary
        stream = PairStream(
            config.corpus,
            split=config.split,
            views=config.views,
            batching=batching,
            seed=config.seed,
            epochs=None,
            families=adversary is not None and adversary.domain == "family",
            targets=config.targets,
            stage=config.stage,
            damaged_shards=config.damaged_shards,
        )
        validation = dev_validation(config, reader, batching=batching, targets=targets, say=say)
        student = make_student(config.student, teacher, target_layers=layers, seed=config.seed)
        fresh = fresh_critic(config, reader, student=student, teacher=teacher, batching=batching, targets=targets)
        opponent = (
            opponent_of(
                config, adversary, stream=stream, reader=reader, student=student, teacher=teacher, device=device
            )
            if adversary is not None
            else None
        )
        domains = opponent.domains if opponent is not None else ()
        # Layers asked of the teacher: the targets, and where the critic compares views, those it reads of the student.
        view_layers: tuple[int, ...] = ()
        if opponent is not None and opponent.adversary.domain == "view":
            view_layers = opponent.layers
        wanted = (*layers, *view_layers)
        if targets is not None:
            check_layers(targets, wanted)
        run_sha256: str | None = None
        if ranks.is_first:
            if not (run / "config.yaml").exists():
                check_first_batch(stream, reader, say=say)
            run_sha256 = prepare_run(
                run,
                config,
                reader=reader,
                teacher=teacher,
                heard=student.heard,
                targets_sha256=targets.digest if targets is not None else None,
            )

        if targets is None:
            teacher.to(device)
        student.to(device).train()
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        optimiser = adamw(trained, config.optimiser, learning_rate=config.optimiser.learning_rate)
        copies = DistinctCount()

        mark = resume(run, student, optimiser, opponent, copies, ranks=ranks, run_sha256=run_sha256, say=say)
        done = mark.step if mark is not None else 0
        cursor = Cursor(*mark.cursor) if mark is not None else Cursor()
        meters = Meters(mark.sums if mark is not None else None)
        counts = Meters(mark.counts if mark is not None else None)
        best_loss = mark.best_loss if mark is not None else None
        if ranks.is_first:
            write_status(run, "done" if done >= config.steps else "running", step=done, steps=config.steps)
        if done >= config.steps:
            say(f"{printable(run)}: all {done} steps were done before")
            return "done"
        place = run / "journal.jsonl" if ranks.is_first else None
        journal = stack.enter_context(Journal(place, step=done if mark is not None else -1))
        if config.tensorboard and ranks.is_first:
            journal.board = stack.enter_context(Board(run, step=done))
        seen_by = sys.stderr if ranks.is_first else io.StringIO()
        progress = stack.enter_context(
            Progress("training", total=config.steps, unit="steps", done=done, stream=seen_by)
        )

        if mark is None and opponent is not None and adversary is not None and ranks.is_first:
            if adversary.standardise and fresh.classes:
                opponent.critic.settle(fresh.rows(fresh.fit, student, teacher, device=device).features)
            # Is there anything to hide? Asked of the student as it begins, so once.
            if fresh.classes:
                say(fresh.question())
            seen = fresh.seen(student, teacher, device=device)
            if seen is not None:
                warning = invisible(seen, adversary, layers=opponent.layers)
                found = {"domain_visible": seen.accuracy, "domain_visible_majority": seen.majority}
                journal.write({"step": 0, **found, **({"warning": warning} if warning is not None else {})})
                if warning is not None:
                    say(warning)
        ranks.share(student, *([opponent.critic] if opponent is not None else []))

        def checkpoint(folder: Literal["checkpoints", "best"]) -> None:
            """Write everything, or for `best` the student alone."""
            journal.sync()
            tensors = module_tensors(student=student)
            if folder == "checkpoints":
                tensors["tally.copies"] = copies.ranks
                tensors |= optimiser_tensors(optimiser=optimiser)
                if opponent is not None:
                    tensors |= module_tensors(critic=opponent.critic)
                    tensors |= optimiser_tensors(critic_optimiser=opponent.optimiser)
            write_checkpoint(
                run / folder,
                tensors,
                kept=2 if folder == "checkpoints" else 1,
                step=done,
                cursor=tuple(cursor),
                encoder=student.config,
                sums=dict(meters.sums),
                counts=dict(counts.sums),
                best_loss=best_loss,
                run_sha256=run_sha256,
                facts=run_facts(config, reader=reader, teacher=teacher, layers=layers, told=heard_until_now()),
            )

        def measured(validation: Validation) -> dict[str, Any]:
            """The losses on dev, and what a fresh critic sees; or what was found instead of the shards."""
            try:
                found: dict[str, Any] = validation.losses(
                    student,
                    teacher,
                    layers=layers,
                    weights=config.loss,
                    standardise=config.teacher.standardise,
                    device=device,
                )
                seen = fresh.seen(student, teacher, device=device)
            except UNREADABLE as problem:
                if not config.damaged_shards:
                    raise
                say(f"step {done} is not validated: {problem}")
                return {"warning": str(problem)}
            if seen is not None:
                found |= {"domain_fresh": seen.accuracy, "domain_fresh_majority": seen.majority}
            return found

        def heard_until_now() -> dict[str, Any]:
            """What a report says the run has heard, and the time it took."""
            told = heard_so_far(counts, copies, epoch=epoch, split_utterances=split_utterances)
            return {**told, "wall_s": counts.sums.get("wall_s", 0.0)}

        split_utterances = sum(entry.samples for entry in reader.shards(config.split))
        epoch = cursor.epoch
        parts: list[Tensor] = []
        nothing = dict.fromkeys(
            ("utterances", "fell_back", "audio_s", "lost", "lost_frames", *(f"domain.{name}" for name in domains)), 0.0
        )
        counted = Meters(nothing)
        note = ""
        waited_s = logged_audio_s = 0.0
        logged_s = asked_s = time.monotonic()
        stream.cursor, stream.lanes, stream.target_layers = cursor, lanes, wanted
        damaged: set[str] = set()

        batches = stack.enter_context(contextlib.closing(loader(stream, workers=config.workers)))
        for batch in batches:
            waited_s += time.monotonic() - asked_s
            local = batch.to(device)
            step = done + 1
            strength = reversal_strength(adversary, progress=step / config.steps) if adversary is not None else 0.0
            global_frames = [student.config.num_frames(length) for length in batch.global_lengths]
            num_frames, num_voices = max(1, sum(global_frames)), max(1, sum(count > 0 for count in global_frames))

            if batch.keys:  # at a window's end a rank's lanes may be empty: it adds nothing
                # Dropout's own stream of chance: free of what was drawn before, so a resumed run draws the same.
                torch.manual_seed(named_number(config.seed, "dropout", step, batch.lane) % SEED_RANGE)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
                    if local.target is not None:
                        target = local.target.float()
                    else:
                        target, _ = teacher.layers(local.teacher_wave, local.num_samples, only=wanted)
                    masked = hidden_frames(config.student.mask, local, student.config, seed=config.seed)
                    heard = student(local.student_wave, local.num_samples, masked)
                distance = layer_distance(
                    heard.predictions,
                    target[:, : len(layers)],
                    heard.num_frames,
                    weights=config.loss,
                    standardise=config.teacher.standardise,
                )
                l1, cosine = distance.l1 / num_frames, distance.cosine / num_frames
                distilled = config.loss.l1 * l1 + config.loss.cosine * cosine
                loss, told, right = distilled, torch.zeros_like(l1), torch.zeros_like(l1)
                if adversary is not None and opponent is not None:
                    judgement = opponent.judge(
                        heard,
                        batch.student_copies,
                        families=batch.student_families,
                        strength=strength,
                        teacher=target[:, len(layers) :].unbind(dim=1) if view_layers else None,
                    )
                    judged = num_voices * (2 if view_layers else 1)
                    told, right = judgement.loss / judged, judgement.right
                    loss = loss + adversary.weight * (judgement.term / judged)
                    counted.add(**{f"domain.{name}": n for name, n in zip(domains, judgement.asked, strict=True)})
                torch.autograd.backward(loss)

                parts.append(torch.stack([distilled, l1, cosine, told, right.float()]).detach())
                audio_s = float(batch.num_samples.sum()) / rate_hz
                counted.add(utterances=len(batch.keys), fell_back=batch.fell_back, audio_s=audio_s)
                for key, *pair in zip(batch.keys, batch.teacher_copies, batch.student_copies, strict=True):
                    for name in {*pair} - {CLEAN}:
                        copies.add(key, name)
            if batch.lost:
                counted.add(lost=len(batch.lost), lost_frames=sum(map(student.config.num_frames, batch.lost)))
                tell_damage(batch.damage, told=damaged, most=config.damaged_shards, journal=journal, step=step)
            if not batch.ends_step:
                asked_s = time.monotonic()
                continue

            summed = torch.stack(parts).sum(dim=0).tolist() if parts else [0.0] * len(SUMMED)
            sums = ranks.sums({**dict(zip(SUMMED, summed, strict=True)), **counted.sums})
            if not all(map(math.isfinite, sums.values())):
                raise NonFiniteLossError(step=step, heard=full_ids(stream, reader, batch.cursor))
            rate = config.optimiser.learning_rate * learning_rate_scale(
                step, updates=config.steps, warmup_share=config.optimiser.warmup_share
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            ranks.sum_gradients(trained)
            if lost_frames := sums.pop("lost_frames"):  # the mean is over what was heard, not over what was due
                scale = num_frames / max(1.0, num_frames - lost_frames)
                for parameter in trained:
                    if parameter.grad is not None:
                        parameter.grad *= scale
                sums |= {name: sums[name] * scale for name in SCALED}
            norm = float(torch.nn.utils.clip_grad_norm_(trained, config.optimiser.clip))
            if not math.isfinite(norm):  # the update would spoil every weight, and a checkpoint keep it
                raise NonFiniteLossError(step=step, heard=full_ids(stream, reader, batch.cursor), what="gradient")
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if opponent is not None:
                opponent.update(step, ranks=ranks)

            done, cursor, epoch = step, batch.next_cursor, batch.cursor.epoch
            audio_s = sums.pop("audio_s")
            meters.add(steps=1, gradient_norm=norm, **sums)
            logged_audio_s += audio_s
            taught_s = audio_s if targets is None else 0.0
            counts.add(audio_s=audio_s, teacher_audio_s=taught_s, utterances=sums["utterances"])
            parts, counted = [], Meters(nothing)
            finished = done == config.steps
            if done % config.log_every == 0 or finished:
                copies.ranks = ranks.largest(copies.ranks)
                now_s = time.monotonic()
                counts.add(wall_s=now_s - logged_s)
                line = journal_line(done, meters, domains=domains)
                line |= {"learning_rate": rate, "epoch": epoch}
                line |= heard_so_far(counts, copies, epoch=epoch, split_utterances=split_utterances)
                line |= {"reversal": strength} if adversary is not None else {}
                line |= speeds(logged_audio_s, waited_s=waited_s, spent_s=now_s - logged_s)
                journal.write(line)
                note = noted(line)
                meters.clear()
                logged_s, waited_s, logged_audio_s = now_s, 0.0, 0.0
            progress.advance(note=note)
            if validation is not None and ranks.is_first and (done % config.validate_every == 0 or finished):
                found = measured(validation)
                journal.write({"step": done, **found})
                if "val_loss" in found and (best_loss is None or found["val_loss"] < best_loss):
                    best_loss = found["val_loss"]
                    checkpoint("best")
            stopping = ranks.any_of([stop.received] if stop.received else [])  # a signal to one rank stops all
            if done % config.checkpoint_every == 0 or finished or stopping:
                copies.ranks = ranks.largest(copies.ranks)
                if ranks.is_first:
                    checkpoint("checkpoints")
                    state: State = "done" if finished else "preempted" if stopping else "running"
                    write_status(run, state, step=done, steps=config.steps)
            if finished:
                return "done"
            if stopping:
                return "interrupted" if stopping == signal.SIGINT else "preempted"
            asked_s = time.monotonic()
        raise AssertionError("an endless stream ended")


def tell_damage(damage: Sequence[tuple[str, str]], *, told: set[str], most: int, journal: Journal, step: int) -> None:
    """Name each shard of which something cannot be read, once a rank.

    Raises:
        TooMuchDamageError: If there are more than the config allows.
    """
    for shard, what in damage:
        if shard in told:
            continue
        told.add(shard)
        if len(told) > most:
            raise TooMuchDamageError(len(told), most=most, last=what)
        stderr_line(f"left out (damaged_shards: {len(told)} of at most {most}): {printable(what)}")
        journal.write({"step": step, "damaged_shard": shard, "warning": what})


def unsaid(_: str) -> None:
    """What a rank that is not the first says to a person."""
