"""A step that is made here, without corpus or files of a run: models, and micro-batches whose rows have different lengths."""

from __future__ import annotations

import torch

from training.config.load import resolved
from training.data.batch import PairBatch
from training.data.sampler import Cursor
from training.distillation.adversary import DomainAdversary, NoAdversary
from training.setup import make_student
from training.step import Models
from training.teacher import chosen_layers, load_teacher

COPIES = ("clean", "noise-0", "phone-0", "room-0")
FAMILIES = ("clean", "noise", "codec", "room")
CLASSES = {
    "condition": ("clean", "noise", "phone", "room"),
    "family": FAMILIES,
    "distorted": ("clean", "distorted"),
    "view": ("teacher", "student"),
}
LONGEST = 9600


def config_of(teacher_folder, **keys):
    """Of a run that is never begun."""
    given = {"corpus": "nowhere", "teacher": {"name": str(teacher_folder)}, "student": {"layers": 2}, "steps": 10}
    return resolved({**given, **keys}, where="test")


def models_of(config, device="cpu"):
    """Teacher, student and adversary with their first weights, on a device."""
    device = torch.device(device)
    teacher = load_teacher(config.teacher.name)
    layers = chosen_layers(config.teacher.layers, teacher=teacher)
    student = make_student(config.student, teacher, target_layers=layers, seed=config.seed)
    adversary = NoAdversary()
    if config.adversary is not None:
        adversary = DomainAdversary(
            config.adversary, domains=CLASSES[config.adversary.domain], layers=(1, 2), num_features=24,
            optimiser=config.optimiser, seed=config.seed, device=device,
        )  # fmt: skip
    return Models(student.to(device).train(), teacher.to(device), layers, adversary, device)


def ragged_batch(rows, *, lane=0, same_views=False, seed=0):
    """A micro-batch of so many utterances; after the first, which is longest, the same lengths come again and again."""
    lengths = [LONGEST - 640 * (row % 6) for row in range(rows)]
    teacher_wave, student_wave = 0.1 * torch.randn(2, rows, LONGEST, generator=torch.Generator().manual_seed(seed))
    for row, length in enumerate(lengths):
        teacher_wave[row, length:] = student_wave[row, length:] = 0
    copies = tuple(COPIES[row % 4] for row in range(rows))
    return PairBatch(
        teacher_wave=teacher_wave,
        student_wave=teacher_wave if same_views else student_wave,
        num_samples=torch.tensor(lengths),
        keys=tuple(f"utt-{row}" for row in range(rows)),
        teacher_copies=copies[::-1],
        student_copies=copies,
        cursor=Cursor(),
        lane=lane,
        ends_step=True,
        global_lengths=tuple(lengths),
        student_families=tuple(FAMILIES[row % 4] for row in range(rows)),
    )
