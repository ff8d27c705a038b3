#!/usr/bin/env python3
"""Real recorded speech, noise and music from Debian packages, and synthetic keywords, as 16 kHz mono FLAC with a fixed split.

    python recipes/realdata/prepare.py OUT                  # --more-voices for 100 more synthetic voices in train

Needs a Debian-like system (apt-get, dpkg) and the extra ``demo``. README.md beside this file says what is written, where it
comes from and under which licences. A second run does only what is missing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from stillroom import talkers

if TYPE_CHECKING:
    from collections.abc import Iterator

Wave = npt.NDArray[np.float32]

RATE_HZ = 16_000
SHORTEST_S = 0.2
SENTENCES_A_VOICE = 10
MORE_SENTENCES_A_VOICE = 15
MORE_PITCHES_AND_RATES = ((45, 158), (56, 176), (34, 168), (50, 150), (68, 180))
PACKAGES = (
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-en",
    "asterisk-core-sounds-es",
    "asterisk-core-sounds-fr",
    "fillets-ng-data-cs",
    "fillets-ng-data-nl",
    "pocketsphinx-testdata",
    "sonic-pi-samples",
    "asterisk-moh-opsound-wav",
)
PROMPT_FOLDERS = {"en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June"}
NOT_SPEECH = re.compile(r"(^|/)(beep|beeperr|[^/]*tone[^/]*|silence[^/]*|[^/]*ring[^/]*)(/|$)")
LIBRIVOX_LINE = re.compile(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)\s*$")
COLUMNS = ("path", "id", "set", "speaker", "language", "text", "word")


@dataclass(frozen=True)
class Item:
    """One file to write.

    Attributes:
        kind: Folder below OUT.
        set_name: Where it comes from.
        name: Unique within its set.
        source: A file to decode, or the voice that speaks ``text``.
        split: None for noise and music: a recipe deals those among the splits.
    """

    kind: Literal["speech", "noise", "music"]
    set_name: str
    name: str
    source: Path | talkers.Voice
    split: talkers.Split | None = None
    speaker: str = ""
    language: str = ""
    text: str = ""
    word: str = ""

    @property
    def id(self) -> str:
        """Unique over everything."""
        return f"{self.set_name}/{self.name}"

    @property
    def path(self) -> Path:
        """Below OUT."""
        return Path(self.kind, self.split or "", self.set_name, self.speaker, f"{self.name}.flac")


def split_of(item_id: str) -> talkers.Split:
    """80 % train, 10 % dev, 10 % test by a keyed hash of the id, so that nothing else decides."""
    digest = hashlib.blake2b(item_id.encode(), key=b"stillroom/realdata/1", digest_size=8).digest()
    tenth = int.from_bytes(digest, "big") % 10
    if tenth < 8:
        return "train"
    return "dev" if tenth == 8 else "test"


def fetch(cache: Path) -> Path:
    """Download and unpack the packages without installing them; give the unpacked root."""
    root = cache / "root"
    cache.mkdir(parents=True, exist_ok=True)
    missing = [name for name in PACKAGES if not any(cache.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "download", "-qq", *missing], cwd=cache, check=True)
    for deb in sorted(cache.glob("*.deb")):
        done = cache / f"{deb.name}.unpacked"
        if not done.exists():
            subprocess.run(["dpkg", "-x", str(deb), str(root)], check=True)
            done.touch()
    return root


def decoded(path: Path) -> Wave:
    """Any of the packages' files as mono samples at RATE_HZ, shape (time,)."""
    if path.suffix == ".g722":
        with av.open(str(path), format="g722") as container:
            frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        if not frames:
            raise ValueError("no audio frames")
        return np.concatenate(frames).astype(np.float32) / np.float32(32768.0)
    wave, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(wave.mean(axis=1), rate_hz, RATE_HZ), dtype=np.float32)


def prompt_texts(root: Path, language: str) -> dict[str, str]:
    """Prompt name to spoken text, from the package's own list."""
    listing = root / f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
    if not listing.exists():
        return {}
    lines = gzip.decompress(listing.read_bytes()).decode("utf-8", "replace").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, text in pairs}


