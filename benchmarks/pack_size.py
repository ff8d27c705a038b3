"""Size and time of a pack of LibriSpeech-960's size: 280,000 utterances with four copies, written without their audio.

    python benchmarks/pack_size.py FOLDER [UTTERANCES]

Digests and fingerprints are random, as real ones are; texts are words by Zipf's law in LibriSpeech's length (34 words); the four
copies are a recorded noise, a babble of five talkers, a room with noise in it, and a codec.
"""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from manifests.corpus.layout import index_name, plan_rows_name, prints_name, sources_name
from manifests.corpus.sample import sample_key
from manifests.io.atomic import write_bytes
from manifests.io.digest import canonical_json, digest, file_digest
from manifests.io.json_yaml import write_json, write_json_lines, write_yaml
from manifests.pack.write import write_pack
from manifests.plan.plan import Plan
from manifests.recipe.recipe import Recipe

ROWS = 512
RECIPE = {
    "schema": "stillroom/recipe/1",
    "name": "librispeech960",
    "speech": {"train": {"dir": "@librispeech", "root": "librispeech"}},
    "noises": {"musan": {"dir": "@musan"}, "babble": {"talkers": 5}},
    "rooms": {"office": {"rooms": 200, "size_m": [[3, 3, 2.4], [8, 6, 3.5]], "rt60_s": 0.4, "distance_m": 1.0}},
    "conditions": {
        "noise": {"steps": [{"kind": "noise", "from": ["musan"], "snr_db": {"uniform": [0, 20]}}]},
        "babble": {"steps": [{"kind": "noise", "from": ["babble"], "snr_db": {"uniform": [0, 20]}}]},
        "far": {"steps": [{"kind": "room", "bank": "office"}]},
        "phone": {"steps": [{"kind": "codec", "codec": "opus"}]},
    },
    "copies": {"train": {"noise": 1, "babble": 1, "far": 1, "phone": 1}},
}


class Inventor:
    """Makes rows up."""

    def __init__(self, count: int) -> None:
        self.chance = np.random.default_rng(1)
        self.count = count
        letters = np.array(list("ETAOINSHRDLUCMFYWGPBVK"))
        self.words = np.array(["".join(self.chance.choice(letters, n)) for n in self.chance.integers(2, 9, 40_000)])

    def name(self, number: int) -> str:
        speaker, chapter = 10 + number * 7919 % 2338, 120_000 + number // 28 % 5000
        return f"{speaker}-{chapter}-{number % 28:04d}"

    def path(self, number: int) -> str:
        name = self.name(number)
        speaker, chapter, _ = name.split("-")
        return f"train-other-500/{speaker}/{chapter}/{name}.flac"

    def hex(self) -> str:
        return self.chance.bytes(32).hex()

    def print(self, *, coded: bool) -> str:
        fine = (
            b"\1\6"
            + self.chance.bytes(2)
            + np.clip(self.chance.normal(0, 12_000, 14), -32767, 32767).astype("<i2").tobytes()
        )
        coarse = (
            b"\2\17" + self.chance.bytes(2) + np.clip(self.chance.normal(0, 40, 28), -127, 127).astype("i1").tobytes()
        )
        return base64.b64encode(fine + coarse if coded else fine).decode()

    def span(self, number: int) -> dict:
        return {
            "root": "librispeech",
            "path": self.path(number),
            "start": 0.0,
            "num_frames": self.length(number),
            "rate_hz": 16000,
        }

    def length(self, number: int) -> int:
        return 20_000 + number * 104_729 % 240_000

    def row(self, number: int) -> dict:
        chance, length = self.chance, self.length(number)
        snr = lambda: round(float(chance.uniform(0, 20)), 2)  # noqa: E731
        name = f"free-sound/noise-free-sound-{int(chance.integers(0, 930)):04d}.wav"
        noise = {
            "kind": "noise", "form": "recorded", "source": "musan", "root": "musan", "recording": name,
            "offset": int(chance.integers(0, 4_000_000)), "snr_db": snr(), "over": "whole",
        }  # fmt: skip
        talkers = [
            {"id": self.name(other), "speaker": self.name(other).split("-")[0], "file": self.span(other), "offset": int(chance.integers(0, 200_000))}
            for other in chance.integers(0, self.count, 5).tolist()
        ]  # fmt: skip
        babble = {
            "kind": "noise",
            "form": "babble",
            "source": "babble",
            "talkers": talkers,
            "snr_db": snr(),
            "over": "whole",
        }
        room, at = int(chance.integers(0, 200)), int(chance.integers(0, 3))
        far = {"kind": "room", "bank": "office", "room": room, "position": at, "response": f"office-{room}-{at}"}
        inside = noise | {
            "response": f"office-{room}-{(at + 1) % 3}",
            "offset": int(chance.integers(0, 4_000_000)),
            "snr_db": snr(),
        }
        phone = {"kind": "codec", "codec": "opus", "bitrate_kbps": float(chance.integers(6, 64))}
        steps = {"noise": [noise], "babble": [babble], "far": [far, inside], "phone": [phone]}
        words = self.words[np.minimum(chance.zipf(1.3, int(chance.integers(15, 55))), 40_000) - 1]
        return {
            "id": self.name(number), "key": sample_key(self.name(number)), "split": "train", "num_samples": length,
            "text": " ".join(words), "speaker": self.name(number).split("-")[0], "source": self.span(number),
            "copies": [{"name": f"{name}-0", "condition": name, "steps": step, "level": "keep"} for name, step in steps.items()],
        }  # fmt: skip


