"""Chooses utterances of a corpus for its page, and makes a spectrogram and a player of each of their waves."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from corpus_builder.pages.html import data_uri
from manifests.corpus.layout import tar_name
from manifests.corpus.sample import Sample, domain_of
from manifests.corpus.shard_index import read_index
from manifests.errors import BadTarError, printable
from manifests.io.place import span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from manifests.io.place import Place
    from manifests.plan.plan import PlanRow
    from manifests.plan.steps import PlannedStep

WINDOW_S, HOP_S = 0.032, 0.008
RANGE_DB = 80.0
MOST_SECONDS = 12.0
MOST_COLUMNS = 700
USUAL_S = (1.5, 8.0)
MOST_MEMBER_BYTES = 1 << 28


@dataclass(frozen=True)
class Candidate:
    """An utterance that may be shown: its key, shard, the domains of its copies, and its position in the order."""

    key: str
    shard: str
    seconds: float
    domains: frozenset[str]
    position: bytes


def candidate(row: PlanRow, *, shard: str, rate_hz: int) -> Candidate:
    """A candidate from a plan row; its position in the order is a hash of its id."""
    domains = frozenset(token for copy in row.copies for token in domain_of(copy.steps).split("+"))
    position = hashlib.sha256(row.id.encode("utf-8", "surrogatepass")).digest()
    return Candidate(row.key, shard, row.num_samples / rate_hz, domains, position)


def chosen(candidates: Iterable[Candidate], *, most: int, pool: int = 2000) -> list[Candidate]:
    """A few utterances with as many domains as possible, those of usual length first.

    Args:
        candidates: Of all splits.
        most: How many.
        pool: The greedy choice is made among so many, the first by hash.
    """
    shortest, longest = USUAL_S
    ranked = sorted(candidates, key=lambda one: (not shortest <= one.seconds <= longest, one.position))[:pool]
    picked: list[Candidate] = []
    covered: set[str] = set()
    while ranked and len(picked) < most:
        best = max(range(len(ranked)), key=lambda at: (len(ranked[at].domains - covered), -at))
        covered |= ranked[best].domains
        picked.append(ranked.pop(best))
    return picked


def step_line(step: PlannedStep) -> str:
    """A planned step in one line: its kind and its parameters."""
    found = step.model_dump(mode="json", by_alias=True, exclude_none=True)
    kind = found.pop("kind")
    return f"{kind}: " + ", ".join(f"{name} {value_text(value)}" for name, value in found.items())


def value_text(value: Any) -> str:
    """A parameter as text."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(value_text(one) for one in value)
    if isinstance(value, dict):
        named = value.get("id") or value.get("recording") or value.get("path")
        return (
            printable(named, limit=80)
            if named is not None
            else "; ".join(f"{k} {value_text(v)}" for k, v in value.items())
        )
    return printable(value, limit=120)


