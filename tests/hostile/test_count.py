"""How many hostile inputs knock, counted from the tables that the other tests run over, and that each class that is promised has its own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.hostile import test_borrowed, test_corpora, test_models, test_packs, test_recipes, test_results

HONEST = {"TENSOR", "ROLL", "OUTCOME", "TRIAL", "COMMAND", "RECIPE", "STUDENT", "TEACHER"}
TABLES = {
    f"{module.__name__.rpartition('.')[2]}.{name}": table
    for module in (test_recipes, test_corpora, test_borrowed, test_packs, test_models, test_results)
    for name, table in vars(module).items()
    if name.isupper() and isinstance(table, dict) and name not in HONEST
}
INPUTS = {id(table): len(table) for table in TABLES.values()}  # a table that another module imports counts once

CLASSES: dict[str, tuple[str, str]] = {
    "pipe: and other command URLs": ("test_borrowed.PLACES", "a command"),
    "a lhotse AudioSource that is a command": ("test_recipes.MANIFESTS", "command"),
    "the same at a depth": ("test_recipes.MANIFESTS", "command 40 deep"),
    "absolute paths": ("test_corpora.CORPUS_JSON", "absolute shard"),
    "..": ("test_corpora.CORPUS_JSON", "shard of a path"),
    "links in tars": ("test_corpora.TARS", "symbolic link"),
    "devices in tars": ("test_corpora.TARS", "device"),
    "gzip bombs": ("test_corpora.TARS", "gzip bomb"),
    "tar bombs": ("test_corpora.TARS", "long name of a gigabyte"),
    "members beyond the tar's end": ("test_corpora.TARS", "more than follows"),
    "offsets that overlap": ("test_corpora.INDEXES", "overlap"),
    "offsets that overflow": ("test_corpora.INDEXES", "offset that overflows"),
    "duplicate keys": ("test_corpora.TEXTS", "key twice"),
    "script elements": ("test_corpora.NASTY", "markup"),
    "ANSI escapes": ("test_corpora.NASTY", "escape"),
    "bidi marks": ("test_corpora.NASTY", "bidi"),
    "newlines": ("test_corpora.NASTY", "two lines"),
    "Markdown": ("test_corpora.NASTY", "Markdown"),
    "CSV": ("test_corpora.NASTY", "CSV"),
    "a billion laughs": ("test_corpora.YAMLS", "laughs"),
    "YAML tags": ("test_corpora.YAMLS", "tag"),
    "deep nesting": ("test_corpora.TEXTS", "deep"),
    "NaN": ("test_corpora.TEXTS", "NaN"),
    "infinite numbers": ("test_corpora.TEXTS", "infinite"),
    "huge counts": ("test_corpora.INDEXES", "bytes beyond all"),
    "wrong digests": ("test_corpora.INDEXES", "wrong digest"),
    "truncated files": ("test_corpora.TARS", "cut off"),
    "mixed encodings": ("test_corpora.TEXTS", "UTF-16"),
    "a pickle where safetensors is due": ("test_models.SAFETENSORS", "a pickle"),
    "a pickle where JSON is due": ("test_corpora.TEXTS", "a pickle"),
    "extended headers of pax": ("test_packs.HEADERS", "pax path for all"),
    "extended headers of GNU": ("test_packs.HEADERS", "GNU long name outside"),
    "sparse members": ("test_packs.HEADERS", "pax sparse"),
    "names that collide without case": ("test_packs.HEADERS", "name in other letters"),
    "names that collide when composed": ("test_packs.HEADERS", "name of a decomposed letter"),
    "a pack in a pack": ("test_packs.WHOLE", "a pack in a pack"),
    "rubbish after a gzip": ("test_packs.WHOLE", "rubbish after the pack"),
    "another lab's roots": ("test_packs.HEADERS", "places of the packer"),
    "caches": ("test_packs.CACHES", "of links"),
    "numbers that overflow": ("test_packs.MEMBERS", "a row that starts at 1e308"),
    "a fingerprint that is none": ("test_packs.MEMBERS", "a fingerprint that is none"),
}


def test_each_class_that_is_promised_has_an_input() -> None:
    assert not [what for what, (table, name) in CLASSES.items() if name not in TABLES[table]]


def test_there_are_as_many_inputs_as_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs/strangers.md").read_text()
    [told] = re.findall(r"(\d+) hostile inputs", page)
    assert sum(INPUTS.values()) == int(told)
    assert int(told) >= 200
