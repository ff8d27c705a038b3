"""A stranger's teacher, checkpoint, run or training config at the doors `teacher`, `train`, `export` and `evaluate`."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from tests.hostile.test_corpora import entry
from tests.hostile.test_recipes import LAUGHS, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hostile.conftest import House


class Command:
    """What unpickling it does is run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch OWNED",)


def safetensors_of(header: Any, body: bytes = b"") -> bytes:
    """A safetensors file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SAFETENSORS: dict[str, bytes] = {
    "a pickle": pickle.dumps(Command()),
    "a pickle of torch": b"PK\x03\x04" + pickle.dumps(Command()),
    "nothing": b"",
    "zeros": bytes(4096),
    "a header beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "a header that is no JSON": safetensors_of(b"not JSON"),
    "a deep header": safetensors_of(b"[" * 100_000),
    "a header of a list": safetensors_of([1]),
    "offsets beyond the file": safetensors_of({"x": TENSOR | {"data_offsets": [0, 2**40]}}, bytes(8)),
    "offsets that overflow": safetensors_of({"x": TENSOR | {"data_offsets": [0, 2**64]}}, bytes(8)),
    "offsets that overlap": safetensors_of({"x": TENSOR, "y": TENSOR}, bytes(8)),
    "offsets upside down": safetensors_of({"x": TENSOR | {"data_offsets": [8, 0]}}, bytes(8)),
    "a shape beyond its bytes": safetensors_of({"x": TENSOR | {"shape": [2**40]}}, bytes(8)),
    "a shape that overflows": safetensors_of({"x": TENSOR | {"shape": [2**63, 2]}}, bytes(8)),
    "a negative shape": safetensors_of({"x": TENSOR | {"shape": [-2]}}, bytes(8)),
    "an unknown type": safetensors_of({"x": TENSOR | {"dtype": "os.system"}}, bytes(8)),
    "a name of escapes": safetensors_of({"\x1b[31m\u202e\n<script>": TENSOR}, bytes(8)),
    "a hole between tensors": safetensors_of({"x": TENSOR, "y": TENSOR | {"data_offsets": [16, 24]}}, bytes(24)),
    "bytes that no tensor has": safetensors_of({"x": TENSOR}, b"x" * (1 << 20)),
    "one name twice": safetensors_of(
        b'{"x": %s, "x": %s}' % (json.dumps(TENSOR).encode(), json.dumps(TENSOR | {"shape": [2**40]}).encode()),
        bytes(8),
    ),
    "a shape of many noughts": safetensors_of(
        {"x": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}
    ),
    "a million dimensions": safetensors_of(
        {"x": {"dtype": "F32", "shape": [1] * 1_000_000, "data_offsets": [0, 4]}}, bytes(4)
    ),
    "a million tensors of nothing": safetensors_of(
        {str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(300_000)}
    ),
    "a header of blanks": safetensors_of(b"{}" + b" " * (99 << 20)),
    "a header of words that are none of UTF-8": safetensors_of(b'{"\xff\xfe": 1}'),
    "metadata of escapes": safetensors_of({"__metadata__": {"x": "\x1b[31m\u202e"}, "x": TENSOR}, bytes(8)),
    "metadata of a list": safetensors_of({"__metadata__": [1], "x": TENSOR}, bytes(8)),
    "offsets of fractions": safetensors_of({"x": TENSOR | {"data_offsets": [0.5, 8.5]}}, bytes(9)),
    "no tensors": safetensors_of({}),
    "other tensors": safetensors.torch.save({"x": torch.zeros(2)}),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_what_is_no_safetensors_is_one_line(trained: House, name: str) -> None:
    (trained.teacher / "weights.safetensors").write_bytes(SAFETENSORS[name])
    trained.refused("teacher", trained.teacher)
    trained.refused("train", trained.home / "train.yaml", trained.home / "new", target="new")
    checkpoint = replaced_checkpoint(trained, SAFETENSORS[name])
    trained.refused("teacher", trained.run)
    trained.refused("export", trained.run, trained.home / "out", "--to", "torchaudio", target="out")
    assert checkpoint.is_file()
    assert not list(trained.home.rglob("OWNED"))


def replaced_checkpoint(house: House, content: bytes) -> Path:
    """Every checkpoint of the run with other bytes, its mark's digest put right."""
    for mark in sorted((house.run / "checkpoints").glob("*.json")):
        mark.with_suffix(".safetensors").write_bytes(content)
        mark.write_text(json.dumps(json.loads(mark.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}))
    return mark.with_suffix(".safetensors")


