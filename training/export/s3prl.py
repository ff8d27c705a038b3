"""Writes a DistilHuBERT student, with its heads, as a checkpoint of s3prl's distiller upstream."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import torch

from manifests.io.atomic import write_bytes
from training.export.format import NotExportableError, Written, library_missing, saved
from training.models.fairseq_format import fairseq_name

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.models.encoder import EncoderConfig
    from training.runs.checkpoint import TrainedStudent

NAME = "distiller.ckpt"


def write_s3prl(trained: TrainedStudent, folder: Path) -> Written:
    """Write the checkpoint and load it into s3prl's model.

    Raises:
        NotExportableError: If the student has not the shape that s3prl's distiller has.
    """
    config = trained.encoder.config
    reasons = misfits(config, trained.heads)
    if reasons:
        raise NotExportableError(
            trained.encoder.name,
            form="s3prl",
            why=reasons,
            instead="write it with --to huggingface, torchaudio or onnx",
        )
    num_targets, _, num_features = trained.heads["weight"].shape
    layers = list(trained.encoder.facts.get("teacher_layers") or range(1, num_targets + 1))
    shape = distiller_shape(config, num_features=num_features, layers=layers)
    state = {fairseq_name(name): tensor.clone() for name, tensor in trained.encoder.trunk.state_dict().items()}
    state |= head_state(trained.heads)
    write_bytes(folder / NAME, saved({"Config": {"distiller": shape}, "Distiller": state}))
    model = loaded(folder / NAME)

    def outputs(wave: Tensor) -> Tensor:
        with torch.inference_mode():
            hidden = model(wave[None], torch.ones(1, len(wave)), get_hidden=True)[4]
            return torch.cat(list(hidden))

    code = (
        "from s3prl.upstream.distiller.expert import UpstreamExpert\n"
        f'model = UpstreamExpert("{NAME}").eval()\n'
        f'layers = model([wave[0]])["hidden_states"][1 : {1 + config.encoder_num_layers}]  # predictions follow'
    )
    return Written(NAME, "s3prl.upstream.distiller.expert.UpstreamExpert({path})", code, outputs)


def misfits(config: EncoderConfig, heads: dict[str, Tensor]) -> list[str]:
    """What of a student s3prl's distiller cannot represent, each with what would have been needed."""
    found = {
        "its heads are not DistilHuBERT's (student.predict: last)": "expand.weight" not in heads,
        "it has a layer norm before the projection (train with student.projection_norm: false)": config.projection_norm,
        "it is of WavLM's kind": config.family == "wavlm",
        "its waves are normalised": config.normalize_waveform,
        "its convolutions have layer norms or a bias": config.extractor_mode == "layer_norm"
        or config.extractor_conv_bias,
        "its layer norms come first": config.encoder_layer_norm_first,
        "its width is that of the convolutions": config.encoder_embed_dim == config.extractor_conv_layer_config[-1][0],
    }
    return [reason for reason, holds in found.items() if holds]


def distiller_shape(config: EncoderConfig, *, num_features: int, layers: list[int]) -> dict[str, Any]:
    """The configuration under s3prl's names."""
    convolutions = [tuple(layer) for layer in config.extractor_conv_layer_config]
    return {
        "extractor_mode": "default",
        "extractor_conv_feature_layers": str(convolutions),
        "extractor_dropout": 0.0,
        "feature_grad_mult": 0.1,
        "conv_pos": config.encoder_pos_conv_kernel,
        "conv_pos_groups": config.encoder_pos_conv_groups,
        "encoder_layers": config.encoder_num_layers,
        "encoder_embed_dim": config.encoder_embed_dim,
        "encoder_ffn_embed_dim": config.encoder_ff_interm_features,
        "encoder_attention_heads": config.encoder_num_heads,
        "activation_fn": "gelu",
        "layer_norm_first": False,
        "attention_type": "original",
        "dropout": config.encoder_dropout,
        "attention_dropout": config.encoder_attention_dropout,
        "activation_dropout": config.encoder_ff_interm_dropout,
        "encoder_layerdrop": 0.0,
        "final_dim": num_features,
        "out_layer_type": "expand-last",
        "out_layer_inter_dim": -1,
        "n_tasks": len(layers),
        "task_emb_type": "expand-last",
        "pred_layer_id": layers,
        "loss_type": "l1",
        "cosine_loss": 1.0,
    }


def head_state(heads: dict[str, Tensor]) -> dict[str, Tensor]:
    """The heads under s3prl's names; a single one is a plain linear layer there."""
    found = {"output_layer.0.weight": heads["expand.weight"], "output_layer.0.bias": heads["expand.bias"]}
    if len(heads["weight"]) == 1:
        found |= {"output_layer.2.layer.weight": heads["weight"][0].T, "output_layer.2.layer.bias": heads["bias"][0, 0]}
    else:
        found |= {"output_layer.2.weight": heads["weight"], "output_layer.2.bias": heads["bias"][None, None, :, 0]}
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def loaded(path: Path) -> Any:
    """s3prl's model with the weights of a checkpoint."""
    try:
        library = importlib.import_module("s3prl.upstream.distiller.model")
    except ImportError:
        library_missing("s3prl", install="pip install s3prl==0.4.18")
    found = torch.load(path, map_location="cpu", weights_only=True)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints its configuration
        warnings.simplefilter("ignore", FutureWarning)
        model = library.DistillerModel(library.DistillerConfig(found["Config"]["distiller"]))
    model.load_state_dict(found["Distiller"])
    return model.eval()
