"""Messages name what was found, where, and what is right, each in its place."""

from __future__ import annotations

import pickle

import pytest

from manifests.errors import (
    BadDocumentError,
    DamagedDocumentError,
    DigestMismatchError,
    LockedError,
    NewerSchemaError,
    OtherRecipeError,
    StillroomError,
    UnsafePathError,
    printable,
)

MESSAGES: list[tuple[StillroomError, str]] = [
    (
        DigestMismatchError("a.tar", expected="e" * 64, found="f" * 64),
        f"a.tar: SHA-256 is {'f' * 16}…, its manifest says {'e' * 16}…; the file is damaged or was replaced",
    ),
    (
        OtherRecipeError("out", what="plan", found="f" * 64, wanted="w" * 64),
        f"out was made from another plan ({'f' * 12}, now {'w' * 12}); choose another folder, or remove this one first",
    ),
    (
        UnsafePathError("../x", where="a.json"),
        "a.json: path '../x' is absolute, leaves its root or is not a plain file name; refused",
    ),
    (
        NewerSchemaError("a.json", found="s/x/9", known="s/x/2"),
        "a.json: its schema is 's/x/9', this Stillroom reads up to 's/x/2'; install a newer one: pip install -U stillroom",
    ),
    (DamagedDocumentError(BadDocumentError("a", "is cut"), repair="build again"), "a: is cut; build again"),
    (LockedError("out", holder="process 3"), "out is being written by process 3; wait for it, or stop it and run this command again"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "message"), MESSAGES, ids=lambda value: type(value).__name__)
def test_a_message_names_each_thing_in_its_place_also_after_it_came_from_another_process(
    problem: StillroomError, message: str
) -> None:
    for one in (problem, pickle.loads(pickle.dumps(problem))):
        assert type(one) is type(problem)
        assert str(one) == message


def test_a_text_is_shortened_to_its_limit_with_an_ellipsis_and_only_where_it_is_longer() -> None:
    assert printable("a" * 200) == "a" * 200
    assert printable("a" * 201) == "a" * 199 + "…"
    assert [printable("abcde", limit=limit) for limit in (4, 5, 6)] == ["abc…", "abcde", "abcde"]


@pytest.mark.parametrize(
    "character", ["\0", "\x7f", "\u200b", "\u202e", "\u2028", "\u2029", "\ud800", "\ue000", "\u0378"]
)
def test_what_would_not_be_seen_or_would_end_a_line_is_escaped(character: str) -> None:
    assert printable(f"a{character}b") in {f"a\\x{ord(character):02x}b", f"a\\u{ord(character):04x}b"}