CONFIGS: dict[str, Callable[[Any], None]] = {
    "as many layers as can be": put("encoder_num_layers", 256),
    "layers beyond all": put("encoder_num_layers", 10**12),
    "no layers": put("encoder_num_layers", 0),
    "wide": put("encoder_embed_dim", 65536),
    "too wide": put("encoder_embed_dim", 2**31),
    "wide within": put("encoder_ff_interm_features", 65536),
    "width that no head divides": put("encoder_embed_dim", 25),
    "heads beyond all": put("encoder_num_heads", 65536),
    "groups that do not divide": put("encoder_pos_conv_groups", 7),
    "kernel beyond all": put("encoder_pos_conv_kernel", 65536),
    "convolutions beyond all": put("extractor_conv_layer_config", [[512, 10, 5]] * 65),
    "wide convolutions": put("extractor_conv_layer_config", [[65536, 65536, 1]] * 7),
    "no convolutions": put("extractor_conv_layer_config", []),
    "stride of nought": put("extractor_conv_layer_config", [[16, 10, 0]]),
    "negative kernel": put("extractor_conv_layer_config", [[16, -10, 5]]),
    "dropout beyond one": put("encoder_dropout", 7.0),
    "a word": put("encoder_num_layers", "os.system"),
    "true": put("encoder_num_layers", True),
    "an import": put("_target_", "os.system"),
    "auto map": put("auto_map", {"AutoModel": "evil.Model"}),
    "unknown family": put("family", "\x1b[31mevil"),
    "rate of nought": put("sample_rate", 0),
    "rate beyond all": put("sample_rate", 10**12),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_shape_is_one_line_and_takes_no_memory(trained: House, name: str) -> None:
    config = trained.json("teacher/config.json")
    CONFIGS[name](config)
    trained.write("teacher/config.json", config)
    trained.refused("teacher", trained.teacher)
    trained.refused("train", trained.home / "train.yaml", trained.home / "new", target="new")
    for mark in sorted((trained.run / "checkpoints").glob("*.json")):
        document = json.loads(mark.read_text())
        CONFIGS[name](document["encoder"])
        mark.write_text(json.dumps(document))
    trained.refused("teacher", trained.run)
    trained.refused("export", trained.run, trained.home / "out", "--to", "torchaudio", target="out")


HUGGING_FACE: dict[str, Any] = {
    "another family": {"model_type": "llama"},
    "family of escapes": {"model_type": "\x1b[31m"},
    "own code": {"model_type": "evil", "auto_map": {"AutoModel": "evil.Model"}},
    "layers beyond all": {"model_type": "hubert", "num_hidden_layers": 10**9},
    "wide": {"model_type": "hubert", "hidden_size": 65536, "intermediate_size": 65536},
    "negative": {"model_type": "hubert", "hidden_size": -1},
    "convolutions of a million": {"model_type": "hubert", "conv_dim": [512] * 10**6},
    "a list": [1],
    "null": None,
}


@pytest.mark.parametrize("weights", ["pickle", "zip", "missing"])
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_a_hostile_hugging_face_folder_is_one_line(house: House, name: str, weights: str) -> None:
    house.write("hf/config.json", HUGGING_FACE[name])
    if weights == "pickle":
        house.write("hf/pytorch_model.bin", pickle.dumps(Command()))
    elif weights == "zip":
        torch.save({"x": Command()}, house.home / "hf/pytorch_model.bin")
    house.refused("teacher", house.home / "hf")
    assert not list(house.home.rglob("OWNED"))


def test_a_hostile_index_of_weights_is_one_line(house: House) -> None:
    house.write("hf/config.json", {"model_type": "hubert"})
    for part in ("../../etc/passwd", "/etc/passwd", "pipe:touch OWNED", "http://127.0.0.1:9/x.bin", 7, "\x1b[31m"):
        house.write("hf/model.safetensors.index.json", {"weight_map": {"x": part}})
        house.refused("teacher", house.home / "hf")
    assert not list(house.home.rglob("OWNED"))


def compressed(path: Path) -> None:
    """A file of weights whose zip is a bomb."""
    torch.save({"model": {"x": torch.zeros(30 << 20)}}, path)
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def bomb(path: Path) -> bytes:
    """The bytes of such a file, and its size on the disk no more."""
    compressed(path)
    return path.read_bytes()


def bomb_behind_half_a_mark(path: Path) -> None:
    """Python takes the last mark of an end for the end, and finds it cut off: no zip; torch looks further up and finds one."""
    path.write_bytes(bomb(path) + b"PK\x05\x06")


def zipped_weights(path: Path, *extra: tuple[str, bytes]) -> None:
    """Weights with more members in their zip."""
    torch.save({"model": {"x": torch.zeros(2)}, "cfg": {}}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that stands twice
        with zipfile.ZipFile(path, "a") as archive:
            for name, content in extra:
                archive.writestr(name, content)


CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Command())),
    "a pickle of protocol 0": lambda path: path.write_bytes(b"cos\nsystem\n(S'touch OWNED'\ntR."),
    "a pickle in a zip": lambda path: torch.save({"model": Command()}, path),
    "a pickle in the old form": lambda path: torch.save({"model": Command()}, path, _use_new_zipfile_serialization=False),
    "a pickle within weights": lambda path: torch.save({"model": {"w": torch.zeros(2)}, "args": Command()}, path),
    "a bomb": compressed,
    "a bomb behind half a mark of an end": bomb_behind_half_a_mark,
    "members that lead outside": lambda path: zipped_weights(path, ("../../OWNED", b"x"), ("/tmp/OWNED", b"x")),
    "a second pickle of one name": lambda path: zipped_weights(path, ("model/data.pkl", pickle.dumps(Command()))),
    "code of TorchScript": lambda path: zipped_weights(path, ("model/constants.pkl", pickle.dumps(Command())), ("model/code/x.py", b"import os")),
    "a tar of the oldest form": lambda path: path.write_bytes(entry("../../OWNED", content=b"x") + entry("pickle", content=pickle.dumps(Command())) + bytes(1024)),
    "a zip that begins with rubbish": lambda path: (zipped_weights(path), path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())),
    "strides of nought": lambda path: torch.save({"model": {"x": torch.zeros(1).expand(2**20, 2**10)}, "cfg": {}}, path),
    "nothing": lambda path: path.write_bytes(b""),
    "a zip of nothing": lambda path: zipfile.ZipFile(path, "w").close(),
    "cut off": lambda path: (torch.save({"model": {"x": torch.zeros(999)}}, path), os.truncate(path, 2000)),
    "no weights": lambda path: torch.save({"model": {}, "cfg": {}}, path),
    "a list": lambda path: torch.save([1, 2], path),
    "other weights": lambda path: torch.save({"model": {"\x1b[31m": torch.zeros(2)}, "cfg": {"model": {}}}, path),
    "deep": lambda path: path.write_bytes(b"(" * 100_000 + b"."),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_hostile_checkpoint_file_is_one_line(house: House, name: str) -> None:
    path = house.home / "model.pt"
    CHECKPOINTS[name](path)
    house.refused("teacher", path)
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize("name", [name for name in CHECKPOINTS if "bomb" in name])
def test_a_bomb_is_told_before_anything_of_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from manifests.errors import BadDocumentError
    from training.models.torch_weights import read_weights

    CHECKPOINTS[name](tmp_path / "model.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch unpacked it"))
    with pytest.raises(BadDocumentError):
        read_weights(tmp_path / "model.pt", needed="a test")


