"""Packs: everything of a corpus except the audio of speech and noise, in one file to share.

Read in this order: `contents` (what a pack holds), `write`, `read`, `validate`, `view` (corpus, plan or pack, read alike).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from manifests.pack.contents import Pack as Pack
    from manifests.pack.read import open_pack as open_pack
    from manifests.pack.validate import check_pack as check_pack
    from manifests.pack.write import write_pack as write_pack

__getattr__, __dir__ = lazy_names(__name__, __file__)
