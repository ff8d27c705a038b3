"""distil(): the whole of training, read top to bottom."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from typing import TYPE_CHECKING, Literal

import torch

from manifests.errors import StillroomError, UsageError, printable
from manifests.lock import writing
from manifests.progress import Progress
from training.adversary import Opponent, domain_classes, reversal_strength
from training.checkpoint import (
    Mark,
    module_tensors,
    optimiser_tensors,
    read_tensors,
    restore_module,
    restore_optimiser,
    whole_checkpoints,
    write_checkpoint,
)
from training.corpus import open_corpus
from training.journal import Journal, Meters, journal_line, noted, speeds
from training.losses import layer_distance
from training.order import Cursor, named_number
from training.run import StopSignals, prepare_run, run_facts, write_status
from training.schedules import adamw, learning_rate_scale
from training.stream import PairStream, filled_batching, loader
from training.student import SEED_RANGE, Student
from training.teacher import chosen_layers, load_teacher
from training.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from training.config import TrainConfig
    from training.corpus import CorpusReader
    from training.encoder import Encoder

Outcome = Literal["done", "preempted", "interrupted"]


class NonFiniteLossError(StillroomError, ArithmeticError):
    """The loss is no longer a number."""

    def __init__(self, *, step: int, keys: Sequence[str]) -> None:
        shown = ", ".join(printable(key) for key in keys[:8]) + (", …" if len(keys) > 8 else "")
        super().__init__(
            f"the loss of step {step} is not finite; it heard the utterances {shown}: lower optimiser.learning_rate, or "
            "listen to those; the last checkpoint is kept"
        )


def distil(config: TrainConfig, run: Path, *, say: Callable[[str], None] | None = None) -> Outcome:  # noqa: C901, PLR0912, PLR0915 (the one long function)
    """Distil a student; goes on from the run's last whole checkpoint, if it has one.

    Args:
        config: As resolved.
        run: The run's folder.
        say: Where single lines for a person go; standard error by default.

    Returns:
        `done`; or `preempted` (SIGTERM, SIGUSR1) or `interrupted` (Ctrl-C), with a checkpoint written.

    Raises:
        StillroomError: What a person can mend: see the classes of this room.
        NonFiniteLossError: If the loss is NaN or infinite; nothing of that step is kept.
    """
    say = say or stderr_line
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing(run))
        stop = stack.enter_context(StopSignals())
        stack.enter_context(torch.random.fork_rng())
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        # What is taught, by whom, from which audio: everything is checked before the first step.
        reader = stack.enter_context(open_corpus(config.corpus))
        teacher = load_teacher(config.teacher.name)
        rate_hz = checked_rate(reader, teacher)
        layers = chosen_layers(config.teacher.layers, teacher=teacher)
        batching = filled_batching(
            seconds=config.batch.seconds,
            utterances=config.batch.utterances,
            lanes=config.batch.lanes,
            crop_s=config.crop_s,
            rate_hz=rate_hz,
        )
        stream = PairStream(
            config.corpus, split=config.split, views=config.views, batching=batching, seed=config.seed, epochs=None
        )
        adversary = config.adversary
        domains = (
            domain_classes(adversary.domain, config.views, reader.conditions(config.split))
            if adversary is not None
            else ()
        )
        validation = dev_validation(config, reader, crop_samples=batching.crop_samples, say=say)
        student = Student(
            teacher,
            layers=config.student.layers,
            num_targets=len(layers),
            dropout=config.student.dropout,
            cnn_gradient=config.student.cnn_gradient,
            seed=config.seed,
        )
        prepare_run(run, config, reader=reader, teacher=teacher)

        teacher.to(device)
        student.to(device).train()
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        optimiser = adamw(trained, config.optimiser, learning_rate=config.optimiser.learning_rate)
        opponent: Opponent | None = None
        if adversary is not None:
            opponent = Opponent(
                adversary,
                domains=domains,
                num_features=student.config.encoder_embed_dim,
                optimiser=config.optimiser,
                seed=config.seed,
                device=device,
            )

        mark = resume(run, student, optimiser, opponent, say=say)
        done = mark.step if mark is not None else 0
        cursor = Cursor(*mark.cursor) if mark is not None else Cursor()
        meters = Meters(mark.sums if mark is not None else None)
        counts = Meters(mark.counts if mark is not None else None)
        best_loss = mark.best_loss if mark is not None else None
        if done >= config.steps:
            write_status(run, "done", step=done, steps=config.steps)
            return "done"
        write_status(run, "running", step=done, steps=config.steps)
        journal = stack.enter_context(Journal(run / "journal.jsonl", step=done))
        progress = stack.enter_context(Progress("training", total=config.steps, unit="steps", done=done))

        def checkpoint(folder: Literal["checkpoints", "best"]) -> None:
            """Write everything, or for `best` the student alone."""
            journal.sync()
            tensors = module_tensors(student=student)
            if folder == "checkpoints":
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
                facts=run_facts(config, reader=reader, teacher=teacher, layers=layers, counts=counts),
            )

        # Layers asked of the teacher: the targets, and where the critic compares views, the one as deep as the student.
        view_layer = config.student.layers if adversary is not None and adversary.domain == "view" else None
        wanted = layers if view_layer is None else (*layers, view_layer)
        parts: list[Tensor] = []
        keys: list[str] = []
        note = ""
        waited_s = heard_s = logged_audio_s = 0.0
        logged_s = asked_s = time.monotonic()
        stream.cursor = cursor

        for batch in loader(stream, workers=config.workers):
            waited_s += time.monotonic() - asked_s
            local = batch.to(device)
            step = done + 1
            strength = reversal_strength(adversary, progress=step / config.steps) if adversary is not None else 0.0
            global_frames = [student.config.num_frames(length) for length in batch.global_lengths]
            num_frames, num_voices = max(1, sum(global_frames)), max(1, sum(count > 0 for count in global_frames))

            # Dropout's own stream of chance: free of what was drawn before, so a resumed run draws the same.
            torch.manual_seed(named_number(config.seed, "dropout", step, batch.lane) % SEED_RANGE)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
                target, _ = teacher.layers(local.teacher_wave, local.num_samples, only=wanted)
                heard = student(local.student_wave, local.num_samples)
            distance = layer_distance(heard.predictions, target[:, : len(layers)], heard.num_frames)
            l1, cosine = distance.l1 / num_frames, distance.cosine / num_frames
            distilled = config.loss.l1 * l1 + config.loss.cosine * cosine
            loss, told, right = distilled, torch.zeros_like(l1), torch.zeros_like(l1)
            if adversary is not None and opponent is not None:
                judgement = opponent.judge(
                    heard.hidden,
                    heard.num_frames,
                    batch.student_copies,
                    strength=strength,
                    teacher=None if view_layer is None else target[:, -1],
                )
                told = judgement.loss / (num_voices * (1 if view_layer is None else 2))
                right = judgement.right
                loss = loss + adversary.weight * told
                meters.add(**{f"domain.{name}": n for name, n in zip(domains, judgement.asked, strict=True)})
            torch.autograd.backward(loss)

            parts.append(torch.stack([distilled, l1, cosine, told, right.float()]).detach())
            keys.extend(batch.keys)
            heard_s += float(batch.num_samples.sum()) / rate_hz
            if not batch.ends_step:
                asked_s = time.monotonic()
                continue

            sums = torch.stack(parts).sum(dim=0).tolist()
            if not all(map(math.isfinite, sums)):
                raise NonFiniteLossError(step=step, keys=keys)
            rate = config.optimiser.learning_rate * learning_rate_scale(
                step, updates=config.steps, warmup_share=config.optimiser.warmup_share
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            norm = torch.nn.utils.clip_grad_norm_(trained, config.optimiser.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if opponent is not None:
                opponent.update()

            done, cursor = step, batch.next_cursor
            meters.add(
                steps=1,
                gradient_norm=float(norm),
                **dict(zip(("loss", "l1", "cosine", "domain", "right"), sums, strict=True)),
            )
            logged_audio_s += heard_s
            counts.add(audio_s=heard_s, utterances=len(keys))
            parts, keys, heard_s = [], [], 0.0
            finished = done == config.steps
            if done % config.log_every == 0 or finished:
                now_s = time.monotonic()
                counts.add(wall_s=now_s - logged_s)
                line = journal_line(done, meters, domains=domains)
                line |= {"learning_rate": rate, "epoch": batch.cursor.epoch, "audio_s": counts.sums["audio_s"]}
                line |= {"reversal": strength} if adversary is not None else {}
                line |= speeds(logged_audio_s, waited_s=waited_s, spent_s=now_s - logged_s)
                journal.write(line)
                note = noted(line)
                meters.clear()
                logged_s, waited_s, logged_audio_s = now_s, 0.0, 0.0
            progress.advance(note=note)
            if validation is not None and (done % config.validate_every == 0 or finished):
                found = validation.losses(student, teacher, layers=layers, weights=config.loss, device=device)
                journal.write({"step": done, **found})
                if best_loss is None or found["val_loss"] < best_loss:
                    best_loss = found["val_loss"]
                    checkpoint("best")
            stopping = stop.received is not None
            if done % config.checkpoint_every == 0 or finished or stopping:
                checkpoint("checkpoints")
                write_status(run, "running", step=done, steps=config.steps)
            if finished:
                write_status(run, "done", step=done, steps=config.steps)
                return "done"
            if stopping:
                write_status(run, "preempted", step=done, steps=config.steps)
                return "interrupted" if stop.received is signal.SIGINT else "preempted"
            asked_s = time.monotonic()
        raise AssertionError("an endless stream ended")


def stderr_line(line: str) -> None:
    """Say one line to a person."""
    print(f"stillroom: {line}", file=sys.stderr, flush=True)


def checked_rate(reader: CorpusReader, teacher: Encoder) -> int:
    """The sample rate of corpus and teacher, in Hz.

    Raises:
        UsageError: If they differ.
    """
    found = reader.manifest.sample_rate
    if found != teacher.sample_rate:
        raise UsageError(
            f"{printable(reader.url)} has {found} Hz, the teacher {teacher.name} takes {teacher.sample_rate} Hz: "
            f"build the corpus with sample_rate: {teacher.sample_rate}"
        )
    return found


def dev_validation(
    config: TrainConfig, reader: CorpusReader, *, crop_samples: int, say: Callable[[str], None]
) -> Validation | None:
    """The validation, or None, said in one line, where the corpus has no dev split."""
    if not any(entry.samples for entry in reader.manifest.splits.get(config.dev, ())):
        say(
            f"{printable(reader.url)} has no split {config.dev!r}: trained without validation, and no best checkpoint is kept"
        )
        return None
    return Validation(reader, split=config.dev, utterances=config.validate_utterances, crop_samples=crop_samples)


def resume(
    run: Path,
    student: Student,
    optimiser: torch.optim.Optimizer,
    opponent: Opponent | None,
    *,
    say: Callable[[str], None],
) -> Mark | None:
    """Fill everything from the newest whole checkpoint; None if there is none. Torn ones are named in one line."""
    torn: list[str] = []
    found = next(whole_checkpoints(run / "checkpoints", torn=torn), None)
    if torn:
        instead = f"goes on from step {found[1].step}" if found is not None else "starts from the beginning"
        say(f"{printable(run)}: torn checkpoint {', '.join(torn)} left aside; {instead}")
    if found is None:
        return None
    path, mark = found
    tensors = read_tensors(path)
    restore_module(student, tensors, prefix="student")
    restore_optimiser(optimiser, tensors, prefix="optimiser")
    if opponent is not None:
        restore_module(opponent.critic, tensors, prefix="critic")
        restore_optimiser(opponent.optimiser, tensors, prefix="critic_optimiser")
    return mark
