"""`stillroom schema`: prints the JSON Schema of a document, as exported into `manifests/schemas`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manifests.errors import UsageError, printable

if TYPE_CHECKING:
    from evaluation.config import EvaluationConfig
    from manifests.io.records import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent.parent / "manifests" / "schemas"
DOCUMENTS = {
    "recipe": ("manifests.recipe.recipe", "Recipe"),
    "plan": ("manifests.plan.plan", "Plan"),
    "roots": ("manifests.plan.plan", "LocalRoots"),
    "sample": ("manifests.corpus.sample", "Sample"),
    "shard": ("manifests.corpus.shard_index", "ShardIndex"),
    "corpus": ("manifests.corpus.shard_index", "Corpus"),
    "pack": ("manifests.pack.write", "Pack"),
    "train": ("training.config.schema", "TrainConfig"),
    "evaluation": ("evaluation.config", "EvaluationConfig"),
    "targets": ("training.targets.schema", "Targets"),
    "target-shard": ("training.targets.schema", "TargetIndex"),
    "checkpoint": ("training.runs.checkpoint", "Mark"),
    "trained": ("manifests.results.training_exposure", "TrainedOn"),
    "cell": ("manifests.results.scores", "ModelScores"),
    "protocol": ("manifests.results.scores", "Protocol"),
    "results": ("manifests.results.scores", "Results"),
    "rebuilt": ("manifests.results.reports", "RebuiltReport"),
    "diff": ("manifests.results.reports", "DiffReport"),
    "verify": ("manifests.results.reports", "VerifyReport"),
    "audit": ("manifests.results.reports", "AuditReport"),
    "unpacked": ("manifests.results.reports", "UnpackedCard"),
    "status": ("manifests.results.reports", "RunStatus"),
}


def schema_name(document: type[Document | EvaluationConfig]) -> str:
    """`recipe-1` of `stillroom/recipe/1`: the name of the exported file without its suffix."""
    return document.SCHEMA.removeprefix("stillroom/").replace("/", "-")


def exported(document: type[Document | EvaluationConfig]) -> str:
    """The JSON Schema of a document as text, from its model."""
    schema = document.model_json_schema(by_alias=True) | {"$id": document.SCHEMA, "$schema": DIALECT}
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def document_of(name: str) -> type[Document | EvaluationConfig]:
    """The model of a document by its name."""
    module, attribute = DOCUMENTS[name]
    model: type[Document | EvaluationConfig] = getattr(importlib.import_module(module), attribute)
    return model


def versions(name: str) -> list[int]:
    """The exported versions of a document, in order."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in FOLDER.glob(f"{name}-*.json"))


@click.command("schema")
@click.argument("name", required=False)
def schema_command(name: str | None) -> None:
    """Print the JSON Schema of NAME (recipe, or recipe/1 for a version); without NAME, list them.

    Older versions of a document are read; a newer one is refused with a line that says what to install.
    """
    if name is None:
        for known in DOCUMENTS:
            click.echo(f"{known}: stillroom/{known}/" + ", ".join(map(str, versions(known))))
        return
    family, _, version = name.removeprefix("stillroom/").partition("/")
    found = versions(family) if family in DOCUMENTS else []
    if not found or (version and version not in map(str, found)):
        raise UsageError(
            f"no schema {printable(name)!r}; known are "
            + ", ".join(f"{one}/{v}" for one in DOCUMENTS for v in versions(one))
        )
    click.echo((FOLDER / f"{family}-{version or found[-1]}.json").read_text(encoding="utf-8"), nl=False)
