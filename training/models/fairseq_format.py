"""Reads checkpoints of fairseq's wav2vec 2.0 and HuBERT, of s3prl (converted from those, and its distiller) and of Microsoft's WavLM.

All are one file of torch's that holds a configuration and the weights; none of fairseq, s3prl, lightning or omegaconf is needed to
read one, and nothing is unpickled. These layouts are met, with whatever precedes the names (`module.`, `model.`):

* `{"model": weights, "cfg": shape}`: WavLM and UniSpeech-SAT as published; fairseq with hydra; `args` in fairseq before;
* `{"model_weight": weights, "model_cfg": shape, "task_cfg": ...}`: what s3prl converts fairseq's to;
* `{"Distiller": weights, "Config": {"distiller": shape}}`: DistilHuBERT (arXiv 2110.01900);
* `{"state_dict": weights, "config": arguments}`: torchaudio's names and builder, DPHuBERT's (arXiv 2305.17651), Lightning's;
* weights alone. What a file does not say may be in `NAME.encoder.json` beside it.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from manifests.errors import BadDocumentError, printable
from manifests.io.json_yaml import read_json
from training.models.encoder import Encoder
from training.models.huggingface_format import joined_attention, trunk_state
from training.models.native_format import (
    ScaleUnknownError,
    WrongFamilyError,
    filled,
    trained_on_beside,
    unprefixed,
)
from training.models.pickle_data import TooManyObjectsError, plain
from training.models.pruned import CHANNEL_SCALE, PrunedEncoderConfig, parsed_config, pruned_shape
from training.models.torch_weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

NEEDED = "a checkpoint of fairseq, s3prl or WavLM is one file of weights"
DEFAULT_CONVOLUTIONS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
MOST_CONVOLUTIONS = 64
TRUNK = ("feature_extractor.", "encoder.")
# fairseq's names on the left, torchaudio's on the right; the first that fits counts.
NAMES = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"feature_extractor\.conv_layers\.(\d+)\.0\.(weight|bias)", r"feature_extractor.conv_layers.\1.conv.\2"),
        (r"feature_extractor\.conv_layers\.(\d+)\.2(?:\.1)?\.(weight|bias)", r"feature_extractor.conv_layers.\1.layer_norm.\2"),
        (r"post_extract_proj\.(weight|bias)", r"encoder.feature_projection.projection.\1"),
        (r"layer_norm\.(weight|bias)", r"encoder.feature_projection.layer_norm.\1"),
        (r"encoder\.pos_conv\.0\.bias", r"encoder.transformer.pos_conv_embed.conv.bias"),
        (r"encoder\.pos_conv\.0\.weight_g", r"encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0"),
        (r"encoder\.pos_conv\.0\.weight_v", r"encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"),
        (r"encoder\.pos_conv\.0\.(parametrizations\..*)", r"encoder.transformer.pos_conv_embed.conv.\1"),
        (r"encoder\.layer_norm\.(weight|bias)", r"encoder.transformer.layer_norm.\1"),
        (r"encoder\.layers\.(\d+)\.self_attn\.grep_linear\.(.*)", r"encoder.transformer.layers.\1.attention.gru_rel_pos_linear.\2"),
        (r"encoder\.layers\.(\d+)\.self_attn\.grep_a", r"encoder.transformer.layers.\1.attention.gru_rel_pos_const"),
        (r"encoder\.layers\.(\d+)\.self_attn\.relative_attention_bias\.(.*)", r"encoder.transformer.layers.\1.attention.rel_attn_embed.\2"),
        (r"encoder\.layers\.(\d+)\.self_attn\.(.*)", r"encoder.transformer.layers.\1.attention.\2"),
        (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.(.*)", r"encoder.transformer.layers.\1.layer_norm.\2"),
        (r"encoder\.layers\.(\d+)\.fc1\.(.*)", r"encoder.transformer.layers.\1.feed_forward.intermediate_dense.\2"),
        (r"encoder\.layers\.(\d+)\.fc2\.(.*)", r"encoder.transformer.layers.\1.feed_forward.output_dense.\2"),
        (r"encoder\.layers\.(\d+)\.final_layer_norm\.(.*)", r"encoder.transformer.layers.\1.final_layer_norm.\2"),
    )
)  # fmt: skip
BACK = tuple(
    (re.compile(ours), theirs)
    for ours, theirs in (
        (r"feature_extractor\.conv_layers\.(\d+)\.conv\.(.*)", r"feature_extractor.conv_layers.\1.0.\2"),
        (r"feature_extractor\.conv_layers\.(\d+)\.layer_norm\.(.*)", r"feature_extractor.conv_layers.\1.2.\2"),
        (r"encoder\.feature_projection\.projection\.(.*)", r"post_extract_proj.\1"),
        (r"encoder\.transformer\.pos_conv_embed\.conv\.bias", r"encoder.pos_conv.0.bias"),
        (r"encoder\.transformer\.pos_conv_embed\.conv\.parametrizations\.weight\.original0", r"encoder.pos_conv.0.weight_g"),
        (r"encoder\.transformer\.pos_conv_embed\.conv\.parametrizations\.weight\.original1", r"encoder.pos_conv.0.weight_v"),
        (r"encoder\.transformer\.layer_norm\.(.*)", r"encoder.layer_norm.\1"),
        (r"encoder\.transformer\.layers\.(\d+)\.attention\.(.*)", r"encoder.layers.\1.self_attn.\2"),
        (r"encoder\.transformer\.layers\.(\d+)\.layer_norm\.(.*)", r"encoder.layers.\1.self_attn_layer_norm.\2"),
        (r"encoder\.transformer\.layers\.(\d+)\.feed_forward\.intermediate_dense\.(.*)", r"encoder.layers.\1.fc1.\2"),
        (r"encoder\.transformer\.layers\.(\d+)\.feed_forward\.output_dense\.(.*)", r"encoder.layers.\1.fc2.\2"),
        (r"encoder\.transformer\.layers\.(\d+)\.final_layer_norm\.(.*)", r"encoder.layers.\1.final_layer_norm.\2"),
    )
)  # fmt: skip
SHAPE_KEY = "encoder_embed_dim"
BESIDE_KEYS = "normalize_waveform, or all that `EncoderConfig` has"
TORCHAUDIO_NAMES = (
    (re.compile(r"(.*pos_conv_embed\.conv)\.weight_g"), r"\1.parametrizations.weight.original0"),
    (re.compile(r"(.*pos_conv_embed\.conv)\.weight_v"), r"\1.parametrizations.weight.original1"),
    (re.compile(r"feature_extractor\.dummy_weight"), CHANNEL_SCALE),
)


class Parts(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        shape: Its configuration; None if there is none.
        weights: By name.
        layout: Who writes such files.
        normalise: Whether waves are normalised; None if nothing says.
    """

    shape: Mapping[str, Any] | None
    weights: Mapping[str, Tensor]
    layout: str
    normalise: bool | None


