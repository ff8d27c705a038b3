"""Documents are strict, their versions are checked first, and their faults are named by path, each in the words of a recipe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pytest
from pydantic import Field, ValidationError

from manifests.errors import BadDocumentError, DamagedDocumentError, NewerSchemaError
from manifests.io.records import Document, Rate, Record
from manifests.recipe.recipe import Recipe
from tests.manifests.recipe.test_recipe import changed

if TYPE_CHECKING:
    from pathlib import Path


class Leaf(Record):
    share: Annotated[float, Field(gt=0.25, lt=123456.5)] = 0.5
    from_: Annotated[int, Field(alias="from", ge=1, le=1000)] = 1
    words: Annotated[tuple[str, ...], Field(min_length=1, max_length=2, strict=False)] = ("x",)
    title: Annotated[str, Field(min_length=2, max_length=4)] = "abc"


class Tree(Document):
    SCHEMA: ClassVar[str] = "stillroom/tree/3"
    schema_: Annotated[str, Field(alias="schema")]
    leaves: dict[str, Leaf] = {}
    comment: str | None = None
    rate: Rate = 1


PLAIN = {"schema": "stillroom/tree/3"}


def fault_of(**changed_keys: Any) -> str:
    with pytest.raises(BadDocumentError) as caught:
        Tree.parse(PLAIN | changed_keys, where="x.json")
    return str(caught.value).removeprefix("x.json: ")


@pytest.mark.parametrize(
    ("leaf", "line"),
    [
        ({"share": 0.25}, "share: expected a number > 0.25, got '0.25'"),
        ({"share": 123456.5}, "share: expected a number < 123456.5, got '123456.5'"),
        ({"share": "0.5"}, "share: expected a number, got '0.5'; write 0.5, without quotes"),
        ({"from": 0}, "from: expected a number >= 1, got '0'"),
        ({"from": 1001}, "from: expected a number <= 1000, got '1001'"),
        ({"from": "7"}, "from: expected a whole number, got '7'; write 7, without quotes"),
        ({"from": "16k"}, "from: expected a whole number, got '16k'; write 16000"),
        ({"share": "0.5 dB"}, "share: expected a number, got '0.5 dB'; write 0.5, without its unit"),
        ({"share": "half"}, "share: expected a number, got 'half'"),
        ({"words": "a"}, "words: expected a list, got 'a'; write [a]"),
        ({"from": 2.5}, "from: expected a whole number, got '2.5'"),
        ({"words": []}, "words: expected a length of at least 1, got '[]'"),
        ({"words": ["a", "b", "c"]}, "words: expected a length of at most 2, got '['a', 'b', 'c']'"),
        ({"words": ["a", 3]}, "words.1: expected a text, got '3'"),
        ({"title": "a"}, "title: expected a text of at least 2 characters, got 'a'"),
        ({"title": "abcde"}, "title: expected a text of at most 4 characters, got 'abcde'"),
        ({"form": 1}, "form: unknown key (did you mean 'from'?)"),
        ({"shre": 1}, "shre: unknown key (did you mean 'share'?)"),
        ({"coment": 1}, "coment: unknown key (did you mean 'comment' at the top?)"),
        ({"comment": 1}, "comment: unknown key (it belongs at the top)"),
        ({"zzz": 1}, "zzz: unknown key; known are share, from, words, title"),
        ({"title": "a", "from": 0, "share": 3e9, "zzz": 1}, "zzz: unknown key; known are share, from, words, title"),
        (3, "expected a mapping, got '3'"),
    ],
)  # fmt: skip
def test_a_fault_says_where_it_is_what_was_found_and_what_is_right(leaf: Any, line: str) -> None:
    colon = "." if isinstance(leaf, dict) else ": "
    found = fault_of(leaves={"a": {}, "b": leaf}).replace('"', "'")
    assert found.partition("; leaves")[0] == f"leaves.b{colon}{line}"


def test_a_list_whose_only_item_is_refused_is_not_also_called_too_short() -> None:
    assert fault_of(leaves={"a": {"words": [3]}}) == "leaves.a.words.0: expected a text, got '3'"


def test_a_record_is_read_with_the_types_that_it_has_and_does_not_change() -> None:
    leaf = Leaf.parse({"from": 3}, where="x")
    with pytest.raises(ValidationError, match="frozen"):
        leaf.title = "more"  # type: ignore[misc]
    for text in (b'{"share": NaN}', b'{"share": Infinity}', b'{"share": "0.5"}', b'{"share": 0.5, "share": "x"}'):
        with pytest.raises(BadDocumentError):
            Leaf.parse_text(text, where="x")
    with pytest.raises(BadDocumentError):
        Leaf.parse({"share": math.nan}, where="x")
    assert Leaf.parse_text(b'{"share": 3}', where="x").share == 3.0


def test_a_text_that_would_take_much_memory_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadDocumentError, match=r"^x: JSON of so many values"):
        Leaf.parse_text(b'{"words": [' + b"0," * 800_000 + b"0]}", where="x")


@pytest.mark.parametrize(("rate_hz", "fits"), [(1, True), (768_000, True), (0, False), (768_001, False)])
def test_a_rate_is_from_one_to_768_kilohertz(rate_hz: int, fits: bool) -> None:
    if fits:
        assert Tree.parse(PLAIN | {"rate": rate_hz}, where="x").rate == rate_hz
    else:
        assert fault_of(rate=rate_hz).startswith("rate: expected a number ")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_this_and_earlier_versions_are_read(version: int) -> None:
    assert Tree.parse({"schema": f"stillroom/tree/{version}"}, where="x").schema_ == f"stillroom/tree/{version}"


def test_a_later_version_is_reported_as_one_whatever_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    path.write_text('{"schema": "stillroom/tree/4", "more": 1}')
    for repair in ("", "make it again"):
        with pytest.raises(NewerSchemaError) as caught:
            Tree.read(path, needed="a tree", repair=repair)
        assert not isinstance(caught.value, DamagedDocumentError)
        assert str(caught.value) == (
            f"{path}: its schema is 'stillroom/tree/4', this Stillroom reads up to 'stillroom/tree/3'; "
            "install a newer one: pip install -U stillroom"
        )
        assert (caught.value.found, caught.value.known) == ("stillroom/tree/4", "stillroom/tree/3")


@pytest.mark.parametrize("name", ["tree.json", "tree.yaml", "tree.yml"])
def test_a_document_is_read_by_its_suffix_and_called_as_is_wanted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = (
        '{"schema": "stillroom/tree/3", "comment": "c"}'
        if name.endswith("json")
        else "schema: stillroom/tree/3\ncomment: c\n"
    )
    path.write_text(text)
    assert Tree.read(path, needed="a tree").comment == "c"
    for broken, fault in ((text.replace("comment", "coment"), "coment: unknown key"), (text + "}", "not valid")):
        path.write_text(broken)
        for where, called in ((None, str(path)), ("a pack: tree", "a pack: tree")):
            with pytest.raises(BadDocumentError, match=rf"^{called}(:\d+)?: {fault}"):
                Tree.read(path, needed="a tree", where=where)
        with pytest.raises(DamagedDocumentError, match=rf"^{path}(:\d+)?: {fault}.*; make it again$"):
            Tree.read(path, needed="a tree", repair="make it again")


def test_lines_are_counted_from_one_and_called_as_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "leaves.jsonl"
    path.write_text('{"title": "one"}\n{"title": "two"}\n{"title": 3}\n')
    for where, called in ((None, str(path)), ("a pack: leaves", "a pack: leaves")):
        rows = Leaf.read_lines(path, needed="leaves", where=where)
        assert [next(rows).title, next(rows).title] == ["one", "two"]
        with pytest.raises(BadDocumentError, match=f"^{called}:3: title: expected a text"):
            next(rows)


def test_what_is_not_set_is_not_written() -> None:
    assert Tree.parse(PLAIN, where="x").plain() == {"schema": "stillroom/tree/3", "leaves": {}, "rate": 1}
    assert Tree.parse(PLAIN | {"leaves": {"a": {"from": 2}}}, where="x").plain()["leaves"]["a"]["from"] == 2


@pytest.mark.parametrize(
    ("name", "fits"),
    [("n", True), ("far_9", True), ("a" * 32, True), ("a" * 33, False), ("far-away", False), ("9a", False), ("Far", False), ("_a", False), ("é", False), ("", False)],
)  # fmt: skip
def test_a_condition_has_a_name_of_small_letters_digits_and_underscores(name: str, fits: bool) -> None:
    data = changed(f"conditions.{name}", {"steps": [{"kind": "codec", "codec": "opus"}]})
    if fits:
        assert name in Recipe.parse(data, where="x").conditions
    else:
        with pytest.raises(BadDocumentError, match=r"conditions\.\S*: expected a text that matches"):
            Recipe.parse(data, where="x")


@pytest.mark.parametrize(
    ("name", "fits"),
    [("t", True), ("Train-1_a", True), ("a" * 64, True), ("a" * 65, False), ("9a", False), ("a.b", False), ("a b", False), ("-a", False), ("", False)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["speech", "noises", "rooms"])
def test_a_source_has_a_name_that_a_file_can_have(kind: str, name: str, fits: bool) -> None:
    office = changed("seed", 1)["rooms"]["office"]
    data = changed("seed", 1)
    data[kind][name] = {"speech": {"dir": "x"}, "noises": {"colour": "white"}, "rooms": office}[kind]
    if fits:
        assert name in getattr(Recipe.parse(data, where="x"), kind)
    else:
        with pytest.raises(BadDocumentError, match=rf"{kind}\.\S*.*: expected a text that matches"):
            Recipe.parse(data, where="x")
