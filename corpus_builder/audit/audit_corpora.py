"""Leaks between the splits of corpora, packs and plans: by what their manifests say, then by how their recordings sound."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from corpus_builder.audio.errors import MissingAudioError, UnfitAudioError
from corpus_builder.audit.audio_fingerprint import METHOD, fingerprint
from corpus_builder.audit.collect import gather
from corpus_builder.audit.fingerprint_search import FEWEST, SHORTEST_S, Library
from corpus_builder.audit.leaks import Audit, Facts, Leaks, Unchecked
from corpus_builder.sources.roots import read_roots
from corpus_builder.workers.pool import mapped
from manifests.errors import UsageError, printable
from manifests.io.atomic import write_bytes
from manifests.io.digest import file_digest
from manifests.io.place import Place, local_copy, place_of
from manifests.io.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from manifests.results.reports import Kind

Sound = Literal["noises", "all", "none"]
SOUND_KINDS: dict[Sound, tuple[Kind, ...]] = {"noises": ("noise",), "all": ("noise", "recording"), "none": ()}
MOST_CACHED_BYTES = 64 << 20  # two days of sound


@dataclass(frozen=True)
class Listened:
    """A file to listen to, and the splits that use it.

    Attributes:
        place: Where it lies; None if no root says so.
        sha256: What the manifests say its digest is.
    """

    corpus: str
    root: str
    path: str
    place: str | None
    sha256: str | None
    channel: int | None
    cache: str | None
    kind: Kind
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Heard:
    """What listening to one file gave: a fingerprint, or a reason why there is none."""

    prints: NDArray[np.uint32] | None
    why: str = ""


def audit(
    paths: tuple[Path, ...], *, roots: Mapping[str, Place], sound: Sound = "noises", cache: Path | None = None,
    editions: bool = False, workers: int = 1, progress: bool = True,
) -> Audit:  # fmt: skip
    """Look for leaks.

    Args:
        paths: Corpora, packs or plans.
        roots: Where roots lie: by name for all of them, or by `A:name` for one, beside their own `roots.local.json`.
        sound: What is listened to.
        cache: A folder that keeps fingerprints by the digest of their file.
        editions: What splits of one name in two corpora share is no leak.
        workers: Processes that listen.
        progress: Show how far it is.

    Raises:
        UsageError: If a root is given for a letter that no corpus has.
        StillroomError: If something named is not there, or not what it should be.
    """
    with (
        tempfile.TemporaryDirectory(prefix="stillroom-audit-") as folder,
        Facts(Path(folder) / "facts.sqlite") as facts,
    ):
        letters = {letter_of(number): path for number, path in enumerate(paths)}
        own = own_roots(letters, roots)
        words = {
            letter: gather(facts, letter, path, Path(folder) / f"pack-{letter}") for letter, path in letters.items()
        }
        facts.join()
        leaks = facts.leaks(editions=editions)
        listen(facts, leaks, own, sound=sound, cache=cache, workers=workers, bench=Path(folder), progress=progress)
        return Audit(words, facts.checked(), leaks, list(facts.unchecked), list(facts.declared))


def letter_of(number: int) -> str:
    """`A` to `Z`, then `AA`."""
    return (letter_of(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def own_roots(letters: Mapping[str, Path], roots: Mapping[str, Place]) -> dict[tuple[str, str], Place]:
    """Where each root of each corpus lies: as its `roots.local.json` has it, then as is told for all, then for it alone."""
    own: dict[tuple[str, str], Place] = {}
    for letter, path in letters.items():
        if path.is_dir():
            own |= {(letter, name): place_of(place) for name, place in read_roots(path).items()}
        own |= {(letter, name): place for name, place in roots.items() if ":" not in name}
    for name, place in roots.items():
        letter, colon, root = name.partition(":")
        if colon and letter not in letters:
            known = ", ".join(letters)
            raise UsageError(
                f"--root {printable(name)}: there is no corpus {printable(letter)}; there are {known}, in order"
            )
        if colon:
            own[letter, root] = place
    return own


def listen(
    facts: Facts, leaks: Leaks, roots: Mapping[tuple[str, str], Place], *, sound: Sound, cache: Path | None, workers: int,
    bench: Path, progress: bool,
) -> None:  # fmt: skip
    """Compare the files by their acoustic fingerprint; a file that is there twice by its digest is listened to once."""
    if sound == "none":
        return
    tasks = [one for one in distinct(tasks_of(facts, roots, sound=sound, cache=cache)) if one.groups]
    library, kept = Library(bench / "prints.u32"), []
    missed: dict[tuple[Kind, str, str], int] = {}
    with Progress("listening", total=len(tasks), unit="files", shown=progress) as shown:
        results = mapped(listen_to, tasks, workers=min(workers, max(1, len(tasks))), what="listening")
        for task, heard in zip(tasks, results, strict=True):
            shown.advance()
            if heard.prints is None:
                missed[task.kind, task.corpus, heard.why] = missed.get((task.kind, task.corpus, heard.why), 0) + 1
            else:
                library.add(heard.prints)
                kept.append(task)
    for (kind, corpus, why), count in sorted(missed.items()):
        total = sum(task.corpus == corpus and task.kind == kind for task in tasks)
        facts.unchecked.append(Unchecked(kind, corpus, None, count, total, f"files were not listened to: {why}"))
    sets = {groups: number for number, groups in enumerate(dict.fromkeys(task.groups for task in kept))}
    for found in library.matches(np.array([sets[task.groups] for task in kept], dtype=np.int64)):
        first, second = kept[found.first], kept[found.second]
        told = f"{second.path} ({found.seconds:g} s, {100 * found.wrong:.0f} % of bits differ)"
        of: Kind = "noise" if "noise" in (first.kind, second.kind) else "recording"
        for one in first.groups:
            for other in second.groups:
                names = (first.path, told) if one < other else (told, first.path)
                ordered = (one, other) if one < other else (other, one)
                leaks.add(of, "sound", ordered, names, heard=True)


def tasks_of(
    facts: Facts, roots: Mapping[tuple[str, str], Place], *, sound: Sound, cache: Path | None
) -> Iterator[Listened]:
    """Every file that is used and to be listened to."""
    for corpus, root, path, sha256, channel, kind, groups in facts.files(SOUND_KINDS[sound]):
        place = roots.get((corpus, root))
        where = None if place is None else str(place / path)
        held = None if cache is None else str(cache)
        yield Listened(corpus, root, path, where, sha256, channel, held, kind, tuple(groups))


def distinct(tasks: Iterator[Listened]) -> list[Listened]:
    """One task for each file: by digest and channel, or by place where no digest is known."""
    found: dict[tuple[str, int | None], Listened] = {}
    for task in tasks:
        key = (task.sha256 or f"{task.corpus}:{task.root}/{task.path}", task.channel)
        known = found.get(key)
        if known is None:
            found[key] = task
            continue
        groups = tuple(sorted({*known.groups, *task.groups}))
        better = known if known.place is not None else task
        found[key] = replace(better, groups=groups)
    return list(found.values())


def listen_to(task: Listened) -> Heard:
    """The fingerprint of one file, from the cache or from the file; runs in a worker."""
    kept = None
    if task.cache is not None and task.sha256 is not None:
        kept = Path(task.cache) / f"{task.sha256}-{task.channel or 0}.{METHOD}.u32"
        if kept.is_file() and kept.stat().st_size <= MOST_CACHED_BYTES:
            content = kept.read_bytes()
            return fit(np.frombuffer(content[: len(content) // 4 * 4], dtype="<u4"))
    try:
        heard = (
            Heard(None, f"no --root says where {printable(task.root)} lies") if task.place is None else decoded(task)
        )
    except (FileNotFoundError, MissingAudioError):
        return Heard(None, "they are not there")
    except (UnfitAudioError, OSError):
        return Heard(None, "they cannot be decoded")
    if heard.prints is None:
        return heard
    if kept is not None:
        write_bytes(kept, heard.prints.astype("<u4").tobytes())
    return fit(heard.prints)


def decoded(task: Listened) -> Heard:
    """The fingerprint of a file that should be there."""
    assert task.place is not None
    with local_copy(place_of(task.place)) as path:
        if task.sha256 is not None and file_digest(path) != task.sha256:
            return Heard(None, "they have another digest than the manifest says")
        return Heard(fingerprint(path, name=task.path, channel=task.channel))


def fit(prints: NDArray[np.uint32]) -> Heard:
    """A fingerprint, if it is long enough to tell anything."""
    if np.count_nonzero(prints) < FEWEST:
        return Heard(None, f"they are shorter than {SHORTEST_S:.2f} s of sound")
    return Heard(prints)
