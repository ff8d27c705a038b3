#!/usr/bin/env python3
"""Train the embedded teacher ``nano`` by HuBERT's own recipe and write what the package carries.

    python recipes/realdata/prepare.py DATA
    python recipes/nano/train_nano.py DATA training/nano --scratch SCRATCH

Masked prediction of k-means units of MFCCs (HuBERT's first iteration, arXiv 2106.07447) on the training utterances of those sets whose licences
let the weights be given away. Runs on a CPU: about 40 minutes on two cores with bfloat16 units. Stopped, it goes on from the
last checkpoint in SCRATCH; about five minutes after its start it writes a first usable export, replaced at the end.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from crops import Crops, Utterance, collate, endless_batches, epoch_crops, read_utterances
from export import Outcome, write_export
from torch import Tensor, nn
from units import Features, Units, fit_units, frame_features, nearest_units

SETS = ("asterisk-en", "asterisk-es", "asterisk-fr", "librivox", "espeak-keywords", "espeak-sentences")

MODEL: dict[str, Any] = {
    # Layer norm in the convolutional layers would cost 70 % more a step here (1.37 s against 0.80 s).
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[64, 10, 5]] + [[64, 3, 2]] * 4 + [[64, 2, 2]] * 2,
    "extractor_conv_bias": False,
    "encoder_embed_dim": 144,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 64,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 8,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 576,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}


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
        num_units: Clusters.
        seed: Of everything.
        interim_minutes: When the first export is written.
        threads: Of torch.
    """

    steps: int = 2600
    minutes: float = 39.0
    batch_size: int = 24
    crop_frames: int = 200
    learning_rate: float = 1.2e-3
    warm_up: float = 0.08
    mask_start: float = 0.075
    mask_span: int = 10
    num_units: int = 100
    seed: int = 1
    interim_minutes: float = 5.0
    threads: int = 2


class MaskedPredictor(nn.Module):
    """The model, with what training adds: a vector in place of masked frames, and a cosine head over units."""

    def __init__(self, model: torchaudio.models.Wav2Vec2Model, num_units: int) -> None:
        super().__init__()
        width = MODEL["encoder_embed_dim"]
        self.model = model
        self.mask_vector = nn.Parameter(torch.empty(width).uniform_())
        self.project = nn.Linear(width, width)
        self.unit_vectors = nn.Parameter(torch.randn(num_units, width))

    def forward(self, wave: Tensor, frame_is_masked: Tensor) -> Tensor:
        """Logits of the units of masked frames only, shape (masked frame, unit).

        Args:
            wave: Shape (batch, time).
            frame_is_masked: Shape (batch, frame).
        """
        extracted, _ = self.model.feature_extractor(wave, None)
        projected = self.model.encoder.feature_projection(extracted)
        masked = torch.where(frame_is_masked[..., None], self.mask_vector.to(projected.dtype), projected)
        hidden = self.model.encoder.transformer(masked)[frame_is_masked]
        # HuBERT's temperature.
        return F.linear(F.normalize(self.project(hidden), dim=-1), F.normalize(self.unit_vectors, dim=-1)) / 0.1


def new_model() -> torchaudio.models.Wav2Vec2Model:
    """The model with HuBERT's initial weights.

    torchaudio leaves torch's own: these shrink the signal layer by layer until it is denormal, which costs a factor of three in time.
    """
    model = torchaudio.models.wav2vec2_model(**MODEL)
    for module in model.feature_extractor.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
    for module in model.encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return model


def spans(shape: tuple[int, int], *, start: float, span: int, dice: torch.Generator) -> Tensor:
    """Which frames are masked, shape (batch, frame): spans start anywhere with chance ``start`` and may overlap."""
    starts = torch.rand(shape, generator=dice) < start
    padded = F.pad(starts.float(), (span - 1, 0))
    return F.max_pool1d(padded[:, None], span, stride=1)[:, 0] > 0


def masked_accuracy(predictor: MaskedPredictor, dev: Sequence[Crops], settings: Settings) -> tuple[float, float]:
    """Mean loss and accuracy over the masked frames of fixed crops under fixed masks."""
    dice = torch.Generator().manual_seed(settings.seed)
    loss, right, count = 0.0, 0, 0
    predictor.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for crops in dev:
            shape = (crops.units.shape[0], crops.units.shape[1])
            mask = spans(shape, start=settings.mask_start, span=settings.mask_span, dice=dice)
            logits = predictor(crops.wave, mask).float()
            loss += float(F.cross_entropy(logits, crops.units[mask], reduction="sum"))
            right += int((logits.argmax(-1) == crops.units[mask]).sum())
            count += int(mask.sum())
    predictor.train()
    return loss / count, right / count


