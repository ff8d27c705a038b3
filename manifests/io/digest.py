"""Canonical JSON and SHA-256 digests, by which documents and files are compared.

Canonical JSON here: keys sorted, no white space, UTF-8 unescaped, no NaN or infinity, floats as Python's shortest
round-trip repr. It is RFC 8785 but for the spelling of floats with exponents.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from manifests.io.place import opened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifests.io.place import Place

CHUNK_BYTES = 1 << 20
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(document: Any) -> bytes:
    """A document as canonical JSON, UTF-8 without a newline.

    Args:
        document: A pydantic model or plain JSON data.

    Raises:
        ValueError: If a number is NaN or infinite.
    """
    if isinstance(document, BaseModel):
        document = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ENCODER.encode(document).encode()


def digest(document: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def bytes_digest(content: bytes | memoryview) -> str:
    """SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def chunks_digest(chunks: Iterable[bytes]) -> str:
    """SHA-256 of bytes that come in pieces, 64 hex digits."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()


def file_digest(path: Place) -> str:
    """SHA-256 of a file on a disk or behind a URL, 64 hex digits; reads it once, a megabyte at a time."""
    with opened(path) as stream:
        return chunks_digest(iter(lambda: stream.read(CHUNK_BYTES), b""))
