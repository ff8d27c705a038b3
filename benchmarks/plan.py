"""What planning costs at the size of LibriSpeech-960: `python benchmarks/plan.py [UTTERANCES] [FEWER]` (280,000 and 28,000).

A made lhotse manifest (one cut a line, absolute paths, texts and speakers, as `lhotse prepare librispeech` and `CutSet.to_file`
write them) is planned with four copies an utterance: recorded noise, babble, a room with noise in it, a codec. Each size has a
process of its own; printed are the seconds of CPU of the one planning process, with the reading of noises and the calibration of
rooms apart, its peak memory, and the ratio of both sizes' memory. Of all the audio only what planning opens is there.
"""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from corpus_builder.plan import planner
from corpus_builder.plan.make_plan import plan
from manifests.io.json_yaml import write_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

RATE_HZ = 16_000
SPEAKERS = 2338
WORDS = ("the", "of", "and", "house", "would", "without", "MISTER", "evening", "said", "travellers", "a", "it", "was")
APART = ("measure_noises", "plan_simulated_rooms")


def made_cut(number: int, folder: Path, chance: np.random.RandomState) -> dict[str, Any]:
    """One line of the manifest."""
    speaker, chapter = number * 7919 % SPEAKERS, number // 47
    name = f"{speaker}-{chapter}-{number % 47:04d}"
    num_samples = int(chance.randint(2 * RATE_HZ, 17 * RATE_HZ))
    seconds = num_samples / RATE_HZ
    text = " ".join(WORDS[word] for word in chance.randint(0, len(WORDS), int(seconds * 2.7)))
    labels = {
        "id": name, "recording_id": name, "start": 0.0, "duration": seconds, "channel": 0, "text": text.upper(),
        "language": "English", "speaker": str(speaker),
    }  # fmt: skip
    audio = {
        "id": name,
        "sources": [{"type": "file", "channels": [0], "source": f"{folder}/train/{speaker}/{chapter}/{name}.flac"}],
        "sampling_rate": RATE_HZ, "num_samples": num_samples, "duration": seconds, "channel_ids": [0],
    }  # fmt: skip
    return {
        "id": name, "start": 0, "duration": seconds, "channel": 0, "supervisions": [labels], "recording": audio,
        "type": "MonoCut",
    }  # fmt: skip


def made_recipe(folder: Path, *, utterances: int) -> Path:
    """Write manifest, noises and recipe; gives the recipe's path."""
    chance = np.random.RandomState(0)
    with gzip.open(folder / "cuts.jsonl.gz", "wt", compresslevel=1) as stream:
        for number in range(utterances):
            stream.write(json.dumps(made_cut(number, folder / "speech", chance)) + "\n")
    (folder / "noise").mkdir()
    for number in range(20):
        hiss = np.random.RandomState(number).standard_normal(60 * RATE_HZ) * 0.05
        soundfile.write(folder / "noise" / f"{number}.wav", hiss, RATE_HZ, subtype="PCM_16")
    size_m = [[3, 3, 2.4], [6, 5, 3]]
    office = {"rooms": 4, "size_m": size_m, "rt60_s": {"uniform": [0.2, 0.5]}, "distance_m": {"uniform": [0.5, 2]}}
    decibels = {"uniform": [0, 20]}
    conditions: dict[str, list[dict[str, Any]]] = {
        "noise": [{"kind": "noise", "from": ["hiss"], "snr_db": decibels}],
        "babble": [{"kind": "noise", "from": ["babble"], "snr_db": decibels}],
        "far": [
            {"kind": "room", "bank": "office"},
            {"kind": "noise", "from": ["hiss"], "snr_db": decibels, "in_room": True},
        ],
        "phone": [{"kind": "codec", "codec": {"choice": ["g711-mulaw", "amr-nb", "opus"]}}],
    }
    recipe = {
        "schema": "stillroom/recipe/1",
        "name": "bench",
        "seed": 1,
        "speech": {"train": {"cuts": "cuts.jsonl.gz", "strip": str(folder / "speech")}},
        "noises": {"hiss": {"dir": "noise"}, "babble": {"talkers": {"uniform_int": [3, 7]}}},
        "rooms": {"office": office},
        "conditions": {name: {"steps": steps} for name, steps in conditions.items()},
        "copies": {"train": dict.fromkeys(conditions, 1)},
    }
    write_yaml(folder / "recipe.yaml", recipe)
    return folder / "recipe.yaml"


def timed_apart(name: str, spent: dict[str, float]) -> None:
    """Note the CPU seconds that this process spends in a step of planning."""
    step: Callable[..., Any] = getattr(planner, name)

    def noted(*given: Any, **named: Any) -> Any:
        start_s = time.process_time()
        try:
            return step(*given, **named)
        finally:
            spent[name] = time.process_time() - start_s

    setattr(planner, name, noted)


def plan_once(utterances: int) -> None:
    """Plan in this process and print what it cost, as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [sys.executable, __file__, "--make", str(utterances), name]
        subprocess.run(made, check=True)
        apart_s: dict[str, float] = {}
        for step in APART:
            timed_apart(step, apart_s)
        exists, Path.exists = Path.exists, lambda path, **_: path.suffix == ".flac" or exists(path)  # type: ignore[method-assign]
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        plan(folder / "recipe.yaml", folder / "plan", workers=1, progress=False)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        num_bytes = sum(path.stat().st_size for path in (folder / "plan" / "plan").glob("train-*.jsonl"))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    apart = sum(apart_s.values())
    print(json.dumps({"cpu_s": cpu_s - apart, "wall_s": wall_s, "apart_s": apart, "mb": peak_mb, "bytes": num_bytes}))


def measured(utterances: int) -> dict[str, float]:
    """What one size costs, in a process of its own."""
    command = [sys.executable, __file__, "--once", str(utterances)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(
        f"{utterances:,} utterances, four copies each: {found['cpu_s']:.1f} s of CPU "
        f"({1e6 * found['cpu_s'] / utterances:.0f} microseconds an utterance; {found['wall_s']:.1f} s by the clock), peak memory "
        f"{found['mb']:.0f} MB, {found['bytes'] / utterances:.0f} bytes of plan an utterance; "
        f"noises and rooms besides: {found['apart_s']:.1f} s"
    )
    return found


def main(many: int, few: int) -> None:
    """Measure both sizes."""
    small, large = measured(few), measured(many)
    print(f"memory at {many:,} over that at {few:,}: {large['mb'] / small['mb']:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        made_recipe(Path(sys.argv[3]), utterances=int(sys.argv[2]))
    elif sys.argv[1:2] == ["--once"]:
        plan_once(int(sys.argv[2]))
    else:
        given = [int(word) for word in sys.argv[1:]] + [280_000, 28_000][len(sys.argv) - 1 :]
        main(given[0], given[1])