def prompts(root: Path) -> Iterator[Item]:
    """Telephone prompts: one voice for English and Spanish, another for French."""
    for language, speaker in PROMPT_FOLDERS.items():
        texts = prompt_texts(root, language)
        folder = root / "usr/share/asterisk/sounds" / speaker
        for path in sorted(folder.rglob("*.g722")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if not NOT_SPEECH.search(name):
                id_, text = name.replace("/", "_"), texts.get(name, "")
                yield spoken(f"asterisk-{language}", id_, path, speaker=speaker, language=language, text=text)


def dialogues(root: Path) -> Iterator[Item]:
    """Acted dialogue of two fish, the same lines in Czech and Dutch; minor roles are left out."""
    for language in ("cs", "nl"):
        for path in sorted((root / "usr/share/games/fillets-ng/sound").rglob(f"{language}/*.ogg")):
            role = re.search(r"-([mv])-", path.name)
            if role:
                set_name = f"fillets-{language}"
                name = f"{path.parent.parent.name}_{path.stem}"
                yield spoken(set_name, name, path, speaker=f"{set_name}-{role[1]}", language=language)


def read_book(root: Path) -> Iterator[Item]:
    """Sentences read from "Sense and Sensibility"."""
    folder = root / "usr/share/pocketsphinx/test/data/librivox"
    matches = map(LIBRIVOX_LINE.match, (folder / "transcription").read_text().splitlines())
    texts = {match[2]: match[1] for match in matches if match}
    for path in sorted(folder.glob("*.wav")):
        text = texts.get(path.stem, "")
        yield spoken("librivox", path.stem, path, speaker="librivox-austen", language="en", text=text)


def spoken(set_name: str, name: str, path: Path, *, speaker: str, language: str, text: str = "") -> Item:
    """A recorded utterance in the split its id says."""
    split = split_of(f"{set_name}/{name}")
    return Item("speech", set_name, name, path, split, speaker=speaker, language=language, text=text)


def keywords() -> Iterator[Item]:
    """Each keyword by each synthetic voice; a voice is in one split."""
    splits: tuple[talkers.Split, ...] = ("train", "dev", "test")
    for split in splits:
        for voice in talkers.speakers(split):
            for word in talkers.KEYWORDS:
                yield Item("speech", "espeak-keywords", f"{voice.name}_{word}", voice, split,
                           speaker=voice.name, language=voice.language, text=word, word=word)  # fmt: skip


def sentences() -> Iterator[Item]:
    """Running speech of the training voices, in train only."""
    count = len(talkers.SENTENCES)
    for row, voice in enumerate(talkers.speakers("train")):
        for column in range(SENTENCES_A_VOICE):
            number = (row * SENTENCES_A_VOICE + column) % count
            yield Item("speech", "espeak-sentences", f"{voice.name}_{number:02d}", voice, "train",
                       speaker=voice.name, language=voice.language, text=talkers.SENTENCES[number])  # fmt: skip


def more_voices() -> Iterator[talkers.Voice]:
    """Train's variants in the accents that `talkers.speakers` leaves out, so that no vocal tract of dev or test is among them."""
    known = talkers.speakers("train")
    accents = sorted({voice.language for voice in known})
    names = {voice.name for voice in known}
    pitches = itertools.cycle(MORE_PITCHES_AND_RATES)
    for variant in dict.fromkeys(voice.variant for voice in known):
        for language in accents:
            name = f"{language}_{variant.lower()}"
            if name not in names:
                yield talkers.Voice(name, language, variant, *next(pitches))


def more_sentences() -> Iterator[Item]:
    """Running speech of more voices, in train only."""
    count = len(talkers.SENTENCES)
    for row, voice in enumerate(more_voices()):
        for column in range(MORE_SENTENCES_A_VOICE):
            number = (row * MORE_SENTENCES_A_VOICE + column) % count
            yield Item("speech", "espeak-more-voices", f"{voice.name}_{number:02d}", voice, "train",
                       speaker=voice.name, language=voice.language, text=talkers.SENTENCES[number])  # fmt: skip


def noises(root: Path) -> Iterator[Item]:
    """Recorded ambiences and percussion, and music."""
    for path in sorted((root / "usr/share/sonic-pi/samples").glob("*.flac")):
        yield Item("noise", "sonicpi", path.stem, path)
    for path in sorted((root / "usr/share/asterisk/moh").rglob("*.wav")):
        yield Item("music", "opsound", path.stem, path)


def items(root: Path, *, has_more_voices: bool = False) -> Iterator[Item]:
    """Everything, in a fixed order."""
    for source in (prompts(root), dialogues(root), read_book(root), keywords(), sentences(), noises(root)):
        yield from source
    if has_more_voices:
        yield from more_sentences()


def make(item: Item, out: Path) -> float:
    """Write one file unless it is there; give its length in seconds.

    Raises:
        ValueError, OSError, RuntimeError: What the decoder found wrong with the source.
    """
    target = out / item.path
    if not target.exists():
        match item.source:
            case Path():
                wave = decoded(item.source)
            case talkers.Voice():
                wave = talkers.speech_16k(item.text, item.source)
        if len(wave) < SHORTEST_S * RATE_HZ:
            raise ValueError(f"shorter than {SHORTEST_S} s")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part")
        sf.write(part, np.clip(wave, -1.0, 1.0), RATE_HZ, subtype="PCM_16", format="FLAC")
        part.replace(target)
    return float(sf.info(target).duration)


def write_labels(out: Path, made: list[tuple[Item, float]]) -> None:
    """One table a split (paths relative to it) and one list of everything, each put in place whole."""
    for split in ("train", "dev", "test"):
        folder = out / "speech" / split
        part = folder / "labels.csv.part"
        with part.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for item, _ in made:
                if item.split == split:
                    path = (out / item.path).relative_to(folder).as_posix()
                    table.writerow((path, item.id, item.set_name, item.speaker, item.language, item.text, item.word))
        part.replace(folder / "labels.csv")
    part = out / "metadata.jsonl.part"
    with part.open("w") as file:
        for item, seconds in made:
            record = {"id": item.id, "path": item.path.as_posix(), "kind": item.kind, "set": item.set_name,
                      "split": item.split, "speaker": item.speaker, "language": item.language, "text": item.text,
                      "word": item.word, "seconds": round(seconds, 3)}  # fmt: skip
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    part.replace(out / "metadata.jsonl")


def prepare(out: Path, *, has_more_voices: bool = False) -> int:
    """Fetch, decode, synthesise and list everything; give the number of files skipped."""
    talkers.speech_16k("yes", talkers.speakers("train")[0])  # without the extra this fails here, before any download
    root = fetch(out / "cache")
    made: list[tuple[Item, float]] = []
    skipped = 0
    for item in items(root, has_more_voices=has_more_voices):
        try:
            made.append((item, make(item, out)))
        except (ValueError, OSError, RuntimeError) as problem:  # one bad file must not stop the rest
            skipped += 1
            print(f"skipped {item.id}: {problem}", file=sys.stderr)
    write_labels(out, made)
    for split in ("train", "dev", "test", None):
        of_split = [seconds for item, seconds in made if item.split == split]
        print(f"{split or 'noise and music':<16} {len(of_split):>6} files {sum(of_split) / 3600:6.2f} h")
    print(f"done, {skipped} skipped; see {out / 'metadata.jsonl'}")
    return skipped


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to fill")
    parser.add_argument("--more-voices", action="store_true", help="also sentences of 100 more synthetic train voices")
    given = parser.parse_args()
    try:
        prepare(given.out, has_more_voices=given.more_voices)
    except talkers.TalkerMissingError as problem:
        sys.exit(str(problem))
    except (subprocess.CalledProcessError, FileNotFoundError) as problem:
        sys.exit(
            f"packages could not be fetched: {problem}; apt-get and dpkg are needed, and a network for the first run"
        )


if __name__ == "__main__":
    main()
