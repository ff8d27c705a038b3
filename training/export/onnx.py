"""Writes a student as ONNX: waves of any length in, the output of every layer out; normalisation, where the model needs it, is in the graph.

In int8 the weights of matrix products are integers, and what is multiplied by them is rounded as it comes; convolutions stay in float32.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import shutil
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from manifests.io.digest import digest, file_digest
from training.export.format import Written, library_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.models.encoder import Encoder

NAME = "model.onnx"
FLOAT32 = "float32"
OPSET = 18
LONGEST_S = 3600
LARGEST_IN_ONE_FILE = 400_000_000  # parameters; a file of ONNX ends at 2 GB


class Plain(nn.Module):
    """The layers of waves of one length, without padding and its branches.

    Args:
        encoder: Whose.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.trunk = encoder.trunk
        self.epsilon = encoder.config.normalize_epsilon if encoder.config.normalize_waveform else None

    def forward(self, wave: Tensor) -> Tensor:
        """Shape (batch, time) to (batch, layer, frame, feature)."""
        if self.epsilon is not None:
            wave = wave - wave.mean(dim=1, keepdim=True)
            wave = wave * torch.rsqrt(wave.square().mean(dim=1, keepdim=True) + self.epsilon)
        return torch.stack(self.trunk.extract_features(wave)[0], dim=1)


def write_onnx(encoder: Encoder, folder: Path, *, int8: bool = False) -> Written:
    """Write the graph and load it with onnxruntime.

    Args:
        encoder: The student.
        folder: Where to.
        int8: Whether weights of matrix products are rounded to integers.
    """
    try:
        for needed in ("onnxruntime", "onnx", "onnxscript"):
            importlib.import_module(needed)
    except ImportError:
        library_missing("onnx", install="pip install onnx onnxruntime onnxscript")
    if int8:
        (folder / FLOAT32).mkdir()
        write_graph(encoder, folder / FLOAT32 / NAME)
        quantise(folder / FLOAT32 / NAME, folder / NAME, in_one_file=encoder.num_parameters <= LARGEST_IN_ONE_FILE)
        shutil.rmtree(folder / FLOAT32)
    else:
        write_graph(encoder, folder / NAME)
    session = opened(folder / NAME)

    def outputs(wave: Tensor) -> Tensor:
        return layers_of(session, wave[None])[0]

    code = (
        f'import onnxruntime\nsession = onnxruntime.InferenceSession("{NAME}")\n'
        'layers = session.run(["layers"], {"wave": wave.numpy()})[0].swapaxes(0, 1)'
    )
    return Written(NAME, "onnxruntime.InferenceSession({path}), wave -> layers", code, outputs, is_rounded=int8)


def write_graph(encoder: Encoder, path: Path) -> None:
    """Write the graph in float32."""
    with quiet():
        torch.onnx.export(
            Plain(encoder).eval(),
            (torch.zeros(2, encoder.sample_rate),),
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=["wave"],
            output_names=["layers"],
            dynamic_shapes=({0: torch.export.Dim("batch"), 1: length_of(encoder)},),
            external_data=encoder.num_parameters > LARGEST_IN_ONE_FILE,
            verbose=False,
        )


def quantise(path: Path, out: Path, *, in_one_file: bool) -> None:
    """Round the weights of a graph's matrix products to integers, each output with a scale of its own.

    Seven bits of the eight: with eight, processors without VNNI add two products with saturation, and the file would give other features there
    than where it was compared.
    """
    quantization = importlib.import_module("onnxruntime.quantization")
    with quiet():
        quantization.quantize_dynamic(
            path,
            out,
            op_types_to_quantize=["MatMul"],
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            use_external_data_format=not in_one_file,
        )


def opened(path: Path) -> Any:
    """A graph in onnxruntime, run on one thread: that of the caller."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # it writes to the terminal; what matters is raised
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def layers_of(session: Any, wave: Tensor) -> Tensor:
    """The layers of waves of shape (batch, time): shape (batch, layer, frame, feature)."""
    return torch.from_numpy(session.run(["layers"], {"wave": wave.numpy()})[0])


def length_of(encoder: Encoder) -> Any:
    """The dimension of time: from one frame to an hour."""
    dim = cast("Any", torch.export.Dim)
    return dim("samples", min=encoder.config.receptive_samples, max=LONGEST_S * encoder.sample_rate)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter, which reports its progress on every channel."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def graph_files(folder: Path) -> list[Path]:
    """The files of a graph: a large one has its weights beside it."""
    return [path for path in (folder / NAME, folder / f"{NAME}.data") if path.is_file()]


def graph_digest(folder: Path) -> str:
    """SHA-256 over the files of a graph."""
    return digest([[path.name, file_digest(path)] for path in graph_files(folder)])


def graph_record(encoder: Encoder, folder: Path, *, int8: bool) -> dict[str, Any]:
    """What a reader of the folder needs and the graph does not have: the model's shape, and the graph's digest."""
    shape = encoder.config.model_dump(mode="json")
    return {"int8": int8, "encoder": shape, "graph_sha256": graph_digest(folder)}
