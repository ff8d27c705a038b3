"""Records of utterances in shards that Stillroom did not write, from their `.json`, `.txt` and `.cls` members."""

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


def external_sample(
    sample: IndexedSample, contents: Mapping[str, bytes], *, split: str, sample_rate: int, where: str
) -> Sample:
    """The record of an utterance of an indexed WebDataset.

    A `.json` member that is a Stillroom sample is used as it is. Of any other, the first of a few usual keys gives text, speaker
    and language, and the rest are custom fields; `.txt` is the text, `.cls` the custom field `cls`.

    Args:
        sample: Its entry in the index.
        contents: Its members `json`, `txt` and `cls`, as far as it has them.
        split: Split of the shard.
        sample_rate: Sample rate of the corpus, in Hz.
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
    text = popped(custom, TEXT_KEYS)
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
            "speaker": popped(custom, SPEAKER_KEYS),
            "language": popped(custom, LANGUAGE_KEYS),
            "custom": custom,
            "source": {"root": ROOT, "path": sample.file_name("clean"), "rate_hz": sample_rate},
            "copies": [external_copy(name) for name in sample.copies],
        },
        where=where,
    )


def external_copy(name: str) -> dict[str, Any]:
    """The record of a copy of which only the name is known."""
    condition = name.rpartition("-")[0]
    return {"name": name, "condition": condition, "domain": condition, "family": condition, "gain_db": 0.0, "steps": []}


def popped(fields: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    """The value of the first of some keys that has a text or a number; the key is removed from the fields."""
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            del fields[key]
            return str(value)
    return None


def label(text: str) -> int | str:
    """A class label, as a number if it is a whole number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


def narrowed(record: Sample, sample: IndexedSample) -> Sample:
    """A record without the copies that the index of a subset leaves out."""
    copies = tuple(copy for copy in record.copies if copy.name in sample.members)
    return record if len(copies) == len(record.copies) else record.model_copy(update={"copies": copies})


def record_of(
    sample: IndexedSample, contents: Mapping[str, bytes], *, external: bool, split: str, sample_rate: int, where: str
) -> Sample:
    """The record of an utterance of any corpus, with the copies that its index has.

    Raises:
        BadDocumentError: If its JSON cannot be read, or is missing.
    """
    if external:
        record = external_sample(sample, contents, split=split, sample_rate=sample_rate, where=where)
    elif "json" not in contents:
        raise BadDocumentError(where, "the index has no json member")
    else:
        record = Sample.parse_text(contents["json"], where=where)
    return narrowed(record, sample)
