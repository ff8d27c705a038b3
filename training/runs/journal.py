"""The run's journal: one JSON line a logged step, floats in full, each line one write; and the sums that its lines are made from."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from manifests.errors import StillroomError, UsageError, printable
from manifests.io.json_yaml import MAX_LINE_BYTES
from manifests.io.progress import Progress, stderr_line
from training.runs.step_sums import COUNTS, StepSums

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from training.config.schema import TrainConfig
    from training.data.batch import PairBatch
    from training.runs.checkpoint import Mark
    from training.runs.distributed import Ranks
    from training.runs.start_report import TimeLeft
    from training.runs.step_sums import StepResult, UnreadStep

# What a line does not hold of a step's sums.
UNLOGGED = frozenset({"audio_s", "lost_frames", "lost_samples", "critic_norm"})


class TooMuchDamageError(StillroomError, ValueError):
    """More shards cannot be read than the config allows."""

    def __init__(self, count: int, *, most: int, last: str) -> None:
        super().__init__(
            f"{count} shards cannot be read, damaged_shards: {most} are allowed; the last one: {last}; the last checkpoint is kept"
        )


class Journal:
    """Appends lines; those that a resumed run will write again are cut first.

    Args:
        path: The file, made if there is none; None writes nothing: on all ranks but the first.
        step: The step of the checkpoint that the run goes on from: lines after it, and a torn last line, are cut.
    """

    def __init__(self, path: Path | None, *, step: int) -> None:
        self.board: Board | None = None
        self.handle = os.open(path or os.devnull, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if path is not None:
            os.ftruncate(self.handle, length_until(path, step=step))
            os.lseek(self.handle, 0, os.SEEK_END)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            ValueError: If a number is NaN or infinite.
        """
        content = memoryview(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        while content:
            content = content[os.write(self.handle, content) :]
        if self.board is not None:
            self.board.write(line)

    def sync(self) -> None:
        """Flush to the disk, before a checkpoint that counts on the lines."""
        os.fsync(self.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)


def length_until(path: Path, *, step: int) -> int:
    """Bytes of the whole lines up to and including a step."""
    length = 0
    with path.open("rb") as stream:
        for line in iter(lambda: stream.readline(MAX_LINE_BYTES), b""):
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break
            length += len(line)
    return length


class Board:
    """The journal's numbers for TensorBoard, in `tensorboard/` of the run.

    Args:
        folder: Of the run.
        step: The step that the run goes on from; what was written after it is hidden.

    Raises:
        UsageError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("tensorboard: true needs TensorBoard: pip install tensorboard, or leave it out") from None
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add the numbers of a journal line."""
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                self.writer.add_scalar(name, value, line["step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()


def add(sums: dict[str, float], **values: float) -> None:
    """Add to named sums."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value


def mean(sums: Mapping[str, float], name: str, *, over: str) -> float:
    """One sum over another; 0 if there is nothing to divide by."""
    count = sums.get(over, 0.0)
    return sums.get(name, 0.0) / count if count else 0.0


class TrainingLog:
    """Sums of the step at hand, since the last journal line, and of the whole run; writes the journal from them.

    Args:
        journal: Where lines go.
        progress: The progress bar.
        domains: Classes of the domain classifier; none without an adversary.
        rate_hz: Of the waves.
        runs_teacher: Whether the teacher itself processes every batch.
        split_utterances: How many utterances the training split has.
        device: Where the models are.
        time_left: Counts the steps that are done.
        mark: The checkpoint that the run goes on from.

    Attributes:
        since_line: Sums since the last line; part of a checkpoint, so that a resumed run logs the same means.
        in_all: Sums of the whole run; part of a checkpoint.
        signal: The largest signal that a rank had received by the last step that was read; the same on all of them.
    """

    def __init__(
        self,
        journal: Journal,
        progress: Progress,
        *,
        domains: Sequence[str],
        rate_hz: int,
        runs_teacher: bool,
        split_utterances: int,
        device: torch.device,
        time_left: TimeLeft,
        mark: Mark | None,
    ) -> None:
        self.journal, self.progress, self.time_left = journal, progress, time_left
        self.domains, self.runs_teacher = domains, runs_teacher
        self.step_sums = StepSums(domains, rate_hz=rate_hz, device=device)
        self.unread: deque[UnreadStep] = deque()
        self.signal = 0
        self.split_utterances = split_utterances
        self.since_line: dict[str, float] = dict(mark.sums) if mark is not None else {}
        self.in_all: dict[str, float] = dict(mark.counts) if mark is not None else {}
        self.epoch = mark.cursor[0] if mark is not None else 0
        self.damaged: set[str] = set()
        self.note = ""
        self.logged_s = time.monotonic()
        self.waited_s = self.logged_audio_s = 0.0
        self.begin_step()

    def begin_step(self) -> None:
        """Forget the sums of the last step."""
        self.losses: list[Tensor] = []
        self.counts = dict.fromkeys((*COUNTS, *(f"domain.{name}" for name in self.domains)), 0.0)

    def timed(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        """The same batches; the time spent waiting for them is measured, and the clock of the first line starts."""
        self.logged_s = began = time.monotonic()
        for batch in batches:
            self.waited_s += time.monotonic() - began
            yield batch
            began = time.monotonic()

    def add(self, batch: PairBatch, losses: Tensor, domains: Sequence[int]) -> None:
        """Add a micro-batch to the sums of its step; losses as `LOSSES`, and the utterances of each domain."""
        self.losses.append(losses)
        add(self.counts, **{f"domain.{name}": count for name, count in zip(self.domains, domains, strict=True)})
        add(self.counts, fell_back=batch.fell_back)

    def add_damage(self, batch: PairBatch, *, frames: int, step: int, most: int) -> None:
        """Count what could not be read of a micro-batch, and name each damaged shard once.

        Args:
            batch: With something lost.
            frames: How many were lost.
            step: At hand.
            most: How many damaged shards are allowed.

        Raises:
            TooMuchDamageError: If there are more.
        """
        add(self.counts, lost=len(batch.lost), lost_frames=frames, lost_samples=sum(batch.lost))
        for shard, problem in batch.damage:
            if shard in self.damaged:
                continue
            self.damaged.add(shard)
            if len(self.damaged) > most:
                raise TooMuchDamageError(len(self.damaged), most=most, last=problem)
            stderr_line(f"left out (damaged_shards: {len(self.damaged)} of at most {most}): {printable(problem)}")
            self.journal.write({"step": step, "damaged_shard": shard, "warning": problem})

    def sums(self, *, signal: int | None) -> Tensor:
        """The sums of the step over this rank's micro-batches, and the signal that it has received; see `StepSums`."""
        return self.step_sums.vector(self.losses, self.counts, signal=signal)

    def end_step(self, step: int, batch: PairBatch, sums: Tensor, *norms: Tensor) -> None:
        """Note a step that is done: its sums over all ranks, and its gradient norms, as they are on the device."""
        self.unread.append(self.step_sums.sent(step, batch, sums, *norms))
        self.epoch = batch.cursor.epoch
        self.begin_step()
        self.progress.advance(note=self.note)
        self.time_left.step_done(step)

    def read(self, *, every: bool) -> Iterator[StepResult]:
        """Read and count the steps that are done but for the last one, so that the host does not wait for it; or every one."""
        while len(self.unread) > (0 if every else 1):
            found = self.step_sums.read(self.unread.popleft())
            self.signal = max(self.signal, found.signal)
            yield found
            add(self.since_line, steps=1, **{name: value for name, value in found.sums.items() if name not in UNLOGGED})
            audio_s = found.sums["audio_s"]
            teacher_audio_s = audio_s if self.runs_teacher else 0.0
            add(self.in_all, audio_s=audio_s, teacher_audio_s=teacher_audio_s, utterances=found.sums["utterances"])
            self.logged_audio_s += audio_s

    def write_line(self, facts: Mapping[str, Any]) -> None:
        """Write a line with the means since the last one."""
        now_s = time.monotonic()
        add(self.in_all, wall_s=now_s - self.logged_s)
        line = journal_line(facts["step"], self.since_line, domains=self.domains)
        line |= {"learning_rate": facts["learning_rate"], "epoch": self.epoch, **self.training_audio(), **facts}
        line |= speeds(self.logged_audio_s, waited_s=self.waited_s, spent_s=now_s - self.logged_s)
        self.journal.write(line)
        self.note = progress_note(line)
        self.since_line.clear()
        self.logged_s, self.waited_s, self.logged_audio_s = now_s, 0.0, 0.0

    def training_audio(self) -> dict[str, Any]:
        """How much audio the run has been trained on since it began; after the first epoch every utterance was used."""
        utterances = int(self.in_all.get("utterances", 0))
        return {
            "audio_s": self.in_all.get("audio_s", 0.0),
            "teacher_audio_s": self.in_all.get("teacher_audio_s", 0.0),
            "utterances": utterances,
            "distinct_utterances": self.split_utterances if self.epoch else min(utterances, self.split_utterances),
        }


@contextlib.contextmanager
def training_log(
    run: Path, config: TrainConfig, *, mark: Mark | None, ranks: Ranks, **facts: Any
) -> Iterator[TrainingLog]:
    """Opens the journal, TensorBoard and the progress bar of a run; `facts` as of `TrainingLog`."""
    done = mark.step if mark is not None else 0
    with contextlib.ExitStack() as stack:
        path = run / "journal.jsonl" if ranks.is_first else None
        journal = stack.enter_context(Journal(path, step=done if mark is not None else -1))
        if config.tensorboard and ranks.is_first:
            journal.board = stack.enter_context(Board(run, step=done))
        stream = sys.stderr if ranks.is_first else io.StringIO()
        progress = stack.enter_context(Progress("training", total=config.steps, unit="steps", done=done, stream=stream))
        yield TrainingLog(journal, progress, mark=mark, **facts)


def journal_line(step: int, sums: Mapping[str, float], *, domains: Sequence[str]) -> dict[str, Any]:
    """Means over the steps since the last line; with domains, the critic's accuracy and that of always naming the most frequent one."""
    line: dict[str, Any] = {
        "step": step,
        **{name: mean(sums, name, over="steps") for name in ("loss", "l1", "cosine", "gradient_norm")},
    }
    if domains:
        counts = [sums.get(f"domain.{name}", 0.0) for name in domains]
        line |= {
            "domain_loss": mean(sums, "domain", over="steps"),
            "domain_accuracy": sums.get("right", 0.0) / max(1.0, sum(counts)),
            "domain_majority": max(counts) / max(1.0, sum(counts)),
        }
    if sums.get("fell_back"):
        line["fell_back"] = mean(sums, "fell_back", over="utterances")
    if sums.get("lost"):
        line["lost"] = sums["lost"]
    return line


def speeds(audio_s: float, *, waited_s: float, spent_s: float) -> dict[str, float]:
    """Audio seconds trained on a wall second, and the share of time spent waiting for data."""
    return {"audio_s_per_s": audio_s / max(1e-9, spent_s), "waiting_share": waited_s / max(1e-9, spent_s)}


def progress_note(line: Mapping[str, Any]) -> str:
    """A journal line for the progress bar."""
    domain = (
        f", domain {line['domain_accuracy']:.0%} (majority {line['domain_majority']:.0%})"
        if "domain_accuracy" in line
        else ""
    )
    return f"loss {line['loss']:.4f}{domain}, {line['audio_s_per_s']:.0f} s/s, waiting {line['waiting_share']:.0%}"
