"""`stillroom index`: an index of the tars of any WebDataset of audio, as a linked corpus."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.exchange.scan_webdataset import Scan, ScanTask, scan_shard, shard_name
from corpus_builder.workers.pool import mapped_with_progress
from manifests.corpus.external_sample import ROOT
from manifests.corpus.layout import CORPUS, SHARDS_FOLDER, index_name
from manifests.corpus.linked import seal_linked
from manifests.corpus.shard_index import Corpus, Linked, ShardEntry, ShardIndex, copies_of, entry_of, totals_of
from manifests.errors import MissingFileError, UsageError, printable
from manifests.io.atomic import refuse_linked_folders
from manifests.io.digest import digest
from manifests.io.json_yaml import read_json
from manifests.io.place import Place, place_of
from manifests.io.records import NAME_PATTERN
from manifests.io.url import Url
from manifests.plan.plan import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Indexed:
    """The result of indexing.

    Attributes:
        folder: Of the corpus.
        left_out: Audio members that are no copies, by reason.
        refused: Utterances that are in no index, and why.
    """

    folder: Path
    corpus: Corpus
    left_out: Counter[str]
    refused: list[Refusal]


class NothingToIndexError(UsageError):
    """No tar, or no utterance in the tars."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; expected tars of WebDataset samples with members .flac, .wav, .ogg, .opus or .mp3")


def tars_of(arguments: Sequence[str], *, split: str) -> list[tuple[str, Place]]:
    """Split and path or URL of every named tar: files, folders, patterns, each with or without `SPLIT=`.

    Raises:
        NothingToIndexError: If an argument names no tar.
        UsageError: If a tar is named twice or the name of a split is malformed.
    """
    found: list[tuple[str, Place]] = []
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        prefixed = bool(equals) and re.match(NAME_PATTERN, name) is not None and not Path(argument).exists()
        places = tars_at(rest if prefixed else argument)
        if not places:
            raise NothingToIndexError(f"{printable(argument)}: no .tar found")
        found += [(name if prefixed else split, place) for place in places]
    twice = [str(place) for place, count in Counter(str(place) for _, place in found).items() if count > 1]
    if twice:
        raise UsageError(f"{printable(twice[0])} is named twice")
    if not all(re.match(NAME_PATTERN, name) for name, _ in found):
        raise UsageError(f"--split: expected a name of letters, digits, - and _, got {printable(split)!r}")
    return found


def tars_at(text: str) -> list[Place]:
    """The tars that a path, pattern or URL names, sorted; paths are absolute."""
    place = place_of(text)
    if isinstance(place, Url):
        return [place]
    absolute = Path(os.path.abspath(place.expanduser()))  # noqa: PTH100 (links stay as they are)
    if absolute.is_dir():
        return [*sorted(path for path in absolute.glob("*.tar") if path.is_file())]
    if absolute.is_file():
        return [absolute]
    if any(sign in text for sign in "*?["):
        pattern = absolute.relative_to(absolute.anchor).as_posix()
        return [*sorted(path for path in Path(absolute.anchor).glob(pattern) if path.is_file())]
    raise MissingFileError(text, needed="a tar, a folder of tars or a pattern such as 'shards/*.tar'")


def common_folder(places: Sequence[Place]) -> Place:
    """The deepest folder or URL that all tars are below.

    Raises:
        UsageError: If there is none: some are on a disk, some at URLs.
    """
    parents = [str(place.parent) for place in places]
    urls = [isinstance(place, Url) for place in places]
    if not any(urls):
        return Path(os.path.commonpath(parents))
    schemes = {parent.partition("://")[0] for parent in parents}
    folder = posixpath.commonpath([parent.partition("://")[2] for parent in parents]) if all(urls) else ""
    if len(schemes) != 1 or not folder:
        raise UsageError("the tars are in different stores; index those of one disk or bucket at a time")
    return Url(f"{schemes.pop()}://{folder}")


