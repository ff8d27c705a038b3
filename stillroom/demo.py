"""`stillroom demo OUT`: the whole pipeline from recipe to report in minutes, offline, on this machine.

Every stage is run by the command that a user would type, which is printed first, so that the demo is also a tutorial. Each stage
writes files that the next one reads; a demo that was stopped is resumed by the same command.
"""

from __future__ import annotations

import csv
import hashlib
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import StillroomError, UsageError, printable
from manifests.io.atomic import replacing, write_text
from manifests.io.json_yaml import write_yaml
from manifests.io.place import no_folder
from manifests.io.progress import Progress, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import numpy as np
    import numpy.typing as npt

RATE_HZ = 16_000
AUDIO_SUFFIXES = {".flac", ".wav", ".ogg", ".mp3", ".opus", ".aiff", ".aif"}
SPLITS = ("train", "dev", "test")
STEPS = 160
STOPPED = 75


class DemoFailedError(StillroomError, RuntimeError):
    """A stage of the demo ended with an error, which it has printed itself."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"the demo stopped: `{command}` ended with exit code {code}; see its message above")


@click.command("demo", help="All of it in minutes, offline, on this machine: speech, corpus, two students, the table.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--speech", type=click.Path(path_type=Path), help="Your own speech: a folder, <speaker>/… below it if you like."
)
@click.option("--noise", type=click.Path(path_type=Path), help="Your own noise: a folder.")
def demo_command(out: Path, speech: Path | None, noise: Path | None) -> None:
    """Run every stage and print the paths of its files."""
    start_s = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in out.iterdir())
    if names and not {"speech", "recipe.yaml"} & set(names):
        raise UsageError(f"{printable(out)} holds {printable(names[0])!r}, which is not of a demo; choose a new folder")
    labelled = spoken_corpus(out / "speech") if speech is None else own_speech(speech, out / "speech")
    babble = all(can_babble(out / "speech" / f"{split}.csv") for split in SPLITS)
    noise_folder = made_noises(out / "noise") if noise is None else checked_folder(noise, "--noise")
    write_yaml(out / "recipe.yaml", recipe(out, speech=speech, noise=noise_folder, babble=babble))
    for name, preset in (("plain", "distilhubert"), ("robust", "cdm2-dat")):
        write_yaml(out / f"{name}.yaml", run_config(preset))
    write_yaml(out / "evaluation.yaml", evaluation_config(labelled))
    own = [] if speech is None else ["--max-refused", "10%"]  # a few bad files should not end a demo
    run("build", out / "recipe.yaml", out / "corpus", "--workers", "2", *own)
    run("verify", out / "corpus")
    run("train", out / "plain.yaml", out / "runs/plain")
    run("train", out / "robust.yaml", out / "runs/robust")
    run("evaluate", out / "evaluation.yaml", out / "results")
    from evaluation.report.make_report import headline

    click.echo(f"\n{headline(out / 'results')}")
    click.echo(f"\nDone in {duration(time.monotonic() - start_s)}. The files:")
    for name, what in (
        ("recipe.yaml", "the recipe of the corpus"),
        ("corpus/", "the corpus: shards, plan, rooms (stillroom show)"),
        ("runs/", "the two students and their journals"),
        ("results/report.md", "every table (stillroom report)"),
    ):
        click.echo(f"  {out / name}  {what}")


def run(*arguments: object) -> None:
    """Print a command as the user would type it, and run it to its end.

    Raises:
        KeyboardInterrupt: If Ctrl-C stopped it.
        click.exceptions.Exit: With exit code 75, if SIGTERM or SIGUSR1 stopped it.
        DemoFailedError: If it ended with an error.
    """
    words = [str(argument) for argument in arguments]
    shown = shlex.join(["stillroom", *words])
    click.echo(f"\n$ {shown}")
    code, received = waited([sys.executable, "-m", "stillroom", *words])
    if signal.SIGINT in received or code == 130:
        raise KeyboardInterrupt
    if received or code == STOPPED:
        click.echo("stillroom: stopped; the same command goes on where this one left off", err=True)
        raise click.exceptions.Exit(STOPPED)
    if code:
        raise DemoFailedError(shown, code)


# With a timeout the wait is a poll. Without one it is a system call, and a signal that the kernel gives to another thread of this process
# does not end it: nothing would be passed on.
FOREVER_S = 1e9


def waited(command: list[str]) -> tuple[int, list[int]]:
    """Run a command and wait until it has ended by itself, signals to stop passed on to it.

    Ctrl-C reaches it from the terminal already, so only a second one is passed on.

    Returns:
        Its exit code, and the signals that came meanwhile.
    """
    received: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if child is not None and (number != signal.SIGINT or received.count(number) > 1):
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        child = subprocess.Popen(command)  # noqa: S603 (our own command)
        for number in received:  # came before there was a child
            child.send_signal(number)
        return child.wait(timeout=FOREVER_S), received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def can_babble(table: Path) -> bool:
    """Whether a split has speakers for babble: two that are named, or none (then every utterance counts as another speaker)."""
    with table.open(newline="", encoding="utf-8") as stream:
        speakers = {row["speaker"] for row in csv.DictReader(stream)}
    return speakers == {""} or len(speakers) > 1


def recipe(out: Path, *, speech: Path | None, noise: Path, babble: bool) -> dict[str, Any]:
    """The recipe of the demo: noise, a simulated room with noise in it, a telephone codec."""
    folder = "speech" if speech is None else str(speech.resolve())
    noises = ["machines", "white", *(["babble"] if babble else [])]
    return {
        "schema": "stillroom/recipe/1",
        "name": "demo",
        "seed": 1,
        "sample_rate": RATE_HZ,
        "speech": {
            split: {"dir": folder, "table": f"speech/{split}.csv", "min_s": 0.2, "max_s": 20} for split in SPLITS
        },
        "noises": {
            "machines": {"dir": "noise" if noise == out / "noise" else str(noise.resolve())},
            "white": {"colour": "white"},
            **({"babble": {"talkers": {"uniform_int": [3, 6]}}} if babble else {}),
        },
        "rooms": {
            "living": {
                "rooms": 9,
                "size_m": [[3, 3, 2.4], [7, 5, 3]],
                "rt60_s": {"uniform": [0.2, 0.6]},
                "distance_m": {"uniform": [0.5, 2]},
            }
        },
        "conditions": {
            "noise": {"steps": [{"kind": "noise", "from": noises, "snr_db": {"uniform": [0, 15]}}]},
            "far": {
                "steps": [
                    {"kind": "room", "bank": "living"},
                    {"kind": "noise", "from": ["machines"], "snr_db": {"uniform": [5, 15]}, "in_room": True},
                ]
            },
            "phone": {"steps": [{"kind": "codec", "codec": {"choice": ["g711-mulaw", "amr-nb", "opus", "mp3"]}}]},
        },
        "copies": {split: {"noise": 1, "far": 1, "phone": 1} for split in SPLITS},
        "shards": {"samples": 256},
    }


def run_config(preset: str) -> dict[str, Any]:
    """The config of a short training of a student with two layers."""
    return {
        "preset": preset,
        "corpus": "corpus",
        "teacher": {"name": "nano"},
        "student": {"layers": 2},
        "batch": {"seconds": 32, "lanes": 2},
        "crop_s": 4,
        "steps": STEPS,
        "optimiser": {"learning_rate": 1e-3},
        "log_every": 20,
        "checkpoint_every": STEPS,
        "seed": 1,
    }


def evaluation_config(labelled: str | None) -> dict[str, Any]:
    """Teacher and both students; a task if the speech has labels."""
    return {
        "corpus": "corpus",
        "models": {"teacher": "nano", "plain": "runs/plain", "cdm2-dat": "runs/robust"},
        "splits": {split: split for split in SPLITS},
        "tasks": [{"kind": "classify", "label": labelled, "features": "last", "probe": "clean"}] if labelled else [],
        "measures": ["cosine", "leakage"],
        "seed": 0,
    }


def spoken_corpus(folder: Path) -> str:
    """Synthesise keywords and sentences by 90 speakers, those of test not in training; gives the name of the label."""
    from stillroom.talkers import KEYWORDS, SENTENCES, speakers, speech_16k

    wanted: list[tuple[str, dict[str, str], Callable[[], npt.NDArray[np.float32]]]] = []
    for split in ("train", "dev", "test"):
        for number, voice in enumerate(speakers(split)):
            spoken = [("word", word) for word in KEYWORDS]
            if split == "train":
                spoken += [("sentence", SENTENCES[(4 * number + k) % len(SENTENCES)]) for k in range(4)]
            for kind, text in spoken:
                name = text if kind == "word" else f"s{SENTENCES.index(text):02d}"
                row = {
                    "path": f"{split}/{voice.name}/{name}.flac",
                    "speaker": voice.name,
                    "language": "en",
                    "text": text,
                }
                row["word"] = text if kind == "word" else ""
                wanted.append((split, row, lambda text=text, voice=voice: speech_16k(text, voice)))  # type: ignore[misc]
    click.echo(
        f"Synthesising {len(wanted)} utterances by {sum(len(speakers(split)) for split in ('train', 'dev', 'test'))} speakers."
    )
    with Progress("speech", total=len(wanted), unit="utterances") as progress:
        for _, row, speak in wanted:
            write_flac(folder / row["path"], speak)
            progress.advance()
    for split in SPLITS:
        write_table(folder / f"{split}.csv", [row for where, row, _ in wanted if where == split])
    return "word"


def own_speech(speech: Path, folder: Path) -> str | None:
    """Assign the user's own files to splits by a hash of their path; gives `speaker` if each speaker has a folder."""
    files = list(audio_files(checked_folder(speech, "--speech")))
    if len(files) < 20:
        raise UsageError(f"--speech {printable(speech)}: {len(files)} audio files found; a demo needs 20 or more")
    rows: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for path in files:
        relative = path.relative_to(speech).as_posix()
        share = int.from_bytes(hashlib.sha256(relative.encode("utf-8", "surrogateescape")).digest()[:4], "big") / 2**32
        split = "train" if share < 0.8 else "dev" if share < 0.9 else "test"
        rows[split].append({"path": relative, "speaker": relative.split("/")[0] if "/" in relative else ""})
    if not all(rows.values()):
        raise UsageError(f"--speech {printable(speech)}: too few files for a train, a dev and a test part; give more")
    for split in SPLITS:
        write_table(folder / f"{split}.csv", rows[split])
    trained = {row["speaker"] for row in rows["train"]} - {""}
    tested = {row["speaker"] for row in rows["test"] + rows["dev"]} - {""}
    return "speaker" if len(trained) >= 2 and tested and tested <= trained else None


