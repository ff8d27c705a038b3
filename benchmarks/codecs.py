"""What each codec setting costs and how much delay is taken out: `python benchmarks/codecs.py [FOLDER OF 16 kHz SPEECH]`.

A table in Markdown: the delay at 16 kHz as it is measured on the probe, and milliseconds of CPU for a second of audio, the whole
chain (resampling, coder, decoder), one thread, the median of three rounds. Without a folder the probe itself is coded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import soundfile
from render import RATE_HZ, cost_ms

from corpus_builder.distortions.codecs.delay import measured_delay, probe
from corpus_builder.distortions.codecs.round_trip import Setting, codec_rate_hz
from corpus_builder.distortions.codecs.transcode import transcode
from manifests.recipe.codecs import BITRATES_KBPS, CODECS, DEFAULT_BITRATE_KBPS, Application

if TYPE_CHECKING:
    import numpy as np

MOST_S = 60.0


def speech(folder: Path | None) -> list[np.ndarray]:
    """About a minute of it."""
    if folder is None:
        return [probe(RATE_HZ)] * 5
    waves: list[np.ndarray] = []
    for path in sorted(folder.rglob("*.flac")) + sorted(folder.rglob("*.wav")):
        wave, rate_hz = soundfile.read(path)
        if rate_hz == RATE_HZ and wave.ndim == 1:
            waves.append(wave)
        if sum(map(len, waves)) > MOST_S * RATE_HZ:
            break
    return waves


def settings() -> list[Setting]:
    """Of each codec the lowest, the usual and the highest bit rate."""
    return [
        Setting(codec, rate, RATE_HZ, application)
        for codec in CODECS
        for rate in sorted({BITRATES_KBPS[codec][0], DEFAULT_BITRATE_KBPS[codec], BITRATES_KBPS[codec][-1]})
        for application in (get_args(Application) if codec == "opus" else ("audio",))
    ]


def main() -> None:
    """Print a row a setting."""
    waves = speech(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    print("| codec | kbit/s | coder at | delay removed | cost |\n|---|---|---|---|---|")
    for setting in settings():

        def work(wave: np.ndarray, setting: Setting = setting) -> object:
            return transcode(
                wave,
                codec=setting.codec,
                bitrate_kbps=setting.bitrate_kbps,
                rate_hz=RATE_HZ,
                application=setting.application,
            )

        name = setting.codec + (f", {setting.application}" if setting.codec == "opus" else "")
        delay = measured_delay(setting)
        print(
            f"| {name} | {setting.bitrate_kbps:g} | {codec_rate_hz(setting) / 1000:g} kHz | {delay:.1f} samples "
            f"({1000 * delay / RATE_HZ:.2f} ms) | {cost_ms(work, waves):.1f} ms/s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
