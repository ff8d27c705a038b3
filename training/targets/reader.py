"""A teacher's outputs, computed once: `targets.json` and shards beside those of the audio.

A target is what chosen layers of the teacher give for one stretch of one copy, as float16 of shape (layer, frame, feature), a
plain `.npy` in a tar: `<key>.<copy>.<start>.npy`. Two contexts, which are two methods:

* `crop`: the teacher heard the very crop that the student will hear. Crops are planned: they begin on the teacher's frame grid and
  each utterance has as many as there are *crop sets*; epoch e hears those of set e modulo their number. Losses are those with
  the teacher in the loop, but for float16.
* `whole`: the teacher heard the whole utterance, and a crop takes the frames that lie in it. Every crop on the grid can be had;
  targets know what was said before and after the crop, as they do not in DistilHuBERT.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch

from manifests.errors import StillroomError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.json_yaml import MAX_JSON_BYTES, parse_json, read_bytes
from manifests.io.place import place_of
from training.data.node_cache import Wanted
from training.data.tar_reader import DamagedShardError, TarBytes
from training.models.encoder import Encoder
from training.models.native_format import load_encoder_folder, outlined, read_heard
from training.targets.schema import TargetIndex, TargetPlan, Targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from training.data.corpus import CorpusReader
    from training.data.sampler import Crop


class TargetsMisfitError(UsageError):
    """Targets are not those of this run."""

    def __init__(self, where: object, *, what: str, found: object, due: object) -> None:
        super().__init__(
            f"targets: {printable(where)} are of {what} {printable(found)}, this run has {printable(due)}: "
            "compute them again with `stillroom targets`, or leave the key out"
        )


class NoTargetsError(StillroomError, FileNotFoundError):
    """A folder holds no finished targets."""

    def __init__(self, where: object) -> None:
        super().__init__(
            f"{printable(where)} has no targets.json, so it holds no finished targets: run `stillroom targets` to its end first"
        )


class Place(NamedTuple):
    """Where the target of a stretch lies."""

    length: int
    offset: int
    size: int


class TargetsReader:
    """Reads targets; opened anew in each process.

    Args:
        url: Their folder or URL.

    Raises:
        NoTargetsError: If they are not finished.
        BadDocumentError: If `targets.json` breaks its schema.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url).rstrip("/")
        self.place = place_of(self.url)
        try:
            found = self.document("targets.json")
        except FileNotFoundError:
            raise NoTargetsError(self.url) from None
        where = f"{self.url}/targets.json"
        self.manifest = Targets.parse(parse_json(found, where=where), where=where)
        self.plan = self.manifest.plan
        self.digest = digest(self.manifest)
        self.tars = TarBytes(
            self.place,
            (entry for entries in self.manifest.splits.values() for entry in entries),
            needed="targets.json lists",
        )
        self.indexes: dict[str, dict[tuple[str, str, int], Place]] = {}

    def document(self, relative: str) -> bytes:
        """A whole small file."""
        return read_bytes(self.place / relative, needed="part of the targets", limit=MAX_JSON_BYTES)

    def places_of(self, shard: str) -> dict[tuple[str, str, int], Place]:
        """Where the targets of a shard lie; those of the shards of the last windows are held."""
        if shard not in self.indexes:
            where = f"{self.url}/shards/{shard}.json"
            index = TargetIndex.parse_text(self.document(f"shards/{shard}.json"), where=where)
            self.indexes[shard] = {
                (sample.key, target.name, target.start): Place(target.length, target.offset, target.size)
                for sample in index.samples
                for target in sample.targets
            }
        return self.indexes[shard]

    def keep(self, shards: Sequence[str]) -> None:
        """Forget the indexes of all shards but these."""
        self.indexes = {name: places for name, places in self.indexes.items() if name in shards}

    def read(self, crop: Crop, copy: str, rows: Sequence[int]) -> NDArray[np.float16]:
        """The target of one crop, shape (layer, frame, feature), of the layers that stand in these rows.

        Raises:
            DamagedShardError: If there is none, or not of this length.
        """
        where = f"{self.url}/shards/{crop.shard}.tar: {crop.sample.key}.{copy}"
        is_whole = self.plan.context == "whole"
        start = 0 if is_whole else crop.start
        length = crop.sample.num_samples if is_whole else crop.length
        place = self.places_of(crop.shard).get((crop.sample.key, copy, start))
        if place is None or place.length != length:
            raise DamagedShardError(where, f"there is no target of {length} samples from {start} on")
        frames = self.plan.encoder.num_frames(length)
        shape = (len(self.plan.layers), frames, self.plan.encoder.encoder_embed_dim)
        head = npy_header(shape)
        if place.size != len(head) + 2 * shape[0] * shape[1] * shape[2]:
            raise DamagedShardError(where, f"the index gives it {place.size} bytes, {shape} numbers of float16 are due")
        content = self.tars.span(crop.shard, place.offset, place.offset + place.size)
        if not content.startswith(head):
            raise DamagedShardError(where, f"is not a .npy of float16 of shape {shape}")
        found = np.frombuffer(content, dtype="<f2", offset=len(head)).reshape(shape)[list(rows)]
        if not is_whole:
            return found
        first = crop.start // self.plan.encoder.hop_samples
        return found[:, first : first + self.plan.encoder.num_frames(crop.length)]

    def batch(self, crops: Sequence[Crop], copies: Sequence[str], *, layers: Sequence[int]) -> Tensor:
        """Targets of a micro-batch: float16 of shape (batch, layer, frame, feature), zeros after each utterance's end."""
        rows = [self.plan.layers.index(layer) for layer in layers]
        frames = [self.plan.encoder.num_frames(crop.length) for crop in crops]
        shape = (len(crops), len(rows), max(frames, default=0), self.plan.encoder.encoder_embed_dim)
        batch = np.zeros(shape, dtype=np.float16)
        for row, (crop, copy, count) in enumerate(zip(crops, copies, frames, strict=True)):
            batch[row, :, :count] = self.read(crop, copy, rows)
        return torch.from_numpy(batch)

    def sources(self, shards: Sequence[str]) -> list[Wanted]:
        """What is read of some shards, for a stage."""
        return [Wanted(self.tars, name) for name in shards if name in self.tars.entries]

    def teacher(self) -> StoredTeacher:
        """Who was heard, without its weights."""
        return StoredTeacher(self)

    def close(self) -> None:
        """Close what is open."""
        self.tars.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.lru_cache(maxsize=4096)
