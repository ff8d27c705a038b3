"""What a model costs: parameters, multiplications, time and memory on one thread, size on disk."""

from __future__ import annotations

import statistics
import time
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from evaluation.features import device_of
from manifests.results.scores import Efficiency

if TYPE_CHECKING:
    from training.models.encoder import Encoder

MEASURED_S = 10.0
ROUNDS = 3
BYTES_A_PARAMETER = 4


def attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **options: Any) -> int:
    """Operations of scaled dot-product attention from the shapes of its arguments."""
    del args, out_shape, options
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


# torch counts attention on a GPU only
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}  # noqa: SLF001


def measured_efficiency(encoder: Encoder) -> Efficiency:
    """Let a model extract ten seconds of noise on one thread, several times.

    MACs are half of torch's count of floating-point operations in convolutions, matrix products and attention; element-wise work is
    not in it, as in the tables of the literature.
    """
    wave = 0.1 * torch.randn(1, round(MEASURED_S * encoder.sample_rate), generator=torch.Generator().manual_seed(0))
    wave = wave.to(device_of(encoder))
    length = torch.tensor([wave.shape[1]], device=wave.device)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
                encoder.layers(wave, length)
            seconds = []
            for _ in range(ROUNDS):
                start_s = time.perf_counter()
                encoder.layers(wave, length)
                if wave.is_cuda:
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start_s)
            working = peak_bytes(encoder, wave, length)
    finally:
        torch.set_num_threads(before)
    size = BYTES_A_PARAMETER * encoder.num_parameters
    return Efficiency(
        macs_per_s=counter.get_total_flops() / 2 / MEASURED_S,
        real_time_factor=statistics.median(seconds) / MEASURED_S,
        peak_mb=(size + working) / 1e6,
        size_mb=size / 1e6,
        measured_s=MEASURED_S,
    )


def peak_bytes(encoder: Encoder, wave: torch.Tensor, length: torch.Tensor) -> int:
    """Most bytes of tensors that lived at once while a wave was heard, parameters left out."""
    if wave.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        encoder.layers(wave, length)
        return int(torch.cuda.max_memory_allocated()) - int(start)
    with LivingBytes() as living:
        told = encoder.layers(wave, length)
    del told
    return int(living.most)


class LivingBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of the tensors that operations make, until they are freed; scratch memory within an operation is not seen.

    Attributes:
        most: Most bytes that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.living = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note what it made."""
        del types
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return made

    def note(self, storage: torch.UntypedStorage) -> None:
        """Count a storage that was not known, until it is freed."""
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self.known:
            return
        self.known.add(place)
        self.living += size
        self.most = max(self.most, self.living)
        weakref.finalize(storage, self.forget, place, size)

    def forget(self, place: int, size: int) -> None:
        """A storage is gone."""
        self.known.discard(place)
        self.living -= size
