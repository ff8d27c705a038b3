"""Noise, room and MP3 copies of the same utterances, all written as FLAC, by four contenders; called by `render.py`.

* Stillroom: what a worker does with a row of the plan: decode, render, code, digests, fingerprints, JSON, tar.
* Bare library calls on the same samples: decode, add a segment of noise, FFT convolution, LAME, FLAC, one file a wave.
* audiomentations: AddBackgroundNoise, RoomSimulator (its own settings, length kept) and Mp3Compression (delay removed).
* lhotse: mix, reverb_rir, compress; its MP3 rate is libsndfile's at its default level. Twice: reverb_rir draws a response anew for each
  utterance, as lhotse does by itself and as audiomentations' RoomSimulator simulates one; or is given those of Stillroom's bank.

All write the clean wave and three copies of exactly its length and run in one thread. Noises are decoded, responses read and lhotse's
cuts made beforehand where a contender can; lhotse decodes an utterance for each copy, as its cuts are lazy, the others once. They take turns utterance by utterance, so that whatever else the machine
does hits all alike. What counts is processor time of the process, threads of libraries included. Numbers from a plan stand against
chance at work in the others; both are part of the method.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import itertools
import resource
import sys
import time
import warnings
from typing import TYPE_CHECKING, cast

import fast_mp3_augment
import numpy as np
import pyroomacoustics
import soundfile
from made import RATE_HZ, build
from scipy.signal import oaconvolve
from threadpoolctl import threadpool_limits

from corpus_builder.render.corpus_waves import CorpusWaves
from corpus_builder.rooms.rir_bank import read_bank, read_response
from corpus_builder.shards.writer import HashingStream, write_sample
from corpus_builder.sources.roots import read_roots
from manifests.io.json_yaml import read_json_lines
from manifests.io.place import place_of
from manifests.io.tar import TarBuilder
from manifests.plan.plan import PlanRow
from manifests.plan.steps import PlannedCodecStep, PlannedRoomStep, RecordedNoiseStep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO

    Contender = Callable[[PlanRow], object]

SNR_DB = 10.0
MP3_KBPS = 64


def print_ratios(recipe: Path, folder: Path, *, seconds: float) -> None:
    """Measure all, taking turns, and print."""
    threadpool_limits(1)
    pyroomacoustics.constants.set("num_threads", 1)
    corpus = folder / "rivals"
    before_s = children_s()
    build(recipe, corpus, "--rooms", workers=1)
    print(f"once: plan, noise levels and rooms of the bank {children_s() - before_s:.1f} s of CPU", flush=True)
    rows = [
        PlanRow.parse(document, where="plan")
        for path in sorted((corpus / "plan").glob("train-*.jsonl"))
        for document in read_json_lines(path, needed="a plan")
    ]
    contenders = {"Stillroom": stillroom(corpus, folder), "bare calls": bare(corpus, folder)}
    for name, maker in (
        ("audiomentations", audiomentations),
        ("lhotse", lhotse),
        ("lhotse, our bank", functools.partial(lhotse, bank=True)),
    ):
        library = name.partition(",")[0]
        if importlib.util.find_spec(library) is None:
            print(f"{library} is not installed: `make bench` installs what it compares with")
        else:
            contenders[name] = maker(corpus, folder)
    for work in contenders.values():
        work(rows[0])  # imports, calibrations and caches are paid once
        work(rows[1])
    spent, audio_s = dict.fromkeys(contenders, 0.0), 0.0
    for turn, row in enumerate(rows):
        if audio_s >= seconds:
            break
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.process_time()
            contenders[name](row)
            spent[name] += time.process_time() - start
        audio_s += row.num_samples / RATE_HZ
    print(f"clean, noise, room and MP3 copies of {audio_s:.0f} s of speech, written as FLAC:")
    for name, cpu_s in spent.items():
        told = f"{1000 * cpu_s / audio_s:8.2f} ms of CPU a second of audio"
        print(
            f"{name:17s}{told}; Stillroom takes {spent['Stillroom'] / cpu_s:.2f} of it, is {cpu_s / spent['Stillroom']:.2f} times as fast"
        )


def children_s() -> float:
    """Processor time of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def speech_of(row: PlanRow, folder: Path) -> str:
    """The file of an utterance."""
    return f"{folder}/speech/{row.source.path}"


def write_flac(folder: Path, name: str, wave: np.ndarray) -> None:
    """A wave of full scale +-1 as 16-bit FLAC, shape (time,)."""
    soundfile.write(str(folder / f"{name}.flac"), wave, RATE_HZ, subtype="PCM_16")


def stillroom(corpus: Path, folder: Path) -> Contender:
    """A worker's own call."""
    roots = {name: place_of(place) for name, place in read_roots(corpus).items()}
    waves = CorpusWaves(corpus, roots=roots, rate_hz=RATE_HZ)
    waves.ledger.begin()
    stream = (folder / "stillroom.tar").open("wb")
    tar = TarBuilder(cast("IO[bytes]", HashingStream(stream)))
    return lambda row: write_sample(tar, row, waves, rate_hz=RATE_HZ, scratch=folder)


