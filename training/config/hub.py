"""Models of the Hugging Face hub by their id (`facebook/hubert-base-ls960`): snapshots in its cache, and how one is fetched.

`models--facebook--hubert-base-ls960/refs/main` names a commit, `snapshots/<commit>/` has its files. Nothing of `huggingface_hub` is needed
to find one, so that a node without a network needs no more than the folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from manifests.errors import StillroomError, UsageError, printable

PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
ID: Final = re.compile(rf"{PART}/{PART}")
SNAPSHOT: Final = re.compile(rf"/models--({PART}?)--({PART})/snapshots/[0-9a-f]{{40}}$")
DESCRIBED: Final = ("config.json", "preprocessor_config.json", "README.md", "LICENSE", "LICENSE.*")
WEIGHTS: Final = (  # whole, or the list of parts and the parts
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)


class NotFetchedError(StillroomError, ConnectionError):
    """A download of published weights failed."""

    def __init__(self, name: str, why: object) -> None:
        super().__init__(
            f"the weights of {printable(name)} could not be fetched ({printable(why)}): "
            "run the command again where there is a network"
        )


def is_hub_id(name: str, *, folder: Path = Path()) -> bool:
    """Whether a name can only be that of a model of the hub: of the form `owner/name`, and no file or folder below `folder`."""
    return ID.fullmatch(name) is not None and not (folder / name).exists()


def hub_cache() -> Path:
    """Where snapshots are, by the hub's own variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def snapshot_of(name: str) -> Path | None:
    """The newest fetched snapshot of a model; None if there is none."""
    folder = hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        commit = (folder / "refs/main").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    found = folder / "snapshots" / commit
    return found if re.fullmatch(r"[0-9a-f]{40}", commit) and found.is_dir() else None


def snapshot_name(folder: Path) -> str | None:
    """The id of the model that a folder is a snapshot of; None if it is none."""
    found = SNAPSHOT.search(folder.absolute().as_posix())
    return None if found is None else f"{found[1]}/{found[2]}"


def fetch_snapshot(name: str) -> Path:
    """Download a model's description and weights into the hub's cache; returns the snapshot.

    Raises:
        UsageError: If `huggingface_hub` is not installed.
        NotFetchedError: If the download fails.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            f"{printable(name)} is fetched by huggingface_hub, which is not installed: pip install huggingface_hub"
        ) from None
    try:
        for weights in WEIGHTS:
            wanted = [*DESCRIBED, *weights]
            found = Path(huggingface_hub.snapshot_download(name, cache_dir=hub_cache(), allow_patterns=wanted))
            if any((found / name).is_file() for name in weights):
                return found
    except Exception as problem:  # noqa: BLE001 (its versions raise errors of different libraries)
        why = str(problem).strip().partition("\n")[0] or type(problem).__name__
        raise NotFetchedError(name, why) from None
    raise NotFetchedError(name, f"it has neither {' nor '.join(weights[0] for weights in WEIGHTS)}")
