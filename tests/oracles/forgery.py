"""A sealed corpus changed in one place, with every digest, size, offset and count above that place put right again.

Shares nothing with the builder: standard library, soundfile and numpy. What a check looks at is found by that check alone.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import soundfile
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import ModuleType


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def canonical(document: Any) -> bytes:
    """The canonical JSON that digests are taken of."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def plan_digest(plan: dict[str, Any]) -> str:
    """Of a plan as it stands on disk: unset values are left out there, defaults written out."""
    return sha256(canonical(plan))


def pcm_sha256(content: bytes) -> str | None:
    """Of a coded wave; None if it cannot be decoded."""
    try:
        pcm, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    return sha256(pcm.astype("<i2").tobytes())


def read_members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as opened:
        return {info.name: opened.extractfile(info).read() for info in opened}  # type: ignore[union-attr]


def write_members(tar: Path, members: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    """Write a tar; where the content of each member lies, and its size."""
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    with tarfile.open(tar) as opened:
        return {info.name: (info.offset_data, info.size) for info in opened}


def file_name(sample: dict[str, Any], name: str) -> str:
    suffix = sample["members"][name].get("suffix") or (name if name == "json" else f"{name}.flac")
    return f"{sample['key']}.{suffix}"


def place_members(index: dict[str, Any], members: dict[str, bytes], places: dict[str, tuple[int, int]]) -> None:
    """Put the index of a tar right: offsets, sizes, digests of PCM; members that are not there are taken out."""
    for sample in index["samples"]:
        for name in list(sample["members"]):
            full = file_name(sample, name)
            if full not in places:
                del sample["members"][name]
                continue
            member = sample["members"][name]
            member["offset"], member["size"] = places[full]
            if "pcm_sha256" in member:
                member["pcm_sha256"] = pcm_sha256(members[full]) or member["pcm_sha256"]


def change_lines(path: Path, change: Callable[[list[Any]], Any]) -> list[Any]:
    """Change the documents of a JSON lines file."""
    documents = [json.loads(line) for line in path.read_bytes().splitlines()]
    change(documents)
    path.write_bytes(b"".join(canonical(one) + b"\n" for one in documents))
    return documents


def forge(  # noqa: C901 (a branch for each thing that may be changed)
    corpus: Path,
    *,
    shard: str = "train-000000",
    recipe: Callable[[dict[str, Any]], Any] | None = None,
    rooms: Callable[[list[Any]], Any] | None = None,
    rows: Callable[[list[Any]], Any] | None = None,
    naming: Callable[[dict[str, Any]], Any] | None = None,
    waves: Callable[[dict[str, bytes]], Any] | None = None,
    index: Callable[[dict[str, Any]], Any] | None = None,
    plan: Callable[[dict[str, Any]], Any] | None = None,
    sealed: Callable[[dict[str, Any]], Any] | None = None,
    files: Callable[[Path], Any] | None = None,
    sums: Callable[[list[str]], Any] | None = None,
) -> None:
    """Change a corpus of Stillroom in place; each change is made after all that lies below it was put right.

    Args:
        corpus: A copy that may be changed.
        shard: The shard that is changed.
        recipe: Changes the recipe.
        rooms: Changes the rows of the planned rooms.
        rows: Changes the rows of its plan file.
        naming: Changes the names that its index gives to members, before these are looked for in the tar.
        waves: Changes the members of its tar.
        index: Changes its index.
        plan: Changes `plan.json`.
        sealed: Changes `corpus.json`.
        files: Changes files of the corpus.
        sums: Changes the lines of SHA256SUMS.
    """
    plan_file = corpus / "plan" / f"{shard}.jsonl"
    plan_path, corpus_path = corpus / "plan" / "plan.json", corpus / "corpus.json"
    tar, index_path = (corpus / "shards" / f"{shard}{suffix}" for suffix in (".tar", ".json"))
    planned, said = (json.loads(path.read_bytes()) for path in (plan_path, corpus_path))
    found = json.loads(index_path.read_bytes())
    if recipe is not None:
        wanted = yaml.safe_load((corpus / "recipe.yaml").read_text())
        recipe(wanted)
        (corpus / "recipe.yaml").write_text(yaml.safe_dump(wanted))
        planned["recipe_sha256"] = said["recipe_sha256"] = sha256(canonical(wanted))
    if rooms is not None:
        change_lines(corpus / "plan" / "rooms.jsonl", rooms)
        planned["rooms_sha256"] = sha256((corpus / "plan" / "rooms.jsonl").read_bytes())
    if rows is not None:
        documents = change_lines(plan_file, rows)
        for file in planned["files"]:
            if file["name"] == shard:
                file |= {"rows": len(documents), "sha256": sha256(plan_file.read_bytes())}
                found["plan_sha256"] = file["sha256"]
    if naming is not None:
        naming(found)
    if waves is not None:
        members = read_members(tar)
        waves(members)
        place_members(found, members, write_members(tar, members))
        found |= {"bytes": tar.stat().st_size, "sha256": sha256(tar.read_bytes())}
    if index is not None:
        index(found)
    index_path.write_text(json.dumps(found))
    if plan is not None:
        plan(planned)
    plan_path.write_text(json.dumps(planned))
    said["plan_sha256"] = plan_digest(planned)
    for entry in (entry for entries in said["splits"].values() for entry in entries):
        if entry["name"] == shard:
            content = tar.read_bytes()
            seconds = round(sum(one["num_samples"] for one in found["samples"]) / found["sample_rate"], 3)
            entry |= {"bytes": len(content), "sha256": sha256(content), "seconds": seconds}
            entry["samples"] = len(found["samples"])
    entries = [entry for entries in said["splits"].values() for entry in entries]
    said["totals"] |= {name: sum(entry[name] for entry in entries) for name in ("samples", "bytes")}
    if sealed is not None:
        sealed(said)
    corpus_path.write_text(json.dumps(said))
    if files is not None:
        files(corpus)
    listed = [line.split("  ")[1] for line in (corpus / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{sha256((corpus / name).read_bytes())}  {name}" for name in listed if (corpus / name).exists()]
    if sums is not None:
        sums(lines)
    (corpus / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))


def skeleton(node: ast.expr) -> str | None:
    """A literal text with `{}` in place of what is put in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def literal_texts(module: ModuleType, *, calls: Iterable[str], yields: bool = False, returned_by: str = "") -> set[str]:
    """Every literal text that a module gives as the last positional argument of some calls, yields, or returns.

    Args:
        module: Its source is read.
        calls: Names of functions, methods or classes.
        yields: Also texts that are yielded, alone or at the end of a tuple.
        returned_by: Also texts that are returned or appended by functions with this in their name.
    """
    found: list[ast.expr | None] = []
    names = set(calls)
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(function, ast.Call) and function.args:
            called = function.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            found += [function.args[-1]] if name in names else []
        elif isinstance(function, ast.Yield) and yields:
            value = function.value
            found.append(value.elts[-1] if isinstance(value, ast.Tuple) else value)
        elif isinstance(function, ast.FunctionDef) and returned_by and returned_by in function.name:
            for node in ast.walk(function):
                if isinstance(node, ast.Return):
                    found.append(node.value)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
                    found.append(node.args[0])
    texts = {skeleton(node) for node in found if node is not None}
    return {text for text in texts if text}