def bare(corpus: Path, folder: Path) -> Contender:
    """Nothing but the libraries, with the numbers of the plan."""
    out = folder / "bare"
    out.mkdir()
    noises = {path.name: soundfile.read(path)[0] for path in sorted((folder / "noise").iterdir())}
    responses = {
        name: read_response(corpus / "rooms", row).astype(np.float64)
        for name, row in read_bank(corpus / "rooms", "office").items()
    }

    def work(row: PlanRow) -> None:
        wave, _ = soundfile.read(speech_of(row, folder))
        flac_bytes(out / f"{row.key}.clean.flac", wave)
        for copy in row.copies:
            (step,) = copy.steps
            match step:
                case RecordedNoiseStep():
                    sound = noises[step.recording]
                    made = wave + 0.1 * np.resize(sound[step.offset :], wave.size)
                case PlannedRoomStep():
                    made = oaconvolve(wave, responses[step.response])[: wave.size]
                case PlannedCodecStep():
                    made = fast_mp3_augment.compress_roundtrip(
                        wave.astype(np.float32), RATE_HZ, int(step.bitrate_kbps or 64)
                    )
                case _:
                    raise TypeError(step)
            flac_bytes(out / f"{row.key}.{copy.name}.flac", made)

    return work


def flac_bytes(path: Path, wave: np.ndarray) -> None:
    """Coded in memory and written, as the worker does."""
    stream = io.BytesIO()
    soundfile.write(stream, wave, RATE_HZ, format="FLAC", subtype="PCM_16")
    path.write_bytes(stream.getvalue())


def audiomentations(_: Path, folder: Path) -> Contender:
    """Its three transforms."""
    from audiomentations import AddBackgroundNoise, Mp3Compression, RoomSimulator

    out = folder / "audiomentations"
    out.mkdir()
    transforms = {
        "noise": AddBackgroundNoise(sounds_path=str(folder / "noise"), min_snr_db=SNR_DB, max_snr_db=SNR_DB, p=1.0),
        "room": RoomSimulator(leave_length_unchanged=True, p=1.0),
        "mp3": Mp3Compression(min_bitrate=MP3_KBPS, max_bitrate=MP3_KBPS, p=1.0),
    }

    def work(row: PlanRow) -> None:
        wave, _ = soundfile.read(speech_of(row, folder), dtype="float32")
        write_flac(out, f"{row.key}.clean", wave)
        for name, transform in transforms.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = transform(wave, sample_rate=RATE_HZ)
            write_flac(out, f"{row.key}.{name}", same_length(made, wave.size, f"audiomentations {name}"))

    return work


def lhotse(corpus: Path, folder: Path, *, bank: bool = False) -> Contender:
    """Its three operations on cuts, with responses of its own or those of Stillroom's bank."""
    import torch
    from lhotse import MonoCut, Recording

    torch.set_num_threads(1)
    out = folder / ("lhotse-bank" if bank else "lhotse")
    out.mkdir()

    def cut_of(path: str) -> MonoCut:
        recording = Recording.from_file(path, recording_id=path.replace("/", "-"))
        return MonoCut(id=recording.id, start=0, duration=recording.duration, channel=0, recording=recording)

    noises = [cut_of(str(path)) for path in sorted((folder / "noise").iterdir())]
    rirs = []
    for name, row in read_bank(corpus / "rooms", "office").items():
        path = out / f"{name}.wav"
        soundfile.write(path, read_response(corpus / "rooms", row), RATE_HZ, subtype="FLOAT")
        rirs.append(Recording.from_file(path))
    cuts = {str(path): cut_of(str(path)) for path in (folder / "speech").rglob("*.flac")}
    turns = itertools.count()

    def work(row: PlanRow) -> None:
        number = next(turns)
        cut = cuts[speech_of(row, folder)]
        wave = cut.load_audio()[0]
        write_flac(out, f"{row.key}.clean", wave)
        made = {
            "noise": cut.mix(noises[number % len(noises)].truncate(duration=cut.duration), snr=SNR_DB),
            "room": cut.reverb_rir(rir_recording=rirs[number % len(rirs)] if bank else None),
            "mp3": cut.compress("mp3"),
        }
        for name, copy in made.items():
            write_flac(out, f"{row.key}.{name}", same_length(copy.load_audio()[0], wave.size, f"lhotse {name}"))

    return work


SAID: set[str] = set()


def same_length(wave: np.ndarray, num_samples: int, whose: str) -> np.ndarray:
    """Cut or filled up to the clean wave's length; where that was needed, it is said once."""
    if wave.size != num_samples and whose not in SAID:
        SAID.add(whose)
        print(f"{whose}: {wave.size} samples for {num_samples}, brought to length", file=sys.stderr)
    return wave[:num_samples] if wave.size >= num_samples else np.pad(wave, (0, num_samples - wave.size))
