"""Small folders in the layout of the public data that the pages name; speech is synthesised, noises and responses are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from stillroom.talkers import KEYWORDS, SENTENCES, aligned_speech_16k, speakers

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000
PARTS = {"train-clean-100": 3, "train-clean-360": 2, "train-other-500": 2, "dev-clean": 2, "test-clean": 2}  # speakers


def write(path: Path, wave: Any) -> None:
    """16-bit audio in the container of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE_HZ, subtype="PCM_16")


def hum(seed: int, seconds: float, channels: int = 1) -> Any:
    """Low-pass noise that swells."""
    random = np.random.RandomState(seed)
    wave = np.cumsum(random.standard_normal((round(seconds * RATE_HZ), channels)), axis=0)
    wave -= np.linspace(wave[0], wave[-1], len(wave))
    return 0.3 * wave / np.abs(wave).max()


def librispeech(data: Path) -> None:
    """`LibriSpeech/PART/SPEAKER/CHAPTER/*.flac` and its `*.trans.txt`."""
    split_of = {"dev-clean": "dev", "test-clean": "test"}
    at = dict.fromkeys(("train", "dev", "test"), 0)
    for part, count in PARTS.items():
        split = split_of.get(part, "train")
        for _ in range(count):
            voice = speakers(split)[at[split]]  # type: ignore[arg-type]
            at[split] += 1
            speaker = f"{100 * list(at).index(split) + at[split]}"
            chapter = data / "LibriSpeech" / part / speaker / "1"
            lines = []
            for number, sentence in enumerate(SENTENCES[at[split] : at[split] + 4]):
                name = f"{speaker}-1-{number:04d}"
                write(chapter / f"{name}.flac", aligned_speech_16k(sentence, voice)[0])
                lines.append(f"{name} {sentence.upper().strip('.')}\n")
            (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))


def musan(data: Path) -> None:
    """`musan/{music,speech,noise}/SET/*.wav` and the annotations of music."""
    for number, (kind, folder) in enumerate((("music", "rfm"), ("speech", "librivox"), ("noise", "free-sound"))):
        for n in range(5):
            write(data / "musan" / kind / folder / f"{kind}-{folder}-{n:04d}.wav", hum(10 * number + n, 3)[:, 0])
    annotations = "".join(f"music-rfm-{n:04d} classical N anonymous\n" for n in range(5))
    (data / "musan" / "music" / "rfm" / "ANNOTATIONS").write_text(annotations)


def wham_noise(data: Path) -> None:
    """`wham_noise/{tr,cv,tt}/*.wav`, two channels."""
    for number, part in enumerate(("tr", "cv", "tt")):
        for n in range(2):
            write(data / "wham_noise" / part / f"{part}{n}.wav", hum(50 + 10 * number + n, 3, channels=2))


def response(seed: int, rt60_s: float = 0.3) -> Any:
    """A room response: a direct sound and noise that falls by 60 dB in the reverberation time."""
    time_s = np.arange(round(1.2 * rt60_s * RATE_HZ)) / RATE_HZ
    tail = 0.05 * np.random.RandomState(seed).standard_normal(time_s.size) * 10 ** (-3 * time_s / rt60_s)
    return np.concatenate([np.zeros(80), [0.9], tail])


def unseen(data: Path) -> None:
    """FSD50K's evaluation audio, and the noises and responses of the DNS Challenge."""
    for n in range(3):
        write(data / "FSD50K.eval_audio" / f"{n}.wav", hum(80 + n, 2)[:, 0])
        write(data / "datasets_fullband" / "noise_fullband" / f"door_{n}.wav", hum(90 + n, 2)[:, 0])
        write(data / "datasets_fullband" / "impulse_responses" / "SLR26" / f"room-{n}.wav", response(n))


def measured_responses(data: Path) -> None:
    """`rirs/ROOM/PLACE.wav`."""
    for n in range(6):
        write(data / "rirs" / f"hall{n}" / "door.wav", response(40 + n))


def rirs_noises(data: Path) -> None:
    """`RIRS_NOISES/real_rirs_isotropic_noises/rir_list` and its responses, `RIRS_NOISES/pointsource_noises/*.wav`."""
    for n in range(4):
        write(data / "RIRS_NOISES" / "pointsource_noises" / f"noise-free-sound-{n:04d}.wav", hum(120 + n, 3)[:, 0])
    folder = data / "RIRS_NOISES" / "real_rirs_isotropic_noises"
    lines = []
    for n in range(6):
        write(folder / f"room{n}.wav", response(20 + n))
        lines.append(f"--rir-id {n} --room-id room-{n} RIRS_NOISES/real_rirs_isotropic_noises/room{n}.wav\n")
    (folder / "rir_list").write_text("".join(lines))


