"""Paths of an evaluation config: relative to its file until they are made absolute here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.config.hub import is_hub_id


def resolved(path: str, *, folder: Path) -> str:
    """A path relative to `folder` made absolute; URLs stay as they are."""
    return path if "://" in path else str(folder / Path(path).expanduser())


def with_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same keys with relative paths of corpus, models and tables made absolute; what has another shape is left to the parser."""
    result = dict(data)
    if isinstance(corpus := data.get("corpus"), str):
        result["corpus"] = resolved(corpus, folder=folder)
    if isinstance(models := data.get("models"), dict):
        result["models"] = {name: model_with_path(source, folder) for name, source in models.items()}
    if isinstance(tasks := data.get("tasks"), list):
        result["tasks"] = [
            {**task, "table": str(folder / task["table"])}
            if isinstance(task, dict) and isinstance(task.get("table"), str)
            else task
            for task in tasks
        ]
    return result


def model_with_path(source: object, folder: Path) -> object:
    """A model's folder made absolute; a name without a folder of it in `folder` is a teacher's, also of the form `owner/name`."""
    if isinstance(source, dict) and isinstance(source.get("run"), str):
        return {**source, "run": resolved(source["run"], folder=folder)}
    if not isinstance(source, str):
        return source
    path = folder / Path(source).expanduser()
    if is_run(path):
        return {"run": str(path)}
    is_model = path.is_file() or (path / "config.json").is_file() or (path / "export.json").is_file()
    is_named = "/" not in source or is_hub_id(source, folder=folder)
    return str(path) if is_model or not is_named else source


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()
