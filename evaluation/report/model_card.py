"""Exports with a model card: what the student is, how it was trained and scores, whose weights it comes from, and how to load it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jinja2
import torchaudio

from evaluation.exposure.training_set import TrainingUnknownError, run_exposure
from evaluation.report.markdown import merged_models, outcomes_of, read_results
from evaluation.report.robustness_table import robustness_tables
from evaluation.report.table import Table, escaped
from manifests.errors import StillroomError, UsageError, printable
from manifests.io.atomic import write_text
from manifests.io.place import local_path, one_or_several
from training.config.hub import is_hub_id, snapshot_of
from training.config.load import run_config
from training.export.write import export_run
from training.runs.checkpoint import is_run
from training.teacher import BUNDLES, NANO, NANO_FOLDER, known_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manifests.results.training_exposure import TrainedOn
    from training.config.schema import TrainConfig
    from training.export.format import Written
    from training.export.write import Exported, Format
    from training.models.encoder import Encoder

METHODS = {
    "none": "distillation on clean speech (DistilHuBERT, arXiv 2110.01900)",
    "same": "teacher and student get the same distorted copy",
    "cdm1": "cross-distortion mapping (arXiv 2210.07978), the student gets a distorted copy, the teacher the clean utterance",
    "cdm2": "cross-distortion mapping (arXiv 2210.07978), teacher and student get differently distorted copies",
}
ADVERSARY = ", with domain adversarial training"
BUNDLES_WORDS = re.compile(r"Originally published.*?same license\.\s*\[.*?\]", re.DOTALL)
LICENCE_OF_CARD = re.compile(r"\A---\n.*?^license: *([A-Za-z0-9.+-]{1,60}) *$.*?^---$", re.DOTALL | re.MULTILINE)
LICENCES = {"mit": "MIT License", "cc-by-nc-4.0": "CC BY-NC 4.0"}
MOST_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class Licence:
    """What is known of the licence of a teacher's weights.

    Attributes:
        name: As model hubs spell it, such as `cc-by-sa-4.0`; None if it is not known.
        text: The licence and attributions, as Markdown.
        file: Goes along with the weights, if there is one.
    """

    name: str | None
    text: str
    file: Path | None = None


def export_with_card(
    run: str | Path,
    out: str | Path,
    *,
    form: Format,
    checkpoint: Literal["last", "best"] = "last",
    audio: tuple[Path, ...] = (),
    int8: bool = False,
    results: Sequence[str | Path] = (),
) -> Exported:
    """Write the student of a run for another library, and compare; with a model card, and `trained.json` for reports.

    Args:
        run: The run's folder.
        out: A folder that is not there yet, or is empty.
        form: For which library.
        checkpoint: The newest, or that with the lowest validation loss.
        audio: Files to compare on; utterances of the run's corpus by default.
        int8: Whether weights of matrix products are rounded to integers; with `onnx` alone.
        results: Folders of `stillroom evaluate` of the same data, in which the student has scores; they are shown on the card.

    Raises:
        UsageError: If no results are of this student.
        StillroomError: As `training.export.write.export_run` does.
    """
    run, notes = local_path(run), []

    def beside(folder: Path, encoder: Encoder, written: Written) -> None:
        config = run_config(run / "config.yaml", any_version=True)
        trained: TrainedOn | None = None
        try:
            trained = run_exposure(run)
        except (TrainingUnknownError, StillroomError, OSError) as problem:
            notes.append(f"trained.json is left out: {printable(problem, limit=300)}")
        if trained is not None:
            trained.write(folder / "trained.json")
        licence = licence_of(config.teacher.name)
        if licence.file is not None:
            shutil.copyfile(licence.file, folder / "LICENSE")
        name, table = run.resolve().name, own_table(encoder, results)
        if int8:
            name += " in int8"
            table = table and replace(table, title=f"{table.title}; of the student in float32, before it was rounded")
        text = card(
            encoder, config, written, name=name, library=form, trained=trained,
            unknown="; ".join(notes), licence=licence, table=table,
        )  # fmt: skip
        write_text(folder / "README.md", text)

    done = export_run(run, out, form=form, checkpoint=checkpoint, audio=audio, int8=int8, beside=beside)
    return replace(done, note="; ".join(filter(None, (done.note, *notes))))


def card(
    encoder: Encoder, config: TrainConfig, written: Written, *, name: str, library: str, trained: TrainedOn | None,
    unknown: str, licence: Licence, table: Table | None,
) -> str:  # fmt: skip
    """The model card, as Markdown with the front matter that model hubs read."""
    environment = jinja2.Environment(  # noqa: S701 (Markdown; names are escaped)
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    shape = encoder.config
    return environment.get_template("model_card.md").render(
        name=escaped(name),
        library="transformers" if library == "huggingface" else library,
        layers=encoder.num_layers,
        parameters=f"{encoder.num_parameters / 1e6:.1f}",
        teacher=escaped(teacher_of(encoder.facts, config)),
        method=METHODS[config.views.kind] + (ADVERSARY if config.adversary is not None else ""),
        rate_hz=encoder.sample_rate,
        hop_s=shape.hop_samples / encoder.sample_rate,
        code=written.code,
        training=[(what, escaped(text)) for what, text in training_rows(encoder.facts, config)],
        distortions=None if trained is None else [escaped(kind) for kind in trained.kinds],
        unknown=escaped(unknown or "the run has no record of them"),
        robustness=table.lines() if table is not None else [],
        licence=licence,
    )


def teacher_of(facts: Mapping[str, Any], config: TrainConfig) -> str:
    """The teacher's name, without a path of this machine."""
    return str(facts.get("teacher") or known_as(config.teacher.name))


