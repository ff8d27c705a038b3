"""`stillroom targets`: runs a teacher over a corpus once and stores its outputs; see `training.targets.reader`.

A shard of targets is written for each shard of audio, its index last, so a stopped command goes on at the shard where it was.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal, NamedTuple

import safetensors.torch
import torch

from manifests.corpus.layout import PROVENANCE, SHARDS_FOLDER, index_name, tar_name
from manifests.corpus.provenance import provenance
from manifests.corpus.sample import CLEAN
from manifests.corpus.shard_index import ShardEntry
from manifests.errors import StillroomError, UsageError, printable
from manifests.io.atomic import refuse_linked_folders, replacing, write_bytes, write_text
from manifests.io.digest import bytes_digest, digest, file_digest
from manifests.io.json_yaml import read_json, write_json
from manifests.io.lock import writing
from manifests.io.progress import Progress
from manifests.io.tar import TarBuilder
from training.data.audio import batch_waves
from training.data.joined_corpus import open_corpus
from training.data.sampler import Batching, cropped
from training.data.views import Pair, condition_of
from training.runs.distributed import alone
from training.runs.signals import StopSignals
from training.setup import checked_rate
from training.targets.reader import npy_header
from training.targets.schema import Target, TargetIndex, TargetPlan, Targets, TargetSample
from training.teacher import chosen_layers, load_teacher, weights_digest

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from manifests.corpus.shard_index import IndexedSample
    from training.data.corpus import CorpusReader
    from training.data.sampler import Crop
    from training.models.encoder import Encoder

BATCH_S = 64.0
SPARE = 1.02


class OtherTargetsError(StillroomError, ValueError):
    """A folder holds other targets, or something else."""

    def __init__(self, out: Path, what: str) -> None:
        super().__init__(f"{printable(out)} {printable(what)}: choose another folder, or remove this one")


class TooLargeError(StillroomError, ArithmeticError):
    """A teacher gives numbers that float16 does not hold."""

    def __init__(self, *, layer: int, key: str, copy: str) -> None:
        super().__init__(
            f"layer {layer} of the teacher gives numbers beyond 65504, or none, for {printable(key)}.{copy}: "
            "such targets cannot be stored as float16; train with the teacher in the loop"
        )


class StoppedError(Exception):
    """A signal was received; caught in this module."""


class Stretch(NamedTuple):
    """One stretch of one copy that the teacher is given."""

    crop: Crop
    copy: str


class TargetSettings(NamedTuple):
    """What is computed.

    Attributes:
        teacher: Name, folder or checkpoint.
        layers: Numbers, `thirds` or `all`.
        splits: Which; by default train and dev, as far as there are.
        conditions: Whose copies it is given, beside the clean utterances.
        crop_s: Longest crop, in seconds.
        crop_sets: Crops of each utterance.
        crop_seed: Of the crops.
        precision: In which the teacher computes.
    """

    teacher: str
    layers: str | tuple[int, ...] = "thirds"
    splits: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    crop_s: float = 15.625
    crop_sets: int = 1
    crop_seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"


def compute_targets(
    corpus: str | Path,
    out: Path,
    settings: TargetSettings,
    *,
    part: tuple[int, int] = (1, 1),
    report: Callable[[str], None],
) -> signal.Signals | None:
    """Compute the targets that are missing; returns the signal that stopped it, if one did.

    Args:
        corpus: Folder or URL.
        out: The folder of the targets.
        settings: What is computed.
        part: Which slice of the shards, from 1, of how many.
        report: Gets lines for a person.

    Raises:
        UsageError: If corpus and teacher do not fit each other, or the disk is too small.
        OtherTargetsError: If the folder holds others.
        TooLargeError: If float16 does not hold them.
    """
    device = alone().device
    with open_corpus(corpus) as reader, StopSignals() as stop:
        splits = settings.splits or tuple(name for name in ("train", "dev") if reader.has_split(name)) or ("train",)
        shards = [(split, entry) for split in splits for entry in reader.shards(split)]
        check_conditions(reader, splits, settings.conditions)
        teacher = load_teacher(settings.teacher)
        plan = target_plan(reader, teacher, settings)
        number, count = part
        with writing(out if part == (1, 1) else out / f".slice-{number}-of-{count}"):
            begin(out, plan, teacher)
            mine = [(split, entry) for split, entry in shards[number - 1 :: count] if not is_finished(out, entry, plan)]
            check_space(out, plan, [entry for _, entry in mine], report=report)
            teacher.to(device)
            total = sum(entry.seconds for _, entry in mine)
            with Progress("targets", total=round(total), unit="s of speech") as progress:
                try:
                    for split, entry in mine:
                        write_shard(out, reader, split, entry, plan, teacher=teacher, device=device, stop=stop)
                        progress.advance(entry.seconds)
                except StoppedError:
                    return stop.received
            finish(out, reader, plan, splits=splits, report=report)
    return None


def check_conditions(reader: CorpusReader, splits: Sequence[str], conditions: Sequence[str]) -> None:
    """Check that there are copies of all conditions.

    Raises:
        UsageError: If not.
    """
    for split in splits:
        there = reader.conditions(split)
        missing = [name for name in conditions if name not in there]
        if missing:
            raise UsageError(
                f"--conditions: {printable(reader.url)}, split {printable(split)}, has no copies of {printable(missing[0])!r}; "
                f"it has {', '.join(there) or 'none'}"
            )


def target_plan(reader: CorpusReader, teacher: Encoder, settings: TargetSettings) -> TargetPlan:
    """What the targets will be, checked.

    Raises:
        UsageError: If rate or layers do not fit.
    """
    rate_hz = checked_rate(reader, teacher)
    layers = chosen_layers(settings.layers, teacher=teacher)
    if len(set(layers)) < len(layers):
        raise UsageError(f"--layers: {', '.join(map(str, layers))} names a layer twice")
    if teacher.config.num_frames(round(settings.crop_s * rate_hz)) < 1:
        raise UsageError(f"--crop-s: {settings.crop_s:g} s hold no frame of {teacher.name}")
    return TargetPlan(
        corpus=reader.manifest.name,
        corpus_sha256=reader.digest,
        teacher=teacher.name,
        teacher_sha256=teacher.digest,
        weights_sha256=weights_digest(settings.teacher),
        heard_sha256=bytes_digest(trained_on_text(teacher).encode()),
        encoder=teacher.config.whole(),
        layers=layers,
        crop_samples=round(settings.crop_s * rate_hz),
        crop_sets=settings.crop_sets,
        crop_seed=settings.crop_seed,
        conditions=tuple(sorted(set(settings.conditions))),
        precision=settings.precision,
    )


def trained_on_text(teacher: Encoder) -> str:
    """The digests of the teacher's training audio, a line each."""
    return "".join(f"{prefix}\n" for prefix in sorted(teacher.trained_on))


