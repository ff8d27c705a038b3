"""Mistakes of a newcomer who knows Hugging Face, s3prl, lhotse or fairseq: one line each, whose remedy is then tried where that is cheap."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import soundfile

import stillroom as package
from evaluation.config import EvaluationConfig
from manifests.errors import StillroomError
from manifests.io.yaml12 import parse_yaml
from manifests.recipe.recipe import Recipe
from stillroom import __main__ as door
from tests.oracles.tiny_corpus import tiny_split, write_corpus
from training.config.load import load_config
from training.config.schema import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUSE = str(Path(__file__).resolve().parents[2])
PROGRESS = re.compile(r"[a-z]+( [a-z]+)* \d+/\d+ ")
SPEECH = "{dir: speech, fields: '{speaker}/{id}.wav'}"
NOISE = "{kind: noise, from: [hum, white], snr_db: {uniform: [0, 10]}}"
PHONE = "{steps: [{kind: codec, codec: g711-mulaw}]}"
RECIPE = f"""schema: stillroom/recipe/1
name: tiny
seed: 1
speech:
  train: {SPEECH}
noises:
  hum: {{dir: noise}}
  white: {{colour: white}}
conditions:
  noise: {{steps: [{NOISE}]}}
  phone: {PHONE}
copies:
  train: {{noise: 1, phone: 1}}
shards: {{samples: 2}}
"""
TABLE = "path,speaker\nann/1.wav,ann\n"
TRAIN = """preset: cdm2-dat
corpus: corpus
teacher: nano
batch: {seconds: 8, lanes: 1}
steps: 4
"""
EVALUATION = """corpus: corpus
models: {teacher: nano}
tasks: [{kind: classify, label: word}]
measures: [cosine]
"""


class Edit(NamedTuple):
    """A mistake in a file: `old` of the right file becomes `wrong`; the line says `line`; `right` is what that says to write, if it differs."""

    old: str
    wrong: str
    line: str
    right: str = ""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three utterances, two noises, a corpus, and what is easily taken for one of them."""
    folder = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(1)
    for name in (
        "speech/ann/1",
        "speech/ann/2",
        "speech/bob/1",
        "noise/a",
        "noise/b",
        "twice/a/1",
        "twice/b/1",
        "eight/a",
    ):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 8000 if name == "eight/a" else 16000)
    (folder / "stereo").mkdir()
    soundfile.write(folder / "stereo/a.wav", 0.1 * rng.standard_normal((8000, 2)), 16000)
    for name, text in (
        ("good", TABLE), ("semicolons", TABLE.replace(",", ";")), ("tabs", TABLE.replace(",", "\t")),
        ("columns", TABLE.replace("path", "wav")), ("absolute", f"path\n{folder}/speech/ann/1.wav\n"),
    ):  # fmt: skip
        (folder / "speech" / f"{name}.csv").write_text(text)
    for name in ("empty", "texts", "plan/plan", "half/plan", "half/shards", "run/checkpoints", "chosen"):
        (folder / name).mkdir(parents=True)
    (folder / "texts/a.txt").write_text("hello")
    with zipfile.ZipFile(folder / "speech.zip", "w") as archive:
        archive.write(folder / "noise/a.wav", "a.wav")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "train.yaml").write_text(TRAIN)
    (folder / "evaluation.yaml").write_text(EVALUATION)
    write_corpus(folder / "corpus", {split: tiny_split(split, count=4) for split in ("train", "dev", "test")})
    return folder


@pytest.fixture(autouse=True)
def in_the_lab(lab: Path) -> Iterator[None]:
    """Commands run there, as they are typed."""
    with chdir(lab):
        yield


