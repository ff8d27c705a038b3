"""What `verify` says: how much was looked at, what was measured, and what is off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manifests.results.reports import VerifyReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.verify.copy_measurements import Measured
    from corpus_builder.verify.shard_check import Finding, Level


@dataclass
class Report:
    """What was looked at, and what was found."""

    level: Level
    files: int = 0
    samples: int = 0
    waves: int = 0
    findings: list[Finding] = field(default_factory=list)
    measured: dict[str, Measured] = field(default_factory=dict)

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

    def told(self) -> Iterator[str]:
        """A line a condition: what was measured, and how far off it was at most."""
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
        looked = f"{self.files} files, {self.samples} samples" + (f", {self.waves} waves decoded" if self.waves else "")
        return f"{looked}: " + (f"{len(self.findings)} things are off" if self.findings else "all as it should be")
