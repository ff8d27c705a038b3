"""The cost of running a model: multiplications and time on one thread, and size of the parameters."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from evaluation.features import device_of
from evaluation.onnx_model import OnnxModel
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
    """Run a model on ten seconds of noise on one thread, several times.

    The size of an export to ONNX is that of its file; its MACs are those of a model of its shape, as torch cannot count them. MACs are half of torch's count of floating-point operations in convolutions, matrix products and attention; element-wise work is
    not in it, as in the tables of the literature.
    """
    wave = 0.1 * torch.randn(1, round(MEASURED_S * encoder.sample_rate), generator=torch.Generator().manual_seed(0))
    wave = wave.to(device_of(encoder))
    length = torch.tensor([wave.shape[1]])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
                (encoder.of_its_shape() if isinstance(encoder, OnnxModel) else encoder).layers(wave, length)
            seconds = []
            for _ in range(ROUNDS):
                start_s = time.perf_counter()
                encoder.layers(wave, length)
                if wave.is_cuda:
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start_s)
    finally:
        torch.set_num_threads(before)
    size = encoder.num_bytes if isinstance(encoder, OnnxModel) else BYTES_A_PARAMETER * encoder.num_parameters
    return Efficiency(
        macs_per_s=counter.get_total_flops() / 2 / MEASURED_S,
        real_time_factor=statistics.median(seconds) / MEASURED_S,
        size_mb=size / 1e6,
        measured_s=MEASURED_S,
    )
