"""Reads an encoder from a folder: `config.json`, `weights.safetensors`, its training audio in `heard.txt`, facts in `card.json`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, StillroomError, printable
from manifests.io.digest import bytes_digest
from manifests.io.json_yaml import read_bytes, read_json
from training.models.encoder import Encoder
from training.models.pruned import parsed_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor
    from torchaudio.models import Wav2Vec2Model

    from manifests.io.place import Place
    from training.models.encoder import EncoderConfig

MOST_PARAMETERS = 10_000_000_000
MOST_TENSORS = 100_000  # the largest model that is read has some thousands
NEEDED = "a teacher's folder holds config.json and weights.safetensors"
FIRST_PART = "feature_extractor.conv_layers."
OTHER_WEIGHTS = (
    (re.compile(r"(^|\.)modality_encoders\."), "data2vec 2.0"),
    (re.compile(r"encoder\.pos_conv\.\d+\.0\.|pos_conv_embed\.layers\.\d+\."), "data2vec"),
    (re.compile(r"\.adapter_layer\."), "mms"),
    (re.compile(r"(^|\.)encoder\.(upsample|pool)\."), "sew"),
    (re.compile(r"\.(conv_module|conformer)\b"), "conformer"),
)
OTHER_MODELS = {
    "data2vec": "is a data2vec model, whose position embedding is five convolutions",
    "data2vec 2.0": "is a data2vec 2.0 model, whose position embedding is five convolutions in an encoder of its own",
    "mms": "has MMS's adapters of a language in each layer; use mms-300m or mms-1b, which have none",
    "sew": "is a SEW model, whose transformer runs on frames squeezed to half their rate",
    "w2v-bert": "is a w2v-BERT 2.0 model, which reads mel filter banks, and whose layers are conformer layers",
    "conformer": "is a model of conformer layers",
}


class WrongFamilyError(StillroomError, ValueError):
    """A model of a family that is not read."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(
            f"{printable(where)}: {what}; models of the families wav2vec2, hubert, wavlm, unispeech and unispeech-sat can be read, "
            "no others"
        )


class ScaleUnknownError(StillroomError, ValueError):
    """A model with layer norm in its convolutions, and nothing says whether its waves are normalised."""

    def __init__(self, where: object, *, key: str, file: object) -> None:
        super().__init__(
            f"{printable(where)}: nothing in it says whether each wave is brought to zero mean and unit variance first, and its features "
            f"depend on that (its extractor has layer norm): put {{{json.dumps(key)}: true}}, or false, into {printable(file)}"
        )


def load_encoder_folder(folder: Path, *, name: str) -> Encoder:
    """An encoder from `config.json`, `weights.safetensors` and, where there are any, `heard.txt` and `card.json`.

    Raises:
        MissingFileError: If one of the first two is not there.
        BadDocumentError: If a file is damaged, or the two do not fit each other.
    """
    config = parsed_config(read_json(folder / "config.json", needed=NEEDED), where=folder / "config.json")
    path = folder / "weights.safetensors"
    trunk = filled(config, read_safetensors(path, needed=NEEDED), where=folder / "config.json", weights=path)
    card = folder / "card.json"
    return Encoder(
        trunk,
        config,
        name=name,
        trained_on=trained_on_beside(folder),
        facts=read_json(card, needed="a card") if card.exists() else None,
    )


def built(config: EncoderConfig, *, where: object) -> Wav2Vec2Model:
    """A model of a configured shape with random weights.

    Raises:
        BadDocumentError: If there can be no such model: heads that do not divide the width, and the like.
    """
    outlined(config, where=where)
    return config.build()


def outlined(config: EncoderConfig, *, where: object) -> Wav2Vec2Model:
    """A model of an untrusted shape without memory, on torch's device `meta`: a few numbers in a config could need terabytes.

    Raises:
        BadDocumentError: If there can be no such model.
    """
    try:
        with torch.device("meta"):
            outline = config.build()
    except (ValueError, AssertionError, TypeError, RuntimeError, ArithmeticError) as problem:
        raise BadDocumentError(where, f"describes no model: {printable(first_misfit(problem))}") from None
    size = sum(parameter.numel() for parameter in outline.parameters())
    if size > MOST_PARAMETERS:
        raise BadDocumentError(
            where, f"describes a model of {size:.1e} parameters; refused above {MOST_PARAMETERS:.0e}"
        )
    return outline


