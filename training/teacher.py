"""Loads teachers: `nano`, any bundle of `torchaudio.pipelines`, a folder, a checkpoint, a run, a fetched model of the Hugging Face hub.

Layer k is the output of transformer layer k, counted from 1, whatever the source. Nothing here downloads but `fetch_teacher`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchaudio
from torchaudio.pipelines import Wav2Vec2Bundle

from manifests.errors import BadDocumentError, MissingFileError, StillroomError, UsageError, printable
from manifests.io.digest import digest, file_digest
from training.config.hub import NotFetchedError, fetch_snapshot, is_hub_id, snapshot_name, snapshot_of
from training.export.load import export_files, is_export, load_export
from training.models.encoder import Encoder, EncoderConfig
from training.models.fairseq_format import beside_path, load_checkpoint_file
from training.models.huggingface_format import huggingface_files, is_huggingface, load_huggingface
from training.models.native_format import filled, load_encoder_folder
from training.models.torch_weights import PickledCodeError, read_weights
from training.runs.checkpoint import is_run, load_run, whole_checkpoints

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Encoder", "fetch_teacher", "load_encoder_folder", "load_teacher", "thirds"]

NANO = "nano"
NANO_FOLDER = Path(__file__).parent / "nano"
BUNDLES: dict[str, Wav2Vec2Bundle] = {
    name: bundle
    for name in torchaudio.pipelines.__all__
    if isinstance(bundle := getattr(torchaudio.pipelines, name), Wav2Vec2Bundle)
}


class UnknownTeacherError(StillroomError, ValueError):
    """There is no teacher of this name."""

    def __init__(self, name: str) -> None:
        known = [NANO, *(bundle.lower() for bundle in BUNDLES)]
        close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "hubert_base, wavlm_base_plus and wav2vec2_base are."
        super().__init__(
            f"teacher {printable(name)!r} is neither nano, nor a torchaudio bundle, nor a folder or checkpoint that exists; {hint}"
        )


class WeightsNotFetchedError(StillroomError, FileNotFoundError):
    """The weights of a published teacher are not on this machine."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(
            f"the weights of the torchaudio bundle {name} are not in {printable(path.parent)}: "
            f"run `stillroom teacher {name.lower()}` where there is a network (TORCH_HOME says where they go)"
        )


def load_teacher(name_or_path: str | Path) -> Encoder:
    """A teacher in eval mode, without gradient, on the CPU.

    Args:
        name_or_path: `nano`; the name of a torchaudio bundle, whatever its case (`hubert_base`); a folder: of a Stillroom run, of
            Hugging Face, of an export, or with `config.json` (see `EncoderConfig`) and `weights.safetensors`; a checkpoint file of fairseq,
            s3prl, WavLM, torchaudio, Lightning or DPHuBERT; or the id of a model of the Hugging Face hub
            (`facebook/hubert-base-ls960`) that was fetched.

    Raises:
        UnknownTeacherError: If there is no such teacher.
        WeightsNotFetchedError: If its weights are not on this machine.
        MissingFileError: If a named folder is not there.
        PickledCodeError: If a checkpoint names functions that no weights need.
        ScaleUnknownError: If nothing says whether waves are normalised, and its features depend on it.
        WrongFamilyError: If it is a model of another kind.
    """
    name = str(name_or_path)
    if name.lower() == NANO:
        return load_encoder_folder(NANO_FOLDER, name=NANO)
    if name.upper() in BUNDLES:
        return load_bundle(name.upper())
    path = Path(name)
    if path.is_dir():
        return load_folder(path)
    if path.is_file():
        return load_checkpoint_file(path, name=path.stem)
    snapshot = snapshot_of(name) if is_hub_id(name) else None
    if snapshot is not None:
        return load_folder(snapshot)
    if isinstance(name_or_path, Path) or "/" in name:
        kinds = "a run, a Hugging Face folder, a folder with config.json and weights.safetensors, or a checkpoint"
        fetch = f"; a model of the hub is fetched by `stillroom teacher {name}` where there is a network"
        raise MissingFileError(name, needed=f"a teacher is {kinds}" + (fetch if is_hub_id(name) else ""))
    raise UnknownTeacherError(name)


def load_folder(folder: Path) -> Encoder:
    """An encoder from a folder of any of the kinds that are read."""
    if is_run(folder):
        return load_run(folder)
    name = snapshot_name(folder) or folder.resolve().name
    if is_export(folder):
        return load_export(folder, name=name)
    return load_huggingface(folder, name=name) if is_huggingface(folder) else load_encoder_folder(folder, name=name)


def bundle_path(bundle: Wav2Vec2Bundle) -> Path:
    """Where torch.hub stores, or would store, the weights of a bundle."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(bundle._path).name  # noqa: SLF001


def load_bundle(name: str) -> Encoder:
    """A published model from the cache of torch.hub.

    Raises:
        WeightsNotFetchedError: If it is not there.
    """
    bundle = BUNDLES[name]
    path = bundle_path(bundle)
    if not path.exists():
        raise WeightsNotFetchedError(name, path)
    config = bundle_config(bundle)
    trunk = filled(config, trunk_weights(path), where=path, weights=path)
    return Encoder(trunk, config, name=name.lower(), facts={"bundle": name, "weights": path.name})


def trunk_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a bundle's file, read from the disk and without its output layer.

    torchaudio's own way would download a file that vanished in between, and a rank never downloads.
    """
    try:
        opened = read_weights(path, needed="a bundle's weights")
        found = opened.tensors(opened.content)
    except (PickledCodeError, BadDocumentError):
        raise BadDocumentError(path, "is damaged, or holds more than weights; remove it and fetch it again") from None
    if found is None:
        raise BadDocumentError(path, "holds something else than weights; remove it and fetch it again")
    return {name: tensor for name, tensor in found.items() if not name.startswith("aux.")}


