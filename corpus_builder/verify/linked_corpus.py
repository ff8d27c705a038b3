"""Looks at a corpus that borrows its shards: a subset, or an index of shards that Stillroom did not write.

There is no plan to hold it against. `bytes`: what SHA256SUMS names is as it says, and each tar is the one that was indexed, with the
members where the index says. `pcm`: besides, each wave is decoded: length, rate and, where the coding keeps samples, PCM.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import soundfile

from corpus_builder.verify.shard_check import Finding
from corpus_builder.workers.pool import mapped
from manifests.corpus.layout import CORPUS, REFUSED, SUMS, index_name, refusals
from manifests.corpus.reader import OpenCorpus
from manifests.errors import StillroomError, UsageError, printable
from manifests.io.digest import file_digest
from manifests.io.json_yaml import read_bytes, safe_relative
from manifests.io.place import Place, local_copy, place_of, size_of
from manifests.io.progress import Progress
from manifests.io.tar import external_members

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus_builder.verify.report import Report
    from corpus_builder.verify.shard_check import Level
    from manifests.corpus.shard_index import IndexedSample, ShardEntry, ShardIndex

BLOCK = 1 << 16


@dataclass(frozen=True)
class BorrowedCheck:
    """One shard to be looked at; runs in a worker."""

    corpus: str
    split: str
    entry: ShardEntry
    level: Level


@dataclass
class BorrowedFound:
    """What was found in one shard."""

    samples: int = 0
    waves: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify_borrowed(corpus: Place, report: Report, *, workers: int, progress: bool = True) -> Report:
    """Look at all of it.

    Args:
        corpus: Its folder or URL.
        report: What is found is added to it.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        UsageError: If the physics of a corpus without a plan are asked for.
        UnknownRootError: If its shards lie where this machine does not know.
    """
    if report.level == "physics":
        raise UsageError(
            f"{printable(corpus)} is a subset or an index, without plan and rooms: verify the whole corpus at level physics, "
            "and this one at level pcm"
        )
    opened = OpenCorpus(corpus)
    report.findings += list(check_sums(opened, report))
    checks = [
        BorrowedCheck(str(corpus), split, entry, report.level)
        for split, entries in opened.sealed.splits.items()
        for entry in entries
    ]
    with Progress("verifying", total=opened.sealed.totals.samples, unit="samples", shown=progress) as shown:
        for check, found in zip(
            checks, mapped(check_borrowed, checks, workers=min(workers, len(checks)), what="verifying"), strict=True
        ):
            report.samples += found.samples
            report.waves += found.waves
            report.findings += found.findings
            shown.advance(check.entry.samples)
    return report


def check_sums(opened: OpenCorpus, report: Report) -> Iterator[Finding]:
    """Every file of the manifest is there and unchanged, and every index is listed."""
    content = read_bytes(opened.place / SUMS, needed="the digests of a corpus").decode("utf-8", "replace")
    listed: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        sha256, _, name = line.partition("  ")
        if name in listed:
            yield Finding(f"{SUMS}:{number}", f"lists {printable(name)} a second time")
            continue
        try:
            listed[safe_relative(name, where=SUMS)] = sha256
        except StillroomError as problem:
            yield Finding(f"{SUMS}:{number}", str(problem))
    for name, sha256 in listed.items():
        report.files += 1
        if size_of(opened.place / name) is None:
            yield Finding(name, "is missing")
        elif file_digest(opened.place / name) != sha256:
            yield Finding(name, "is not what its digest says: it was changed or damaged")
    indexes = {index_name(e.name) for entries in opened.sealed.splits.values() for e in entries}
    for name in sorted((indexes | {CORPUS, REFUSED}) - set(listed)):
        yield Finding(name, "is not listed in SHA256SUMS")
    try:
        refused = sum(1 for _ in refusals(opened.place))
    except StillroomError as problem:
        yield Finding(REFUSED, str(problem))
        return
    if refused != sum(opened.sealed.refused.values()):
        yield Finding(REFUSED, f"has {refused} lines, corpus.json counts {sum(opened.sealed.refused.values())}")


def check_borrowed(check: BorrowedCheck) -> BorrowedFound:
    """Look at one shard."""
    found = BorrowedFound()
    where = check.entry.tar_path
    try:
        opened = OpenCorpus(place_of(check.corpus))
        index = opened.index(check.entry)
        found.samples = len(index.samples)
        with local_copy(opened.tar(check.entry)) as tar:
            found.findings += [Finding(where, what) for what in shard_findings(check, index, tar)]
            if check.level != "bytes":
                with tar.open("rb") as stream:
                    for sample in index.samples:
                        found.findings += [
                            Finding(f"{where} {printable(sample.key)}", what)
                            for what in sample_findings(opened, check, stream, sample)
                        ]
                        found.waves += 1 + len(sample.copies)
    except (StillroomError, OSError) as problem:
        found.findings.append(Finding(where, str(problem)))
    return found


def shard_findings(check: BorrowedCheck, index: ShardIndex, tar: Path) -> Iterator[str]:
    """The tar is the one that was indexed, and has the members where the index says."""
    entry = check.entry
    size, sha256 = tar.stat().st_size, file_digest(tar)
    if not size == entry.bytes == index.bytes:
        yield f"has {size} bytes; its index says {index.bytes}, corpus.json {entry.bytes}"
    if not sha256 == entry.sha256 == index.sha256:
        yield f"SHA-256 is {sha256[:16]}…; its index says {index.sha256[:16]}…, corpus.json {entry.sha256[:16]}…"
    if (index.split, index.name, len(index.samples)) != (check.split, entry.name, entry.samples):
        yield "its index is of another shard or split, or has another number of samples than corpus.json says"
    if len({sample.key for sample in index.samples}) != len(index.samples):
        yield "a key stands twice in the index"
    there = {f"{item.key}.{item.suffix}": (item.offset, item.size) for item in external_members(tar)}
    for sample in index.samples:
        for name, member in sample.members.items():
            if there.get(sample.file_name(name)) != (member.offset, member.size):
                yield f"member {printable(sample.file_name(name))} is missing, or not where the index says"


def sample_findings(
    opened: OpenCorpus, check: BorrowedCheck, stream: io.BufferedReader, sample: IndexedSample
) -> Iterator[str]:
    """The record can be read, and every wave is what the index says."""
    try:
        opened.record(check.split, check.entry, sample)
    except StillroomError as problem:
        yield str(problem)
    for name in ("clean", *sample.copies):
        member = sample.members[name]
        stream.seek(member.offset)
        content = stream.read(min(member.size, check.entry.bytes))
        try:
            count, rate_hz, sha256 = decoded(content, most=sample.num_samples)
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as problem:
            yield f"{name}: cannot be decoded: {printable(problem, limit=120)}"
            continue
        if (count, rate_hz) != (sample.num_samples, opened.sealed.sample_rate):
            yield (
                f"{name}: {count} samples at {rate_hz} Hz; due are {sample.num_samples} mono at {opened.sealed.sample_rate} Hz"
            )
        elif member.pcm_sha256 is not None and sha256 != member.pcm_sha256:
            yield f"{name}: its PCM is not what the index says"


def decoded(content: bytes, *, most: int) -> tuple[int, int, str]:
    """Length, rate and digest of a mono wave, decoded a block at a time; one that is longer is told as one sample longer."""
    state = hashlib.sha256()
    count = 0
    with soundfile.SoundFile(io.BytesIO(content)) as wave:
        if wave.channels != 1:
            raise RuntimeError(f"{wave.channels} channels")
        while count <= most:
            block = wave.read(min(BLOCK, most + 1 - count), dtype="int16")
            if not block.size:
                break
            count += block.size
            state.update(block.astype("<i2", copy=False).tobytes())
        return count, wave.samplerate, state.hexdigest()