def checked_folder(folder: Path, option: str) -> Path:
    """The same folder, if it has audio files."""
    if not folder.is_dir():
        raise no_folder(folder, needed=f"{option} needs a folder of audio files")
    if next(audio_files(folder), None) is None:
        raise UsageError(
            f"{option} {printable(folder)}: no audio file in it (looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )
    return folder


def audio_files(folder: Path) -> Iterator[Path]:
    """Audio files below a folder, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())


def made_noises(folder: Path) -> Path:
    """Write twelve different synthetic noises of 15 seconds: motors, winds, workshops and sirens."""
    import numpy as np
    from scipy.signal import lfilter

    time_s = np.arange(15 * RATE_HZ) / RATE_HZ
    for number in range(12):
        rng = np.random.RandomState(number)
        hiss = rng.standard_normal(time_s.size)
        match number % 4:
            case 0:  # a motor: harmonics of a wavering hum
                pitch_hz = 40 + 25 * number + 3 * np.sin(2 * np.pi * 0.3 * time_s)
                phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
                wave = sum(np.sin(k * phase + k) / k for k in range(1, 12)) + 0.2 * hiss
            case 1:  # wind: low-passed noise that swells
                swell = 1 + np.sin(2 * np.pi * (0.1 + 0.05 * number) * time_s) * 0.9
                wave = swell * lfilter([1], [1, -1.6, 0.65], hiss)
            case 2:  # a workshop: ringing blows
                blows = (rng.uniform(size=time_s.size) < (3 + number) / RATE_HZ) * rng.uniform(5, 30, time_s.size)
                angle = 2 * np.pi * (700 + 300 * number) / RATE_HZ
                wave = lfilter([1], [1, -1.996 * np.cos(angle), 0.996], blows) + 0.05 * hiss
            case _:  # a siren over traffic
                sweep = np.cumsum(900 + 500 * np.sin(2 * np.pi * 0.2 * (1 + number) * time_s)) / RATE_HZ
                wave = np.sin(2 * np.pi * sweep) + lfilter([1], [1, -0.95], hiss) * 0.3
        write_flac(folder / f"noise-{number:02d}.flac", lambda wave=wave: 0.3 * wave / np.max(np.abs(wave)))  # type: ignore[misc]
    return folder


def write_flac(path: Path, wave: Callable[[], Any]) -> None:
    """Write 16-bit FLAC, unless the file exists."""
    if path.exists():
        return
    import soundfile

    with replacing(path) as part:
        soundfile.write(part, wave(), RATE_HZ, subtype="PCM_16", format="FLAC")


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """Write labels as CSV."""
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