def load_checkpoint_file(path: Path, *, name: str) -> Encoder:
    """An encoder from one file; heads of pre-training, fine-tuning or distillation are left out.

    Raises:
        MissingFileError: If there is no such file.
        PickledCodeError: If it names functions that no weights need.
        WrongFamilyError: If it is a model of another kind.
        ScaleUnknownError: If nothing says whether waves are normalised, and its features depend on it.
        BadDocumentError: If it is damaged, or its parts do not fit each other.
    """
    parts = parts_of(path)
    state, layout = torchaudio_names(parts.weights, where=path)
    shape = shape_of(parts, state, path=path)
    if shape.get("normalize_waveform") is None:
        if shape.get("extractor_mode") == "layer_norm":
            raise ScaleUnknownError(path, key="normalize_waveform", file=beside_path(path))
        shape["normalize_waveform"] = False
    config = parsed_config(shape, where=path)
    width, channels = config.encoder_embed_dim, config.extractor_conv_layer_config[-1][0]
    if width == channels and "encoder.feature_projection.projection.weight" not in state:
        # fairseq has no projection where sizes are equal
        if width * width > sum(tensor.numel() for tensor in state.values()):
            raise BadDocumentError(path, f"its configuration says {width} features, its weights are of fewer")
        state["encoder.feature_projection.projection.weight"] = torch.eye(width)
        state["encoder.feature_projection.projection.bias"] = torch.zeros(width)
    state = (
        joined_attention(state) if config.family == "wavlm" and not isinstance(config, PrunedEncoderConfig) else state
    )
    trunk = filled(config, state, where=path, weights=path)
    # What is beside a single file belongs to it only where an export wrote both.
    trained_on = trained_on_beside(path.parent) if (path.parent / "export.json").is_file() else frozenset()
    facts = {"source": parts.layout or layout, "weights": path.name}
    return Encoder(trunk, config, name=name, trained_on=trained_on, facts=facts)


