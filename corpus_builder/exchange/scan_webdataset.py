"""An index for any existing WebDataset of audio, so that the trainer can stream it and `verify` can check it.

Each audio member is decoded once: its length, rate and, where the coding keeps samples, the digest of its PCM are written down.
The tars stay where they are and as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corpus_builder.audio.decode import HIGHEST_HZ, LOWEST_HZ
from corpus_builder.audio.decode_bytes import DECODING_ERRORS, decode_bytes
from manifests.corpus.external_sample import MAX_ABOUT_BYTES, record_of
from manifests.corpus.shard_index import ABOUT, IndexedSample, Member
from manifests.errors import BadDocumentError, StillroomError, printable
from manifests.io.digest import file_digest
from manifests.io.place import local_copy, place_of
from manifests.io.tar import foreign_members, grouped
from manifests.plan.plan import Refusal

if TYPE_CHECKING:
    import io

    from manifests.io.tar import ForeignMember

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
    """What stands in a tar.

    Attributes:
        rates_hz: The rate of each sample, as its audio says.
        left_out: Audio members that are not taken as copies, by reason.
    """

    size: int = 0
    sha256: str = ""
    samples: list[IndexedSample] = field(default_factory=list)
    rates_hz: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Heard:
    """What an audio member holds."""

    num_samples: int
    rate_hz: int
    channels: int
    silent: bool
    pcm_sha256: str | None


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
            for key, members in grouped(foreign_members(path)):
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
    members: list[ForeignMember],
    seen: set[str],
    *,
    task: ScanTask,
    left_out: Counter[str],
) -> tuple[IndexedSample, int]:
    """One utterance, and its rate.

    Raises:
        UnfitMemberError: If it has no audio that can be used, or its key was seen before.
    """
    if key in seen:
        raise UnfitMemberError(
            "its members do not stand side by side in the tar, or its key stands twice (WebDataset ends a key at its first dot)"
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
    heard = listened(stream, chosen)
    if heard.channels != 1:
        raise UnfitMemberError(f"has {heard.channels} channels; the trainer reads mono")
    if not LOWEST_HZ <= heard.rate_hz <= HIGHEST_HZ:
        raise UnfitMemberError(f"has a sample rate of {heard.rate_hz} Hz")
    if heard.silent:
        raise UnfitMemberError("is digital silence: every sample is zero")
    found["clean"] = indexed(chosen, heard)
    found |= copies(stream, audio, chosen, heard, left_out=left_out)
    sample = IndexedSample(key=key, num_samples=heard.num_samples, members=found)
    check_about(stream, sample, split=task.split, rate_hz=heard.rate_hz)
    return sample, heard.rate_hz


def copies(
    stream: io.BufferedReader, audio: list[ForeignMember], clean: ForeignMember, heard: Heard, *, left_out: Counter[str]
) -> dict[str, Member]:
    """The other audio members that can be copies of the clean one, by name; what cannot is counted."""
    found: dict[str, Member] = {}
    for member in audio:
        if member is clean:
            continue
        name, shown = copy_name(stem_of(member)), member.suffix.lower()
        if stem_of(member) == stem_of(clean):
            left_out[f"{shown}: another coding of the clean member; --clean {shown} takes it instead"] += 1
            continue
        try:
            copy = listened(stream, member)
        except UnfitMemberError:
            left_out[f"{shown}: cannot be decoded"] += 1
            continue
        if (copy.num_samples, copy.rate_hz, copy.channels) != (heard.num_samples, heard.rate_hz, 1):
            left_out[f"{shown}: not as long as the clean member, or of another rate, or not mono"] += 1
        elif name in found:
            left_out[f"{shown}: another member has this name"] += 1
        else:
            found[name] = indexed(member, copy)
    return found


def check_about(stream: io.BufferedReader, sample: IndexedSample, *, split: str, rate_hz: int) -> None:
    """What is said of the utterance can be read; whoever streams the shard would else stop at it.

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
            sample, contents, foreign=True, split=split, sample_rate=rate_hz, where=f"{printable(sample.key)}.json"
        )
    except BadDocumentError as problem:
        raise UnfitMemberError(f"what is said of it cannot be read: {problem}") from None


