"""What the site gets besides its pages: reference pages made from the code, and an index of the decisions."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HOUSE = Path(__file__).parents[1]
CONFIGS = {
    "recipe": ("Keys of a recipe", "`stillroom build RECIPE CORPUS`; [how to write one](../recipe.md)."),
    "train": ("Keys of a training config", "`stillroom train CONFIG RUN`; [what they do](../training.md)."),
    "evaluation": (
        "Keys of an evaluation",
        "`stillroom evaluate CONFIG RESULTS`; [what is measured](../evaluation.md).",
    ),
}
LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^)#\s]*)(?:#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {f"reference/{name}.md": keys_page(name) for name in CONFIGS}
    pages |= {"reference/python.md": python_page(), "reference/command.md": COMMAND}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """List the decisions on their page; a link to a file outside the site becomes its text."""
    if page.file.src_uri == "decisions/README.md":
        markdown += "\n" + decisions()
    folder = (HOUSE / "docs" / page.file.src_uri).parent

    def inside(found: re.Match[str]) -> str:
        target = (folder / found[2]).resolve()
        return found[0] if target.is_relative_to(HOUSE / "docs") or page.file.generated_by else found[1]

    return LINK.sub(inside, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """An option without a default has none on its page; mkdocs-click writes click's name for that."""
    return html.replace("<code>Sentinel.UNSET</code>", "")


def decisions() -> str:
    """A line for each decision: its number and title."""
    lines = []
    for path in sorted((HOUSE / "docs" / "decisions").glob("[0-9]*.md")):
        title = re.sub(r"^#\s*(?:0*\d+[.:]?\s*)?", "", path.read_text("utf-8").splitlines()[0])
        lines.append(f"- {path.stem[:4]} [{title}]({path.name})")
    return "\n".join(lines) + "\n"


COMMAND = """# The command

::: mkdocs-click
    :module: stillroom.cli
    :command: stillroom
    :prog_name: stillroom
    :depth: 1
    :style: table
"""


def python_page() -> str:
    """Every name that `import stillroom` gives, from the module that it is written in."""
    tree = ast.parse((HOUSE / "stillroom" / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = [
        (one.asname or one.name, f"{node.module}.{one.name}")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    ]
    names.sort(key=lambda pair: (pair[0][0].isupper(), pair[0]))  # functions, then documents
    parts = ["# Python\n\n`import stillroom` gives these; each loads what it needs when it is first used.\n"]
    parts += [f"::: {path}\n    options:\n      heading: stillroom.{name}\n" for name, path in names]
    return "\n".join(parts)


def keys_page(name: str) -> str:
    """A table of keys for each part of a config: meaning, type, default."""
    path = max(
        (HOUSE / "manifests" / "schemas").glob(f"{name}-*.json"), key=lambda one: int(one.stem.rpartition("-")[2])
    )
    schema = json.loads(path.read_text("utf-8"))
    title, what = CONFIGS[name]
    lines = [f"# {title}", "", what, "", f"Made from its JSON Schema, which `stillroom schema {name}` prints.", ""]
    for part in (schema, *(schema["$defs"][key] for key in sorted(schema["$defs"]))):
        if part.get("properties"):
            lines += [
                f"## {part['title']}",
                "",
                part.get("description", ""),
                "",
                "| key | meaning | type | default |",
                "|---|---|---|---|",
            ]
            required = set(part.get("required", ()))
            for key, value in part["properties"].items():
                default = "needed" if key in required else code(value.get("default"))
                lines.append(f"| `{key}` | {cell(value.get('description', ''))} | {kind(value, schema)} | {default} |")
            lines.append("")
    return "\n".join(lines)


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


def code(value: Any) -> str:
    """A default as YAML writes it; a whole part is named by its own table."""
    return "" if value is None or isinstance(value, dict) else f"`{cell(json.dumps(value))}`"


def kind(value: dict[str, Any], schema: dict[str, Any]) -> str:
    """The type of a key with its bounds; a part of the config is a link to its table."""
    if "$ref" in value:
        part = schema["$defs"][value["$ref"].rpartition("/")[2]]
        return f"[{part['title']}](#{part['title'].lower()})" if part.get("properties") else kind(part, schema)
    constants = value.get("enum", [value["const"]] if "const" in value else [])
    if constants:
        return ", ".join(f"`{one}`" for one in constants)
    if union := value.get("anyOf", value.get("oneOf")):
        return " or ".join(dict.fromkeys(kind(one, schema) for one in union if one.get("type") != "null"))
    inner = value.get("items") or value.get("additionalProperties")
    of = f" of {kind(inner, schema)}" if isinstance(inner, dict) else ""
    bounds = (f" {word} {value[key]:g}" for key, word in BOUNDS.items() if abs(value.get(key, 2**31)) < 2**31)
    return TYPES[value.get("type", "")] + of + "".join(bounds)


TYPES = {
    "array": "list",
    "object": "mapping",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}
TYPES[""] = "any"
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
