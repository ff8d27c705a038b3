"""Descriptions of corpora: `summary` (text), `corpus_page` (HTML) with `audio_clips`; `html` and `plots` serve evaluation too."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.pages.corpus_page import write_page as write_page
    from corpus_builder.pages.summary import description as description

__getattr__, __dir__ = lazy_names(__name__, __file__)
