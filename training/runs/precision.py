"""In what a run computes: bfloat16 on GPUs that have it, unless its config says otherwise; once begun, a run keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from manifests.errors import UsageError, printable
from training.config.load import run_config

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.config.schema import TrainConfig
    from training.models.encoder import Encoder
    from training.runs.distributed import Ranks

MATRICES = nn.Linear | nn.Conv1d | nn.MultiheadAttention


def with_precision(config: TrainConfig, run: Path, *, ranks: Ranks) -> TrainConfig:
    """A config with the precision that the run has, or gets; its `config.yaml` will say it. On the CPU it stays as it is.

    Args:
        config: As resolved; where a user's config says nothing of `precision`, the run or the GPU decides.
        run: The run's folder, which rank 0 alone sees.
        ranks: This process among those that train together.

    Raises:
        UsageError: If bfloat16 is wanted of a GPU without it.
    """
    if ranks.device.type != "cuda":
        return config
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    precision = config.precision
    if ranks.is_first and "precision" not in config.model_fields_set:
        path = run / "config.yaml"
        best: Literal["float32", "bfloat16"] = "bfloat16" if has_bfloat16 else "float32"
        precision = run_config(path).precision if path.is_file() else best
    precision = ranks.broadcast(precision)
    if precision == "bfloat16" and not has_bfloat16:
        name = printable(torch.cuda.get_device_name(ranks.device))
        raise UsageError(
            f"precision: bfloat16, which {name} does not have: set precision: float32 in a new run, or use another GPU"
        )
    return config.model_copy(update={"precision": precision})


def computed_in(precision: str, device: torch.device) -> torch.autocast:
    """The context in which models compute."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def backpropagate(loss: Tensor, precision: str) -> None:
    """Add the gradients of a loss to those of its parameters.

    In float32 on a CPU without oneDNN: PyTorch's own gradient of a convolution is quicker, and generates no code for each new shape
    (`docs/speed.md`).
    """
    onednn: Any = torch.backends.mkldnn
    was_enabled = onednn.enabled
    onednn.enabled = was_enabled and not (loss.device.type == "cpu" and precision == "float32")
    try:
        torch.autograd.backward(loss)
    finally:
        onednn.enabled = was_enabled


def hold_matrices(teacher: Encoder, precision: str) -> None:
    """Hold a frozen teacher's matrices as they are computed with: for bfloat16 rounded once, instead of at every step, in half the memory.

    Autocast rounds the weights and biases of linear layers and convolutions, so the outputs stay the same to the bit. Norms, embeddings and
    the convolution whose weight is computed from two tensors stay float32. `teacher.digest` must have been taken before.
    """
    if precision != "bfloat16":
        return
    for module in teacher.trunk.modules():
        if isinstance(module, MATRICES) and not parametrize.is_parametrized(module):
            module.to(torch.bfloat16)
    teacher.is_bfloat16 = True


def precision_name(precision: str, device: torch.device) -> str:
    """For a person; of float32 on a GPU also whether matrices and convolutions may be rounded to TF32."""
    if device.type != "cuda" or precision != "float32":
        return precision
    matrices, convolutions = (
        "on" if allowed else "off"
        for allowed in (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    )
    return f"float32 (TF32 {matrices} for matrices, {convolutions} for convolutions)"
