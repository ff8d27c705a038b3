"""What the package carries of nano: half-precision weights, the model's arguments, its card and the digests of what it heard."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from crops import Utterance, read_utterances
from safetensors.torch import save
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from units import RATE_HZ, weights_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

LICENCES = {
    "asterisk-en": "CC-BY-SA-3.0, Allison Smith",
    "asterisk-es": "CC-BY-SA-3.0, Allison Smith",
    "asterisk-fr": "CC-BY-SA-3.0, June Wallack",
    "librivox": "public domain, a LibriVox recording of Sense and Sensibility",
    "espeak-keywords": "synthesised with eSpeak NG, no rights claimed in the speech",
    "espeak-sentences": "synthesised with eSpeak NG, no rights claimed in the speech",
    "espeak-more-voices": "synthesised with eSpeak NG, no rights claimed in the speech",
}
LIBRARIES = ("torch", "torchaudio", "numpy", "scikit-learn", "safetensors")


@dataclass(frozen=True)
class Before:
    """The model before, whose layer was clustered and whose weights training started from.

    Attributes:
        weights_sha256: Of its file of weights.
        heard: Digests of what it was trained on.
    """

    weights_sha256: str
    heard: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> Before:
        """From its folder."""
        return cls(weights_sha256(folder), frozenset((folder / "heard.txt").read_text().split()))


@dataclass(frozen=True)
class Outcome:
    """What is known of a training run when an export is written.

    Attributes:
        model: Arguments of ``torchaudio.models.wav2vec2_model``.
        settings: The script's settings, by name.
        heard: Every utterance the run may draw from.
        step: Updates done.
        minutes: Wall time of training so far, units and export not counted.
        accuracy: Share of masked frames of the development set whose unit is predicted.
        interim: Whether the run goes on.
        before: The model of the iteration before; None for the first.
    """

    model: dict[str, Any]
    settings: dict[str, Any]
    heard: Sequence[Utterance]
    step: int = 0
    minutes: float = 0.0
    accuracy: float = 0.0
    interim: bool = False
    before: Before | None = None


def write_export(out: Path, model: torchaudio.models.Wav2Vec2Model, outcome: Outcome, data: Path) -> None:
    """Write all files, each put in place whole, the card last.

    The accuracies of the card that need speech are taken from the half-precision weights, as a reader will have them.
    """
    out.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    put(out / "weights.safetensors", save(half, metadata={"format": "pt"}))
    put(out / "config.json", as_json({"pretrained_as": "hubert", **outcome.model, "sample_rate": RATE_HZ}))
    put(out / "heard.txt", heard_lines(outcome))
    reader = torchaudio.models.wav2vec2_model(**outcome.model)
    reader.load_state_dict({name: value.float() for name, value in half.items()})
    right = keyword_accuracy(reader.eval(), data)
    put(out / "card.json", as_json(card(outcome, reader, right)))
    kind = "interim" if outcome.interim else "final"
    print(
        f"wrote the {kind} export: step {outcome.step}, masked accuracy {outcome.accuracy:.4f}, keywords {right}",
        flush=True,
    )


def heard_lines(outcome: Outcome) -> bytes:
    """The bytes of `heard.txt`: what this run and the model before were trained on."""
    earlier = outcome.before.heard if outcome.before is not None else frozenset()
    return "".join(f"{digest}\n" for digest in sorted({one.digest for one in outcome.heard} | earlier)).encode()


def card(outcome: Outcome, model: torchaudio.models.Wav2Vec2Model, right: dict[str, float]) -> dict[str, Any]:
    """What a reader should know before using the weights."""
    hours: dict[str, float] = defaultdict(float)
    for one in outcome.heard:
        hours[one.set_name] += one.seconds / 3600
    before, layer = outcome.before, outcome.settings["layer"]
    iteration = "second" if layer else "first"
    units = f"layer {layer} of the first iteration's model" if layer else "MFCCs"
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in outcome.settings.items()]
    return {
        "schema": "stillroom/card/1",
        "name": "nano",
        "description": f"A small wav2vec 2.0-shaped teacher, trained by HuBERT's {iteration} iteration: prediction of k-means units of {units} at masked and at visible frames.",
        **({} if before is None else {"started_from": {"weights_sha256": before.weights_sha256, "layer": layer}}),
        "finished": not outcome.interim,
        "data": [{"set": name, "hours": round(hours[name], 3), "licence": LICENCES[name]} for name in sorted(hours)],
        "split": "train, as recipes/realdata/prepare.py assigns it",
        "heard": "heard.txt",
        "trained": {"schema": "stillroom/trained/1", "kinds": {}, "chains": []},  # clean speech alone
        "heard_sha256": hashlib.sha256(heard_lines(outcome)).hexdigest(),
        "licence": "CC-BY-SA-4.0",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "units": outcome.settings["num_units"],
        "steps": outcome.step,
        "minutes": round(outcome.minutes, 1),
        "audio_seconds_a_step": outcome.settings["batch_size"] * (outcome.settings["crop_frames"] * 0.02 + 0.005),
        "machine": f"{os.cpu_count()} cores of an {processor()}, shared with other work, {outcome.settings['threads']} threads, bfloat16 autocast",
        "dev_masked_accuracy": round(outcome.accuracy, 4),
        "keyword_accuracy": right["mean_pooled_last"],
        "keyword_accuracy_details": {
            "task": "16 keywords, 60 voices to train a logistic regression, 18 unseen voices to test it, clean speech",
            **right,
        },
        "script": "recipes/nano/train_nano.py",
        "arguments": " ".join(flags),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def processor() -> str:
    """The processor's name in plain words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def keyword_accuracy(model: torchaudio.models.Wav2Vec2Model, data: Path) -> dict[str, float]:
    """Accuracy of logistic regressions on mean-pooled layers, trained on the train voices' keywords, tested on the test voices'.

    Returns:
        ``mean_pooled_first`` and ``mean_pooled_last`` for a layer, ``mean_pooled_first_and_last`` for two side by side.
    """
    pooled, words = {}, {}
    for split in ("train", "test"):
        utterances = read_utterances(data, split, ["espeak-keywords"])
        pooled[split] = np.stack([pooled_layers(model, one) for one in utterances])
        words[split] = [one.word for one in utterances]
    right = {}
    chosen = {"mean_pooled_first": [0], "mean_pooled_last": [-1], "mean_pooled_first_and_last": [0, -1]}
    for name, layers in chosen.items():
        features = {split: values[:, layers].reshape(len(values), -1) for split, values in pooled.items()}
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(features["train"], words["train"])
        right[name] = round(float(probe.score(features["test"], words["test"])), 4)
    return right


def pooled_layers(model: torchaudio.models.Wav2Vec2Model, utterance: Utterance) -> npt.NDArray[np.float32]:
    """Every layer's mean over time, shape (layer, feature)."""
    wave = torch.from_numpy(utterance.pcm.astype(np.float32) / np.float32(32768.0))[None]
    with torch.inference_mode():
        layers, _ = model.extract_features(wave)
    return np.stack([layer[0].mean(0).numpy() for layer in layers])


def as_json(value: object) -> bytes:
    """JSON as it is read by people."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def put(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
