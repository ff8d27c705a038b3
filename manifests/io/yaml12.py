"""Untrusted YAML with the scalars of version 1.2: no tags, bounded aliases, no repeated keys."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from manifests.errors import BadDocumentError, printable

MAX_YAML_NODES = 50_000
TOO_MANY_NODES = f"expands to more than {MAX_YAML_NODES} nodes; refused"
PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "null", "int", "float", "str", "seq", "map")}
MAX_DEPTH = 64

YAML_REMEDIES = {  # by a part of what the parser says
    "'\\t'": "indent with spaces, not with tabs",
    "alphabetic or numeric character": "put a text that begins with * or & into quotes, such as '**/*.wav'",
    "undefined alias": "define it before with &, or put a text that begins with * into quotes",
    "expected ',' or": "close each { and [, and put a text that has { } [ ] , or : into quotes",
    "expected the node content": "put a text that has { } [ ] , or : into quotes",
    "mapping values are not allowed": "put a text that has a : into quotes, and begin keys of one mapping in the same column",
    "could not find expected ':'": "write a blank after the : of each key",
    "expected <block end>": "begin keys of one mapping in the same column",
}


class TooManyNodesError(Exception):
    """A YAML text of more than `MAX_YAML_NODES` nodes, aliases expanded."""


class Yaml12Loader(yaml.SafeLoader):
    """YAML with the scalars of version 1.2: `2e-4` is a number, `no` and `on` are words, `012` is twelve."""

    num_composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; stops at the bound, so that what is too wide takes no longer than what is just allowed."""
        self.num_composed += 1
        if self.num_composed > MAX_YAML_NODES:
            raise TooManyNodesError
        return super().compose_node(parent, index)


class Yaml12Dumper(yaml.SafeDumper):
    """YAML that means the same under 1.1 and 1.2: a text that either would read as something else is quoted."""


Yaml12Loader.yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("tag:yaml.org,2002:int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    for _reader in (Yaml12Loader, Yaml12Dumper):
        _reader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first) + ([""] if "null" in _tag else []))


def construct_int(loader: Yaml12Loader, node: yaml.ScalarNode) -> int:
    """Decimal, `0o17` or `0x1F`, as YAML 1.2 has them (1.1 reads `010` as eight)."""
    text = str(loader.construct_scalar(node))
    if len(text) > 30:
        raise yaml.constructor.ConstructorError(None, None, "a number of more than 30 digits", node.start_mark)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def construct_float(loader: Yaml12Loader, node: yaml.ScalarNode) -> float:
    """A finite float."""
    try:
        return finite_float(str(loader.construct_scalar(node)))
    except ValueError as problem:
        raise yaml.constructor.ConstructorError(None, None, str(problem), node.start_mark) from None


def construct_mapping(loader: Yaml12Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """A mapping with texts as keys, each once."""
    pairs = [
        (loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
        for key, value in node.value
    ]
    try:
        return unique_keys([(str(key), value) for key, value in pairs])
    except ValueError as problem:
        raise yaml.constructor.ConstructorError(None, None, str(problem), node.start_mark) from None


Yaml12Loader.add_constructor("tag:yaml.org,2002:int", construct_int)


Yaml12Loader.add_constructor("tag:yaml.org,2002:float", construct_float)


Yaml12Loader.add_constructor("tag:yaml.org,2002:map", construct_mapping)


def count_nodes(node: yaml.Node, counted: dict[int, int], *, depth: int = 0) -> int:
    """Nodes of a YAML tree with aliases expanded; memory stays small because each node is counted once.

    Raises:
        yaml.YAMLError: If it is nested too deep, or has a tag that is not of plain data.
    """
    if depth > MAX_DEPTH:
        raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")
    if node.tag not in PLAIN_TAGS:  # also those that only SafeLoader knows: a set or a time is no plain data
        raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not plain data", node.start_mark)
    if id(node) not in counted:
        counted[id(node)] = MAX_YAML_NODES + 1  # an alias to its own ancestor never ends
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        counted[id(node)] = 1 + sum(count_nodes(child, counted, depth=depth + 1) for child in children)
    return counted[id(node)]


def yaml_text(document: Any) -> str:
    """Plain data as YAML, keys in their order."""
    return yaml.dump(document, Dumper=Yaml12Dumper, sort_keys=False, allow_unicode=True)


def parse_yaml(text: bytes, *, where: object) -> Any:
    """Parse untrusted YAML with the scalars of version 1.2: no tags, bounded aliases, no repeated keys.

    Raises:
        BadDocumentError: With the line and the reason.
    """
    loader: Yaml12Loader | None = None
    try:
        loader = Yaml12Loader(text.decode("utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        if count_nodes(node, {}) <= MAX_YAML_NODES:
            return loader.construct_document(node)
        raise BadDocumentError(where, TOO_MANY_NODES)
    except TooManyNodesError:
        raise BadDocumentError(where, TOO_MANY_NODES) from None
    except yaml.MarkedYAMLError as problem:
        is_key = problem.problem == "could not find expected ':'"  # said where the parser gave up, of the key before
        mark = problem.context_mark if is_key else problem.problem_mark
        line = mark.line + 1 if mark else 0
        raise BadDocumentError(
            f"{where}:{line}", f"not valid YAML: {printable(problem.problem)}{yaml_remedy(problem)}"
        ) from None
    except UnicodeDecodeError as problem:
        raise BadDocumentError(where, f"not valid YAML: {printable(problem)}; save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError) as problem:
        raise BadDocumentError(where, f"not valid YAML: {printable(problem)}") from None
    finally:
        if loader is not None:
            loader.dispose()


def yaml_remedy(problem: yaml.MarkedYAMLError) -> str:
    """What to do about the faults of YAML that are commonest; empty for others."""
    text = str(problem.problem)
    return next((f"; {what}" for words, what in YAML_REMEDIES.items() if words in text), "")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict from pairs; the same key twice is an error."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} occurs twice")
    return result


def finite_float(text: str) -> float:
    """A finite float; one that overflows to infinity is an error."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]} is too large")
    return value
