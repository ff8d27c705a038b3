"""The streaming trainer: shards in, a distilled student out. Part of Stillroom.

Read in this order it is the method: `config` (what is asked), `order` (what comes when), `stream` and `views` (which copies are
heard), `teacher` (read from `folder`, `huggingface` or `fairseq`), `student`, `losses`, `adversary`, `schedules`, `checkpoint`,
`journal`, and `loop`, which is all of it; `export` writes what came of it for others.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.stream import PairStream as PairStream
    from training.stream import pairs as pairs
    from training.teacher import load_teacher as load_teacher

__getattr__, __dir__ = lazy_names(__name__, __file__)
