"""One shard looked at by somebody who knows its formats but shares no code with what wrote it."""

from __future__ import annotations

import io
import tarfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import soundfile

from corpus_builder.verify.copy_measurements import FULL_SCALE, CopyLook, Measured
from corpus_builder.verify.draw_rates import told
from corpus_builder.verify.rir_check import stored_response
from corpus_builder.verify.wave_decoder import decoded_wave
from manifests.corpus.layout import plan_rows, tar_name
from manifests.corpus.sample import Sample, domain_of, family_of
from manifests.corpus.shard_index import IndexedSample, ShardEntry, ShardIndex, read_index
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.digest import canonical_json, file_digest
from manifests.io.json_yaml import parse_json
from manifests.io.place import local_copy, place_of
from manifests.io.tar import entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from manifests.plan.plan import PlanRow

    Pcm = NDArray[np.int16]

Level = Literal["bytes", "pcm", "physics"]


@dataclass(frozen=True)
class Finding:
    """Something that is off."""

    where: str
    what: str

    def plain(self) -> dict[str, str]:
        """As plain data."""
        return {"where": self.where, "what": self.what}


@dataclass(frozen=True)
class ShardCheck:
    """One shard to be looked at."""

    corpus: str
    entry: ShardEntry
    split: str
    sample_rate: int
    plan_sha256: str
    level: Level
    as_stranger: bool


@dataclass
class ShardFound:
    """What was found in one shard.

    Attributes:
        measured: At level physics, by condition.
    """

    samples: int = 0
    waves: int = 0
    findings: list[Finding] = field(default_factory=list)
    measured: dict[str, Measured] = field(default_factory=dict)


def check_shard(check: ShardCheck) -> ShardFound:
    """Look at one shard; runs in a worker."""
    look = ShardLook(check)
    try:
        with local_copy(look.place) as look.tar:
            look.run()
    except (StillroomError, OSError) as problem:
        look.off(str(problem))
    return look.found


