#!/usr/bin/env python3
"""Continue ``nano`` on distorted speech: masked prediction of units of the clean utterance from one of its distorted copies.

    stillroom build RECIPE CORPUS ...
    python recipes/nano/robust.py CORPUS OUT --scratch SCRATCH
    python recipes/nano/robust.py CORPUS CONTROL --scratch SCRATCH2 --clean

The units are clusters of a middle layer of nano on clean speech; the input is a copy drawn anew in each epoch, one time in ``copies + 1`` the
clean utterance. ``--clean`` makes the control: the same units, batches, masks and steps, and always the clean utterance, so that the two
differ in distortion alone. OUT gets a folder that can be a teacher; it is not part of the package. Stopped, it goes on from the checkpoint in
SCRATCH.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile as sf
import torch
from crops import Utterance, collate, epoch_crops
from export import as_json, put
from material import SETS, unit_features
from safetensors.torch import save as saved
from train_nano import (
    CONTINUED,
    OtherUnitsError,
    Settings,
    WrongTeacherError,
    first_predictor,
    learning_rate,
    new_optimiser,
    save,
    update,
)
from units import RATE_HZ, Units, fit_units, nearest_units, weights_sha256

from evaluation.exposure.categories import Library, copy_facts
from evaluation.exposure.training_set import ExposureCounter
from training.data.joined_corpus import open_corpus
from training.data.sampler import named_choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crops import Crops
    from masked import MaskedPredictor

    from manifests.corpus.shard_index import IndexedSample
    from manifests.results.training_exposure import TrainedOn
    from training.data.corpus import CorpusReader

NANO = Path(__file__).resolve().parents[2] / "training/nano"
LOG_EVERY = 50
CHECKPOINT_EVERY = 100
CLEAN = "clean"
FLAGS = ("learning_rate", "batch_size", "crop_frames", "layer", "num_units", "seed")


@dataclass(frozen=True)
class Heard:
    """One utterance of the corpus: where it lies, which copies it has, and its clean samples."""

    shard: str
    sample: IndexedSample
    copies: tuple[str, ...]
    clean: Utterance


def pcm_of(reader: CorpusReader, shard: str, sample: IndexedSample, name: str) -> object:
    """Samples of one member as 16-bit integers, shape (time,)."""
    content = reader.contents(shard, sample, [name])[name]
    pcm, rate_hz = sf.read(io.BytesIO(content), dtype="int16")
    if rate_hz != RATE_HZ:
        raise ValueError(f"{shard}: {rate_hz} Hz where {RATE_HZ} Hz is needed")
    return pcm


def read_heard(reader: CorpusReader, sets: Sequence[str]) -> tuple[list[Heard], TrainedOn]:
    """Every training utterance of some sets that is long enough for a frame, and what their copies are; clean samples alone are kept."""
    found, tally, library = [], ExposureCounter(), Library(reader)
    for entry in reader.shards("train"):
        for sample in reader.samples(entry.name):
            [record, *_] = reader.records(entry.name, sample)
            set_name = str(record.custom.get("set", ""))
            if set_name in sets:
                pcm = pcm_of(reader, entry.name, sample, CLEAN)
                utterance = Utterance(record.id, set_name, record.speaker or record.id, "", pcm)  # type: ignore[arg-type]
                copies = tuple(copy.name for copy in record.copies)
                if utterance.num_frames > 1:
                    found.append(Heard(entry.name, sample, copies, utterance))
                    for copy in record.copies:
                        tally.add(copy_facts(copy, library))
    if not found:
        raise ValueError(f"{reader.url}: no training utterance is of {', '.join(sets)}")
    return found, tally.summary()


def batches(
    reader: CorpusReader, heard: Sequence[Heard], units: Sequence[Units], settings: Settings, *, is_clean: bool
) -> Iterator[Crops]:
    """Epoch after epoch, each utterance as one of its copies or clean, or always clean; a pure function of the seed."""
    for epoch in itertools.count():
        utterances = []
        for one in heard:
            names = (CLEAN,) if is_clean else (CLEAN, *one.copies)
            name = names[named_choice(len(names), settings.seed, "robust", epoch, one.clean.id)]
            pcm = one.clean.pcm if name == CLEAN else pcm_of(reader, one.shard, one.sample, name)
            utterances.append(replace(one.clean, pcm=pcm))  # type: ignore[arg-type]
        crops = epoch_crops(utterances, units, num_frames=settings.crop_frames, seed=settings.seed, epoch=epoch)
        if len(crops) < settings.batch_size:
            raise ValueError(f"only {len(crops)} crops, fewer than a batch of {settings.batch_size}; give more data")
        for first in range(0, len(crops) - settings.batch_size + 1, settings.batch_size):
            yield collate(crops[first : first + settings.batch_size])


def write_teacher(
    out: Path,
    predictor: MaskedPredictor,
    heard: Sequence[Heard],
    settings: Settings,
    corpus: str,
    *,
    teacher: Path,
    trained: TrainedOn | None,
) -> None:
    """A folder that can be a teacher, its card, which says what it was trained on, last."""
    out.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in predictor.model.state_dict().items()}
    put(out / "weights.safetensors", saved(half, metadata={"format": "pt"}))
    shutil.copyfile(teacher / "config.json", out / "config.json")
    digests = {one.clean.digest for one in heard} | set((teacher / "heard.txt").read_text().split())
    put(out / "heard.txt", "".join(f"{digest}\n" for digest in sorted(digests)).encode())
    speech = "clean speech" if trained is None else "distorted copies"
    kinds = (
        json.loads((teacher / "card.json").read_text())["trained"]
        if trained is None
        else trained.model_dump(mode="json", by_alias=True)
    )
    card = {
        "schema": "stillroom/card/1",
        "name": "nano-continued" if trained is None else "nano-robust",
        "description": f"nano, continued by masked prediction of clean units from {speech}.",
        "finished": True,
        "heard": "heard.txt",
        "corpus_sha256": corpus,
        "started_from": {"weights_sha256": weights_sha256(teacher), "layer": settings.layer},
        "trained": kinds,
        "settings": {name: asdict(settings)[name] for name in ("steps", *FLAGS)},
    }
    put(out / "card.json", as_json(card))


def read_units(heard: Sequence[Heard], settings: Settings, teacher: Path) -> list[Units]:
    """Units of the clean utterances: clusters of a layer of the teacher, fitted to these utterances."""
    clean = [one.clean for one in heard]
    features = unit_features(clean, settings, teacher)
    centres = fit_units(features, num_units=settings.num_units, seed=settings.seed)
    return [
        nearest_units(feature, centres, num_frames=one.num_frames) for one, feature in zip(clean, features, strict=True)
    ]


def train(
    corpus: Path, out: Path, scratch: Path, settings: Settings, *, teacher: Path = NANO, is_clean: bool = False
) -> None:
    """The whole of it, read top to bottom."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    with open_corpus(corpus) as reader:
        predictor = first_predictor(settings, teacher)
        optimiser = new_optimiser(predictor)
        begun = {
            "teacher_sha256": weights_sha256(teacher), "corpus_sha256": reader.digest, "clean": is_clean,
            **{name: getattr(settings, name) for name in ("steps", *FLAGS)},
        }  # fmt: skip
        step = 0
        scratch.mkdir(parents=True, exist_ok=True)
        checkpoint = scratch / "checkpoint.pt"
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            if state.get("begun") != begun:
                raise OtherUnitsError(checkpoint, state.get("begun"), begun)
            predictor.load_state_dict(state["predictor"])
            optimiser.load_state_dict(state["optimiser"])
            step = state["step"]
            print(f"goes on from step {step}", flush=True)
        heard, trained = read_heard(reader, SETS)
        units = read_units(heard, settings, teacher)
        running = 0.0
        order = batches(reader, heard, units, settings, is_clean=is_clean)
        for batch in itertools.islice(order, step, settings.steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(settings, step / settings.steps)
            running += update(predictor, optimiser, batch, settings, step=step) / LOG_EVERY
            step += 1
            if step % LOG_EVERY == 0:
                print(f"step {step} loss {running:.3f}", flush=True)
                running = 0.0
            if step % CHECKPOINT_EVERY == 0:
                state = {"predictor": predictor.state_dict(), "optimiser": optimiser.state_dict()}
                save(checkpoint, {**state, "step": step, "begun": begun})
        write_teacher(
            out, predictor, heard, settings, reader.digest, teacher=teacher, trained=None if is_clean else trained
        )
    print(json.dumps({"steps": step, "utterances": len(heard)}))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a corpus of the prepared real data with distorted copies")
    parser.add_argument("out", type=Path, help="folder for the teacher")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument(
        "--teacher", type=Path, default=NANO, help="folder of the model that is continued; nano by default"
    )
    parser.add_argument("--clean", action="store_true", help="the control: hears clean speech alone")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="its peak")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--crop-frames", type=int, default=200)
    parser.add_argument("--layer", type=int, default=CONTINUED.layer, help="of the teacher, whose output is clustered")
    parser.add_argument("--num-units", type=int, default=CONTINUED.num_units, help="clusters")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = vars(parser.parse_args())
    corpus, out, scratch, teacher, is_clean = (
        given.pop(name) for name in ("corpus", "out", "scratch", "teacher", "clean")
    )
    try:
        train(corpus, out, scratch, replace(CONTINUED, **given), teacher=teacher, is_clean=is_clean)
    except (WrongTeacherError, OtherUnitsError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
