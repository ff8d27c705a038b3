"""The noise files of a recipe: the splits that may use each, its length, and its level over time.

Each file is read through once. Planning draws segments from these numbers, so that no silent one is drawn and no audio is read twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus_builder.audio.errors import MissingAudioError, UnfitAudioError
from corpus_builder.audio.resample import num_samples_at
from corpus_builder.audio.tar_members import audio_digest
from corpus_builder.plan.materials.noise_power import LEVEL_FRAME_S, measure_levels
from corpus_builder.plan.materials.split_assignment import assigned
from corpus_builder.sources.utterance import Refused
from corpus_builder.workers.resume_cache import PartialResults, resumed
from manifests.errors import BadDocumentError, MissingFileError, printable
from manifests.io.digest import canonical_json
from manifests.io.place import local_copy, place_of
from manifests.io.url import Url
from manifests.plan.plan import NoiseLevels, Plan
from manifests.recipe.noises import DividedNoise, RecordedNoise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from corpus_builder.sources.noise_files import NoiseListing, NoiseTask
    from manifests.recipe.recipe import Recipe

SHORTEST_S = 0.001
SILENT_DBFS = -60.0
SILENT_UNDER_FILE_DB = 40.0


class SilentNoiseError(BadDocumentError):
    """No noise of a source is loud enough to be used."""

    def __init__(self, source: str, *, split: str, why: str) -> None:
        super().__init__(
            f"noises.{printable(source)}",
            f"no noise is left for split {split!r}: {why}; add noises, or leave this source out",
        )


@dataclass(frozen=True)
class NoiseFile:
    """One usable noise file.

    Attributes:
        num_samples: Length at the corpus rate.
        energy: Running sum of the power of its 100 ms frames, shape (frame + 1,).
    """

    source: str
    root: str
    path: str
    splits: tuple[str, ...]
    num_samples: int
    energy: NDArray[np.float64]

    def mean_db(self) -> float:
        """Mean power of the file in dBFS."""
        return to_db(float(self.energy[-1]) / (self.energy.size - 1))

    def segment_db(self, offset: int, num_samples: int, *, rate_hz: int) -> float:
        """Lower bound of a segment's mean power, in dBFS: from the 100 ms frames that are wholly inside it.

        A segment without a whole frame has the mean of those that it touches, one that is repeated that of the file.
        """
        if num_samples >= self.num_samples:
            return self.mean_db()
        frame, last = LEVEL_FRAME_S * rate_hz, self.energy.size - 1
        begin, end = math.ceil(offset / frame), min(int((offset + num_samples) / frame), last)
        if end > begin:
            return to_db(float(self.energy[end] - self.energy[begin]) * frame / num_samples)
        begin = min(int(offset / frame), last - 1)
        end = min(max(math.ceil((offset + num_samples) / frame), begin + 1), last)
        return to_db(float(self.energy[end] - self.energy[begin]) / (end - begin))

    def is_silent(self, offset: int, num_samples: int, *, rate_hz: int) -> bool:
        """Whether a segment is silent: under -60 dBFS, or 40 dB under its file."""
        level_db = self.segment_db(offset, num_samples, rate_hz=rate_hz)
        return level_db < SILENT_DBFS or level_db < self.mean_db() - SILENT_UNDER_FILE_DB


def to_db(power: float) -> float:
    """Power in dBFS; -200 for none."""
    return 10.0 * float(np.log10(max(power, 1e-20)))


@dataclass(frozen=True)
class ReadNoise:
    """What was read of one noise file: a row without its splits, or the reason why it cannot be used."""

    task: NoiseTask
    row: dict[str, Any] | None
    reason: str | None
    missing: bool = False


def read_noise(task: NoiseTask) -> ReadNoise:
    """Read one noise file through; runs in a worker."""
    try:
        with local_copy(place_of(task.place)) as path:
            levels = measure_levels(path, name=task.path, channel=task.channel)
            sha256 = audio_digest(path)
    except FileNotFoundError:
        return ReadNoise(task, None, str(MissingAudioError(task.path)), missing=True)
    except UnfitAudioError as problem:
        return ReadNoise(task, None, str(problem), missing=isinstance(problem, MissingAudioError))
    row: dict[str, Any] = {
        "num_frames": levels.num_frames,
        "rate_hz": levels.rate_hz,
        "channel": levels.channel,
        "mean": levels.mean,
        "sha256": sha256,
        "power_db": list(levels.power_db),
    }
    if levels.num_frames < SHORTEST_S * levels.rate_hz:
        return ReadNoise(task, None, f"{printable(task.path)} is shorter than a millisecond")
    if max(levels.power_db) < SILENT_DBFS:
        return ReadNoise(
            task, None, f"{printable(task.path)} is silent: nowhere above {SILENT_DBFS:g} dBFS without its mean (DC)"
        )
    return ReadNoise(task, row, None)


def cache_key(task: NoiseTask) -> str | None:
    """The name of a file in the cache: what is measured, its path, size and time of change; None if it does not exist."""
    try:
        place = place_of(task.place)
        if isinstance(place, Url):
            found = place.info()
            version = [found.get(name) for name in ("size", "ETag", "etag", "LastModified", "mtime")] if found else None
            return None if version is None else f"{Plan.SCHEMA}\x1f{task.place}\x1f{task.channel}\x1f{version}"
        status = place.stat()
    except OSError:
        return None
    return f"{Plan.SCHEMA}\x1f{task.place}\x1f{task.channel}\x1f{status.st_size}\x1f{status.st_mtime_ns}"


@dataclass(frozen=True)
class MeasuredNoises:
    """The noises of a recipe after every file was read.

    Attributes:
        levels: Rows of `levels.jsonl`, by source and path.
        refused: Files that cannot be used, each with the name of its source.
    """

    levels: tuple[NoiseLevels, ...]
    refused: tuple[tuple[str, Refused], ...]


def measure_noises(
    recipe: Recipe, listings: Sequence[NoiseListing], *, cache: PartialResults, workers: int, progress: bool = True
) -> MeasuredNoises:
    """Read every noise file of a recipe once and assign the files to the splits.

    Args:
        recipe: What is wanted.
        listings: The files of its noise sources.
        cache: What an interrupted run has read.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        MissingFileError: If a file that a manifest names does not exist.
        SilentNoiseError: If nothing usable is left of a source in a split.
        TooFewToAssignError: If a source has fewer groups than there are splits.
    """
    reads = resumed(
        read_noise,
        [task for listing in listings for task in listing.tasks],
        cache=cache,
        key=cache_key,
        to_cache=lambda read: read.row,
        from_cache=lambda task, row: ReadNoise(task, row, None),
        workers=workers,
        what="reading noises",
        unit="files",
        progress=progress,
    )
    for read in reads:
        if read.missing:
            raise MissingFileError(
                read.task.place,
                needed=f"a noise of {read.task.source!r}; say --root {read.task.root}=DIR if it is elsewhere",
            )
    refused = [(read.task.source, Refused(read.task.path, read.reason)) for read in reads if read.reason is not None]
    rows: list[NoiseLevels] = []
    for name, noise in recipe.noises.items():
        if isinstance(noise, RecordedNoise | DividedNoise):
            rows += assigned_levels(name, noise, [read for read in reads if read.task.source == name], recipe=recipe)
    rows.sort(key=lambda row: (row.source, row.path, row.splits))
    return MeasuredNoises(tuple(rows), tuple(refused))


def assigned_levels(
    name: str, noise: RecordedNoise | DividedNoise, reads: list[ReadNoise], *, recipe: Recipe
) -> list[NoiseLevels]:
    """Rows of the usable files of one source, each with the splits that may use it."""
    splits = tuple(recipe.speech)
    usable = [read for read in reads if read.reason is None]
    needed = [split for split in splits if split in noise.splits] if isinstance(noise, DividedNoise) else list(splits)
    if not usable:
        raise SilentNoiseError(name, split=needed[0], why=why_refused(reads, split=needed[0]))
    split_of: dict[str, str] = {}
    if isinstance(noise, RecordedNoise) and noise.split == "own":
        groups = (read.task.group for read in usable)
        split_of = assigned(groups, splits, seed=recipe.seed, owner=name, what="groups of noise files")
    rows = []
    for read in usable:
        assert read.row is not None
        row = dict(read.row)
        num_samples = num_samples_at(row.pop("num_frames"), from_hz=row["rate_hz"], to_hz=recipe.sample_rate)
        task = read.task
        row |= {"source": name, "root": task.root, "path": task.path, "num_samples": num_samples}
        row["splits"] = list(task.splits) or [split_of[task.group]]
        rows.append(NoiseLevels.parse(row, where=task.place))
    for split in needed:
        if not any(split in row.splits for row in rows):
            raise SilentNoiseError(name, split=split, why=why_refused(reads, split=split))
    return rows


def why_refused(reads: Iterable[ReadNoise], *, split: str) -> str:
    """That the files which a split could have had were refused, with the first of them."""
    refused = (read for read in reads if read.reason is not None and split in (read.task.splits or (split,)))
    first = next((f" (the first: {read.reason})" for read in refused), "")
    return f"every file was refused{first}"


def usable_files(rows: Iterable[NoiseLevels]) -> dict[tuple[str, str], list[NoiseFile]]:
    """Noise files by source and split, in the order of their paths."""
    files: dict[tuple[str, str], list[NoiseFile]] = {}
    for row in rows:
        energy = np.concatenate([[0.0], np.cumsum(10.0 ** (np.array(row.power_db) / 10.0))])
        noise = NoiseFile(row.source, row.root, row.path, row.splits, row.num_samples, energy)
        for split in row.splits:
            files.setdefault((row.source, split), []).append(noise)
    return files


def level_lines(rows: Iterable[NoiseLevels]) -> list[bytes]:
    """Lines of `levels.jsonl`."""
    return [canonical_json(row) for row in rows]
