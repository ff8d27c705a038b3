"""A student as a Hugging Face folder: `config.json`, `model.safetensors`, `preprocessor_config.json`."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from manifests.io.atomic import write_bytes
from manifests.io.json_yaml import write_json
from training.export.format import NotExportableError, Written, library_missing
from training.models.encoder import normalised
from training.models.huggingface_format import EXTRACTOR_EPSILON, huggingface_config, huggingface_state

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.models.encoder import Encoder

ARCHITECTURES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}


def write_huggingface(encoder: Encoder, folder: Path) -> Written:
    """Write the folder and load it with `transformers`.

    The model gets the wave normalised as the run does it: Hugging Face's extractor adds 1e-7 to the variance where fairseq and
    torchaudio add 1e-5, which changes the features of quiet speech by more than rounding, and is reported in a note.

    Raises:
        NotExportableError: If it is a WavLM without the norm that every WavLM has there.
    """
    config = encoder.config
    if config.family == "wavlm" and not config.projection_norm:
        raise NotExportableError(
            encoder.name,
            form="huggingface",
            why=[
                "WavLMModel has a layer norm before its projection, this student none (train with student.projection_norm: true)"
            ],
            instead="write it with --to torchaudio or onnx",
        )
    shape = huggingface_config(config)
    architecture = ARCHITECTURES[shape["model_type"]]
    write_json(folder / "config.json", {"architectures": [architecture], "torch_dtype": "float32", **shape})
    state = {
        name: tensor.contiguous().clone() for name, tensor in huggingface_state(encoder.trunk.state_dict()).items()
    }
    state["masked_spec_embed"] = torch.zeros(config.encoder_embed_dim)  # of training there; never used here
    # Not by save_file, whose files have mode 600 whatever the umask.
    write_bytes(folder / "model.safetensors", safetensors.torch.save(state, metadata={"format": "pt"}))
    write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": config.sample_rate,
            "padding_side": "right",
            "padding_value": 0.0,
            "do_normalize": config.normalize_waveform,
            # group-norm models were trained without a mask and are run without one
            "return_attention_mask": config.extractor_mode == "layer_norm",
        },
    )
    model, extractor = loaded(folder, architecture)

    def outputs(wave: Tensor) -> Tensor:
        given = extractor(wave.numpy(), sampling_rate=config.sample_rate, return_tensors="pt").input_values
        if config.normalize_waveform:
            given = normalised(wave[None], torch.tensor([len(wave)]), epsilon=config.normalize_epsilon)
        return layers_of(model, given)

    note = (
        f"its extractor adds {EXTRACTOR_EPSILON:g} to a wave's variance before it divides, the run {config.normalize_epsilon:g}: "
        "of quiet speech the features differ a little more"
        if config.normalize_waveform and config.normalize_epsilon != EXTRACTOR_EPSILON
        else ""
    )
    code = (
        "from transformers import AutoFeatureExtractor, AutoModel\n"
        'given = AutoFeatureExtractor.from_pretrained(".")(wave[0].numpy(), sampling_rate='
        f'{config.sample_rate}, return_tensors="pt")\n'
        'layers = AutoModel.from_pretrained(".")(**given, output_hidden_states=True).hidden_states[1:]'
    )
    return Written("", f"transformers.{architecture}.from_pretrained({{path}})", code, outputs, note)


def loaded(folder: Path, architecture: str) -> tuple[Any, Any]:
    """The model and its extractor, as `transformers` reads the folder."""
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        library_missing("huggingface", install="pip install transformers")
    with quiet(transformers):
        model, loading = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    unread = sorted({*loading["missing_keys"], *loading["unexpected_keys"]})
    assert not unread, unread
    return model.eval(), extractor


@contextlib.contextmanager
def quiet(transformers: Any) -> Any:
    """No progress bars of loading, as long as it takes."""
    logging = transformers.utils.logging
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def layers_of(model: Any, given: Tensor) -> Tensor:
    """The output of every transformer layer itself, by hooks: versions of `transformers` do not agree on the last hidden state."""
    outputs: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, output: outputs.append(output[0] if isinstance(output, tuple) else output)
        )
        for layer in model.encoder.layers
    ]
    with torch.inference_mode():
        model(given)
    for hook in hooks:
        hook.remove()
    return torch.cat(outputs)
