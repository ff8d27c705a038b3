"""Writes rendered samples to a tar, byte for byte reproducible, and its index.

A shard is written under a temporary name in its own folder, synced, renamed; its index is written last and marks the shard as
finished. The same plan file and sources give the same bytes on every machine.
"""

from __future__ import annotations

import errno
import hashlib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.audio.levels import NotFiniteError
from corpus_builder.render.corpus_waves import CorpusWaves, waves_of
from corpus_builder.render.render_copies import Clean, CopyFailedError, LengthChangedError, render_clean, render_copies
from corpus_builder.render.source_ledger import write_proof
from corpus_builder.shards.destination import Target
from corpus_builder.shards.encode import EncodedWaves
from corpus_builder.workers.pool import Ticks
from manifests.corpus.fingerprints import SamplePrints
from manifests.corpus.layout import index_name, plan_rows, tar_name
from manifests.corpus.sample import Sample, SampleCopy, domain_of, family_of
from manifests.corpus.shard_index import IndexedSample, Member, ShardIndex
from manifests.errors import BadDocumentError, NoSpaceLeftError, StillroomError, printable
from manifests.io.atomic import replacing
from manifests.io.digest import canonical_json
from manifests.io.json_yaml import read_json
from manifests.io.tar import TarBuilder
from manifests.plan.plan import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from corpus_builder.render.render_copies import RenderedCopy
    from manifests.plan.plan import PlanRow

UNFIT = (UnfitAudioError, LengthChangedError, CopyFailedError, NotFiniteError)


@dataclass(frozen=True)
class ShardTask:
    """One shard to be rendered; plain data, so that any executor can send it to any machine.

    Attributes:
        corpus: The folder that it is written in.
        roots: The folder or URL of each root.
        url: Where the corpus is uploaded to, if its folder is only the working folder.
    """

    corpus: str
    name: str
    split: str
    plan_sha256: str
    rate_hz: int
    rows: int
    roots: tuple[tuple[str, str], ...]
    url: str = ""

    @property
    def target(self) -> Target:
        """Where the corpus is written."""
        return Target.of(self.corpus, self.url)


@dataclass(frozen=True)
class ShardOutcome:
    """The result of rendering one shard.

    Attributes:
        state: `done`; `full` (the disk is); `stopped` (an error that a person must fix); `undone` (the machine failed).
        message: One line, unless it is done.
    """

    name: str
    rows: int
    state: Literal["done", "full", "stopped", "undone"]
    refused: int = 0
    message: str = ""