def beside_path(path: Path) -> Path:
    """The file in which a user says of a checkpoint what it does not say itself."""
    return path.with_suffix(".encoder.json")


def read_beside(path: Path) -> dict[str, Any]:
    """What `NAME.encoder.json` says of the checkpoint `NAME.pt`; nothing if there is no such file."""
    beside = beside_path(path)
    found = read_json(beside, needed="the shape of a checkpoint") if beside.is_file() else {}
    if not isinstance(found, dict):
        raise BadDocumentError(beside, f"expected a mapping with {BESIDE_KEYS}")
    unknown = sorted(set(found) - set(PrunedEncoderConfig.model_fields)) if SHAPE_KEY not in found else []
    if unknown:
        raise BadDocumentError(beside, f"{printable(unknown[0])}: unknown key; expected {BESIDE_KEYS}")
    return found


def parts_of(path: Path) -> Parts:
    """Configuration and weights of a checkpoint, in whatever layout it is."""
    opened = read_weights(path, needed=NEEDED)
    found = opened.content
    if not isinstance(found, dict):
        raise BadDocumentError(path, "expected a mapping with weights and their configuration")
    try:
        if "Distiller" in found:
            config = plain(found.get("Config"))
            shape = config.get("distiller") if isinstance(config, dict) else None
            weights, layout = found["Distiller"], "s3prl distiller"
            normalise: bool | None = False
        elif "model_weight" in found:
            shape, weights, layout = plain(found.get("model_cfg")), found["model_weight"], "s3prl"
            normalise = said([plain(found.get("task_cfg"))])
        elif "model" in found or "state_dict" in found:
            weights, layout = found.get("model", found.get("state_dict")), ""
            keys = ("cfg", "args", "config", "hyper_parameters")
            config = plain(next((found[key] for key in keys if found.get(key) is not None), None))
            shape, normalise = fairseq_parts(config) if isinstance(config, dict) else (None, None)
            if (
                "model" not in found
                and shape is not None
                and not {"encoder_layers", "encoder_num_layers"} & shape.keys()
            ):
                shape = None  # Lightning's settings of another kind
        else:
            shape, weights, layout, normalise = None, found, "", None
    except TooManyObjectsError:
        raise BadDocumentError(path, "its configuration has more parts than any; refused") from None
    tensors = opened.tensors(weights)
    if tensors is None:
        raise BadDocumentError(path, "holds no weights under the keys model, model_weight, state_dict or Distiller")
    return Parts(shape if isinstance(shape, dict) else None, tensors, layout, normalise)


def fairseq_parts(config: Mapping[str, Any]) -> tuple[dict[str, Any] | None, bool | None]:
    """The model's part of a configuration, and whether waves are normalised.

    Of a command line (fairseq before hydra) all is in one mapping, where `task` is a word; a fine-tuned model holds the configuration
    of the pre-trained one.
    """
    shape = config.get("model", config)
    shape = shape if isinstance(shape, dict) else config
    places = [config.get("task"), config, shape]
    before = shape.get("w2v_args")
    if isinstance(before, dict):
        shape = before.get("model", before)
        places += [before.get("task"), before]
    return (shape if isinstance(shape, dict) else None), said(places)


