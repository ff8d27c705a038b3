"""A run's folder: its config, its provenance, the digests of its training audio, and its status."""

from __future__ import annotations

import contextlib
from array import array
from typing import TYPE_CHECKING, Any

from manifests.corpus.provenance import provenance
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.atomic import refuse_linked_folders, write_text
from manifests.io.digest import bytes_digest, digest
from manifests.io.json_yaml import read_json, write_json, write_yaml
from manifests.results.reports import RunStatus, State
from training.config.load import method_difference, run_config
from training.config.presets import PRESETS
from training.data.joined_corpus import clean_digests
from training.runs.distributed import RankLostError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from training.config.schema import TrainConfig
    from training.data.corpus import CorpusReader
    from training.models.encoder import Encoder

LONGEST_PROBLEM = 1000


class OtherConfigError(StillroomError, ValueError):
    """The folder holds a run of another method."""

    def __init__(self, run: Path, difference: str) -> None:
        longer = difference.startswith("steps ")  # the learning rate has reached zero
        remedy = f"begin another run with student.init={printable(run)}" if longer else "choose another folder"
        super().__init__(
            f"{printable(run)} holds a run of another config ({difference}): {remedy}, or go on with its own config.yaml"
        )


class NotARunError(StillroomError, FileExistsError):
    """The folder holds something, but no run."""

    def __init__(self, run: Path, *, found: str) -> None:
        super().__init__(
            f"{printable(run)} holds {printable(found)} and no config.yaml, so it is not a run: choose an empty or new folder"
        )


class SourceChangedError(StillroomError, ValueError):
    """The corpus or the teacher is not what it was when the run began."""

    def __init__(self, run: Path, *, what: str, where: object, began: str, found: str) -> None:
        is_shipped = (what, str(where).lower()) == ("teacher", "nano")
        remedy = "go on with the Stillroom that began it" if is_shipped else f"give back that {what}"
        super().__init__(
            f"the {what} {printable(where)} changed since {printable(run)} began (SHA-256 {began[:12]}, now {found[:12]}): "
            f"{remedy}, or start a new run"
        )


def prepare_run(
    run: Path,
    config: TrainConfig,
    *,
    reader: CorpusReader,
    teacher: Encoder,
    trained_on: Collection[str] = (),
    targets_sha256: str | None = None,
) -> str | None:
    """Make a run's folder, or check that it is this run's; `config.yaml` is written last and is its mark.

    Args:
        run: The folder; its lock is held.
        config: As resolved.
        reader: Of the corpus.
        teacher: Whose digest is recorded.
        trained_on: What the student's first weights were trained on, beside the teacher's.
        targets_sha256: Of the targets that take the teacher's place, if any.

    Returns:
        The digest that names the run, so that its checkpoints are known; None for a run of a Stillroom that gave none.

    Raises:
        OtherConfigError: If it is a run of another method.
        SourceChangedError: If corpus or teacher changed since it began.
        NotARunError: If it holds other files.
        UsageError: If a folder of it is a link.
    """
    refuse_linked_folders(run, "checkpoints", "best", "tensorboard")
    if (run / "config.yaml").exists():
        return checked_run(run, config, reader=reader, teacher=teacher, targets_sha256=targets_sha256)
    written = {"config.yaml", "provenance.json", "heard.txt", "status.json"}
    others = sorted(entry.name for entry in run.iterdir() if entry.name not in written and entry.name[0] != ".")
    if others:
        raise NotARunError(run, found=others[0])
    lines = training_digests(reader, config.split, teacher, trained_on)
    record = provenance(
        corpus=reader.manifest.name,
        corpus_sha256=reader.digest,
        teacher=teacher.name,
        teacher_sha256=teacher.digest,
        heard_sha256=bytes_digest(lines.encode()),
        **({"targets_sha256": targets_sha256} if targets_sha256 is not None else {}),
        **preset_facts(config),
    )
    record["run_sha256"] = digest(record)
    write_text(run / "heard.txt", lines)
    write_json(run / "provenance.json", record)
    write_yaml(run / "config.yaml", config.model_dump(mode="json", by_alias=True))
    return str(record["run_sha256"])


