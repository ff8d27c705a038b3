"""Looks for leaks between the splits of corpora, packs and plans: by their manifests, then by the sound of their recordings."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from corpus_builder.audio.errors import MissingAudioError, UnfitAudioError
from corpus_builder.audit.audio_fingerprint import METHOD, fingerprint
from corpus_builder.audit.collect import collect_facts
from corpus_builder.audit.fingerprint_search import FEWEST, SHORTEST_S, Library
from corpus_builder.audit.leaks import Audit, Facts, Leaks, Unchecked
from corpus_builder.sources.roots import read_roots
from corpus_builder.workers.pool import mapped_with_progress
from manifests.errors import UsageError, printable
from manifests.io.atomic import write_bytes
from manifests.io.digest import file_digest
from manifests.io.place import local_copy, one_or_several, place_of, places_of, size_of, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from manifests.io.place import Place
    from manifests.recipe.speech import Channel
    from manifests.results.reports import Kind

Sound = Literal["noises", "all", "none"]
SOUND_KINDS: dict[Sound, tuple[Kind, ...]] = {"noises": ("noise",), "all": ("noise", "recording"), "none": ()}
MOST_CACHED_BYTES = 64 << 20  # two days of sound


@dataclass(frozen=True)
class FileToCompare:
    """A file whose sound is compared, and the splits that use it.

    Attributes:
        place: Its path or URL; None if the folder of its root is not known.
        sha256: Its digest by the manifests.
        cache: Folder of cached fingerprints.
        groups: Numbers of the splits.
    """

    corpus: str
    root: str
    path: str
    place: str | None
    sha256: str | None
    channel: Channel | None
    cache: str | None
    kind: Kind
    groups: tuple[int, ...]


@dataclass(frozen=True)
class FileFingerprint:
    """The fingerprint of one file, or the reason why there is none."""

    prints: NDArray[np.uint32] | None
    why: str = ""


def audit(
    corpora: Sequence[str | Place], *, roots: Mapping[str, str | Place] | None = None, sound: Sound = "noises",
    cache: str | Place | None = None, editions: bool = False, workers: int = 1, progress: bool = True,
) -> Audit:  # fmt: skip
    """Look for leaks.

    Args:
        corpora: Corpora, packs or plans, each a path or a URL.
        roots: Folder or URL of each root: by name for all of them, or by `A:name` for one, beside their own `roots.local.json`.
        sound: Which recordings are compared by their sound.
        cache: A folder, or its URL, that keeps fingerprints by the digest of their file.
        editions: Things that splits of the same name in two corpora share are no leaks.
        workers: Number of processes that make fingerprints.
        progress: Show how far it is.

    Raises:
        UsageError: If a root is given for a letter that no corpus has.
        StillroomError: If one of them does not exist, or is damaged.
    """
    letters = {letter_of(number): place_of(corpus) for number, corpus in enumerate(one_or_several(corpora))}
    all_roots = roots_by_letter(letters, places_of(roots))
    with (
        tempfile.TemporaryDirectory(prefix="stillroom-audit-") as folder,
        Facts(Path(folder) / "facts.sqlite") as facts,
    ):
        words = {
            letter: collect_facts(facts, letter, place, Path(folder) / f"pack-{letter}")
            for letter, place in letters.items()
        }
        facts.join()
        leaks = facts.leaks(editions=editions)
        if sound != "none":
            files = distinct(used_files(facts, all_roots, sound=sound, cache=cache))
            library = Library(Path(folder) / "prints.u32")
            add_sound_leaks(facts, leaks, files, library, workers=workers, progress=progress)
        return Audit(words, facts.checked(), leaks, list(facts.unchecked), list(facts.declared))


def letter_of(number: int) -> str:
    """`A` to `Z`, then `AA`."""
    return (letter_of(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def roots_by_letter(letters: Mapping[str, Place], roots: Mapping[str, Place]) -> dict[tuple[str, str], Place]:
    """Folder or URL of each root of each corpus: by its `roots.local.json`, else as given for all, else as given for it alone."""
    found: dict[tuple[str, str], Place] = {}
    for letter, corpus in letters.items():
        if isinstance(corpus, Path) and corpus.is_dir():
            found |= {(letter, name): place for name, place in places_of(read_roots(corpus)).items()}
        found |= {(letter, name): place for name, place in roots.items() if ":" not in name}
    for name, place in roots.items():
        letter, colon, root = name.partition(":")
        if colon and letter not in letters:
            known = ", ".join(letters)
            raise UsageError(
                f"--root {printable(name)}: there is no corpus {printable(letter)}; there are {known}, in order"
            )
        if colon:
            found[letter, root] = place
    return found


def add_sound_leaks(
    facts: Facts, leaks: Leaks, files: Sequence[FileToCompare], library: Library, *, workers: int, progress: bool
) -> None:
    """Add the leaks that the acoustic fingerprints of files show; files that have none are reported as not checked."""
    compared: list[FileToCompare] = []
    missed: Counter[tuple[Kind, str, str]] = Counter()
    results = mapped_with_progress(
        fingerprint_of, files, workers=workers, what="fingerprinting", unit="files", progress=progress
    )
    for file, result in results:
        if result.prints is None:
            missed[file.kind, file.corpus, result.why] += 1
        else:
            library.add(result.prints)
            compared.append(file)
    for (kind, corpus, why), count in sorted(missed.items()):
        total = sum(file.corpus == corpus and file.kind == kind for file in files)
        facts.unchecked.append(Unchecked(kind, corpus, None, count, total, f"files were not compared by sound: {why}"))
    sets = {groups: number for number, groups in enumerate(dict.fromkeys(file.groups for file in compared))}
    for found in library.matches(np.array([sets[file.groups] for file in compared], dtype=np.int64)):
        first, second = compared[found.first], compared[found.second]
        second_name = f"{second.path} ({found.seconds:g} s, {100 * found.wrong:.0f} % of bits differ)"
        kind = "noise" if "noise" in (first.kind, second.kind) else "recording"
        for one in first.groups:
            for other in second.groups:
                names = (first.path, second_name) if one < other else (second_name, first.path)
                ordered = (one, other) if one < other else (other, one)
                leaks.add(kind, "sound", ordered, names, used=True)


def used_files(
    facts: Facts, roots: Mapping[tuple[str, str], Place], *, sound: Sound, cache: str | Place | None
) -> Iterator[FileToCompare]:
    """Every file that is used, for each corpus that uses it."""
    for corpus, root, path, sha256, channel, kind, groups in facts.files(SOUND_KINDS[sound]):
        folder = roots.get((corpus, root))
        place = None if folder is None else str(folder / path)
        cache_folder = None if cache is None else str(cache)
        yield FileToCompare(corpus, root, path, place, sha256, channel, cache_folder, kind, tuple(groups))


def distinct(files: Iterable[FileToCompare]) -> list[FileToCompare]:
    """Each file once: by digest and channel, or by path where no digest is known."""
    found: dict[tuple[str, Channel | None], FileToCompare] = {}
    for file in files:
        key = (file.sha256 or f"{file.corpus}:{file.root}/{file.path}", file.channel)
        known = found.setdefault(key, file)
        better = known if known.place is not None else file
        found[key] = replace(better, groups=tuple(sorted({*known.groups, *file.groups})))
    return list(found.values())


def fingerprint_of(file: FileToCompare) -> FileFingerprint:
    """The fingerprint of one file, from the cache or from the file; runs in a worker."""
    cached = None
    if file.cache is not None and file.sha256 is not None:
        cached = place_of(file.cache) / f"{file.sha256}-{file.channel or 0}.{METHOD}.u32"
        size = size_of(cached)
        if size is not None and size <= MOST_CACHED_BYTES:
            content = span(cached, 0, size)
            return usable(np.frombuffer(content[: len(content) // 4 * 4], dtype="<u4"))
    if file.place is None:
        return FileFingerprint(None, f"the folder of {printable(file.root)} is not known; pass it with --root")
    try:
        with local_copy(place_of(file.place)) as path:
            if file.sha256 is not None and file_digest(path) != file.sha256:
                return FileFingerprint(None, "they have another digest than in the manifest")
            prints = fingerprint(path, name=file.path, channel=file.channel)
    except (FileNotFoundError, MissingAudioError):
        return FileFingerprint(None, "they do not exist")
    except (UnfitAudioError, OSError):
        return FileFingerprint(None, "they cannot be decoded")
    if cached is not None:
        write_bytes(cached, prints.astype("<u4").tobytes())
    return usable(prints)


def usable(prints: NDArray[np.uint32]) -> FileFingerprint:
    """A fingerprint, if it is long enough to be compared."""
    if np.count_nonzero(prints) < FEWEST:
        return FileFingerprint(None, f"they are shorter than {SHORTEST_S:.2f} s of sound")
    return FileFingerprint(prints)
