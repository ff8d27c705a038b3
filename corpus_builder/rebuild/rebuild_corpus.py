"""Rebuilds the corpus of a pack from a lab's own copies of its sources, and compares each wave with the pack.

Sources are checked first; then the plan is rendered (not planned again) with the responses of the pack; then every wave is compared
with its digest and fingerprint in the pack. An interrupted rebuild is continued, as a build is.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.build.build_corpus import build
from corpus_builder.plan.make_plan import check_target, no_empty_folder
from corpus_builder.rebuild.plan_subset import Selection, write_selection
from corpus_builder.rebuild.report import VERDICTS, Proof, prove, verdict_lines
from corpus_builder.rebuild.source_check import SourceProblem, source_problems, with_pcm_compared
from corpus_builder.rooms.build_banks import planned_rooms
from corpus_builder.rooms.rir_bank import read_response
from corpus_builder.shards.destination import Target
from corpus_builder.sources.roots import read_roots, write_roots
from corpus_builder.workers.stale_files import clear_leftovers
from manifests.corpus.layout import (
    REBUILT,
    REBUILT_WAVES,
    ROOMS_FOLDER,
    bank_name,
    files_needed,
    response_path,
    roots_needed,
)
from manifests.errors import BadDocumentError, StillroomError, UsageError, printable
from manifests.io.atomic import replacing, temporary_path
from manifests.io.digest import file_digest
from manifests.io.json_yaml import read_json_lines, write_json, write_json_lines
from manifests.io.lock import writing
from manifests.io.place import place_of, places_of
from manifests.pack.fetched import fetched
from manifests.pack.read import open_pack
from manifests.plan.rooms import RoomResponse
from manifests.results.reports import RebuiltReport, reported

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from corpus_builder.build.build_corpus import Built
    from corpus_builder.workers.preemption import Stop
    from manifests.io.place import Place
    from manifests.pack.contents import OpenedPack
    from manifests.plan.plan import Plan


class SourcesDifferError(StillroomError, ValueError):
    """Source files are missing or different; nothing was rendered.

    Attributes:
        problems: All of them.
    """

    def __init__(self, problems: list[SourceProblem], *, checked: int) -> None:
        self.problems = problems
        missing = sum(problem.what == "is missing" for problem in problems)
        super().__init__(
            f"{len(problems)} of {checked} source files are not those of the pack ({missing} missing, {len(problems) - missing} "
            "different); nothing was rendered: replace them, or pass their folder with --root"
        )


@dataclass(frozen=True)
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        proof: None if shards are left.
        pack_sha256: Digest of the pack.
    """

    built: Built
    proof: Proof | None
    pack_sha256: str

    def plain(self) -> dict[str, Any]:
        """The report, as plain data."""
        assert self.proof is not None
        report = {
            "schema": RebuiltReport.SCHEMA,
            "pack_sha256": self.pack_sha256,
            **{verdict: self.proof.total(verdict) for verdict in VERDICTS},
            "decoder_differs": sum(self.proof.decoder_differs.values()),
            "by_condition": self.proof.rows(),
        }
        return reported(RebuiltReport, report)


def rebuild(
    pack: str | Place,
    corpus: str | Place,
    *,
    roots: Mapping[str, str | Place] | None = None,
    workers: int = 1,
    selection: Selection | None = None,
    executor: Executor | None = None,
    scratch: str | Path | None = None,
    stop: Stop | None = None,
    progress: bool = True,
) -> Rebuilt:
    """Rebuild a corpus from a pack, or continue an interrupted rebuild.

    Args:
        pack: The `.tar.gz`, or its URL.
        corpus: The folder or URL to build in.
        roots: Folder or URL of each root, as `--root` gives them.
        workers: Number of processes.
        selection: Only a part of it.
        executor: Where shards are rendered; a pool of processes by default.
        scratch: Parent of the working folder of a corpus at a URL.
        stop: Once it is true no other shard is begun.
        progress: Show how far it is.

    Raises:
        SourcesDifferError: If sources are missing or different.
        UsageError: If the folder of a root is not known.
        OlderPlanError: If its plan is of an earlier version.
        BadDocumentError: If the pack is damaged.
        StillroomError: As `build` does.
    """
    pack, corpus = place_of(pack), place_of(corpus)
    target = Target.at(corpus, scratch=None if scratch is None else Path(scratch))
    work = target.work
    check_target(work, pack if isinstance(pack, Path) else work.parent / pack.name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_empty_folder(work))
        existed = work.exists()
        with writing(work):
            clear_leftovers(work)
            hidden = temporary_path(work / "rebuild" if target.url is None else work)
            stack.callback(remove_scratch, hidden, work, with_corpus=not existed)
            target.fetch_anew()
            local_pack = fetched(pack, hidden / "fetched", needed="a .tar.gz that `stillroom pack` writes")
            opened = open_pack(local_pack, hidden / "pack")
            opened.plan.check_current(where=pack.name)
            source, plan = selected_plan(opened, selection or Selection(), hidden / "selected")
            found_roots = find_roots(opened, source, plan, work, places_of(roots))
            check_sources(opened, source, plan, found_roots, workers=workers, progress=progress)
            copy_rooms(opened, source, work)
            write_roots(source, found_roots)
        built = build(
            source, corpus, roots=found_roots, workers=workers, executor=executor, scratch=scratch, stop=stop,
            progress=progress,
        )  # fmt: skip
        if built.corpus is None:
            return Rebuilt(built, None, file_digest(local_pack))
        made = fetched(corpus, hidden / "made", needed="the rebuilt corpus")
        proof = Proof()
        verdicts = prove(opened, plan, made, tars=corpus, workers=workers, progress=progress)
        rebuilt = Rebuilt(built, proof, file_digest(local_pack))
        write_json_lines(made / REBUILT_WAVES, verdict_lines(verdicts, proof))
        write_json(made / REBUILT, rebuilt.plain())
        if target.url is not None:
            for name in (REBUILT_WAVES, REBUILT):
                (target.url / name).put_file(made / name)
        return rebuilt