def stillroom(words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and message of a command, without its lines of progress."""
    monkeypatch.setattr(sys, "argv", ["stillroom", *words.split()])
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        door.main()
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    assert isinstance(end.value.code, int)
    return end.value.code, "\n".join(line for line in lines if line.strip() and not PROGRESS.match(line))


def edited(text: str, edit: Edit, new: str) -> str:
    assert text.count(edit.old) == 1
    return text.replace(edit.old, new)


RECIPES = [
    Edit(SPEECH, "{dir: speech, pattern: '{speaker}/*.wav'}", "names in braces belong in fields, such as fields: '{speaker}/{id}.wav'", SPEECH),
    Edit(SPEECH, "{dir: speech, pattern: '**/*.flac'}", "below it are audio files (3 .wav), such as ann/1.wav: change the pattern", "{dir: speech, pattern: '**/*.wav'}"),
    Edit(SPEECH, "{dir: speech, pattern: '*.wav'}", "such as ann/1.wav: change the pattern", "{dir: speech, pattern: '*/*.wav'}"),
    Edit(SPEECH, "{dir: speech, pattern: **/*.wav}", ":5: not valid YAML: expected alphabetic or numeric character, but found '*'; put a text that begins with * or & into quotes", "{dir: speech, pattern: '**/*.wav'}"),
    Edit(SPEECH, "{dir: speech, fields: {speaker}/{id}.wav}", "close each { and [, and put a text that has { } [ ] , or : into quotes", SPEECH),
    Edit(SPEECH, "{dir: speech, fields: '{speaker}/*.wav'}", "* has no meaning there, write a name such as {id}", SPEECH),
    Edit(SPEECH, "{path: speech}", "speech.train.path: unknown key; write dir;", "{dir: speech}"),
    Edit(SPEECH, "speech", "speech.train: expected a mapping, got 'speech'; an example: speech: {train: {dir: FOLDER}}", "{dir: speech}"),
    Edit(SPEECH, "{dir: speech.zip}", "speech.zip is a file, not a folder: the folder of 'train'; say --root train=DIR if it is elsewhere; unpack it first"),
    Edit(SPEECH, "{dir: ../speech}", "/speech does not exist: the folder of 'train'; say --root train=DIR", SPEECH),
    Edit(SPEECH, "{dir: texts}", "it has other files (1 .txt); is this the folder of 'train'?"),
    Edit(SPEECH, "{dir: speech, table: semicolons.csv}", "has no column 'path'; its columns are path;speaker: save it with commas in place of ';'", "{dir: speech, table: good.csv}"),
    Edit(SPEECH, "{dir: speech, table: tabs.csv}", r"save it with commas in place of '\t'", "{dir: speech, table: good.csv}"),
    Edit(SPEECH, "{dir: speech, table: columns.csv}", "its columns are wav, speaker: name the column that has the files 'path'", "{dir: speech, table: good.csv}"),
    Edit(SPEECH, "{dir: speech, table: absolute.csv}", "is absolute; write it relative to the folder of the recipe's dir", "{dir: speech, table: good.csv}"),
    Edit(SPEECH, "{dir: stereo}", "a.wav has 2 channels; say which with channel: 0 to 1 in the recipe, or mix", "{dir: stereo, channel: mix}"),
    Edit(SPEECH, "{dir: speech, min_s: 3}", "(0 refused, 3 left out by the recipe: 3 shorter than 3 s)", "{dir: speech, min_s: 0.2}"),
    Edit(SPEECH, "{cuts: noise/a.wav}", "expected a lhotse manifest of JSON lines, with a name that ends in .jsonl or .jsonl.gz"),
    Edit(SPEECH, "{dir: speech, max_duration: 3}", "speech.train.max_duration: unknown key; write max_s, in seconds", "{dir: speech, max_s: 3}"),
    Edit(SPEECH, "{root: data/speech, dir: speech}", "(letters, digits, _ and -, with a letter first)", "{root: data, dir: speech}"),
    Edit("  train: {dir", "  train-100: {dir", "copies.train: no such split under speech; known are train-100"),
    Edit("seed: 1", "seed:1", ":3: not valid YAML: could not find expected ':'; write a blank after the : of each key", "seed: 1"),
    Edit("seed: 1", "seed: 1\nsample_rate: 16k", "sample_rate: expected a whole number, got '16k'; write 16000", "seed: 1\nsample_rate: 16000"),
    Edit("seed: 1", "seed: 1\nsampling_rate: 16000", "sampling_rate: unknown key (did you mean 'sample_rate'?)", "seed: 1\nsample_rate: 16000"),
    Edit("seed: 1", "seed: 1\nsnr_db: 5", "snr_db: unknown key (it belongs under conditions.NAME.steps)"),
    Edit("seed: 1", "seed: 1\nseed: 2", "key 'seed' occurs twice"),
    Edit("name: tiny", "name: my corpus", "got 'my corpus' (letters, digits, _ and -, with a letter first)", "name: my_corpus"),
    Edit("  hum: {dir: noise}", "\thum: {dir: noise}", ":7: not valid YAML: found character '\\t' that cannot start any token; indent with spaces, not with tabs", "  hum: {dir: noise}"),
    Edit("  white:", "   white:", "; begin keys of one mapping in the same column", "  white:"),
    Edit("hum: {dir: noise}", "hum: {dir: empty}", "it is empty; is this the folder of 'hum'?", "hum: {dir: noise}"),
    Edit("{colour: white}", "{color: white}", "noises.white.color: unknown key (did you mean 'colour'?)", "{colour: white}"),
    Edit("{colour: white}", "*hiss", "found undefined alias 'hiss'; define it before with &", "{colour: white}"),
    Edit("{uniform: [0, 10]}", "0-20", "snr_db: expected numbers, got '0-20'; for a range write {uniform: [0, 20]}", "{uniform: [0, 20]}"),
    Edit("{uniform: [0, 10]}", "[0, 20]", "for a range write {uniform: [0, 20]}", "{uniform: [0, 20]}"),
    Edit("{uniform: [0, 10]}", "{min: 0, max: 20}", "for a range write {uniform: [0, 20]}", "{uniform: [0, 20]}"),
    Edit("{uniform: [0, 10]}", "{uniform: [20, 0]}", "uniform: [20, 0] is upside down; write [0, 20]", "{uniform: [0, 20]}"),
    Edit("{uniform: [0, 10]}", "{uniform: [0,5, 10]}", "uniform needs two numbers, [low, high], got [0, 5, 10]", "{uniform: [0.5, 10]}"),
    Edit("{uniform: [0, 10]}", "{normal: [10, 3]}", "unknown draw 'normal'; known are uniform, uniform_int, log_uniform, choice"),
    Edit("{uniform: [0, 10]}", "'10'", "got '10'; write 10, without quotes", "10"),
    Edit("{uniform: [0, 10]}", "10dB", "got '10dB'; write 10, without its unit", "10"),
    Edit("{uniform: [0, 10]}", "10, probability: 0.5", "steps.0.probability: unknown key; a step is always applied; how many copies a condition gives is under copies"),
    Edit("{uniform: [0, 10]}", "10, in_room: yes", "in_room: expected true or false, got 'yes'"),
    Edit("[hum, white]", "hum", "from: expected a list, got 'hum'; write [hum]", "[hum]"),
    Edit("[hum, white]", "[humm]", "no noise source 'humm' under noises; known are hum, white", "[hum]"),
    Edit("kind: noise", "kind: noises", "got 'noises' (did you mean 'noise'?)", "kind: noise"),
    Edit(PHONE, "{steps: [{kind: reverb, rt60_s: 0.5}]}", "got 'reverb'; write kind: room, with a bank under rooms"),
    Edit(PHONE, "{steps: [{kind: speed, factor: 0.9}]}", "no step changes the speed, since copies stay in step with the clean wave", "{steps: [{kind: pitch, cents: 200}]}"),
    Edit(PHONE, "{steps: [{kind: codec, codec: ulaw}]}", "unknown codec 'ulaw'; known are g711-alaw, g711-mulaw", PHONE),
    Edit(PHONE, "{kind: codec, codec: opus}", "a condition is a list of steps: steps: [{kind: ...}]", "{steps: [{kind: codec, codec: opus}]}"),
    Edit(PHONE, "[{kind: codec, codec: opus}]", "an example: conditions: {phone: {steps: [{kind: codec, codec: opus}]}}", "{steps: [{kind: codec, codec: opus}]}"),
    Edit(PHONE, "{steps: [{kind: bandpass, low_hz: 300, high_hz: 9000}]}", "high_hz: 9000 Hz is not below half the sample rate, 8000 Hz", "{steps: [{kind: bandpass, low_hz: 300, high_hz: 7000}]}"),
    Edit("conditions:\n", "augmentations:\n", "augmentations: unknown key; write conditions", "conditions:\n"),
    Edit("conditions:\n", "rooms: {home: {rooms: 3, size_m: [5, 4, 3], rt60_s: 0.3, distance_m: 1}}\nconditions:\n", "got '[5, 4, 3]'; an example: rooms: {home: {rooms: 60, size_m: [[3, 3, 2.4], [8, 6, 3.5]]"),
    Edit("train: {noise: 1, phone: 1}", "train: {nosie: 1}", "copies.train.nosie: no such condition; known are noise, phone", "train: {noise: 1}"),
    Edit("train: {noise: 1, phone: 1}", "train: 2", "copies.train: expected a mapping, got '2'; an example: copies: {train: {noise: 2, phone: 1}}", "train: {noise: 2, phone: 1}"),
    Edit("{samples: 2}", "512", "shards: expected a mapping, got '512'; an example: shards: {samples: 512}", "{samples: 512}"),
    Edit("{samples: 2}", "{size: 512}", "shards.size: unknown key; write samples (a number of utterances) or gigabytes", "{samples: 512}"),
]  # fmt: skip


@pytest.mark.parametrize("edit", RECIPES, ids=[edit.wrong.strip()[:50] for edit in RECIPES])
def test_a_mistake_in_a_recipe_is_one_line_that_says_what_to_write(
    edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path("edited.yaml")
    path.write_text(edited(RECIPE, edit, edit.wrong))
    code, said = stillroom(f"plan edited.yaml {tmp_path}/wrong", monkeypatch, capfd)
    assert (code, len(said.splitlines())) == (2, 1)
    assert edit.line in f"{said};"
    if edit.right:
        path.write_text(edited(RECIPE, edit, edit.right))
        assert stillroom(f"plan edited.yaml {tmp_path}/right", monkeypatch, capfd)[0] == 0


@pytest.mark.parametrize(
    "content",
    [RECIPE.encode("utf-8-sig"), RECIPE.replace("\n", "\r\n").encode(), RECIPE.replace("dir: speech", "dir: ~/speech").encode()],
    ids=["byte order mark", "ends of lines of Windows", "tilde"],
)  # fmt: skip
def test_what_editors_and_shells_write_is_read(
    content: bytes, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(lab))
    Path("recipe.txt").write_bytes(content)
    assert stillroom(f"plan recipe.txt {tmp_path}/plan", monkeypatch, capfd)[0] == 0


TRAININGS = [
    Edit("steps: 4", "lr: 1e-3", "lr: unknown key; write optimiser: {learning_rate: 2e-4}", "optimiser: {learning_rate: 1e-3}"),
    Edit("steps: 4", "optimizer: {lr: 1e-3}", "optimizer: unknown key; write optimiser: {learning_rate: 2e-4}; it is AdamW", "optimiser: {learning_rate: 1e-3}"),
    Edit("steps: 4", "optimiser: {lr: 1e-3}", "optimiser.lr: unknown key; write learning_rate", "optimiser: {learning_rate: 1e-3}"),
    Edit("steps: 4", "epochs: 10", "epochs: unknown key; write steps; the command says how many updates an epoch has", "steps: 10"),
    Edit("steps: 4", "max_steps: 10", "max_steps: unknown key; write steps", "steps: 10"),
    Edit("steps: 4", "batch_size: 24", "batch_size: unknown key; write batch: {utterances: 24} or batch: {seconds: 295}"),
    Edit("steps: 4", "warmup_steps: 100", "unknown key; write optimiser: {warmup_share: 0.07}, a share of all steps", "optimiser: {warmup_share: 0.07}"),
    Edit("steps: 4", "num_workers: 2", "num_workers: unknown key; write workers", "workers: 2"),
    Edit("steps: 4", "device: cuda", "device: unknown key; training runs on the GPU where there is one"),
    Edit("steps: 4", "fp16: true", "fp16: unknown key; write precision: bfloat16 or float32", "precision: bfloat16"),
    Edit("steps: 4", "precision: fp16", "precision: expected 'float32' or 'bfloat16', got 'fp16'", "precision: bfloat16"),
    Edit("steps: 4", "resume: true", "resume: unknown key; the same command resumes by itself"),
    Edit("steps: 4", "views: cdm2", "views: expected a mapping, got 'cdm2'; an example: views: {kind: cdm2}", "views: {kind: cdm2}"),
    Edit("steps: 4", "dropout: 0.1", "dropout: unknown key (it belongs under student)", "student: {dropout: 0.1}"),
    Edit("steps: 4", "zzz: 1", "zzz: unknown key"),
    Edit("steps: 4", "steps: ten", "steps: expected a whole number, got 'ten'", "steps: 10"),
    Edit("steps: 4", "models: {teacher: nano}", "models: unknown key; a key of an evaluation: `stillroom evaluate CONFIG RESULTS`"),
    Edit("preset: cdm2-dat", "preset: dat", "'dat' is none of distilhubert, cdm1, cdm2, cdm1-dat, cdm2-dat", "preset: cdm2-dat"),
    Edit("corpus: corpus", "dataset: corpus", "dataset: unknown key; write corpus: FOLDER, that of `stillroom build`", "corpus: corpus"),
    Edit("corpus: corpus", "corpus: half", "half has no corpus.json, so it is not a finished corpus: `stillroom build` writes this file last: run that build again"),
    Edit("corpus: corpus", "corpus: plan", "/plan CORPUS` makes the corpus"),
    Edit("teacher: nano", "teacher: {path: nano}", "teacher.path: unknown key; write name: it may be a folder or a checkpoint too", "teacher: {name: nano}"),
    Edit("teacher: nano", "teacher: hubert-base", "did you mean hubert_base", "teacher: hubert_base"),
    Edit("teacher: nano", "teacher: facebook/hubert-base-ls960", "a model of the hub is fetched by `stillroom teacher facebook/hubert-base-ls960` where there is a network"),
    Edit("teacher: nano", "teacher: hubert_base", "run `stillroom teacher hubert_base` where there is a network"),
    Edit("{seconds: 8, lanes: 1}", "24", "batch: expected a mapping, got '24'; an example: batch: {seconds: 295, lanes: 8}", "{seconds: 295, lanes: 8}"),
    Edit("{seconds: 8, lanes: 1}", "{size: 24}", "batch.size: unknown key; write utterances, or seconds of audio", "{utterances: 24}"),
]  # fmt: skip


@pytest.mark.parametrize("edit", TRAININGS, ids=[edit.wrong[:40] for edit in TRAININGS])
def test_a_mistake_in_a_training_config_is_one_line_that_says_what_to_write(
    edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path("edited.yaml")
    path.write_text(edited(TRAIN, edit, edit.wrong))
    code, said = stillroom(f"train edited.yaml {tmp_path}/run", monkeypatch, capfd)
    assert (code, len(said.splitlines())) == (2, 1)
    assert edit.line in said
    if edit.right:
        path.write_text(edited(TRAIN, edit, edit.right))
        load_config(path)


EVALUATIONS = [
    Edit("tasks: [{kind: classify, label: word}]", "tasks: [{kind: asr, label: text}]", "got 'asr'; write kind: ctc, label: text", "tasks: [{kind: ctc, label: text}]"),
    Edit("tasks: [{kind: classify, label: word}]", "tasks: [ks]", "got 'ks'; write kind: classify, and its label", "tasks: [{kind: classify, label: word}]"),
    Edit("tasks: [{kind: classify, label: word}]", "tasks: {kind: classify, label: word}", "an example: tasks: [{kind: classify, label: speaker}]", "tasks: [{kind: classify, label: speaker}]"),
    Edit("tasks: [", "task: [", "task: unknown key; write tasks, a list", "tasks: ["),
    Edit("label: word", "label: word, features: all", "features: expected 'last', 'sum' or 'sum+heads', got 'all'", "label: word, features: sum"),
    Edit("measures: [cosine]", "measures: cosine", "measures: expected a list, got 'cosine'; write [cosine]", "measures: [cosine]"),
    Edit("measures: [cosine]", "probe: distorted", "probe: unknown key (did you mean 'probes'? 'probe' belongs under tasks)"),
    Edit("measures: [cosine]", "device: cuda", "the command finds the GPU, and sizes its batches itself (--device)"),
    Edit("measures: [cosine]", "steps: 3", "steps: unknown key; a key of training: `stillroom train CONFIG RUN`"),
    Edit("models: {teacher: nano}", "models: [nano]", "an example: models: {teacher: nano, mine: runs/mine}", "models: {teacher: nano}"),
    Edit("models: {teacher: nano}", "models: {mine: {path: run}}", "path: unknown key; write run: FOLDER", "models: {mine: {run: run}}"),
    Edit("models: {teacher: nano}", "upstream: nano", "upstream: unknown key; write models: {NAME: FOLDER}", "models: {NAME: nano}"),
]  # fmt: skip


@pytest.mark.parametrize("edit", EVALUATIONS, ids=[edit.wrong[:40] for edit in EVALUATIONS])
def test_a_mistake_in_an_evaluation_config_is_one_line_that_says_what_to_write(
    edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path("edited.yaml")
    path.write_text(edited(EVALUATION, edit, edit.wrong))
    code, said = stillroom(f"evaluate edited.yaml {tmp_path}/results --dry-run", monkeypatch, capfd)
    assert (code, len(said.splitlines())) == (2, 1)
    assert edit.line in said
    if edit.right:
        path.write_text(edited(EVALUATION, edit, edit.right))
        EvaluationConfig.read(path)


COMMANDS = {
    "eval": "No such command 'eval'. Did you mean 'evaluate'?",
    "distill": "No such command 'distill'. Did you mean 'train'?",
    "verfy corpus": "No such command 'verfy'. Did you mean 'verify'?",
    "init": "Missing argument '{recipe|train|evaluate}'. Choose from: recipe, train, evaluate",
    "init recipes": "is not one of 'recipe', 'train', 'evaluate'",
    "init recipe recipe.yaml": "recipe.yaml exists: choose another name, or remove it first",
    "build recipe.yaml out --workers auto": "'auto' is not a whole number",
    "build recipe.yaml out --workers 0": "0 is not in the range 1<=x<=1024",
    "build recipe.yaml out --num-workers 4": "Did you mean '--workers'?",
    "build recipe.yaml out --root speech": "expected NAME=DIR, such as --root train=/data/train",
    "build recipe.yaml out --root trian=speech": "--root trian: the recipe has no such root; it has hum, train",
    "build recipe.yaml out --root train=speech/good.csv": "is a file, not a folder: --root train should name a folder",
    "build recipe.yaml s3:/bucket/corpus": "a URL has two slashes after its colon; write s3://",
    "build recipe.yaml speech": "which is not of a plan or corpus; choose a new folder",
    "build recpie.yaml out": "recpie.yaml does not exist: a recipe (YAML) or the folder of a plan",
    "build train.yaml out": "schema: this key is missing, expected 'stillroom/recipe/1'",
    "train recipe.yaml out": "a recipe is for `stillroom build RECIPE CORPUS`",
    "train train.yaml out --steps 10": "A key of the config is set by --set steps=VALUE.",
    "train train.yaml out --set batch.secs=10": "stillroom: --set batch.secs: unknown key; write seconds",
    "train train.yaml out --set --steps=10": "expected key=value, such as optimiser.learning_rate=1e-3",
    "train train.yaml out --set steps": "expected key=value, such as optimiser.learning_rate=1e-3",
    "evaluate evaluation.yaml out --set limitt=5": "stillroom: --set limitt: unknown key (did you mean 'limit'?)",
    "evaluate evaluation.yaml out --limit 5": "A key of the config is set by --set limit=VALUE.",
    "verify recipe.yaml": "recipe.yaml is a file: name a folder (`stillroom build` makes one from a recipe",
    "verify nowhere": "there is no nowhere: check the path",
    "verify plan": "plan is a plan: `stillroom build plan CORPUS` makes the corpus",
    "verify half": "run that build again to its end",
    "verify speech": "speech is no corpus: name a folder that `stillroom build` made",
    "show run": "run is the folder of a run or of results: name that of the corpus",
    "pack half out.tar.gz": "run that build again to its end",
    "rebuild corpus out": "of a corpus `stillroom pack CORPUS PACK` makes one",
    "rebuild speech.zip out": "is not a pack, or was cut: Not a gzipped file (b'PK'); expected a whole .tar.gz of `stillroom pack`",
    "demo speech": "which is not of a demo; choose a new folder",
    "demo new --speech speech.zip": "speech.zip is a file, not a folder: --speech needs a folder of audio files; unpack it first",
    "export run out --to hf": "is not one of 'huggingface', 's3prl', 'torchaudio', 'onnx'",
    "export run out --to huggingface --audio nowhere.wav": "File 'nowhere.wav' does not exist",
    "evaluate train.yaml out": "a key of training: `stillroom train CONFIG RUN`",
    "evaluate recipe.yaml out": "a key of a recipe: `stillroom build RECIPE CORPUS`",
    "report evaluation.yaml": "is a file, not a folder: name a folder that `stillroom evaluate` has finished",
    "report speech": "name a folder that `stillroom evaluate` has finished",
}  # fmt: skip


@pytest.mark.parametrize(("words", "line"), COMMANDS.items(), ids=COMMANDS)
def test_a_mistake_on_the_command_line_is_one_line_that_says_what_to_write(
    words: str, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = stillroom(words, monkeypatch, capfd)
    assert (code, len(said.splitlines())) == (2, 1)
    assert line in said


PYTHON: dict[str, tuple[Callable[[], object], str]] = {
    "views": (lambda: package.pairs("corpus", views="cdm3"), "views: kind: expected 'none', 'cdm1', 'cdm2' or 'same', got 'cdm3'"),
    "lanes": (lambda: package.pairs("corpus", seconds=48, lanes=0), "lanes: expected 1 or more, got 0"),
    "split": (lambda: next(iter(package.pairs("corpus", split="training"))), "those with utterances: dev, test, train"),
    "corpus": (lambda: package.pairs("recipe.yaml"), "recipe.yaml is a file: name a folder"),
    "workers": (lambda: package.build("recipe.yaml", "out", workers=0), "workers: expected 1 process or more, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_a_mistake_in_python_is_one_line_that_says_what_to_write(name: str) -> None:
    call, line = PYTHON[name]
    with pytest.raises(StillroomError) as caught:
        call()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_examples_in_messages_are_right() -> None:
    def joined(examples: dict[str, str]) -> dict[str, Any]:
        assert all(text.startswith(f"{key}:") for key, text in examples.items())
        found = parse_yaml("\n".join(examples.values()).encode(), where="examples")
        assert isinstance(found, dict)
        return found

    recipe = {"schema": Recipe.SCHEMA, "name": "x", **joined(Recipe.EXAMPLES)}
    recipe["conditions"]["noise"] = {"steps": [{"kind": "noise", "from": ["musan"], "snr_db": 5}]}
    Recipe.parse(recipe, where="examples")
    TrainConfig.parse({"schema": TrainConfig.SCHEMA, **joined(TrainConfig.EXAMPLES)}, where="examples")
    EvaluationConfig.parse(joined(EvaluationConfig.EXAMPLES), where="examples")


def test_a_training_config_is_read_before_torch_is_loaded(lab: Path) -> None:
    program = "import sys, stillroom.__main__ as door\ntry: door.main()\nfinally: print('torch' in sys.modules)"
    (lab / "edited.yaml").write_text(TRAIN.replace("steps", "stepps"))
    words = [sys.executable, "-c", program, "train", "edited.yaml", "run-1"]
    found = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": HOUSE}, check=False)
    assert found.stdout.split() == ["False"]
    assert "did you mean 'steps'?" in found.stderr


def test_the_command_alone_prints_its_help(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert stillroom("", monkeypatch, capfd) == (2, "")


@pytest.mark.parametrize("words", ["train train.yaml out --set", "evaluate evaluation.yaml out --dry-run --set"])
def test_blanks_around_a_key_of_set_are_no_part_of_it(
    words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [*f"stillroom {words}".split(), " seed = x"])
    with pytest.raises(SystemExit):
        door.main()
    assert "stillroom: --set seed: expected a whole number, got 'x'" in capfd.readouterr().err


def test_a_teacher_of_a_training_config_may_be_below_the_home(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(lab))
    Path("edited.yaml").write_text(TRAIN.replace("nano", "~/models/x").replace("corpus: corpus", "corpus: ~/corpus"))
    config = load_config("edited.yaml")
    assert (config.corpus, config.teacher.name) == (os.fspath(lab / "corpus"), os.fspath(lab / "models/x"))
