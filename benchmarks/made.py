"""A small corpus for benchmarks, made of noise-like speech; real speech is read no slower."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from manifests.io.json_yaml import write_yaml

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000
MEAN_S = 9.0


def made_recipe(
    folder: Path,
    *,
    utterances: int = 120,
    kinds: tuple[str, ...] | None = None,
    seconds: tuple[float, float] = (4, 14),
    shard: int = 15,
) -> Path:
    """Write speech-like files of some lengths, noises and a recipe with a copy of each kind; gives the recipe's path."""
    for number in range(utterances):
        chance = np.random.RandomState(number)
        time_s = np.arange(int(chance.uniform(*seconds) * RATE_HZ)) / RATE_HZ
        wave = np.cumsum(chance.standard_normal(time_s.size)) * 0.01
        wave = (wave - np.mean(wave)) * np.clip(np.sin(2 * np.pi * 3 * time_s), 0.02, 1)
        path = folder / "speech" / f"speaker{number % 8}" / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * wave / np.abs(wave).max(), RATE_HZ, subtype="PCM_16")
    (folder / "noise").mkdir()
    for number in range(6):
        hiss = np.random.RandomState(number).standard_normal(30 * RATE_HZ) * 0.05
        soundfile.write(folder / "noise" / f"{number}.flac", hiss, RATE_HZ, subtype="PCM_16")
    conditions = {
        "noise": [{"kind": "noise", "from": ["hiss"], "snr_db": {"uniform": [0, 20]}}],
        "room": [{"kind": "room", "bank": "office"}],
        "mulaw": [{"kind": "codec", "codec": "g711-mulaw"}],
        "amr": [{"kind": "codec", "codec": "amr-nb"}],
        "opus": [{"kind": "codec", "codec": "opus"}],
        "mp3": [{"kind": "codec", "codec": "mp3"}],
    }
    conditions = {name: steps for name, steps in conditions.items() if kinds is None or name in kinds}
    size_m = [[3, 3, 2.4], [6, 5, 3]]
    office = {"rooms": 4, "size_m": size_m, "rt60_s": {"uniform": [0.2, 0.5]}, "distance_m": {"uniform": [0.5, 2]}}
    recipe = {
        "schema": "stillroom/recipe/1",
        "name": "bench",
        "seed": 1,
        "speech": {"train": {"dir": "speech", "fields": "{speaker}/{id}.flac"}},
        "noises": {"hiss": {"dir": "noise"}},
        "rooms": {"office": office},
        "conditions": {name: {"steps": steps} for name, steps in conditions.items()},
        "copies": {"train": dict.fromkeys(conditions, 1)},
        "shards": {"samples": shard},
    }
    write_yaml(folder / "recipe.yaml", recipe)
    return folder / "recipe.yaml"


def made_corpus(folder: Path) -> Path:
    """Build the corpus; gives its folder."""
    build(made_recipe(folder), folder / "corpus", workers=2)
    return folder / "corpus"


def build(recipe: Path, corpus: Path, *options: str, workers: int) -> None:
    """Run the command."""
    command = [
        sys.executable,
        "-m",
        "stillroom",
        "build",
        str(recipe),
        str(corpus),
        "--workers",
        str(workers),
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True)
