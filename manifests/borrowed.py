"""Where the tars of a corpus lie: in its own folder, or, of a subset or an index, where `roots.local.json` says.

Documents that are shared hold no absolute path (law 6): `corpus.json` names a root, and what that is on this machine stands in
`roots.local.json`, which is never packed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import MissingFileError, StillroomError, printable
from manifests.files import parse_json
from manifests.plan import LocalRoots
from manifests.storage import Place, Url, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifests.shards import Corpus

ROOTS_FILE = "roots.local.json"


class UnknownRootError(StillroomError, KeyError):
    """A corpus reads shards from a root that this machine does not know."""

    def __init__(self, corpus: object, root: str) -> None:
        self.line = (
            f"{printable(corpus)} reads shards that lie in another folder, the root {printable(root)!r}, and its {ROOTS_FILE} does "
            f'not say where that is here: write {{"schema": "{LocalRoots.SCHEMA}", "roots": {{"{printable(root)}": "/the/folder"}}}}'
        )
        super().__init__(self.line)

    def __str__(self) -> str:
        return self.line  # a KeyError would print its repr


def tar_folder(corpus: Place, sealed: Corpus, *, read: Callable[[str], bytes]) -> Place:
    """The folder or URL that `ShardEntry.tar_path` is relative to.

    Args:
        corpus: The corpus's folder or URL.
        sealed: Its `corpus.json`.
        read: Gives a file of the corpus by its relative name.

    Raises:
        UnknownRootError: If this machine does not know the root.
        BadDocumentError: If `roots.local.json` cannot be read.
    """
    if sealed.borrowed is None or sealed.borrowed.root is None:
        return corpus
    root = sealed.borrowed.root
    try:
        content = read(ROOTS_FILE)
    except (FileNotFoundError, MissingFileError):
        raise UnknownRootError(corpus, root) from None
    where = f"{corpus}/{ROOTS_FILE}"
    roots = LocalRoots.parse(parse_json(content, where=where), where=where).roots
    if root not in roots:
        raise UnknownRootError(corpus, root)
    place = place_of(roots[root])
    if isinstance(place, Url) or place.is_absolute():
        return place
    if isinstance(corpus, Url):
        raise UnknownRootError(corpus, root)
    return Path(os.path.normpath(corpus / place))