def learning_rate(settings: Settings, progress: float) -> float:
    """Linear rise, then linear decay to zero at progress 1."""
    if progress < settings.warm_up:
        return settings.learning_rate * progress / settings.warm_up
    return settings.learning_rate * max(0.0, 1.0 - progress) / (1.0 - settings.warm_up)


def labelled(utterances: Sequence[Utterance], features: Sequence[Features], centres: Features) -> list[Units]:
    """The units of every utterance."""
    pairs = zip(utterances, features, strict=True)
    return [nearest_units(feature, centres, num_frames=utterance.num_frames) for utterance, feature in pairs]


def save(path: Path, state: dict[str, Any]) -> None:
    """Put a checkpoint in place whole."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(data: Path, out: Path, scratch: Path, settings: Settings) -> None:
    """The whole of it, read top to bottom."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    scratch.mkdir(parents=True, exist_ok=True)
    utterances = {split: read_utterances(data, split, SETS) for split in ("train", "dev")}
    print({split: f"{sum(one.seconds for one in found) / 3600:.2f} h" for split, found in utterances.items()}, flush=True)

    features = {split: [frame_features(one.pcm) for one in found] for split, found in utterances.items()}
    centres = fit_units(features["train"], num_units=settings.num_units, seed=settings.seed)
    units = {split: labelled(utterances[split], features[split], centres) for split in utterances}
    share = np.bincount(np.concatenate(units["train"]), minlength=settings.num_units) / sum(map(len, units["train"]))
    print(f"{settings.num_units} units, the largest holds {share.max():.1%} of the frames", flush=True)

    crops = epoch_crops(utterances["dev"], units["dev"], num_frames=settings.crop_frames, seed=settings.seed, epoch=0)
    dev = [collate(crops[first : first + settings.batch_size]) for first in range(0, len(crops[:48]), settings.batch_size)]
    predictor = MaskedPredictor(new_model(), settings.num_units)
    matrices = [p for p in predictor.parameters() if p.ndim > 1]
    vectors = [p for p in predictor.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.98), eps=1e-6
    )
    step, seconds = 0, 0.0
    checkpoint = scratch / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        predictor.load_state_dict(state["predictor"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]
        print(f"goes on from step {step}", flush=True)

    stream = endless_batches(
        utterances["train"], units["train"], batch_size=settings.batch_size, num_frames=settings.crop_frames, seed=settings.seed
    )
    interim_is_due = seconds < 60 * settings.interim_minutes
    running_loss = 0.0
    outcome = Outcome(MODEL, asdict(settings), utterances["train"])
    for batch in itertools.islice(stream, step, None):
        started = time.monotonic()
        progress = max(step / settings.steps, seconds / (60 * settings.minutes))
        if progress >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, progress)
        dice = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        shape = (batch.units.shape[0], batch.units.shape[1])
        mask = spans(shape, start=settings.mask_start, span=settings.mask_span, dice=dice)
        with torch.autocast("cpu", torch.bfloat16):
            logits = predictor(batch.wave, mask)
        loss = F.cross_entropy(logits.float(), batch.units[mask])
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower --learning-rate")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
        optimiser.step()
        step += 1
        running_loss += loss.item() / 50
        if step % 50 == 0:
            dev_loss, accuracy = masked_accuracy(predictor, dev, settings)
            print(f"step {step} loss {running_loss:.3f} dev loss {dev_loss:.3f} dev masked accuracy {accuracy:.4f} "
                  f"minutes {seconds / 60:.1f}", flush=True)  # fmt: skip
            running_loss = 0.0
        seconds += time.monotonic() - started
        if step % 100 == 0:
            save(checkpoint, {"predictor": predictor.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seconds": seconds})
        if interim_is_due and seconds >= 60 * settings.interim_minutes:
            interim_is_due = False
            _, accuracy = masked_accuracy(predictor, dev, settings)
            write_export(out, predictor.model, replace(outcome, step=step, minutes=seconds / 60, accuracy=accuracy, interim=True), data)
    _, accuracy = masked_accuracy(predictor, dev, settings)
    write_export(out, predictor.model, replace(outcome, step=step, minutes=seconds / 60, accuracy=accuracy), data)


def main() -> None:
    """The command; each setting is a flag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what recipes/realdata/prepare.py wrote")
    parser.add_argument("out", type=Path, help="folder for the export")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the checkpoint")
    for name, value in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    chosen = vars(parser.parse_args())
    paths = [chosen.pop(name) for name in ("data", "out", "scratch")]
    train(*paths, Settings(**chosen))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
