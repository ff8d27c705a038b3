"""Reads a training config: resolves file, preset and `key=value` overrides into one config."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.errors import BadDocumentError, UsageError, printable
from manifests.io.json_yaml import read_yaml
from manifests.io.place import local_path
from manifests.io.yaml12 import parse_yaml
from training.config.hub import is_hub_id
from training.config.presets import PRESETS
from training.config.schema import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

# What may differ between a run and the command that goes on with it: nothing of the method.
FREE_KEYS = frozenset(
    {
        "schema",
        "corpus",
        "preset",
        "workers",
        "log_every",
        "checkpoint_every",
        "tensorboard",
        "targets",
        "stage",
        "damaged_shards",
        "compile",
    }
)

# Keys that were dropped before 0.1.0: the constant that took their place, and its source.
DROPPED_KEYS: dict[str, tuple[Any, str]] = {
    "optimiser.betas": ([0.9, 0.98], "DistilHuBERT's"),
    "optimiser.epsilon": (1e-6, "DistilHuBERT's"),
    "optimiser.weight_decay": (1e-6, "DistilHuBERT's"),
    "adversary.weight": (1.0, "the strength decides what reaches the student"),
    "adversary.hidden": (256, "ours: the authors published no critic"),
    "adversary.critic_every": (1, "the critic is updated at every step of the student"),
    "adversary.require_visible": (False, "a domain that can hardly be named is a warning and no more"),
    "crops.context": ("crop", "the teacher is given the crop that the student gets"),
}


def load_config(path: str | Path, *, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """A config file with its preset and `key=value` overrides worked in.

    Relative paths in the file are relative to it, those in overrides to the current folder. A run's own config.yaml is resolved
    already: a key that is new since then has its default there, whatever the preset sets today.

    Raises:
        BadDocumentError: A wrong key or value, with its path.
        UsageError: An override that is none.
    """
    path = local_path(path)
    data = read_yaml(path, needed="name a training config (YAML)")
    if not isinstance(data, dict):
        raise BadDocumentError(
            path, "expected a mapping, such as `preset: cdm2`, `corpus: FOLDER`, `teacher: {name: nano}`"
        )
    is_runs_own = path.name == "config.yaml" and (path.parent / "heard.txt").is_file()
    user = with_paths(data, path.parent)
    for override in overrides:
        change = override_of(override)
        user = merged(without_other_size(user, change), with_paths(change, Path.cwd()))
    with named_overrides(path, overrides):
        return resolved(user, where=path, over_preset=not is_runs_own)


def override_of(word: str, *, example: str = "optimiser.learning_rate=1e-3") -> dict[str, Any]:
    """The change that one `--set` word, `key.key=value`, makes to a config, as a nested mapping.

    Raises:
        BadDocumentError: If the value is not YAML.
        UsageError: If it is not of that form.
    """
    key, equals, text = word.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or key.strip().startswith("-"):
        raise UsageError(f"--set {printable(word)}: expected key=value, such as {example}")
    change: Any = parse_yaml(text.encode(), where=f"--set {key}")
    for part in reversed(parts):
        change = {part: change}
    mapping: dict[str, Any] = change
    return mapping


@contextlib.contextmanager
def named_overrides(path: Path, overrides: tuple[str, ...]) -> Iterator[None]:
    """Say `--set` in place of the file's name in the message of a fault that an override made.

    Raises:
        BadDocumentError: The one that is raised inside.
    """
    try:
        yield
    except BadDocumentError as problem:
        place, _, what = str(problem).removeprefix(f"{printable(path)}: ").partition(": ")
        for word in overrides:
            key = word.partition("=")[0].strip()
            if f"{key}.".startswith(f"{place}.") or place.startswith(f"{key}."):
                raise BadDocumentError(f"--set {place}", what) from None
        raise


def run_config(path: Path, *, any_version: bool = False) -> TrainConfig:
    """The config in a run's folder, whichever version of Stillroom wrote it.

    Args:
        path: `config.yaml` of the run.
        any_version: Whether a key that was dropped since may have any value there: for whoever only reads the run's corpus.

    Raises:
        BadDocumentError: If it breaks its schema; `NewerSchemaError` of a later Stillroom's.
    """
    data = read_yaml(path, needed="the config of a run")
    if isinstance(data, dict):
        data = without_dropped_keys(data, where=path, any_value=any_version)
    return TrainConfig.parse(data, where=path)


def without_dropped_keys(data: dict[str, Any], *, where: object, any_value: bool = False) -> dict[str, Any]:
    """A config without keys that are constants today.

    Raises:
        BadDocumentError: If one has another value than today's constant, unless `any_value`.
    """
    result = dict(data)
    for key, (constant, source) in DROPPED_KEYS.items():
        section, _, name = key.partition(".")
        inner = result.get(section)
        if not isinstance(inner, dict) or name not in inner:
            continue
        value = inner[name]
        is_same = value == constant or (isinstance(value, tuple | list) and list(value) == constant)
        if not is_same and not any_value:
            raise BadDocumentError(
                where,
                f"{key}: not a key any more; it is always {constant} ({source}), got {printable(value)}: leave it out",
            )
        result[section] = {other: inner[other] for other in inner if other != name}
    return result


def resolved(user: dict[str, Any], *, where: object, over_preset: bool = True) -> TrainConfig:
    """A config from the keys of a user over those of its preset; or, of a run's own, from its keys alone.

    Raises:
        BadDocumentError: A wrong key or value, with its path.
    """
    preset = user.get("preset")
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise BadDocumentError(where, f"preset: {printable(preset)!r} is none of {', '.join(PRESETS)}")
    base = PRESETS[preset].keys if preset is not None and over_preset else {}
    keys = without_dropped_keys(merged(base, user), where=where)
    return TrainConfig.parse({"schema": TrainConfig.SCHEMA, **keys}, where=where)


def without_other_size(user: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A user's keys, without the size of a batch where a change gives it in the other unit."""
    old, new = user.get("batch"), change.get("batch")
    if not (isinstance(old, dict) and isinstance(new, dict) and new.keys() & {"seconds", "utterances"}):
        return user
    return {**user, "batch": {key: value for key, value in old.items() if key not in {"seconds", "utterances"}}}


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`change` over `base`: mappings key by key, anything else replaced."""
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def with_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with relative corpus folders, or teacher folder, made absolute; a teacher's name alone means a mapping with `name`."""

    def absolute(value: object) -> object:
        if isinstance(value, list):
            return [absolute(one) for one in value]
        if isinstance(value, dict):
            return {key: absolute(one) if key == "dir" else one for key, one in value.items()}
        if not isinstance(value, str) or "://" in value:
            return value
        return str((folder / Path(value).expanduser()).resolve())

    result = dict(data)
    for key in ("corpus", "targets", "stage"):
        if key in result:
            result[key] = absolute(result[key])
    if isinstance(result.get("teacher"), str):
        result["teacher"] = {"name": result["teacher"]}
    teacher = result.get("teacher")
    if isinstance(teacher, dict) and is_path(teacher.get("name"), folder):
        result["teacher"] = {**teacher, "name": absolute(teacher["name"])}
    student = result.get("student")
    if (
        isinstance(student, dict)
        and student.get("init") not in {"teacher", "random"}
        and is_path(student.get("init"), folder)
    ):
        result["student"] = {**student, "init": absolute(student["init"])}
    return result


def is_path(name: object, folder: Path) -> bool:
    """Whether a model is named by its path; `word` or `owner/word` is a path only if there is such a model beside the config."""
    if not isinstance(name, str) or name in {"", "nano"} or is_hub_id(name, folder=folder):
        return False
    place = folder / name
    return "/" in name or place.is_file() or any((place / f"config.{kind}").is_file() for kind in ("json", "yaml"))


def method_difference(ours: TrainConfig, theirs: TrainConfig) -> str | None:
    """The first key, with both values, in which two runs differ in method; None if they are the same."""
    mine, other = flat(ours.model_dump(mode="json", by_alias=True)), flat(theirs.model_dump(mode="json", by_alias=True))
    derived_last = sorted(mine.keys() | other.keys(), key=lambda key: (key.startswith("adversary"), key))
    for key in derived_last:
        if key.partition(".")[0] not in FREE_KEYS and mine.get(key) != other.get(key):
            return f"{key} is {printable(other.get(key))}, not {printable(mine.get(key))}"
    return None


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one with dotted keys."""
    if not isinstance(data, dict) or not data:
        return {prefix.rstrip("."): data}
    return {path: value for key, inner in data.items() for path, value in flat(inner, f"{prefix}{key}.").items()}
