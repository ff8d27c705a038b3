"""What is said of an utterance in a shard that Stillroom did not write: read from its `.json`, `.txt` and `.cls` members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifests.corpus.sample import Sample
from manifests.errors import BadDocumentError
from manifests.io.json_yaml import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifests.corpus.shard_index import IndexedSample

TEXT_KEYS = ("text", "transcript", "transcription", "sentence", "normalized_text")
SPEAKER_KEYS = ("speaker", "speaker_id", "spk_id", "spk", "client_id")
LANGUAGE_KEYS = ("language", "lang", "locale")
MAX_ABOUT_BYTES = 1 << 20
ROOT = "shards"


def foreign_sample(
    sample: IndexedSample, contents: Mapping[str, bytes], *, split: str, sample_rate: int, where: str
) -> Sample:
    """The record of an utterance of an indexed WebDataset.

    A `.json` member that is a Stillroom sample is taken as it is. Of any other, the first of a few usual keys gives text, speaker
    and language, and the rest are custom fields; `.txt` is the text, `.cls` the custom field `cls`.

    Args:
        sample: Of the index.
        contents: What stands in its members `json`, `txt` and `cls`, as far as it has them.
        split: Of the shard.
        sample_rate: Of the corpus, in Hz.
        where: What to call it in a message.

    Raises:
        BadDocumentError: If the `.json` is not JSON.
    """
    about: Any = parse_json(contents["json"], where=where) if "json" in contents else {}
    if isinstance(about, dict) and str(about.get("schema", "")).startswith("stillroom/sample/"):
        return Sample.parse(about, where=where)
    if not isinstance(about, dict):
        about = {"json": about}
    custom = dict(about)
    text = taken(custom, TEXT_KEYS)
    if "txt" in contents:
        text = contents["txt"].decode("utf-8", "replace").strip()
    if "cls" in contents:
        custom["cls"] = label(contents["cls"].decode("utf-8", "replace").strip())
    return Sample.parse(
        {
            "schema": Sample.SCHEMA,
            "id": sample.key,
            "split": split,
            "num_samples": sample.num_samples,
            "sample_rate": sample_rate,
            "text": text,
            "speaker": taken(custom, SPEAKER_KEYS),
            "language": taken(custom, LANGUAGE_KEYS),
            "custom": custom,
            "source": {"root": ROOT, "path": sample.file_name("clean"), "rate_hz": sample_rate},
            "copies": [foreign_copy(name) for name in sample.copies],
        },
        where=where,
    )


def foreign_copy(name: str) -> dict[str, Any]:
    """A copy of which nothing is known but its name."""
    condition = name.rpartition("-")[0]
    return {"name": name, "condition": condition, "domain": condition, "family": condition, "gain_db": 0.0, "steps": []}


def taken(fields: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of some keys that has a text or a number, taken out of the fields."""
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            del fields[key]
            return str(value)
    return None


def label(text: str) -> int | str:
    """A class label, a whole number where it is one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


def narrowed(record: Sample, sample: IndexedSample) -> Sample:
    """A record without the copies that a subset's index leaves out."""
    kept = tuple(copy for copy in record.copies if copy.name in sample.members)
    return record if len(kept) == len(record.copies) else record.model_copy(update={"copies": kept})


def record_of(
    sample: IndexedSample, contents: Mapping[str, bytes], *, foreign: bool, split: str, sample_rate: int, where: str
) -> Sample:
    """The record of an utterance of any corpus, with the copies that its index has.

    Raises:
        BadDocumentError: If its JSON cannot be read, or it has none where one is due.
    """
    if foreign:
        record = foreign_sample(sample, contents, split=split, sample_rate=sample_rate, where=where)
    elif "json" not in contents:
        raise BadDocumentError(where, "the index has no json member")
    else:
        record = Sample.parse_text(contents["json"], where=where)
    return narrowed(record, sample)