def clean_member(audio: list[ForeignMember], clean: str | None) -> ForeignMember:
    """Which audio member is the clean speech; of one name in several codings the first, so that a lossless one goes before others.

    Raises:
        UnfitMemberError: If that cannot be told.
    """
    if clean is not None:
        asked = clean.lower().lstrip(".")
        found = [member for member in audio if member.suffix.lower() == asked]
        found += [member for member in audio if stem_of(member) == asked]
        if not found:
            raise UnfitMemberError(f"has no member {printable(clean)!r}, which --clean asks for")
        return found[0]
    stems = {stem_of(member) for member in audio}
    for stem in USUAL_CLEAN if len(stems) > 1 else stems:
        for member in audio:
            if stem_of(member) == stem:
                return member
    names = ", ".join(sorted(printable(member.suffix, limit=40) for member in audio)[:8])
    raise UnfitMemberError(
        f"has several audio members ({names}); say which is the clean one with --clean SUFFIX, or, if these are several utterances, "
        "write them with keys without dots: WebDataset ends a key at its first dot"
    )


def extension(member: ForeignMember) -> str:
    """After the last dot, in small letters."""
    return member.suffix.lower().rpartition(".")[2]


def stem_of(member: ForeignMember) -> str:
    """The suffix without its extension, in small letters; empty for `<key>.flac`."""
    return member.suffix.lower().rpartition(".")[0]


def copy_name(stem: str) -> str:
    """`<condition>-<n>` of a member: as it is if it is one already, else its letters and digits, and `-0`."""
    if COPY_NAME.match(stem) and not stem.startswith(("clean-", "json-")):
        return stem
    letters = re.sub(r"[^a-z0-9_]", "_", stem) or "audio"
    if not re.match(r"[a-z]", letters) or letters in {"clean", "json"}:
        letters = f"copy_{letters}"
    return f"{letters[:32]}-0"


def indexed(member: ForeignMember, heard: Heard) -> Member:
    """The index's entry of an audio member."""
    return Member(offset=member.offset, size=member.size, pcm_sha256=heard.pcm_sha256, suffix=member.suffix)


def listened(stream: io.BufferedReader, member: ForeignMember) -> Heard:
    """Decode a member, a block at a time.

    Raises:
        UnfitMemberError: If it cannot be decoded, is empty or too long.
    """
    if member.size > MAX_MEMBER_BYTES:
        raise UnfitMemberError(
            f"{printable(member.suffix)} has {member.size} bytes; at most {MAX_MEMBER_BYTES} are read"
        )
    stream.seek(member.offset)
    try:
        wave = decode_bytes(stream.read(member.size), most_samples=MAX_SAMPLES + 1, keep_pcm=False)
    except DECODING_ERRORS as problem:
        raise UnfitMemberError(
            f"{printable(member.suffix)} cannot be decoded: {printable(problem, limit=120)}"
        ) from None
    if wave.num_samples > MAX_SAMPLES:
        raise UnfitMemberError(f"{printable(member.suffix)} is longer than {MAX_SAMPLES} samples")
    if not wave.num_samples:
        raise UnfitMemberError(f"{printable(member.suffix)} has no samples")
    return Heard(
        wave.num_samples, wave.rate_hz, wave.num_channels, wave.is_silent, wave.pcm_sha256 if wave.is_exact else None
    )


def shard_name(path: str, taken: set[str]) -> str:
    """A name for a shard from its path below the common folder: letters, digits, `_` and `-`, and new."""
    letters = re.sub(r"[^A-Za-z0-9_-]", "_", path.removesuffix(".tar")).lstrip("_-") or "shard"
    name = letters[-100:].lstrip("_-")
    if name in taken:
        name = f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    taken.add(name)
    return name
