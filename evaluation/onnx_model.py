"""An export to ONNX as a model of an evaluation: onnxruntime runs the graph, on one thread, one wave at a time."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from manifests.errors import BadDocumentError, DigestMismatchError, UsageError, printable
from manifests.io.json_yaml import read_json
from training.export.onnx import NAME, graph_digest, graph_files, layers_of, opened
from training.models.encoder import Encoder, EncoderConfig
from training.models.native_format import outlined, trained_on_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORD = "export.json"
NEEDED = f"an export to ONNX is the folder that `stillroom export --to onnx` wrote, with {NAME} and {RECORD}"
AGAIN = "export the run again with --to onnx"


def onnx_folder(source: str) -> Path | None:
    """The folder of an export to ONNX, which its file may stand for; None if it is another model."""
    path = Path(source)
    folder = path.parent if path.suffix == ".onnx" and path.is_file() else path
    return folder if (folder / NAME).is_file() and not (folder / "config.json").is_file() else None


class OnnxModel(nn.Module):
    """A graph behind the interface of `training.models.encoder.Encoder`, on the CPU.

    Args:
        folder: What `stillroom export --to onnx` wrote, in float32 or int8.

    Attributes:
        num_bytes: Of its files.

    Raises:
        UsageError: If onnxruntime is not installed.
        MissingFileError: If the record of the export is not there.
        BadDocumentError: If the record is malformed, or the graph cannot be read or has other outputs than the record has.
        DigestMismatchError: If the graph is not the one that was written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / NAME
        where = folder / RECORD
        record = read_json(where, needed=NEEDED)
        if not isinstance(record, dict) or "encoder" not in record:
            raise BadDocumentError(where, f"has no key encoder, the model's shape: {AGAIN}")
        self.config = EncoderConfig.parse(record["encoder"], where=where)
        self.name = folder.resolve().name
        self.sample_rate = self.config.sample_rate
        self.num_layers = self.config.encoder_num_layers
        self.num_features = self.config.encoder_embed_dim
        outline = outlined(self.config, where=where)
        self.num_parameters = sum(parameter.numel() for parameter in outline.parameters())
        self.num_bytes = sum(path.stat().st_size for path in graph_files(folder))
        if self.num_bytes < self.num_parameters:  # a byte each at least
            raise BadDocumentError(
                self.path, f"has {self.num_bytes} bytes, its model {self.num_parameters} parameters: {AGAIN}"
            )
        self.trained_on = trained_on_beside(folder)
        self.facts: dict[str, Any] = {"int8": True} if record.get("int8") is True else {}
        if record.get("graph_sha256") != self.digest:
            raise DigestMismatchError(self.path, expected=str(record.get("graph_sha256")), found=self.digest)
        try:
            self.session = opened(self.path)
        except ImportError:
            raise UsageError(
                f"{printable(folder)} is an export to ONNX, which onnxruntime runs, and that is not installed: pip install onnxruntime"
            ) from None
        except Exception as problem:  # noqa: BLE001 (onnxruntime's errors have no class in common)
            raise self.damaged(problem) from None
        self.layers_of_one(
            torch.zeros(1, self.sample_rate)
        )  # a graph of other outputs is found before anything is measured

    @cached_property
    def digest(self) -> str:
        """SHA-256 over its files."""
        return graph_digest(self.path.parent)

    def damaged(self, problem: object) -> BadDocumentError:
        """The error of a graph that cannot be run."""
        why = printable(" ".join(str(problem).split()), limit=200)
        return BadDocumentError(self.path, f"onnxruntime cannot run it ({why}): {AGAIN}")

    def of_its_shape(self) -> Encoder:
        """A model of the same shape with random weights, in torch."""
        return Encoder(self.config.build(), self.config, name=self.name)

    def layers(self, wave: Tensor, num_samples: Tensor, *, only: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Layers of shape (batch, layer, frame, feature), zeros after an utterance's end, and the number of frames of each.

        One wave at a time and without padding: in int8, features would depend on what else is in the batch.
        """
        lengths = num_samples.tolist()
        rows = [self.layers_of_one(row[None, :length])[0] for row, length in zip(wave, lengths, strict=True)]
        chosen = rows if only is None else [row[[number - 1 for number in only]] for row in rows]
        longest = max(row.shape[1] for row in chosen)
        padded = [nn.functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in chosen]
        return torch.stack(padded), torch.tensor([row.shape[1] for row in rows])

    def layers_of_one(self, wave: Tensor) -> Tensor:
        """Layers of one wave of shape (1, time): shape (1, layer, frame, feature).

        Raises:
            BadDocumentError: If the graph fails, or its output is not that of the model's shape.
        """
        shape = (1, self.num_layers, self.config.num_frames(wave.shape[1]), self.num_features)
        if shape[2] == 0:
            return torch.empty(shape)
        try:
            found = layers_of(self.session, wave)
        except Exception as problem:  # noqa: BLE001 (onnxruntime's errors have no class in common)
            raise self.damaged(problem) from None
        if found.shape != shape or found.dtype != torch.float32:
            raise self.damaged(f"its output is {tuple(found.shape)}, expected {shape}")
        return found
