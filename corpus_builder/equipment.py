"""What renders: versions of the libraries and codecs that touch a sample, and what the processor can do."""

from __future__ import annotations

import platform
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from manifests.provenance import provenance


def codecs() -> dict[str, str]:
    """Versions of the native libraries inside the packages: these decide what a coder gives."""
    found = {
        "libsndfile": str(soundfile.__libsndfile_version__),
        "libsoxr": str(soxr.__libsoxr_version__),
    }
    found |= {name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())}
    return found


def processor() -> dict[str, Any]:
    """The kind of processor and the instructions that numpy uses on it: another set may round otherwise."""
    found = np.show_config(mode="dicts")
    assert isinstance(found, dict)
    simd = found.get("SIMD Extensions", {})
    return {
        "machine": platform.machine(),
        "byte_order": "little" if np.little_endian else "big",
        "features": [*simd.get("baseline", ()), *simd.get("found", ())],
    }


def build_provenance() -> dict[str, Any]:
    """Provenance of a corpus, written once when it is sealed."""
    return provenance(
        codecs=codecs(), processor=processor(), libc="-".join(part for part in platform.libc_ver() if part)
    )
