"""What a run reports when it starts: where it computes, how large its steps are, how many it takes, and soon how long it will take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from manifests.io.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.runs.distributed import Ranks

TIMED_STEPS = 4


def device_name(ranks: Ranks) -> str:
    """`cuda (NVIDIA H200)`, `4 ranks of cpu (1 thread each)`."""
    threads = torch.get_num_threads()
    detail = (
        torch.cuda.get_device_name(ranks.device)
        if ranks.device.type == "cuda"
        else f"{threads} thread{'s' if threads > 1 else ''}" + (" each" if ranks.count > 1 else "")
    )
    return (f"{ranks.count} ranks of " if ranks.count > 1 else "") + f"{ranks.device.type} ({detail})"


def start_line(
    ranks: Ranks,
    lengths: Sequence[Sequence[int]],
    *,
    precision: str,
    rate_hz: int,
    split_utterances: int,
    done: int,
    steps: int,
) -> str:
    """A line for a person.

    Args:
        ranks: Those that train together.
        lengths: Samples of every utterance of some global batches, those of a window.
        precision: Of the models.
        rate_hz: Of the waves.
        split_utterances: How many utterances an epoch has.
        done: Steps that are done.
        steps: Of the whole run.
    """
    utterances = sum(map(len, lengths)) / max(1, len(lengths))
    seconds = sum(map(sum, lengths)) / max(1, len(lengths)) / rate_hz
    updates = max(1, round(split_utterances / max(1.0, utterances)))
    return (
        f"training on {device_name(ranks)} in {precision}: {utterances:.1f} utterances and {seconds:.0f} s of audio a step, about {updates:,} "
        f"updates an epoch, {steps - done:,} updates to the end ({(steps - done) / updates:.1f} epochs)"
    )


class TimeLeft:
    """Reports once, after the first few steps, how long the rest will take.

    Args:
        steps: Of the whole run.
        report: Gets the line.
    """

    def __init__(self, steps: int, *, report: Callable[[str], None]) -> None:
        self.steps, self.report = steps, report
        self.timed = -1  # the first step pays for what is done once
        self.began_s = 0.0

    def step_done(self, step: int) -> None:
        """Count a step."""
        self.timed += 1
        if self.timed == 0:
            self.began_s = time.monotonic()
        if self.timed == TIMED_STEPS and step < self.steps:
            step_s = (time.monotonic() - self.began_s) / TIMED_STEPS
            left = duration(step_s * (self.steps - step))
            self.report(
                f"{step_s:.2f} s a step in the first {TIMED_STEPS}: about {left} to the end, without validations"
            )
