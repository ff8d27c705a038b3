"""Schemas are versioned: a changed schema needs a new version; of one that was exported only descriptions are rewritten."""

import importlib
import json
import pkgutil
from typing import Annotated

import pytest
from click.testing import CliRunner
from pydantic import Field

import evaluation
import manifests
import training
from manifests.corpus.shard_index import Corpus
from manifests.errors import NewerSchemaError, UsageError
from manifests.io.records import Document, Record
from stillroom import schema
from stillroom.schema import DOCUMENTS, document_of, exported, schema_command, schema_name


def structure(schema):
    """A schema without its dialect and what is for people alone: descriptions, titles and the names of its definitions."""
    numbers = {}  # of definitions, in the order in which they are referred to

    def plain(value):
        if isinstance(value, dict):
            texts = {key for key in ("description", "title", "$schema") if isinstance(value.get(key), str)}
            return {key: plain(item) for key, item in sorted(value.items()) if key not in texts | {"$defs"}}
        if isinstance(value, str) and value.startswith("#/$defs/"):
            return numbers.setdefault(value.removeprefix("#/$defs/"), len(numbers))
        return [plain(item) for item in value] if isinstance(value, list) else value

    parts = [plain(schema)]
    while len(parts) <= len(numbers):
        parts.append(plain(schema["$defs"][list(numbers)[len(parts) - 1]]))
    return parts


def check_exported(document, folder, *, write):
    """The schema of this version is the exported one; `write` exports a new version, or new descriptions of a known one."""
    path = folder / f"{schema_name(document)}.json"
    found = exported(document)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if write and (known is None or structure(known) == structure(json.loads(found))):
        path.write_text(found, encoding="utf-8")
    if not path.exists():
        pytest.fail(f"{path} is missing: a new version's schema is exported by pytest --write-golden")
    if path.read_text(encoding="utf-8") != found and structure(known) == structure(json.loads(found)):
        pytest.fail(f"descriptions of {document.SCHEMA} changed: export them by pytest --write-golden")
    if path.read_text(encoding="utf-8") != found:
        pytest.fail(
            f"the schema of {document.SCHEMA} changed: give {document.__name__}.SCHEMA the next version, read the old one, tell it in "
            "CHANGELOG.md, and export it by pytest --write-golden"
        )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_schema_changes_without_a_new_version(name, request):
    check_exported(document_of(name), schema.FOLDER, write=request.config.getoption("--write-golden"))


def test_a_changed_schema_is_refused_and_never_rewritten(tmp_path):
    document = document_of("corpus")
    path = tmp_path / "corpus-1.json"
    path.write_text(exported(document).replace("refused", "declined"), encoding="utf-8")
    before = path.read_bytes()
    for write in (False, True):
        with pytest.raises(pytest.fail.Exception, match="next version"):
            check_exported(document, tmp_path, write=write)
    assert path.read_bytes() == before
    path.write_text(
        exported(document).replace("Totals of", "Sums of").replace("Sums over", "Totals over"), encoding="utf-8"
    )
    with pytest.raises(pytest.fail.Exception, match="descriptions of"):
        check_exported(document, tmp_path, write=False)
    check_exported(document, tmp_path, write=True)
    assert path.read_text(encoding="utf-8") == exported(document)
    with pytest.raises(pytest.fail.Exception, match="is missing"):
        check_exported(document_of("plan"), tmp_path, write=False)
    check_exported(document_of("plan"), tmp_path, write=True)
    assert json.loads((tmp_path / "plan-2.json").read_text())["$id"] == "stillroom/plan/2"


def test_every_document_is_exported():
    for room in (manifests, training, evaluation):
        for module in pkgutil.iter_modules(room.__path__):
            if module.name != "cli" and not module.ispkg:
                importlib.import_module(f"{room.__name__}.{module.name}")

    def below(model):
        return {model}.union(*(below(one) for one in model.__subclasses__()))

    ours = {
        model
        for model in below(Document) - {Document}
        if model.__module__.split(".")[0] in {"manifests", "training", "evaluation"} and "SCHEMA" in vars(model)
    }
    assert {document_of(name) for name in DOCUMENTS} >= ours


@pytest.mark.parametrize("name", ["recipe", "train", "evaluation"])
def test_every_key_that_a_user_writes_has_its_help(name):
    """What editors show. `kind` and `schema` name themselves."""
    whole = json.loads(exported(document_of(name)))
    without = {
        f"{part.get('title')}.{key}"
        for part in (whole, *whole["$defs"].values())
        for key, value in part.get("properties", {}).items()
        if key not in {"kind", "schema"} and not value.get("description")
    }
    assert not without
    assert not any("Attributes:" in part.get("description", "") for part in whole["$defs"].values())


def test_help_is_of_the_key_and_of_its_base_and_the_rest_stays_the_models():
    class Base(Record):
        """A base.

        Attributes:
            low: Its lower
                end, in dB.
        """

        low: int

    class Part(Base):
        """A part.

        Attributes:
            source: Where it is from.
        """

        source: Annotated[str, Field(alias="from")]

    schema = Part.model_json_schema(by_alias=True)
    assert schema["description"] == "A part."
    assert {key: value["description"] for key, value in schema["properties"].items()} == {
        "low": "Its lower end, in dB.",
        "from": "Where it is from.",
    }


def test_the_command_prints_what_is_exported():
    printed = CliRunner().invoke(schema_command, ["corpus"]).output
    assert json.loads(printed)["$id"] == Corpus.SCHEMA
    assert CliRunner().invoke(schema_command, ["stillroom/corpus/1"]).output == printed
    assert "recipe: stillroom/recipe/1" in CliRunner().invoke(schema_command, []).output
    for wrong in ("recipy", "corpus/9", "../corpus", "corpus/*"):
        with pytest.raises(UsageError, match=f"^no schema {wrong!r}; known are recipe/1".replace("*", r"\*")) as caught:
            CliRunner().invoke(schema_command, [wrong], catch_exceptions=False)
        assert str(caught.value).endswith("status/1")
        assert ", checkpoint/1, checkpoint/2, " in str(caught.value)


def test_a_newer_document_is_refused_with_what_to_install():
    with pytest.raises(NewerSchemaError, match="pip install -U stillroom"):
        Corpus.parse({"schema": "stillroom/corpus/2"}, where="corpus.json")


def test_without_a_version_the_latest_is_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    for name in ("train-10", "train-9", "train-2", "trained-11"):
        (tmp_path / f"{name}.json").write_text(name)
    assert schema.versions("train") == [2, 9, 10]
    for words, printed in ((["train"], "train-10"), (["stillroom/train/9"], "train-9"), (["train/2"], "train-2")):
        assert CliRunner().invoke(schema_command, words).output == printed
    assert "train: stillroom/train/2, 9, 10\n" in CliRunner().invoke(schema_command, []).output


def test_a_schema_is_exported_under_its_name_with_its_dialect():
    assert [schema_name(document_of(name)) for name in ("corpus", "target-shard")] == ["corpus-1", "target-shard-1"]
    found = json.loads(exported(Corpus))
    assert (found["$schema"], found["$id"]) == ("https://json-schema.org/draft/2020-12/schema", Corpus.SCHEMA)
    assert exported(Corpus) == json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert "schema" in found["properties"], "keys as they are written, not as Python has them"
