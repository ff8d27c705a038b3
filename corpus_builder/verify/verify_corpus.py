"""Re-opens a corpus as a stranger: nothing that wrote it is used to read it.

`bytes`: every file that SHA256SUMS names is there, whole and unchanged, nothing else is, and each tar holds what its index says,
where it says. `pcm`: besides, each FLAC is decoded and compared, and plain webdataset and tarfile read the shards.
`physics`: besides, lags, SNRs, levels, bands, clipping, reverberation times and the rates of what was drawn are measured from the audio.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from corpus_builder.verify.copy_measurements import Measured
from corpus_builder.verify.draw_rates import rate_findings
from corpus_builder.verify.linked_corpus import verify_borrowed
from corpus_builder.verify.report import Report
from corpus_builder.verify.rir_check import response_findings
from corpus_builder.verify.shard_check import Finding, Level, ShardCheck, ShardFound, check_shard
from corpus_builder.workers.pool import mapped
from manifests.corpus.shard_index import Corpus
from manifests.errors import StillroomError
from manifests.io.digest import digest, file_digest
from manifests.io.json_yaml import read_bytes, read_json_lines, safe_relative
from manifests.io.place import Place, size_of, sizes_below
from manifests.io.progress import Progress
from manifests.plan.plan import Plan, Refusal
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

UNLISTED = {"SHA256SUMS", "corpus.json", "roots.local.json", "provenance.json", "rebuilt.json", "rebuilt.jsonl"}
SUM_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


def verify(corpus: Place, *, level: Level = "pcm", workers: int = 1, progress: bool = True) -> Report:
    """Look at a whole corpus.

    Args:
        corpus: Its folder or URL.
        level: How deep.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        MissingFileError: If there is no sealed corpus.
        BadDocumentError: If `corpus.json` cannot be read.
    """
    sealed = Corpus.read(corpus / "corpus.json", needed="a sealed corpus is due here: `stillroom build` writes it last")
    report = Report(level)
    if sealed.borrowed is not None:
        report = verify_borrowed(corpus, report, workers=workers)
        report.findings += check_totals(sealed, report)
        return report
    report.findings += list(check_sums(corpus, sealed, report))
    plan, found = read_plan(corpus, sealed)
    report.findings += found
    checks = list(shard_checks(corpus, sealed, plan, level))
    with contextlib.ExitStack() as stack:
        shown = None
        if progress:
            shown = stack.enter_context(Progress("verifying", total=sealed.totals.samples, unit="samples"))
        for check, shard in zip(checks, looked_at(checks, workers=workers), strict=True):
            report.samples += shard.samples
            report.waves += shard.waves
            report.findings += shard.findings
            for condition, measured in shard.measured.items():
                report.measured.setdefault(condition, Measured()).add(measured)
            if shown is not None:
                shown.advance(check.entry.samples)
    report.findings += check_totals(sealed, report)
    if level == "physics":
        report.findings += check_physics(corpus, report)
    report.findings += check_refused(corpus, sealed, plan)
    return report


def check_physics(corpus: Place, report: Report) -> Iterator[Finding]:
    """The stored responses, and how often each thing was drawn."""
    recipe = Recipe.read(corpus / "recipe.yaml", needed="the recipe of a corpus")
    drawn = {condition: measured.drawn for condition, measured in report.measured.items()}
    yield from (Finding(where, what) for where, what in response_findings(corpus))
    yield from (Finding(where, what) for where, what in rate_findings(recipe, drawn))


def looked_at(checks: list[ShardCheck], *, workers: int) -> Iterator[ShardFound]:
    """What was found in each shard, in order."""
    yield from mapped(check_shard, checks, workers=min(workers, len(checks)), what="verifying")


def shard_checks(corpus: Place, sealed: Corpus, plan: Plan | None, level: Level) -> Iterator[ShardCheck]:
    """Every shard of every split; the first of each is read as a stranger's tools would."""
    planned = {file.name: file.sha256 for file in plan.files} if plan is not None else {}
    for split, shards in sealed.splits.items():
        for number, entry in enumerate(shards):
            yield ShardCheck(
                str(corpus),
                entry,
                split,
                sealed.sample_rate,
                planned.get(entry.name, ""),
                level,
                number == 0 and level != "bytes",
            )


