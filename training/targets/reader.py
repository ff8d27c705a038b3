"""Reads a teacher's stored outputs: `targets.json`, and shards beside those of the audio.

A target is the output of chosen layers of the teacher for one stretch of one copy, as float16 of shape (layer, frame, feature), a
plain `.npy` in a tar: `<key>.<copy>.<start>.npy`. The teacher was given the very crop that the student will get. Crops are planned:
they begin on the teacher's frame grid and each utterance has as many as there are *crop sets*; epoch e has those of set e modulo their
number. Losses are those with the teacher in the loop, but for float16.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch

from manifests.corpus.layout import index_name, tar_name
from manifests.errors import StillroomError, UsageError, printable
from manifests.io.digest import digest
from manifests.io.json_yaml import MAX_JSON_BYTES, parse_json, read_bytes
from manifests.io.place import place_of
from training.data.node_cache import SourceShard
from training.data.tar_reader import DamagedShardError, TarBytes
from training.models.encoder import Encoder
from training.models.native_format import load_encoder_folder, outlined, read_trained_on
from training.targets.schema import TargetIndex, Targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from training.data.corpus import CorpusReader
    from training.data.sampler import Crop


class TargetsMisfitError(UsageError):
    """Targets are not those of this run."""

    def __init__(self, where: object, *, what: str, found: object, expected: object) -> None:
        super().__init__(
            f"targets: {printable(where)} are of {what} {printable(found)}, this run has {printable(expected)}: "
            "compute them again with `stillroom targets`, or leave the key out"
        )


class NoTargetsError(StillroomError, FileNotFoundError):
    """A folder holds no finished targets."""

    def __init__(self, where: object) -> None:
        super().__init__(
            f"{printable(where)} has no targets.json, so it holds no finished targets: run `stillroom targets` to its end first"
        )


class Place(NamedTuple):
    """Where the target of a stretch is in its tar."""

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
        """Where the targets of a shard are; cached for the shards of the last windows."""
        if shard not in self.indexes:
            where = f"{self.url}/{index_name(shard)}"
            index = TargetIndex.parse_text(self.document(index_name(shard)), where=where)
            self.indexes[shard] = {
                (sample.key, target.name, target.start): Place(target.length, target.offset, target.size)
                for sample in index.samples
                for target in sample.targets
            }
        return self.indexes[shard]

    def hold(self, shards: Sequence[str]) -> None:
        """Free the indexes of all shards but these."""
        self.indexes = {name: places for name, places in self.indexes.items() if name in shards}

    def read(self, crop: Crop, copy: str, rows: Sequence[int]) -> NDArray[np.float16]:
        """The target of one crop, shape (layer, frame, feature), of the layers in these rows.

        Raises:
            DamagedShardError: If there is none, or not of this length.
        """
        where = f"{self.url}/{tar_name(crop.shard)}: {crop.sample.key}.{copy}"
        place = self.places_of(crop.shard).get((crop.sample.key, copy, crop.start))
        if place is None or place.length != crop.length:
            raise DamagedShardError(where, f"there is no target of {crop.length} samples from {crop.start} on")
        frames = self.plan.encoder.num_frames(crop.length)
        shape = (len(self.plan.layers), frames, self.plan.encoder.encoder_embed_dim)
        head = npy_header(shape)
        if place.size != len(head) + 2 * shape[0] * shape[1] * shape[2]:
            raise DamagedShardError(
                where, f"the index gives it {place.size} bytes, expected {shape} numbers of float16"
            )
        content = self.tars.span(crop.shard, place.offset, place.offset + place.size)
        if not content.startswith(head):
            raise DamagedShardError(where, f"is not a .npy of float16 of shape {shape}")
        found: NDArray[np.float16] = np.frombuffer(content, dtype="<f2", offset=len(head)).reshape(shape)[list(rows)]
        return found

    def batch(self, crops: Sequence[Crop], copies: Sequence[str], *, layers: Sequence[int]) -> Tensor:
        """Targets of a micro-batch: float16 of shape (batch, layer, frame, feature), zeros after each utterance's end."""
        rows = [self.plan.layers.index(layer) for layer in layers]
        frames = [self.plan.encoder.num_frames(crop.length) for crop in crops]
        shape = (len(crops), len(rows), max(frames, default=0), self.plan.encoder.encoder_embed_dim)
        batch = np.zeros(shape, dtype=np.float16)
        for row, (crop, copy, count) in enumerate(zip(crops, copies, frames, strict=True)):
            batch[row, :, :count] = self.read(crop, copy, rows)
        return torch.from_numpy(batch)

    def sources(self, shards: Sequence[str]) -> list[SourceShard]:
        """The tars of some shards, for a node's cache."""
        return [SourceShard(self.tars, name) for name in shards if name in self.tars.entries]

    def teacher(self) -> StoredTeacher:
        """The teacher, without its weights."""
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
    """The header that numpy writes before float16 of a shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return stream.getvalue()


class StoredTeacher(Encoder):
    """A teacher whose outputs are stored: everything of it but its weights, which take no memory.

    Args:
        targets: Its outputs.
    """

    def __init__(self, targets: TargetsReader) -> None:
        plan = targets.plan
        self.targets_url = targets.url
        super().__init__(
            outlined(plan.encoder, where=f"{targets.url}/targets.json"),
            plan.encoder,
            name=plan.teacher,
            trained_on=read_trained_on(targets.place / "teacher" / "heard.txt", sha256=plan.heard_sha256),
        )
        self.__dict__["digest"] = plan.teacher_sha256

    def weights(self) -> Encoder:
        """The teacher itself, for a student that begins with its first layers.

        Raises:
            UsageError: If the targets are at a URL.
        """
        folder = place_of(self.targets_url)
        if not isinstance(folder, Path):
            raise UsageError(
                f"student.init: teacher, and the targets are at {printable(self.targets_url)}: copy its folder teacher/ to a disk "
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
        """Never called."""
        raise AssertionError("a stored teacher has no weights to run")


def check_targets(
    targets: TargetsReader, reader: CorpusReader, *, name: str, weights_sha256: str | None, crop_samples: int
) -> None:
    """Check that targets are of this run's corpus, teacher and crops.

    Args:
        targets: The stored outputs.
        reader: Of the run's corpus.
        name: Of the run's teacher.
        weights_sha256: Digest of its files, where they are on this machine.
        crop_samples: The run's longest crop.

    Raises:
        TargetsMisfitError: If they are not.
    """
    plan = targets.plan

    def differs(what: str, found: object, expected: object) -> TargetsMisfitError:
        return TargetsMisfitError(targets.url, what=what, found=found, expected=expected)

    if plan.corpus_sha256 != reader.digest:
        expected = f"{reader.manifest.name} of SHA-256 {reader.digest[:12]}"
        raise differs("the corpus", f"{plan.corpus} of SHA-256 {plan.corpus_sha256[:12]}", expected)
    if plan.weights_sha256 is None or weights_sha256 is None:
        if plan.teacher != name:
            raise differs("the teacher", plan.teacher, name)
    elif plan.weights_sha256 != weights_sha256:
        expected = f"{name} with weights of SHA-256 {weights_sha256[:12]}"
        raise differs("the teacher", f"{plan.teacher} with weights of SHA-256 {plan.weights_sha256[:12]}", expected)
    if plan.crop_samples != crop_samples:
        raise differs("crops of", f"{plan.crop_samples} samples", f"crop_s of {crop_samples} samples")


def check_layers(targets: TargetsReader, layers: Sequence[int]) -> None:
    """Check that all layers that a run needs are stored: those that the student predicts, and those that a critic reads.

    Raises:
        TargetsMisfitError: If one is not.
    """
    missing = [layer for layer in layers if layer not in targets.plan.layers]
    if missing:
        stored = ", ".join(map(str, targets.plan.layers))
        raise TargetsMisfitError(targets.url, what="layers", found=stored, expected=f"layer {missing[0]}")


def check_split(targets: TargetsReader, *, split: str, shards: Sequence[str]) -> None:
    """Check that a split was computed whole.

    Raises:
        UsageError: If not.
    """
    computed = {entry.name for entry in targets.manifest.splits.get(split, ())}
    if set(shards) - computed:
        raise UsageError(
            f"targets: {printable(targets.url)} have none of split {printable(split)}: run `stillroom targets` with --split {printable(split)} too"
        )
