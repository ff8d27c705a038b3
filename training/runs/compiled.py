"""Compiles the transformer layers of teacher and student with `torch.compile`, one layer at a time, for utterances of any length.

Layers of one shape share what is compiled. The convolutions stay as they are: under training they would be compiled again for each length, and
the group norm of ragged rows goes by rows (decision 153). Dropout draws the same numbers as without compiling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from manifests.errors import printable
from training.runs.precision import computed_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from training.models.encoder import Encoder
    from training.models.student import Student

OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {"fallback_random": True}
TRIED_SAMPLES = 16_000


def compile_layers(
    teacher: Encoder | None, student: Student, *, precision: str, device: torch.device, report: Callable[[str], None]
) -> None:
    """Compile both and try them on noise; where that fails, leave them as they were, with a line to a person.

    Args:
        teacher: None where its outputs are stored.
        student: In training mode; it has no gradient afterwards.
        precision: In what they compute.
        device: Where both are.
        report: Gets the line.
    """
    models: list[Student | Encoder] = [student] if teacher is None else [student, teacher]
    layers = [layer for model in models for layer in model.trunk.encoder.transformer.layers]
    torch.compiler.reset()  # what an earlier run of this process compiled counts against the compiler's limit
    for layer in layers:
        layer.compile(dynamic=True, options=OPTIONS)
    try:
        tried(models, precision=precision, device=device)
    except Exception as problem:  # noqa: BLE001 (a compiler's errors are of many kinds, and none matters here)
        undo(layers)
        first_line = next(iter(str(problem).strip().splitlines()), "")
        report(
            f"compile: true does not work here, so the run goes on without it; {type(problem).__name__}: {printable(first_line, limit=200)}"
        )
    student.zero_grad(set_to_none=True)


def tried(models: Iterable[Student | Encoder], *, precision: str, device: torch.device) -> None:
    """Run a forward pass on noise, and a backward pass of what has a gradient, which compiles the layers."""
    lengths = torch.tensor([TRIED_SAMPLES, TRIED_SAMPLES // 2])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        wave = torch.randn(2, TRIED_SAMPLES).to(device)
        wave[1, TRIED_SAMPLES // 2 :] = 0
        for model in models:
            with computed_in(precision, device):
                output = model(wave, lengths)[0]
            if output.requires_grad:
                output.float().sum().backward()


def undo(layers: Iterable[nn.Module]) -> None:
    """Leave layers as they were before `compile`."""
    for layer in layers:
        layer._compiled_call_impl = None  # noqa: SLF001 (torch has no public way back)
