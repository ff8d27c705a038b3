"""The folder layout of a corpus: the name of each file, its rows, and the one list of what may be where.

```
corpus.json                     what the corpus holds (`shard_index.Corpus`); written last, the mark of a sealed corpus
recipe.yaml                     the recipe (`manifests.recipe.recipe`)
plan/plan.json                  the index of the plan (`manifests.plan.plan`); written last, the mark of a finished plan
plan/<shard>.jsonl              one line an utterance; `<shard>` is `<split>-000000`
plan/levels.jsonl  rooms.jsonl  spectra.jsonl
rooms/<bank>.jsonl              what is known of each room response; written after them, the mark of a finished bank
rooms/<bank>-<room>-<position>.npy
shards/<shard>.tar
shards/<shard>.json             the index of a tar (`shard_index.ShardIndex`); written after it, the mark of a finished shard
proof/<shard>.jsonl             fingerprints of a shard's waves (`fingerprints`)
proof/<shard>.sources.jsonl     stretches of source files that were decoded for a shard
utterances/<split>.jsonl        id, text, speaker and language of each utterance, for readers of `croissant.json`; from the plan's rows
refused.jsonl  SHA256SUMS  README.md  croissant.json  provenance.json
roots.local.json                folders of the roots on this machine; never packed, never sent
rebuilt.json  rebuilt.jsonl     how the waves of a rebuilt corpus compare with those of its pack
```

A pack has the same layout without tars, and one `sources.jsonl` for all shards. Names are relative POSIX paths, to be put behind the
folder or URL of a corpus: `corpus / plan_rows_name(shard)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from manifests.errors import BadDocumentError
from manifests.io.atomic import write_bytes, write_text
from manifests.io.digest import bytes_digest, file_digest
from manifests.io.json_yaml import MAX_YAML_BYTES, json_bytes, read_json_lines
from manifests.io.place import sizes_below
from manifests.plan.plan import NoiseLevels, Plan, PlanRow, Refusal, SpeechSpectrum
from manifests.plan.references import references
from manifests.plan.rooms import RoomResponse, parse_room
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from manifests.io.place import Place
    from manifests.io.records import Document
    from manifests.plan.references import Reference
    from manifests.plan.rooms import PlannedRoom, RecordedRoom

CORPUS: Final = "corpus.json"
RECIPE: Final = "recipe.yaml"
REFUSED: Final = "refused.jsonl"
SUMS: Final = "SHA256SUMS"
CARD: Final = "README.md"
CROISSANT: Final = "croissant.json"
PROVENANCE: Final = "provenance.json"
LOCAL_ROOTS: Final = "roots.local.json"
REBUILT: Final = "rebuilt.json"
REBUILT_WAVES: Final = "rebuilt.jsonl"
PACK: Final = "pack.json"
PACKED_SOURCES: Final = "sources.jsonl"

PLAN_FOLDER: Final = "plan"
ROOMS_FOLDER: Final = "rooms"
SHARDS_FOLDER: Final = "shards"
PROOF_FOLDER: Final = "proof"
UTTERANCES_FOLDER: Final = "utterances"
FOLDERS: Final = (PLAN_FOLDER, ROOMS_FOLDER, SHARDS_FOLDER, PROOF_FOLDER, UTTERANCES_FOLDER)

PLAN: Final = "plan/plan.json"
LEVELS: Final = "plan/levels.jsonl"
ROOMS: Final = "plan/rooms.jsonl"
SPECTRA: Final = "plan/spectra.jsonl"


def plan_rows_name(shard: str) -> str:
    """Path of a shard's rows in the plan."""
    return f"plan/{shard}.jsonl"


def tar_name(shard: str) -> str:
    """Path of a shard's tar."""
    return f"shards/{shard}.tar"


def index_name(shard: str) -> str:
    """Path of a shard's index."""
    return f"shards/{shard}.json"


def prints_name(shard: str) -> str:
    """Path of a shard's fingerprints."""
    return f"proof/{shard}.jsonl"


def sources_name(shard: str) -> str:
    """Path of the list of source stretches decoded for a shard."""
    return f"proof/{shard}.sources.jsonl"


def utterances_name(split: str) -> str:
    """Path of the list of a split's utterances."""
    return f"utterances/{split}.jsonl"


def bank_name(bank: str) -> str:
    """Path of the list of a bank's responses."""
    return f"rooms/{bank}.jsonl"


def response_path(response: str) -> str:
    """Path of the samples of a room response, by its name `<bank>-<room>-<position>`."""
    return f"rooms/{response}.npy"