def speech_commands(data: Path) -> None:
    """Speech Commands 1 with its lists, and its test archive."""
    train = data / "SpeechCommands1" / "speech_commands_v0.01"
    test = data / "SpeechCommands1" / "speech_commands_test_set_v0.01"
    held: dict[str, list[str]] = {"validation": [], "testing": []}
    for split, words in (("train", KEYWORDS[:3]), ("dev", KEYWORDS[:3]), ("test", KEYWORDS[:3])):
        for number, voice in enumerate(speakers(split)[:4]):  # type: ignore[arg-type]
            for word in words:
                name = f"{word}/{list('adt')[['train', 'dev', 'test'].index(split)]}{number:07x}_nohash_0.wav"
                wave = aligned_speech_16k(word, voice)[0]
                write(train / name, wave)
                if split == "test":
                    write(test / name, wave)
                if split != "train":
                    held["validation" if split == "dev" else "testing"].append(name)
    for kind, names in held.items():
        (train / f"{kind}_list.txt").write_text("\n".join(names))


def voxceleb1(data: Path) -> None:
    """VoxCeleb1's list of files for speaker identification: a number of the split and a path."""
    lines = [f"{split} id1000{speaker}/abc/0000{split}.wav\n" for split in (1, 2, 3) for speaker in (1, 2)]
    (data / "VoxCeleb1" / "wav").mkdir(parents=True)
    (data / "VoxCeleb1" / "veri_test_class.txt").write_text("".join(lines))


def labelled_speech(folder: Path, *, talkers: int = 4) -> None:
    """A lhotse manifest of cuts a split, `SPLIT.jsonl.gz`, with text, speaker, language, and word, set and phones as custom fields.

    Every split has the same speakers and texts, at levels of its own, so that each label can be learnt.
    """
    for split, level in (("train", 1.0), ("dev", 0.8), ("test", 0.6)):
        cuts = []
        for number, voice in enumerate(speakers("train")[:talkers]):
            for n, text in enumerate([*KEYWORDS[:4], *SENTENCES[:2]]):
                wave, phones = aligned_speech_16k(text, voice)
                name = f"{split}-{voice.name}-{n}"
                write(folder / f"{name}.flac", level * wave)
                recording = Recording.from_file(folder / f"{name}.flac", recording_id=name)
                said = SupervisionSegment(
                    id=name, recording_id=name, start=0, duration=recording.duration, text=text, speaker=voice.name,
                    language=("en", "gd")[number % 2],
                    custom={
                        "word": text if n < 4 else None, "set": "ab"[number % 2],
                        "phones": [[phone.start_s, phone.end_s, phone.name] for phone in phones],
                    },
                )  # fmt: skip
                cuts.append(MonoCut(name, 0, recording.duration, 0, supervisions=[said], recording=recording))
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl.gz")


def prepared(data: Path, *, talkers: int = 4) -> None:
    """What `recipes/realdata/prepare.py` writes: `speech/SPLIT/SET/SPEAKER/*.flac` with `labels.csv`, `noise/SET/*.flac`, `music/SET/*.flac`."""
    for number, split in enumerate(("train", "dev", "test")):
        folder = data / "speech" / split
        rows = []
        for n, voice in enumerate(speakers(split)[:talkers]):  # type: ignore[arg-type]
            said = [("espeak-keywords", voice.name, word, word) for word in KEYWORDS[:4]]
            said += [("asterisk-en", "allison", text, "") for text in SENTENCES[2 * n : 2 * n + 2]]
            said += [(("fillets-cs", "fillets-nl")[n % 2], fish, SENTENCES[n], "") for fish in ("big", "small")]
            for place, (name, speaker, text, word) in enumerate(said):
                path = f"{name}/{speaker}/{n}-{place}.flac"
                write(folder / path, aligned_speech_16k(text, voice)[0])
                rows.append(
                    [path, f"{name}/{split}-{n}-{place}", name, speaker, name[-2:], text.replace(",", ""), word]
                )
        table = ["path,id,set,speaker,language,text,word", *map(",".join, rows)]
        (folder / "labels.csv").write_text("\n".join(table) + "\n")
        for n in range(5 * number, 5 * number + 5):
            write(data / "noise" / "sonicpi" / f"ambi_{n}.flac", hum(150 + n, 3)[:, 0])
            write(data / "music" / "opsound" / f"{n}.flac", hum(170 + n, 3)[:, 0])
