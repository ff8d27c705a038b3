"""What breaks a schema, in one line: each fault with its path, what was found there, and what to write instead."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Tag, ValidationError

from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails

MOST_KNOWN = 24  # keys that are listed where none is like the one that was found
NAME_WORDS = {
    "^[A-Z": "letters, digits, _ and -, with a letter first",
    "^[a-z": "small letters, digits and _, with a letter first",
}
MOST_STEPS_TO_EXAMPLE = 4  # from the top of a document
EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
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


def faults(problem: ValidationError, model: type[BaseModel], *, most: int = 3) -> str:
    """The first faults of a document in one line, each as `path: what was found and what is right`; unknown keys first."""
    errors = problem.errors(include_url=False)
    echoes = {"too_short", "missing"}  # a list is "too short" because its only item was refused
    errors = [error for error in errors if error["type"] not in echoes or not deeper(error, errors)]
    errors.sort(key=lambda error: error["type"] != "extra_forbidden")  # it may be why another key is missing
    shown = "; ".join(dict.fromkeys(fault(error, model) for error in errors[:most]))
    more = f"; and {len(errors) - most} more" if len(errors) > most else ""
    return shown + more + (example(errors[0], model) if errors else "")


def deeper(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Whether another fault lies inside the place of this one."""
    place = error["loc"]
    return any(other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in errors)


