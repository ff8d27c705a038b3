"""Hugging Face's folders of the wav2vec 2.0 family, read into torchaudio's modules and written from them.

Nothing of `transformers` is needed to read one. The two libraries name the same parameters almost alike; what differs is in
`RENAMED`. Layer k is the output of transformer layer k, Hugging Face's `hidden_states[k]`. `last_hidden_state` (and before version 5
of `transformers` the last of `hidden_states`) of a model with layer norm first is that of the last layer after a final norm.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manifests.errors import BadDocumentError, MissingFileError, printable
from manifests.faults import faults
from manifests.io.json_yaml import read_json, safe_relative
from training.models.encoder import Encoder, EncoderConfig
from training.models.native_format import (
    OTHER_MODELS,
    WrongFamilyError,
    filled,
    read_safetensors,
    trained_on_beside,
    unprefixed,
)
from training.models.torch_weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

EXTRACTOR_EPSILON = 1e-7  # of Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm
# What each model type was trained as; UniSpeech is wav2vec 2.0 in shape and objective, UniSpeech-SAT is HuBERT.
FAMILIES: dict[object, Literal["wav2vec2", "hubert", "wavlm"]] = {
    "wav2vec2": "wav2vec2",
    "hubert": "hubert",
    "wavlm": "wavlm",
    "unispeech": "wav2vec2",
    "unispeech-sat": "hubert",
}
OTHERS = {
    "data2vec-audio": "data2vec",
    "sew": "sew",
    "sew-d": "sew",
    "wav2vec2-bert": "w2v-bert",
    "wav2vec2-conformer": "conformer",
}
NEEDED = "a Hugging Face folder holds config.json and model.safetensors or pytorch_model.bin"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TRUNKS = ("feature_extractor.", "feature_projection.", "encoder.")
POSITION = "pos_conv_embed.conv."
RENAMED = (
    (POSITION + "weight_g", POSITION + "parametrizations.weight.original0"),
    (POSITION + "weight_v", POSITION + "parametrizations.weight.original1"),
)
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class HuggingFaceConfig(BaseModel):
    """The keys of a `config.json` that are read; defaults are those of `transformers`, other keys do not change a layer's output."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat"]
    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    conv_dim: tuple[Count, ...] = (512,) * 7
    conv_kernel: tuple[Count, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[Count, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_proj_layer_norm: bool = True
    num_conv_pos_embeddings: Count = 128
    num_conv_pos_embedding_groups: Count = 16
    do_stable_layer_norm: bool = False
    num_buckets: Count = 320
    max_bucket_distance: Count = 800
    hidden_act: Literal["gelu"] = "gelu"
    feat_extract_activation: Literal["gelu"] = "gelu"
    layer_norm_eps: Annotated[float, Field(ge=1e-5, le=1e-5)] = 1e-5
    conv_pos_batch_norm: Literal[False] = False
    adapter_attn_dim: None = None
    attention_dropout: Share = 0.1
    activation_dropout: Share = 0.1
    hidden_dropout: Share = 0.1
    feat_proj_dropout: Share = 0.0
    layerdrop: Share = 0.1

    def encoder_config(self, *, normalise: bool, sample_rate: int, where: object) -> EncoderConfig:
        """The same shape under torchaudio's names.

        Raises:
            BadDocumentError: If a size is beyond reason.
        """
        given = {
            "family": "wavlm" if self.model_type == "wavlm" else "wav2vec2",
            "sample_rate": sample_rate,
            "normalize_waveform": normalise,
            "normalize_epsilon": EXTRACTOR_EPSILON,
            "projection_norm": self.feat_proj_layer_norm,
            "pretrained_as": FAMILIES[self.model_type],
            "extractor_mode": "group_norm" if self.feat_extract_norm == "group" else "layer_norm",
            "extractor_conv_layer_config": tuple(zip(self.conv_dim, self.conv_kernel, self.conv_stride, strict=True)),
            "extractor_conv_bias": self.conv_bias,
            "encoder_embed_dim": self.hidden_size,
            "encoder_projection_dropout": self.feat_proj_dropout,
            "encoder_pos_conv_kernel": self.num_conv_pos_embeddings,
            "encoder_pos_conv_groups": self.num_conv_pos_embedding_groups,
            "encoder_num_layers": self.num_hidden_layers,
            "encoder_num_heads": self.num_attention_heads,
            "encoder_num_buckets": self.num_buckets if self.model_type == "wavlm" else None,
            "encoder_max_distance": self.max_bucket_distance if self.model_type == "wavlm" else None,
            "encoder_attention_dropout": self.attention_dropout,
            "encoder_ff_interm_features": self.intermediate_size,
            "encoder_ff_interm_dropout": self.activation_dropout,
            "encoder_dropout": self.hidden_dropout,
            "encoder_layer_norm_first": self.do_stable_layer_norm,
            "encoder_layer_drop": self.layerdrop,
        }
        return EncoderConfig.parse(given, where=where)


def is_huggingface(folder: Path) -> bool:
    """Whether a folder's `config.json` is Hugging Face's: it names a model type, ours does not."""
    path = folder / "config.json"
    if not path.is_file() or (folder / "weights.safetensors").is_file():
        return False
    config = read_json(path, needed=NEEDED)
    return isinstance(config, dict) and ("model_type" in config or any((folder / name).exists() for name in WEIGHTS))


def load_huggingface(folder: Path, *, name: str) -> Encoder:
    """An encoder from a Hugging Face folder; heads of fine-tuning or pre-training are left out.

    Raises:
        WrongFamilyError: If it is a model of another kind.
        BadDocumentError: If a file is damaged, or weights and config do not fit each other.
        MissingFileError: If there are no weights.
        PickledCodeError: If a `.bin` holds more than weights.
    """
    found = read_config(folder / "config.json")
    normalise, sample_rate = preprocessing(folder, found)
    config = found.encoder_config(normalise=normalise, sample_rate=sample_rate, where=folder / "config.json")
    path, weights = read_state(folder)
    state = trunk_state(weights, where=path)
    state = joined_attention(state) if config.family == "wavlm" else state
    trunk = filled(config, state, where=folder / "config.json", weights=path)
    facts = {"source": "huggingface", "model_type": found.model_type, "weights": path.name}
    return Encoder(trunk, config, name=name, trained_on=trained_on_beside(folder), facts=facts)


def read_config(path: Path) -> HuggingFaceConfig:
    """A checked `config.json`.

    Raises:
        WrongFamilyError: If it is that of another kind of model.
    """
    data = read_json(path, needed=NEEDED)
    if not isinstance(data, dict):
        raise BadDocumentError(path, "expected a mapping")
    kind = data.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        also = f", so it {OTHER_MODELS[OTHERS[kind]]}" if isinstance(kind, str) and kind in OTHERS else ""
        raise WrongFamilyError(path, f"model_type is {printable(kind)!r}{also}")
    if data.get("adapter_attn_dim") is not None:
        raise WrongFamilyError(path, OTHER_MODELS["mms"])
    given = {key: value for key, value in data.items() if value is not None}
    try:
        config = HuggingFaceConfig.model_validate(given)
    except ValidationError as problem:
        raise WrongFamilyError(path, faults(problem, HuggingFaceConfig)) from None
    if not len(config.conv_dim) == len(config.conv_kernel) == len(config.conv_stride):
        raise BadDocumentError(path, "conv_dim, conv_kernel and conv_stride have different lengths")
    return config


def preprocessing(folder: Path, config: HuggingFaceConfig) -> tuple[bool, int]:
    """Whether waves are normalised, and their rate: from `preprocessor_config.json`; without it, by the kind of norm."""
    path = folder / "preprocessor_config.json"
    found = read_json(path, needed="preprocessing") if path.is_file() else {}
    if not isinstance(found, dict):
        raise BadDocumentError(path, "expected a mapping")
    normalise = found.get("do_normalize", config.feat_extract_norm == "layer")
    sample_rate = found.get("sampling_rate", 16000)
    if not isinstance(normalise, bool):
        raise BadDocumentError(path, f"do_normalize: expected true or false, got {printable(normalise)!r}")
    if not isinstance(sample_rate, int) or isinstance(sample_rate, bool) or not 1000 <= sample_rate <= 384_000:
        raise BadDocumentError(
            path, f"sampling_rate: expected a rate in Hz from 1000 to 384000, got {printable(sample_rate)!r}"
        )
    return normalise, sample_rate


def read_state(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """All weights of a folder, in one file or in several with an index, and the file to name in an error."""
    named, *parts = weight_files(folder)
    return named, {key: tensor for part in parts or [named] for key, tensor in read_part(part).items()}


def weight_files(folder: Path) -> list[Path]:
    """The file of weights that is read; or an index, and the files that it names.

    Raises:
        MissingFileError: If there is neither.
    """
    for name in WEIGHTS:
        path = folder / name
        index = folder / f"{name}.index.json"
        if path.is_file():
            return [path]
        if index.is_file():
            data = read_json(index, needed=NEEDED)
            places = data.get("weight_map") if isinstance(data, dict) else None
            if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
                raise BadDocumentError(index, "weight_map: expected a mapping of names to files")
            return [index, *(folder / safe_relative(part, where=index) for part in sorted(set(places.values())))]
    raise MissingFileError(folder / WEIGHTS[0], needed=NEEDED)


def huggingface_files(folder: Path) -> list[Path]:
    """The files that hold weights and shape of a folder, there or not."""
    return [folder / "config.json", folder / "preprocessor_config.json", *weight_files(folder)]


def read_part(path: Path) -> dict[str, Tensor]:
    """One file of weights."""
    if path.suffix == ".safetensors":
        return read_safetensors(path, needed=NEEDED)
    opened = read_weights(path, needed=NEEDED)
    found = opened.tensors(opened.content)
    if found is None:
        raise BadDocumentError(path, "expected a mapping of names to tensors")
    return found


def trunk_state(state: Mapping[str, Tensor], *, where: object) -> dict[str, Tensor]:
    """The encoder's weights under torchaudio's names.

    Raises:
        BadDocumentError: If no weight is an encoder's.
        WrongFamilyError: If they are those of another kind of model.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in unprefixed(state, where=where).items():
        name = key
        if not name.startswith(TRUNKS):
            continue
        for theirs, ours in RENAMED:
            name = name.replace(theirs, ours)
        if name.startswith("encoder."):
            name = "encoder.transformer." + name.removeprefix("encoder.")
        elif name.startswith("feature_projection."):
            name = "encoder." + name
        found[name] = tensor
    if not found:
        raise BadDocumentError(where, "holds no weights of an encoder")
    return found


def joined_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """WavLM's query, key and value projections joined in one, as torchaudio has them."""
    found = dict(state)
    for name in state:
        match = re.fullmatch(r"(.*\.attention)\.q_proj\.(weight|bias)", name)
        if match is not None:
            start, kind = match.groups()
            parts = [found.pop(f"{start}.{part}_proj.{kind}", None) for part in "qkv"]
            whole = [part for part in parts if part is not None]
            found[f"{start}.attention.in_proj_{kind}"] = torch.cat(whole)
        elif ".attention.out_proj." in name and ".attention.attention." not in name:
            found[name.replace(".attention.out_proj.", ".attention.attention.out_proj.")] = found.pop(name)
    return found


def huggingface_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trunk's weights under Hugging Face's names."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        key = name.removeprefix("encoder.transformer.")
        key = f"encoder.{key}" if key != name else name.removeprefix("encoder.")
        joined = re.fullmatch(r"(.*\.attention)\.attention\.in_proj_(weight|bias)", key)
        if joined is not None:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{joined[1]}.{part}_proj.{joined[2]}"] = piece.contiguous()
        else:
            found[key.replace(".attention.attention.out_proj.", ".attention.out_proj.")] = tensor
    return found


def huggingface_config(config: EncoderConfig) -> dict[str, Any]:
    """An encoder's shape under Hugging Face's names; with its `model_type`."""
    model_type = model_type_of(config)
    dims, kernels, strides = zip(*config.extractor_conv_layer_config, strict=True)
    shape: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": config.encoder_embed_dim,
        "num_hidden_layers": config.encoder_num_layers,
        "num_attention_heads": config.encoder_num_heads,
        "intermediate_size": config.encoder_ff_interm_features,
        "conv_dim": list(dims),
        "conv_kernel": list(kernels),
        "conv_stride": list(strides),
        "num_feat_extract_layers": len(dims),
        "conv_bias": config.extractor_conv_bias,
        "feat_extract_norm": "group" if config.extractor_mode == "group_norm" else "layer",
        "num_conv_pos_embeddings": config.encoder_pos_conv_kernel,
        "num_conv_pos_embedding_groups": config.encoder_pos_conv_groups,
        "do_stable_layer_norm": config.encoder_layer_norm_first,
        "attention_dropout": config.encoder_attention_dropout,
        "activation_dropout": config.encoder_ff_interm_dropout,
        "hidden_dropout": config.encoder_dropout,
        "feat_proj_dropout": config.encoder_projection_dropout,
        "layerdrop": config.encoder_layer_drop,
        "apply_spec_augment": False,
    }
    if model_type == "wavlm":
        shape |= {"num_buckets": config.encoder_num_buckets, "max_bucket_distance": config.encoder_max_distance}
    if model_type == "hubert":
        shape["feat_proj_layer_norm"] = config.projection_norm
    return shape


def model_type_of(config: EncoderConfig) -> Literal["wav2vec2", "hubert", "wavlm"]:
    """The model type of an encoder: what it was trained as; HuBERT's where that is not known or the only one that fits."""
    if config.family == "wavlm":
        return "wavlm"
    return "wav2vec2" if config.pretrained_as == "wav2vec2" and config.projection_norm else "hubert"