def npy_header(shape: tuple[int, ...]) -> bytes:
    """What numpy writes before float16 of a shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return stream.getvalue()


class StoredTeacher(Encoder):
    """A teacher whose outputs are kept: everything of it but its weights, which take no memory.

    Args:
        targets: What it gave.
    """

    def __init__(self, targets: TargetsReader) -> None:
        plan = targets.plan
        self.targets_url = targets.url
        super().__init__(
            outlined(plan.encoder, where=f"{targets.url}/targets.json"),
            plan.encoder,
            name=plan.teacher,
            heard=read_heard(targets.place / "teacher" / "heard.txt", sha256=plan.heard_sha256),
        )
        self.__dict__["digest"] = plan.teacher_sha256

    def weights(self) -> Encoder:
        """The teacher itself, for a student that begins with its first layers.

        Raises:
            UsageError: If the targets lie behind a URL.
        """
        folder = place_of(self.targets_url)
        if not isinstance(folder, Path):
            raise UsageError(
                f"student.init: teacher, and the targets lie at {printable(self.targets_url)}: copy its folder teacher/ to a disk "
                "and name that in student.init"
            )
        return load_encoder_folder(folder / "teacher", name=self.name)

    def layers(
        self,
        wave: Tensor,  # noqa: ARG002
        num_samples: Tensor,  # noqa: ARG002
        *,
        only: Sequence[int] | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """It hears nothing."""
        raise AssertionError("a stored teacher was asked to listen")


def check_targets(
    targets: TargetsReader,
    reader: CorpusReader,
    *,
    name: str,
    weights_sha256: str | None,
    crop_samples: int,
    layers: Sequence[int],
) -> None:
    """See that targets are those of this run.

    Args:
        targets: What is kept.
        reader: Of the run's corpus.
        name: What the run's teacher is called.
        weights_sha256: Digest of its files, where they are here.
        crop_samples: The run's longest crop.
        layers: That it asks for.

    Raises:
        TargetsMisfitError: If they are not.
    """
    for what, kept, due in misfits(
        targets.plan, reader, name=name, weights_sha256=weights_sha256, crop_samples=crop_samples, layers=layers
    ):
        raise TargetsMisfitError(targets.url, what=what, found=kept, due=due)


def misfits(
    plan: TargetPlan,
    reader: CorpusReader,
    *,
    name: str,
    weights_sha256: str | None,
    crop_samples: int,
    layers: Sequence[int],
) -> Iterator[tuple[str, str, str]]:
    """What differs, as it was and as it is due; arguments as of `check_targets`."""
    if plan.corpus_sha256 != reader.digest:
        due = f"{reader.manifest.name} of SHA-256 {reader.digest[:12]}"
        yield "the corpus", f"{plan.corpus} of SHA-256 {plan.corpus_sha256[:12]}", due
    known = plan.weights_sha256 is not None and weights_sha256 is not None
    if known and plan.weights_sha256 != weights_sha256:
        due = f"{name} with weights of SHA-256 {str(weights_sha256)[:12]}"
        yield "the teacher", f"{plan.teacher} with weights of SHA-256 {str(plan.weights_sha256)[:12]}", due
    if not known and plan.teacher != name:
        yield "the teacher", plan.teacher, name
    missing = [layer for layer in layers if layer not in plan.layers]
    if missing:
        yield "layers", ", ".join(map(str, plan.layers)), f"layer {missing[0]}"
    if plan.context == "crop" and plan.crop_samples != crop_samples:
        yield "crops of", f"{plan.crop_samples} samples", f"crop_s of {crop_samples} samples"


def check_layers(targets: TargetsReader, layers: Sequence[int]) -> None:
    """See that all layers that are asked for are kept: the targets, and those that a critic reads.

    Raises:
        TargetsMisfitError: If one is not.
    """
    missing = [layer for layer in layers if layer not in targets.plan.layers]
    if missing:
        kept = ", ".join(map(str, targets.plan.layers))
        raise TargetsMisfitError(targets.url, what="layers", found=kept, due=f"layer {missing[0]}")


def check_split(targets: TargetsReader, *, split: str, shards: Sequence[str]) -> None:
    """See that a split was heard whole.

    Raises:
        UsageError: If not.
    """
    kept = {entry.name for entry in targets.manifest.splits.get(split, ())}
    if set(shards) - kept:
        raise UsageError(
            f"targets: {printable(targets.url)} have none of split {printable(split)}: run `stillroom targets` with --split {printable(split)} too"
        )
