"""The result of `verify`: how much was checked, what was measured, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from corpus_builder.verify.copy_measurements import Measured
from manifests.results.reports import VerifyReport

if TYPE_CHECKING:
    from collections.abc import Iterator

Level = Literal["bytes", "pcm", "physics"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        where: File, or shard and sample.
        what: The fault.
    """

    where: str
    what: str

    def plain(self) -> dict[str, str]:
        """As plain data."""
        return {"where": self.where, "what": self.what}


@dataclass
class ShardFound:
    """The result of checking one shard.

    Attributes:
        waves: How many were decoded.
        measured: At level physics, by condition.
    """

    samples: int = 0
    waves: int = 0
    findings: list[Finding] = field(default_factory=list)
    measured: dict[str, Measured] = field(default_factory=dict)

    def add_measured(self, condition: str, measured: Measured) -> None:
        """Add measurements of one condition."""
        self.measured.setdefault(condition, Measured()).add(measured)


@dataclass
class Report(ShardFound):
    """The result of checking a corpus.

    Attributes:
        files: How many of SHA256SUMS were checked.
    """

    level: Level = "pcm"
    files: int = 0

    def add_shard(self, shard: ShardFound) -> None:
        """Add the result of one shard."""
        self.samples += shard.samples
        self.waves += shard.waves
        self.findings += shard.findings
        for condition, measured in shard.measured.items():
            self.add_measured(condition, measured)

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        physics = {name: one.plain() for name, one in sorted(self.measured.items())}
        return {
            "schema": VerifyReport.SCHEMA,
            "level": self.level,
            "files": self.files,
            "samples": self.samples,
            "waves": self.waves,
            "findings": [finding.plain() for finding in self.findings],
        } | ({"physics": physics} if self.level == "physics" else {})

    def measurement_lines(self) -> Iterator[str]:
        """A line for each condition: what was measured, and the largest deviation."""
        for name, one in sorted(self.measured.items()):
            parts = [f"{one.copies} copies"]
            if one.lags:
                parts.append(f"lag of {one.lags} at most {abs(one.largest_lag_samples)} samples")
            if one.snrs:
                parts.append(f"SNR of {one.snrs} off by at most {abs(one.largest_snr_error_db):.4f} dB")
            if one.by_plan:
                parts.append(f"SNR of {one.by_plan} by plan")
            parts.append(f"level {one.lowest_db:.1f} to {one.highest_db:.1f} dBFS")
            yield f"{name}: " + ", ".join(parts)

    def summary(self) -> str:
        """One line."""
        checked = f"{self.files} files, {self.samples} samples" + (
            f", {self.waves} waves decoded" if self.waves else ""
        )
        return f"{checked}: " + (f"{len(self.findings)} things are wrong" if self.findings else "nothing is wrong")