class HashingStream:
    """A binary stream that counts and digests what is written to it.

    Args:
        stream: Where the bytes go.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.state, self.size = stream, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Write all of it."""
        self.stream.write(content)
        self.state.update(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        """Number of bytes written."""
        return self.size


def copy_of(copy: RenderedCopy) -> SampleCopy:
    """A copy as the JSON member of its sample describes it."""
    return SampleCopy(
        name=copy.planned.name,
        condition=copy.planned.condition,
        domain=domain_of(copy.planned.steps),
        family=family_of(copy.planned.steps),
        gain_db=copy.gain_db,
        steps=copy.planned.steps,
        unheard=copy.skipped_talkers or None,
    )


def sample_of(
    row: PlanRow, clean_gain_db: float, copies: Iterable[SampleCopy], *, rate_hz: int, source_sha256: str
) -> Sample:
    """The JSON member of a sample."""
    return Sample.model_validate(
        {
            "schema": Sample.SCHEMA,
            "id": row.id,
            "split": row.split,
            "num_samples": row.num_samples,
            "sample_rate": rate_hz,
            "text": row.text,
            "speaker": row.speaker,
            "language": row.language,
            "custom": row.custom,
            "source": row.source.model_copy(update={"sha256": source_sha256}),
            "clean_gain_db": clean_gain_db,
            "copies": tuple(copies),
        }
    )


def write_sample(
    tar: TarBuilder, row: PlanRow, waves: CorpusWaves, *, rate_hz: int, scratch: Path | None = None
) -> tuple[IndexedSample, SamplePrints]:
    """Render one utterance and append its members: JSON, clean, copies in the order of the plan; take their fingerprints.

    Each copy is encoded as soon as it is rendered, so that memory holds the waves of one copy at a time.

    Args:
        tar: Takes the members.
        row: From the plan.
        waves: Reads the audio.
        rate_hz: Sample rate of the corpus.
        scratch: Folder for coded copies that are too many for memory; the system's own by default.

    Raises:
        UnfitAudioError: Or another of `UNFIT`, before anything is appended.
    """
    with EncodedWaves(row.key, row.num_samples, rate_hz=rate_hz, scratch=scratch) as encoded:
        clean_gain_db, copies = encode_all(row, waves, encoded, rate_hz=rate_hz)
        source_sha256 = waves.source_sha256(row.source)
        document = sample_of(row, clean_gain_db, copies, rate_hz=rate_hz, source_sha256=source_sha256)
        entry = tar.add(f"{row.key}.json", canonical_json(document))
        members = {"json": Member(offset=entry.offset, size=entry.size)}
        prints = {}
        for wave, content in encoded:
            entry = tar.add(f"{row.key}.{wave.name}.flac", content)
            members[wave.name] = Member(offset=entry.offset, size=entry.size, pcm_sha256=wave.pcm_sha256)
            prints[wave.name] = wave.fingerprint
    sample = IndexedSample(key=row.key, num_samples=row.num_samples, members=members)
    return sample, SamplePrints(key=row.key, prints=prints)


def encode_all(
    row: PlanRow, waves: CorpusWaves, encoded: EncodedWaves, *, rate_hz: int
) -> tuple[float, list[SampleCopy]]:
    """Render clean and copies, each encoded before the next is made; returns the clean gain in dB and a description of each copy."""

    def encode(copy: RenderedCopy) -> SampleCopy:
        encoded.add(copy.planned.name, copy.pcm, uncoded=copy.uncoded)
        return copy_of(copy)

    clean: Clean = render_clean(row, waves)
    encoded.add("clean", clean.pcm)
    return clean.gain_db, list(map(encode, render_copies(row, clean, waves, rate_hz=rate_hz)))


def write_shard(task: ShardTask, waves: CorpusWaves) -> ShardIndex:
    """Render a shard's rows into its tar, then write its index.

    Raises:
        NoSpaceLeftError: If the disk is full.
        StillroomError: If plan, roots or rooms are missing or damaged.
    """
    corpus = Path(task.corpus)
    path = corpus / tar_name(task.name)
    samples: list[IndexedSample] = []
    prints: list[SamplePrints] = []
    refused: list[Refusal] = []
    waves.ledger.begin()
    with replacing(path) as part, part.open("wb") as plain:
        stream = HashingStream(plain)
        tar = TarBuilder(cast("IO[bytes]", stream))
        for row in plan_rows(corpus, task.name):
            try:
                sample, its_prints = write_sample(tar, row, waves, rate_hz=task.rate_hz, scratch=path.parent)
                samples.append(sample)
                prints.append(its_prints)
            except UNFIT as problem:
                refused.append(Refusal(split=row.split, id=row.id, reason=str(problem)))
            Ticks.tick()
        tar.close()
    index = ShardIndex.model_validate(
        {
            "schema": ShardIndex.SCHEMA,
            "name": task.name,
            "split": task.split,
            "sample_rate": task.rate_hz,
            "bytes": stream.size,
            "sha256": stream.state.hexdigest(),
            "plan_sha256": task.plan_sha256,
            "samples": tuple(samples),
            "refused": tuple(refused),
        }
    )
    write_proof(corpus, task.name, prints, waves.ledger.sources())
    index.write(corpus / index_name(task.name))
    return index


def finish_shard(task: ShardTask) -> int:
    """Render one shard and upload it, or do what is left of that; returns how many utterances it refused."""
    target = task.target
    done = finished_index(target, task.name, plan_sha256=task.plan_sha256)
    if done is not None:  # an executor lost the result, or another process was faster
        return len(done.get("refused", ()))
    if target.url is not None:
        done = finished_index(Target(target.work), task.name, plan_sha256=task.plan_sha256)
        if done is not None:  # it was rendered, but not uploaded
            target.send_shard(task.name)
            return len(done.get("refused", ()))
    target.fetch_for(task.name)
    index = write_shard(task, waves_of(task.corpus, task.roots, task.rate_hz))
    target.send_shard(task.name)
    return len(index.refused)


def render_shard(task: ShardTask) -> ShardOutcome:
    """Render one shard in a worker; errors become part of the outcome, as a pool cannot pass on every exception."""
    try:
        refused = finish_shard(task)
    except NoSpaceLeftError as problem:
        return ShardOutcome(task.name, task.rows, "full", message=str(problem))
    except StillroomError as problem:
        return ShardOutcome(task.name, task.rows, "stopped", message=str(problem))
    except (OSError, MemoryError) as problem:
        if isinstance(problem, OSError) and problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            return ShardOutcome(task.name, task.rows, "full", message=str(NoSpaceLeftError(task.name)))
        return ShardOutcome(task.name, task.rows, "undone", message=f"{type(problem).__name__}: {printable(problem)}")
    except Exception as problem:  # noqa: BLE001 (the other shards finish; the message names the line)
        line = traceback.extract_tb(problem.__traceback__)[-1]
        where = f"{Path(line.filename).name}:{line.lineno}"
        return ShardOutcome(
            task.name, task.rows, "undone", message=f"{type(problem).__name__} in {where}: {printable(problem)}"
        )
    return ShardOutcome(task.name, task.rows, "done", refused=refused)


def finished_index(
    target: Target, name: str, *, plan_sha256: str, sizes: Mapping[str, int] | None = None
) -> dict[str, Any] | None:
    """The index of a finished shard, as plain data; None if the shard is missing, torn, or of another plan.

    Args:
        target: Where the corpus is written.
        name: Of the shard.
        plan_sha256: Of its plan file.
        sizes: From `target.shard_sizes`, so that many shards need one listing.

    Raises:
        UnreachableError: If the corpus is a URL that does not respond.
    """
    try:
        index = read_json(target.index(name, sizes=sizes), needed="a shard's index")
    except (BadDocumentError, FileNotFoundError):
        return None
    size = target.tar_size(name, sizes=sizes)
    whole = isinstance(index, dict) and index.get("plan_sha256") == plan_sha256 and index.get("bytes") == size
    return index if whole else None
