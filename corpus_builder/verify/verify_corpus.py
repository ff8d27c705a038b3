"""Checks a corpus with code independent of what wrote it.

`bytes`: recipe and plan are those that `corpus.json` names, every file that SHA256SUMS lists exists and is unchanged, there is no other,
and each tar has what its index says, where it says. `pcm`: besides, each FLAC is decoded and compared, and plain webdataset and tarfile
read the shards. `physics`: besides, lags, SNRs, levels, bands, clipping, reverberation times and the rates of what was drawn are
measured from the audio.

A linked corpus (a subset, or an index of shards that Stillroom did not write) has no plan: its manifest, tars and waves are checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.verify.draw_rates import rate_findings
from corpus_builder.verify.report import Finding, Report
from corpus_builder.verify.rir_check import response_findings
from corpus_builder.verify.shard_check import ShardCheck, check_shard
from corpus_builder.workers.pool import mapped_with_progress
from manifests.corpus import layout
from manifests.corpus.layout import (
    CORPUS,
    PLAN,
    RECIPE,
    REFUSED,
    SUM_LINE,
    SUMS,
    index_name,
    planned_digests,
    unsummed_names,
)
from manifests.corpus.reader import tar_folder
from manifests.corpus.shard_index import read_corpus
from manifests.errors import StillroomError, UsageError, printable
from manifests.io.digest import digest, file_digest
from manifests.io.json_yaml import read_bytes, safe_relative
from manifests.io.place import Place, place_of, size_of, sizes_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.verify.report import Level
    from manifests.corpus.shard_index import Corpus
    from manifests.plan.plan import Plan
    from manifests.recipe.recipe import Recipe


def verify(corpus: str | Place, *, level: Level = "pcm", workers: int = 1, progress: bool = True) -> Report:
    """Check a whole corpus.

    Args:
        corpus: Its folder or URL.
        level: How thoroughly.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        MissingFileError: If there is no sealed corpus.
        BadDocumentError: If `corpus.json` cannot be read.
        UsageError: If the physics of a linked corpus are requested, which has no plan.
        UnknownRootError: If the folder of a linked corpus's shards is not known on this machine.
    """
    place = place_of(corpus)
    sealed = read_corpus(place)
    report = Report(level=level)
    recipe = plan = None
    if sealed.borrowed is None:
        recipe, plan = check_recipe(place, sealed, report), check_plan(place, sealed, report)
    elif level == "physics":
        raise UsageError(
            f"{printable(corpus)} is a subset or an index, without plan and rooms: verify the whole corpus at level physics, "
            "and this one at level pcm"
        )
    checks = list(shard_checks(place, sealed, plan, level))
    report.findings += check_sums(place, sealed, report)
    shards = mapped_with_progress(
        check_shard,
        checks,
        workers=workers,
        what="verifying",
        unit="samples",
        size=lambda check: check.entry.samples,
        progress=progress,
    )
    for _, shard in shards:
        report.add_shard(shard)
    report.findings += check_totals(sealed, report)
    if level == "physics":
        report.findings += check_physics(place, recipe, report)
    report.findings += check_refused(place, sealed, plan)
    return report


def check_recipe(corpus: Place, sealed: Corpus, report: Report) -> Recipe | None:
    """The recipe of the corpus, if it can be read; a finding if it is not the one that was sealed."""
    try:
        recipe = layout.read_recipe(corpus)
    except StillroomError as problem:
        report.findings.append(Finding(RECIPE, str(problem)))
        return None
    if digest(recipe.plain()) != sealed.recipe_sha256:
        report.findings.append(Finding(RECIPE, "is not the recipe that the corpus was sealed with"))
    return recipe


def check_plan(corpus: Place, sealed: Corpus, report: Report) -> Plan | None:
    """The plan of the corpus, if it can be read; findings if it, or a file that it names, is not the one that was sealed."""
    try:
        plan = layout.read_plan(corpus)
    except StillroomError as problem:
        report.findings.append(Finding(PLAN, str(problem)))
        return None
    if digest(plan) != sealed.plan_sha256 or plan.recipe_sha256 != sealed.recipe_sha256:
        report.findings.append(Finding(PLAN, "is not the plan that the corpus was sealed with"))
    for name, sha256 in planned_digests(plan).items():
        if size_of(corpus / name) is not None and file_digest(corpus / name) != sha256:
            report.findings.append(Finding(name, "is not what plan.json says"))
    names = {entry.name for shards in sealed.splits.values() for entry in shards}
    for name in sorted({file.name for file in plan.files} ^ names):
        report.findings.append(Finding(name, "is in only one of plan.json and corpus.json"))
    return plan


def check_physics(corpus: Place, recipe: Recipe | None, report: Report) -> Iterator[Finding]:
    """The stored responses, and how often each thing was drawn."""
    yield from (Finding(where, what) for where, what in response_findings(corpus))
    if recipe is not None:
        drawn = {condition: measured.drawn for condition, measured in report.measured.items()}
        yield from (Finding(where, what) for where, what in rate_findings(recipe, drawn))


def shard_checks(corpus: Place, sealed: Corpus, plan: Plan | None, level: Level) -> Iterator[ShardCheck]:
    """Every shard of every split; the first of each is read with plain tools too, if the corpus is not linked."""
    planned = {file.name: file.sha256 for file in plan.files} if plan is not None else {}
    tars = tar_folder(corpus, sealed, read=lambda name: read_bytes(corpus / name, needed="the folder of the shards"))
    for split, shards in sealed.splits.items():
        for number, entry in enumerate(shards):
            yield ShardCheck(
                str(corpus),
                entry,
                split,
                sealed.sample_rate,
                level,
                str(tars / entry.tar_path),
                plan_sha256=planned.get(entry.name, ""),
                is_linked=sealed.borrowed is not None,
                is_external=sealed.borrowed is not None and sealed.borrowed.foreign,
                with_plain_readers=number == 0 and level != "bytes" and sealed.borrowed is None,
            )


def check_sums(corpus: Place, sealed: Corpus, report: Report) -> Iterator[Finding]:
    """Every listed file exists and is unchanged, every file is listed; tars are digested with their shard."""
    is_linked = sealed.borrowed is not None
    shards = [entry for entries in sealed.splits.values() for entry in entries]
    tars = {} if is_linked else {entry.tar_path: entry for entry in shards}
    listed: dict[str, str] = {}
    lines = read_bytes(corpus / SUMS, needed="the digests of a corpus").decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        match = SUM_LINE.match(line)
        if match is None or match[2] in listed:
            yield Finding(f"{SUMS}:{number}", "expected a digest and the name of a file that is not listed above")
            continue
        try:
            listed[safe_relative(match[2], where=SUMS)] = match[1]
        except StillroomError as problem:
            yield Finding(f"{SUMS}:{number}", str(problem))
    required = {CORPUS, REFUSED, *(index_name(entry.name) for entry in shards)}
    if is_linked:  # beside an index there may be anything, such as the tars
        present = {name for name in listed if size_of(corpus / name) is not None}
    else:
        required |= {RECIPE, PLAN, *tars}
        present = {name for name in sizes_below(corpus) if not any(part.startswith(".") for part in name.split("/"))}
        for name in sorted(present - set(listed) - unsummed_names() - {CORPUS}):
            yield Finding(name, "is not listed in SHA256SUMS: it does not belong here")
    for name in sorted(required - set(listed)):
        yield Finding(name, "is not listed in SHA256SUMS")
    for name, sha256 in sorted(listed.items()):
        report.files += 1
        if name not in present:
            yield Finding(name, "is missing")
        elif name in tars:
            if sha256 != tars[name].sha256:
                yield Finding(name, "SHA256SUMS and corpus.json name different digests")
        elif file_digest(corpus / name) != sha256:
            yield Finding(name, "has another digest: it was changed or damaged")


def check_totals(sealed: Corpus, report: Report) -> Iterator[Finding]:
    """The totals of `corpus.json` are the sums over its shards, and over the checked ones."""
    shards = [entry for entries in sealed.splits.values() for entry in entries]
    for what, total, counted in (
        ("samples", sealed.totals.samples, sum(entry.samples for entry in shards)),
        ("bytes", sealed.totals.bytes, sum(entry.bytes for entry in shards)),
        ("shards", sealed.totals.shards, len(shards)),
        ("samples found", sealed.totals.samples, report.samples),
    ):
        if total != counted:
            yield Finding(CORPUS, f"{what}: {total} in the totals, {counted} by counting")


def check_refused(corpus: Place, sealed: Corpus, plan: Plan | None) -> Iterator[Finding]:
    """Each planned utterance is in a shard or refused, and `refused.jsonl` has the number of lines of `corpus.json`."""
    try:
        refusals = list(layout.refusals(corpus))
    except StillroomError as problem:
        yield Finding(REFUSED, str(problem))
        return
    if len(refusals) != sum(sealed.refused.values()):
        yield Finding(REFUSED, f"has {len(refusals)} lines, corpus.json counts {sum(sealed.refused.values())}")
    if plan is not None:
        rows = sum(file.rows for file in plan.files)
        at_rendering = len(refusals) - len(plan.refused)
        if rows != sealed.totals.samples + at_rendering:
            yield Finding(
                CORPUS,
                f"{rows} utterances were planned, {sealed.totals.samples} are in shards and {at_rendering} were refused",
            )