def begin(out: Path, plan: TargetPlan, teacher: Encoder) -> None:
    """Write the plan, and the teacher, so that a student can begin with its first layers; or check that the folder holds this plan.

    Raises:
        OtherTargetsError: If the folder holds something else.
        UsageError: If a folder of it is a link.
    """
    refuse_linked_folders(out, "teacher", SHARDS_FOLDER)
    path = out / "begun.json"
    if path.exists():
        found = TargetPlan.parse(read_json(path, needed="what was begun"), where=path)
        if found != plan:
            mine, theirs = plan.model_dump(mode="json"), found.model_dump(mode="json")
            key = next(key for key in mine if mine[key] != theirs[key])
            raise OtherTargetsError(out, f"holds targets whose {key} is {theirs[key]}, not {mine[key]}")
        return
    strange = sorted(entry.name for entry in out.iterdir() if entry.name[0] != "." and entry.name != "teacher")
    if strange:
        raise OtherTargetsError(out, f"holds {strange[0]} and no begun.json, so it holds no targets")
    folder = out / "teacher"
    write_json(folder / "config.json", teacher.config.model_dump(mode="json"))
    weights = {name: tensor.contiguous() for name, tensor in teacher.trunk.state_dict().items()}
    write_bytes(folder / "weights.safetensors", safetensors.torch.save(weights))
    write_text(folder / "heard.txt", trained_on_text(teacher))
    write_json(folder / "card.json", {"name": teacher.name, "heard_sha256": plan.heard_sha256})
    write_json(path, plan.model_dump(mode="json"))