def checked_run(
    run: Path, config: TrainConfig, *, reader: CorpusReader, teacher: Encoder, targets_sha256: str | None
) -> str | None:
    """The digest of a run that is there, after a check that config, corpus, teacher and targets are its own; see `prepare_run`."""
    difference = method_difference(config, run_config(run / "config.yaml"))
    if difference is not None:
        raise OtherConfigError(run, difference)
    record = read_json(run / "provenance.json", needed="the provenance of the run")
    for what, where, found in (
        ("corpus", reader.url, reader.digest),
        ("teacher", config.teacher.name, teacher.digest),
        ("targets", config.targets, targets_sha256),
    ):
        began = record.get(f"{what}_sha256") if isinstance(record, dict) else None
        if what == "targets" and (began is None or found is None):
            continue
        if not isinstance(began, str):
            raise BadDocumentError(run / "provenance.json", f"the key {what}_sha256 is missing")
        if began != found:
            raise SourceChangedError(run, what=what, where=where, began=began, found=str(found))
    run_sha256 = record.get("run_sha256")
    return run_sha256 if isinstance(run_sha256, str) else None


def preset_facts(config: TrainConfig) -> dict[str, Any]:
    """Where a preset's numbers come from and where they differ, for the record."""
    preset = PRESETS.get(config.preset or "")
    if preset is None:
        return {}
    return {"preset": config.preset, "preset_source": preset.source, "preset_deviations": list(preset.deviations)}


def training_digests(reader: CorpusReader, split: str, teacher: Encoder, more: Collection[str] = ()) -> str:
    """Digests of the clean utterances that the student, or its teacher, is trained on: 16 hex digits a line, sorted; 8 bytes each in memory."""
    digests = array("Q", (int(prefix, 16) for prefix in {*teacher.trained_on, *more}))
    digests.extend(int(sha256[:16], 16) for _, sha256 in clean_digests(reader.url, split))
    return "".join(f"{number:016x}\n" for number in sorted(set(digests)))


def run_facts(config: TrainConfig, *, reader: CorpusReader, teacher: Encoder, layers: Sequence[int]) -> dict[str, Any]:
    """Facts of a student for a report: how it was made; no path of this machine."""
    adversary = config.adversary
    return {
        "preset": config.preset,
        "teacher": teacher.name,
        "teacher_sha256": teacher.digest,
        "teacher_layers": list(layers),
        "corpus": reader.manifest.name,
        "corpus_sha256": reader.digest,
        "views": config.views.kind,
        "view_choices": config.views.model_dump(mode="json"),
        "clean_share": config.views.clean_share,
        "adversary": adversary.model_dump(mode="json") if adversary is not None else None,
        "seed": config.seed,
        "planned_steps": config.steps,
    }


def write_status(run: Path, state: State, *, step: int, steps: int) -> None:
    """Write to `status.json` how far the run is; a requeue script reads it."""
    status = {"schema": RunStatus.SCHEMA, "state": state, "step": step, "steps": steps}
    RunStatus.parse(status, where="status.json").write(run / "status.json")


@contextlib.contextmanager
def failure_recorded(run: Path, config: TrainConfig) -> Iterator[None]:
    """Around a run whose lock is held: an error that ends it is written to `status.json`, which a requeue script reads.

    The step there stays that of the last checkpoint, from which the run can go on. A run that is done, or another config's, is
    left as it is.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as problem:
        with contextlib.suppress(
            StillroomError, OSError
        ):  # no space left, most of all: the first error is the one to report
            if is_runs_own(run, config):
                status = RunStatus.read(run / "status.json", needed="how far the run is")
                if status.state != "done":
                    line = printable(f"{type(problem).__name__}: {problem}", limit=LONGEST_PROBLEM)
                    # A rank that is gone, or hangs, is no fault of the run: it may go on elsewhere.
                    state: State = "preempted" if isinstance(problem, RankLostError) else "failed"
                    status.model_copy(update={"state": state, "problem": line}).write(run / "status.json")
        raise


def is_runs_own(run: Path, config: TrainConfig) -> bool:
    """Whether a folder holds a run of this config; its crops may come from targets that were not read."""
    if not (run / "config.yaml").is_file():
        return False
    own = run_config(run / "config.yaml")
    if config.targets is not None and config.crops is None:
        own = own.model_copy(update={"crops": None})
    return method_difference(config, own) is None
