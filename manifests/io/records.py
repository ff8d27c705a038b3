"""Base classes of all documents: frozen and strict pydantic models, a schema with a version, errors in one line."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manifests.errors import BadDocumentError, DamagedDocumentError, NewerSchemaError, printable
from manifests.io.json_yaml import parse_json, read_json, read_json_lines, read_yaml, refuse_heavy_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from manifests.io.place import Place

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
CONDITION_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Samples = Annotated[int, Field(ge=0, lt=2**48)]
Rate = Annotated[int, Field(ge=1, le=768_000)]


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
            raise ValueError(f"schema: expected {cls.SCHEMA!r}, got {printable(found)!r}")
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
                read_yaml(path, needed=needed, where=where)
                if path.suffix in {".yaml", ".yml"}
                else read_json(path, needed=needed, where=where)
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


def faults(problem: ValidationError, model: type[BaseModel], *, most: int = 3) -> str:
    """The first faults of a document in one line, each as `path: what was found and what is right`."""
    errors = problem.errors(include_url=False)
    echoes = {"too_short", "missing"}  # a list is "too short" because its only item was refused
    errors = [error for error in errors if error["type"] not in echoes or not deeper(error, errors)]
    shown = "; ".join(dict.fromkeys(fault(error, model) for error in errors[:most]))
    return shown + (f"; and {len(errors) - most} more" if len(errors) > most else "")


def deeper(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Whether another fault lies inside the place of this one."""
    place = error["loc"]
    return any(other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in errors)


def fault(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One fault; its path without the names that pydantic gives to members of a union."""
    path = ".".join(printable(part, limit=60) for part in error["loc"] if not str(part).startswith("-"))
    message = expected(error)
    if error["type"] == "extra_forbidden":
        message = "unknown key" + nearest(str(error["loc"][-1]), model)
    elif error["type"] == "missing":
        message = "this key is missing"
    elif error["type"] not in {"value_error", "assertion_error", "unknown_step"}:
        message = f"expected {message}, got {printable(error['input'], limit=60)!r}"
    return f"{path}: {message}" if path else message


EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
    "string_too_short": "a text of at least {min_length} characters",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "greater_than_equal": "a number >= {ge}",
    "greater_than": "a number > {gt}",
    "less_than_equal": "a number <= {le}",
    "less_than": "a number < {lt}",
}


def expected(error: ErrorDetails) -> str:
    """What was expected, in the words of a recipe (pydantic calls a list an array, as JSON does)."""
    if error["type"] in EXPECTED:
        bounds = {
            name: f"{bound:.15g}" if isinstance(bound, float) else bound for name, bound in error.get("ctx", {}).items()
        }
        return EXPECTED[error["type"]].format(**bounds)
    return error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def nearest(key: str, model: type[BaseModel]) -> str:
    """A hint for a mistyped key, from all keys of the model and of the models in it."""
    known = sorted(all_keys(model, set()))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close and close[0] != key else ""


def all_keys(model: type[BaseModel], seen: set[type]) -> set[str]:
    """Keys of a model and of every model reachable from it."""
    seen.add(model)
    keys: set[str] = set()
    pending: list[Any] = []
    for name, field in model.model_fields.items():
        keys.add(field.alias or name)
        pending.append(field.annotation)
    while pending:
        annotation = pending.pop()
        pending.extend(getattr(annotation, "__args__", ()))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            keys |= all_keys(annotation, seen)
    return keys
