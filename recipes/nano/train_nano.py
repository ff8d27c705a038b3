#!/usr/bin/env python3
"""Train the embedded teacher ``nano`` by HuBERT's own recipe and write what the package carries.

    python recipes/realdata/prepare.py DATA
    python recipes/nano/train_nano.py DATA training/nano --scratch SCRATCH

Masked prediction of k-means units of MFCCs (HuBERT's first iteration, arXiv 2106.07447) on the training utterances of those sets whose licences
let the weights be given away. Runs on a CPU: under an hour on two shared cores with bfloat16 units. Stopped, it goes on from the
last checkpoint in SCRATCH; after about 5, 10, 20 and 40 minutes it writes an interim export, replaced at the end.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from crops import Crops, Utterance, collate, endless_batches, epoch_crops, read_utterances
from export import Outcome, write_export
from masked import MODEL, MaskedPredictor, new_model, spans
from torch import nn
from torch.nn import functional
from units import Units, fit_units, frame_features, nearest_units

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG_EVERY = 50
CHECKPOINT_EVERY = 100
DEV_CROPS = 48
SETS = ("asterisk-en", "asterisk-es", "asterisk-fr", "librivox", "espeak-keywords", "espeak-sentences")


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
    num_units: int = 100
    seed: int = 1
    interim_minutes: float = 5.0
    threads: int = 2


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


@dataclass(frozen=True)
class Material:
    """What is trained on and what it is checked on.

    Attributes:
        heard: Training utterances.
        units: The units of each, shape (frame,).
        dev: Fixed crops of the development split.
    """

    heard: Sequence[Utterance]
    units: Sequence[Units]
    dev: Sequence[Crops]


def read_material(data: Path, settings: Settings) -> Material:
    """Read the speech, fit the units to the training utterances and label everything with them; about a minute."""
    utterances = {split: read_utterances(data, split, SETS) for split in ("train", "dev")}
    features = {split: [frame_features(one.pcm) for one in found] for split, found in utterances.items()}
    centres = fit_units(features["train"], num_units=settings.num_units, seed=settings.seed)
    units = {
        split: [
            nearest_units(feature, centres, num_frames=one.num_frames)
            for one, feature in zip(utterances[split], features[split], strict=True)
        ]
        for split in utterances
    }
    for split, found in utterances.items():
        print(f"{split}: {len(found)} utterances, {sum(one.seconds for one in found) / 3600:.2f} h", flush=True)
    share = np.bincount(np.concatenate(units["train"]), minlength=settings.num_units) / sum(map(len, units["train"]))
    print(f"{settings.num_units} units, the largest holds {share.max():.1%} of the frames", flush=True)
    crops = epoch_crops(utterances["dev"], units["dev"], num_frames=settings.crop_frames, seed=settings.seed, epoch=0)
    firsts = range(0, len(crops[:DEV_CROPS]), settings.batch_size)
    dev = [collate(crops[first : first + settings.batch_size]) for first in firsts]
    return Material(utterances["train"], units["train"], dev)


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
    with torch.autocast("cpu", torch.bfloat16):
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


def train(data: Path, out: Path, scratch: Path, settings: Settings) -> None:
    """The whole of it, read top to bottom."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    material = read_material(data, settings)
    predictor = MaskedPredictor(new_model(), settings.num_units)
    optimiser = new_optimiser(predictor)
    step, seconds = 0, 0.0
    scratch.mkdir(parents=True, exist_ok=True)
    checkpoint = scratch / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        predictor.load_state_dict(state["predictor"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]
        print(f"goes on from step {step}", flush=True)

    def export(*, interim: bool) -> None:
        _, accuracy = masked_accuracy(predictor, material.dev, settings)
        outcome = Outcome(MODEL, asdict(settings), material.heard, step, seconds / 60, accuracy, interim)
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
    for name, value in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    chosen = vars(parser.parse_args())
    data, out, scratch = (chosen.pop(name) for name in ("data", "out", "scratch"))
    if not (data / "speech/train/labels.csv").exists():
        parser.error(f"{data} holds no speech/train/labels.csv; run recipes/realdata/prepare.py {data} first")
    train(data, out, scratch, Settings(**chosen))


if __name__ == "__main__":
    main()
