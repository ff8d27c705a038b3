"""Students for other libraries: `write` (the stage), `huggingface`, `s3prl`, `torchaudio`, `onnx`, `load`, `format`."""