def filled(config: EncoderConfig, state: Mapping[str, Tensor], *, where: object, weights: object) -> Wav2Vec2Model:
    """A model of an untrusted shape with untrusted weights, in float32; they are not copied, so they are in memory once.

    Args:
        config: The shape.
        state: The weights, by torchaudio's names.
        where: The config, for messages.
        weights: The file of weights, for messages.

    Raises:
        BadDocumentError: If there can be no such model, or the weights are not its own.
    """
    trunk = outlined(config, where=where)
    own = {name: tensor.to(torch.float32).contiguous() for name, tensor in state.items()}
    try:
        trunk.load_state_dict(own, assign=True)
    except RuntimeError as problem:
        raise BadDocumentError(weights, f"does not fit its config: {printable(first_misfit(problem))}") from None
    return trunk


def read_safetensors(path: Path, *, needed: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory of their own: its library maps the file, and one that is cut would end the process.

    Raises:
        MissingFileError: If there is none.
        BadDocumentError: If it is damaged.
    """
    if not path.exists():
        raise MissingFileError(path, needed=needed)
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            count = len(stream.keys())
        if count > MOST_TENSORS:
            raise BadDocumentError(path, f"has {count} tensors, expected at most {MOST_TENSORS}")
        return {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
    except safetensors.SafetensorError as problem:
        raise BadDocumentError(path, f"is not a safetensors file: {printable(problem)}") from None


def unprefixed(weights: Mapping[str, Tensor], *, where: object) -> dict[str, Tensor]:
    """A model's weights without what precedes their names (`module.`, `model.` of Lightning, `w2v_encoder.w2v_model.`, `wav2vec2.`).

    It is whatever precedes the first convolutions; weights that have another beginning are heads, and are left out.

    Raises:
        WrongFamilyError: If the names show a model of another kind.
        BadDocumentError: If there are several models.
    """
    for pattern, family in OTHER_WEIGHTS:
        if any(pattern.search(name) for name in weights):
            raise WrongFamilyError(where, OTHER_MODELS[family])
    starts = sorted({name.partition(FIRST_PART)[0] for name in weights if FIRST_PART in name})
    if len(starts) > 1:
        shown = ", ".join(repr(printable(start, limit=40)) for start in starts[:4])
        raise BadDocumentError(
            where, f"holds {len(starts)} models, whose names begin with {shown}; save one of them alone"
        )
    start = starts[0] if starts else ""
    return {name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}


def first_misfit(problem: Exception) -> str:
    """Torch's message on weights that do not fit, without its line breaks."""
    return " ".join(str(problem).split())


def trained_on_beside(folder: Path, *, required: bool = False) -> frozenset[str]:
    """What the model in a folder was trained on, if that is recorded (in a run it must be).

    Raises:
        BadDocumentError: If its digest is not that in `card.json` (a teacher), `provenance.json` (a run) or `export.json`, so that a file cut at
            the end of a line is noticed.
    """
    path = folder / "heard.txt"
    recorded = [recorded_digest(folder / name) for name in ("card.json", "provenance.json", "export.json")]
    expected = next((sha256 for sha256 in recorded if sha256 is not None), None)
    if not path.exists():
        if required or expected is not None:
            raise MissingFileError(
                path, needed="it lists what the model was trained on, and no test may be made on that"
            )
        return frozenset()
    return read_trained_on(path, sha256=expected)


def recorded_digest(path: Path) -> str | None:
    """The digest of `heard.txt` in a record beside it, if there is one."""
    record = read_json(path, needed="a record") if path.exists() else None
    sha256 = record.get("heard_sha256") if isinstance(record, dict) else None
    return sha256 if isinstance(sha256, str) else None


def read_trained_on(path: Place, *, sha256: str | None = None) -> frozenset[str]:
    """Lines of 16 hex digits: what a model was trained on.

    Args:
        path: The file.
        sha256: Of its bytes, where that is recorded.

    Raises:
        DigestMismatchError: If it is cut short, or was changed.
    """
    content = read_bytes(path, needed="what the model was trained on")
    if sha256 is not None and bytes_digest(content) != sha256:
        raise DigestMismatchError(path, expected=sha256, found=bytes_digest(content))
    lines = content.decode("ascii", "replace").split()
    if any(len(line) != 16 or set(line) - set("0123456789abcdef") for line in lines):
        raise BadDocumentError(path, "a line is not 16 hex digits of a SHA-256")
    return frozenset(lines)
