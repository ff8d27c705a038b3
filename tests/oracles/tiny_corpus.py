"""A small sealed corpus written by hand: standard library tar, soundfile and the manifests; no builder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from manifests.corpus.sample import sample_key

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16000


@dataclass
class TinyUtterance:
    """One utterance: int16 waves by member, and the fields of its JSON; `steps` in place of a member's own, `source` above the usual."""

    id: str
    waves: dict[str, np.ndarray]
    speaker: str | None = None
    language: str | None = None
    text: str | None = None
    custom: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    gain_db: float = 0.0


def tone(rng: np.random.Generator, *, pitch_hz: float, num_samples: int, noise: float = 0.02) -> np.ndarray:
    """A harmonic tone with a little noise, float in [-1, 1]."""
    time_s = np.arange(num_samples) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * pitch_hz * k * time_s + rng.uniform(0, 6)) / k for k in range(1, 6))
    return 0.2 * wave + noise * rng.standard_normal(num_samples)


def distorted(wave: np.ndarray, rng: np.random.Generator, member: str) -> np.ndarray:
    """A stand-in for each condition: added noise, or a crude low pass."""
    if member.startswith("noise"):
        return wave + 0.3 * rng.standard_normal(len(wave))
    return np.convolve(wave, np.ones(8) / 8, mode="same")


def as_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.round(wave * 32767), -32768, 32767).astype("<i2")


def step_of(member: str) -> dict[str, Any]:
    if member.startswith("noise"):
        return {"kind": "noise", "form": "coloured", "source": "white", "colour": "white", "seed": 1, "snr_db": 5.0}
    return {"kind": "codec", "codec": "g711-mulaw"}


def sample_json(utterance: TinyUtterance, split: str) -> dict[str, Any]:
    copies = [
        {
            "name": member, "condition": member.rsplit("-", 1)[0], "domain": "white", "family": step_of(member)["kind"],
            "gain_db": utterance.gain_db, "steps": [utterance.steps.get(member) or step_of(member)],
        }
        for member in utterance.waves
        if member != "clean"
    ]  # fmt: skip
    given = {
        "schema": "stillroom/sample/1", "id": utterance.id, "split": split, "num_samples": len(utterance.waves["clean"]),
        "sample_rate": RATE_HZ, "text": utterance.text, "speaker": utterance.speaker, "language": utterance.language,
        "custom": utterance.custom, "source": {"root": split, "path": "a.wav", "rate_hz": RATE_HZ} | utterance.source, "copies": copies,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value is not None}


def flac(wave: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def write_corpus(folder: Path, splits: dict[str, list[TinyUtterance]], *, name: str = "tiny") -> Path:
    """Write `corpus.json` and one shard a split; every utterance of a split has the members of its first."""
    entries, copies = {}, {}
    (folder / "shards").mkdir(parents=True)
    for split, utterances in splits.items():
        shard = f"{split}-000000"
        path = folder / "shards" / f"{shard}.tar"
        samples = write_tar(path, utterances, split)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        index = {
            "schema": "stillroom/shard/1", "name": shard, "split": split, "sample_rate": RATE_HZ,
            "bytes": path.stat().st_size, "sha256": sha256, "plan_sha256": "0" * 64, "samples": samples,
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(index))
        seconds = sum(sample["num_samples"] for sample in samples) / RATE_HZ
        entries[split] = [
            {"name": shard, "samples": len(samples), "seconds": seconds, "bytes": path.stat().st_size, "sha256": sha256}
        ]
        members = (
            [member.rsplit("-", 1)[0] for member in utterances[0].waves if member != "clean"] if utterances else []
        )
        copies[split] = {condition: members.count(condition) for condition in members}
    totals = {
        "samples": sum(map(len, splits.values())), "seconds": 1.0, "bytes": 1, "shards": len(splits),
    }  # fmt: skip
    corpus = {
        "schema": "stillroom/corpus/1", "name": name, "recipe_sha256": "1" * 64, "plan_sha256": "2" * 64,
        "sample_rate": RATE_HZ, "splits": entries, "copies": copies, "totals": totals,
    }  # fmt: skip
    (folder / "corpus.json").write_text(json.dumps(corpus))
    return folder


def write_tar(path: Path, utterances: list[TinyUtterance], split: str) -> list[dict[str, Any]]:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for utterance in utterances:
            key = sample_key(utterance.id)
            contents = {f"{key}.json": json.dumps(sample_json(utterance, split)).encode()}
            contents |= {f"{key}.{member}.flac": flac(wave) for member, wave in utterance.waves.items()}
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    places = {}
    with tarfile.open(path) as tar:
        places = {info.name: (info.offset_data, info.size) for info in tar}
    samples = []
    for utterance in utterances:
        key = sample_key(utterance.id)
        offset, size = places[f"{key}.json"]
        members = {"json": {"offset": offset, "size": size}}
        for member, wave in utterance.waves.items():
            offset, size = places[f"{key}.{member}.flac"]
            sha256 = hashlib.sha256(wave.astype("<i2").tobytes()).hexdigest()
            members[member] = {"offset": offset, "size": size, "pcm_sha256": sha256}
        samples.append({"key": key, "num_samples": len(utterance.waves["clean"]), "members": members})
    return samples


def tiny_split(
    split: str,
    *,
    count: int,
    members: tuple[str, ...] = ("noise-0", "noise-1", "phone-0"),
    words: tuple[str, ...] = ("ale", "gin", "rum", "rye"),
    seed: int = 0,
) -> list[TinyUtterance]:
    """Tones whose pitch tells the word, two 'speakers' in each of two 'sets'."""
    utterances = []
    for number in range(count):
        rng = np.random.default_rng([seed, len(split), sum(split.encode()), number])
        word = number % len(words)
        wave = tone(rng, pitch_hz=150 * 1.5**word, num_samples=int(rng.integers(5000, 11000)))
        waves = {"clean": as_int16(wave)}
        waves |= {member: as_int16(distorted(wave, rng, member)) for member in members}
        voice = rng.integers(0, 4)
        utterances.append(
            TinyUtterance(
                id=f"{split}/{words[word]}/{number}.wav",
                waves=waves,
                speaker=f"voice {voice}",
                language="en" if voice < 2 else "de",
                custom={"word": words[word], "take": number, "name": f"{split} {number}"},
            )
        )
    return utterances