def remove_scratch(scratch: Path, corpus: Path, *, with_corpus: bool) -> None:
    """Remove the unpacked pack, and the corpus's folder too if it is empty."""
    shutil.rmtree(scratch, ignore_errors=True)
    if with_corpus:
        with contextlib.suppress(OSError):  # it is not empty
            corpus.rmdir()


def selected_plan(opened: OpenedPack, selection: Selection, folder: Path) -> tuple[Path, Plan]:
    """The folder of the plan to render, and the plan."""
    if selection.is_all:
        return opened.folder, opened.plan
    return folder, write_selection(opened, selection, folder)


def find_roots(
    opened: OpenedPack, source: Path, plan: Plan, corpus: Path, given: Mapping[str, Place]
) -> dict[str, Place]:
    """Folder or URL of each root that is needed.

    Raises:
        UsageError: If the pack has no such root, or the folder of one is not known.
    """
    known = set(opened.recipe.source_roots())
    for name in given:
        if name not in known:
            raise UsageError(f"--root {printable(name)}: the pack has no such root; it has {', '.join(sorted(known))}")
    needed = roots_needed(source, plan)
    roots = places_of(read_roots(corpus)) | dict(given)
    unknown = sorted(needed - roots.keys())
    if unknown:
        options = " ".join(f"--root {printable(name)}=DIR" for name in unknown)
        raise UsageError(f"the folders of the pack's sources on this machine are not known; add {options}")
    return {name: place for name, place in roots.items() if name in needed}


def check_sources(
    opened: OpenedPack, source: Path, plan: Plan, roots: Mapping[str, Place], *, workers: int, progress: bool
) -> None:
    """Check that every source file that will be read has the digest of the pack.

    Raises:
        SourcesDifferError: With all that do not.
    """
    needed = files_needed(source, plan)
    expected = {file: sha256 for file, sha256 in needed.items() if sha256 is not None}
    for one in opened.sources():
        if (one.root, one.path) in needed:
            expected.setdefault((one.root, one.path), one.sha256)
    problems = source_problems(expected, roots, workers=workers, progress=progress)
    if problems:
        problems = with_pcm_compared(problems, opened.sources(), roots, workers=workers)
        raise SourcesDifferError(problems, checked=len(expected))


def copy_rooms(opened: OpenedPack, source: Path, corpus: Path) -> None:
    """Copy the responses that the plan in `source` needs into the corpus, each bank's list last.

    Raises:
        BadDocumentError: If a response has another rate than the corpus.
        DigestMismatchError: If one was changed.
    """
    folder = opened.folder
    for bank in planned_rooms(source):
        path = folder / bank_name(bank)
        rows = list(read_json_lines(path, needed="the rooms of a bank")) if path.exists() else []
        names = [name for row in rows if (folder / (name := response_path(row["name"]))).exists()]
        if not names or len(names) != len(rows):
            continue  # recorded responses are read from the sources
        for row in rows:
            response = RoomResponse.parse(row, where=path.name)
            if response.rate_hz != opened.plan.sample_rate:
                raise BadDocumentError(
                    path.name, f"response {response.name} has {response.rate_hz} Hz, not the corpus's rate"
                )
            read_response(folder / ROOMS_FOLDER, response)
        for name in [*names, bank_name(bank)]:
            target = corpus / name
            if not target.exists() or file_digest(target) != file_digest(folder / name):
                with replacing(target) as part:
                    shutil.copyfile(folder / name, part)
