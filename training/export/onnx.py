"""Writes a student as ONNX: waves of any length in, the output of every layer out; normalisation, where the model needs it, is in the graph."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from training.export.format import Written, library_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.models.encoder import Encoder

NAME = "model.onnx"
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


def write_onnx(encoder: Encoder, folder: Path) -> Written:
    """Write the graph and load it with onnxruntime."""
    try:
        runtime = importlib.import_module("onnxruntime")
        for needed in ("onnx", "onnxscript"):
            importlib.import_module(needed)
    except ImportError:
        library_missing("onnx", install="pip install onnx onnxruntime onnxscript")
    with quiet():
        torch.onnx.export(
            Plain(encoder).eval(),
            (torch.zeros(2, encoder.sample_rate),),
            folder / NAME,
            dynamo=True,
            opset_version=OPSET,
            input_names=["wave"],
            output_names=["layers"],
            dynamic_shapes=({0: torch.export.Dim("batch"), 1: length_of(encoder)},),
            external_data=encoder.num_parameters > LARGEST_IN_ONE_FILE,
            verbose=False,
        )
    session: Any = runtime.InferenceSession(folder / NAME, providers=["CPUExecutionProvider"])

    def outputs(wave: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["layers"], {"wave": wave[None].numpy()})[0][0])

    code = (
        f'import onnxruntime\nsession = onnxruntime.InferenceSession("{NAME}")\n'
        'layers = session.run(["layers"], {"wave": wave.numpy()})[0].swapaxes(0, 1)'
    )
    return Written(NAME, "onnxruntime.InferenceSession({path}), wave -> layers", code, outputs)


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