class ShardLook:
    """One shard under the glass.

    Args:
        check: Which, and how deep.
    """

    def __init__(self, check: ShardCheck) -> None:
        self.check = check
        self.corpus = place_of(check.corpus)
        self.name = tar_name(check.entry.name)
        self.place = self.corpus / self.name
        self.tar = Path()  # a local copy of it
        self.found = ShardFound()

    def off(self, what: str, *, sample: str = "") -> None:
        """Note a finding."""
        self.found.findings.append(Finding(self.name + (f" {sample}" if sample else ""), what))

    def run(self) -> None:
        """Index, tar and, at level pcm, every sample."""
        entry = self.check.entry
        index = read_index(self.corpus, entry.name)
        size = self.tar.stat().st_size
        if size != entry.bytes or size != index.bytes:
            self.off(f"has {size} bytes; its index says {index.bytes}, corpus.json {entry.bytes}")
        if (found := file_digest(self.tar)) != entry.sha256 or found != index.sha256:
            self.off(f"SHA-256 is {found[:16]}…; its index says {index.sha256[:16]}…, corpus.json {entry.sha256[:16]}…")
        if self.check.plan_sha256 and index.plan_sha256 != self.check.plan_sha256:
            self.off("its index names another plan file than plan.json")
        if (index.split, index.sample_rate, index.name) != (self.check.split, self.check.sample_rate, entry.name):
            self.off("its index is of another shard, split or sample rate")
        if len(index.samples) != entry.samples:
            self.off(f"its index has {len(index.samples)} samples, corpus.json {entry.samples}")
        seconds = round(sum(sample.num_samples for sample in index.samples) / index.sample_rate, 3)
        if abs(seconds - entry.seconds) > 0.002:
            self.off(f"its samples last {seconds} s, corpus.json says {entry.seconds} s")
        self.found.samples = len(index.samples)
        self.members(index)
        if self.check.level != "bytes":
            self.contents(index)
        if self.check.as_stranger:
            self.stranger(index)

    def members(self, index: ShardIndex) -> None:
        """The tar holds the members of the index, where it says, and no others; it is whole to its end mark."""
        found = {item.name: (item.offset, item.size) for item in entries(self.tar)}
        expected = {
            sample.file_name(name): (member.offset, member.size)
            for sample in index.samples
            for name, member in sample.members.items()
        }
        for name in sorted(set(expected) - set(found)):
            self.off(f"member {printable(name)} is missing")
        for name in sorted(set(found) - set(expected)):
            self.off(f"member {printable(name)} is not in the index")
        for name in sorted(set(found) & set(expected)):
            if found[name] != expected[name]:
                self.off(f"member {printable(name)} lies at {found[name]}, the index says {expected[name]}")
        if len({sample.key for sample in index.samples}) != len(index.samples):
            self.off("a key stands twice in the index")

    def contents(self, index: ShardIndex) -> None:
        """Every sample's JSON and waves agree with index and plan."""
        rows = self.plan_rows()
        with self.tar.open("rb") as stream:
            for sample in index.samples:
                row = rows.pop(sample.key, None)
                if row is None:
                    self.off("is not in the plan", sample=sample.key)
                    continue
                document = self.document(stream, sample, row)
                if sample.num_samples != row.num_samples:
                    self.off("length differs between index and plan", sample=sample.key)
                waves = self.audio(stream, sample, due=row.num_samples)
                if self.check.level == "physics" and document is not None:
                    self.physics(document, row, waves)
        refused = {one.id for one in index.refused}
        for row in rows.values():
            if row.id not in refused:
                self.off(f"planned utterance {printable(row.id)} is neither in the shard nor refused")

    def plan_rows(self) -> dict[str, PlanRow]:
        """The plan rows of this shard by key."""
        return {row.key: row for row in plan_rows(self.corpus, self.check.entry.name)}

    def document(self, stream: io.BufferedReader, sample: IndexedSample, row: PlanRow) -> Sample | None:
        """The JSON member says what the plan decided; None if it cannot be read."""
        if "json" not in sample.members:
            self.off("has no JSON", sample=sample.key)
            return None
        try:
            document = Sample.parse(
                parse_json(self.content(stream, sample, "json"), where=sample.key), where=sample.key
            )
        except BadDocumentError as problem:
            self.off(str(problem), sample=sample.key)
            return None
        for name in ("id", "split", "num_samples", "text", "speaker", "language", "custom"):
            if getattr(document, name) != getattr(row, name):
                self.off(f"{name} differs between JSON and plan", sample=sample.key)
        if document.num_samples != sample.num_samples or document.sample_rate != self.check.sample_rate:
            self.off("length or rate differ between JSON and index", sample=sample.key)
        if (
            document.source.model_copy(update={"sha256": row.source.sha256}) != row.source
            or document.source.sha256 is None
        ):
            self.off("source differs between JSON and plan", sample=sample.key)
        planned = [
            (copy.name, copy.condition, domain_of(copy.steps), family_of(copy.steps), canonical_steps(copy))
            for copy in row.copies
        ]
        written = [
            (copy.name, copy.condition, copy.domain, copy.family, canonical_steps(copy)) for copy in document.copies
        ]
        if planned != written:
            self.off("copies differ between JSON and plan", sample=sample.key)
        if sorted(copy.name for copy in row.copies) != sample.copies:
            self.off("copies differ between index and plan", sample=sample.key)
        return document

    def physics(self, document: Sample, row: PlanRow, waves: dict[str, Pcm]) -> None:
        """Each copy is what its numbers say, measured from the audio."""
        clean = waves.get("clean")
        gains_db = {copy.name: copy.gain_db for copy in document.copies}
        for planned in row.copies:
            wave = waves.get(planned.name)
            if clean is None or wave is None or wave.size != clean.size or planned.name not in gains_db:
                continue
            look = CopyLook(
                clean / FULL_SCALE,
                wave / FULL_SCALE,
                planned,
                gain_db=gains_db[planned.name],
                rate_hz=self.check.sample_rate,
                response=lambda name: stored_response(self.check.corpus, name),
            )
            for what in look.findings():
                self.off(f"{planned.name}: {what}", sample=row.key)
            look.measured.drawn[told(planned.steps)] = 1
            self.found.measured.setdefault(planned.condition, Measured()).add(look.measured)

    def audio(self, stream: io.BufferedReader, sample: IndexedSample, *, due: int) -> dict[str, Pcm]:
        """Every wave decodes to the PCM that the index names, has the planned length, and is not the clean one.

        Returns:
            The waves, at level physics.
        """
        clean: str | None = None
        waves: dict[str, Pcm] = {}
        for name in ["clean", *sample.copies]:
            member = sample.members.get(name)
            if member is None:
                self.off(f"has no {name}", sample=sample.key)
                continue
            content = self.content(stream, sample, name)
            try:
                wave = decoded_wave(content, most=due, keep=self.check.level == "physics")
            except (soundfile.LibsndfileError, RuntimeError, TypeError) as problem:
                self.off(f"{name}: cannot be decoded: {printable(problem)}", sample=sample.key)
                continue
            self.found.waves += 1
            if wave.pcm is not None:
                waves[name] = wave.pcm
            if (wave.said, wave.found, wave.channels, wave.rate_hz) != (due, due, 1, self.check.sample_rate):
                self.off(
                    f"{name}: {wave.said} samples in {wave.channels} channel(s) at {wave.rate_hz} Hz; due are {due} mono at "
                    f"{self.check.sample_rate} Hz", sample=sample.key,
                )  # fmt: skip
            if wave.pcm_sha256 != member.pcm_sha256:
                self.off(f"{name}: its PCM is not what the index says", sample=sample.key)
            if wave.silent:
                self.off(f"{name}: is silent", sample=sample.key)
            if name == "clean":
                clean = wave.pcm_sha256
            elif wave.pcm_sha256 == clean and not self.is_clean_on_purpose(stream, sample, name):
                self.off(f"{name}: is the clean wave, sample for sample", sample=sample.key)
        return waves

    def is_clean_on_purpose(self, stream: io.BufferedReader, sample: IndexedSample, name: str) -> bool:
        """Whether the plan drew no step for a copy, as `choose` may, or all that a step did was taken back so that nothing clips."""
        try:
            document = Sample.parse(
                parse_json(self.content(stream, sample, "json"), where=sample.key), where=sample.key
            )
        except (BadDocumentError, KeyError):  # told already
            return False
        return any(copy.name == name and (not copy.steps or copy.gain_db != 0.0) for copy in document.copies)

    def content(self, stream: io.BufferedReader, sample: IndexedSample, name: str) -> bytes:
        """The bytes of a member, by its offset."""
        member = sample.members[name]
        stream.seek(member.offset)
        return stream.read(min(member.size, self.check.entry.bytes))

    def stranger(self, index: ShardIndex) -> None:
        """Plain tarfile and plain webdataset read the shard, sample by sample."""
        with tarfile.open(self.tar) as tar:
            counted = sum(1 for _ in tar)
        if counted != sum(len(sample.members) for sample in index.samples):
            self.off(f"plain tarfile reads {counted} members")
        for problem in webdataset_findings(self.tar, index.samples):
            self.off(problem)