@dataclass(frozen=True)
class Kind:
    """One kind of file that a corpus or a pack may have.

    Attributes:
        name: Its path; `<shard>`, `<bank>`, `<split>` and `<response>` stand for names.
        most_packed_bytes: The most that one such file may hold in a pack; None if a pack has none.
        in_every_pack: No pack is without it.
        is_summed: SHA256SUMS of a corpus lists it.
        is_sent: A corpus at a URL has it; the other is about one machine.
    """

    name: str
    most_packed_bytes: int | None = None
    in_every_pack: bool = False
    is_summed: bool = True
    is_sent: bool = True

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its paths look like."""
        pattern = re.escape(self.name)
        for placeholder, names in NAMES.items():
            pattern = pattern.replace(placeholder, names)
        return re.compile(pattern)


NAMES: Final = {
    "<shard>": r"[A-Za-z][A-Za-z0-9_-]{0,120}-[0-9]{6}",
    "<bank>": r"[A-Za-z][A-Za-z0-9_-]{0,63}",
    "<split>": r"[A-Za-z][A-Za-z0-9_-]{0,63}",
    "<response>": r"[A-Za-z][A-Za-z0-9_-]{0,63}-[0-9]{1,6}-[0-9]{1,6}",
}
DOCUMENT_BYTES: Final = 64 << 20
LINES_BYTES: Final = 512 << 20
SOURCES_BYTES: Final = 4 << 30
RESPONSE_BYTES: Final = 4 * 48_000 * 30 + 4096

KINDS: Final = (
    Kind(RECIPE, MAX_YAML_BYTES, in_every_pack=True),
    Kind(PLAN, DOCUMENT_BYTES, in_every_pack=True),
    Kind(LEVELS, LINES_BYTES, in_every_pack=True),
    Kind(ROOMS, LINES_BYTES, in_every_pack=True),
    Kind(SPECTRA, LINES_BYTES),
    Kind("plan/<shard>.jsonl", LINES_BYTES),
    Kind("rooms/<bank>.jsonl", LINES_BYTES),
    Kind("rooms/<response>.npy", RESPONSE_BYTES),
    Kind("shards/<shard>.tar"),
    Kind("shards/<shard>.json", LINES_BYTES),
    Kind("proof/<shard>.jsonl", LINES_BYTES),
    Kind("proof/<shard>.sources.jsonl"),
    Kind("utterances/<split>.jsonl"),
    Kind(REFUSED, LINES_BYTES),
    Kind(CARD, DOCUMENT_BYTES),
    Kind(CROISSANT, DOCUMENT_BYTES),
    Kind(PROVENANCE, DOCUMENT_BYTES, in_every_pack=True, is_summed=False),
    Kind(SUMS, LINES_BYTES, in_every_pack=True, is_summed=False),
    Kind(CORPUS, DOCUMENT_BYTES, in_every_pack=True),
    Kind(LOCAL_ROOTS, is_summed=False, is_sent=False),
    Kind(REBUILT, is_summed=False),
    Kind(REBUILT_WAVES, is_summed=False),
)
"""What may be in a corpus, and no other file."""

PACK_KINDS: Final = (
    *(kind for kind in KINDS if kind.most_packed_bytes is not None),
    Kind(PACK, DOCUMENT_BYTES, in_every_pack=True),
    Kind(PACKED_SOURCES, SOURCES_BYTES, in_every_pack=True),
)
"""What may be in a pack, and no other file."""

IN_EVERY_PACK: Final = frozenset(kind.name for kind in PACK_KINDS if kind.in_every_pack)
SEAL: Final = (REFUSED, CARD, CROISSANT, PROVENANCE, SUMS, CORPUS)
"""What is written when all shards are finished, in this order."""


def top_names(*, sent: bool = False) -> set[str]:
    """Names directly below the folder of a corpus: its files and its folders.

    Args:
        sent: Only those that a corpus at a URL has.
    """
    return {kind.name.partition("/")[0] for kind in KINDS if kind.is_sent or not sent}


def unsummed_names() -> set[str]:
    """Files that SHA256SUMS of a corpus does not list."""
    return {kind.name for kind in KINDS if not kind.is_summed}


def summed_names(corpus: Path) -> list[str]:
    """Paths of the files of a corpus that SHA256SUMS lists, but for `corpus.json`, which is written after it; hidden ones are temporary."""
    top = [kind.name for kind in KINDS if kind.is_summed and "/" not in kind.name and kind.name != CORPUS]
    below = [path for folder in FOLDERS for path in (corpus / folder).glob("*") if path.is_file()]
    return [*top, *(path.relative_to(corpus).as_posix() for path in below if path.name[0] != ".")]


def packed_kind(path: str) -> Kind | None:
    """The kind of a file of a pack by its path; None if it does not belong in a pack."""
    return next((kind for kind in PACK_KINDS if kind.pattern.fullmatch(path)), None)


def sums_text(sums: Mapping[str, str]) -> str:
    """The text of SHA256SUMS, as `sha256sum -c` reads it."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))


SUM_LINE: Final = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


