"""What rendering costs: `python benchmarks/render.py [--seconds N]`, half an hour of made speech unless told otherwise.

1. Each kind of copy, beside the FLAC coding that every copy pays: milliseconds of CPU for a second of audio, one thread, the median
   of three rounds over the same minute of speech.
2. Noise, room and MP3 copies of the same utterances by Stillroom's worker, the bare library calls, audiomentations and lhotse
   (`rivals.py`).
3. The wall time of rendering with one and with two workers, in pairs, rooms and plan made before; of four times as much speech, since
   starting two processes takes the time of a quarter of an hour.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rivals
import soundfile
from made import MEAN_S, RATE_HZ, build, made_recipe

from corpus_builder.audio.levels import FULL_SCALE, fit_peak, quantise
from corpus_builder.distortions import additive_noise, reverb
from corpus_builder.distortions.codecs import transcode

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS_HEAR = 4  # times as much speech: what is started once is not what is measured
ROUNDS = 3
KINDS_S = 60.0


def cost_ms(work: Callable[[np.ndarray], object], waves: list[np.ndarray]) -> float:
    """Median CPU milliseconds for a second of audio."""
    audio_s = sum(map(len, waves)) / RATE_HZ
    work(waves[0])  # calibrations and caches are paid once
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for wave in waves:
            work(wave)
        spent.append(time.process_time() - start)
    return 1000 * sorted(spent)[ROUNDS // 2] / audio_s


def flac(wave: np.ndarray) -> bytes:
    """Sixteen-bit FLAC in memory."""
    stream = io.BytesIO()
    soundfile.write(stream, quantise(fit_peak(wave)[0]), RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def print_kinds(folder: Path, *, seconds: float) -> None:
    """A line a kind."""
    files = sorted((folder / "speech").rglob("*.flac"))[: math.ceil(min(KINDS_S, seconds) / MEAN_S)]
    waves = [soundfile.read(path, dtype="int16")[0] / FULL_SCALE for path in files]
    hiss = soundfile.read(folder / "noise" / "0.flac")[0]
    response = (np.random.RandomState(0).standard_normal(6400) * np.exp(-np.arange(6400) / 900)).astype(np.float32)
    kinds: dict[str, Callable[[np.ndarray], object]] = {
        "FLAC coding": flac,
        "recorded noise": lambda wave: additive_noise.mix_at_snr(
            wave, additive_noise.segment(hiss, offset=99, num_samples=len(wave), rate_hz=RATE_HZ), snr_db=10
        ),
        "room (0.4 s response)": lambda wave: reverb.reverberate(wave, response, direct_sample=0),
    }
    for name_, rate in transcode.DEFAULT_BITRATE_KBPS.items():
        kinds[f"{name_} {rate:g} kbit/s"] = lambda wave, name_=name_, rate=rate: transcode.transcode(
            wave, codec=name_, bitrate_kbps=rate, rate_hz=RATE_HZ
        )
    for kind, work in kinds.items():
        print(f"{kind:24s} {cost_ms(work, waves):7.2f} ms of CPU a second of audio", flush=True)


def print_workers(recipe: Path, folder: Path) -> None:
    """Wall time of two workers over one's, in pairs that follow one another, so that a loaded machine hits both."""
    ratios = []
    for pair in range(ROUNDS):
        wall_s = {}
        for workers in (1, 2):
            corpus = folder / f"corpus-{pair}-{workers}"
            build(recipe, corpus, "--rooms", workers=2)
            start = time.perf_counter()
            build(corpus, corpus, workers=workers)
            wall_s[workers] = time.perf_counter() - start
        ratios.append(wall_s[2] / wall_s[1])
        print(f"rendering: {wall_s[1]:.1f} s with one worker, {wall_s[2]:.1f} s with two: {ratios[-1]:.2f}", flush=True)
    print(f"two workers over one, median of {ROUNDS} pairs: {statistics.median(ratios):.2f}")


def made(folder: Path, *, seconds: float) -> Path:
    """So much made speech, and a recipe with a noise, a room and an MP3 copy."""
    utterances = math.ceil(1.1 * seconds / MEAN_S) + 1
    return made_recipe(folder, utterances=utterances, kinds=("noise", "room", "mp3"))


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of speech (1800)")
    parser.add_argument("--only", choices=["kinds", "rivals", "workers"], help="one of the three parts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = made(folder, seconds=options.seconds)
        if options.only in (None, "kinds"):
            print_kinds(folder, seconds=options.seconds)
        if options.only in (None, "rivals"):
            rivals.print_ratios(recipe, folder, seconds=options.seconds)
        if options.only in (None, "workers"):
            long = folder / "long"
            long.mkdir()
            print_workers(made(long, seconds=WORKERS_HEAR * options.seconds), long)


if __name__ == "__main__":
    main()
