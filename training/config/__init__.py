"""The config of a training run: `schema` (every key), `model` (teacher, student, loss), `presets`, `load`."""
