"""The trainer on the GPU of this machine: `python benchmarks/gpu.py [SECONDS_A_STEP] [STEPS]`, at most four minutes.

A student as DistilHuBERT's (two layers, heads for three) is distilled with CDM 2 from a HuBERT of base size with random weights, once by `distil()`
with journal, loader and checkpoints, once by the bare step on the same batches in memory, which is nothing but models, losses, backward pass, clipping
and AdamW. Printed are, for float32, bfloat16 and compiled: seconds of a step, the trainer's share of the bare step's speed, seconds of audio a second, the
share of its time in which the trainer waits for the loader, how often a step makes the host wait for the GPU, and the peak of memory. Without a GPU the same is
done with the embedded teacher `nano` on the CPU, where nothing waits for a GPU.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import safetensors.torch
import torch
from made import made_corpus
from trainer import bare, batches_of

from manifests.io.json_yaml import write_json
from training.config.load import resolved
from training.loop import distil
from training.runs.distributed import Ranks
from training.teacher import BUNDLES, bundle_config

if TYPE_CHECKING:
    from training.config.schema import TrainConfig

CROP_S = 4
LOGGED = 10  # steps between two lines of the journal; those of the first are not counted
SYNCHRONISING = "called a synchronizing CUDA operation"


class Found(NamedTuple):
    """What a run of the trainer did, by its journal but for its first line."""

    step_s: float
    audio_s_per_s: float
    waiting_share: float
    waits: int


def random_teacher(folder: Path) -> str:
    """HuBERT of base size with random weights."""
    config = bundle_config(BUNDLES["HUBERT_BASE"])
    folder.mkdir()
    write_json(folder / "config.json", config.plain())
    safetensors.torch.save_file(config.build().state_dict(), folder / "weights.safetensors")
    return str(folder)


def config_of(corpus: Path, teacher: str, *, seconds: float, steps: int, keys: dict[str, object]) -> TrainConfig:
    """Of one run."""
    return resolved(
        {
            "preset": "cdm2", "corpus": str(corpus), "teacher": {"name": teacher}, "batch": {"seconds": seconds, "lanes": 2}, "crop_s": CROP_S, "steps": steps,
            "workers": 2, "dev": "none", "log_every": LOGGED, "checkpoint_every": 10**6, **keys,
        },
        where="benchmark",
    )  # fmt: skip


def by_trainer(config: TrainConfig, run: Path, device: torch.device) -> Found:
    """Train, and read the journal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            distil(config, run, ranks=Ranks(device=device), report=str)
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    waits = sum(SYNCHRONISING in str(one.message) for one in caught)
    journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    lines = [line for line in journal if "audio_s_per_s" in line]
    wall = [(line["audio_s"] - before["audio_s"]) / line["audio_s_per_s"] for before, line in itertools.pairwise(lines)]
    audio_s = lines[-1]["audio_s"] - lines[0]["audio_s"]
    waited = sum(line["waiting_share"] * spent for line, spent in zip(lines[1:], wall, strict=True))
    steps = max(1, config.steps - LOGGED)
    total = sum(wall) or float("nan")
    return Found(total / steps, audio_s / total, waited / total, waits)


def main(seconds: float, steps: int) -> None:
    """Measure and print."""
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", 0) if has_gpu else torch.device("cpu")
    modes: dict[str, dict[str, object]] = {"float32": {"precision": "float32"}, "bfloat16": {"precision": "bfloat16"}}
    if has_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        del modes["bfloat16"]
    compiled = modes if has_gpu else ["float32"]
    modes |= {f"{name}, compiled": {**modes[name], "compile": True} for name in compiled}
    start_s = time.perf_counter()
    print(
        f"torch {torch.__version__}, {torch.cuda.get_device_name(device) if has_gpu else 'no GPU here: its CPU part'}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = made_corpus(folder)
        teacher = random_teacher(folder / "teacher") if has_gpu else "nano"
        for mode, keys in modes.items():
            if has_gpu:
                torch.cuda.reset_peak_memory_stats()
            short, config = (
                config_of(corpus, teacher, seconds=seconds, steps=count, keys=keys)
                for count in (LOGGED, LOGGED + steps)
            )
            first = by_trainer(short, folder / f"short-{mode}", device).waits if has_gpu else 0
            found = by_trainer(config, folder / mode, device)
            peak = (
                torch.cuda.max_memory_allocated()
                if has_gpu
                else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            )
            least = bare(config, batches_of(config, steps, skipped=LOGGED), device=device, skipped=LOGGED)
            waits = f"{(found.waits - first) / steps:.2f}" if has_gpu else "no"
            print(
                f"{mode:20s} {found.step_s:.3f} s a step, bare {least.wall:.3f} s: {least.wall / found.step_s:.2f} of bare; "
                f"{found.audio_s_per_s:.0f} s of audio a second, waiting {found.waiting_share:.1%}, {waits} waits for the GPU a step, "
                f"peak {peak / 2**30:.2f} GiB{'' if has_gpu else ' of the whole process so far'}"
            )  # fmt: skip
    print(f"{time.perf_counter() - start_s:.0f} s in all")


if __name__ == "__main__":
    default = [295.0, 30] if torch.cuda.is_available() else [8.0, 10]
    given = [float(word) for word in sys.argv[1:]] + default[len(sys.argv) - 1 :]
    main(given[0], int(given[1]))
