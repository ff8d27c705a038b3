"""Students for other libraries: `write` (compared and written), `huggingface`, `s3prl`, `torchaudio`, `onnx`, `load`, `format`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.export.load import load_export as load_export
    from training.export.write import export_run as export_run

__getattr__, __dir__ = lazy_names(__name__, __file__)