def check_sums(corpus: Place, sealed: Corpus, report: Report) -> Iterator[Finding]:
    """Every listed file is there and unchanged, every file is listed; tars are digested with their shard."""
    tars = {f"shards/{entry.name}.tar": entry for shards in sealed.splits.values() for entry in shards}
    listed: dict[str, str] = {}
    for number, line in enumerate(
        read_bytes(corpus / "SHA256SUMS", needed="the digests of a corpus").decode("utf-8", "replace").splitlines(), 1
    ):
        match = SUM_LINE.match(line)
        if match is None or match[2] in listed:
            yield Finding(f"SHA256SUMS:{number}", "not a digest and a new file name")
            continue
        try:
            listed[safe_relative(match[2], where="SHA256SUMS")] = match[1]
        except StillroomError as problem:
            yield Finding(f"SHA256SUMS:{number}", str(problem))
    present = {name for name in sizes_below(corpus) if not any(part.startswith(".") for part in name.split("/"))}
    for name in sorted(present - set(listed) - UNLISTED):
        yield Finding(name, "is not listed in SHA256SUMS: it does not belong here")
    for name in sorted({"corpus.json", "recipe.yaml", "plan/plan.json", *tars} - set(listed)):
        yield Finding(name, "is not listed in SHA256SUMS")
    for name, expected in sorted(listed.items()):
        report.files += 1
        if name not in present:
            yield Finding(name, "is missing")
        elif name in tars:
            if expected != tars[name].sha256:
                yield Finding(name, "SHA256SUMS and corpus.json name different digests")
        elif file_digest(corpus / name) != expected:
            yield Finding(name, "is not what its digest says: it was changed or damaged")


def read_plan(corpus: Place, sealed: Corpus) -> tuple[Plan | None, list[Finding]]:
    """The plan of the corpus, if it can be read, and whether it is the one that was sealed."""
    findings: list[Finding] = []
    try:
        plan = Plan.read(corpus / "plan" / "plan.json", needed="the plan of a corpus")
    except StillroomError as problem:
        return None, [Finding("plan/plan.json", str(problem))]
    if digest(plan) != sealed.plan_sha256:
        findings.append(Finding("plan/plan.json", "is not the plan that the corpus was sealed with"))
    names = {entry.name for shards in sealed.splits.values() for entry in shards}
    for file in plan.files:
        path = corpus / "plan" / f"{file.name}.jsonl"
        if size_of(path) is not None and file_digest(path) != file.sha256:
            findings.append(Finding(f"plan/{file.name}.jsonl", "is not what plan.json says"))
    only_one = sorted({file.name for file in plan.files} ^ names)
    findings += [Finding(name, "stands in only one of plan.json and corpus.json") for name in only_one]
    return plan, findings


def check_totals(sealed: Corpus, report: Report) -> Iterator[Finding]:
    """What corpus.json adds up to is what it says, and what was found."""
    shards = [entry for entries_ in sealed.splits.values() for entry in entries_]
    for what, said, found in (
        ("samples", sealed.totals.samples, sum(entry.samples for entry in shards)),
        ("bytes", sealed.totals.bytes, sum(entry.bytes for entry in shards)),
        ("shards", sealed.totals.shards, len(shards)),
        ("samples found", sealed.totals.samples, report.samples),
    ):
        if said != found:
            yield Finding("corpus.json", f"{what}: {said} in the totals, {found} by counting")


def check_refused(corpus: Place, sealed: Corpus, plan: Plan | None) -> Iterator[Finding]:
    """Each planned utterance is in a shard or refused, and refused.jsonl has as many lines as are counted."""
    path = corpus / "refused.jsonl"
    try:
        refusals = [
            Refusal.parse(one, where="refused.jsonl") for one in read_json_lines(path, needed="what was refused")
        ]
    except StillroomError as problem:
        yield Finding("refused.jsonl", str(problem))
        return
    if len(refusals) != sum(sealed.refused.values()):
        yield Finding("refused.jsonl", f"has {len(refusals)} lines, corpus.json counts {sum(sealed.refused.values())}")
    if plan is not None:
        rows = sum(file.rows for file in plan.files)
        at_rendering = len(refusals) - len(plan.refused)
        if rows != sealed.totals.samples + at_rendering:
            yield Finding(
                "corpus.json",
                f"{rows} utterances were planned, {sealed.totals.samples} are in shards and {at_rendering} were refused",
            )