def decibels(wave: NDArray[np.float32], *, rate_hz: int) -> NDArray[np.float32]:
    """Power spectrogram in dB, shape (bin, window); bins from 0 Hz to half the rate."""
    size, hop = max(16, round(WINDOW_S * rate_hz)), max(1, round(HOP_S * rate_hz))
    padded = np.pad(wave, (size // 2, size // 2 + hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    if len(windows) > MOST_COLUMNS:
        windows = windows[np.linspace(0, len(windows) - 1, MOST_COLUMNS).astype(int)]
    spectrum = np.fft.rfft(windows * np.hanning(size).astype(np.float32), axis=1)
    return np.asarray(10 * np.log10(np.abs(spectrum.T) ** 2 + 1e-12), dtype=np.float32)


def picture(spectrogram_db: NDArray[np.float32], *, top_db: float) -> str:
    """A spectrogram as a PNG in a `data:` URI; `top_db` and all above is brightest."""
    import matplotlib as mpl
    from PIL import Image

    levels = np.clip((spectrogram_db[::-1] - top_db) / RANGE_DB + 1, 0, 1)
    image = Image.fromarray(np.rint(255 * levels).astype(np.uint8), mode="P")
    image.putpalette(np.rint(255 * mpl.colormaps["magma"](range(256))[:, :3]).astype(np.uint8).tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return data_uri(stream.getvalue(), kind="image/png")


def waves_of(corpus: Place, shard: str, key: str) -> Iterator[tuple[str, bytes]]:
    """Members of one sample by suffix, `json` first; none if it was refused.

    Raises:
        BadTarError: If a member is larger than any of a sample, by the index.
    """
    index, path = read_index(corpus, shard), corpus / tar_name(shard)
    for sample in index.samples:
        if sample.key != key:
            continue
        for suffix, member in sorted(sample.members.items(), key=lambda item: (item[0] != "json", item[1].offset)):
            if member.size > MOST_MEMBER_BYTES:
                raise BadTarError(
                    path,
                    f"{printable(key)}.{printable(suffix)} has {member.size} bytes by its index, at most {MOST_MEMBER_BYTES} are read",
                )
            yield suffix, span(path, member.offset, member.offset + member.size)


def shown_utterance(corpus: Place, one: Candidate) -> tuple[dict[str, Any], list[float]] | None:
    """One utterance for the page, and the level of each of its waves in dBFS; None if the shard does not have it.

    Raises:
        BadTarError: If a member is damaged.
    """
    members = dict(waves_of(corpus, one.shard, one.key))
    if not members:
        return None
    where = corpus / tar_name(one.shard)
    try:
        sample = Sample.parse_text(members.pop("json"), where=where)
        rate_hz = sample.sample_rate
        cut = round(MOST_SECONDS * rate_hz)
        decoded = {name: beginning(content, most=cut) for name, content in members.items()}
    except (KeyError, ValueError, RuntimeError) as problem:  # soundfile's errors are RuntimeErrors
        raise BadTarError(
            where, f"{printable(one.key)}: {printable(problem)}; `stillroom verify` reports details"
        ) from None
    if "clean" not in decoded:
        raise BadTarError(where, f"{printable(one.key)}: has no clean member; `stillroom verify` reports details")
    pictures = {name: decibels(wave, rate_hz=rate_hz) for name, (wave, _) in decoded.items()}
    top_db = max(float(spectrogram.max()) for spectrogram in pictures.values())
    copies = {copy.name: copy for copy in sample.copies}
    clips, levels = [], []
    for name in ["clean", *sorted(copies)]:
        if name not in decoded:
            continue
        (wave, num_samples), content = decoded[name], members[name]
        level = 10 * np.log10(np.var(wave, dtype=np.float64) + 1e-20)
        levels.append(float(level))
        facts = [f"{level:.1f} dBFS"]
        if name in copies:
            facts += [copies[name].domain] + ([f"gain {copies[name].gain_db:g} dB"] if copies[name].gain_db else [])
        if num_samples > cut:
            content = flac(wave, rate_hz=rate_hz)
            facts.append(f"the first {MOST_SECONDS:g} s of {num_samples / rate_hz:.1f} s")
        clips.append(
            {
                "name": name,
                "spectrogram": picture(pictures[name], top_db=top_db),
                "top_khz": f"{rate_hz / 2000:g}",
                "seconds": f"{wave.size / rate_hz:.2f}",
                "audio": data_uri(content, kind="audio/flac"),
                "facts": printable(" · ".join(facts)),
                "steps": [step_line(step) for step in copies[name].steps] if name in copies else [],
            }
        )
    labels = [sample.speaker and f"speaker {sample.speaker}", sample.language and f"language {sample.language}"]
    facts = [f"split {sample.split}", *filter(None, labels), f"{sample.source.root}: {sample.source.path}"]
    return {
        "id": printable(sample.id),
        "text": printable(sample.text, limit=1000) if sample.text else "",
        "facts": printable(" · ".join(facts), limit=600),
        "clips": clips,
    }, levels


def beginning(content: bytes, *, most: int) -> tuple[NDArray[np.float32], int]:
    """The first samples of a member, mono, and its length; a few bytes of FLAC can stand for hours.

    Raises:
        ValueError: If it has no samples, or several channels.
    """
    with soundfile.SoundFile(io.BytesIO(content)) as member:
        wave: NDArray[np.float32] = member.read(min(member.frames, most), dtype="float32")
        if wave.ndim != 1 or not wave.size:
            raise ValueError("expected one channel with samples")
        return wave, member.frames


def flac(wave: NDArray[np.float32], *, rate_hz: int) -> bytes:
    """A wave as 16-bit FLAC."""
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate_hz, format="FLAC", subtype="PCM_16")
    return stream.getvalue()