def index_shards(
    arguments: Sequence[str],
    *,
    out: str | Path | None = None,
    split: str = "train",
    clean: str | None = None,
    name: str | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Indexed:
    """Index tars, beside them or in another folder.

    Args:
        arguments: Tars, folders of tars, patterns, URLs of tars; `SPLIT=` before one names its split.
        out: Where the corpus is written; None for the folder that all tars are below.
        split: Of tars without a prefix.
        clean: Suffix of the clean member; None to choose by the usual names.
        name: Of the corpus; the folder's name by default.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        NothingToIndexError: If there is nothing to index.
        UsageError: If the folder holds another corpus.
    """
    tars = tars_of(arguments, split=split)
    root = common_folder([place for _, place in tars])
    if out is None and isinstance(root, Url):
        raise UsageError("the tars are at URLs: name the folder of the index on a disk with --out")
    folder = root if out is None else Path(out)
    assert isinstance(folder, Path)
    refuse_other_corpus(folder)
    refuse_linked_folders(folder, SHARDS_FOLDER)
    paths = [str(place).removeprefix(str(root)).lstrip("/") for _, place in tars]
    used_names: set[str] = set()
    tasks = [
        ScanTask(str(place), shard_name(path, used_names), part, clean)
        for (part, place), path in zip(tars, paths, strict=True)
    ]
    results = mapped_with_progress(
        scan_shard, tasks, workers=workers, what="indexing", unit="shards", progress=progress
    )
    scans = [scan for _, scan in results]
    rates = Counter(rate_hz for scan in scans for rate_hz in scan.rates_hz)
    if not rates:
        reasons = [one.reason for scan in scans for one in scan.refused]
        raise NothingToIndexError(f"no utterance can be used ({reasons[0] if reasons else 'the tars are empty'})")
    rate_hz = rates.most_common(1)[0][0]
    how = digest({"index": "webdataset", "clean": clean, "sample_rate": rate_hz})
    indexes = [index_of(task, scan, rate_hz=rate_hz, how=how) for task, scan in zip(tasks, scans, strict=True)]
    borrowed = Linked(root=None if out is None else ROOT, foreign=True)
    sealed = sealed_index(indexes, paths, name=name or usual_name(root), how=how, borrowed=borrowed)
    for index in indexes:
        index.write(folder / index_name(index.name))
    refused = [one for index in indexes for one in index.refused]
    seal_linked(folder, sealed, refused=refused, root=root)
    left_out: Counter[str] = sum((scan.left_out for scan in scans), Counter())
    return Indexed(folder, sealed, left_out, refused)


def refuse_other_corpus(folder: Path) -> None:
    """An index may be made again; no other corpus is overwritten.

    Raises:
        UsageError: If the folder holds a corpus that is no index.
    """
    if not (folder / CORPUS).exists():
        return
    found = read_json(folder / CORPUS, needed="the corpus of this folder")
    borrowed = found.get("borrowed") if isinstance(found, dict) else None
    if not (isinstance(borrowed, dict) and borrowed.get("foreign") and not borrowed.get("of_sha256")):
        raise UsageError(f"{printable(folder)} has a corpus already; write the index to another folder with --out")


def usual_name(root: Place) -> str:
    """A corpus's name from its folder."""
    letters = re.sub(r"[^A-Za-z0-9_-]", "_", root.name)[:64]
    return letters if re.match(NAME_PATTERN, letters) else "indexed"


def index_of(task: ScanTask, scan: Scan, *, rate_hz: int, how: str) -> ShardIndex:
    """The index of a shard; utterances of another rate than most have are refused."""
    chosen = [sample for sample, found in zip(scan.samples, scan.rates_hz, strict=True) if found == rate_hz]
    other = [
        Refusal(split=task.split, id=sample.key, reason=f"has a sample rate of {found} Hz; most have {rate_hz}")
        for sample, found in zip(scan.samples, scan.rates_hz, strict=True)
        if found != rate_hz
    ]
    return ShardIndex.model_validate(
        {
            "schema": ShardIndex.SCHEMA,
            "name": task.name,
            "split": task.split,
            "sample_rate": rate_hz,
            "bytes": scan.size,
            "sha256": scan.sha256,
            "plan_sha256": how,
            "samples": tuple(chosen),
            "refused": (*scan.refused, *other),
        }
    )


def sealed_index(
    indexes: Sequence[ShardIndex], paths: Sequence[str], *, name: str, how: str, borrowed: Linked
) -> Corpus:
    """`corpus.json` of indexed shards."""
    splits: dict[str, list[ShardEntry]] = {}
    for index, path in zip(indexes, paths, strict=True):
        splits.setdefault(index.split, []).append(entry_of(index, tar=path))
    refused = Counter(one.split for index in indexes for one in index.refused)
    document = {
        "schema": Corpus.SCHEMA,
        "name": name,
        "recipe_sha256": how,
        "plan_sha256": digest([index.sha256 for index in indexes]),
        "sample_rate": indexes[0].sample_rate,
        "splits": {
            split: [entry.model_dump(exclude_none=True) for entry in entries] for split, entries in splits.items()
        },
        "copies": {split: copies_of(index for index in indexes if index.split == split) for split in splits},
        "totals": totals_of(splits),
        "refused": dict(refused),
        "borrowed": borrowed.model_dump(mode="json", exclude_none=True),
    }
    return Corpus.parse(document, where=CORPUS)
