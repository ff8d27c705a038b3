"""The data of the study: prepared real data, phone sentences with alignments, and noise and music divided once, by name.

    python benchmarks/robustness/data.py DATA OUT

DATA is what ``recipes/realdata/prepare.py`` wrote. OUT gets, as hard links where the disk allows:

* ``eval/{train,dev,test}`` with ``labels.csv``: every keyword and phone sentences. Train's sentences are among those that students are
  trained on, without labels; dev's and test's are others, by other voices.
* ``phones.csv``: the alignments of the phone sentences, ``id,start,end,label``.
* ``noise/{train,dev,test}`` and ``music/{dev,test}``: a recording is in one of them, whatever a recipe's seed.
* ``data.json``, written last: counts and a digest over names and PCM; with it there, nothing is done again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import sentences
import soundfile as sf

from stillroom import talkers
from stillroom.phones import Phone, phone_class

VERSION = 2
RATE_HZ = 16_000
SPLITS: tuple[talkers.Split, ...] = ("train", "dev", "test")
TRAIN_SENTENCES_A_VOICE = 3
SENTENCES_A_VOICE = 4
TONAL = ("bass", "guit", "loop", "mehackit")
"""Kinds of recordings that are music in short: left out of the noises, so that music stays new."""
COLUMNS = ("path", "id", "set", "speaker", "language", "text", "word")
Row = dict[str, str]


def keyed(name: str) -> int:
    """A number for a name, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(name.encode(), key=b"stillroom/robustness/1", digest_size=8).digest(), "big")


def place(source: Path, target: Path) -> None:
    """A hard link, or a copy where the disk has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def divide_noises(data: Path, out: Path) -> dict[str, int]:
    """Noises 60/20/20 within each kind of recording (the name before the first ``_``), music to dev and test alone."""
    counts: dict[str, int] = {}
    kinds: dict[str, list[Path]] = {}
    for path in sorted((data / "noise").rglob("*.flac")):
        kind = path.stem.split("_")[0]
        if kind not in TONAL:
            kinds.setdefault(kind, []).append(path)
    for found in kinds.values():
        for number, path in enumerate(sorted(found, key=lambda path: keyed(path.stem))):
            split = ("train", "test", "dev", "train", "train")[number % 5]
            place(path, out / "noise" / split / path.name)
            counts[f"noise/{split}"] = counts.get(f"noise/{split}", 0) + 1
    music = sorted((data / "music").rglob("*.flac"), key=lambda path: keyed(path.stem))
    for number, path in enumerate(music):
        split = ("test", "dev")[number % 2]
        place(path, out / "music" / split / path.name)
        counts[f"music/{split}"] = counts.get(f"music/{split}", 0) + 1
    return counts


def keyword_rows(data: Path, split: talkers.Split, voices: int | None) -> list[Row]:
    """Keywords of a split, as its table lists them."""
    chosen = {voice.name for voice in talkers.speakers(split)[:voices]}
    with (data / "speech" / split / "labels.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["set"] == "espeak-keywords" and row["speaker"] in chosen]


def spoken(split: talkers.Split, voices: int | None) -> list[tuple[talkers.Voice, int, str]]:
    """Who says which sentence: voice, number and text. Each voice begins elsewhere in the list, so all sentences are said."""
    lists = {"train": talkers.SENTENCES, "dev": sentences.DEV, "test": sentences.TEST}
    each = TRAIN_SENTENCES_A_VOICE if split == "train" else SENTENCES_A_VOICE
    said = []
    for row, voice in enumerate(talkers.speakers(split)[:voices]):
        for column in range(each):
            # Train's are the first that prepare.py gave this voice, so that students are trained on no sentence more.
            number = (row * (10 if split == "train" else each) + column) % len(lists[split])
            said.append((voice, number, lists[split][number]))
    return said


def write_wave(path: Path, wave: talkers.Wave) -> None:
    """As 16-bit FLAC, put in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    sf.write(part, np.clip(wave, -1.0, 1.0), RATE_HZ, subtype="PCM_16", format="FLAC")
    part.replace(path)