def said(places: Sequence[Any]) -> bool | None:
    """The first of some configurations that says whether waves are normalised."""
    found = [
        place["normalize"] for place in places if isinstance(place, dict) and isinstance(place.get("normalize"), bool)
    ]
    return found[0] if found else None


def torchaudio_names(weights: Mapping[str, Tensor], *, where: object) -> tuple[dict[str, Tensor], str]:
    """The encoder's weights under torchaudio's names, and whose names they had.

    Raises:
        WrongFamilyError: If they are of no model that is read.
    """
    bare = unprefixed(weights, where=where)
    if any(key.startswith("encoder.transformer.") for key in bare):
        layout, state = "torchaudio", renamed(bare, TORCHAUDIO_NAMES, others=True)
    elif any(key.startswith("feature_projection.") for key in bare):
        layout, state = "huggingface", trunk_state(bare, where=where)
    else:
        layout, state = "fairseq", renamed(bare, NAMES, others=False)
    if not any(key.startswith("encoder.transformer.layers.") for key in state):
        raise WrongFamilyError(
            where, "its weights have none of the names of wav2vec 2.0, HuBERT, WavLM or DistilHuBERT"
        )
    return state, layout


def shape_of(parts: Parts, state: Mapping[str, Tensor], *, path: Path) -> dict[str, Any]:
    """The fields of an `EncoderConfig`, from the checkpoint and from what is beside it.

    Raises:
        BadDocumentError: If neither has a shape.
    """
    beside = read_beside(path)
    if SHAPE_KEY in beside:
        return torchaudio_shape(beside, state, where=beside_path(path))
    if parts.shape is not None and "encoder_num_layers" in parts.shape:
        return {**torchaudio_shape(parts.shape, state, where=path), **beside}
    if parts.shape is None:
        raise BadDocumentError(
            path,
            "holds weights without the configuration of their model (cfg, model_cfg, Config or config); put torchaudio's "
            f"arguments for it into {printable(beside_path(path).name)}",
        )
    shape = fairseq_shape(parts.shape, state, is_distiller=parts.layout == "s3prl distiller", where=path)
    return {**shape, "normalize_waveform": parts.normalise, **beside}


def torchaudio_shape(given: Mapping[str, Any], state: Mapping[str, Tensor], *, where: object) -> dict[str, Any]:
    """The arguments of torchaudio's builders, or of DPHuBERT's, and any other field of `EncoderConfig`."""
    shape = dict(given)
    if "encoder_use_attention" in shape:
        shape = pruned_shape(shape, scales_channels=CHANNEL_SCALE in state, where=where)
    is_wavlm = any(".gru_rel_pos_const" in key for key in state)
    if shape.get("extractor_conv_layer_config") is None:
        shape["extractor_conv_layer_config"] = convolutions(DEFAULT_CONVOLUTIONS, where=where)
    return {"family": "wavlm" if is_wavlm else "wav2vec2", **shape, "aux_num_out": None}


def renamed(
    weights: Mapping[str, Tensor], names: Sequence[tuple[re.Pattern[str], str]], *, others: bool
) -> dict[str, Tensor]:
    """Weights under torchaudio's names; those that no pattern fits are kept (`others`) or left out, heads always."""
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        for pattern, ours in names:
            match = pattern.fullmatch(key)
            if match is not None:
                found[match.expand(ours)] = tensor
                break
        else:
            if others and key.startswith(TRUNK):
                found[key] = tensor
    return found


def fairseq_name(name: str) -> str:
    """The name in fairseq of one of torchaudio's weights: `renamed` the other way round, for wav2vec 2.0 and HuBERT.

    Only group norms: layer norms of convolutions are one module deeper there.
    """
    for pattern, theirs in BACK:
        match = pattern.fullmatch(name)
        if match is not None:
            return match.expand(theirs)
    raise AssertionError(name)


