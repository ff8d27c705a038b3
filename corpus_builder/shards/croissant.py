"""`croissant.json`: the files and fields of a corpus in MLCommons' Croissant 1.1, so that dataset hubs and loaders find it.

Every tar is a file with its digest, the JSON members of a split are one set, and each split is a record set whose fields are read
out of them. Nothing in it depends on when or where the corpus was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from manifests.corpus.layout import tar_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifests.corpus.shard_index import Corpus
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
FIELDS: Final = {
    "member": ("filename", "Name of the JSON member: the sample's key, with its waves beside it under the same key."),
    "about": (
        "content",
        "What is known of the utterance and what was done to each copy, every parameter a number, as JSON.",
    ),
}


def croissant(sealed: Corpus, recipe: Recipe) -> dict[str, Any]:
    """The description of a corpus, as plain data.

    Args:
        sealed: What it holds.
        recipe: As published, with licences and citations.
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
    document["distribution"] = [item for split, entries in splits.items() for item in files_of(split, entries)]
    document["recordSet"] = [records_of(split) for split in splits]
    return document


def distinct(texts: Iterable[str | None]) -> list[str]:
    """The texts that are not empty, each once."""
    return list(dict.fromkeys(text for text in texts if text))


def files_of(split: str, entries: list[Any]) -> list[dict[str, Any]]:
    """The tars of a split, and the set of the JSON members in them."""
    tars = [
        {
            "@type": "cr:FileObject",
            "@id": f"{entry.name}.tar",
            "name": f"{entry.name}.tar",
            "contentUrl": tar_name(entry.name),
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": "application/x-tar",
            "sha256": entry.sha256,
        }
        for entry in entries
    ]
    members = {
        "@type": "cr:FileSet",
        "@id": f"{split}-json",
        "name": f"{split}-json",
        "description": f"What is known of each utterance of {split}; its waves lie beside it, as FLAC.",
        "containedIn": [{"@id": tar["@id"]} for tar in tars],
        "encodingFormat": "application/json",
        "includes": "*.json",
    }
    return [*tars, members]


def records_of(split: str) -> dict[str, Any]:
    """The utterances of a split as records."""
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"The utterances of {split}.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{split}/{name}",
                "name": f"{split}/{name}",
                "description": description,
                "dataType": "sc:Text",
                "source": {"fileSet": {"@id": f"{split}-json"}, "extract": {"fileProperty": file_property}},
            }
            for name, (file_property, description) in FIELDS.items()
        ],
    }
