"""Reads a tar of any WebDataset of audio for its index, so that the trainer can stream it and `verify` can check it.

Each audio member is decoded once: its length, rate and, if the coding is lossless, the digest of its PCM are written to the index.
The tars are not changed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corpus_builder.audio.decode import header_of, sound_of
from corpus_builder.audio.decode_bytes import DECODING_ERRORS, decode_bytes
from corpus_builder.audio.errors import UnfitAudioError
from corpus_builder.audio.levels import SILENT_SOURCE_DBFS
from manifests.corpus.external_sample import MAX_ABOUT_BYTES, record_of
from manifests.corpus.shard_index import ABOUT, IndexedSample, Member
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.digest import file_digest
from manifests.io.place import local_copy, place_of
from manifests.io.tar import external_members, grouped
from manifests.plan.plan import Refusal

if TYPE_CHECKING:
    import io

    from corpus_builder.audio.decode_bytes import DecodedBytes
    from manifests.io.tar import ExternalMember

AUDIO = ("flac", "wav", "ogg", "opus", "mp3")  # of one name in several codings the first is taken
USUAL_CLEAN = ("", "clean", "speech", "audio")
COPY_NAME = re.compile(r"^[a-z][a-z0-9_]{0,31}-[0-9]{1,4}$")
MAX_SAMPLES = 1 << 31
MAX_MEMBER_BYTES = 1 << 30


@dataclass(frozen=True)
class ScanTask:
    """One tar to be read.

    Attributes:
        tar: Its path or URL.
        clean: Suffix of the clean member, such as `clean.flac`; None to choose by the usual names.
    """

    tar: str
    name: str
    split: str
    clean: str | None


@dataclass
class Scan:
    """The samples of a tar.

    Attributes:
        rates_hz: The sample rate of each, by its audio.
        left_out: Audio members that are no copies, by reason.
    """

    size: int = 0
    sha256: str = ""
    samples: list[IndexedSample] = field(default_factory=list)
    rates_hz: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class UnfitMemberError(StillroomError, ValueError):
    """An utterance that cannot be indexed, for a reason that follows from the tar alone."""


def scan_shard(task: ScanTask) -> Scan:
    """Read a tar from end to end; runs in a worker.

    Raises:
        BadTarError: If it is no plain tar of plain files.
    """
    scan = Scan()
    seen: set[str] = set()
    with local_copy(place_of(task.tar)) as path:
        scan.size, scan.sha256 = path.stat().st_size, file_digest(path)
        with path.open("rb") as stream:
            for key, members in grouped(external_members(path)):
                try:
                    sample, rate_hz = scanned(stream, key, members, seen, task=task, left_out=scan.left_out)
                except UnfitMemberError as problem:
                    scan.refused.append(Refusal(split=task.split, id=key, reason=str(problem)))
                else:
                    scan.samples.append(sample)
                    scan.rates_hz.append(rate_hz)
                seen.add(key)
    return scan


def scanned(
    stream: io.BufferedReader,
    key: str,
    members: list[ExternalMember],
    seen: set[str],
    *,
    task: ScanTask,
    left_out: Counter[str],
) -> tuple[IndexedSample, int]:
    """One utterance, and its rate.

    Raises:
        UnfitMemberError: If it has no usable audio, or its key occurred before.
    """
    if key in seen:
        raise UnfitMemberError(
            "its members are not side by side in the tar, or its key occurs twice (WebDataset ends a key at its first dot)"
        )
    audio = sorted(
        (member for member in members if extension(member) in AUDIO), key=lambda one: AUDIO.index(extension(one))
    )
    if not audio:
        raise UnfitMemberError(f"has no member that ends in .{', .'.join(AUDIO)}")
    chosen = clean_member(audio, task.clean)
    found: dict[str, Member] = {}
    for member in members:
        if member.suffix in ABOUT and member.size <= MAX_ABOUT_BYTES:
            found[member.suffix] = Member(offset=member.offset, size=member.size, suffix=member.suffix)
        elif member.suffix in ABOUT:
            left_out[f"{member.suffix}: of more than {MAX_ABOUT_BYTES} bytes"] += 1
    clean = decode_member(stream, chosen)
    if clean.num_channels != 1:
        raise UnfitMemberError(f"has {clean.num_channels} channels; the trainer reads mono")
    if clean.is_silent:
        raise UnfitMemberError(f"is silent: under {SILENT_SOURCE_DBFS:g} dBFS without its mean (DC)")
    found["clean"] = indexed(chosen, clean)
    found |= copies(stream, audio, chosen, clean, left_out=left_out)
    sample = IndexedSample(key=key, num_samples=clean.num_samples, members=found)
    check_about(stream, sample, split=task.split, rate_hz=clean.rate_hz)
    return sample, clean.rate_hz


def copies(
    stream: io.BufferedReader,
    audio: list[ExternalMember],
    clean: ExternalMember,
    decoded: DecodedBytes,
    *,
    left_out: Counter[str],
) -> dict[str, Member]:
    """The other audio members that can be copies of the clean one, by name; others are counted."""
    found: dict[str, Member] = {}
    for member in audio:
        if member is clean:
            continue
        name, shown = copy_name(stem_of(member)), member.suffix.lower()
        if stem_of(member) == stem_of(clean):
            left_out[f"{shown}: another coding of the clean member; --clean {shown} selects it instead"] += 1
            continue
        try:
            copy = decode_member(stream, member)
        except UnfitMemberError:
            left_out[f"{shown}: cannot be decoded"] += 1
            continue
        if (copy.num_samples, copy.rate_hz, copy.num_channels) != (decoded.num_samples, decoded.rate_hz, 1):
            left_out[f"{shown}: not as long as the clean member, or of another rate, or not mono"] += 1
        elif name in found:
            left_out[f"{shown}: another member has this name"] += 1
        else:
            found[name] = indexed(member, copy)
    return found


def check_about(stream: io.BufferedReader, sample: IndexedSample, *, split: str, rate_hz: int) -> None:
    """Check that the record of the utterance can be read; an error would stop those who stream the shard.

    Raises:
        UnfitMemberError: If not.
    """
    contents: dict[str, bytes] = {}
    for name in ABOUT:
        if name in sample.members:
            stream.seek(sample.members[name].offset)
            contents[name] = stream.read(sample.members[name].size)
    try:
        record_of(
            sample, contents, external=True, split=split, sample_rate=rate_hz, where=f"{printable(sample.key)}.json"
        )
    except BadDocumentError as problem:
        raise UnfitMemberError(f"its text members cannot be read: {problem}") from None


def clean_member(audio: list[ExternalMember], clean: str | None) -> ExternalMember:
    """The audio member that is the clean speech; of one name in several codings the first of `AUDIO`, as the first are lossless.

    Raises:
        UnfitMemberError: If it cannot be determined.
    """
    if clean is not None:
        wanted = clean.lower().lstrip(".")
        found = [member for member in audio if member.suffix.lower() == wanted]
        found += [member for member in audio if stem_of(member) == wanted]
        if not found:
            raise UnfitMemberError(f"has no member {printable(clean)!r}, which --clean names")
        return found[0]
    stems = {stem_of(member) for member in audio}
    for stem in USUAL_CLEAN if len(stems) > 1 else stems:
        for member in audio:
            if stem_of(member) == stem:
                return member
    names = ", ".join(sorted(printable(member.suffix, limit=40) for member in audio)[:8])
    raise UnfitMemberError(
        f"has several audio members ({names}); name the clean one with --clean SUFFIX, or, if these are several utterances, "
        "write them with keys without dots: WebDataset ends a key at its first dot"
    )


def extension(member: ExternalMember) -> str:
    """The suffix after its last dot, in lower case."""
    return member.suffix.lower().rpartition(".")[2]


def stem_of(member: ExternalMember) -> str:
    """The suffix without its extension, in lower case; empty for `<key>.flac`."""
    return member.suffix.lower().rpartition(".")[0]


def copy_name(stem: str) -> str:
    """`<condition>-<n>` of a member: as it is if it is one already, else its letters and digits, and `-0`."""
    if COPY_NAME.match(stem) and not stem.startswith(("clean-", "json-")):
        return stem
    letters = re.sub(r"[^a-z0-9_]", "_", stem) or "audio"
    if not re.match(r"[a-z]", letters) or letters in {"clean", "json"}:
        letters = f"copy_{letters}"
    return f"{letters[:32]}-0"


def indexed(member: ExternalMember, decoded: DecodedBytes) -> Member:
    """An audio member as the index has it; that of a lossy coding has no digest."""
    pcm_sha256 = decoded.pcm_sha256 if decoded.is_exact else None
    return Member(offset=member.offset, size=member.size, pcm_sha256=pcm_sha256, suffix=member.suffix)


def decode_member(stream: io.BufferedReader, member: ExternalMember) -> DecodedBytes:
    """Decode a member, a block at a time, after the checks that a source file of a build passes.

    Raises:
        UnfitMemberError: If it cannot be decoded, is empty or too long, cut off, holds samples that are no numbers or beyond full scale,
            or if libsndfile, by which a shard is read in training, does not read all of it.
    """
    shown = printable(member.suffix)
    if member.size > MAX_MEMBER_BYTES:
        raise UnfitMemberError(f"{shown} has {member.size} bytes; at most {MAX_MEMBER_BYTES} are read")
    stream.seek(member.offset)
    content = stream.read(member.size)
    try:
        with sound_of(content, name=member.suffix) as sound:
            header = header_of(sound, name=member.suffix)
        if header.num_frames > MAX_SAMPLES:
            raise UnfitMemberError(f"{shown} is longer than {MAX_SAMPLES} samples")
        wave = decode_bytes(content, most_samples=header.num_frames + 1, keep_pcm=False)
    except UnfitAudioError as problem:
        raise UnfitMemberError(str(problem)) from None
    except DECODING_ERRORS as problem:
        reason = getattr(problem, "error_string", problem)
        raise UnfitMemberError(f"{shown} cannot be decoded: {printable(reason, limit=120)}") from None
    if not wave.is_finite:
        raise UnfitMemberError(f"{shown} holds NaN or infinite samples")
    if wave.peak > 1.0:
        raise UnfitMemberError(f"{shown} has a peak of {wave.peak:.3g}, beyond full scale (1); write it softer")
    if (wave.header_samples, wave.num_samples) != (header.num_frames, header.num_frames):
        read = min(wave.header_samples, wave.num_samples) if wave.num_samples else 0
        raise UnfitMemberError(
            f"{shown} has {header.num_frames} samples, of which libsndfile, by which shards are read in training, finds "
            f"{wave.header_samples} and reads {read}: its header does not tell its length; write it anew"
        )
    return wave


def shard_name(path: str, used: set[str]) -> str:
    """A name for a shard from its path below the common folder: letters, digits, `_` and `-`, not used before."""
    letters = re.sub(r"[^A-Za-z0-9_-]", "_", path.removesuffix(".tar")).lstrip("_-") or "shard"
    name = letters[-100:].lstrip("_-")
    if name in used:
        name = f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    used.add(name)
    return name
