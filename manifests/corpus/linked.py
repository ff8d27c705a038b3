"""The seal of a corpus over the shards of another one: refusals, where those shards are, and `corpus.json`, written last."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manifests.corpus.layout import LOCAL_ROOTS, REFUSED, index_name, write_seal
from manifests.io.digest import canonical_json
from manifests.io.json_yaml import write_json_lines
from manifests.io.url import Url
from manifests.plan.plan import LocalRoots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manifests.corpus.shard_index import Corpus
    from manifests.io.place import Place
    from manifests.plan.plan import Refusal


def seal_linked(folder: Path, sealed: Corpus, *, refused: Sequence[Refusal], root: Place | None) -> None:
    """Write refusals, the local root and the seal of a linked corpus.

    Args:
        folder: Where the corpus is written; its indexes are there.
        sealed: What becomes `corpus.json`.
        refused: Utterances that are in no index, and why.
        root: Folder or URL of the tars; None if they are below the folder itself.
    """
    write_json_lines(folder / REFUSED, (canonical_json(one) for one in refused))
    if root is not None and sealed.borrowed is not None and sealed.borrowed.root is not None:
        place = str(root) if isinstance(root, Url) else os.path.abspath(root)  # noqa: PTH100 (links stay as they are)
        LocalRoots.parse(
            {"schema": LocalRoots.SCHEMA, "roots": {sealed.borrowed.root: place}}, where=folder / LOCAL_ROOTS
        ).write(folder / LOCAL_ROOTS)
    indexes = (index_name(entry.name) for entries in sealed.splits.values() for entry in entries)
    write_seal(folder, sealed, summed=[REFUSED, *indexes])
