"""One straight way, by the commands a user types: recipe, build, verify, plain readers, train, evaluate, report."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

HOUSE = Path(__file__).resolve().parent.parent
RATE_HZ = 16_000
COPIES = {"noise": 1, "far": 1, "phone": 1}


def spoken(seed, seconds, pitch_hz):
    """Something like speech: a buzz through two resonances, in syllables, with pauses."""
    chance = np.random.RandomState(seed)
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * time_s + k) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * (3 + chance.uniform()) * time_s + chance.uniform(0, 6)), 0, 1)
    wave = (buzz + 0.3 * chance.standard_normal(time_s.size)) * syllables
    return np.rint(0.3 * wave / np.abs(wave).max() * 32768).astype(np.int16)


def stillroom(*words, cwd):
    command = [sys.executable, "-m", "stillroom", *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(HOUSE)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


def furnish(folder):
    """Speech, noises, a recipe, a teacher, and configs of training and evaluation."""
    number = 0
    for split, count in (("train", 8), ("dev", 4), ("test", 4)):
        for speaker, pitch_hz in (("low", 95), ("high", 210)):
            for n in range(count):
                number += 1
                path = folder / "speech" / split / speaker / f"{speaker}.{split}.{n}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, spoken(number, 0.8 + 0.1 * (n % 5), pitch_hz), RATE_HZ, subtype="PCM_16")
    (folder / "noise").mkdir()
    for n in range(4):
        hum = np.random.RandomState(n).standard_normal(3 * RATE_HZ) * 0.1
        soundfile.write(folder / "noise" / f"{n}.wav", hum, RATE_HZ, subtype="PCM_16")
    recipe = {
        "schema": "stillroom/recipe/1", "name": "small", "seed": 3, "sample_rate": RATE_HZ,
        "speech": {s: {"dir": f"speech/{s}", "fields": "{speaker}/{id}.flac"} for s in ("train", "dev", "test")},
        "noises": {"hum": {"dir": "noise"}, "white": {"colour": "white"}},
        "rooms": {"den": {"rooms": 3, "size_m": [[3, 3, 2.4], [4, 4, 2.6]], "rt60_s": 0.2, "distance_m": 1, "positions": 2}},
        "conditions": {
            "noise": {"steps": [{"kind": "noise", "from": ["hum", "white"], "snr_db": {"uniform": [0, 15]}}]},
            "far": {"steps": [{"kind": "room", "bank": "den"}, {"kind": "noise", "from": ["hum"], "snr_db": 10, "in_room": True}]},
            "phone": {"steps": [{"kind": "codec", "codec": {"choice": ["g711-mulaw", "amr-nb", "opus", "mp3"]}}]},
        },
        "copies": dict.fromkeys(("train", "dev", "test"), COPIES),
        "shards": {"samples": 6},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    small_teacher(folder / "teacher")
    for name, preset in (("plain", "distilhubert"), ("robust", "cdm2-dat")):
        config = {
            "preset": preset, "corpus": "corpus", "teacher": {"name": "./teacher"}, "student": {"layers": 1},
            "batch": {"seconds": 12, "lanes": 2}, "crop_s": 2, "steps": 6, "log_every": 1, "checkpoint_every": 3,
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    evaluation = {
        "corpus": "corpus", "models": {"teacher": "./teacher", "plain": "runs/plain", "robust": "runs/robust"},
        "splits": {"train": "train", "dev": "dev", "test": "test"},
        "tasks": [{"kind": "classify", "label": "speaker", "features": "last", "probe": "clean"}],
        "measures": ["cosine", "leakage"], "seed": 0,
    }  # fmt: skip
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(evaluation))


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    furnish(folder)
    stillroom("build", "recipe.yaml", "corpus", "--workers", "2", cwd=folder)
    return folder


def small_teacher(folder):
    """A wav2vec 2.0-shaped teacher with random weights."""
    import torch
    from safetensors.torch import save_file
    from torchaudio.models import wav2vec2_model

    shape = [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2]
    config = {
        "extractor_mode": "group_norm", "extractor_conv_layer_config": shape, "extractor_conv_bias": False,
        "encoder_embed_dim": 16, "encoder_projection_dropout": 0.0, "encoder_pos_conv_kernel": 16, "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 3, "encoder_num_heads": 2, "encoder_attention_dropout": 0.0, "encoder_ff_interm_features": 32,
        "encoder_ff_interm_dropout": 0.0, "encoder_dropout": 0.0, "encoder_layer_norm_first": False, "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }  # fmt: skip
    torch.manual_seed(0)
    model = wav2vec2_model(**config)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, "sample_rate": RATE_HZ}))
    save_file(model.state_dict(), folder / "weights.safetensors")


def test_the_corpus_verifies_and_shows(road):
    stillroom("verify", "corpus", cwd=road)
    stillroom("verify", "corpus", "--level", "bytes", cwd=road)
    shown = stillroom("show", "corpus", cwd=road)
    for word in ("train", "dev", "test", "noise", "far", "phone"):
        assert word in shown


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its files to the collector
def test_plain_webdataset_and_soundfile_read_every_sample(road):
    import webdataset

    seen = 0
    for tar in sorted((road / "corpus" / "shards").glob("*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False):
            about = json.loads(sample["json"])
            waves = {
                name: soundfile.read(io.BytesIO(sample[f"{name}.flac"]), dtype="int16")
                for name in ("clean", "noise-0", "far-0", "phone-0")
            }
            assert {rate for _, rate in waves.values()} == {RATE_HZ}
            assert {len(wave) for wave, _ in waves.values()} == {about["num_samples"]}
            clean = waves["clean"][0]
            source = soundfile.read(road / "speech" / about["split"] / about["source"]["path"], dtype="int16")[0]
            assert np.array_equal(clean, source)
            assert not [name for name in waves if name != "clean" and np.array_equal(waves[name][0], clean)]
            seen += 1
    assert seen == 32


def test_students_are_distilled_and_the_report_compares_them(road):
    for name in ("plain", "robust"):
        stillroom("train", f"{name}.yaml", f"runs/{name}", cwd=road)
        lines = [json.loads(line) for line in (road / "runs" / name / "journal.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
        assert json.loads((road / "runs" / name / "status.json").read_text())["state"] == "done"
    stillroom("evaluate", "evaluation.yaml", "results", cwd=road)
    table = stillroom("report", "results", cwd=road)
    for word in ("teacher", "plain", "robust", "clean", "noise", "far", "phone"):
        assert word in table
    assert (road / "results" / "report.md").exists()
    results = json.loads((road / "results" / "results.json").read_text())
    clean = {
        cell["model"]: score["value"]
        for cell in results["cells"]
        for score in cell["scores"]
        if score["measure"] == "accuracy" and score["condition"] == "clean"
    }
    assert set(clean) == {"teacher", "plain", "robust"}
    assert all(0 <= value <= 1 for value in clean.values())


def test_every_stage_done_is_not_done_again(road):
    before = {path: path.stat().st_mtime_ns for path in (road / "corpus" / "shards").iterdir()}
    stillroom("build", "recipe.yaml", "corpus", cwd=road)
    assert {path: path.stat().st_mtime_ns for path in (road / "corpus" / "shards").iterdir()} == before
    assert not list(Path(road / "corpus").rglob("*.part"))
