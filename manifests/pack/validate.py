"""Checks that the parts of an unpacked pack fit together: every digest, every name, every offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from manifests.corpus.fingerprints import SamplePrints
from manifests.corpus.layout import (
    CORPUS,
    LEVELS,
    PACK,
    PLAN,
    PROVENANCE,
    RECIPE,
    ROOMS,
    SUMS,
    bank_name,
    index_name,
    listed_sums,
    noise_levels,
    plain_rows,
    plan_rows_name,
    planned_digests,
    planned_rooms,
    prints_name,
    response_path,
)
from manifests.corpus.sample import MEMBER_PATTERN, sample_key
from manifests.corpus.shard_index import Corpus, IndexedSample, ShardIndex
from manifests.errors import BadDocumentError, DigestMismatchError, printable
from manifests.io.digest import digest
from manifests.io.json_yaml import parse_json, read_bytes, read_json_lines
from manifests.io.records import Document
from manifests.pack.contents import OpenedPack, Pack
from manifests.plan.plan import Plan, PlanRow
from manifests.plan.references import files_of
from manifests.plan.rooms import RESPONSE_PATTERN, RoomResponse
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.corpus.shard_index import ShardEntry
    from manifests.plan.plan import PlanFile

Of = TypeVar("Of", bound=Document)
FINGERPRINT: Final = "stillroom/fingerprint/1"


def check_sums(folder: Path, found: dict[str, str], *, where: object) -> None:
    """Check that SHA256SUMS lists every member and no other, and that each has its digest.

    Raises:
        BadDocumentError: If not.
    """
    sums = listed_sums(read_bytes(folder / SUMS, needed="the digests of a pack"), where=f"{where}: {SUMS}")
    for name in sorted(set(sums) ^ (set(found) - {SUMS})):
        raise BadDocumentError(f"{where}: {printable(name)}", f"is in only one of {SUMS} and the pack")
    for name, expected in sorted(sums.items()):
        if found[name] != expected:
            raise DigestMismatchError(f"{where}: {name}", expected=expected, found=found[name])


def checked(folder: Path, found: dict[str, str], *, where: object) -> OpenedPack:
    """Read the documents of an unpacked pack and check them against each other.

    Raises:
        BadDocumentError: For the first that does not fit.
    """

    def off(name: str, what: str) -> BadDocumentError:
        return BadDocumentError(f"{where}: {name}", what)

    def read(model: type[Of], name: str) -> Of:
        return model.read(folder / name, needed="a part of a pack", where=f"{where}: {name}")

    pack, plan = read(Pack, PACK), read(Plan, PLAN)
    corpus, recipe = read(Corpus, CORPUS), read(Recipe, RECIPE)
    provenance = read_bytes(folder / PROVENANCE, needed="the provenance of a pack")
    parse_json(provenance, where=f"{where}: {PROVENANCE}")
    if pack.corpus_sha256 != found[CORPUS]:
        raise off(CORPUS, "is not the one that pack.json names")
    if digest(plan) != corpus.plan_sha256 or corpus.plan_sha256 != pack.plan_sha256:
        raise off(PLAN, "is not the plan that the corpus was sealed with")
    if not digest(recipe.plain()) == plan.recipe_sha256 == corpus.recipe_sha256 == pack.recipe_sha256:
        raise off(RECIPE, "is not the recipe that the plan was made from")
    if plan.sample_rate != recipe.sample_rate or corpus.sample_rate != recipe.sample_rate:
        raise off(PLAN, "has another sample rate than its recipe")
    names = [file.name for file in plan.files]
    if len(set(names)) != len(names):
        raise off(PLAN, "names a shard twice")
    sealed = {entry.name for entries in corpus.splits.values() for entry in entries}
    if set(names) != sealed:
        raise off(CORPUS, "names other shards than the plan")
    digests = planned_digests(plan)
    for name, expected in digests.items():
        if found.get(name) != expected:
            raise off(name, "is missing, or not what plan.json says")
    allowed = {PLAN, *digests, *map(bank_name, recipe.rooms)}
    allowed |= {name_of(name) for name in names for name_of in (index_name, prints_name)}
    extra = sorted(
        name for name in found
        if "/" in name and not name.endswith(".npy") and name not in allowed
    )  # fmt: skip
    if extra:
        raise off(printable(extra[0]), "belongs to no shard of the plan and no bank of the recipe")
    check_rooms(folder, recipe, found, where=where)
    check_levels(folder, recipe, where=where)
    entries = {entry.name: entry for entries in corpus.splits.values() for entry in entries}
    waves = sum(check_shard(folder, file, recipe, entries[file.name], found, where=where) for file in plan.files)
    opened = OpenedPack(folder, pack, plan, recipe, corpus)
    check_pack(opened, waves, found, where=f"{where}: {PACK}")
    return opened


def check_pack(opened: OpenedPack, waves: int, found: dict[str, str], *, where: object) -> None:
    """Check the counts of `pack.json`.

    Raises:
        BadDocumentError: If one is wrong, if fingerprints are of another kind, or a source breaks its schema.
    """
    pack = opened.pack
    if pack.fingerprint != FINGERPRINT:
        kind = printable(pack.fingerprint, limit=60)
        raise BadDocumentError(
            where, f"its fingerprints are {kind!r}, this Stillroom reads {FINGERPRINT}; install a newer one"
        )
    counts = {
        "samples": sum(entry.samples for entries in opened.corpus.splits.values() for entry in entries),
        "waves": waves,
        "responses": sum(name.endswith(".npy") for name in found),
        "sources": sum(1 for _ in opened.sources()),
    }
    for name, count in counts.items():
        if getattr(pack, name) != count:
            raise BadDocumentError(where, f"says {getattr(pack, name)} {name}, the pack has {count}")


def check_levels(folder: Path, recipe: Recipe, *, where: object) -> None:
    """Check that each noise file is below a root of the recipe.

    Raises:
        BadDocumentError: If not, or if a row breaks its schema.
    """
    roots = recipe.source_roots()
    for number, level in enumerate(noise_levels(folder, where=where), 1):
        if level.root not in roots:
            raise BadDocumentError(f"{where}: {LEVELS}:{number}", "names a root that is not in the recipe")


def check_rooms(folder: Path, recipe: Recipe, found: dict[str, str], *, where: object) -> None:
    """Check that each row of a bank is named by its own parts, and that each response has a row.

    Raises:
        BadDocumentError: If not.
    """
    known: set[str] = set()
    for number, room in enumerate(planned_rooms(folder, where=where), 1):
        if room.bank not in recipe.rooms or bank_name(room.bank) not in found:
            place = f"{where}: {ROOMS}:{number}"
            raise BadDocumentError(place, f"is a room of bank {room.bank!r}, which is not in the recipe or the pack")
    for bank in recipe.rooms:
        if bank_name(bank) not in found:
            continue
        listed = f"{where}: {bank_name(bank)}"
        lines = read_json_lines(folder / bank_name(bank), needed="the rooms of a bank", where=listed)
        for number, document in enumerate(lines, 1):
            place = f"{listed}:{number}"
            name = document.get("name") if isinstance(document, dict) else None
            match = RESPONSE_PATTERN.match(name) if isinstance(name, str) else None
            if match is None or match["bank"] != bank or response_path(match[0]) in known:
                raise BadDocumentError(place, "is not a response of this bank with a name of its own")
            row = RoomResponse.parse(document, where=place)
            if row.file is None and response_path(str(name)) not in found:
                raise BadDocumentError(place, "is a simulated response that is not in the pack")
            known.add(response_path(str(name)))
    for name in sorted(found):
        if name.endswith(".npy") and name not in known:
            raise BadDocumentError(f"{where}: {name}", "is a response that no bank lists")


def check_shard(
    folder: Path, file: PlanFile, recipe: Recipe, entry: ShardEntry, found: dict[str, str], *, where: object
) -> int:
    """Check that plan, index and fingerprints of a shard are of the same samples; gives the number of its waves.

    Raises:
        BadDocumentError: If not.
    """
    name, prints = index_name(file.name), prints_name(file.name)
    if name not in found or prints not in found:
        raise BadDocumentError(f"{where}: {name}", "is missing, or its fingerprints are")
    index = ShardIndex.read(folder / name, needed="the index of a shard", where=f"{where}: {name}")
    if (len(index.samples), index.bytes, index.sha256) != (entry.samples, entry.bytes, entry.sha256):
        raise BadDocumentError(f"{where}: {name}", "has other samples, size or digest than corpus.json says")
    rows = check_rows(folder, file, recipe, where=where)
    check_index(index, file, recipe.sample_rate, rows, where=f"{where}: {name}")
    listed = f"{where}: {prints}"
    printed = list(SamplePrints.read_lines(folder / prints, needed="the fingerprints of a shard", where=listed))
    expected = {sample.key: set(sample.members) - {"json"} for sample in index.samples}
    if {one.key: set(one.prints) for one in printed} != expected or len(printed) != len(expected):
        raise BadDocumentError(listed, "has fingerprints of other waves than the index")
    return sum(len(names) for names in expected.values())


def check_index(
    index: ShardIndex, file: PlanFile, rate_hz: int, rows: dict[str, tuple[int, set[str]]], *, where: object
) -> None:
    """Check that an index is of a planned shard: each sample once and as planned, its members apart and inside the tar.

    Args:
        index: The index.
        file: The shard in the plan.
        rate_hz: Sample rate of the plan.
        rows: Rows of the plan file, by `check_rows`.
        where: What to call the index in messages.

    Raises:
        BadDocumentError: If not.
    """
    if (index.name, index.split, index.plan_sha256) != (file.name, file.split, file.sha256):
        raise BadDocumentError(where, "is the index of another shard, split or plan")
    if index.sample_rate != rate_hz:
        raise BadDocumentError(where, "has another sample rate than the plan")
    end = 0
    spans = sorted((member.offset, member.size) for sample in index.samples for member in sample.members.values())
    for offset, size in spans:
        if offset < end or offset + size > index.bytes:
            raise BadDocumentError(where, f"members overlap, or are outside the tar, at byte {offset}")
        end = offset + size
    keys = [sample.key for sample in index.samples]
    if len(set(keys)) != len(keys):
        raise BadDocumentError(where, "names a sample twice")
    for sample in index.samples:
        check_sample(sample, rows.get(sample.key), where=where)


def check_rows(folder: Path, file: PlanFile, recipe: Recipe, *, where: object) -> dict[str, tuple[int, set[str]]]:
    """Check the rows of a plan file; gives length and names of the copies by key.

    Raises:
        BadDocumentError: If a row is of another split, has a root or condition that is not in the recipe, a key that is not of
            its id, or occurs twice.
    """
    rows: dict[str, tuple[int, set[str]]] = {}
    roots = recipe.source_roots()
    listed = f"{where}: {plan_rows_name(file.name)}"
    for number, document in enumerate(plain_rows(folder, file.name, where=where), 1):
        place = f"{listed}:{number}"
        row = PlanRow.parse(document, where=place)
        copies = [copy.name for copy in row.copies]
        if row.split != file.split or row.key != sample_key(row.id) or row.key in rows:
            raise BadDocumentError(place, "is of another split, its key is not that of its id, or it occurs twice")
        for root in {root for root, _ in files_of(document)} - roots.keys():
            raise BadDocumentError(place, f"names root {printable(root)!r}, which is not in the recipe")
        if len(set(copies)) != len(copies):
            raise BadDocumentError(place, "has two copies of one name")
        for copy in row.copies:
            if (
                not MEMBER_PATTERN.match(f"{row.key}.{copy.name}.flac")
                or copy.name.rpartition("-")[0] != copy.condition
            ):
                raise BadDocumentError(place, f"copy {printable(copy.name)!r} is not named <condition>-<number>")
            if copy.condition not in recipe.conditions:
                raise BadDocumentError(place, f"condition {copy.condition!r} is not in the recipe")
        rows[row.key] = (row.num_samples, set(copies))
    if len(rows) != file.rows:
        raise BadDocumentError(listed, f"has {len(rows)} rows, plan.json says {file.rows}")
    return rows


def check_sample(sample: IndexedSample, row: tuple[int, set[str]] | None, *, where: object) -> None:
    """Check that an indexed sample is one of the plan, with the planned copies and their digests.

    Raises:
        BadDocumentError: If not.
    """
    if row is None or sample.num_samples != row[0] or set(sample.members) != row[1] | {"json", "clean"}:
        raise BadDocumentError(where, f"sample {printable(sample.key)} is not as it was planned")
    if any(member.suffix is not None for member in sample.members.values()):
        raise BadDocumentError(where, f"a member of {printable(sample.key)} has another name than Stillroom gives it")
    if any(member.pcm_sha256 is None for name, member in sample.members.items() if name != "json"):
        raise BadDocumentError(where, f"a wave of {printable(sample.key)} has no digest")