def listed_sums(content: bytes, *, where: object) -> dict[str, str]:
    """The digests of a SHA256SUMS by file name.

    Raises:
        BadDocumentError: If a line is no digest and name, or a name occurs twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = SUM_LINE.match(line)
        if match is None or match[2] in sums:
            raise BadDocumentError(f"{where}:{number}", "not a digest and a new file name")
        sums[match[2]] = match[1]
    return sums


def write_seal(
    corpus: Path, sealed: Document, *, summed: Iterable[str], known: Mapping[str, str] | None = None
) -> None:
    """Write SHA256SUMS, then `corpus.json`, the mark of a sealed corpus, last of all.

    Args:
        corpus: Everything else is in this folder.
        sealed: What becomes `corpus.json`.
        summed: Paths of the files that SHA256SUMS lists besides.
        known: Digests of files that need not be read again.
    """
    content = json_bytes(sealed.plain())
    sums = dict(known or {})
    sums |= {name: file_digest(corpus / name) for name in summed if name not in sums}
    sums[CORPUS] = bytes_digest(content)
    write_text(corpus / SUMS, sums_text(sums))
    write_bytes(corpus / CORPUS, content)


def called(name: str, where: object) -> str | None:
    """What to call a file in messages: below `where`, or by its path if that is None."""
    return None if where is None else f"{where}: {name}"


def read_recipe(corpus: Place) -> Recipe:
    """The recipe of a corpus or plan."""
    return Recipe.read(corpus / RECIPE, needed="the recipe of a corpus or plan")


def read_plan(corpus: Place) -> Plan:
    """The index of a corpus's plan."""
    return Plan.read(corpus / PLAN, needed="the plan of a corpus")


def planned_digests(plan: Plan) -> dict[str, str]:
    """The digest of each file of a plan but its index, by path."""
    shared = {LEVELS: plan.levels_sha256, ROOMS: plan.rooms_sha256}
    shared |= {SPECTRA: plan.spectra_sha256} if plan.spectra_sha256 is not None else {}
    return shared | {plan_rows_name(file.name): file.sha256 for file in plan.files}


def plan_rows(corpus: Place, shard: str) -> Iterator[PlanRow]:
    """The rows of a shard's plan file."""
    return PlanRow.read_lines(corpus / plan_rows_name(shard), needed="a file of the plan")


def plain_rows(corpus: Place, shard: str, *, where: object = None) -> Iterator[Any]:
    """The rows of a shard's plan file as plain data, unchecked; `where` is what to call the corpus in messages."""
    name = plan_rows_name(shard)
    return read_json_lines(corpus / name, needed="a file of the plan", where=called(name, where))


def noise_levels(corpus: Place, *, where: object = None) -> Iterator[NoiseLevels]:
    """Each noise file of the plan."""
    return NoiseLevels.read_lines(corpus / LEVELS, needed="the noise levels of a plan", where=called(LEVELS, where))


def speech_spectra(corpus: Place) -> Iterator[SpeechSpectrum]:
    """The long-term spectra of the plan, where it has speech-shaped noise."""
    return SpeechSpectrum.read_lines(corpus / SPECTRA, needed="the spectra of a plan, for speech-shaped noise")


def plain_rooms(corpus: Place, *, where: object = None) -> Iterator[Any]:
    """The planned rooms as plain data, unchecked."""
    return read_json_lines(corpus / ROOMS, needed="the rooms of a plan", where=called(ROOMS, where))


def planned_rooms(corpus: Place, *, where: object = None) -> Iterator[PlannedRoom | RecordedRoom]:
    """The planned rooms, simulated and recorded."""
    named = called(ROOMS, where) or corpus / ROOMS
    for number, document in enumerate(plain_rooms(corpus, where=where), 1):
        yield parse_room(document, where=f"{named}:{number}")


def banks(corpus: Place) -> list[str]:
    """The room banks that are finished."""
    names = sizes_below(corpus / ROOMS_FOLDER)
    return [name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl")]


def room_responses(corpus: Place, bank: str) -> Iterator[RoomResponse]:
    """What is known of each response of a finished bank."""
    needed = f"the responses of the room bank {bank!r}, which `stillroom build` makes before the shards"
    return RoomResponse.read_lines(corpus / bank_name(bank), needed=needed)


def refusals(corpus: Place) -> Iterator[Refusal]:
    """What was refused, and why."""
    return Refusal.read_lines(corpus / REFUSED, needed="the list of what was refused")


def every_reference(corpus: Place, plan: Plan) -> Iterator[Reference]:
    """Everything that the rows and rooms of a plan refer to; they need not have been checked."""
    for file in plan.files:
        for row in plain_rows(corpus, file.name):
            yield from references(row)
    for room in plain_rooms(corpus):
        yield from references(room)


def files_needed(corpus: Place, plan: Plan) -> dict[tuple[str, str], str | None]:
    """Root and path of every source file that a plan refers to; of recorded responses also the digest, which is in the plan itself."""
    return {
        one.file: one.part.get("sha256") if one.role == "recorded" else None
        for one in every_reference(corpus, plan)
        if one.is_file
    }


def roots_needed(corpus: Place, plan: Plan) -> set[str]:
    """Names of the roots whose files a plan refers to."""
    return {one.root for one in every_reference(corpus, plan) if one.is_file}