def is_finished(out: Path, entry: ShardEntry, plan: TargetPlan) -> bool:
    """Whether the targets of a shard are there."""
    index, tar = out / index_name(entry.name), out / tar_name(entry.name)
    if not index.exists() or not tar.exists():
        return False
    found = TargetIndex.read(index, needed="finished targets", repair="remove it, its shard is computed again")
    return found.plan_sha256 == digest(plan) and found.bytes == tar.stat().st_size


def check_space(out: Path, plan: TargetPlan, entries: Sequence[ShardEntry], *, report: Callable[[str], None]) -> None:
    """Report how large the targets will be at most, and check that they fit.

    Raises:
        UsageError: If they do not.
    """
    if not entries:
        return
    seconds = sum(entry.seconds for entry in entries)
    frames = seconds * plan.encoder.sample_rate / plan.encoder.hop_samples
    size = 2 * frames * len(plan.layers) * plan.encoder.encoder_embed_dim * (1 + len(plan.conditions)) * SPARE
    free = shutil.disk_usage(out).free
    if size > free and plan.crop_sets == 1:
        raise UsageError(
            f"{printable(out)}: targets of {seconds / 3600:.1f} h take about {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: "
            "choose another disk, or fewer layers or conditions"
        )
    more = f", {plan.crop_sets} times for long utterances" if (plan.crop_sets or 1) > 1 else ""
    report(
        f"{len(entries)} shards, {seconds / 3600:.2f} h of speech: about {size / 1e9:.2f} GB of targets at most{more}"
    )


def stretches(shard: str, samples: Sequence[IndexedSample], plan: TargetPlan) -> Iterator[Stretch]:
    """Every stretch of a shard that the teacher is given, each once."""
    batching = Batching(lanes=1, crop_samples=plan.crop_samples or 1, lane_utterances=1, grid=plan.grid)
    for sample in samples:
        every = (cropped(shard, sample, batching, seed=0, epoch=epoch) for epoch in range(plan.crop_sets or 1))
        found = {crop.start: crop for crop in every}
        for copy in (CLEAN, *(name for name in sample.copies if condition_of(name) in plan.conditions)):
            for _, crop in sorted(found.items()):
                yield Stretch(crop, copy)


def like_lengths(every: Sequence[Stretch], rate_hz: int) -> Iterator[list[Stretch]]:
    """Batches of like lengths, the longest first, so that what does not fit into memory is known at once."""
    batch: list[Stretch] = []
    ordered = sorted(every, key=lambda one: (-one.crop.length, one.crop.sample.key, one.copy, one.crop.start))
    for one in ordered:
        if batch and batch[0].crop.length * (len(batch) + 1) > BATCH_S * rate_hz:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def write_shard(
    out: Path,
    reader: CorpusReader,
    split: str,
    entry: ShardEntry,
    plan: TargetPlan,
    *,
    teacher: Encoder,
    device: torch.device,
    stop: StopSignals,
) -> None:
    """Write the targets of one shard, its index last.

    Raises:
        StoppedError: If a signal came; then nothing is written.
    """
    samples = reader.samples(entry.name)
    written: dict[str, list[Target]] = {sample.key: [] for sample in samples}
    tar_path, index_path = out / tar_name(entry.name), out / index_name(entry.name)
    index_path.unlink(missing_ok=True)
    with replacing(tar_path) as half:
        with half.open("wb") as stream:
            tar = TarBuilder(stream)
            for batch in like_lengths(list(stretches(entry.name, samples, plan)), teacher.sample_rate):
                if stop.received:
                    raise StoppedError
                targets = outputs(reader, batch, plan, teacher=teacher, device=device)
                for (crop, copy), target in zip(batch, targets, strict=True):
                    at = tar.add(f"{crop.sample.key}.{copy}.{crop.start}.npy", npy(target))
                    written[crop.sample.key].append(
                        Target(name=copy, start=crop.start, length=crop.length, offset=at.offset, size=at.size)
                    )
            tar.close()
        size, sha256 = half.stat().st_size, file_digest(half)
    TargetIndex.model_validate(
        {
            "schema": TargetIndex.SCHEMA,
            "name": entry.name,
            "split": split,
            "bytes": size,
            "sha256": sha256,
            "plan_sha256": digest(plan),
            "seconds": entry.seconds,
            "samples": tuple(TargetSample(key=key, targets=tuple(targets)) for key, targets in written.items()),
        }
    ).write(index_path)


