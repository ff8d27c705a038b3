"""Peak memory of a worker in its harshest case: `python benchmarks/memory.py [SECONDS] [CORPUS_HZ]` (120, the longest, at 48000).

Utterances of the longest length, in each way that a file may hold them (16 bits at the corpus rate; two channels of floats at
48 kHz), a copy of each kind that holds many waves at once, noises of a quarter of an hour in two channels at 48 kHz. Printed is the
most that any process of the build held, which is its one worker (VmHWM: what `getrusage` says of a child counts this process, too).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from manifests.io.json_yaml import write_yaml

RATE_HZ, WIDE_HZ = 16_000, 48_000
NOISE_S = 900

CONDITIONS = {
    "noise": [{"kind": "noise", "from": ["hiss"], "snr_db": {"uniform": [0, 20]}}],
    "several": [{"kind": "noise", "from": ["hiss", "pink"], "count": 3, "snr_db": {"uniform": [0, 20]}}],
    "shaped": [{"kind": "noise", "from": ["shaped"], "over": "active", "snr_db": 10}],
    "babble": [
        {"kind": "room", "bank": "office"},
        {"kind": "noise", "from": ["babble"], "snr_db": 10, "in_room": True},
    ],
    "far": [
        {"kind": "room", "bank": "office"},
        {"kind": "noise", "from": ["hiss", "pink"], "count": 3, "snr_db": 10, "in_room": True},
    ],
    "reverb": [{"kind": "freeverb", "room_scale": 50}],
    "pitch": [{"kind": "pitch", "cents": {"uniform": [-500, 500]}}],
    "line": [{"kind": "bandpass", "low_hz": 300, "high_hz": 3400}, {"kind": "clip", "percent": 1}],
    "resample": [{"kind": "resample", "rate_hz": 8000}],
    "lossy": [{"kind": "codec", "codec": "opus", "loss": {"percent": 10, "conceal": "repeat"}}],
    **{
        codec.replace("-", "_"): [{"kind": "codec", "codec": codec}]
        for codec in ("g711-mulaw", "g722", "g726", "gsm-fr", "amr-nb", "mp3", "aac", "vorbis")
    },
    "tandem": [{"kind": "codec", "codec": "aac"}, {"kind": "codec", "codec": "opus"}],
}


def write_sources(folder: Path, *, seconds: int) -> None:
    """Two long utterances of each kind of file, by speakers of their own, and two noises."""
    for number in range(4):
        chance = np.random.RandomState(number)
        wide = number % 2 == 1
        rate_hz, suffix, subtype = (WIDE_HZ, "wav", "FLOAT") if wide else (RATE_HZ, "flac", "PCM_16")
        wave = chance.standard_normal(seconds * rate_hz) * 0.1
        wave *= np.clip(np.sin(6 * np.pi * np.arange(wave.size) / rate_hz), 0.02, 1)
        path = folder / ("wide" if wide else "narrow") / f"speaker{number}" / f"{number}.{suffix}"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.stack([wave, wave[::-1]], axis=1) if wide else wave, rate_hz, subtype=subtype)
    (folder / "noise").mkdir()
    for number in range(2):
        hiss = np.random.RandomState(50 + number).standard_normal((NOISE_S * WIDE_HZ, 2)) * 0.05
        soundfile.write(folder / "noise" / f"{number}.flac", hiss, WIDE_HZ, subtype="PCM_16")


def write_recipe(folder: Path, *, corpus_hz: int) -> Path:
    """The recipe, with one copy of each kind."""
    path = folder / "recipe.yaml"
    bank = {"rooms": 2, "size_m": [[3, 3, 2.4], [6, 5, 3]], "rt60_s": 0.4, "distance_m": {"uniform": [0.5, 2]}}
    copies = dict.fromkeys(CONDITIONS, 1)
    write_yaml(
        path,
        {
            "schema": "stillroom/recipe/1",
            "name": "memory",
            "seed": 1,
            "sample_rate": corpus_hz,
            "speech": {
                "narrow": {"dir": "narrow", "fields": "{speaker}/{id}.flac"},
                "wide": {"dir": "wide", "fields": "{speaker}/{id}.wav", "channel": 1},
            },
            "noises": {
                "hiss": {"dir": "noise", "channel": 0},
                "pink": {"colour": "pink"},
                "shaped": {"colour": "speech"},
                "babble": {"talkers": 3},
            },
            "rooms": {"office": bank},
            "conditions": {name: {"steps": steps} for name, steps in CONDITIONS.items()},
            "copies": {"narrow": copies, "wide": copies},
        },
    )
    return path


def peak_kb(process: int) -> int:
    """The most memory that a process or one of its children has held; 0 if it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return 0
    own = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return max([0, *own, *(peak_kb(int(child)) for child in children.split())])


def main() -> None:
    """Write, build, print."""
    given = [int(word) for word in sys.argv[1:]]
    seconds, corpus_hz = given + [120, WIDE_HZ][len(given) :]
    with tempfile.TemporaryDirectory(prefix="stillroom-memory-") as name:
        folder = Path(name)
        write_sources(folder, seconds=seconds)
        command = [
            sys.executable,
            "-m",
            "stillroom",
            "build",
            str(write_recipe(folder, corpus_hz=corpus_hz)),
            str(folder / "corpus"),
        ]
        build = subprocess.Popen([*command, "--workers", "1"])
        most_kb = 0
        while build.poll() is None:
            most_kb = max(most_kb, peak_kb(build.pid))
            time.sleep(0.2)
    if build.returncode:
        sys.exit(build.returncode)
    print(
        f"4 utterances of {seconds} s at {corpus_hz} Hz with {len(CONDITIONS)} copies each: {most_kb / 1024:.0f} MB at most in one process"
    )


if __name__ == "__main__":
    main()
