"""Writes a run's student for another library, if its outputs are the same there.

Every format is loaded back by its own library, both models are given the same real utterances, and the largest difference over all layers
and frames is reported; above `LARGEST_DIFFERENCE` (in int8: `LARGEST_ROUNDING` of a layer's root mean square) nothing is written. Beside the
model are `heard.txt` (what it was trained on) and `export.json` (from which run, and that difference).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

import soundfile
import torch

from manifests.corpus.provenance import software
from manifests.errors import BadDocumentError, StillroomError, UsageError, printable
from manifests.io.atomic import making
from manifests.io.digest import file_digest
from manifests.io.json_yaml import write_json
from manifests.io.place import local_path
from training.config.load import run_config
from training.data.joined_corpus import open_corpus
from training.export.onnx import graph_record
from training.runs.checkpoint import load_student
from training.validation.utterances import FixedUtterances

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from training.export.format import Written
    from training.models.encoder import Encoder
    from training.runs.checkpoint import TrainedStudent

Format = Literal["huggingface", "s3prl", "torchaudio", "onnx"]
FORMATS: tuple[Format, ...] = ("huggingface", "s3prl", "torchaudio", "onnx")
LARGEST_DIFFERENCE = 1e-4
LARGEST_ROUNDING = 0.1
UTTERANCES = 6
MOST_S = 15.0
COPIED_BESIDE = ("heard.txt", "trained.json")


class DiffersError(StillroomError, ArithmeticError):
    """The written model's outputs are not those of the run."""

    def __init__(self, run: Path, done: Exported, *, form: str) -> None:
        instead = "leave out --int8" if done.int8 else "please report it with the versions that `pip list` shows"
        super().__init__(
            f"{printable(run)} as {form} differs from the run by {done.shown_difference}: nothing was written; {instead}"
        )


