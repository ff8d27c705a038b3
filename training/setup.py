"""Sets up a run: everything that can be checked is checked here, before the first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError, printable
from training.config.schema import Crops
from training.data.audio import recorded_copies
from training.data.joined_corpus import open_corpus
from training.data.sampler import CropGrid, Cursor, filled_batching
from training.data.views import student_may_get
from training.distillation.adversary import DomainAdversary, NoAdversary, critic_layers
from training.distillation.domains import conditions_in_training, domain_classes
from training.distillation.losses import check_layer_weights
from training.distillation.optimiser import adamw
from training.models.student import Student, frame_grid
from training.runs.compiled import compile_layers
from training.runs.distributed import AllReduce
from training.runs.folder import prepare_run, run_facts, write_status
from training.runs.precision import hold_matrices, precision_name
from training.runs.resume import Checkpoints
from training.runs.start_report import TimeLeft, start_line
from training.sanity_check import check_first_batch
from training.step import Models
from training.stream import PairStream
from training.targets.reader import StoredTeacher, TargetsReader, check_layers, check_split, check_targets
from training.teacher import chosen_layers, known_as, load_teacher, weights_digest
from training.validation.validator import Validator

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    import torch

    from training.config.model import StudentShape
    from training.config.schema import TrainConfig
    from training.data.corpus import CorpusReader
    from training.data.sampler import Batching
    from training.models.encoder import Encoder
    from training.runs.checkpoint import Mark
    from training.runs.distributed import Ranks


WINDOW_SHARDS = 2
FAMILY_UTTERANCES = 512


@dataclass(frozen=True)
class Setup:
    """A run that is ready for its next step.

    Attributes:
        config: As resolved, with the crops of its targets.
        reader: Of the corpus.
        stream: Micro-batches from the next step on.
        models: Student, teacher and adversary, on the device.
        trained: The student's parameters that are trained.
        optimiser: Of those.
        all_reduce: Sums their gradients over ranks.
        validator: Measures the student.
        checkpoints: Writes the run's checkpoints.
        mark: The checkpoint that it goes on from; None for a run that begins.
    """

    config: TrainConfig
    reader: CorpusReader
    stream: PairStream
    models: Models
    trained: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    all_reduce: AllReduce
    validator: Validator
    checkpoints: Checkpoints
    mark: Mark | None

    @property
    def done(self) -> int:
        """Steps that are done."""
        return self.mark.step if self.mark is not None else 0

    @property
    def split_utterances(self) -> int:
        """How many utterances the training split has."""
        return sum(entry.samples for entry in self.reader.shards(self.config.split))

    def start_line(self, ranks: Ranks) -> str:
        """Where the run computes, how large its steps are and how many are to do, for a person."""
        return start_line(
            ranks,
            self.stream.window_lengths(self.reader, self.stream.cursor),
            precision=precision_name(self.config.precision, ranks.device),
            rate_hz=self.reader.manifest.sample_rate,
            split_utterances=self.split_utterances,
            done=self.done,
            steps=self.config.steps,
        )

    def log_facts(self, report: Callable[[str], None]) -> dict[str, Any]:
        """What a `TrainingLog` must know."""
        return {
            "domains": self.models.adversary.domains,
            "rate_hz": self.reader.manifest.sample_rate,
            "runs_teacher": self.config.targets is None,
            "device": self.models.device,
            "split_utterances": self.split_utterances,
            "time_left": TimeLeft(self.config.steps, report=report),
        }


def set_up(
    config: TrainConfig, run: Path, *, ranks: Ranks, report: Callable[[str], None], stack: contextlib.ExitStack
) -> Setup:
    """Open corpus and teacher, make the student, check that all fit each other, and restore the run's last checkpoint.

    Args:
        config: As resolved.
        run: The run's folder; its lock is held.
        ranks: This process among those that train together.
        report: Gets lines for a person.
        stack: Closes at its end what is opened.
    """
    lanes = ranks.lanes(config.batch.lanes)
    reader = stack.enter_context(open_corpus(config.corpus))
    targets = stack.enter_context(TargetsReader(config.targets)) if config.targets is not None else None
    teacher = targets.teacher() if targets is not None else load_teacher(config.teacher.name)
    rate_hz = checked_rate(reader, teacher)
    layers = chosen_layers(config.teacher.layers, teacher=teacher)
    if targets is not None:
        config = with_targets(config, targets, reader, rate_hz=rate_hz)
    check_layer_weights(config.loss, layers)
    batching = batching_of(config, reader, rate_hz=rate_hz, hop_samples=teacher.config.hop_samples, report=report)
    stream = stream_of(config, batching)
    families = families_in_training(stream, reader) if stream.names_families else set()
    config = with_usable_domain(config, reader, families, report=report)
    student = make_student(config.student, teacher, target_layers=layers, seed=config.seed)
    validator = Validator(
        config, reader, student, teacher, layers, batching=batching, targets=targets, device=ranks.device, report=report
    )
    adversary = adversary_of(config, reader, families, student=student, teacher=teacher, ranks=ranks)
    models = Models(student, teacher, layers, adversary, ranks.device)
    if targets is not None:
        check_layers(targets, models.teacher_layers)
    run_sha256 = None
    if ranks.is_first:
        if not (run / "config.yaml").exists():
            check_first_batch(stream, reader, report=report)
        targets_sha256 = targets.digest if targets is not None else None
        run_sha256 = prepare_run(
            run, config, reader=reader, teacher=teacher, trained_on=student.trained_on, targets_sha256=targets_sha256
        )
    if targets is None:
        teacher.to(ranks.device)
    student.to(ranks.device).train()
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = adamw(trained, learning_rate=config.optimiser.learning_rate)
    facts = run_facts(config, reader=reader, teacher=teacher, layers=layers)
    checkpoints = checkpoints_of(run, models, optimiser, run_sha256=run_sha256, facts=facts)
    if targets is None:
        hold_matrices(teacher, config.precision)  # after its digest was taken, which is of float32
    if config.compile:
        frozen = teacher if targets is None else None
        compile_layers(frozen, student, precision=config.precision, device=ranks.device, report=report)
    mark = checkpoints.restore(ranks, steps=config.steps, report=report)
    stream.cursor = Cursor(*mark.cursor) if mark is not None else Cursor()
    stream.lanes, stream.target_layers = lanes, models.teacher_layers
    all_reduce = AllReduce(ranks, trained)
    setup = Setup(config, reader, stream, models, trained, optimiser, all_reduce, validator, checkpoints, mark)
    if ranks.is_first:
        write_status(run, "done" if setup.done >= config.steps else "running", step=setup.done, steps=config.steps)
        if setup.done < config.steps:
            report(setup.start_line(ranks))
    return setup


def checkpoints_of(
    run: Path, models: Models, optimiser: torch.optim.Optimizer, *, run_sha256: str | None, facts: dict[str, Any]
) -> Checkpoints:
    """What writes a run's checkpoints: student, adversary and their optimisers by name."""
    return Checkpoints(
        run,
        modules={"student": models.student, **models.adversary.modules},
        optimisers={"optimiser": optimiser, **models.adversary.optimisers},
        encoder=models.student.config,
        run_sha256=run_sha256,
        facts=facts,
    )


