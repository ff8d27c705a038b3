"""Leaks between splits and corpora: `audit_corpora` (the stage), `collect`, `leaks`, `audio_fingerprint`, `fingerprint_search`."""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.audit.audit_corpora import audit as audit

__getattr__, __dir__ = lazy_names(__name__, __file__)