def write_shard(folder: Path, inventor: Inventor, name: str, rows: list[dict]) -> dict:
    """Plan file, index and proof of one shard; returns its entry in the plan."""
    path = folder / plan_rows_name(name)
    write_json_lines(path, (canonical_json(row) for row in rows))
    samples, prints, sources, offset = [], [], [], 512
    for row in rows:
        members = {}
        for member in ("json", "clean", "noise-0", "babble-0", "far-0", "phone-0"):
            size = row["num_samples"] + int(inventor.chance.integers(0, 90_000)) if member != "json" else 2000
            members[member] = {"offset": offset, "size": size} | (
                {} if member == "json" else {"pcm_sha256": inventor.hex()}
            )
            offset += size + -size % 512 + 512
        samples.append({"key": row["key"], "num_samples": row["num_samples"], "members": members})
        found = {member: inventor.print(coded=member == "phone-0") for member in members if member != "json"}
        prints.append({"key": row["key"], "prints": found})
        sources.append(
            {"root": "librispeech", "path": row["source"]["path"], "start": 0, "num_frames": row["num_samples"], "rate_hz": 16000,
             "sha256": inventor.hex(), "pcm_sha256": inventor.hex()}
        )  # fmt: skip
    sha256 = file_digest(path)
    index = {
        "schema": "stillroom/shard/1", "name": name, "split": "train", "sample_rate": 16000, "bytes": offset, "sha256": inventor.hex(),
        "plan_sha256": sha256, "samples": samples, "refused": [],
    }  # fmt: skip
    write_json(folder / index_name(name), index)
    write_json_lines(folder / prints_name(name), (canonical_json(one) for one in prints))
    write_json_lines(folder / sources_name(name), (canonical_json(one) for one in sources))
    return {"name": name, "split": "train", "rows": len(rows), "seconds": 6000.0, "sha256": sha256}


def write_corpus(folder: Path, count: int) -> None:
    """A sealed corpus without tars and responses."""
    inventor = Inventor(count)
    files = []
    for at in range(0, count, ROWS):
        rows = [inventor.row(number) for number in range(at, min(at + ROWS, count))]
        files.append(write_shard(folder, inventor, f"train-{at // ROWS:06d}", rows))
    recipe = Recipe.parse(RECIPE, where="benchmark")
    for name in ("levels", "rooms"):
        write_bytes(folder / plan_rows_name(name), b"")
    plan = Plan.parse(
        {
            "schema": Plan.SCHEMA, "name": "librispeech960", "recipe_sha256": digest(recipe.plain()), "sample_rate": 16000,
            "files": files, "levels_sha256": hashlib.sha256(b"").hexdigest(), "rooms_sha256": hashlib.sha256(b"").hexdigest(),
        },
        where="benchmark",
    )  # fmt: skip
    plan.write(folder / "plan" / "plan.json")
    write_yaml(folder / "recipe.yaml", recipe.plain())
    entry = {"samples": ROWS, "seconds": 6000.0, "bytes": 1, "sha256": "0" * 64}
    write_json(
        folder / "corpus.json",
        {
            "schema": "stillroom/corpus/1", "name": "librispeech960", "recipe_sha256": plan.recipe_sha256, "plan_sha256": digest(plan),
            "sample_rate": 16000, "splits": {"train": [{"name": file["name"], **entry} for file in files]},
            "copies": RECIPE["copies"], "totals": {"samples": count, "seconds": 3.4e6, "bytes": 1, "shards": len(files)},
        },
    )  # fmt: skip
    for name in ("provenance.json", "croissant.json", "README.md", "refused.jsonl"):
        write_bytes(folder / name, b"{}")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sums = "".join(f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths)
    write_bytes(folder / "SHA256SUMS", sums.encode())


def main() -> None:
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 280_000
    if not (folder / "corpus").exists():
        write_corpus(folder / "corpus", count)
    start_s = time.perf_counter()
    path, pack = write_pack(folder / "corpus", folder / "pack.tar.gz")
    spent_s = time.perf_counter() - start_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"utterances": pack.samples, "waves": pack.waves, "megabytes": round(path.stat().st_size / 1e6, 1),
                      "seconds": round(spent_s, 1), "peak_megabytes": round(peak)}))  # fmt: skip


if __name__ == "__main__":
    main()
