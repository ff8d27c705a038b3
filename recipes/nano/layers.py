#!/usr/bin/env python3
"""Cut encoders after each of their layers, so that `stillroom evaluate` measures every layer as if it were the last.

    python recipes/nano/layers.py OUT nano=training/nano old=OLD --corpus CORPUS --phones phones.csv
    stillroom evaluate OUT/evaluation.yaml OUT/results

CORPUS and phones.csv are those of ``benchmarks/robustness`` (``study.py OUT --dev --only teacher-nano`` makes them). OUT gets a folder
a layer, such as ``nano-3``, and the config of an evaluation of all of them on dev: keywords of unseen voices and the phone of every frame.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from manifests.io.json_yaml import write_yaml

TASKS = ({"kind": "classify", "label": "word"}, {"kind": "frames", "label": "phones"})


class NoCutError(ValueError):
    """An encoder whose layers are not its outputs."""


def cut(folder: Path, out: Path, *, layers: int) -> None:
    """Write an encoder without the layers above.

    Only where the norm is behind each layer: with the norm first the last layer's output is normed once more.

    Raises:
        NoCutError: If the norm comes first.
    """
    config = json.loads((folder / "config.json").read_text())
    if config["encoder_layer_norm_first"]:
        raise NoCutError(
            f"{folder} has its norms first, so its layers cannot be cut apart; measure a post-norm encoder"
        )
    weights = load_file(folder / "weights.safetensors")
    above = tuple(f"encoder.transformer.layers.{layer}." for layer in range(layers, config["encoder_num_layers"]))
    kept = {name: value for name, value in weights.items() if not name.startswith(above)} if above else weights
    out.mkdir(parents=True, exist_ok=True)
    save_file(kept, out / "weights.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps({**config, "encoder_num_layers": layers}, indent=2) + "\n")
    for name in ("card.json", "heard.txt"):
        shutil.copyfile(folder / name, out / name)


def write_all(out: Path, encoders: dict[str, Path], *, corpus: Path, phones: Path) -> None:
    """Write every layer of every encoder, and the config of their evaluation."""
    models = {}
    for name, folder in encoders.items():
        for layers in range(1, json.loads((folder / "config.json").read_text())["encoder_num_layers"] + 1):
            cut(folder, out / f"{name}-{layers}", layers=layers)
            models[f"{name}-{layers}"] = str((out / f"{name}-{layers}").resolve())
    tasks = [{**task, "table": str(phones.resolve())} if task["kind"] == "frames" else task for task in TASKS]
    asked = {
        "corpus": str(corpus.resolve()), "models": models, "splits": {"train": "train", "test": "dev"},
        "tasks": tasks, "measures": [], "probes": 2, "seed": 0, "efficiency": False,
    }  # fmt: skip
    write_yaml(out / "evaluation.yaml", asked)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to fill")
    parser.add_argument("encoders", nargs="+", metavar="NAME=FOLDER", help="folders that train_nano.py wrote")
    parser.add_argument("--corpus", type=Path, required=True, help="the study's evaluation corpus of dev")
    parser.add_argument("--phones", type=Path, required=True, help="the alignments of its phone sentences")
    given = parser.parse_args()
    if wrong := [word for word in given.encoders if not word.partition("=")[2]]:
        parser.error(f"{wrong[0]}: expected NAME=FOLDER, such as nano=training/nano")
    encoders = {name: Path(folder) for name, _, folder in (word.partition("=") for word in given.encoders)}
    try:
        write_all(given.out, encoders, corpus=given.corpus, phones=given.phones)
    except (NoCutError, FileNotFoundError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
