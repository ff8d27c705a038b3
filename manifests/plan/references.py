"""What planned steps refer to: source files, room responses, codecs and roots, found in one walk over a row's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifests.io.json_yaml import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.plan.plan import Plan


RESPONSES = "rooms/"


def waves_of_row(row: dict[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """Name, condition and steps of each wave that a plan row asks for."""
    yield "clean", "clean", []
    for copy in row["copies"]:
        yield copy["name"], copy["condition"], copy["steps"]


def codecs_of(steps: list[Any]) -> str:
    """The codecs that a copy went through, joined by `+` in their order; empty if there is none."""
    return "+".join(str(step["codec"]) for step in steps if step.get("kind") == "codec")


def files_of(steps: Any) -> Iterator[tuple[str, str]]:
    """Root and path of every source file that is named in planned steps, at any depth."""
    if isinstance(steps, dict):
        path = steps.get("recording", steps.get("path"))
        if isinstance(steps.get("root"), str) and isinstance(path, str):
            yield steps["root"], path
        for value in steps.values():
            yield from files_of(value)
    elif isinstance(steps, list):
        for value in steps:
            yield from files_of(value)


def touched(steps: list[Any]) -> set[tuple[str, str]]:
    """Source files of a copy's steps, and its room responses under a root that no pack has."""
    responses: set[tuple[str, str]] = set()
    pending: list[Any] = list(steps)
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if isinstance(item.get("response"), str):
                responses.add((RESPONSES, item["response"]))
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return responses | set(files_of(steps))


def rows_of(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a plan file as plain data."""
    yield from read_json_lines(folder / "plan" / f"{name}.jsonl", needed="a file of the plan")


def responses_of(folder: Path, files: list[dict[str, Any]]) -> set[str]:
    """Names of the room responses that plan files ask for."""
    return {
        name
        for file in files
        for row in rows_of(folder, file["name"])
        for root, name in touched(row["copies"])
        if root == RESPONSES
    }


def files_needed(folder: Path, plan: Plan) -> dict[tuple[str, str], str | None]:
    """Root and path of every source file that a plan names; digests of recorded responses, which stand in the plan itself."""
    files: dict[tuple[str, str], str | None] = {
        file: None for one in plan.files for row in rows_of(folder, one.name) for file in files_of(row)
    }
    for room in read_json_lines(folder / "plan" / "rooms.jsonl", needed="the rooms of a plan"):
        for response in room.get("responses", ()):
            for file in files_of(response):
                files[file] = sha256_of(response)
    return files


def roots_needed(folder: Path, plan: Plan) -> set[str]:
    """Names of the roots whose files a plan names; its rows need not have been checked."""
    names = [*(file.name for file in plan.files), "rooms"]
    return {root for name in names for row in rows_of(folder, name) for root, _ in files_of(row)}


def sha256_of(response: dict[str, Any]) -> str | None:
    """The digest of a recorded response's file."""
    found = response.get(
        "sha256", response.get("file", {}).get("sha256") if isinstance(response.get("file"), dict) else None
    )
    return found if isinstance(found, str) else None
