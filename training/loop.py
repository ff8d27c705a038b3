"""distil(): the whole of training, read top to bottom."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import torch

from manifests.errors import StillroomError
from manifests.lock import writing
from manifests.progress import Progress
from manifests.sample import CLEAN
from training.adversary import reversal_strength
from training.checkpoint import module_tensors, optimiser_tensors, write_checkpoint
from training.corpus import open_corpus
from training.firstbatch import check_first_batch, full_ids
from training.journal import Board, Journal, Meters, heard_so_far, journal_line, noted, speeds
from training.losses import check_layer_weights, layer_distance
from training.masking import hidden_frames
from training.order import Cursor, named_number
from training.outset import batching_of, checked_rate, dev_validation, fresh_critic, opponent_of, resume
from training.run import StopSignals, prepare_run, run_facts, write_status
from training.schedules import adamw, learning_rate_scale
from training.stream import PairStream, loader
from training.student import SEED_RANGE, make_student
from training.tally import DistinctCount
from training.teacher import chosen_layers, load_teacher
from training.visibility import invisible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from training.config import TrainConfig

Outcome = Literal["done", "preempted", "interrupted"]


class NonFiniteLossError(StillroomError, ArithmeticError):
    """The loss is no longer a number."""

    def __init__(self, *, step: int, heard: str) -> None:
        super().__init__(
            f"the loss of step {step} is not finite; it heard the utterances {heard}: lower optimiser.learning_rate, or "
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
        check_layer_weights(config.loss, layers)
        batching = batching_of(config, reader, rate_hz=rate_hz, say=say)
        adversary = config.adversary
        stream = PairStream(
            config.corpus,
            split=config.split,
            views=config.views,
            batching=batching,
            seed=config.seed,
            epochs=None,
            families=adversary is not None and adversary.domain == "family",
        )
        validation = dev_validation(config, reader, crop_samples=batching.crop_samples, say=say)
        student = make_student(config.student, teacher, target_layers=layers, seed=config.seed)
        fresh = fresh_critic(config, reader, student=student, teacher=teacher, crop_samples=batching.crop_samples)
        opponent = (
            opponent_of(
                config, adversary, stream=stream, reader=reader, student=student, teacher=teacher, device=device
            )
            if adversary is not None
            else None
        )
        domains = opponent.domains if opponent is not None else ()
        if not (run / "config.yaml").exists():
            check_first_batch(stream, reader, say=say)
        run_sha256 = prepare_run(run, config, reader=reader, teacher=teacher, heard=student.heard)

        teacher.to(device)
        student.to(device).train()
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        optimiser = adamw(trained, config.optimiser, learning_rate=config.optimiser.learning_rate)
        copies = DistinctCount()

        mark = resume(run, student, optimiser, opponent, copies, run_sha256=run_sha256, say=say)
        done = mark.step if mark is not None else 0
        cursor = Cursor(*mark.cursor) if mark is not None else Cursor()
        meters = Meters(mark.sums if mark is not None else None)
        counts = Meters(mark.counts if mark is not None else None)
        best_loss = mark.best_loss if mark is not None else None
        if done >= config.steps:
            write_status(run, "done", step=done, steps=config.steps)
            return "done"
        write_status(run, "running", step=done, steps=config.steps)
        journal = stack.enter_context(Journal(run / "journal.jsonl", step=done if mark is not None else -1))
        if config.tensorboard:
            journal.board = stack.enter_context(Board(run, step=done))
        progress = stack.enter_context(Progress("training", total=config.steps, unit="steps", done=done))

        if mark is None and opponent is not None and adversary is not None:
            if adversary.standardise and fresh.classes:
                opponent.critic.settle(fresh.rows(fresh.fit, student, teacher, device=device).features)
            # Is there anything to hide? Asked of the student as it begins, so once.
            seen = fresh.seen(student, teacher, device=device)
            if seen is not None:
                warning = invisible(seen, adversary, layers=opponent.layers)
                found = {"domain_visible": seen.accuracy, "domain_visible_majority": seen.majority}
                journal.write({"step": 0, **found, **({"warning": warning} if warning is not None else {})})
                if warning is not None:
                    say(warning)

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

        def heard_until_now() -> dict[str, Any]:
            """What a report says the run has heard, and the time it took."""
            told = heard_so_far(counts, copies, epoch=epoch, split_utterances=split_utterances)
            return {**told, "wall_s": counts.sums.get("wall_s", 0.0)}

        # Layers asked of the teacher: the targets, and where the critic compares views, those it reads of the student.
        view_layers: tuple[int, ...] = ()
        if opponent is not None and opponent.adversary.domain == "view":
            view_layers = opponent.layers
        wanted = (*layers, *view_layers)
        split_utterances = sum(entry.samples for entry in reader.shards(config.split))
        epoch = cursor.epoch
        parts: list[Tensor] = []
        utterances = fell_back = 0
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
                meters.add(**{f"domain.{name}": n for name, n in zip(domains, judgement.asked, strict=True)})
            torch.autograd.backward(loss)

            parts.append(torch.stack([distilled, l1, cosine, told, right.float()]).detach())
            utterances += len(batch.keys)
            fell_back += batch.fell_back
            heard_s += float(batch.num_samples.sum()) / rate_hz
            for key, *pair in zip(batch.keys, batch.teacher_copies, batch.student_copies, strict=True):
                for name in {*pair} - {CLEAN}:
                    copies.add(key, name)
            if not batch.ends_step:
                asked_s = time.monotonic()
                continue

            sums = torch.stack(parts).sum(dim=0).tolist()
            if not all(map(math.isfinite, sums)):
                raise NonFiniteLossError(step=step, heard=full_ids(stream, reader, batch.cursor))
            rate = config.optimiser.learning_rate * learning_rate_scale(
                step, updates=config.steps, warmup_share=config.optimiser.warmup_share
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            norm = torch.nn.utils.clip_grad_norm_(trained, config.optimiser.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if opponent is not None:
                opponent.update(step)

            done, cursor, epoch = step, batch.next_cursor, batch.cursor.epoch
            meters.add(
                steps=1,
                utterances=utterances,
                fell_back=fell_back,
                gradient_norm=float(norm),
                **dict(zip(("loss", "l1", "cosine", "domain", "right"), sums, strict=True)),
            )
            logged_audio_s += heard_s
            counts.add(audio_s=heard_s, teacher_audio_s=heard_s, utterances=utterances)
            parts, utterances, fell_back, heard_s = [], 0, 0, 0.0
            finished = done == config.steps
            if done % config.log_every == 0 or finished:
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
            if validation is not None and (done % config.validate_every == 0 or finished):
                found = validation.losses(
                    student,
                    teacher,
                    layers=layers,
                    weights=config.loss,
                    standardise=config.teacher.standardise,
                    device=device,
                )
                seen = fresh.seen(student, teacher, device=device)
                if seen is not None:
                    found |= {"domain_fresh": seen.accuracy, "domain_fresh_majority": seen.majority}
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
