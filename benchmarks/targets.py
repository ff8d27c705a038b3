"""One training step on kept targets against one with the teacher in it: `python benchmarks/targets.py [UTTERANCES] [SECONDS] [ROUNDS]`.

HuBERT-base shapes with random weights: a teacher of 12 layers, DistilHuBERT's student of 2 with heads for layers 4, 8 and 12, its loss,
AdamW and clipping, under bfloat16 autocast. Both ways take turns on the same batch. The way with targets reads them from its
shards at every step. Printed are the least CPU times of each way, their ratio, both losses, and what the targets weigh.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torchaudio.pipelines import HUBERT_BASE

from training.config.model import StudentShape
from training.data.sampler import Crop, CropGrid
from training.distillation.losses import layer_distance
from training.distillation.optimiser import adamw
from training.models.encoder import Encoder
from training.precompute import TargetSettings, compute_targets
from training.setup import make_student
from training.targets.reader import TargetsReader
from training.teacher import bundle_config

if TYPE_CHECKING:
    from collections.abc import Callable

RATE_HZ = 16_000
LAYERS = (4, 8, 12)
RATE = 1e-9  # so small that both keep to the same loss
WARM_UP = 1


def random_teacher(folder: Path) -> Encoder:
    """A HuBERT of base size with random weights, and its folder."""
    import safetensors.torch

    from manifests.io.json_yaml import write_json

    config = bundle_config(HUBERT_BASE)
    trunk = config.build()
    folder.mkdir()
    write_json(folder / "config.json", config.model_dump(mode="json"))
    safetensors.torch.save_file(trunk.state_dict(), folder / "weights.safetensors")
    return Encoder(trunk, config, name=folder.name)


def made_corpus(folder: Path, *, utterances: int, seconds: float) -> Path:
    """A corpus of one shard, its utterances of one length."""
    from made import build, made_recipe

    folder.mkdir()
    recipe = made_recipe(folder, utterances=utterances, kinds=("noise",), seconds=(seconds, seconds), shard=utterances)
    build(recipe, folder / "corpus", workers=1)
    return folder / "corpus"


def main(utterances: int, seconds: float, rounds: int) -> None:
    """Measure in turn and print."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = random_teacher(folder / "teacher")
        corpus = made_corpus(folder / "corpus", utterances=utterances, seconds=seconds)
        asked = TargetSettings(
            str(folder / "teacher"), layers=LAYERS, splits=("train",), crop_s=seconds, precision="bfloat16"
        )
        start_s = time.perf_counter()
        compute_targets(corpus, folder / "targets", asked, report=str)
        print(f"{utterances} utterances of {seconds:g} s, {torch.get_num_threads()} threads; computing their targets took "
              f"{time.perf_counter() - start_s:.1f} s")  # fmt: skip
        measure(teacher, corpus, folder / "targets", rounds=rounds)


def measure(teacher: Encoder, corpus: Path, folder: Path, *, rounds: int) -> None:
    """Both ways in turn on one batch."""
    from training.data.audio import batch_waves
    from training.data.joined_corpus import open_corpus
    from training.data.views import Pair

    with open_corpus(corpus) as reader, TargetsReader(folder) as targets:
        shard = reader.shards("train")[0].name
        crops = [Crop(shard, sample, 0, sample.num_samples) for sample in reader.samples(shard)]
        assert isinstance(targets.plan.grid, CropGrid)
        wave, _ = batch_waves(reader, crops, [Pair("clean", "clean")] * len(crops))
        num_samples = torch.tensor([crop.length for crop in crops])
        student = make_student(StudentShape(dropout=0.0), teacher, target_layers=LAYERS, seed=0).train()
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        optimiser = adamw(trained, learning_rate=RATE)

        def step(target_of: Callable[[], torch.Tensor]) -> tuple[float, float]:
            start_s = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                target = target_of()
                heard = student(wave, num_samples)
            distance = layer_distance(heard.predictions, target, heard.num_frames)
            loss = (distance.l1 + distance.cosine) / heard.num_frames.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 5.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            return time.process_time() - start_s, float(loss)

        ways: dict[str, Callable[[], torch.Tensor]] = {
            "teacher in the loop": lambda: teacher.layers(wave, num_samples, only=LAYERS)[0],
            "kept targets": lambda: targets.batch(crops, ["clean"] * len(crops), layers=LAYERS).float(),
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        losses = dict.fromkeys(ways, 0.0)
        for number in range(WARM_UP + rounds):
            for name, way in ways.items():
                taken_s, losses[name] = step(way)
                if number >= WARM_UP:
                    spent[name].append(taken_s)
        size = sum(entry.bytes for entries in targets.manifest.splits.values() for entry in entries)
    audio_s = sum(crop.length for crop in crops) / RATE_HZ
    for name, times in spent.items():
        print(f"{name:20s} {min(times):7.3f} CPU s a step, loss {losses[name]:.4f}")
    first, second = (min(times) for times in spent.values())
    print(f"bfloat16: {first / second:.2f} times the speed; {size / audio_s / 1e3:.0f} kB of targets a second of audio")


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]] + [4, 5, 5][len(sys.argv) - 1 :]
    main(int(given[0]), given[1], int(given[2]))
