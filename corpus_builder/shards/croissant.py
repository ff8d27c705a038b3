"""`croissant.json`: the files and fields of a corpus in MLCommons' Croissant 1.1, so that dataset hubs and loaders find it.

Each split is a record set: id, text, speaker and language from `utterances/<split>.jsonl`, and the clean speech from the tars. A second one
has the JSON members, with every parameter of each copy. Nothing in it depends on when or where the corpus was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manifests.corpus.layout import tar_name, utterances_name
from manifests.corpus.sample import CLEAN
from manifests.io.digest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from manifests.corpus.shard_index import Corpus, ShardEntry
    from manifests.recipe.recipe import Recipe

CONFORMS_TO: Final = "http://mlcommons.org/croissant/1.1"
CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject", "fileProperty",
            "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
}  # fmt: skip
TEXTS: Final = {
    "id": "Id of the utterance.",
    "text": "What is said, where that is known.",
    "speaker": "Who speaks, where that is known.",
    "language": "The language, where that is known.",
}
ABOUT: Final = "What is known of the utterance and what was done to each copy, every parameter a number, as JSON."
URL_BITS: Final = 48


class ListedFile(NamedTuple):
    """Size and digest of a file of the corpus."""

    bytes: int
    sha256: str


def utterance_line(row: Mapping[str, Any]) -> bytes:
    """The line of an utterance in `utterances/<split>.jsonl`, from its row of the plan.

    Its texts are one level down: pandas, by which mlcroissant reads the lines, takes a column of texts such as `0012` for numbers.
    """
    about = {name: row[name] for name in TEXTS if row.get(name) is not None}
    return canonical_json({"member": f"{row['key']}.{CLEAN}.flac", "about": about})


def croissant(sealed: Corpus, recipe: Recipe, utterances: Mapping[str, ListedFile]) -> dict[str, Any]:
    """The description of a corpus, as plain data.

    Args:
        sealed: What it holds.
        recipe: As published, with licences and citations.
        utterances: The list of each split that has utterances.
    """
    licences = distinct(source.licence for _, source in recipe.file_sources())
    citations = distinct(source.citation for _, source in recipe.file_sources())
    splits = {split: [entry for entry in entries if entry.samples] for split, entries in sealed.splits.items()}
    splits = {split: entries for split, entries in splits.items() if entries}
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": sealed.name,
        "description": (
            f"{sealed.totals.samples} utterances, {sealed.totals.seconds / 3600:.2f} h, each with distorted copies that are in step "
            f"with the clean one. Recipe {sealed.recipe_sha256}, plan {sealed.plan_sha256}."
        ),
        "version": "1.0.0",
        "keywords": ["speech", "robustness", "webdataset", "stillroom"],
        "url": f"urn:sha256:{sealed.plan_sha256}",
        "license": licences or ["The licences of the speech and noise it was made from hold for it too."],
    }
    if citations:
        document["citeAs"] = "\n".join(citations)
    document["distribution"] = [
        item for split, entries in splits.items() for item in files_of(split, entries, utterances[split])
    ]
    document["recordSet"] = [records for split in splits for records in records_of(split)]
    return document


def distinct(texts: Iterable[str | None]) -> list[str]:
    """The texts that are not empty, each once."""
    return list(dict.fromkeys(text for text in texts if text))


def files_of(split: str, entries: list[ShardEntry], listed: ListedFile) -> list[dict[str, Any]]:
    """The tars of a split, two sets of members in them, and the list of its utterances."""
    tars = [
        file_object(
            f"{entry.name}.tar",
            own_url(tar_name(entry.name), sha256=entry.sha256),
            ListedFile(entry.bytes, entry.sha256),
            encoding="application/x-tar",
        )
        for entry in entries
    ]
    members = [
        {
            "@type": "cr:FileSet",
            "@id": f"{split}-{kind}",
            "name": f"{split}-{kind}",
            "description": description,
            "containedIn": [{"@id": tar["@id"]} for tar in tars],
            "encodingFormat": encoding,
            "includes": pattern,
        }
        for kind, description, encoding, pattern in (
            ("json", f"What is known of each utterance of {split} and of its copies.", "application/json", "*.json"),
            ("flac", f"The clean speech of {split}; copies are beside it.", "audio/flac", f"*.{CLEAN}.flac"),
        )
    ]
    table = file_object(f"{split}-utterances", utterances_name(split), listed, encoding="application/jsonlines")
    return [*tars, *members, table]


def file_object(name: str, url: str, file: ListedFile, *, encoding: str) -> dict[str, Any]:
    """A file of the corpus."""
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": url,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": encoding,
        "sha256": file.sha256,
    }


def own_url(path: str, *, sha256: str) -> str:
    """A relative URL of a tar that no other tar has: its path with `./` and `../shards/` in the order of its digest's bits.

    mlcroissant keeps what it unpacked by the text of the URL, so two corpora with a tar of one name would give the samples of the first
    (decision 145).
    """
    folder, _, name = path.rpartition("/")
    bits = f"{int(sha256, 16) >> (256 - URL_BITS):0{URL_BITS}b}"
    return f"{folder}/" + "".join(f"../{folder}/" if bit == "1" else "./" for bit in bits) + name


def records_of(split: str) -> list[dict[str, Any]]:
    """The utterances of a split, each with its clean speech; and the JSON members by name."""
    table = {"fileObject": {"@id": f"{split}-utterances"}}
    flac, members = {"fileSet": {"@id": f"{split}-flac"}}, {"fileSet": {"@id": f"{split}-json"}}
    name, content = {"extract": {"fileProperty": "filename"}}, {"extract": {"fileProperty": "content"}}
    about = f"{split}-about"
    fields = [
        field(f"{split}/member", "Name of the clean speech in its tar.", flac | name)
        | {"references": table | {"extract": {"column": "member"}}},
        *(
            field(
                f"{split}/{text}",
                description,
                table | {"extract": {"column": "about"}, "transform": {"jsonPath": f"$.{text}"}},
            )
            for text, description in TEXTS.items()
        ),
        field(f"{split}/audio", "The clean speech, FLAC.", flac | content, data_type="sc:AudioObject"),
    ]
    members_fields = [
        field(f"{about}/member", "Name of the JSON member; waves of the same key are beside it.", members | name),
        field(f"{about}/about", ABOUT, members | content),
    ]
    return [
        {"@type": "cr:RecordSet", "@id": split, "name": split, "description": f"The utterances of {split}.", "field": fields},
        {"@type": "cr:RecordSet", "@id": about, "name": about, "description": f"All that is known of {split}.",
         "field": members_fields},
    ]  # fmt: skip


def field(name: str, description: str, source: dict[str, Any], *, data_type: str = "sc:Text") -> dict[str, Any]:
    """A field of a record set."""
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": source,
    }