def checked_rate(reader: CorpusReader, teacher: Encoder) -> int:
    """The sample rate of corpus and teacher, in Hz.

    Raises:
        UsageError: If they differ.
    """
    found = reader.manifest.sample_rate
    if found != teacher.sample_rate:
        raise UsageError(
            f"{printable(reader.url)} has {found} Hz, the teacher {teacher.name} takes {teacher.sample_rate} Hz: "
            f"build the corpus with sample_rate: {teacher.sample_rate}"
        )
    return found


def batching_of(
    config: TrainConfig, reader: CorpusReader, *, rate_hz: int, hop_samples: int, report: Callable[[str], None]
) -> Batching:
    """How batches are filled; a configured window that is larger than the split is cut to it, and reported.

    Raises:
        UsageError: If a lane cannot hold the longest crop, or utterances cannot be divided evenly among lanes.
    """
    configured = config.batch.window_shards
    shards, lanes = len(reader.shards(config.split)), config.batch.lanes
    window_shards = configured or WINDOW_SHARDS
    if configured is not None and configured * lanes > shards:
        window_shards = max(1, -(-shards // lanes))
        report(
            f"batch.window_shards: {configured} of {lanes} lanes are {configured * lanes} shards, the split {config.split} has {shards}: "
            f"cut to {window_shards}, the whole split is mixed"
        )
    batching = filled_batching(
        seconds=config.batch.seconds,
        utterances=config.batch.utterances,
        lanes=lanes,
        crop_s=config.crop_s,
        rate_hz=rate_hz,
        window_shards=window_shards,
    )
    crops = config.crops
    return batching if crops is None else replace(batching, grid=CropGrid(hop_samples, crops.sets, crops.seed))


def stream_of(config: TrainConfig, batching: Batching) -> PairStream:
    """The endless stream of micro-batches that a config asks for."""
    return PairStream(
        config.corpus,
        split=config.split,
        views=config.views,
        batching=batching,
        seed=config.seed,
        epochs=None,
        families=config.adversary is not None and config.adversary.domain != "view",
        targets=config.targets,
        stage=config.stage,
        damaged_shards=config.damaged_shards,
    )


def with_targets(config: TrainConfig, targets: TargetsReader, reader: CorpusReader, *, rate_hz: int) -> TrainConfig:
    """A config with the crops of its targets, after a check that the targets are those of this run.

    Raises:
        TargetsMisfitError: If they are of another corpus, teacher or crop.
        UsageError: If a split or condition that it needs was not computed.
    """
    plan = targets.plan
    check_targets(
        targets,
        reader,
        name=known_as(config.teacher.name),
        weights_sha256=weights_digest(config.teacher.name),
        crop_samples=round(config.crop_s * rate_hz),
    )
    for split in (config.split, config.dev) if reader.has_split(config.dev) else (config.split,):
        check_split(targets, split=split, shards=[entry.name for entry in reader.shards(split)])
    conditions = config.views.teacher_conditions(tuple(reader.conditions(config.split)))
    missing = [name for name in conditions if name not in plan.conditions]
    if missing:
        key = "unpaired" if missing[0] in (config.views.unpaired or ()) else "teacher.conditions"
        raise UsageError(
            f"targets: {printable(targets.url)} have none of condition {missing[0]}, which the teacher gets in views "
            f"{config.views.kind}: compute them with --conditions {','.join(conditions)}, or set views.{key}"
        )
    crops = Crops(sets=plan.crop_sets, seed=plan.crop_seed)
    if config.crops not in {None, crops}:
        raise UsageError(
            f"crops: {config.crops} configured, those of the targets {printable(targets.url)} are {crops}; leave the key out"
        )
    return config.model_copy(update={"crops": crops})


def with_usable_domain(
    config: TrainConfig, reader: CorpusReader, families: Collection[str], *, report: Callable[[str], None]
) -> TrainConfig:
    """A config whose critic names families where it was to name conditions and the student gets a single one.

    The paper's own recipe is of one condition, `double`, in which each copy draws its distortions.
    """
    adversary = config.adversary
    if adversary is None or adversary.domain != "condition" or len(set(families) - {CLEAN}) < 2:
        return config
    conditions = conditions_in_training(config.views, reader.copies(config.split))
    if len(conditions) != 1:
        return config
    report(
        f"adversary.domain: the student gets a single condition, {conditions[0]}, so the critic names the family of each copy "
        f"instead; config.yaml has domain: family"
    )
    return config.model_copy(update={"adversary": adversary.model_copy(update={"domain": "family"})})


def adversary_of(
    config: TrainConfig,
    reader: CorpusReader,
    families: Collection[str],
    *,
    student: Student,
    teacher: Encoder,
    ranks: Ranks,
) -> DomainAdversary | NoAdversary:
    """The adversary that a config asks for; without one, an object that adds nothing.

    Raises:
        OneDomainError: If the student would get a single domain.
        UsageError: If a layer is configured that is not there.
    """
    adversary = config.adversary
    if adversary is None:
        return NoAdversary()
    return DomainAdversary(
        adversary,
        domains=domain_classes(
            adversary.domain,
            config.views,
            sorted(reader.copies(config.split)),
            families=families,
        ),
        layers=critic_layers(adversary, student=student, teacher=teacher),
        num_features=student.config.encoder_embed_dim,
        optimiser=config.optimiser,
        seed=config.seed,
        device=ranks.device,
        ranks=ranks,
    )


def families_in_training(stream: PairStream, reader: CorpusReader) -> set[str]:
    """Families among the copies that the student may get, from the first 512 utterances of the order."""
    return {
        copy.family
        for crop, _ in stream.first_pairs(reader, FAMILY_UTTERANCES)
        for copy in recorded_copies(reader, crop.shard, crop.sample)
        if student_may_get(stream.views, copy)
    }


def make_student(shape: StudentShape, teacher: Encoder, *, target_layers: Sequence[int], seed: int) -> Student:
    """The student that a config asks for, its first weights read from their source.

    Raises:
        UsageError: If it does not fit the teacher, or the source of its weights.
        StillroomError: If that source cannot be read; see `load_teacher`.
    """
    if shape.predict_from is not None and len(shape.predict_from) != len(target_layers):
        raise UsageError(
            f"student.predict_from: {len(shape.predict_from)} layers for the {len(target_layers)} layers of the teacher "
            f"({', '.join(map(str, target_layers))}); give one for each"
        )
    source = load_teacher(shape.init) if shape.init not in {"teacher", "random"} else None
    if shape.init == "teacher" and isinstance(teacher, StoredTeacher):
        source = teacher.weights()
    if source is not None and source.sample_rate != teacher.sample_rate:
        raise UsageError(
            f"student.init: {source.name} takes {source.sample_rate} Hz, the teacher {teacher.name} {teacher.sample_rate} Hz"
        )
    if source is not None and frame_grid(source.config) != frame_grid(teacher.config):
        raise UsageError(
            f"student.init: the frames of {source.name} are not where those of the teacher {teacher.name} are "
            f"(a frame every {source.config.hop_samples} samples and every {teacher.config.hop_samples}); choose another source"
        )
    return Student(
        teacher,
        layers=shape.layers,
        num_targets=len(target_layers),
        dropout=shape.dropout,
        cnn_gradient=shape.cnn_gradient,
        seed=seed,
        shape=shape,
        source=source,
    )