def canonical_steps(copy: Any) -> bytes:
    """The steps of a copy in one spelling."""
    return canonical_json([step.model_dump(mode="json", exclude_none=True) for step in copy.steps])


def webdataset_findings(tar: Path, samples: Iterable[IndexedSample]) -> list[str]:
    """What differs when the shard is read by plain webdataset."""
    expected = {sample.key: sample for sample in samples}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # webdataset leaves the closing of its file to the garbage collector
        found = [webdataset_finding(item, expected) for item in webdataset_items(tar)]
    problems = [problem for problem in found if problem]
    if len(found) != len(expected):
        problems.append(f"plain webdataset gives {len(found)} of {len(expected)} samples")
    return problems


def webdataset_items(tar: Path) -> Iterator[dict[str, Any]]:
    """Samples as a plain `webdataset.WebDataset` gives them."""
    import webdataset

    # In a list, and absolute: as a plain text `pipe:` would run a shell, and braces, `::` and variables would be expanded
    yield from webdataset.WebDataset([str(tar.absolute())], shardshuffle=False, empty_check=False)


def webdataset_finding(item: dict[str, Any], expected: dict[str, IndexedSample]) -> str:
    """What is wrong with one sample of webdataset's; empty if nothing is."""
    sample = expected.get(item["__key__"])
    if sample is None:
        return f"plain webdataset gives the key {printable(item['__key__'])}, which is not in the index"
    names = {name if name == "json" else f"{name}.flac" for name in sample.members}
    if names != {name for name in item if not name.startswith("__")}:
        return f"plain webdataset gives other members for {printable(sample.key)}"
    try:
        with soundfile.SoundFile(io.BytesIO(item["clean.flac"])) as wave:
            read = len(wave.read(min(wave.frames, sample.num_samples + 1), dtype="int16"))
    except (KeyError, soundfile.LibsndfileError, RuntimeError, MemoryError) as problem:
        return f"plain webdataset and soundfile cannot read {printable(sample.key)}: {printable(problem)}"
    if read != sample.num_samples:
        return f"plain webdataset and soundfile give {read} samples for {printable(sample.key)}"
    return ""
