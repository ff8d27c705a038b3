"""What is at a URL as local files, for commands that read a corpus, plan or pack from end to end: all of it but the tars."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manifests.corpus.layout import KINDS, PACK_KINDS, tar_name
from manifests.errors import MissingFileError
from manifests.io.place import sizes_below

if TYPE_CHECKING:
    from manifests.io.place import Place

TRANSFERS: Final = 8
COPIED: Final = {kind.name: kind.pattern for kind in (*KINDS, *PACK_KINDS) if kind.name != tar_name("<shard>")}


def fetched(place: Place, folder: Path, *, needed: str) -> Path:
    """A corpus, plan or pack as a local path.

    Args:
        place: Where it is; a path is given back as it is.
        folder: New; what is at a URL is copied into it.
        needed: What is needed, for a message.

    Raises:
        MissingFileError: If nothing is there.
    """
    if isinstance(place, Path):
        return place
    folder.mkdir(parents=True)
    if place.is_file():
        return place.fetch(folder / place.name)
    names = [name for name in sizes_below(place) if any(pattern.fullmatch(name) for pattern in COPIED.values())]
    if not names:
        raise MissingFileError(place, needed=needed)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
    with ThreadPoolExecutor(TRANSFERS) as threads:
        for _ in threads.map(lambda name: (place / name).fetch(folder / name), names):
            pass
    return folder
