"""Reads checkpoints of fairseq's wav2vec 2.0 and HuBERT, of s3prl (converted from those, and its distiller) and of Microsoft's WavLM.

All are one file of torch's that holds a configuration and the weights under fairseq's names; none of fairseq or s3prl is needed to
read one, and nothing is unpickled. Three layouts are met:

* `{"model": weights, "cfg": shape}`: WavLM as published; fairseq after the conversion that a refusal prints;
* `{"model_weight": weights, "model_cfg": shape, "task_cfg": ...}`: what s3prl converts fairseq's to;
* `{"Distiller": weights, "Config": {"distiller": shape}}`: DistilHuBERT (arXiv 2110.01900).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import torch

from manifests.errors import BadDocumentError, printable
from training.models.encoder import Encoder, EncoderConfig
from training.models.huggingface_format import WrongFamilyError, joined_attention
from training.models.native_format import filled, trained_on_beside
from training.models.torch_weights import PickledObjectsError, read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

NEEDED = "a checkpoint of fairseq, s3prl or WavLM is one file of weights"
DEFAULT_CONVOLUTIONS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
MOST_CONVOLUTIONS = 64
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
PREFIXES = ("w2v_encoder.w2v_model.", "w2v_model.")  # fine-tuned models hold the pre-trained one


def load_checkpoint_file(path: Path, *, name: str) -> Encoder:
    """An encoder from one file; heads of pre-training, fine-tuning or distillation are left out.

    Raises:
        MissingFileError: If there is no such file.
        PickledObjectsError: If it holds more than weights and plain containers.
        WrongFamilyError: If it is a model of another kind.
        BadDocumentError: If it is damaged, or its parts do not fit each other.
    """
    shape, weights, layout, normalise = parts_of(path)
    state = renamed(weights)
    if not any(key.startswith("encoder.transformer.layers.") for key in state):
        raise WrongFamilyError(path, "its weights have none of the names of wav2vec 2.0, HuBERT, WavLM or DistilHuBERT")
    config = encoder_config(shape, state, normalise=normalise, is_distiller=layout == "s3prl distiller", where=path)
    width, channels = config.encoder_embed_dim, config.extractor_conv_layer_config[-1][0]
    if width == channels and "encoder.feature_projection.projection.weight" not in state:
        # fairseq has no projection where sizes are equal
        if width * width > sum(tensor.numel() for tensor in state.values()):
            raise BadDocumentError(path, f"its configuration says {width} features, its weights are of fewer")
        state["encoder.feature_projection.projection.weight"] = torch.eye(width)
        state["encoder.feature_projection.projection.bias"] = torch.zeros(width)
    state = joined_attention(state) if config.family == "wavlm" else state
    trunk = filled(config, state, where=path, weights=path)
    # What is beside a single file belongs to it only where an export wrote both.
    trained_on = trained_on_beside(path.parent) if (path.parent / "export.json").is_file() else frozenset()
    facts = {"source": layout, "weights": path.name}
    return Encoder(trunk, config, name=name, trained_on=trained_on, facts=facts)


def parts_of(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor], str, bool]:
    """Shape, weights, layout and whether waves are normalised, of a checkpoint."""
    try:
        found = read_weights(path, needed=NEEDED)
    except PickledObjectsError:
        # s3prl's trainer keeps its command line beside the distiller, in a plain Namespace.
        found = read_weights(path, needed=NEEDED, namespace=True)
        if not isinstance(found, dict) or "Distiller" not in found:
            raise
    if not isinstance(found, dict):
        raise BadDocumentError(path, "expected a mapping with weights and their configuration")
    if "Distiller" in found:
        config = found.get("Config")
        shape = config.get("distiller") if isinstance(config, dict) else None
        parts: tuple[Any, Any, str, Any] = (shape, found["Distiller"], "s3prl distiller", False)
    elif "model_weight" in found:
        task = found.get("task_cfg")
        parts = (
            found.get("model_cfg"),
            found["model_weight"],
            "s3prl",
            task.get("normalize", False) if isinstance(task, dict) else False,
        )
    else:
        cfg = found.get("cfg")
        shape = cfg.get("model", cfg) if isinstance(cfg, dict) else None
        before = (
            shape.get("w2v_args") if isinstance(shape, dict) else None
        )  # a fine-tuned model holds the pre-trained one's
        if isinstance(before, dict):
            shape = before.get("model", before)
        task = cfg.get("task", cfg) if isinstance(cfg, dict) else {}
        normalise = task.get("normalize", False) if isinstance(task, dict) else False
        parts = (shape, found.get("model"), "fairseq", normalise)
    shape, weights, layout, normalise = parts
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise BadDocumentError(path, "holds no weights under the keys model, model_weight or Distiller")
    if not isinstance(shape, dict):
        raise BadDocumentError(
            path, "holds weights without the configuration of their model (cfg, model_cfg or Config)"
        )
    return shape, weights, layout, bool(normalise)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights under torchaudio's names; all others are left out."""
    prefix = next((start for start in PREFIXES if any(key.startswith(start) for key in weights)), "")
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        for pattern, ours in NAMES:
            match = pattern.fullmatch(key.removeprefix(prefix))
            if match is not None:
                found[match.expand(ours)] = tensor
                break
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


def encoder_config(
    shape: Mapping[str, Any], state: Mapping[str, Tensor], *, normalise: bool, is_distiller: bool, where: object
) -> EncoderConfig:
    """The shape under torchaudio's names; sizes that the weights show are not taken from the configuration.

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
    given = {
        "family": "wavlm" if is_wavlm else "wav2vec2",
        "sample_rate": 16000,
        "normalize_waveform": normalise,
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
    return EncoderConfig.parse(given, where=where)


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
