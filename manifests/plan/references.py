"""The source files, room responses and codecs that a plan row or planned room refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Role = Literal["speech", "noise", "talker", "spare", "recorded", "response", "codec"]
"""`speech` is an utterance's own file, `noise` a noise recording, `talker` a file of a babble, `spare` one in its place, `recorded` the
file of a recorded room response, `response` a room response, `codec` a codec."""

RESPONSES: Final = "rooms/"
"""Stands for a root with room responses: no root has a slash in its name."""

INSIDE: Final[Mapping[str, Role | None]] = {
    "source": "speech",
    "copies": None,
    "steps": None,
    "noises": None,
    "talkers": "talker",
    "spare": "spare",
    "responses": "recorded",
    "file": None,
}
"""Keys below which something is referred to, and as what; None leaves that as it is."""


class Reference(NamedTuple):
    """Something that a planned step needs.

    Attributes:
        root: Name of the root that a file is below; `RESPONSES` of a room response, empty of a codec.
        name: Relative path of a file, or name of a response or codec.
        part: The file's span, or the noise or step that names it.
        speaker: Of a talker, if it is known.
    """

    role: Role
    root: str
    name: str
    part: Mapping[str, Any]
    speaker: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a source file."""
        return self.role not in {"response", "codec"}

    @property
    def file(self) -> tuple[str, str]:
        """Root and name, by which files and responses are compared."""
        return self.root, self.name


def references(planned: Any, *, role: Role = "noise", speaker: str | None = None) -> Iterator[Reference]:
    """Everything that a plan row, a planned room or any part of them refers to, in its order.

    Args:
        planned: Plain data; it need not have been checked against its schema.
        role: What a file is that is named in it directly.
        speaker: Who speaks in that file.
    """
    if isinstance(planned, list | tuple):
        for part in planned:
            yield from references(part, role=role, speaker=speaker)
    if not isinstance(planned, dict):
        return
    root, path = planned.get("root"), planned.get("recording", planned.get("path"))
    if isinstance(root, str) and isinstance(path, str):
        yield Reference(role, root, path, planned, speaker)
    if isinstance(planned.get("response"), str):
        yield Reference("response", RESPONSES, planned["response"], planned)
    if planned.get("kind") == "codec":
        yield Reference("codec", "", str(planned.get("codec")), planned)
    for key, inside in INSIDE.items():
        if key in planned:
            own = planned.get("speaker") if key == "file" else None
            yield from references(planned[key], role=inside or role, speaker=own if own is None else str(own))


def files_of(planned: Any) -> Iterator[tuple[str, str]]:
    """Root and path of every source file that is referred to."""
    return (one.file for one in references(planned) if one.is_file)


def codecs_of(steps: Any) -> str:
    """The codecs that a copy went through, joined by `+` in their order; empty if there is none."""
    return "+".join(one.name for one in references(steps) if one.role == "codec")


def waves_of_row(row: dict[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """Name, condition and steps of each wave that a plan row asks for."""
    yield "clean", "clean", []
    for copy in row["copies"]:
        yield copy["name"], copy["condition"], copy["steps"]
