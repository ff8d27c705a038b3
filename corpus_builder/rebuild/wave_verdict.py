"""Compares two renderings of the same planned utterance: each wave is identical, near, or different.

Waves with the same digest of their PCM are identical; of the others the fingerprints give the deviation (docs/fingerprint.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from corpus_builder.audio.decode_bytes import decode_bytes
from corpus_builder.shards.fingerprint import best_lag, blocks_of, deviation, is_near_coded, is_near_fine
from manifests.corpus.fingerprints import sample_prints
from manifests.corpus.layout import prints_name, tar_name
from manifests.corpus.shard_index import IndexedSample, read_index
from manifests.io.place import span
from manifests.plan.references import codecs_of, files_of, references, waves_of_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.shards.fingerprint import Sketch
    from manifests.io.place import Place


Verdict = Literal["identical", "near", "different"]
Files = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class WaveVerdict:
    """The verdict on one wave.

    Attributes:
        copy: `clean`, or the copy's name.
        codec: Of its codec steps, joined by `+` in their order; empty if it has none.
        decoder_differs: A source file of it is the same, but was decoded to another PCM.
        deviation_lsb: Estimated root mean square of the deviation, before any codec, in steps of the 16-bit scale.
        coded_db: Estimated energy of the deviation of the coded wave over its own, in dB.
        why: The reason, unless it is identical.
    """

    split: str
    id: str
    copy: str
    condition: str
    codec: str
    verdict: Verdict
    decoder_differs: bool = False
    deviation_lsb: float | None = None
    coded_db: float | None = None
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain data, unset values left out."""
        shown = {name: getattr(self, name) for name in ("split", "id", "copy", "condition", "codec", "verdict")}
        shown |= {"decoder_differs": True} if self.decoder_differs else {}
        for name in ("deviation_lsb", "coded_db"):
            value = getattr(self, name)
            shown |= {name: round(value, 3)} if value is not None and np.isfinite(value) else {}
        return {name: value for name, value in (shown | {"why": self.why}).items() if value != ""}


@dataclass(frozen=True)
class Indexed:
    """A sample of one corpus or pack: its index entry, fingerprints, and its tar, if there is one."""

    sample: IndexedSample
    prints: dict[str, str]
    tar: Place | None = None

    def pcm(self, name: str) -> NDArray[np.int16] | None:
        """A wave, shape (time,), read by its offset; None if there is no tar."""
        if self.tar is None or not self.tar.exists():
            return None
        member = self.sample.members[name]
        content = span(self.tar, member.offset, member.offset + member.size)
        return decode_bytes(content, most_samples=self.sample.num_samples).pcm


def shard_samples(folder: Path, name: str, *, tars: Place) -> dict[str, Indexed]:
    """The samples of one shard by key; fingerprints are empty where a corpus has none.

    Args:
        folder: Of its files but the tars.
        name: The shard's.
        tars: The corpus with its tars, if there are any.
    """
    has_prints = (folder / prints_name(name)).exists()
    prints = {one.key: one.prints for one in sample_prints(folder, name)} if has_prints else {}
    tar = tars / tar_name(name)
    return {one.key: Indexed(one, prints.get(one.key, {}), tar) for one in read_index(folder, name).samples}


def compared(
    row: dict[str, Any], first: Indexed | None, second: Indexed | None, *, decoded_otherwise: Files = frozenset()
) -> Iterator[WaveVerdict]:
    """The verdict on each wave of one utterance.

    Args:
        row: Its plan row, as plain data.
        first: The reference; None if it refused the utterance.
        second: What is compared with it; None if it refused the utterance.
        decoded_otherwise: Source files that are the same, but were decoded to another PCM.
    """
    if first is None and second is None:
        return
    speech = set(files_of(row["source"]))
    for name, condition, steps in waves_of_row(row):
        files = speech | {one.file for one in references(steps) if one.role != "codec"}
        wave = (str(row["split"]), str(row["id"]), name, condition, codecs_of(steps))
        decoder = bool(files & decoded_otherwise)
        if first is None or name not in first.sample.members:
            yield WaveVerdict(*wave, "different", decoder, why="the first has no such wave")
        elif second is None or name not in second.sample.members:
            yield WaveVerdict(*wave, "different", decoder, why="the second has no such wave: it was refused")
        elif first.sample.members[name].pcm_sha256 == second.sample.members[name].pcm_sha256:
            yield WaveVerdict(*wave, "identical")
        else:
            yield compare_different(wave, first, second, decoder=decoder)


def compare_different(
    wave: tuple[str, str, str, str, str], first: Indexed, second: Indexed, *, decoder: bool
) -> WaveVerdict:
    """The verdict on two waves whose PCM differs."""
    name = wave[2]

    def different(why: str, deviation_lsb: float | None = None) -> WaveVerdict:
        return WaveVerdict(*wave, "different", decoder, deviation_lsb, why=why)

    if first.sample.num_samples != second.sample.num_samples:
        return different(f"{second.sample.num_samples} samples long, expected {first.sample.num_samples}")
    if first.sample.key != second.sample.key or name not in first.prints or name not in second.prints:
        return different("there is no fingerprint to compare")
    stored = blocks_of(first.prints[name], where=f"fingerprint of {wave[1]}")
    own = blocks_of(second.prints[name], where=f"fingerprint of {wave[1]}")
    if len(stored) != len(own):
        return different("one went through a codec, the other did not")
    length = first.sample.num_samples
    fine = deviation(stored[0], own[0], num_samples=length)
    if not is_near_fine(fine):
        place = "before its codec" if len(stored) == 2 else f"level {fine.level_db:+.2f} dB"
        return different(f"off by {fine.rms_lsb:.3g} LSB rms ({fine.relative_db:.1f} dB), {place}", fine.rms_lsb)
    if len(stored) == 1:
        return WaveVerdict(*wave, "near", decoder, fine.rms_lsb, why=deviation_text(fine.rms_lsb))
    return compare_coded(wave, stored[1], own[1], (first, second), decoder=decoder, deviation_lsb=fine.rms_lsb)


def deviation_text(rms_lsb: float) -> str:
    """The deviation of two waves without codec, whose PCM differs, as text."""
    if rms_lsb == 0:
        return "some samples differ, by less than the fingerprint resolves"
    return f"off by {rms_lsb:.2g} LSB rms"


def compare_coded(
    wave: tuple[str, str, str, str, str], stored: Sketch, own: Sketch, samples: tuple[Indexed, Indexed], *,
    decoder: bool, deviation_lsb: float,
) -> WaveVerdict:  # fmt: skip
    """The verdict on two coded waves that were near before the codec."""
    first, second = samples
    coded = deviation(stored, own, num_samples=first.sample.num_samples)
    lag = second_lag(wave[2], stored, own, first, second)
    text = f"coded wave off by {coded.relative_db:.1f} dB, level {coded.level_db:+.2f} dB"
    if lag:
        text = f"shifted by {lag} samples; {text}"
    verdict: Verdict = "near" if is_near_coded(coded) and not lag else "different"
    return WaveVerdict(*wave, verdict, decoder, deviation_lsb, coded.relative_db, why=text)


def second_lag(name: str, stored: Sketch, own: Sketch, first: Indexed, second: Indexed) -> int:
    """By how many samples the second wave is late, by whichever wave is available; 0 if neither is."""
    pcm = second.pcm(name)
    if pcm is not None:
        return best_lag(stored, pcm, first.sample.key)
    pcm = first.pcm(name)
    return -best_lag(own, pcm, first.sample.key) if pcm is not None else 0
