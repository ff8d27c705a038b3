"""Compares one sample of a built corpus with the plan row that it was rendered from: its JSON, and its waves by measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corpus_builder.verify.copy_measurements import FULL_SCALE, CopyCheck, Measured
from corpus_builder.verify.draw_rates import chain_of
from corpus_builder.verify.rir_check import stored_response
from manifests.corpus.sample import domain_of, family_of
from manifests.io.digest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from manifests.corpus.sample import Sample
    from manifests.corpus.shard_index import IndexedSample
    from manifests.plan.plan import PlanRow

    Pcm = NDArray[np.int16]


def document_findings(document: Sample, row: PlanRow, sample: IndexedSample, *, sample_rate: int) -> Iterator[str]:
    """Differences between the JSON member of a sample and its plan row, its index entry and the corpus's sample rate."""
    for name in ("id", "split", "num_samples", "text", "speaker", "language", "custom"):
        if getattr(document, name) != getattr(row, name):
            yield f"{name} differs between JSON and plan"
    if document.num_samples != sample.num_samples or document.sample_rate != sample_rate:
        yield "length or rate differ between JSON and index"
    if document.source.model_copy(update={"sha256": row.source.sha256}) != row.source or document.source.sha256 is None:
        yield "source differs between JSON and plan"
    planned = [
        (copy.name, copy.condition, domain_of(copy.steps), family_of(copy.steps), canonical_steps(copy))
        for copy in row.copies
    ]
    written = [(copy.name, copy.condition, copy.domain, copy.family, canonical_steps(copy)) for copy in document.copies]
    if planned != written:
        yield "copies differ between JSON and plan"
    if sorted(copy.name for copy in row.copies) != sample.copies:
        yield "copies differ between index and plan"


def canonical_steps(copy: Any) -> bytes:
    """The steps of a copy as canonical JSON."""
    return canonical_json([step.model_dump(mode="json", exclude_none=True) for step in copy.steps])


def measure_copies(
    document: Sample, row: PlanRow, waves: dict[str, Pcm], *, corpus: str, rate_hz: int
) -> Iterator[tuple[str, Measured, list[str]]]:
    """Condition, measurements and findings of each copy whose wave could be decoded.

    Args:
        document: The JSON member of the sample.
        row: Its plan row.
        waves: The clean wave and the copies by name, shape (time,).
        corpus: Folder or URL of the corpus, for its room responses.
        rate_hz: Sample rate of the corpus.
    """
    clean = waves.get("clean")
    gains_db = {copy.name: copy.gain_db for copy in document.copies}
    for planned in row.copies:
        wave = waves.get(planned.name)
        if clean is None or wave is None or wave.size != clean.size or planned.name not in gains_db:
            continue
        check = CopyCheck(
            clean / FULL_SCALE,
            wave / FULL_SCALE,
            planned,
            gain_db=gains_db[planned.name],
            rate_hz=rate_hz,
            response=lambda name: stored_response(corpus, name),
        )
        findings = [f"{planned.name}: {what}" for what in check.findings()]
        check.measured.drawn[chain_of(planned.steps)] = 1
        yield planned.condition, check.measured, findings
