"""Teachers: `nano`, any bundle of `torchaudio.pipelines`, or a local folder. Nothing here downloads but `fetch_teacher`."""

from __future__ import annotations

import difflib
import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torchaudio
from torchaudio.models import Wav2Vec2Model
from torchaudio.pipelines import Wav2Vec2Bundle

from manifests.errors import BadDocumentError, MissingFileError, StillroomError, UsageError, printable
from manifests.files import read_bytes, read_json
from training.encoder import Encoder, EncoderConfig

__all__ = ["Encoder", "fetch_teacher", "load_encoder_folder", "load_teacher", "thirds"]

NANO = "nano"
BUNDLES: dict[str, Wav2Vec2Bundle] = {
    name: bundle
    for name in torchaudio.pipelines.__all__
    if isinstance(bundle := getattr(torchaudio.pipelines, name), Wav2Vec2Bundle)
}


class UnknownTeacherError(StillroomError, ValueError):
    """No teacher goes by this name."""

    def __init__(self, name: str) -> None:
        known = [NANO, *(bundle.lower() for bundle in BUNDLES)]
        close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "hubert_base, wavlm_base_plus and wav2vec2_base are."
        super().__init__(
            f"teacher {printable(name)!r} is neither nano, nor a torchaudio bundle, nor a folder with config.json and "
            f"weights.safetensors; {hint}"
        )


class WeightsNotFetchedError(StillroomError, FileNotFoundError):
    """The weights of a published teacher are not on this machine."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(
            f"the weights of the torchaudio bundle {name} are not in {printable(path.parent)}: "
            f"run `stillroom teacher {name.lower()}` where there is a network (TORCH_HOME says where they go)"
        )


class NotFetchedError(StillroomError, ConnectionError):
    """A download of published weights failed."""

    def __init__(self, name: str, why: object) -> None:
        super().__init__(
            f"the weights of the torchaudio bundle {name} could not be fetched ({printable(why)}): "
            "run the command again where there is a network"
        )


def load_teacher(name_or_path: str | Path) -> Encoder:
    """A teacher in eval mode, without gradient, on the CPU.

    Args:
        name_or_path: `nano`; the name of a torchaudio bundle, whatever its case (`hubert_base`); or a folder with
            `config.json` (see `EncoderConfig`) and `weights.safetensors`.

    Raises:
        UnknownTeacherError: If there is no such teacher.
        WeightsNotFetchedError: If its weights are not on this machine.
        MissingFileError: If a named folder is not there.
    """
    name = str(name_or_path)
    if name.lower() == NANO:
        return load_encoder_folder(Path(__file__).parent / "nano", name=NANO)
    if name.upper() in BUNDLES:
        return load_bundle(name.upper())
    folder = Path(name)
    if folder.is_dir():
        return load_encoder_folder(folder, name=folder.resolve().name)
    if isinstance(name_or_path, Path) or "/" in name:
        raise MissingFileError(name, needed="a teacher is a folder with config.json and weights.safetensors")
    raise UnknownTeacherError(name)


def load_encoder_folder(folder: Path, *, name: str) -> Encoder:
    """An encoder from `config.json`, `weights.safetensors` and, where there are any, `heard.txt` and `card.json`."""
    needed = "a teacher's folder holds config.json and weights.safetensors"
    config = EncoderConfig.parse(read_json(folder / "config.json", needed=needed), where=folder / "config.json")
    trunk = config.build()
    load_weights(trunk, folder / "weights.safetensors", needed=needed)
    heard = folder / "heard.txt"
    card = folder / "card.json"
    return Encoder(
        trunk,
        config,
        name=name,
        heard=read_heard(heard) if heard.exists() else frozenset(),
        facts=read_json(card, needed="a card") if card.exists() else None,
    )


def load_weights(trunk: Wav2Vec2Model, path: Path, *, needed: str) -> None:
    """Fill a model from a safetensors file, in float32.

    Raises:
        BadDocumentError: If the file is damaged or its tensors are not those of the model.
    """
    if not path.exists():
        raise MissingFileError(path, needed=needed)
    try:
        state = {name: tensor.to(torch.float32) for name, tensor in safetensors.torch.load_file(path).items()}
        trunk.load_state_dict(state)
    except safetensors.SafetensorError as problem:
        raise BadDocumentError(path, f"is not a safetensors file: {printable(problem)}") from None
    except RuntimeError as problem:
        raise BadDocumentError(path, f"does not fit its config.json: {printable(problem)}") from None


def read_heard(path: Path) -> frozenset[str]:
    """Lines of 16 hex digits: what a model has heard."""
    lines = read_bytes(path, needed="what the model has heard").decode("ascii", "replace").split()
    if any(len(line) != 16 or set(line) - set("0123456789abcdef") for line in lines):
        raise BadDocumentError(path, "a line is not 16 hex digits of a SHA-256")
    return frozenset(lines)


def bundle_path(bundle: Wav2Vec2Bundle) -> Path:
    """Where torch.hub keeps, or would keep, the weights of a bundle."""
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
    try:
        # weights_only: torch.hub would else unpickle whatever the file holds
        model = bundle.get_model(dl_kwargs={"weights_only": True, "map_location": "cpu"})
    except pickle.UnpicklingError:
        raise BadDocumentError(path, "is damaged, or holds more than weights; remove it and fetch it again") from None
    except (RuntimeError, EOFError, OSError, ValueError) as problem:
        raise BadDocumentError(path, f"cannot be loaded ({printable(problem)}); remove it and fetch it again") from None
    trunk = model if isinstance(model, Wav2Vec2Model) else model.model
    facts = {"bundle": name, "weights": path.name}
    return Encoder(trunk, bundle_config(bundle), name=name.lower(), facts=facts)


def bundle_config(bundle: Wav2Vec2Bundle) -> EncoderConfig:
    """The shape of a published model."""
    given: dict[str, Any] = dict(bundle._params)  # noqa: SLF001
    given["extractor_conv_layer_config"] = given["extractor_conv_layer_config"] or (
        [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2  # torchaudio's default
    )
    given["family"] = "wavlm" if bundle._model_type == "WavLM" else "wav2vec2"  # noqa: SLF001
    given["sample_rate"] = int(bundle.sample_rate)
    given["normalize_waveform"] = bundle._normalize_waveform  # noqa: SLF001
    return EncoderConfig.parse(given, where="torchaudio bundle")


def fetch_teacher(name: str) -> Path:
    """Download a bundle's weights into the cache of torch.hub; returns where they lie.

    Raises:
        UnknownTeacherError: If there is no such bundle.
        NotFetchedError: If the download fails.
    """
    if name.lower() == NANO:
        return Path(__file__).parent / "nano"
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
    if isinstance(layers, str):
        return thirds(teacher.num_layers)
    missing = [layer for layer in layers if not 1 <= layer <= teacher.num_layers]
    if missing:
        raise UsageError(
            f"teacher.layers: {teacher.name} has layers 1 to {teacher.num_layers}, not {missing[0]}; choose among those"
        )
    return tuple(layers)
