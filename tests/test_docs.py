"""What the documentation shows, as a reader would copy it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.config import EvaluationConfig
from manifests.recipe.recipe import Recipe
from training.config.load import resolved

HOUSE = Path(__file__).resolve().parents[1]
PAGES = sorted([HOUSE / "README.md", *HOUSE.glob("docs/*.md"), *HOUSE.glob("recipes/**/*.md")])
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPEECH = {split: {"dir": split} for split in ("train", "dev", "test")}
NOISES = {"musan": {"dir": "musan"}}


def snippets(language: str) -> list[Any]:
    """Every fenced block of a language, named by its page and its number on it."""
    return [
        pytest.param(text, id=f"{page.relative_to(HOUSE)}-{number}")
        for page in PAGES
        for number, (found, text) in enumerate(FENCE.findall(page.read_text("utf-8")), 1)
        if found == language
    ]


@pytest.mark.parametrize("text", snippets("yaml"))
def test_every_yaml_on_a_page_is_valid_as_it_stands_or_as_a_part(text: str) -> None:
    shown = yaml.safe_load(text)
    if "models" in shown:
        EvaluationConfig.parse(shown, where="a page")
    elif shown.keys() & {"teacher", "student", "views", "adversary", "loss", "stage", "targets", "crops"}:
        resolved(
            {"preset": "cdm2-dat", "corpus": "corpus", "teacher": {"name": "hubert_base"}, **shown}, where="a page"
        )
    else:
        whole = {"schema": Recipe.SCHEMA, "name": "part", "speech": SPEECH, **shown}
        Recipe.parse({**whole, "noises": {**NOISES, **shown.get("noises", {})}}, where="a page")


@pytest.mark.parametrize("text", snippets("python"))
def test_every_python_on_a_page_is_python(text: str) -> None:
    ast.parse(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target and not target.startswith(
            "reference/"
        ):  # those pages are made with the site: tests/test_site.py
            assert (page.parent / target).exists(), target