RUN_FILES: dict[str, tuple[str, str | bytes]] = {
    "config of a tag": ("config.yaml", "!!python/object/apply:os.system ['touch OWNED']"),
    "config of laughs": ("config.yaml", LAUGHS),
    "config of nothing": ("config.yaml", ""),
    "config of a newer": ("config.yaml", "schema: stillroom/train/99"),
    "provenance of a list": ("provenance.json", "[]"),
    "provenance deep": ("provenance.json", "[" * 100_000),
    "provenance cut off": ("provenance.json", '{"corpus_sha256": "'),
    "heard of words": ("heard.txt", "../../etc/passwd\n"),
    "heard of escapes": ("heard.txt", "\x1b[31m\n"),
    "heard of bytes": ("heard.txt", b"\xff\xfe" * 100),
}


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_hostile_run_is_one_line(trained: House, name: str) -> None:
    path, content = RUN_FILES[name]
    trained.write(f"run/{path}", content)
    if path == "heard.txt":
        trained.refused("teacher", trained.run)
    else:
        trained.refused("train", trained.home / "train.yaml", trained.run, target="run")
    assert not list(trained.home.rglob("OWNED"))


MARKS: dict[str, Callable[[Any], None]] = {
    "newer": put("schema", "stillroom/checkpoint/99"),
    "cursor beyond all": put("cursor", [2**70, 0, 0]),
    "negative step": put("step", -1),
    "NaN loss": put("best_loss", "nan"),
    "digest of a path": put("sha256", "../../x"),
    "unknown key": put("\x1b[31m", 1),
}


