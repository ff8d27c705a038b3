"""A stranger's corpus at the doors that take a part of it or compare it, a foreign tar that gets an index, and where tars are said to lie."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.hostile.conftest import train_config
from tests.hostile.test_corpora import CORPUS_JSON, INDEXES, NASTY, SHARD, TARS, twist
from tests.hostile.test_corpora import TEXTS as DOCUMENTS
from tests.hostile.test_recipes import MANIFESTS

if TYPE_CHECKING:
    from tests.hostile.conftest import House

WHERES: dict[str, str] = {
    "nothing": "",
    "no comparison": "split",
    "unknown field": "__class__=x",
    "a call": "__import__('os').system('touch OWNED')=1",
    "a command": "$(touch OWNED)=1",
    "a command for a value of a number": "seconds<$(touch OWNED)",
    "a bar": "|touch OWNED",
    "NaN": "seconds<nan",
    "infinite": "seconds<inf",
    "overflow": "seconds<1e999",
    "many digits": "seconds<" + "9" * 100_000,
    "Arabic digits": "seconds<\u0661\u0662",
    "underscores": "seconds<1_0",
    "order of texts": "speaker<s1",
    "escape": "\x1b[31m=x",
    "escape in a number": "seconds<\x1b]0;x\x07",
    "bidi": "seconds<\u202e1",
    "two lines": "seconds<1\nstillroom: fine",
    "NUL": "seconds<1\0",
    "long field": "a" * 1_000_000 + "=1",
    "deep": "(" * 100_000 + ")" * 100_000,
    "a file that is none": "speaker=@/etc/nothing\u202e",
    "a folder": "speaker=@/etc",
    "a device": "speaker=@/dev/zero",
    "a URL": "speaker=@http://127.0.0.1:9/x",
    "a pipe": "speaker=@pipe:touch OWNED",
}


@pytest.mark.parametrize("name", WHERES)
def test_a_hostile_where_is_one_line(house: House, name: str) -> None:
    house.refused("subset", house.corpus, house.home / "part", "--where", WHERES[name], target="part")
    assert not (house.home / "part").exists()
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_bytes_that_are_no_corpus_json_are_one_line_to_whoever_takes_a_part_of_it(house: House, name: str) -> None:
    house.write("corpus/corpus.json", DOCUMENTS[name])
    house.refused("subset", house.corpus, house.home / "part", "--where", "split=train", target="part")
    house.refused("unpack", house.corpus, house.home / "tree", "--condition", "noise", target="tree")
    house.refused("lhotse", house.corpus, house.home / "shar", target="shar")
    house.refused("audit", house.corpus, "--sound", "none")


@pytest.mark.parametrize("name", CORPUS_JSON)
def test_a_hostile_corpus_json_is_no_worse_for_whoever_takes_a_part_of_it(house: House, name: str) -> None:
    twist(house, "corpus/corpus.json", CORPUS_JSON[name])
    for words, target in part_takers(house):
        answer = house.knock(*words, target=target)
        assert answer.code in {0, 1, 2}
        assert answer.code != 2 or answer.line


@pytest.mark.parametrize("name", INDEXES)
def test_a_hostile_shard_index_is_no_worse_for_whoever_takes_a_part_of_it(house: House, name: str) -> None:
    twist(house, f"corpus/{SHARD}.json", INDEXES[name])
    for words, target in part_takers(house):
        answer = house.knock(*words, target=target)
        assert answer.code in {0, 1, 2}
        assert answer.code != 2 or answer.line


def part_takers(house: House) -> list[tuple[tuple[object, ...], str | None]]:
    """Commands with what they may write."""
    return [
        (("subset", house.corpus, house.home / "part", "--where", "seconds<10"), "part"),
        (("audit", house.corpus, house.heard, "--sound", "none"), None),
    ]


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_that_is_to_get_an_index_is_refused_or_read(house: House, name: str) -> None:
    """Links and devices are never followed, and what is indexed is what lies in the tar."""
    content = TARS[name]((house.corpus / f"{SHARD}.tar").read_bytes())
    house.write("foreign/x.tar", content)
    answer = house.knock("index", house.home / "foreign/x.tar", "--out", house.home / "index", target="index")
    assert answer.code in {0, 1, 2}
    assert "Traceback" not in answer.err
    assert answer.code != 2 or answer.err.splitlines()[-1].startswith("stillroom: ")
    assert "root:" not in answer.out
    assert not list(house.home.rglob("OWNED"))
    if answer.code == 0:
        checked = house.knock("verify", house.home / "index")
        assert checked.code in {0, 1, 2}


ROOTS: dict[str, Any] = {
    "a command": {"schema": "stillroom/roots/1", "roots": {"x": "pipe:touch OWNED"}},
    "a bar": {"schema": "stillroom/roots/1", "roots": {"x": "|touch OWNED"}},
    "a chain": {"schema": "stillroom/roots/1", "roots": {"x": "simplecache::http://127.0.0.1:9/x"}},
    "another chain": {"schema": "stillroom/roots/1", "roots": {"x": "tar://a::file:///etc/passwd"}},
    "an unknown protocol": {"schema": "stillroom/roots/1", "roots": {"x": "python:///os.system"}},
    "a folder that leads out": {"schema": "stillroom/roots/1", "roots": {"x": "../../../../etc"}},
    "a device": {"schema": "stillroom/roots/1", "roots": {"x": "/dev/zero"}},
    "proc": {"schema": "stillroom/roots/1", "roots": {"x": "/proc/self/fd"}},
    "escapes": {"schema": "stillroom/roots/1", "roots": {"x": "/\x1b[31m\u202e\n"}},
    "NUL": {"schema": "stillroom/roots/1", "roots": {"x": "/a\0b"}},
    "a number": {"schema": "stillroom/roots/1", "roots": {"x": 7}},
    "a list": {"schema": "stillroom/roots/1", "roots": {"x": ["/etc"]}},
    "roots of a list": {"schema": "stillroom/roots/1", "roots": ["/etc"]},
    "another root": {"schema": "stillroom/roots/1", "roots": {"y": "/etc"}},
    "newer": {"schema": "stillroom/roots/99", "roots": {"x": "/etc"}},
    "unknown key": {"schema": "stillroom/roots/1", "roots": {}, "<script>\x1b[2J": 1},
    "a long name": {"schema": "stillroom/roots/1", "roots": {"x": "/" + "x" * 100_000}},
}


def lend(house: House) -> str:
    """Make a subset of the corpus to train on; gives the name of the root that it borrows from."""
    answer = house.knock("subset", house.heard, house.home / "part", "--where", "seconds<10", target="part")
    assert answer.code == 0, answer
    config = train_config(house.home) | {"corpus": str(house.home / "part")}
    house.write("train.yaml", yaml.safe_dump(config))
    return str(house.json("part/corpus.json")["borrowed"]["root"])


@pytest.mark.parametrize("name", ROOTS)
def test_hostile_places_of_borrowed_tars_are_told(house: House, name: str) -> None:
    root = lend(house)
    roots = dict(ROOTS[name])
    if isinstance(roots["roots"], dict):
        roots["roots"] = {root if key == "x" else key: value for key, value in roots["roots"].items()}
    house.write("part/roots.local.json", roots)
    house.found("verify", house.home / "part")
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_bytes_that_say_no_place_of_borrowed_tars_are_told(house: House, name: str) -> None:
    lend(house)
    house.write("part/roots.local.json", DOCUMENTS[name])
    house.found("verify", house.home / "part")
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")


PLACES: dict[str, str] = {
    "a command": "pipe:touch OWNED",
    "a bar": "touch OWNED |",
    "a chain": "simplecache::http://127.0.0.1:9/x",
    "a chain to a file": "filecache::file:///etc/passwd",
    "a chain of tars": "tar://a::file:///etc/passwd",
    "an unknown protocol": "python:///os.system",
    "a device": "/dev/zero",
    "a pack that is a device": "/dev/zero.tar.gz",
    "escapes": "x\x1b[31m\u202e\n",
    "long": "x" * 100_000,
    "empty": "",
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_none_is_one_line_at_every_door(house: House, name: str) -> None:
    place, out = PLACES[name], house.home / "out"
    for words in (
        ("verify", place), ("verify", house.corpus, "--against", place), ("show", place), ("diff", house.corpus, place),
        ("diff", place, house.pack), ("audit", house.corpus, place), ("rebuild", place, out), ("pack", place, house.home / "out"),
        ("subset", place, out, "--where", "split=train"), ("unpack", place, out, "--condition", "noise"), ("lhotse", place, out),
        ("index", place, "--out", out), ("plan", place, out), ("build", place, out), ("train", place, out), ("evaluate", place, out),
    ):  # fmt: skip
        answer = house.knock(*words, target="out")
        if words[:2] == ("verify", house.corpus):
            assert answer.code == 2  # what verify says of the corpus comes before
            assert answer.err.splitlines()[-1].startswith("stillroom: ")
        else:
            assert answer.code == 2, (words, answer)
            assert answer.line
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name.startswith(("command", "pipe", "bar"))])
def test_a_manifest_that_would_run_something_is_one_line_to_build(house: House, name: str) -> None:
    house.write("cuts.jsonl", MANIFESTS[name])
    recipe = yaml.safe_load((house.corpus / "recipe.yaml").read_text())
    recipe["speech"] = {"train": {"cuts": str(house.home / "cuts.jsonl"), "root": "speech"}}
    recipe["copies"] = {"train": {"phone": 1}}
    house.write("recipe.yaml", recipe)
    house.refused(
        "build", house.home / "recipe.yaml", house.home / "out", "--root", f"speech={house.home}", target="out"
    )
    house.refused(
        "build",
        house.home / "recipe.yaml",
        house.home / "out",
        "--dry-run",
        "--root",
        f"speech={house.home}",
        target="out",
    )
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize("name", NASTY)
def test_hostile_texts_in_a_folder_that_is_indexed_are_kept_and_shown_harmlessly(house: House, name: str) -> None:
    digest = hashlib.sha256(NASTY[name].encode()).hexdigest()[:8]
    house.write(f"foreign/{digest}.tar", (house.corpus / f"{SHARD}.tar").read_bytes())
    answer = house.knock(
        "index", house.home / "foreign", "--out", house.home / "index", "--name", NASTY[name], target="index"
    )
    assert answer.code in {0, 1, 2}
    assert answer.code != 2 or answer.line
