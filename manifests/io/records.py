"""Base classes of all documents: frozen and strict pydantic models, a schema with a version, errors in one line."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manifests.errors import BadDocumentError, DamagedDocumentError, NewerSchemaError, printable
from manifests.faults import faults
from manifests.io.json_yaml import parse_json, read_json, read_json_lines, read_yaml, refuse_heavy_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifests.io.place import Place

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
CONDITION_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Samples = Annotated[int, Field(ge=0, lt=2**48)]
Rate = Annotated[int, Field(ge=1, le=768_000)]


READERS = {  # of documents that people write
    "stillroom/recipe/": "; a recipe is for `stillroom build RECIPE CORPUS`",
    "stillroom/train/": "; a training config is for `stillroom train CONFIG RUN`",
}
ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)  # of a docstring's section Attributes


def describe_keys(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Give each key of a JSON Schema its line in the docstrings as its description; what a model is stays its own description."""
    help_of: dict[str, str] = {}
    for base in reversed(model.__mro__):
        words, _, attributes = inspect.cleandoc(base.__doc__ or "").partition("\n\nAttributes:\n")
        help_of |= {name: " ".join(text.split()) for name, text in ATTRIBUTE.findall(attributes)}
        if base is model and words:
            schema["description"] = words
    for name, field in model.model_fields.items():
        key = schema.get("properties", {}).get(field.alias or name)
        if key is not None and name in help_of:
            key["description"] = help_of[name]


class Record(BaseModel):
    """A part of a document: frozen, strict, unknown keys refused, NaN refused."""

    OTHER_NAMES: ClassVar[dict[str, str]] = {}  # keys of other programs: what to write here, for the message

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=describe_keys
    )

    @classmethod
    def parse(cls, data: Any, *, where: object) -> Self:
        """Validate plain data.

        Raises:
            BadDocumentError: The first faults, each with its path, in one line; `NewerSchemaError` of a later Stillroom's.
        """
        try:
            return cls.model_validate_json(json.dumps(data, allow_nan=False))
        except ValidationError as problem:
            for error in problem.errors(include_url=False, include_input=False):
                newer = error.get("ctx", {}).get("error")
                if isinstance(newer, NewerSchemaError):
                    raise NewerSchemaError(where, found=newer.found, known=newer.known) from None
            raise BadDocumentError(where, faults(problem, cls)) from None
        except ValueError as problem:
            raise BadDocumentError(where, printable(problem)) from None

    @classmethod
    def parse_text(cls, text: bytes, *, where: object) -> Self:
        """Validate untrusted JSON; several times as fast as `parse`, which is called only to describe the faults.

        Raises:
            BadDocumentError: As `parse`, and where it is no JSON.
        """
        refuse_heavy_json(text, where=where)
        try:
            return cls.model_validate_json(text)
        except ValueError:  # dropped before the faults are looked for: it holds a copy of all that was read
            pass
        return cls.parse(parse_json(text, where=where), where=where)

    @classmethod
    def read_lines(cls, path: Place, *, needed: str, where: object = None) -> Iterator[Self]:
        """Read the records of a JSON lines file, one line in memory at a time.

        Args:
            path: Where it is.
            needed: What it is needed for, for the message if it is missing.
            where: What to call it in a message, if not by its path.

        Raises:
            MissingFileError: If it is not there.
            BadDocumentError: If a line breaks the schema, with its number.
        """
        named = path if where is None else where
        for number, document in enumerate(read_json_lines(path, needed=needed, where=where), 1):
            yield cls.parse(document, where=f"{named}:{number}")


class Document(Record):
    """A whole file: its first key is `schema`, such as `stillroom/recipe/1`."""

    SCHEMA: ClassVar[str]
    EXAMPLES: ClassVar[dict[str, str]] = {}  # of what keys at the top hold, for messages

    @model_validator(mode="before")
    @classmethod
    def check_schema(cls, data: Any) -> Any:
        """Refuse a newer or other schema before anything else is checked."""
        if not isinstance(data, dict):
            raise ValueError(f"expected a mapping with the key schema: {cls.SCHEMA}")  # noqa: TRY004 (pydantic's way)
        if "schema" not in data:
            raise ValueError(f"schema: this key is missing, expected {cls.SCHEMA!r}")
        found = data["schema"]
        family, _, known = cls.SCHEMA.rpartition("/")
        if not isinstance(found, str) or found.rpartition("/")[0] != family:
            verb = next((verb for start, verb in READERS.items() if str(found).startswith(start)), "")
            raise ValueError(f"schema: expected {cls.SCHEMA!r}, got {printable(found)!r}{verb}")
        version = found.rpartition("/")[2]
        if not re.fullmatch(r"[0-9]{1,6}", version) or int(version) < 1:
            raise ValueError(f"schema: {printable(found)!r} has no version")
        if int(version) > int(known):
            raise NewerSchemaError("schema", found=found, known=cls.SCHEMA)
        return data

    @classmethod
    def read(cls, path: Place, *, needed: str, repair: str = "", where: object = None) -> Self:
        """Read and check a JSON or YAML file.

        Args:
            path: Where it is.
            where: What to call it in a message, if not by its path.
            needed: What it is needed for, for the message if it is missing.
            repair: What to do if it was cut off or changed; for documents that can be written again.

        Raises:
            MissingFileError: If it is not there.
            BadDocumentError: If it breaks its schema; `DamagedDocumentError` where `repair` says what to do.
        """
        try:
            data = (
                read_json(path, needed=needed, where=where)
                if path.suffix.lower() == ".json"
                else read_yaml(path, needed=needed, where=where)
            )
            return cls.parse(data, where=path if where is None else where)
        except NewerSchemaError:
            raise
        except BadDocumentError as problem:
            if not repair:
                raise
            raise DamagedDocumentError(problem, repair=repair) from None

    def plain(self) -> dict[str, Any]:
        """As plain JSON data, unset values left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def write(self, path: Place) -> None:
        """Write as JSON, atomically."""
        write_json(path, self.plain())