class ExportExistsError(StillroomError, FileExistsError):
    """The target is there already."""

    def __init__(self, out: Path) -> None:
        super().__init__(f"{printable(out)} is there already; choose another folder, or remove it first")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file or folder that the other library reads.
        loads: How it is loaded, for a person.
        difference: Largest absolute difference over all layers and frames; in int8 the largest root mean square of a layer's
            differences in an utterance over that of the layer.
        utterances: How many were compared.
        seconds: How long they are together.
        note: What else a user must know; empty if nothing.
        int8: Whether weights were rounded.
    """

    path: Path
    loads: str
    difference: float
    utterances: int
    seconds: float
    note: str = ""
    int8: bool = False

    @property
    def largest(self) -> float:
        """Above which nothing is written."""
        return LARGEST_ROUNDING if self.int8 else LARGEST_DIFFERENCE

    @property
    def shown_difference(self) -> str:
        """The difference and what it may be, in words."""
        share = " of a layer's root mean square" if self.int8 else ""
        return f"{self.difference:.2g}{share} (at most {self.largest:g})"


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    form: Format,
    checkpoint: Literal["last", "best"] = "last",
    audio: tuple[Path, ...] = (),
    int8: bool = False,
    beside: Callable[[Path, Encoder, Written], None] | None = None,
) -> Exported:
    """Write the student of a run for another library, and compare.

    Args:
        run: The run's folder.
        out: A folder that is not there yet, or is empty.
        form: For which library.
        checkpoint: The newest, or that with the lowest validation loss.
        audio: Files to compare on; utterances of the run's corpus by default.
        int8: Whether weights of matrix products are rounded to integers; with `onnx` alone.
        beside: Writes more into the folder before it appears.

    Raises:
        NotExportableError: If the format cannot represent this student.
        DiffersError: If it is not the same there.
        ExportExistsError: If the target is there.
        UsageError: If the other library is not installed, there is nothing to compare on, or `int8` is not of the format.
    """
    run, out = local_path(run), local_path(out)
    if int8 and form != "onnx":
        raise UsageError(f"--int8 goes with --to onnx alone, found --to {form}: leave it out, or write ONNX")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ExportExistsError(out)
    trained = load_student(run, checkpoint=checkpoint)
    waves = comparison_waves(run, trained.encoder, audio=audio)
    with making(out) as part:
        part.mkdir()
        written = write_as(form, trained, part, int8=int8)
        difference = max(largest_difference(trained.encoder, wave, written) for wave in waves)
        path = out / written.name if written.name else out
        loads = written.loads.format(path=printable(path))
        seconds = sum(map(len, waves)) / trained.encoder.sample_rate
        done = Exported(path, loads, difference, len(waves), seconds, written.note, int8)
        if not difference <= done.largest:  # NaN too
            raise DiffersError(run, done, form=form)
        write_beside(part, run, trained.encoder, done, form=form)
        if beside is not None:
            beside(part, trained.encoder, written)
    return done


def write_as(form: Format, trained: TrainedStudent, folder: Path, *, int8: bool) -> Written:
    """Write a student in one format, and load it by the other library."""
    match form:
        case "huggingface":
            from training.export.huggingface import write_huggingface

            return write_huggingface(trained.encoder, folder)
        case "s3prl":
            from training.export.s3prl import write_s3prl

            return write_s3prl(trained, folder)
        case "torchaudio":
            from training.export.torchaudio import write_torchaudio

            return write_torchaudio(trained.encoder, folder)
        case "onnx":
            from training.export.onnx import write_onnx

            return write_onnx(trained.encoder, folder, int8=int8)
        case _:
            assert_never(form)


def largest_difference(encoder: Encoder, wave: Tensor, written: Written) -> float:
    """Largest difference for one utterance: absolute, of any value of any layer; where weights are rounded, relative, of any layer.

    Infinite where shapes differ.
    """
    ours = encoder.layers(wave[None], torch.tensor([len(wave)]))[0][0]
    theirs = written.outputs(wave)
    if ours.shape != theirs.shape:
        return float("inf")
    if written.is_rounded:
        return float(((ours - theirs).square().mean(dim=(1, 2)) / ours.square().mean(dim=(1, 2))).max().sqrt())
    return float((ours - theirs).abs().max())


def write_beside(folder: Path, run: Path, encoder: Encoder, done: Exported, *, form: Format) -> None:
    """Write facts of the model for its users, and for evaluations what it was trained on."""
    for name in COPIED_BESIDE:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    write_json(
        folder / "export.json",
        {
            "schema": "stillroom/export/1",
            "run": run.resolve().name,
            "format": form,
            "parameters_sha256": encoder.digest,
            "heard_sha256": file_digest(folder / "heard.txt") if (folder / "heard.txt").is_file() else None,
            "largest_difference": done.difference,
            "compared": {"utterances": done.utterances, "seconds": round(done.seconds, 2)},
            **(graph_record(encoder, folder, int8=done.int8) if form == "onnx" else {}),
            "facts": encoder.facts,
            "software": software(),
        },
    )


def comparison_waves(run: Path, encoder: Encoder, *, audio: tuple[Path, ...]) -> list[Tensor]:
    """Real utterances of several lengths, each of shape (time,).

    Raises:
        UsageError: If there are none.
        BadDocumentError: If a file is no audio, or has another rate.
    """
    waves = [read_wave(path, rate_hz=encoder.sample_rate) for path in audio] if audio else corpus_waves(run, encoder)
    long_enough = [wave for wave in waves if encoder.config.num_frames(len(wave)) > 0]
    if not long_enough:
        raise UsageError(
            "no utterance is long enough to be compared on; give one of a second or more with --audio FILE"
        )
    return long_enough


def corpus_waves(run: Path, encoder: Encoder) -> list[Tensor]:
    """Clean utterances of the run's corpus, of its validation split where there is one."""
    try:
        config = run_config(run / "config.yaml", any_version=True)
        with open_corpus(config.corpus) as reader:
            split = config.dev if reader.has_split(config.dev) else config.split
            utterances = FixedUtterances(
                reader, split=split, utterances=UTTERANCES, crop_samples=int(MOST_S * encoder.sample_rate)
            )
            waves = []
            for crops in utterances.batches:
                wave, num_samples = utterances.waves(crops, "clean")
                waves += [row[:length] for row, length in zip(wave, num_samples.tolist(), strict=True)]
            return waves
    except (StillroomError, OSError) as problem:
        raise UsageError(
            f"the corpus of {printable(run)} cannot be read ({printable(problem)}): give a file of speech with --audio FILE"
        ) from None


def read_wave(path: Path, *, rate_hz: int) -> Tensor:
    """A mono file, at most `MOST_S` of it, shape (time,)."""
    try:
        with soundfile.SoundFile(path) as stream:
            if stream.samplerate != rate_hz or stream.channels != 1:
                raise BadDocumentError(
                    path,
                    f"has {stream.samplerate} Hz and {stream.channels} channels; the model takes {rate_hz} Hz and one channel",
                )
            return torch.from_numpy(stream.read(int(MOST_S * rate_hz), dtype="float32"))
    except soundfile.LibsndfileError as problem:
        raise BadDocumentError(path, f"cannot be read as audio: {printable(problem)}") from None
