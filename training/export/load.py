"""Reads an export of a student back from its folder: what `stillroom export --to s3prl` and `--to torchaudio` wrote.

An export to Hugging Face is a folder of Hugging Face, and is read as one (`training.models.huggingface_format`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.json_yaml import read_json
from training.export.onnx import NAME as ONNX
from training.export.s3prl import NAME as DISTILLER
from training.export.torchaudio import NAME as BUILDER
from training.export.torchaudio import WEIGHTS
from training.models.encoder import Encoder, EncoderConfig
from training.models.fairseq_format import beside_path, load_checkpoint_file
from training.models.native_format import filled, trained_on_beside
from training.models.torch_weights import read_weights

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = f"an export to torchaudio holds {BUILDER} and {WEIGHTS}"


class OnnxError(StillroomError, ValueError):
    """An export that only onnxruntime runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{printable(folder)} is an export to ONNX, a graph without the weights' names: name the run it was made from, or "
            "export that to huggingface, s3prl or torchaudio"
        )


def is_export(folder: Path) -> bool:
    """Whether a folder is an export that is not read as a folder of another kind: one with a `config.json` of its own is that."""
    return not (folder / "config.json").is_file() and any(
        (folder / name).is_file() for name in (DISTILLER, BUILDER, ONNX)
    )


def export_files(folder: Path) -> list[Path]:
    """The files that hold weights and shape of an export."""
    if (folder / DISTILLER).is_file():
        return [folder / DISTILLER, beside_path(folder / DISTILLER)]
    return [folder / BUILDER, folder / WEIGHTS]


def load_export(folder: Path, *, name: str) -> Encoder:
    """The student of an export.

    Raises:
        OnnxError: If it is one to ONNX.
        BadDocumentError: If a file is damaged, or the two do not fit each other.
    """
    if (folder / DISTILLER).is_file():
        return load_checkpoint_file(folder / DISTILLER, name=name)
    if (folder / BUILDER).is_file():
        return load_torchaudio(folder, name=name)
    raise OnnxError(folder)


def load_torchaudio(folder: Path, *, name: str) -> Encoder:
    """A model from the arguments of torchaudio's builder and its weights."""
    where = folder / BUILDER
    found = read_json(where, needed=NEEDED)
    arguments = found.get("arguments") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(arguments, dict):
        raise BadDocumentError(where, "arguments: expected a mapping, the arguments of torchaudio's builder")
    ours = ("sample_rate", "normalize_waveform", "normalize_epsilon", "projection_norm")
    shape = {**arguments, **{key: found[key] for key in ours if key in found}}
    shape["family"] = "wavlm" if found.get("builder") == "wavlm_model" else "wav2vec2"
    config = EncoderConfig.parse(shape, where=where)
    path = folder / WEIGHTS
    opened = read_weights(path, needed=NEEDED)
    state = opened.tensors(opened.content)
    if state is None:
        raise BadDocumentError(path, "expected tensors by name")
    trunk = filled(config, state, where=where, weights=path)
    return Encoder(trunk, config, name=name, trained_on=trained_on_beside(folder))
