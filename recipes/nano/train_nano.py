#!/usr/bin/env python3
"""Train the embedded teacher ``nano`` by HuBERT's own recipe and write what the package carries.

    python recipes/realdata/prepare.py DATA --more-voices
    python recipes/nano/train_nano.py DATA FIRST --scratch SCRATCH1
    python recipes/nano/train_nano.py DATA SECOND --teacher FIRST --scratch SCRATCH2
    python recipes/nano/train_nano.py DATA training/nano --teacher SECOND --layer 7 --scratch SCRATCH3

Masked prediction of k-means units (arXiv 2106.07447) on the training utterances of those sets whose licences let the weights be given away.
The first run's units are 100 clusters of MFCCs. With --teacher a run starts from an earlier model's weights, with finer units: 500 clusters of
MFCCs, or of the earlier model's layer --layer, HuBERT's second iteration. Runs on a CPU: an hour or two on two cores with bfloat16
instructions. Stopped, it goes on from the last checkpoint in SCRATCH; after some minutes, twice, four times as many it writes an interim
export, replaced at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from crops import Crops, endless_batches
from export import Before, Outcome, write_export
from masked import MODEL, MaskedPredictor, new_model, spans
from material import read_material
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from units import read_model, weights_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG_EVERY = 50
CHECKPOINT_EVERY = 50


class WrongTeacherError(ValueError):
    """The model before is no model of this recipe, or lacks the layer."""


class OtherUnitsError(ValueError):
    """The checkpoint was trained on other units."""

    def __init__(self, checkpoint: Path, found: object, expected: object) -> None:
        super().__init__(
            f"{checkpoint} was trained on units of {found}, this run's are of {expected}: choose another --scratch"
        )


@dataclass(frozen=True)
class Settings:
    """What the command can change.

    Attributes:
        steps: Updates, unless ``minutes`` end first.
        minutes: Of training; the learning rate decays to zero by whichever of the two ends first.
        batch_size: Crops a step.
        crop_frames: Length of a crop, 20 ms each.
        learning_rate: Its peak.
        warm_up: Share of the training during which it rises.
        mask_start: Chance that a masked span starts at a frame.
        mask_span: Frames a span.
        visible_after: Steps after which frames that are not masked count too: early on only the guess is learnt, then also
            to describe what is heard. Without it the top layer of so short a training keeps little of visible frames.
        visible_weight: What they count beside masked ones (HuBERT's ``(1 - alpha) / alpha``).
        layer: Of the model before, whose output is clustered, counted from 1; 0 for MFCCs, the first iteration.
        num_units: Clusters.
        seed: Of everything.
        interim_minutes: When the first export is written; the next ones after twice, four times as long.
        threads: Of torch.
    """

    steps: int = 2600
    minutes: float = 53.0
    batch_size: int = 24
    crop_frames: int = 200
    learning_rate: float = 1.2e-3
    warm_up: float = 0.08
    mask_start: float = 0.075
    mask_span: int = 10
    visible_after: int = 700
    visible_weight: float = 0.5
    layer: int = 0
    num_units: int = 100
    seed: int = 1
    interim_minutes: float = 5.0
    threads: int = 2


CONTINUED = replace(
    Settings(), steps=4000, minutes=1e5, batch_size=12, learning_rate=1e-3, visible_after=0, visible_weight=1.0, num_units=500,
    interim_minutes=40.0,
)  # fmt: skip
"""From an earlier model: finer units. It has learnt to describe visible frames before, so they count from the start."""


def masked_accuracy(predictor: MaskedPredictor, dev: Sequence[Crops], settings: Settings) -> tuple[float, float]:
    """Mean loss and accuracy over the masked frames of fixed crops under fixed masks."""
    dice = torch.Generator().manual_seed(settings.seed)
    loss, right, count = 0.0, 0, 0
    predictor.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for crops in dev:
            shape = (crops.units.shape[0], crops.units.shape[1])
            mask = spans(shape, start=settings.mask_start, span=settings.mask_span, dice=dice)
            logits = predictor(crops.wave, mask)[mask].float()
            loss += float(functional.cross_entropy(logits, crops.units[mask], reduction="sum"))
            right += int((logits.argmax(-1) == crops.units[mask]).sum())
            count += int(mask.sum())
    predictor.train()
    return loss / count, right / count


def learning_rate(settings: Settings, progress: float) -> float:
    """Linear rise, then linear decay to zero at progress 1."""
    if progress < settings.warm_up:
        return settings.learning_rate * progress / settings.warm_up
    return settings.learning_rate * max(0.0, 1.0 - progress) / (1.0 - settings.warm_up)


def first_predictor(settings: Settings, teacher: Path | None) -> MaskedPredictor:
    """The model before the first update: HuBERT's initial weights, or those of the model before; the head is new.

    Raises:
        WrongTeacherError: If the model before has another shape, or lacks the layer.
    """
    if teacher is None:
        return MaskedPredictor(new_model(), settings.num_units)
    if json.loads((teacher / "config.json").read_text()).get("encoder_embed_dim") != MODEL["encoder_embed_dim"]:
        raise WrongTeacherError(f"{teacher} holds no model of masked.py's shape: give a folder that this script wrote")
    if not 0 <= settings.layer <= MODEL["encoder_num_layers"]:
        raise WrongTeacherError(
            f"--layer {settings.layer}: {teacher} has layers 1 to {MODEL['encoder_num_layers']}; choose one of these, or 0 for MFCCs"
        )
    return MaskedPredictor(read_model(teacher), settings.num_units).train()


def new_optimiser(predictor: MaskedPredictor) -> torch.optim.AdamW:
    """HuBERT's; biases, norms and the mask vector do not decay."""
    matrices = [parameter for parameter in predictor.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in predictor.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)


def update(
    predictor: MaskedPredictor, optimiser: torch.optim.AdamW, batch: Crops, settings: Settings, *, step: int
) -> float:
    """One step of training; gives its loss.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    dice = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    shape = (batch.units.shape[0], batch.units.shape[1])
    mask = spans(shape, start=settings.mask_start, span=settings.mask_span, dice=dice)
    # The fused attention's backward pass is slow on a CPU: plain products take an eighth less time a step.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        logits = predictor(batch.wave, mask).float()
    loss = functional.cross_entropy(logits[mask], batch.units[mask])
    if step >= settings.visible_after:
        loss = loss + settings.visible_weight * functional.cross_entropy(logits[~mask], batch.units[~mask])
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower --learning-rate")
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def save(path: Path, state: dict[str, Any]) -> None:
    """Put a checkpoint in place whole."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(data: Path, out: Path, scratch: Path, settings: Settings, teacher: Path | None = None) -> None:
    """The whole of it, read top to bottom."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    predictor = first_predictor(settings, teacher)
    optimiser = new_optimiser(predictor)
    teacher_sha256 = None if teacher is None else weights_sha256(teacher)
    units_of = {"layer": settings.layer, "units": settings.num_units, "teacher_sha256": teacher_sha256}
    step, seconds, centres = 0, 0.0, None
    scratch.mkdir(parents=True, exist_ok=True)
    checkpoint = scratch / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state.get("units_of") != units_of:
            raise OtherUnitsError(checkpoint, state.get("units_of"), units_of)
        centres = state["centres"].numpy()
        predictor.load_state_dict(state["predictor"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]
        print(f"goes on from step {step}", flush=True)
    material = read_material(data, settings, teacher, centres)

    def export(*, interim: bool) -> None:
        _, accuracy = masked_accuracy(predictor, material.dev, settings)
        before = None if teacher is None else Before.read(teacher)
        outcome = Outcome(MODEL, asdict(settings), material.heard, step, seconds / 60, accuracy, interim, before)
        write_export(out, predictor.model, outcome, data)

    next_export = 60 * settings.interim_minutes
    while next_export <= seconds:
        next_export *= 2
    running_loss = 0.0
    shape = {"batch_size": settings.batch_size, "num_frames": settings.crop_frames}
    for batch in itertools.islice(
        endless_batches(material.heard, material.units, **shape, seed=settings.seed), step, None
    ):
        started = time.monotonic()
        progress = max(step / settings.steps, seconds / (60 * settings.minutes))
        if progress >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, progress)
        running_loss += update(predictor, optimiser, batch, settings, step=step) / LOG_EVERY
        step += 1
        if step % LOG_EVERY == 0:
            dev_loss, accuracy = masked_accuracy(predictor, material.dev, settings)
            print(
                f"step {step} loss {running_loss:.3f} dev loss {dev_loss:.3f} dev masked accuracy {accuracy:.4f} "
                f"minutes {seconds / 60:.1f}",
                flush=True,
            )
            running_loss = 0.0
        seconds += time.monotonic() - started
        if step % CHECKPOINT_EVERY == 0:
            state = {"predictor": predictor.state_dict(), "optimiser": optimiser.state_dict()}
            state |= {"units_of": units_of, "centres": torch.from_numpy(material.centres)}
            save(checkpoint, {**state, "step": step, "seconds": seconds})
        if seconds >= next_export:
            next_export *= 2
            export(interim=True)
    export(interim=False)


def main() -> None:
    """The command; each setting is a flag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what recipes/realdata/prepare.py wrote")
    parser.add_argument("out", type=Path, help="folder for the export")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--teacher", type=Path, help="folder of an earlier model to start from")
    for name, value in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=argparse.SUPPRESS)
    chosen = vars(parser.parse_args())
    data, out, scratch, teacher = (chosen.pop(name) for name in ("data", "out", "scratch", "teacher"))
    if not (data / "speech/train/labels.csv").exists():
        parser.error(f"{data} holds no speech/train/labels.csv; run recipes/realdata/prepare.py {data} first")
    if teacher is not None and not (teacher / "weights.safetensors").exists():
        parser.error(f"{teacher} holds no weights.safetensors; train the first run into it, without --teacher")
    if teacher is None and chosen.get("layer"):
        parser.error(f"--layer {chosen['layer']}: units of a layer need the model that has it; give --teacher FOLDER")
    try:
        train(data, out, scratch, replace(Settings() if teacher is None else CONTINUED, **chosen), teacher)
    except (WrongTeacherError, OtherUnitsError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
