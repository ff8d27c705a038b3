"""A lab in small: two splits of speech, noises and a room bank, and a recipe for them, made from a frozen stream of noise."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import signal
import threading
import time
import warnings
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import yaml

from corpus_builder.build.build_corpus import Built, build
from corpus_builder.plan.make_plan import plan
from manifests.plan.plan import Plan, PlanRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RATE_HZ = 16_000
RECIPE: dict[str, Any] = {
    "schema": "stillroom/recipe/1",
    "name": "small",
    "seed": 5,
    "speech": {
        "train": {"dir": "speech/train", "fields": "{speaker}/{id}.wav"},
        "test": {"dir": "speech/test", "fields": "{speaker}/{id}.wav"},
    },
    "noises": {
        "hum": {"dir": "noise"},
        "babble": {"talkers": {"uniform_int": [1, 2]}},
        "white": {"colour": "white"},
    },
    "rooms": {
        "cell": {
            "rooms": 2,
            "size_m": [[3, 3, 2.4], [3.5, 3.5, 2.6]],
            "rt60_s": 0.2,
            "distance_m": {"uniform": [0.5, 1]},
            "positions": 2,
        }
    },
    "conditions": {
        "noise": {"steps": [{"kind": "noise", "from": ["hum", "babble", "white"], "snr_db": {"uniform": [0, 20]}}]},
        "far": {
            "steps": [
                {"kind": "room", "bank": "cell"},
                {"kind": "noise", "from": ["hum"], "snr_db": {"uniform": [5, 20]}, "in_room": True},
            ]
        },
        "phone": {"steps": [{"kind": "codec", "codec": {"choice": ["g711-mulaw", "mp3"]}}]},
    },
    "copies": {"train": {"noise": 2, "far": 1, "phone": 1}, "test": {"noise": 1, "far": 1}},
    "shards": {"samples": 3},
}


class Inline(Executor):
    """An executor that does everything at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **named))
        except Exception as problem:  # noqa: BLE001 (a future carries whatever was raised)
            future.set_exception(problem)
        return future


def voice(seed: int, seconds: float) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Noise in syllables, 16-bit."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = np.random.RandomState(seed).standard_normal(time_s.size) * (0.2 + np.sin(8 * time_s + seed) ** 2)
    return np.asarray(np.rint(2000 * wave), dtype=np.int16)


def write_wave(path: Path, wave: Any, *, rate_hz: int = RATE_HZ, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate_hz, **options)
    return path


@contextlib.contextmanager
def interrupted_when(holds: Callable[[], bool]) -> Iterator[None]:
    """Stop the block by SIGINT, as Ctrl-C does, as soon as a condition holds; it must not come to its end."""
    over = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while not over.is_set():
            if holds():
                signal.pthread_kill(main, signal.SIGINT)
                return
            time.sleep(0.001)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=watch, daemon=True)
    try:
        with warnings.catch_warnings():
            # The signal may come between `open` and its `with`: the collector then closes the file, with a warning.
            warnings.simplefilter("ignore", ResourceWarning)
            with pytest.raises(KeyboardInterrupt):
                watcher.start()
                yield
            gc.collect()
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGINT, before)


def partial_results(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that remembers what an interrupted run has found out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


@dataclass
class Lab:
    """A folder with sources and a recipe; `plan` and `build` run in this process."""

    folder: Path
    recipe: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(RECIPE))

    def write_recipe(self, name: str = "recipe.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(self.recipe, sort_keys=False))
        return path

    def speech(self, split: str, speaker: str, name: str, *, seed: int = 0, seconds: float = 0.5) -> Path:
        return write_wave(self.folder / "speech" / split / speaker / f"{name}.wav", voice(seed, seconds))

    def noise(self, name: str, *, seed: int = 0, seconds: float = 1.5) -> Path:
        return write_wave(self.folder / "noise" / f"{name}.wav", voice(seed, seconds))

    def plan(self, name: str = "plan", **options: Any) -> tuple[Plan, bool]:
        return plan(self.write_recipe(), self.folder / name, progress=False, **options)

    def build(self, name: str = "corpus", *, source: Path | None = None, **options: Any) -> Built:
        options.setdefault("executor", Inline())
        return build(source or self.write_recipe(), self.folder / name, progress=False, **options)

    def rows(self, name: str = "plan", split: str = "train") -> list[PlanRow]:
        found = sorted((self.folder / name / "plan").glob(f"{split}-*.jsonl"))
        return [PlanRow.model_validate_json(line) for path in found for line in path.read_bytes().splitlines()]

    def without_rooms(self) -> None:
        """Rooms cost a second; most tests need none."""
        del self.recipe["rooms"], self.recipe["conditions"]["far"]
        for copies in self.recipe["copies"].values():
            copies.pop("far")


def furnish(folder: Path) -> Lab:
    """Write the sources."""
    lab = Lab(folder)
    for number in range(8):
        lab.speech("train", f"s{number % 4}", f"u{number}", seed=number, seconds=0.4 + 0.05 * number)
    for number in range(4):
        lab.speech("test", f"t{number % 2}", f"v{number}", seed=50 + number)
    for number in range(5):
        lab.noise(f"n{number}", seed=100 + number, seconds=0.3 + 0.4 * number)
    return lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return furnish(tmp_path)


@pytest.fixture(scope="session")
def built_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose corpus, rooms and all, is built; not to be changed."""
    built = furnish(tmp_path_factory.mktemp("built"))
    assert built.build().corpus is not None
    return built
