"""Checks one shard (index, tar, JSON, audio) with code independent of the writer.

The shard may be the corpus's own, which is held against its plan too, or of a linked corpus (a subset, or an index of shards that
Stillroom did not write), which has no plan and whose tar may have more members than the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.verify.plain_readers import plain_findings
from corpus_builder.verify.plan_check import document_findings, measure_copies
from corpus_builder.verify.report import Finding, ShardFound
from corpus_builder.verify.wave_decoder import DECODING_ERRORS, decoded_wave
from manifests.corpus.external_sample import record_of
from manifests.corpus.layout import plan_rows
from manifests.corpus.sample import Sample
from manifests.corpus.shard_index import ABOUT, read_index
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.digest import file_digest
from manifests.io.json_yaml import parse_json
from manifests.io.place import local_copy, place_of
from manifests.io.tar import entries, external_members

if TYPE_CHECKING:
    import io
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from corpus_builder.verify.report import Level
    from corpus_builder.verify.wave_decoder import DecodedWave
    from manifests.corpus.shard_index import IndexedSample, ShardEntry, ShardIndex
    from manifests.plan.plan import PlanRow

    Pcm = NDArray[np.int16]

LEAST_CLEAN_DBFS = -80.1  # without the mean; sources under -80 dBFS are refused
LEAST_COPY_DBFS = -200.0


@dataclass(frozen=True)
class ShardCheck:
    """One shard to be checked.

    Attributes:
        corpus: Folder or URL of the corpus.
        entry: The shard in `corpus.json`.
        split: Of the shard.
        sample_rate: Of the corpus.
        level: How thoroughly.
        tar: Path or URL of the tar.
        plan_sha256: Digest of the plan file by `plan.json`; empty if there is no plan, or it cannot be read.
        is_linked: The corpus has no plan, and its shards are those of another corpus.
        is_external: Their JSON was not written by Stillroom.
        with_plain_readers: Also read it with plain webdataset and tarfile.
    """

    corpus: str
    entry: ShardEntry
    split: str
    sample_rate: int
    level: Level
    tar: str
    plan_sha256: str = ""
    is_linked: bool = False
    is_external: bool = False
    with_plain_readers: bool = False


def check_shard(check: ShardCheck) -> ShardFound:
    """Check one shard; runs in a worker."""
    checker = ShardChecker(check)
    try:
        with local_copy(place_of(check.tar)) as tar:
            checker.run(tar)
    except (StillroomError, OSError) as problem:
        checker.add(str(problem))
    return checker.found


class ShardChecker:
    """The check of one shard; `found` is its result.

    Args:
        check: Which shard, and how thoroughly.
    """

    def __init__(self, check: ShardCheck) -> None:
        self.check = check
        self.corpus = place_of(check.corpus)
        self.found = ShardFound()

    def add(self, what: str, *, sample: str = "") -> None:
        """Add a finding."""
        where = self.check.entry.tar_path + (f" {printable(sample)}" if sample else "")
        self.found.findings.append(Finding(where, what))

    def run(self, tar: Path) -> None:
        """Check index and tar; at level pcm every sample too."""
        index = read_index(self.corpus, self.check.entry.name)
        self.found.samples = len(index.samples)
        self.check_index(index, tar)
        self.check_members(index, tar)
        if self.check.level != "bytes":
            with tar.open("rb") as stream:
                if self.check.is_linked:
                    self.check_linked_samples(index, stream)
                else:
                    self.check_planned_samples(index, stream)
        if self.check.with_plain_readers:
            for what in plain_findings(tar, index):
                self.add(what)

    def check_index(self, index: ShardIndex, tar: Path) -> None:
        """The index agrees with the tar and with `corpus.json`."""
        entry = self.check.entry
        size, sha256 = tar.stat().st_size, file_digest(tar)
        if not size == entry.bytes == index.bytes:
            self.add(f"has {size} bytes; its index says {index.bytes}, corpus.json {entry.bytes}")
        if not sha256 == entry.sha256 == index.sha256:
            self.add(
                f"SHA-256 is {sha256[:16]}…; its index says {index.sha256[:16]}…, corpus.json {entry.sha256[:16]}…"
            )
        if self.check.plan_sha256 and index.plan_sha256 != self.check.plan_sha256:
            self.add("its index names another plan file than plan.json")
        if (index.split, index.sample_rate, index.name) != (self.check.split, self.check.sample_rate, entry.name):
            self.add("its index is of another shard, split or sample rate")
        if len(index.samples) != entry.samples:
            self.add(f"its index has {len(index.samples)} samples, corpus.json {entry.samples}")
        seconds = round(sum(sample.num_samples for sample in index.samples) / index.sample_rate, 3)
        if abs(seconds - entry.seconds) > 0.002:
            self.add(f"its samples last {seconds} s, corpus.json says {entry.seconds} s")
        if len({sample.key for sample in index.samples}) != len(index.samples):
            self.add("a key occurs twice in the index")

    def check_members(self, index: ShardIndex, tar: Path) -> None:
        """The tar has the members of the index, at their offsets, and is whole; an own tar has no others."""
        if self.check.is_linked:
            found = {f"{one.key}.{one.suffix}": (one.offset, one.size) for one in external_members(tar)}
        else:
            found = {one.name: (one.offset, one.size) for one in entries(tar)}
        expected = {
            sample.file_name(name): (member.offset, member.size)
            for sample in index.samples
            for name, member in sample.members.items()
        }
        for name in sorted(set(expected) - set(found)):
            self.add(f"member {printable(name)} is missing")
        if not self.check.is_linked:
            for name in sorted(set(found) - set(expected)):
                self.add(f"member {printable(name)} is not in the index")
        for name in sorted(set(found) & set(expected)):
            if found[name] != expected[name]:
                self.add(f"member {printable(name)} has offset and size {found[name]}, the index says {expected[name]}")

    def check_linked_samples(self, index: ShardIndex, stream: io.BufferedReader) -> None:
        """The record of every sample can be read, and its waves are those of the index."""
        for sample in index.samples:
            contents = {name: self.content(stream, sample, name) for name in sample.members if name in ABOUT}
            try:
                record_of(
                    sample,
                    contents,
                    external=self.check.is_external,
                    split=self.check.split,
                    sample_rate=self.check.sample_rate,
                    where=sample.key,
                )
            except StillroomError as problem:
                self.add(str(problem), sample=sample.key)
            self.check_waves(stream, sample, None, num_samples=sample.num_samples)

    def check_planned_samples(self, index: ShardIndex, stream: io.BufferedReader) -> None:
        """JSON and waves of every sample agree with index and plan, and no planned utterance is lost."""
        rows = {row.key: row for row in plan_rows(self.corpus, self.check.entry.name)}
        for sample in index.samples:
            row = rows.pop(sample.key, None)
            if row is None:
                self.add("is not in the plan", sample=sample.key)
                continue
            document = self.check_document(stream, sample, row)
            if sample.num_samples != row.num_samples:
                self.add("length differs between index and plan", sample=sample.key)
            waves = self.check_waves(stream, sample, document, num_samples=row.num_samples)
            if self.check.level == "physics" and document is not None:
                self.check_physics(document, row, waves)
        refused = {one.id for one in index.refused}
        for row in rows.values():
            if row.id not in refused:
                self.add(f"planned utterance {printable(row.id)} is neither in the shard nor refused")

    def check_document(self, stream: io.BufferedReader, sample: IndexedSample, row: PlanRow) -> Sample | None:
        """The JSON member agrees with plan and index; None if it cannot be read."""
        if "json" not in sample.members:
            self.add("has no JSON", sample=sample.key)
            return None
        try:
            plain = parse_json(self.content(stream, sample, "json"), where=sample.key)
            document = Sample.parse(plain, where=sample.key)
        except BadDocumentError as problem:
            self.add(str(problem), sample=sample.key)
            return None
        for what in document_findings(document, row, sample, sample_rate=self.check.sample_rate):
            self.add(what, sample=sample.key)
        return document

    def check_physics(self, document: Sample, row: PlanRow, waves: dict[str, Pcm]) -> None:
        """Each copy has the planned lag, SNR, level and bands, measured from the audio."""
        measurements = measure_copies(document, row, waves, corpus=self.check.corpus, rate_hz=self.check.sample_rate)
        for condition, measured, findings in measurements:
            for what in findings:
                self.add(what, sample=row.key)
            self.found.add_measured(condition, measured)

    def check_waves(
        self, stream: io.BufferedReader, sample: IndexedSample, document: Sample | None, *, num_samples: int
    ) -> dict[str, Pcm]:
        """Every wave decodes to the PCM and length of the index; a copy of an own corpus is neither silent nor the clean wave.

        Args:
            stream: The tar.
            sample: Of the index.
            document: Its JSON member, if it could be read.
            num_samples: Expected length of every wave.

        Returns:
            The waves, at level physics.
        """
        clean: str | None = None
        waves: dict[str, Pcm] = {}
        for name in ["clean", *sample.copies]:
            if name not in sample.members:
                self.add(f"has no {name}", sample=sample.key)
                continue
            content = self.content(stream, sample, name)
            try:
                wave = decoded_wave(content, most_samples=num_samples, keep_pcm=self.check.level == "physics")
            except DECODING_ERRORS as problem:
                self.add(f"{name}: cannot be decoded: {printable(problem, limit=120)}", sample=sample.key)
                continue
            self.found.waves += 1
            if wave.pcm is not None:
                waves[name] = wave.pcm
            self.check_wave(wave, sample, name, num_samples=num_samples)
            if name == "clean":
                clean = wave.pcm_sha256
            elif not self.check.is_linked and wave.pcm_sha256 == clean and not is_clean_on_purpose(document, name):
                self.add(f"{name}: is the clean wave, sample for sample", sample=sample.key)
        return waves

    def check_wave(self, wave: DecodedWave, sample: IndexedSample, name: str, *, num_samples: int) -> None:
        """One wave has the expected length, channel and rate, and the PCM of the index; one of an own corpus is not silent but for a constant."""
        found_samples = wave.num_samples
        if found_samples == num_samples:
            found_samples = wave.header_samples  # training refuses what its own header has otherwise
        if (found_samples, wave.num_channels, wave.rate_hz) != (num_samples, 1, self.check.sample_rate):
            self.add(
                f"{name}: {found_samples} samples in {wave.num_channels} channel(s) at {wave.rate_hz} Hz; expected {num_samples} "
                f"mono at {self.check.sample_rate} Hz", sample=sample.key,
            )  # fmt: skip
        else:
            expected_sha256 = sample.members[name].pcm_sha256
            is_known = expected_sha256 is not None or not self.check.is_linked
            if is_known and wave.pcm_sha256 != expected_sha256:
                self.add(f"{name}: its PCM is not what the index says", sample=sample.key)
        if wave.problem is not None:
            self.add(f"{name}: {wave.problem}", sample=sample.key)
        if not self.check.is_linked and wave.level_dbfs < (LEAST_CLEAN_DBFS if name == "clean" else LEAST_COPY_DBFS):
            self.add(f"{name}: is silent", sample=sample.key)

    def content(self, stream: io.BufferedReader, sample: IndexedSample, name: str) -> bytes:
        """The bytes of a member, by its offset."""
        member = sample.members[name]
        stream.seek(member.offset)
        return stream.read(min(member.size, self.check.entry.bytes))


def is_clean_on_purpose(document: Sample | None, name: str) -> bool:
    """Whether the plan drew no step for a copy, as `choose` may, or a clipping gain undid all that a step did."""
    if document is None:
        return False
    return any(copy.name == name and (not copy.steps or copy.gain_db != 0.0) for copy in document.copies)
