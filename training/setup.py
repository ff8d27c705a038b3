"""What a run sets out with: everything that can be checked is checked here, before the first step."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from manifests.errors import StillroomError, UsageError, printable
from training.config.schema import Adversary, Crops
from training.data.audio import recorded_copies
from training.data.sampler import CropGrid
from training.data.views import student_may_hear
from training.distillation.adversary import Opponent, critic_layers
from training.distillation.domains import domain_classes
from training.models.student import Student, frame_grid
from training.runs.checkpoint import Mark, read_tensors, restore_module, restore_optimiser, whole_checkpoints
from training.stream import filled_batching
from training.targets.reader import StoredTeacher, check_split, check_targets
from training.teacher import known_as, load_teacher, weights_digest
from training.validation.domain_probe import FreshCritic
from training.validation.loss import Validation
from training.validation.utterances import Panel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch

    from training.config.model import StudentShape
    from training.config.schema import TrainConfig
    from training.data.corpus import CorpusReader
    from training.data.sampler import Batching
    from training.models.encoder import Encoder
    from training.runs.distributed import Ranks
    from training.runs.journal import DistinctCount
    from training.stream import PairStream
    from training.targets.reader import TargetsReader


WINDOW_SHARDS = 2
FAMILY_UTTERANCES = 512


class ForeignCheckpointError(StillroomError, ValueError):
    """A checkpoint in a run's folder is not this run's."""

    def __init__(self, run: Path, *, stem: str, why: str) -> None:
        super().__init__(
            f"{printable(run)}: the checkpoint {stem} is of another run ({printable(why)}): take it out, or go on with the folder "
            "that it came from; nothing was overwritten"
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
    config: TrainConfig, reader: CorpusReader, *, rate_hz: int, hop_samples: int, say: Callable[[str], None]
) -> Batching:
    """How batches are filled; a window that was asked for and is larger than the split is cut to it, and said.

    Raises:
        UsageError: If a lane cannot hold the longest crop, or utterances cannot be dealt evenly.
    """
    asked = config.batch.window_shards
    shards, lanes = len(reader.shards(config.split)), config.batch.lanes
    window_shards = asked or WINDOW_SHARDS
    if asked is not None and asked * lanes > shards:
        window_shards = max(1, -(-shards // lanes))
        say(
            f"batch.window_shards: {asked} of {lanes} lanes are {asked * lanes} shards, the split {config.split} has {shards}: "
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


def with_targets(
    config: TrainConfig, targets: TargetsReader, reader: CorpusReader, *, rate_hz: int, layers: Sequence[int]
) -> TrainConfig:
    """A config whose crops are those of its targets, which are seen to be its own.

    Raises:
        TargetsMisfitError: If they are of another corpus, teacher, crop or layer.
        UsageError: If a split or condition that it needs was not heard.
    """
    plan = targets.plan
    check_targets(
        targets,
        reader,
        name=known_as(config.teacher.name),
        weights_sha256=weights_digest(config.teacher.name),
        crop_samples=round(config.crop_s * rate_hz),
        layers=layers,
    )
    for split in (config.split, config.dev) if has_split(reader, config.dev) else (config.split,):
        check_split(targets, split=split, shards=[entry.name for entry in reader.shards(split)])
    hears_copies = config.views.kind in {"cdm2", "same"} and config.views.clean_share < 1
    conditions = config.views.teacher.conditions or tuple(reader.conditions(config.split))
    missing = [name for name in conditions if hears_copies and name not in plan.conditions]
    if missing:
        raise UsageError(
            f"targets: {printable(targets.url)} have none of condition {missing[0]}, which the teacher hears in views "
            f"{config.views.kind}: compute them with --conditions {','.join(conditions)}, or set views.teacher.conditions"
        )
    crops = Crops(sets=plan.crop_sets, seed=plan.crop_seed, context=plan.context)
    if config.crops not in {None, crops}:
        raise UsageError(
            f"crops: {config.crops} asked for, those of the targets {printable(targets.url)} are {crops}; leave the key out"
        )
    return config.model_copy(update={"crops": crops})


def dev_validation(
    config: TrainConfig,
    reader: CorpusReader,
    *,
    batching: Batching,
    targets: TargetsReader | None,
    say: Callable[[str], None],
) -> Validation | None:
    """The validation, or None, said in one line, where the corpus has no dev split."""
    if not has_split(reader, config.dev):
        say(
            f"{printable(reader.url)} has no split {config.dev!r}: trained without validation, and no best checkpoint is kept"
        )
        return None
    return Validation(
        Panel(
            reader,
            split=config.dev,
            utterances=config.validate_utterances,
            crop_samples=batching.crop_samples,
            grid=batching.grid,
            targets=targets,
            only_readable=config.damaged_shards > 0,
        )
    )


def has_split(reader: CorpusReader, split: str) -> bool:
    """Whether a corpus has utterances in a split."""
    return any(entry.samples for entry in reader.manifest.splits.get(split, ()))


def opponent_of(
    config: TrainConfig,
    adversary: Adversary,
    *,
    stream: PairStream,
    reader: CorpusReader,
    student: Student,
    teacher: Encoder,
    device: torch.device,
) -> Opponent:
    """The critic of a run.

    Raises:
        OneDomainError: If the student would hear a single domain.
        UsageError: If a layer is asked for that is not there.
    """
    return Opponent(
        adversary,
        domains=domain_classes(
            adversary.domain,
            config.views,
            sorted(reader.copies(config.split)),
            families=heard_families(stream, reader) if adversary.domain == "family" else (),
        ),
        layers=critic_layers(adversary, student=student, teacher=teacher),
        num_features=student.config.encoder_embed_dim,
        optimiser=config.optimiser,
        seed=config.seed,
        device=device,
    )


def heard_families(stream: PairStream, reader: CorpusReader) -> set[str]:
    """Families among the copies that the student may hear, from the first 512 utterances of the order."""
    return {
        copy.family
        for crop, _ in stream.first_heard(reader, FAMILY_UTTERANCES)
        for copy in recorded_copies(reader, crop.shard, crop.sample)
        if student_may_hear(stream.views, copy)
    }


def fresh_critic(
    config: TrainConfig,
    reader: CorpusReader,
    *,
    student: Student,
    teacher: Encoder,
    batching: Batching,
    targets: TargetsReader | None,
) -> FreshCritic:
    """The probe that is asked at each validation; without a dev split its held-out utterances are others of the training split."""
    adversary = config.adversary or Adversary()
    count = config.validate_utterances
    panel = functools.partial(
        Panel,
        reader,
        crop_samples=batching.crop_samples,
        grid=batching.grid,
        targets=targets,
        only_readable=config.damaged_shards > 0,
    )
    if has_split(reader, config.dev):
        fit = panel(split=config.split, utterances=count)
        held_out = panel(split=config.dev, utterances=count)
    else:
        count = min(count, sum(entry.samples for entry in reader.shards(config.split)) // 2)
        fit = panel(split=config.split, utterances=count)
        held_out = panel(split=config.split, utterances=count, skip=count)
    return FreshCritic(
        adversary,
        layers=critic_layers(adversary, student=student, teacher=teacher),
        views=config.views,
        fit=fit,
        held_out=held_out,
        seed=config.seed,
    )


def resume(
    run: Path,
    student: Student,
    optimiser: torch.optim.Optimizer,
    opponent: Opponent | None,
    tally: DistinctCount,
    *,
    ranks: Ranks,
    run_sha256: str | None,
    say: Callable[[str], None],
) -> Mark | None:
    """Fill everything from the newest whole checkpoint; None if there is none. Rank 0 reads it, and gives it to the others.

    Raises:
        ForeignCheckpointError: If it is another run's.
    """
    found = newest_checkpoint(run, run_sha256=run_sha256, say=say) if ranks.is_first else None
    told = ranks.told(found[1].plain() if found is not None else None)
    if told is None:
        return None
    mark = Mark.parse(told, where=run)
    stem = f"step-{mark.step:09d}"
    tensors = ranks.shared(read_tensors(found[0]) if found is not None else None)
    try:
        restore_module(student, tensors, prefix="student")
        restore_optimiser(optimiser, tensors, prefix="optimiser")
        if opponent is not None:
            restore_module(opponent.critic, tensors, prefix="critic")
            restore_optimiser(opponent.optimiser, tensors, prefix="critic_optimiser")
    except (RuntimeError, ValueError, KeyError) as problem:
        raise ForeignCheckpointError(run, stem=stem, why=" ".join(str(problem).split())) from None
    tally.ranks = tensors.get("tally.copies", tally.ranks)
    return mark


def newest_checkpoint(run: Path, *, run_sha256: str | None, say: Callable[[str], None]) -> tuple[Path, Mark] | None:
    """The newest whole checkpoint; None if there is none. Torn ones are named in one line.

    Raises:
        ForeignCheckpointError: If it is another run's.
    """
    torn: list[str] = []
    found = next(whole_checkpoints(run / "checkpoints", torn=torn), None)
    if torn:
        instead = f"goes on from step {found[1].step}" if found is not None else "starts from the beginning"
        say(f"{printable(run)}: torn checkpoint {', '.join(torn)} left aside; {instead}")
    if found is None:
        return None
    path, mark = found
    if run_sha256 is not None and mark.run_sha256 is not None and mark.run_sha256 != run_sha256:
        why = f"it says {mark.run_sha256[:12]}, provenance.json {run_sha256[:12]}"
        raise ForeignCheckpointError(run, stem=path.stem, why=why)
    return found


def make_student(shape: StudentShape, teacher: Encoder, *, target_layers: Sequence[int], seed: int) -> Student:
    """The student that a config asks for, its first weights read from wherever they lie.

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
            f"student.init: the frames of {source.name} do not lie where those of the teacher {teacher.name} lie "
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
