"""The run's journal: one JSON line a logged step, floats in full, each line one write."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any, Self

import torch

from manifests.errors import UsageError
from manifests.io.json_yaml import MAX_LINE_BYTES
from training.data.sampler import named_number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


PLACES_BITS = 14
PLACES = 1 << PLACES_BITS
REST_BITS = 64 - PLACES_BITS


# Flajolet, Fusy, Gandouet and Meunier (2007), figure 3: the constant of the estimate for many places.
ALPHA = 0.7213 / (1 + 1.079 / PLACES)
LINEAR_UNTIL = 2.5 * PLACES


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

    def write(self, line: dict[str, Any]) -> None:
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
            raise UsageError(
                "tensorboard: true needs TensorBoard: pip install 'stillroom[tensorboard]', or leave it out"
            ) from None
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Add the numbers of a journal line."""
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                self.writer.add_scalar(name, value, line["step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()


class Meters:
    """Sums over the steps since the last journal line; part of a checkpoint, so that a resumed run logs the same means.

    Args:
        sums: What an earlier part of the run had summed.
    """

    def __init__(self, sums: dict[str, float] | None = None) -> None:
        self.sums: dict[str, float] = dict(sums or {})

    def add(self, **values: float) -> None:
        """Add to the sums."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def mean(self, name: str, *, over: str) -> float:
        """One sum over another; 0 if there is nothing to divide by."""
        count = self.sums.get(over, 0.0)
        return self.sums.get(name, 0.0) / count if count else 0.0

    def clear(self) -> None:
        """Begin anew."""
        self.sums.clear()


def journal_line(step: int, meters: Meters, *, domains: Sequence[str]) -> dict[str, Any]:
    """Means over the steps since the last line; with domains, how well the critic did and what always guessing the most frequent would."""
    line: dict[str, Any] = {
        "step": step,
        **{name: meters.mean(name, over="steps") for name in ("loss", "l1", "cosine", "gradient_norm")},
    }
    if domains:
        asked = [meters.sums.get(f"domain.{name}", 0.0) for name in domains]
        line |= {
            "domain_loss": meters.mean("domain", over="steps"),
            "domain_accuracy": meters.sums.get("right", 0.0) / max(1.0, sum(asked)),
            "domain_majority": max(asked) / max(1.0, sum(asked)),
        }
    if meters.sums.get("fell_back"):
        line["fell_back"] = meters.mean("fell_back", over="utterances")
    if meters.sums.get("lost"):
        line["lost"] = meters.sums["lost"]
    return line


def heard_so_far(counts: Meters, copies: DistinctCount, *, epoch: int, split_utterances: int) -> dict[str, Any]:
    """What the run has heard since it began.

    Args:
        counts: Sums of the whole run.
        copies: The distorted copies heard by either model.
        epoch: Of the batch heard last: after the first one every utterance was heard.
        split_utterances: How many there are.
    """
    utterances = int(counts.sums.get("utterances", 0))
    return {
        "audio_s": counts.sums.get("audio_s", 0.0),
        "teacher_audio_s": counts.sums.get("teacher_audio_s", 0.0),
        "utterances": utterances,
        "distinct_utterances": split_utterances if epoch else min(utterances, split_utterances),
        "distinct_copies": copies.estimate(),
    }


def speeds(audio_s: float, *, waited_s: float, spent_s: float) -> dict[str, float]:
    """Audio seconds trained on a wall second, and the share of time spent waiting for data."""
    return {"audio_s_per_s": audio_s / max(1e-9, spent_s), "waiting_share": waited_s / max(1e-9, spent_s)}


def noted(line: dict[str, Any]) -> str:
    """A journal line for the progress line."""
    domain = (
        f", domain {line['domain_accuracy']:.0%} (majority {line['domain_majority']:.0%})"
        if "domain_accuracy" in line
        else ""
    )
    return f"loss {line['loss']:.4f}{domain}, {line['audio_s_per_s']:.0f} s/s, waiting {line['waiting_share']:.0%}"


class DistinctCount:
    """HyperLogLog: 16 kB whatever is counted; within about 1 % (standard error 0.8 %), nearly exact below 40 000.

    Attributes:
        ranks: Shape (16384,), uint8; two counts are joined by the larger of each.
    """

    def __init__(self) -> None:
        self.ranks = torch.zeros(PLACES, dtype=torch.uint8)

    def add(self, *names: str) -> None:
        """Count a thing with this name, if it was not counted before."""
        number = named_number(0, "tally", *names)
        place, rest = number >> REST_BITS, number & ((1 << REST_BITS) - 1)
        rank = REST_BITS - rest.bit_length() + 1
        if rank > int(self.ranks[place]):
            self.ranks[place] = rank

    def estimate(self) -> int:
        """How many different things were counted."""
        empty = int((self.ranks == 0).sum())
        found = ALPHA * PLACES**2 / float(torch.exp2(-self.ranks.double()).sum())
        if found <= LINEAR_UNTIL and empty:
            found = PLACES * math.log(PLACES / empty)
        return round(found)