def training_rows(facts: Mapping[str, Any], config: TrainConfig) -> list[tuple[str, str]]:
    """How it was trained: what, and the value."""
    layers = facts.get("teacher_layers") or config.teacher.layers
    shown = layers if isinstance(layers, str) else ", ".join(map(str, layers))
    batch = config.batch.model_dump(exclude_none=True)
    size = next(f"{batch[unit]:g} {unit}" for unit in ("seconds", "utterances") if unit in batch)
    audio_s = facts.get("audio_s")
    rows = [
        ("teacher", f"{teacher_of(facts, config)}, layers {shown}"),
        ("first weights", config.student.init != "teacher" and known_as(config.student.init)),
        ("preset", config.preset),
        ("corpus", facts.get("corpus") and f"{facts['corpus']} (SHA-256 of its corpus.json {facts.get('corpus_sha256')})"),
        ("steps", f"{facts.get('steps', config.steps)} of {size}"),
        ("speech", isinstance(audio_s, int | float) and f"{audio_s / 3600:.1f} h"),
        ("seed", str(config.seed)),
    ]  # fmt: skip
    return [(what, text) for what, text in rows if text]


def own_table(encoder: Encoder, results: Sequence[str | Path]) -> Table | None:
    """The rows of the student and of its teacher in the robustness table; None without results.

    Raises:
        UsageError: If no results are of this student.
    """
    if not results:
        return None
    documents = [read_results(local_path(folder)) for folder in one_or_several(results)]
    models = merged_models(documents, names=[str(folder) for folder in results])
    own = {model.facts.system or model.model for model in models if model.facts.digest == encoder.digest}
    if not own:
        names = ", ".join(printable(folder) for folder in results)
        raise UsageError(
            f"--results {names}: no model there has the weights of this student; evaluate the run, or leave --results out"
        )
    outcomes = outcomes_of(documents, models)
    tables = [] if outcomes is None else robustness_tables(outcomes)
    if not tables:
        return None
    shown = own | {model.facts.system or model.model for model in models if model.facts.kind == "teacher"}
    return replace(tables[0], rows=tuple(row for row in tables[0].rows if row[0] in shown))


def licence_of(teacher: str) -> Licence:
    """What is known of the licence of a teacher's weights, from what they came with."""
    if teacher.lower() == NANO:
        file = NANO_FOLDER / "LICENSE"
        attribution = file.read_text("utf-8").partition("Attribution. ")[2].partition("\n\nSection 4(b)")[0]
        same = "The weights come from the teacher nano and are under its licence, CC BY-SA 4.0 (`LICENSE`)."
        return Licence("cc-by-sa-4.0", f"{same} {attribution}", file)
    text = f"The weights come from {escaped(known_as(teacher))}; their licence holds for these too."
    if teacher.upper() in BUNDLES:
        found = BUNDLES_WORDS.search(str(getattr(torchaudio.pipelines, teacher.upper()).__doc__))
        words = "" if found is None else re.sub(r":\w+:`[^`]*`|[`_\\]+", "", found[0]).replace(" <", ": <")
        name = next((name for name, spelt in LICENCES.items() if spelt in words), None)
        return Licence(name, " ".join(f"{text} {words}".split()))
    folder = (snapshot_of(teacher) if is_hub_id(teacher) else None) or Path(teacher)
    if is_run(folder):
        return licence_of(run_config(folder / "config.yaml", any_version=True).teacher.name)
    file, own = folder / "LICENSE", LICENCE_OF_CARD.search(text_of(folder / "README.md"))
    if own is not None:
        text += f" Its own card says: {escaped(own[1])}."
    return Licence(None if own is None else own[1].lower(), text, file if file.is_file() else None)


def text_of(path: Path) -> str:
    """The beginning of a text file; empty if there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(MOST_CARD_BYTES).decode("utf-8", "replace")
