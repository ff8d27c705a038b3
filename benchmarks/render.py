"""What a copy of each kind costs, beside the FLAC coding that every copy pays: `python benchmarks/render.py`.

Milliseconds of CPU for a second of audio, one thread, the median of three rounds over the same utterances; and the wall time of the
whole `build` (planning and rooms included) with one and with two workers.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from made import RATE_HZ, build, made_recipe

from corpus_builder.distortions import codec, noise, room
from corpus_builder.distortions.levels import FULL_SCALE, fit_peak, quantise

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3


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


def main() -> None:
    """Print a line a kind, then the build."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = made_recipe(folder)
        files = sorted((folder / "speech").rglob("*.flac"))[:24]
        waves = [soundfile.read(path, dtype="int16")[0] / FULL_SCALE for path in files]
        hiss = soundfile.read(folder / "noise" / "0.flac")[0]
        response = (np.random.RandomState(0).standard_normal(6400) * np.exp(-np.arange(6400) / 900)).astype(np.float32)
        kinds: dict[str, Callable[[np.ndarray], object]] = {
            "FLAC coding": flac,
            "recorded noise": lambda wave: noise.mix_at_snr(
                wave, noise.segment(hiss, offset=99, num_samples=len(wave), rate_hz=RATE_HZ), snr_db=10
            ),
            "room (0.4 s response)": lambda wave: room.reverberate(wave, response, direct_sample=0),
        }
        for name_, rate in codec.DEFAULT_BITRATE_KBPS.items():
            kinds[f"{name_} {rate:g} kbit/s"] = lambda wave, name_=name_, rate=rate: codec.transcode(
                wave, codec=name_, bitrate_kbps=rate, rate_hz=RATE_HZ
            )
        for kind, work in kinds.items():
            print(f"{kind:24s} {cost_ms(work, waves):7.2f} ms of CPU a second of audio")
        wall_s = {}
        for workers in (1, 2):
            corpus = folder / f"corpus{workers}"
            corpus.mkdir()
            start = time.perf_counter()
            build(recipe, corpus, workers=workers)
            wall_s[workers] = time.perf_counter() - start
        print(
            f"whole build: {wall_s[1]:.1f} s with one worker, {wall_s[2]:.1f} s with two: {wall_s[2] / wall_s[1]:.2f}"
        )


if __name__ == "__main__":
    main()
