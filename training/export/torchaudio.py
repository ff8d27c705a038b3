"""Writes a student for torchaudio alone: its weights, the arguments of its builder, and a script of a few lines that loads them."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import torch

from manifests.io.atomic import write_bytes, write_text
from manifests.io.json_yaml import write_json
from training.export.format import Written, saved
from training.models.encoder import NOT_TORCHAUDIOS

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.models.encoder import Encoder

NAME = "torchaudio.json"
WEIGHTS = "weights.pt"
SCRIPT = '''"""Load the model beside this file with torchaudio alone: `model, config = load()`.

`model.extract_features(wave)[0][k - 1]` is layer k of waves of shape (batch, time) at config["sample_rate"]; where
config["normalize_waveform"] is true, bring each wave to zero mean and unit variance first, as `prepare` does.
"""

import json
from pathlib import Path

import torch
import torchaudio

HERE = Path(__file__).resolve().parent


def load(folder=HERE):
    config = json.loads((Path(folder) / "torchaudio.json").read_text())
    model = getattr(torchaudio.models, config["builder"])(**config["arguments"])
    if not config["projection_norm"]:  # DistilHuBERT's shape in s3prl
        model.encoder.feature_projection.layer_norm = torch.nn.Identity()
    model.load_state_dict(torch.load(Path(folder) / "weights.pt", map_location="cpu", weights_only=True))
    return model.eval(), config


def prepare(wave, config):
    if not config["normalize_waveform"]:
        return wave
    return torch.nn.functional.layer_norm(wave, wave.shape[-1:], eps=config["normalize_epsilon"])
'''


def write_torchaudio(encoder: Encoder, folder: Path) -> Written:
    """Write weights, arguments and script, and load them by that script."""
    config = encoder.config
    arguments = json.loads(config.model_dump_json(exclude=set(NOT_TORCHAUDIOS)))
    arguments["aux_num_out"] = None
    if config.family == "wav2vec2":
        del arguments["encoder_num_buckets"], arguments["encoder_max_distance"]
    write_json(
        folder / NAME,
        {
            "schema": "stillroom/torchaudio/1",
            "builder": "wavlm_model" if config.family == "wavlm" else "wav2vec2_model",
            "arguments": arguments,
            "sample_rate": config.sample_rate,
            "normalize_waveform": config.normalize_waveform,
            "normalize_epsilon": config.normalize_epsilon,
            "projection_norm": config.projection_norm,
        },
    )
    write_bytes(folder / WEIGHTS, saved(encoder.trunk.state_dict()))
    write_text(folder / "load.py", SCRIPT)
    specification = importlib.util.spec_from_file_location("stillroom_export_load", folder / "load.py")
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    model, config_there = script.load(folder)

    def outputs(wave: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat(model.extract_features(script.prepare(wave[None], config_there))[0])

    code = "from load import load, prepare  # the file beside this one\nmodel, config = load()\n"
    return Written(
        "", "load() of {path}/load.py", code + "layers = model.extract_features(prepare(wave, config))[0]", outputs
    )
