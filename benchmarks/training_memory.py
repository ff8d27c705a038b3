"""What a training step holds in memory, counted without computing it: `python benchmarks/training_memory.py [TEACHER ...]`.

Teacher and student (DistilHuBERT's: two layers, heads for three) have the published shapes. A step runs under torch's FakeTensorMode,
where tensors have shapes and no values; each storage is counted from its making to its end, and printed is what is held at most: in the
teacher's pass, and in the student's with its gradients. AdamW's two moments and, with several ranks, the buffer that gradients are summed in are
added by hand (8 and 4 bytes a trained parameter). Temporary memory within an operator, the allocator's reserve and the libraries are not in it.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.config.model import StudentShape
from training.distillation.losses import layer_distance
from training.models.encoder import Encoder, transformer_outputs
from training.models.student import Student
from training.teacher import BUNDLES, bundle_config, thirds

if TYPE_CHECKING:
    from collections.abc import Iterable

TEACHERS = ("HUBERT_BASE", "HUBERT_LARGE", "HUBERT_XLARGE", "WAV2VEC2_XLSR_1B", "WAV2VEC2_XLSR_2B")
LANE_S = (40, 120)
CROP_S = 15.625
RATE_HZ = 16_000
MOMENTS, BUFFER = 8, 4  # bytes a trained parameter


class Held(TorchDispatchMode):
    """Bytes of the storages that operators made and that are still there, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and count what it made."""
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf.untyped_storage())
        return output

    def count(self, storage: torch.UntypedStorage) -> None:
        """Count a storage once, until it ends."""
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001
        if key in self.known:
            return
        self.known.add(key)
        self.bytes += size
        self.most = max(self.most, self.bytes)
        weakref.finalize(storage, self.ended, key, size)

    def ended(self, key: int, size: int) -> None:
        """A storage is gone."""
        self.known.discard(key)
        self.bytes -= size


def size_of(parameters: Iterable[torch.nn.Parameter]) -> int:
    """Bytes."""
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


class Step:
    """Models of published shapes without values, and a micro-batch.

    Args:
        name: Of the teacher, a bundle of torchaudio.
        lane_s: Audio of a micro-batch with its padding, in seconds.
        autocast: Whether both compute in bfloat16.
    """

    def __init__(self, name: str, lane_s: float, *, autocast: bool) -> None:
        config = bundle_config(BUNDLES[name])
        self.teacher = Encoder(config.build(), config, name=name)
        self.layers = thirds(self.teacher.num_layers)
        shape = StudentShape()
        self.student = Student(
            self.teacher, layers=shape.layers, num_targets=len(self.layers), dropout=shape.dropout, cnn_gradient=shape.cnn_gradient,
            seed=0, shape=shape,
        ).train()  # fmt: skip
        rows = -(-int(lane_s) // int(CROP_S))
        self.wave = torch.empty(rows, int(lane_s / rows * RATE_HZ))
        self.lengths = [self.wave.shape[1] - 160 * row for row in range(rows)]
        self.autocast = autocast

    def run(self) -> None:
        """A forward and backward pass."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                outputs, _ = transformer_outputs(
                    self.teacher.trunk, self.teacher.config, self.wave, self.lengths, only=self.layers
                )
            output = self.student(self.wave, self.lengths)
        distance = layer_distance(output.predictions, torch.stack(outputs, dim=1), output.num_frames)
        torch.autograd.backward(distance.l1 + distance.cosine)


def main(names: Iterable[str]) -> None:
    """Print a table."""
    print("| teacher | its weights | student: weights, gradients, moments, sums | " + " | ".join(
        f"{precision}, lane of {lane_s} s" for precision in ("float32", "bfloat16") for lane_s in LANE_S) + " |")  # fmt: skip
    print("|---" * (3 + 2 * len(LANE_S)) + "|")
    for name in names:
        most = []
        for autocast in (False, True):
            for lane_s in LANE_S:
                with FakeTensorMode(), Held() as held:
                    step = Step(name, lane_s, autocast=autocast)
                    held.most = held.bytes
                    step.run()
                    weights = size_of(step.teacher.parameters()), size_of(step.student.parameters())
                    most.append((held.most - sum(weights)) / 1e9)
        per_parameter = (4 + 4 + MOMENTS + BUFFER) / 4
        print(f"| {name.lower()} | {weights[0] / 1e9:.1f} | {per_parameter * weights[1] / 1e9:.1f} | "
              + " | ".join(f"{one:.1f}" for one in most) + " |")  # fmt: skip


if __name__ == "__main__":
    main([name.upper() for name in sys.argv[1:]] or TEACHERS)
