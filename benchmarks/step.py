"""One training step with HuBERT-base shapes against s3prl's: `python benchmarks/step.py [UTTERANCES] [SECONDS] [ROUNDS]`.

Both have a teacher of 12 layers, a student of 2, heads for layers 4, 8 and 12, DistilHuBERT's loss, AdamW and clipping, the same
weights and the same batch: s3prl's DistillerModel taught by its HuBERT, and this trainer's modules. First a batch of utterances of one length, then a
ragged one, whose lengths fall evenly from SECONDS to four fifths of it: s3prl masks its padding in the attention, has it in the group norm and in the mean
of the loss, so the losses differ there. Rounds are taken in turn, in float32 and under bfloat16 autocast; printed are least processor times, their ratios and
both losses. Needs `pip install --no-deps s3prl==0.4.18`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from training.config.model import StudentShape
from training.distillation.losses import layer_distance
from training.distillation.optimiser import adamw
from training.runs.precision import backpropagate
from training.setup import make_student
from training.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Callable

RATE_HZ = 16_000
LAYERS = (4, 8, 12)
RATE = 1e-9  # so small that all four keep to the same loss
WARM_UP = 1
SHORTEST = 0.8  # of the longest, in a ragged batch


class Batch(NamedTuple):
    """Waves of shape (batch, time), zeros after each utterance's end, and the samples of each."""

    wave: torch.Tensor
    num_samples: torch.Tensor

    @property
    def is_padding(self) -> torch.Tensor:
        """Shape (batch, time)."""
        return torch.arange(self.wave.shape[1]) >= self.num_samples[:, None]


def made_batch(utterances: int, seconds: float, *, shortest: float) -> Batch:
    """Noise whose lengths fall evenly from `seconds` to a share of it."""
    num_samples = (torch.linspace(1, shortest, utterances) * seconds * RATE_HZ).long()
    batch = Batch(0.1 * torch.randn(utterances, int(num_samples.max())), num_samples)
    return Batch(batch.wave.masked_fill(batch.is_padding, 0.0), num_samples)