def outputs(
    reader: CorpusReader, batch: Sequence[Stretch], plan: TargetPlan, *, teacher: Encoder, device: torch.device
) -> Iterator[Tensor]:
    """What the teacher gives for each stretch, float16 of shape (layer, frame, feature), without padding.

    Raises:
        TooLargeError: If float16 does not hold it.
    """
    crops = [one.crop for one in batch]
    wave, _ = batch_waves(reader, crops, [Pair(one.copy, one.copy) for one in batch])
    lengths = torch.tensor([crop.length for crop in crops])
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.precision == "bfloat16"):
        given, num_frames = teacher.layers(wave.to(device), lengths, only=plan.layers)
    halves = given.to(torch.float16).cpu()
    for one, half, frames in zip(batch, halves, num_frames.tolist(), strict=True):
        real = half[:, :frames]
        is_finite = torch.isfinite(real).flatten(1).all(dim=1)
        if not bool(is_finite.all()):
            layer = plan.layers[int(is_finite.int().argmin())]
            raise TooLargeError(layer=layer, key=one.crop.sample.key, copy=one.copy)
        yield real


def npy(target: Tensor) -> bytes:
    """A tensor of shape (layer, frame, feature) as a `.npy` file."""
    return npy_header(tuple(target.shape)) + target.contiguous().numpy().astype("<f2").tobytes()


def finish(
    out: Path, reader: CorpusReader, plan: TargetPlan, *, splits: Sequence[str], report: Callable[[str], None]
) -> None:
    """Write `targets.json` over every split whose shards are all there, unless one of `splits` lacks any."""
    finished: dict[str, tuple[ShardEntry, ...]] = {}
    for split in reader.manifest.splits:
        entries = [entry for entry in reader.manifest.splits[split] if entry.samples]
        left = [entry for entry in entries if not is_finished(out, entry, plan)]
        if left and split in splits:
            report(f"{printable(out)}: {len(left)} of {len(entries)} shards of split {split} are left to other slices")
            return
        if entries and not left:
            finished[split] = tuple(finished_entry(out, entry) for entry in entries)
    write_json(out / PROVENANCE, provenance(corpus=plan.corpus, teacher=plan.teacher, plan_sha256=digest(plan)))
    Targets.model_validate({"schema": Targets.SCHEMA, "plan": plan, "splits": finished}).write(out / "targets.json")
    size = sum(entry.bytes for entries in finished.values() for entry in entries)
    report(
        f"{printable(out)}: targets of {', '.join(finished)}, {size / 1e9:.2f} GB; train with `targets: {printable(out)}`"
    )


def finished_entry(out: Path, entry: ShardEntry) -> ShardEntry:
    """One shard of targets."""
    index = TargetIndex.read(out / index_name(entry.name), needed="finished targets")
    return ShardEntry(
        name=entry.name, samples=entry.samples, seconds=entry.seconds, bytes=index.bytes, sha256=index.sha256
    )
