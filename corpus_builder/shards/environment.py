"""The software and processor that render a corpus: versions of libraries and codecs, digests of compiled files, instruction sets."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import soundfile
import soxr

from manifests.corpus.provenance import provenance
from manifests.io.digest import file_digest

CODERS: Final = (
    "av.libs/libavcodec*", "av.libs/libopus*", "av.libs/libopencore-amrnb*", "_soundfile_data/libsndfile*",
    "fast_mp3_augment/_mp3augment*", "soxr/soxr_ext*.so", "pyroomacoustics/libroom*.so",
)  # fmt: skip


def codecs() -> dict[str, str]:
    """Versions of the native libraries inside the packages: these decide the output of a coder."""
    found = {
        "libsndfile": str(soundfile.__libsndfile_version__),
        "libsoxr": str(soxr.__libsoxr_version__),
    }
    found |= {name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())}
    return found


def builds() -> dict[str, str]:
    """Digests of the compiled files that code, resample and simulate, 16 hex digits each; files outside the packages are left out.

    The packages do not report the versions of libopus, OpenCORE, LAME, libvorbis and libgsm; two labs compare these files when a copy
    is near, and not identical.
    """
    packages = Path(sysconfig.get_path("platlib"))
    return {path.name: file_digest(path)[:16] for pattern in CODERS for path in sorted(packages.glob(pattern))}


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
    """Provenance of a corpus, written when it is sealed."""
    return provenance(
        codecs=codecs(),
        builds=builds(),
        processor=processor(),
        libc="-".join(part for part in platform.libc_ver() if part),
    )