def s3prl_models(folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """s3prl's HuBERT of base size with random weights, and its distiller begun from it, both written down as s3prl does."""
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    shape = HubertConfig(label_rate=50)
    teacher = HubertModel(shape, HubertPretrainingConfig(), [["a"]]).eval().requires_grad_(requires_grad=False)
    config = {
        "encoder_layers": 2, "n_tasks": len(LAYERS), "pred_layer_id": list(LAYERS), "cosine_loss": 1.0,
        "feature_grad_mult": 0.1, "extractor_mode": "default",
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        student = DistillerModel(DistillerConfig(config)).train()
    student.feature_extractor.load_state_dict(teacher.feature_extractor.state_dict())
    student.post_extract_proj.load_state_dict(teacher.post_extract_proj.state_dict())
    student.encoder.pos_conv.load_state_dict(teacher.encoder.pos_conv.state_dict())
    for ours, theirs in zip(student.encoder.layers, teacher.encoder.layers, strict=False):
        ours.load_state_dict(theirs.state_dict())
    saved = {"model_weight": teacher.state_dict(), "model_cfg": vars(shape), "task_cfg": {}, "dictionaries_symbols": []}
    torch.save(saved, folder / "teacher.pt")
    torch.save({"Distiller": student.state_dict(), "Config": {"distiller": config}}, folder / "student.ckpt")
    return teacher, student


def s3prl_step(teacher: torch.nn.Module, student: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The loss as s3prl's distiller takes it: hidden states by hooks, means over all frames."""
    hidden: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: hidden.append(output[0])) for layer in teacher.encoder.layers
    ]
    is_padding = batch.is_padding
    with torch.no_grad():
        teacher(batch.wave, padding_mask=is_padding, mask=False, features_only=True)
    for hook in hooks:
        hook.remove()
    _, _, predictions, _ = student(batch.wave, (~is_padding).float())
    frames = predictions.shape[2]  # fairseq adds a masked frame where they are odd
    target = torch.stack([hidden[layer - 1].transpose(0, 1)[:, :frames] for layer in LAYERS], dim=1)
    l1 = functional.l1_loss(predictions, target)
    return l1 - functional.logsigmoid(functional.cosine_similarity(predictions, target, dim=-1)).mean()


def our_step(teacher: torch.nn.Module, student: torch.nn.Module, batch: Batch, *, autocast: bool) -> torch.Tensor:
    """The loss as `training.loop` takes it."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        target, _ = teacher.layers(*batch, only=LAYERS)
        output = student(*batch)
    distance = layer_distance(output.predictions, target, output.num_frames)
    return (distance.l1 + distance.cosine) / output.num_frames.sum()


def timed(
    loss_of: Callable[[], torch.Tensor],
    optimiser: torch.optim.Optimizer,
    gradients_of: Callable[[torch.Tensor], None] = torch.Tensor.backward,
) -> tuple[float, float]:
    """Processor seconds of one whole step, and its loss."""
    start_s = time.process_time()
    loss = loss_of()
    gradients_of(loss)
    torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 5.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return time.process_time() - start_s, float(loss)


def models() -> tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module, torch.nn.Module]:
    """s3prl's teacher and student, then this trainer's with the same weights."""
    with tempfile.TemporaryDirectory() as name:
        their_teacher, their_student = s3prl_models(Path(name))
        teacher = load_teacher(Path(name) / "teacher.pt")
        shape = StudentShape(init=str(Path(name) / "student.ckpt"))
        student = make_student(shape, teacher, target_layers=LAYERS, seed=0).train()
    heads = their_student.output_layer.state_dict()
    student.heads.load_state_dict(
        {"expand.weight": heads["0.weight"], "expand.bias": heads["0.bias"], "weight": heads["2.weight"], "bias": heads["2.bias"][0, 0, :, None]}
    )  # fmt: skip
    return their_teacher, their_student, teacher, student


def main(utterances: int, seconds: float, rounds: int) -> None:
    """Measure in turn and print the least of each."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    their_teacher, their_student, teacher, student = models()
    optimisers = {
        "s3prl": torch.optim.AdamW(their_student.parameters(), lr=RATE, betas=(0.9, 0.98)),
        "ours": adamw(student.parameters(), learning_rate=RATE),
    }

    def loss_of(name: str, batch: Batch) -> torch.Tensor:
        whose, precision = name.split()
        autocast = precision == "bfloat16"
        if whose == "ours":
            return our_step(teacher, student, batch, autocast=autocast)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return s3prl_step(their_teacher, their_student, batch)

    names = [f"{whose} {precision}" for whose in optimisers for precision in ("float32", "bfloat16")]
    print(f"{utterances} utterances, {torch.get_num_threads()} threads, {rounds} rounds")
    for kind, shortest in (
        (f"all of {seconds:g} s", 1.0),
        (f"ragged, of {SHORTEST * seconds:g} to {seconds:g} s", SHORTEST),
    ):
        batch = made_batch(utterances, seconds, shortest=shortest)
        spent: dict[str, list[float]] = {name: [] for name in names}
        losses: dict[str, float] = {}
        for number in range(WARM_UP + rounds):
            for name in names:
                whose, precision = name.split()
                gradients_of = (
                    functools.partial(backpropagate, precision=precision) if whose == "ours" else torch.Tensor.backward
                )
                taken_s, losses[name] = timed(functools.partial(loss_of, name, batch), optimisers[whose], gradients_of)
                if number >= WARM_UP:
                    spent[name].append(taken_s)
        least = {name: min(times) for name, times in spent.items()}
        print(kind)
        for name in names:
            print(f"{name:15s} {least[name]:7.3f} s a step, loss {losses[name]:.4f}")
        print(f"float32: {least['s3prl float32'] / least['ours float32']:.2f} times s3prl's speed")
        print(f"bfloat16: {least['s3prl bfloat16'] / least['ours bfloat16']:.2f} times s3prl's under the same autocast, "
              f"{least['s3prl float32'] / least['ours bfloat16']:.2f} times s3prl's in float32")  # fmt: skip


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]] + [4, 5, 5][len(sys.argv) - 1 :]
    main(int(given[0]), given[1], int(given[2]))