def fault(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One fault; its path without the names that pydantic gives to members of a union."""
    path = ".".join(printable(part, limit=60) for part in error["loc"] if not str(part).startswith("-"))
    message = expected(error)
    if error["type"] == "extra_forbidden":
        message = "unknown key" + nearest(error["loc"], model)
    elif error["type"] == "unknown_step":
        message += other_kind(error)
    elif error["type"] == "missing":
        message = "this key is missing"
    elif error["type"] not in {"value_error", "assertion_error"}:
        message = f"expected {message}, got {printable(error['input'], limit=60)!r}" + remedy(error)
    return f"{path}: {message}" if path else message


def expected(error: ErrorDetails) -> str:
    """What was expected, in the words of a recipe (pydantic calls a list an array, as JSON does)."""
    if error["type"] in EXPECTED:
        bounds = {
            name: f"{bound:.15g}" if isinstance(bound, float) else bound for name, bound in error.get("ctx", {}).items()
        }
        return EXPECTED[error["type"]].format(**bounds)
    return error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def remedy(error: ErrorDetails) -> str:
    """What to write instead of a value; empty if that is plain from what was expected."""
    kind, found = error["type"], error["input"]
    if kind in {"int_type", "int_parsing", "float_type", "float_parsing"} and isinstance(found, str):
        return plain_number(found)
    if kind in {"list_type", "tuple_type"} and isinstance(found, str | int | float):
        return f"; write [{printable(found, limit=60)}]"
    if kind == "string_pattern_mismatch":
        words = next(
            (words for start, words in NAME_WORDS.items() if str(error["ctx"]["pattern"]).startswith(start)), ""
        )
        return f" ({words})" if words else ""
    return ""


def example(error: ErrorDetails, model: type[BaseModel]) -> str:
    """An example of the document's first key on the way to a value of another shape or a missing key, where its model has one."""
    shapes = {"dict_type", "model_type", "list_type", "tuple_type", "too_long", "missing"}
    examples: dict[str, str] = getattr(model, "EXAMPLES", {})
    is_near = 0 < len(error["loc"]) <= MOST_STEPS_TO_EXAMPLE and error["type"] in shapes
    text = examples.get(str(error["loc"][0])) if is_near else None
    return f"; an example: {text}" if text else ""


def other_kind(error: ErrorDetails) -> str:
    """The kind of a step or task that is not known, and the one that may be meant: a name of another program's, or a near one."""
    found = error["input"].get("kind") if isinstance(error["input"], dict) else error["input"]
    others = error.get("ctx", {})
    close = difflib.get_close_matches(str(found), str(others.get("known")).split(", "), n=1, cutoff=0.6)
    meant = others.get(found) if isinstance(found, str) else None
    return (
        ("" if found is None else f", got {printable(found, limit=60)!r}")
        + (f"; {meant}" if meant else "")
        + (f" (did you mean {close[0]!r}?)" if close and not meant else "")
    )


def plain_number(text: str) -> str:
    """How to write a text that holds a number as a number; empty if it holds none."""
    match = re.fullmatch(r"\s*([-+]?[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*([A-Za-z%]{0,9})\s*", text)
    if match is None:
        return ""
    number, unit = match.groups()
    if unit in {"k", "K", "kHz", "khz"}:
        return f"; write {float(number) * 1000:.15g}"
    return f"; write {number}, without {'its unit' if unit else 'quotes'}"


def nearest(place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """A hint for an unknown key: what to write instead, where it belongs, or which keys are known.

    Args:
        place: Path of the key in the document.
        model: Of the document.
    """
    key = str(place[-1])
    here = models_at(model, place[:-1])
    for one in here:
        other_names: dict[str, str] = getattr(one, "OTHER_NAMES", {})
        if key in other_names:
            return f"; {other_names[key]}"
    elsewhere = key_owners(model)
    siblings = list(dict.fromkeys(field.alias or name for one in here for name, field in one.model_fields.items()))
    if close := difflib.get_close_matches(key, siblings, n=1, cutoff=0.6):
        other = f" {key!r} belongs under {elsewhere[key][0] or 'the top'}" if key in elsewhere else ""
        return f" (did you mean {close[0]!r}?{other})"
    if close := difflib.get_close_matches(key, elsewhere, n=1, cutoff=0.8):
        owners = " or under ".join(dict.fromkeys(owner or "the top" for owner in elsewhere[close[0]][:2]))
        belongs = f"under {owners}".replace("under the top", "at the top")
        return f" (it belongs {belongs})" if close[0] == key else f" (did you mean {close[0]!r} {belongs}?)"
    return f"; known are {', '.join(siblings)}" if 0 < len(siblings) <= MOST_KNOWN else ""


def models_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The models that may be found at a place of a document."""
    found: list[Any] = [model]
    for part in place:
        inner: list[Any] = []
        for kind, tag in members(found):
            if isinstance(part, str) and part.startswith("-"):  # a member of a union by its tag
                inner += [kind] if tag == part else []
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                inner += [
                    field.annotation for name, field in kind.model_fields.items() if (field.alias or name) == part
                ]
            else:
                inner += [argument for argument in getattr(kind, "__args__", ())[-1:] if argument is not ...]
                inner += [argument for argument in getattr(kind, "__args__", ())[:1] if isinstance(part, int)]
        found = inner
    return [kind for kind, _ in members(found) if isinstance(kind, type) and issubclass(kind, BaseModel)]


def members(annotations: Iterable[Any], tag: str | None = None) -> Iterator[tuple[Any, str | None]]:
    """The types of annotations, unions taken apart, each with its tag in a union."""
    for annotation in annotations:
        if metadata := getattr(annotation, "__metadata__", None):
            tags = [one.tag for one in metadata if isinstance(one, Tag)]
            yield from members([annotation.__origin__], tags[0] if tags else tag)
        elif type(annotation).__name__ in {"Union", "UnionType", "_UnionGenericAlias"}:
            yield from members(annotation.__args__, tag)
        else:
            yield annotation, tag


def key_owners(model: type[BaseModel]) -> dict[str, list[str]]:
    """Where each key of a model and of every model in it belongs: dotted paths, the shortest first, the top as an empty one."""
    owners: dict[str, list[str]] = {}
    seen: set[type] = set()
    pending: list[tuple[str, Any]] = [("", model)]
    for path, annotation in pending:  # which grows on the way
        for kind, _ in members([annotation]):
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
                name = ".NAME" if getattr(kind, "__origin__", None) is dict else ""
                pending += [(path + name, argument) for argument in getattr(kind, "__args__", ())]
            elif kind not in seen:
                seen.add(kind)
                for name, field in kind.model_fields.items():
                    key = field.alias or name
                    owners.setdefault(key, []).append(path)
                    pending.append((f"{path}.{key}".removeprefix("."), field.annotation))
    return owners
