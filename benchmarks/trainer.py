"""The whole trainer against the bare step on batches in memory: `python benchmarks/trainer.py [CORPUS] [TEACHER] [STEPS]`.

Both train DistilHuBERT's student of 2 layers on the same micro-batches in the same order: once by `distil()` with one loader worker, journal
and all, once by nothing but teacher, student, loss, backward pass, clipping and AdamW, the batches decoded beforehand. Start and
end of a run are taken out: two runs of different lengths are subtracted. Three rounds in turn, least times. Printed are the ratio of
wall times, which wants two cores that nobody else uses, and the ratio of the trainer's own processor time, which does not.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from training.config.load import resolved
from training.data.joined_corpus import open_corpus
from training.distillation.losses import layer_distance
from training.distillation.optimiser import adamw
from training.loop import distil
from training.runs.compiled import compile_layers
from training.runs.precision import backpropagate, computed_in, hold_matrices
from training.setup import batching_of, make_student
from training.stream import PairStream
from training.teacher import chosen_layers, load_teacher

if TYPE_CHECKING:
    from training.config.schema import TrainConfig
    from training.data.batch import PairBatch

ROUNDS = 3
CPU = torch.device("cpu")
SHORT = 5


class Spent(NamedTuple):
    """Seconds of a step, on the clock and of this process's processor time."""

    wall: float
    cpu: float


def now(device: torch.device = CPU) -> Spent:
    """The two clocks, when a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Spent(time.perf_counter(), time.process_time())


def config_of(corpus: Path, teacher: str, steps: int) -> TrainConfig:
    """Of both."""
    return resolved(
        {
            "preset": "cdm2", "corpus": str(corpus), "teacher": {"name": teacher}, "batch": {"seconds": 64, "lanes": 4},
            "steps": steps, "workers": 1, "dev": "none", "log_every": 5, "checkpoint_every": 10**6,
        },
        where="benchmark",
    )  # fmt: skip


def by_trainer(corpus: Path, teacher: str, steps: int) -> Spent:
    """A step of `distil()`."""
    spent = []
    for count in (SHORT, SHORT + steps):
        with tempfile.TemporaryDirectory() as folder:
            start = now()
            distil(config_of(corpus, teacher, count), Path(folder) / "run", report=str)
            end = now()
        spent.append(Spent(end.wall - start.wall, end.cpu - start.cpu))
    return Spent(*((last - first) / steps for first, last in zip(*spent, strict=True)))


def batches_of(config: TrainConfig, steps: int, *, skipped: int = SHORT) -> list[list[PairBatch]]:
    """The micro-batches of the first steps, decoded."""
    teacher = load_teacher(config.teacher.name)
    with open_corpus(config.corpus) as reader:
        batching = batching_of(config, reader, rate_hz=16_000, hop_samples=teacher.config.hop_samples, report=str)
    stream = PairStream(
        config.corpus, split="train", views=config.views, batching=batching, seed=config.seed, epochs=None
    )
    grouped = itertools.groupby(stream, key=lambda batch: batch.cursor)
    return [list(group) for _, group in itertools.islice(grouped, skipped + steps)]


def bare(
    config: TrainConfig, batches: list[list[PairBatch]], *, device: torch.device = CPU, skipped: int = SHORT
) -> Spent:
    """A step of nothing else, over the same batches that the trainer's difference counts."""
    teacher = load_teacher(config.teacher.name)
    layers = chosen_layers(config.teacher.layers, teacher=teacher)
    student = make_student(config.student, teacher, target_layers=layers, seed=config.seed).train()
    teacher.to(device), student.to(device)
    hold_matrices(teacher, config.precision)
    if config.compile:
        compile_layers(teacher, student, precision=config.precision, device=device, report=print)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = adamw(trained, learning_rate=config.optimiser.learning_rate)
    start = now()
    for number, lanes in enumerate(batches):
        if number == skipped:
            start = now(device)
        frames = sum(student.config.num_frames(length) for length in lanes[0].global_lengths)
        for batch in lanes:
            local = batch.to(device)
            with computed_in(config.precision, device):
                target, _ = teacher.layers(local.teacher_wave, local.num_samples, only=layers)
                output = student(local.student_wave, local.num_samples)
            distance = layer_distance(output.predictions, target, output.num_frames, weights=config.loss)
            backpropagate((distance.l1 + distance.cosine) / frames, config.precision)
        torch.nn.utils.clip_grad_norm_(trained, config.optimiser.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    end = now(device)
    steps = len(batches) - skipped
    return Spent((end.wall - start.wall) / steps, (end.cpu - start.cpu) / steps)


def main(corpus: Path, teacher: str, steps: int) -> None:
    """Measure in turn and print."""
    torch.set_num_threads(1)
    config = config_of(corpus, teacher, SHORT + steps)
    batches = batches_of(config, steps)
    whole, least = [], []
    for _ in range(ROUNDS):
        whole.append(by_trainer(corpus, teacher, steps))
        least.append(bare(config, batches))
    for kind in ("wall", "cpu"):
        ours, theirs = (min(getattr(spent, kind) for spent in every) for every in (whole, least))
        print(f"{kind:4s}: trainer {ours:.3f} s a step, bare {theirs:.3f} s: {theirs / ours:.3f} of bare")


if __name__ == "__main__":
    named = sys.argv[2] if len(sys.argv) > 2 else "nano"
    length = int(sys.argv[3]) if len(sys.argv) > 3 else 15
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), named, length)
    else:
        from made import made_corpus

        with tempfile.TemporaryDirectory() as name:
            main(made_corpus(Path(name)), named, length)
