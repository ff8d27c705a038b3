"""The pages that a user follows, followed: every command, file and part of a config in its order, on small trees of the same layout.

A block with a title is a file, a block of bash is run, and a part of a recipe or of a training config is completed by `PARTS` and built or
trained. `SMALL` is all that differs from the page: sizes, the published teacher (`nano` instead), and where data lies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import pytest
import yaml

import stillroom
from tests.corpus_builder.shards.test_s3 import Server
from tests.pages import trees

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

HOUSE = Path(__file__).resolve().parents[2]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
SPLITS = ("train", "dev", "test")
STEPS = {"steps": 2, "checkpoint_every": 1, "validate_every": 2, "log_every": 1, "crop_s": 4}
BATCH = {"seconds": 8, "lanes": 2}
SHORT = "".join(
    f" --set {key}={value}" for key, value in {**STEPS, **{f"batch.{key}": BATCH[key] for key in BATCH}}.items()
)
SMALL: tuple[tuple[str, str], ...] = (
    (r"(?<![\w:/.])/(data|scratch|local)\b", r"<ROOM>/\1"),
    (r"\bhubert_base\b", "nano"),
    (r"layers 4,8,12", "layers 2,4,8"),
    (r"layers: 12, width: 480, attention_heads: 12, feed_forward: 480", "layers: 8, width: 48, attention_heads: 2, feed_forward: 48"),
    (r"--workers \d+", "--workers 2"),
    (r"--nworkers \d+", "--nworkers 2"),
    (r"--nproc-per-node=\d+", "--nproc-per-node=2"),
    (r"--array=1-\d+", "--array=1-2"),
    (r"dask scheduler ", "dask scheduler --port 0 --no-dashboard "),
    (r"TASK_ID/40", "TASK_ID/2"),
    (r"localhost:29500|\$head:29500", "localhost:<PORT>"),
    (r"(stillroom train \S+ \S+)", r"\1" + SHORT),
    (r"\{kind: ctc, ", "{kind: ctc, updates: 20, "),
    (r"probes: 2", "probes: 1"),
    (r"rooms: 200 ", "rooms: 6 "),
    (r"rooms: 60,", "rooms: 6,"),
    (r"talkers: \{uniform_int: \[3, 7\]\}", "talkers: 3"),
    (r"python .*prepare\.py.*", ":"),  # downloads half a gigabyte: `trees.prepared` in its place
    (r"pip install '\.\[demo\]'", ":"),  # installed already
    (r"--num-units 500 --batch-size 12 ", ""),
    (r" --steps 4000 --minutes 100000", ""),
    (r"--scratch (\w+)", r"--scratch \1 --steps 2 --batch-size 2 --crop-frames 50 --num-units 20 --threads 1"),
    (r"(purity\.py \w+ \w+ \w+)", r"\1 --num-units 20 --every 1"),
    (r"size_m: \[\[3, 3, 2.4\], \[8, 6, 3.5\]\]", "size_m: [[3, 3, 2.4], [4, 4, 2.6]]"),
    (r"rt60_s: \{uniform: \[0.2, 0.8\]\}", "rt60_s: {uniform: [0.2, 0.3]}"),
)  # fmt: skip
NOT_RUN = re.compile(
    r"run_downstream"  # s3prl's repository, in an environment of its own
    r"|make (demo|test|bench)|stillroom demo"  # long, or what runs this very test
    r"|my_executor"  # the reader's own
    r"|robustness/study\.py"  # hours: the whole study, whose corpora and phones `layers.py` then reads
)
# What Slurm does, on one machine: a script runs once, or once for each number of its array.
SLURM = {
    "sbatch": r"""script=${!#}
array=$(sed -n 's/^#SBATCH.*--array=1-\([0-9]*\).*/\1/p' "$script")
export SLURM_JOB_ID=1 SLURM_ARRAY_JOB_ID=1 SLURM_NNODES=1 SLURM_JOB_NODELIST=localhost
for SLURM_ARRAY_TASK_ID in $(seq "${array:-1}"); do
    export SLURM_ARRAY_TASK_ID
    if grep -q '^dask ' "$script"; then setsid bash "$script" > /dev/null 2>&1 & echo $! >> "$JOBS"; else bash "$script" >&2; fi
done
echo 1""",
    "scontrol": 'if [ "$1" = show ]; then echo localhost; fi',
    "scancel": "exit 0",
    "srun": 'exec "$@"',
    "stillroom": f'exec "{sys.executable}" -m stillroom "$@"',
    "python": f'exec "{sys.executable}" "$@"',
    "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
    "lhotse": f'exec "{sys.executable}" -c "from lhotse.bin.lhotse import cli; cli()" "$@"',
    "dask": f'exec "{sys.executable}" -m dask "$@"',
}


class Block(NamedTuple):
    """A fenced block of a page: its language, the file that it is (if it is one), its text."""

    language: str
    title: str
    text: str


class Room:
    """A folder where pages are followed; `data` and `scratch` are what `/data` and `/scratch` are on a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.work, self.commands = folder / "data", folder / "work", folder / "bin"
        for path in (self.data, folder / "scratch", folder / "local", self.work, self.commands):
            path.mkdir()
        for name, text in SLURM.items():
            (self.commands / name).write_text(f"#!/bin/bash\n{text}\n")
            (self.commands / name).chmod(0o755)

    def small(self, text: str) -> str:
        """A text of a page, with the sizes and places of this room."""
        for pattern, replacement in SMALL:
            text = re.sub(pattern, replacement, text)
        with socket.socket() as opened:
            opened.bind(("127.0.0.1", 0))
            return text.replace("<ROOM>", str(self.folder)).replace("<PORT>", str(opened.getsockname()[1]))

    def link(self, *names: str) -> None:
        """What a page takes from a checkout, in the folder where it is followed."""
        for name in names:
            (self.work / name).symlink_to(HOUSE / name)

    def follow(self, page: str, **settings: str) -> list[str]:
        """Write a page's files and run its commands, in order; gives what is left, its parts of configs."""
        parts, script = [], ["set -eEuo pipefail", "trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR"]
        shown = [
            block._replace(text=self.small(block.text)) for block in blocks(page) if not NOT_RUN.search(block.text)
        ]
        for title, text in ((block.title, block.text) for block in shown if block.title):
            (self.work / title).write_text(text)  # some pages show a file after the command that reads it
        for language, title, text in shown:
            if title:
                script += [f"cat > {title} << 'END OF FILE'", text.rstrip("\n"), "END OF FILE"]
            elif language == "bash":
                script.append(text)
            elif language == "python":
                script += ["python - << 'END OF FILE'", text.rstrip("\n"), "END OF FILE"]
            elif language == "yaml":
                parts.append(text)
        (self.folder / "page.sh").write_text("\n".join(script) + "\n")
        jobs = self.folder / "jobs"
        environment = {
            **os.environ,
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "PYTHONPATH": str(HOUSE),
            "JOBS": str(jobs),
        }
        environment |= {"OMP_NUM_THREADS": "1", "TMPDIR": tempfile.gettempdir(), **settings}
        try:
            done = subprocess.run(
                ["bash", str(self.folder / "page.sh")], cwd=self.work, env=environment, capture_output=True, text=True, check=False, timeout=900,
            )  # fmt: skip
        finally:
            for number in jobs.read_text().split() if jobs.exists() else []:
                subprocess.run(["kill", "--", f"-{number}"], check=False)
        assert done.returncode == 0, f"{page}: {done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        return parts


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page that have a language."""
    return [Block(*found) for found in FENCE.findall((HOUSE / page).read_text("utf-8"))]


def recipe(room: Room, **more: Any) -> dict[str, Any]:
    """A recipe of the LibriSpeech tree with noise and a reverb."""
    speech = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
    return {
        "schema": "stillroom/recipe/1", "name": "pages", "seed": 1, "sample_rate": 16000,
        "speech": {
            split: {
                "dir": str(room.data / "LibriSpeech"), "root": "librispeech", "pattern": f"{part}/**/*.flac",
                "fields": f"{part}/{{speaker}}/{{chapter}}/{{id}}.flac",
            }
            for split, part in speech.items()
        },
        "noises": {"musan": {"dir": str(room.data / "musan"), "pattern": "**/*.wav"}},
        "conditions": {
            "noise": {"steps": [{"kind": "noise", "from": ["musan"], "snr_db": {"uniform": [0, 15]}}]},
            "far": {"steps": [{"kind": "freeverb", "room_scale": 60}]},
        },
        "copies": {split: {"noise": 1, "far": 1} for split in SPLITS},
        **more,
    }  # fmt: skip


def write_yaml(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def libri(room: Room) -> Room:
    """With LibriSpeech and MUSAN, and `recipe.yaml` of both."""
    trees.librispeech(room.data)
    trees.musan(room.data)
    write_yaml(room.work / "recipe.yaml", recipe(room))
    return room


@pytest.fixture
def built(libri: Room) -> Room:
    """With a `corpus` of that recipe."""
    stillroom.build(libri.work / "recipe.yaml", libri.work / "corpus", workers=2)
    return libri


def config(room: Room, corpus: Path, **more: Any) -> dict[str, Any]:
    """A training config of two steps."""
    return {"preset": "cdm2-dat", "corpus": str(corpus), "teacher": {"name": "nano"}, **STEPS, "batch": BATCH, **more}


def test_get_started(room: Room) -> None:
    assert not room.follow("docs/index.md")
    assert {path.name for path in room.work.glob("my-*.yaml")} == {
        f"my-{name}.yaml" for name in ("recipe", "train", "evaluation")
    }


def test_librispeech(room: Room) -> None:
    for tree in (trees.librispeech, trees.musan, trees.wham_noise, trees.unseen):
        tree(room.data)
    assert not room.follow("docs/librispeech.md")
    data = room.data  # where the page goes to
    assert "domain: family" in (data / "runs" / "cdm2-dat" / "config.yaml").read_text()
    for name in ("in-domain", "unseen"):
        measured = {path.stem for path in (data / "results" / name / "cells").glob("*.json")}
        assert measured == {"teacher", "plain", "cdm2-dat"}
        assert (data / f"{name}.html").stat().st_size > 10_000


def test_superb(room: Room) -> None:
    trees.speech_commands(room.data)
    trees.musan(room.data)
    trees.voxceleb1(room.data)
    trees.librispeech(room.data)
    corpus = room.folder / "scratch" / "for-runs"
    stillroom.build(write_yaml(room.data / "runs.yaml", recipe(room)), corpus, workers=2)
    room.work = room.data
    for name, preset in (("plain", "distilhubert"), ("cdm2", "cdm2")):
        stillroom.train(
            write_yaml(room.data / f"{name}.yaml", config(room, corpus, preset=preset)), room.data / "runs" / name
        )
    room.follow("docs/superb.md", DATA=str(room.data))
    table = (room.data / "VoxCeleb1" / "wav" / "dev.csv").read_text().split()
    assert table == ["path,speaker", "id10001/abc/00002.wav,id10001", "id10002/abc/00002.wav,id10002"]
    made = {
        path.relative_to(room.data / "speech-noise" / "test")
        for path in (room.data / "speech-noise" / "test").rglob("*.wav")
    }
    source = room.data / "SpeechCommands1" / "speech_commands_test_set_v0.01"
    assert made == {path.relative_to(source) for path in source.rglob("*.wav")}


def labelled(room: Room) -> Path:
    """A corpus with labels of every kind."""
    speech = room.data / "labelled"
    trees.labelled_speech(speech)
    trees.musan(room.data)
    made = recipe(room, speech={split: {"cuts": str(speech / f"{split}.jsonl.gz")} for split in SPLITS})
    stillroom.build(write_yaml(room.folder / "labelled.yaml", made), room.data / "tiny", workers=2)
    return room.data / "tiny"


def train_part(room: Room, corpus: Path, part: str) -> None:
    """Train two steps with a part of a config that a page shows."""
    more = yaml.safe_load(part)
    number = len(list(room.folder.glob("part-*.yaml")))
    path = write_yaml(room.folder / f"part-{number}.yaml", config(room, corpus, **more))
    stillroom.train(path, room.folder / f"part-{number}")
    assert json.loads((room.folder / f"part-{number}" / "status.json").read_text())["state"] == "done"


@pytest.mark.parametrize("page", ["docs/training.md", "docs/models.md"])
def test_training(room: Room, page: str) -> None:
    corpus = labelled(room)
    parts = room.follow(page)
    assert len(parts) >= 2
    for part in parts:
        train_part(room, corpus, part)


def test_evaluation(room: Room) -> None:
    corpus = labelled(room)
    (room.work / "corpus").symlink_to(corpus)
    for name, preset, seed in (("plain-1", "distilhubert", 0), ("plain-2", "distilhubert", 1), ("cdm2-1", "cdm2", 0)):
        path = write_yaml(room.folder / f"{name}.yaml", config(room, corpus, preset=preset, seed=seed))
        stillroom.train(path, room.work / "runs" / name)
    assert not room.follow("docs/evaluation.md")
    measured = {path.stem for path in (room.work / "results" / "cells").glob("*.json")}
    assert measured == {"teacher", "plain", "plain2", "cdm2", "floor"}


@pytest.mark.parametrize("page", ["docs/noise.md", "docs/rooms.md", "docs/codecs.md", "docs/channel.md"])
def test_distortions(room: Room, page: str) -> None:
    speech = room.data / "labelled"
    trees.labelled_speech(speech, talkers=8)
    for tree in (trees.musan, trees.wham_noise, trees.rirs_noises, trees.measured_responses):
        tree(room.data)
    for part in ("tr", "cv", "tt"):
        (room.data / part).symlink_to(room.data / "wham_noise" / part)
    cuts = {split: {"cuts": str(speech / f"{split}.jsonl.gz")} for split in SPLITS}
    for number, block in enumerate(block for block in blocks(page) if block.language == "yaml"):
        part = yaml.safe_load(room.small(block.text))
        made = {**recipe(room, speech=cuts), **part, "noises": {"musan": {"dir": "musan"}, **part.get("noises", {})}}
        made["copies"] = {split: dict.fromkeys(part["conditions"], 1) for split in SPLITS}
        path = write_yaml(room.data / f"part-{number}.yaml", made)
        stillroom.plan(path, room.work / "plan", workers=2, limit=4)
        stillroom.build(room.work / "plan", room.folder / f"corpus-{number}", workers=2)
        verified = stillroom.verify(room.folder / f"corpus-{number}", level="physics")
        assert not verified.findings
    room.follow(page)


def test_packs(libri: Room) -> None:
    libri.follow("docs/packs.md")
    verdicts = json.loads((libri.work / "ours" / "rebuilt.json").read_text())["by_condition"]
    assert [(row["condition"], row["near"], row["different"]) for row in verdicts] == [
        (row["condition"], 0, 0) for row in verdicts
    ]
    assert {row["condition"] for row in verdicts} == {"clean", "noise", "far"}


def test_manifests(built: Room) -> None:
    (built.work / "speakers.txt").write_text("1\n2\n")
    (built.data / "shards").mkdir()
    for split, name in (("train", "tr"), ("dev", "dv")):
        for tar in (built.work / "corpus" / "shards").glob(f"{split}-*.tar"):
            shutil.copy(tar, built.data / "shards")
            shutil.copy(tar, built.data / tar.name.replace(split, name))
    built.follow("docs/manifests.md")


def test_audit(built: Room) -> None:
    trees.rirs_noises(built.data)
    speech = {
        "train": {"dir": str(built.data / "LibriSpeech" / "train-clean-360"), "fields": "{speaker}/{chapter}/{id}.flac"}
    }
    points = {"points": {"dir": str(built.data / "RIRS_NOISES"), "pattern": "pointsource_noises/*.wav"}}
    noise = {"steps": [{"kind": "noise", "from": ["points"], "snr_db": 5}]}
    other = recipe(built, speech=speech, noises=points, conditions={"noise": noise}, copies={"train": {"noise": 1}})
    path = write_yaml(built.work / "other.yaml", other)
    stillroom.plan(path, built.work / "plan")
    stillroom.build(built.work / "plan", built.work / "B")
    stillroom.pack(built.work / "B", built.work / "test_set.tar.gz")
    for name in ("train_corpus", "A"):
        (built.work / name).symlink_to(built.work / "corpus")
    (built.work / "plan").rename(built.work / "plan-B")
    speech["train"]["dir"] = str(built.data / "LibriSpeech" / "train-other-500")
    stillroom.plan(
        write_yaml(path, {**other, "speech": speech, "noises": {"points": {"colour": "white"}}}), built.work / "plan"
    )
    built.follow("docs/audit.md")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.end()


def test_cluster(libri: Room, server: Server) -> None:
    speech = {"train": {"dir": str(libri.data / "LibriSpeech" / "train-clean-100")}}
    made = recipe(
        libri,
        speech=speech,
        noises={"musan": {"colour": "white"}},
        copies={"train": {"noise": 1, "far": 1}},
        shards={"samples": 4},
    )
    write_yaml(libri.work / "recipe.yaml", made)
    write_yaml(libri.work / "config.yaml", config(libri, libri.folder / "scratch" / "corpus"))
    keys = {"key": server.settings["AWS_ACCESS_KEY_ID"], "secret": server.settings["AWS_SECRET_ACCESS_KEY"]}
    bucket = fsspec.filesystem("s3", client_kwargs={"endpoint_url": server.address}, **keys)
    bucket.put(speech["train"]["dir"], "bucket/LibriSpeech/train-clean-100", recursive=True)
    parts = libri.follow("docs/cluster.md", **server.settings)
    assert json.loads((libri.folder / "scratch" / "run" / "status.json").read_text())["state"] == "done"
    for part in parts:
        train_part(libri, libri.folder / "scratch" / "corpus", part)


def test_readme(built: Room) -> None:
    evaluation = {"corpus": "corpus", "models": {"teacher": "nano", "student": "run"}, "measures": ["cosine"]}
    write_yaml(built.work / "evaluation.yaml", evaluation)
    built.follow("README.md")


def test_real_speech(room: Room) -> None:
    trees.prepared(room.work / "OUT" / "data")
    for path in (HOUSE / "recipes" / "realdata").glob("*.*"):  # road.sh and its configs, small
        (room.work / "recipes" / "realdata").mkdir(parents=True, exist_ok=True)
        (room.work / "recipes" / "realdata" / path.name).write_text(room.small(path.read_text()))
    assert not room.follow("recipes/realdata/README.md")
    measured = {path.stem for path in (room.work / "OUT" / "results" / "cells").glob("*.json")}
    assert measured == {"teacher", "plain", "cdm1", "cdm2", "cdm2-dat"}


def test_nano(room: Room) -> None:
    trees.prepared(room.work / "DATA")
    room.link("recipes", "benchmarks")
    assert not room.follow("recipes/nano/README.md")
    cards = {
        name: json.loads((room.work / name / "card.json").read_text()) for name in ("FIRST", "SECOND", "training/nano")
    }
    assert all(card["finished"] for card in cards.values())