def fairseq_shape(
    shape: Mapping[str, Any], state: Mapping[str, Tensor], *, is_distiller: bool, where: object
) -> dict[str, Any]:
    """The configuration of fairseq under torchaudio's names; sizes that the weights show are not taken from it.

    Raises:
        BadDocumentError: If the configuration has no such shape.
    """
    if shape.get("activation_fn", "gelu") != "gelu" or shape.get("attention_type", "original") != "original":
        raise WrongFamilyError(where, "its activation is not gelu, or its attention not the original one")
    layers = {int(key.split(".")[3]) for key in state if key.startswith("encoder.transformer.layers.")}
    is_wavlm = any(".gru_rel_pos_const" in key for key in state)
    first = "encoder.transformer.layers.0."
    buckets = state.get(first + "attention.rel_attn_embed.weight")
    is_hubert = is_distiller or "label_rate" in shape or "untie_final_proj" in shape
    return {
        "family": "wavlm" if is_wavlm else "wav2vec2",
        "sample_rate": 16000,
        "projection_norm": "encoder.feature_projection.layer_norm.weight" in state,
        "pretrained_as": "wavlm" if is_wavlm else "hubert" if is_hubert else "wav2vec2",
        "extractor_mode": "layer_norm" if shape.get("extractor_mode") == "layer_norm" else "group_norm",
        "extractor_conv_layer_config": convolutions(convolution_text(shape), where=where),
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "encoder_embed_dim": width_of(state, first + "final_layer_norm.weight", where=where),
        "encoder_projection_dropout": 0.0 if is_distiller else shape.get("dropout_input", 0.0),
        "encoder_pos_conv_kernel": shape.get("conv_pos", 128),
        "encoder_pos_conv_groups": shape.get("conv_pos_groups", 16),
        "encoder_num_layers": max(layers) + 1,
        "encoder_num_heads": shape.get("encoder_attention_heads", 12),
        "encoder_num_buckets": len(buckets) if buckets is not None else None,
        "encoder_max_distance": shape.get("max_distance", 1280) if is_wavlm else None,
        "encoder_attention_dropout": shape.get("attention_dropout", 0.1),
        "encoder_ff_interm_features": width_of(state, first + "feed_forward.intermediate_dense.bias", where=where),
        "encoder_ff_interm_dropout": shape.get("activation_dropout", 0.0),
        "encoder_dropout": shape.get("dropout", 0.1),
        "encoder_layer_norm_first": bool(shape.get("layer_norm_first", False)),
        "encoder_layer_drop": shape.get("encoder_layerdrop", 0.0),
    }


def width_of(state: Mapping[str, Tensor], name: str, *, where: object) -> int:
    """Length of a vector among the weights."""
    if name not in state:
        raise BadDocumentError(where, f"lacks the weight {name}")
    return len(state[name])


def convolution_text(shape: Mapping[str, Any]) -> object:
    """The convolutions as a configuration writes them."""
    return shape.get("conv_feature_layers", shape.get("extractor_conv_feature_layers", DEFAULT_CONVOLUTIONS))


def convolutions(text: object, *, where: object) -> list[list[int]]:
    """Channels, kernel and stride of each layer from fairseq's notation, `[(512,10,5)] + [(512,3,2)] * 4`, read without eval.

    Raises:
        BadDocumentError: If it is written otherwise.
    """
    try:
        found = listed(ast.parse(str(text)[:4000], mode="eval").body)
        if all(len(layer) == 3 for layer in found):
            return found
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    raise BadDocumentError(
        where, f"conv_feature_layers: {printable(text)!r} is not a list of (channels, kernel, stride)"
    )


def listed(node: ast.expr) -> list[list[int]]:
    """A sum of lists of tuples of whole numbers, each perhaps times a whole number."""
    match node:
        case ast.List(elts=items):
            return [[int(number) for number in ast.literal_eval(item)] for item in items]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = listed(left) + listed(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))) if (
            0 < times <= MOST_CONVOLUTIONS
        ):
            found = listed(left) * times
        case _:
            raise ValueError("not a sum of lists")
    if len(found) > MOST_CONVOLUTIONS:
        raise ValueError("too many layers")
    return found