def bundle_config(bundle: Wav2Vec2Bundle) -> EncoderConfig:
    """The shape of a published model."""
    given: dict[str, Any] = dict(bundle._params)  # noqa: SLF001
    given["extractor_conv_layer_config"] = given["extractor_conv_layer_config"] or (
        [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2  # torchaudio's default
    )
    given["family"] = "wavlm" if bundle._model_type == "WavLM" else "wav2vec2"  # noqa: SLF001
    given["sample_rate"] = int(bundle.sample_rate)
    given["normalize_waveform"] = bundle._normalize_waveform  # noqa: SLF001
    given["pretrained_as"] = pretrained_as(bundle._path)  # noqa: SLF001
    return EncoderConfig.parse(given, where="torchaudio bundle")


def pretrained_as(path: str) -> str:
    """The family of models whose objective the weights in a file of this name were trained with."""
    return next((family for family in ("hubert", "wavlm") if Path(path).name.startswith(family)), "wav2vec2")


def fetch_teacher(name: str) -> Path:
    """Download a bundle's weights into the cache of torch.hub, or a model of the Hugging Face hub into its own; returns their path.

    Raises:
        UnknownTeacherError: If there is no such bundle.
        UsageError: If the hub's library is not installed.
        NotFetchedError: If the download fails.
    """
    if name.lower() == NANO:
        return NANO_FOLDER
    if is_hub_id(name):
        return fetch_snapshot(name)
    if name.upper() not in BUNDLES:
        raise UnknownTeacherError(name)
    bundle = BUNDLES[name.upper()]
    if not bundle_path(bundle).exists():
        try:
            bundle.get_model(dl_kwargs={"weights_only": True, "map_location": "cpu"})
        except OSError as problem:
            raise NotFetchedError(name.upper(), problem) from None
    load_bundle(name.upper())
    return bundle_path(bundle)


def thirds(num_layers: int) -> tuple[int, ...]:
    """The layers at a third, two thirds and the top: 4, 8, 12 of 12 as DistilHuBERT (arXiv 2110.01900); 3, 5, 8 of 8."""
    return tuple(sorted({max(1, round(num_layers * third / 3)) for third in (1, 2, 3)}))


def chosen_layers(layers: str | tuple[int, ...], *, teacher: Encoder) -> tuple[int, ...]:
    """Layers as numbers.

    Raises:
        UsageError: If the teacher has no such layer.
    """
    if layers == "all":
        return tuple(range(1, teacher.num_layers + 1))
    if isinstance(layers, str):
        return thirds(teacher.num_layers)
    missing = [layer for layer in layers if not 1 <= layer <= teacher.num_layers]
    if missing:
        raise UsageError(
            f"teacher.layers: {teacher.name} has layers 1 to {teacher.num_layers}, not {missing[0]}; choose among those"
        )
    return tuple(layers)


def known_as(name_or_path: str) -> str:
    """The name of the encoder of a name, folder or checkpoint, without reading it."""
    if name_or_path.lower() == NANO or name_or_path.upper() in BUNDLES:
        return name_or_path.lower()
    if is_hub_id(name_or_path):
        return name_or_path
    path = Path(name_or_path)
    return path.stem if path.is_file() else snapshot_name(path) or path.resolve().name


def weights_digest(name_or_path: str) -> str | None:
    """SHA-256 of the files that a teacher's weights and shape are read from, and of no other; None where they are not on this machine."""
    path = Path(name_or_path)
    if name_or_path.lower() == NANO:
        path = NANO_FOLDER / "weights.safetensors"
        return digest([[path.name, file_digest(path)]])
    if name_or_path.upper() in BUNDLES:
        path = bundle_path(BUNDLES[name_or_path.upper()])
        return file_digest(path) if path.is_file() else None
    if is_hub_id(name_or_path):
        path = snapshot_of(name_or_path) or path
    if path.is_dir() and is_run(path):
        found = next(whole_checkpoints(path / "checkpoints", torn=[]), None)
        return found[1].sha256 if found is not None else None
    files = [file for file in files_read(path) if file.is_file()]
    if files == [path]:
        return file_digest(path)
    return digest([[file.name, file_digest(file)] for file in files]) if files else None


def files_read(path: Path) -> list[Path]:
    """The files, there or not, that hold weights and shape of the model in a file or folder."""
    if path.is_file():
        return [path, beside_path(path)]
    if not path.is_dir():
        return []
    if is_export(path):
        return export_files(path)
    return huggingface_files(path) if is_huggingface(path) else [path / "config.json", path / "weights.safetensors"]


def description(encoder: Encoder) -> str:
    """What a user must know of a teacher, in one line."""
    config = encoder.config
    scale = "each utterance normalised" if config.normalize_waveform else "waves not normalised"
    return (
        f"{encoder.name}: {encoder.num_parameters / 1e6:.1f} M parameters, {encoder.num_layers} layers of {encoder.num_features}, "
        f"{encoder.sample_rate} Hz, {encoder.sample_rate / config.hop_samples:g} frames a second, {scale}, "
        f"digest {encoder.digest[:16]}"
    )
