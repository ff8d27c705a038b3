"""Students for other libraries: `write` (compared and written), `huggingface`, `s3prl`, `torchaudio`, `onnx`, `load`, `format`."""