def make_split(
    data: Path, out: Path, split: talkers.Split, voices: int | None
) -> tuple[list[Row], dict[str, list[Phone]]]:
    """Write one split's audio; gives its table and its alignments."""
    folder = out / "eval" / split
    rows = []
    for row in keyword_rows(data, split, voices):
        source = data / "speech" / split / row["path"]
        place(source, folder / row["path"])
        rows.append(row)
    phones: dict[str, list[Phone]] = {}
    for voice, number, text in spoken(split, voices):
        wave, aligned = talkers.aligned_speech_16k(text, voice)
        path = Path("espeak-phones") / voice.name / f"{voice.name}_{number:02d}.flac"
        write_wave(folder / path, wave)
        id_ = f"espeak-phones-{split}/{voice.name}_{number:02d}"
        rows.append({"path": path.as_posix(), "id": id_, "set": "espeak-phones", "speaker": voice.name,
                     "language": voice.language, "text": text, "word": ""})  # fmt: skip
        phones[id_] = [phone._replace(name=phone_class(phone.name)) for phone in aligned]
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return rows, phones


def write_phones(path: Path, phones: dict[str, dict[str, list[Phone]]]) -> int:
    """The alignments of all splits; phones that no train voice says are left out and counted."""
    known = {phone.name for aligned in phones["train"].values() for phone in aligned}
    left_out = 0
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", "start", "end", "label"))
        for split in SPLITS:
            for id_, aligned in phones[split].items():
                for phone in aligned:
                    if phone.name in known:
                        table.writerow((id_, f"{phone.start_s:.4f}", f"{phone.end_s:.4f}", phone.name))
                    else:
                        left_out += 1
    return left_out


def commonest_phone_share(path: Path, split: str) -> float:
    """Share of a split's phone time that the commonest phone of train takes: chance of a frame's phone."""
    seconds: dict[tuple[str, str], float] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = row["id"].partition("/")[0].removeprefix("espeak-phones-"), row["label"]
            seconds[key] = seconds.get(key, 0.0) + float(row["end"]) - float(row["start"])
    of_train = {label: value for (side, label), value in seconds.items() if side == "train"}
    commonest = max(sorted(of_train), key=of_train.__getitem__)
    return seconds.get((split, commonest), 0.0) / sum(value for (side, _), value in seconds.items() if side == split)


def digest_of(out: Path) -> str:
    """SHA-256 over names and PCM of everything written, tables too: free of the FLAC coder's version."""
    found = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        if path.suffix in {".flac", ".csv"}:
            found.update(path.relative_to(out).as_posix().encode() + b"\0")
            found.update(path.read_bytes() if path.suffix == ".csv" else sf.read(path, dtype="int16")[0].tobytes())
    return found.hexdigest()


def prepare(data: Path, out: Path, *, voices: int | None = None) -> dict[str, object]:
    """Write everything that is not there yet; gives the record. The smoke test takes so many voices a split, the study all."""
    done = out / "data.json"
    if done.exists():
        record: dict[str, object] = json.loads(done.read_text())
        if record["version"] == VERSION:
            return record
    counts: dict[str, object] = {**divide_noises(data, out)}
    phones: dict[str, dict[str, list[Phone]]] = {}
    for split in SPLITS:
        rows, phones[split] = make_split(data, out, split, voices)
        counts[split] = len(rows)
    counts["phones left out"] = write_phones(out / "phones.csv", phones)
    record = {"version": VERSION, "counts": counts, "sha256": digest_of(out)}
    part = done.with_suffix(".part")
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(done)
    return record


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what recipes/realdata/prepare.py wrote")
    parser.add_argument("out", type=Path, help="the folder to fill")
    given = parser.parse_args()
    print(json.dumps(prepare(given.data, given.out), indent=2))


if __name__ == "__main__":
    main()