@pytest.mark.parametrize("name", MARKS)
def test_a_hostile_mark_is_one_line(trained: House, name: str) -> None:
    for mark in sorted((trained.run / "checkpoints").glob("*.json")):
        document = json.loads(mark.read_text())
        MARKS[name](document)
        mark.write_text(json.dumps(document))
    trained.refused("teacher", trained.run)
    trained.refused("export", trained.run, trained.home / "out", "--to", "torchaudio", target="out")


TRAIN: dict[str, Callable[[Any], None]] = {
    "pipe as a corpus": put("corpus", "pipe:touch OWNED"),
    "chained URL": put("corpus", "simplecache::file:///etc"),
    "unknown URL": put("corpus", "exec://touch"),
    "corpus of a file": put("corpus", "/etc/passwd"),
    "corpora of nothing": put("corpus", []),
    "teacher of a command": put("teacher", "name", "pipe:touch OWNED"),
    "teacher of a URL": put("teacher", "name", "http://127.0.0.1:9/x.pt"),
    "teacher of escapes": put("teacher", "name", "\x1b[31m\u202e"),
    "teacher of a path": put("teacher", "name", "../../../etc"),
    "layer beyond all": put("teacher", "layers", [10**12]),
    "layers beyond all": put("student", "layers", 10**12),
    "steps beyond all": put("steps", 10**30),
    "negative steps": put("steps", -1),
    "lanes beyond all": put("batch", {"seconds": 4, "lanes": 10**9}),
    "two sizes": put("batch", {"seconds": 4, "utterances": 4}),
    "crop of nothing": put("crop_s", 0),
    "workers beyond all": put("workers", 10**6),
    "unknown preset": put("preset", "\x1b[31m"),
    "preset of a list": put("preset", ["cdm2"]),
    "unknown key of escapes": put("\x1b[2J\u202e\n<script>", 1),
    "split of a path": put("split", "../x"),
    "init of a command": put("student", "init", "pipe:touch OWNED"),
    "import": put("optimiser", {"_target_": "os.system"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAIN)
def test_a_hostile_training_config_is_one_line(house: House, name: str) -> None:
    import yaml

    config = yaml.safe_load((house.home / "train.yaml").read_text())
    TRAIN[name](config)
    house.write("train.yaml", config)
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")
    assert not (house.home / "new" / "config.yaml").exists()
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize(
    "words",
    [
        "=",
        "a",
        "a=!!python/name:os.system",
        "..=1",
        "steps=.nan",
        "steps=[[[[",
        "a.b.c.d=1",
        "\x1b=1",
        "steps=" + "9" * 5000,
    ],
)
def test_a_hostile_override_is_one_line(house: House, words: str) -> None:
    house.refused("train", house.home / "train.yaml", house.home / "new", "--set", words, target="new")
