"""What a seal says of finished shards, and the card and description beside it: shards, plan and recipe are written by hand."""

from __future__ import annotations

import hashlib
import json
import platform
import posixpath
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr

from corpus_builder.shards.croissant import ListedFile, croissant
from corpus_builder.shards.dataset_card import card, plain_text
from corpus_builder.shards.destination import Target
from corpus_builder.shards.environment import build_provenance, builds, codecs
from corpus_builder.shards.seal import seal
from manifests.corpus.shard_index import Corpus
from manifests.io.digest import digest
from manifests.plan.plan import Plan
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 8_000
RECIPE = {
    "schema": "stillroom/recipe/1",
    "name": "sealed",
    "seed": 77,
    "speech": {
        "train": {"dir": "@train", "licence": "CC BY 4.0", "citation": "Ann <1999>\nsecond line"},
        "test": {"dir": "@test"},
        "dev": {"dir": "@dev", "citation": "Bob 2001"},
    },
    "noises": {"hum": {"dir": "@hum", "licence": "CC_BY"}, "hiss": {"colour": "pink"}},
    "conditions": {
        "noise": {"steps": [{"kind": "noise", "from": ["hum"], "snr_db": 5}]},
        "hiss": {"steps": [{"kind": "noise", "from": ["hiss"], "snr_db": 5}]},
    },
    "copies": {"train": {"noise": 2, "hiss": 1}, "test": {"noise": 1, "hiss": 0}},
}
REFUSED = {"train-000001": [("z", "a reason"), ("b", "second"), ("b", "first")], "test-000000": [("y", "another")]}
SAMPLES = {"train-000000": [16_000, 7_999, 1], "train-000001": [], "test-000000": [1_234]}


def plan_of(*names: str) -> Plan:
    files = [
        {
            "name": name,
            "split": name[:-7],
            "rows": 9,
            "seconds": 1.0,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
        }
        for name in names
    ]
    plain = {
        "schema": Plan.SCHEMA, "name": "sealed", "recipe_sha256": "a" * 64, "sample_rate": RATE_HZ, "files": files, "levels_sha256": "1" * 64,
        "rooms_sha256": "2" * 64, "filtered": {"train": {"files that are not read, by their suffix: .t<x>t": 4, "min_s": 2}},
        "refused": [{"split": "train", "id": "c", "reason": "planned"}, {"split": "dev", "id": "x", "reason": "planned"}],
    }  # fmt: skip
    return Plan.parse(plain, where="test")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three finished shards; the tars are not what their digests say, so that one sees which digest is used."""
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    (tmp_path / "shards").mkdir()
    for number, file in enumerate(plan_of(*SAMPLES).files):
        (tmp_path / f"shards/{file.name}.tar").write_bytes(b"t" * (100 + number))
        member = {"json": {"offset": 512, "size": 10}}
        index = {
            "schema": "stillroom/shard/1", "name": file.name, "split": file.split, "sample_rate": RATE_HZ, "bytes": 100 + number,
            "sha256": str(number) * 64, "plan_sha256": file.sha256,
            "samples": [{"key": f"k{at}", "num_samples": size, "members": member} for at, size in enumerate(SAMPLES[file.name])],
            "refused": [{"split": file.split, "id": name, "reason": reason} for name, reason in REFUSED.get(file.name, ())],
        }  # fmt: skip
        (tmp_path / f"shards/{file.name}.json").write_text(json.dumps(index))
        named = [
            *(f"u{at}" for at in range(len(SAMPLES[file.name]))),
            *(name for name, _ in REFUSED.get(file.name, ())),
        ]
        source = {"root": "train", "path": "a.wav"}
        rows = [{"id": name, "key": f"k{at}", "split": file.split, "source": source} for at, name in enumerate(named)]
        (tmp_path / "plan").mkdir(exist_ok=True)
        (tmp_path / f"plan/{file.name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("levels", "rooms"):
        (tmp_path / f"plan/{name}.jsonl").write_text("")
    return tmp_path


def test_a_seal_adds_up_the_shards_of_each_split_and_all_that_was_refused(corpus: Path) -> None:
    plan = plan_of(*SAMPLES)
    sealed = seal(plan, Target(corpus))
    entries = {split: [one.model_dump(exclude_none=True) for one in shards] for split, shards in sealed.splits.items()}
    assert entries == {
        "train": [
            {"name": "train-000000", "samples": 3, "seconds": 3.0, "bytes": 100, "sha256": "0" * 64},
            {"name": "train-000001", "samples": 0, "seconds": 0.0, "bytes": 101, "sha256": "1" * 64},
        ],
        "test": [{"name": "test-000000", "samples": 1, "seconds": 0.154, "bytes": 102, "sha256": "2" * 64}],
        "dev": [],
    }
    assert sealed.copies == {"train": {"noise": 2, "hiss": 1}, "test": {"noise": 1}, "dev": {}}
    assert sealed.refused == {"train": 4, "test": 1, "dev": 1}
    assert (sealed.name, sealed.recipe_sha256, sealed.plan_sha256) == ("sealed", "a" * 64, digest(plan))
    assert (sealed.sample_rate, sealed.filtered) == (RATE_HZ, plan.filtered)
    assert json.loads((corpus / "corpus.json").read_text())["totals"] == {
        "samples": 4,
        "seconds": 3.154,
        "bytes": 303,
        "shards": 3,
    }
    lines = [json.loads(line) for line in (corpus / "refused.jsonl").read_text().splitlines()]
    assert [(line["split"], line["id"], line["reason"]) for line in lines] == [
        ("dev", "x", "planned"), ("test", "y", "another"), ("train", "b", "first"), ("train", "b", "second"), ("train", "c", "planned"),
        ("train", "z", "a reason"),
    ]  # fmt: skip
    sums = dict(line.split("  ")[::-1] for line in (corpus / "SHA256SUMS").read_text().splitlines())
    assert [sums[f"shards/{name}.tar"] for name in SAMPLES] == ["0" * 64, "1" * 64, "2" * 64]
    for name in (
        "refused.jsonl",
        "README.md",
        "croissant.json",
        "recipe.yaml",
        "corpus.json",
        "shards/test-000000.json",
    ):
        assert sums[name] == hashlib.sha256((corpus / name).read_bytes()).hexdigest()


def sealed_of(**splits: list[tuple[int, float, int]]) -> Corpus:
    """A sealed corpus: for each shard its samples, seconds and bytes."""
    entries = {
        split: [
            {
                "name": f"{split}-{at:06d}",
                "samples": samples,
                "seconds": seconds,
                "bytes": size,
                "sha256": f"{at:x}" * 64,
            }
            for at, (samples, seconds, size) in enumerate(shards)
        ]
        for split, shards in splits.items()
    }
    every = [one for shards in splits.values() for one in shards]
    samples, seconds, size = (sum(column) for column in zip(*every, strict=True))
    plain = {
        "schema": "stillroom/corpus/1", "name": "sealed", "recipe_sha256": "a" * 32 + "c" * 32, "plan_sha256": "b" * 32 + "d" * 32,
        "sample_rate": RATE_HZ, "splits": entries, "copies": {"train": {"noise": 2, "hiss": 1}, "test": {"noise": 1}},
        "totals": {"samples": samples, "seconds": seconds, "bytes": size, "shards": len(every)},
        "filtered": plan_of("train-000000").filtered,
    }  # fmt: skip
    return Corpus.parse(plain, where="test")


SEALED = sealed_of(
    dev=[], train=[(7, 5400.0, 2_000_000), (5, 1800.0, 1_500_000), (0, 0.0, 1024)], test=[(3, 900.0, 600_000)]
)


def test_a_card_has_a_line_for_each_split_and_each_licence_with_its_markup_escaped() -> None:
    text = card(SEALED, Recipe.parse(RECIPE, where="test"), {})
    assert "\n15 utterances (2.25 h, each counted once)" in text
    assert "8000 Hz, 16-bit FLAC in 4 tars (0.004 GB)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| split")]
    assert rows == [
        "| dev | 0 | 0.00 | 0 | 0.000 | none |",
        "| train | 12 | 2.00 | 3 | 0.004 | 2 x noise, 1 x hiss |",
        "| test | 3 | 0.25 | 1 | 0.001 | 1 x noise |",
    ]
    assert 'WebDataset("shards/train-000000.tar", shardshuffle=False)' in text
    assert f"Noises: hum, hiss. Rooms: none. Seed 77; recipe {'a' * 16}, plan {'b' * 16}." in text
    lines = [line for line in text.splitlines() if line.startswith("- ") and "config_name" not in line]
    assert lines == [
        "- train&#58; 4 files that end in .t&#60;x&#62;t are not read",
        "- train: CC BY 4.0",
        "- train, to be cited as: Ann &#60;1999&#62;&#92;nsecond line",
        "- dev, to be cited as: Bob 2001",
        "- hum: CC&#95;BY",
    ]
    assert f"Made with python {platform.python_version()}, " in text
    assert f"soxr {soxr.__version__}" in text
    assert not any(mark in plain_text("a*b_c|d<e>&[f]`g`") for mark in "*_|<>[]`")
    assert 'WebDataset("shards/NAME.tar"' in card(
        sealed_of(dev=[], train=[(1, 1.0, 1)]).model_copy(update={"splits": {}}),
        Recipe.parse(RECIPE, where="test"),
        {},
    )


def test_a_description_for_loaders_has_each_split_that_has_samples_with_its_own_files() -> None:
    listed = {"train": ListedFile(70, "7" * 64), "test": ListedFile(80, "8" * 64)}
    found = croissant(SEALED, Recipe.parse(RECIPE, where="test"), listed)
    assert found["license"] == ["CC BY 4.0", "CC_BY"]
    assert found["citeAs"] == "Ann <1999>\nsecond line\nBob 2001"
    assert found["url"] == f"urn:sha256:{SEALED.plan_sha256}"
    assert found["name"] == "sealed"
    assert found["description"].startswith("15 utterances, 2.25 h, ")
    assert found["description"].endswith(f"Recipe {SEALED.recipe_sha256}, plan {SEALED.plan_sha256}.")
    files = [
        (
            one["@type"].removeprefix("cr:"),
            one["@id"],
            posixpath.normpath(one.get("contentUrl", "")),
            one.get("contentSize"),
            one.get("sha256"),
        )
        for one in found["distribution"]
    ]
    assert files == [
        ("FileObject", "train-000000.tar", "shards/train-000000.tar", "2000000 B", "0" * 64),
        ("FileObject", "train-000001.tar", "shards/train-000001.tar", "1500000 B", "1" * 64),
        ("FileSet", "train-json", ".", None, None),
        ("FileSet", "train-flac", ".", None, None),
        ("FileObject", "train-utterances", "utterances/train.jsonl", "70 B", "7" * 64),
        ("FileObject", "test-000000.tar", "shards/test-000000.tar", "600000 B", "0" * 64),
        ("FileSet", "test-json", ".", None, None),
        ("FileSet", "test-flac", ".", None, None),
        ("FileObject", "test-utterances", "utterances/test.jsonl", "80 B", "8" * 64),
    ]
    assert [records["@id"] for records in found["recordSet"]] == ["train", "train-about", "test", "test-about"]
    for split, records in zip(("train", "test"), found["recordSet"][1::2], strict=True):
        assert [(field["@id"], field["source"]) for field in records["field"]] == [
            (f"{split}-about/member", {"fileSet": {"@id": f"{split}-json"}, "extract": {"fileProperty": "filename"}}),
            (f"{split}-about/about", {"fileSet": {"@id": f"{split}-json"}, "extract": {"fileProperty": "content"}}),
        ]
    plain: dict[str, Any] = {
        **RECIPE,
        "speech": {"train": {"dir": "@train"}, "test": {"dir": "@test"}},
        "noises": {"hiss": {"colour": "pink"}},
    }
    plain["conditions"] = {"hiss": RECIPE["conditions"]["hiss"]}  # type: ignore[index]
    plain["copies"] = {}
    bare = croissant(SEALED, Recipe.parse(plain, where="test"), listed)
    assert bare["license"] == ["The licences of the speech and noise it was made from hold for it too."]
    assert "citeAs" not in bare


def test_the_provenance_of_a_corpus_has_what_decides_the_output_of_a_coder() -> None:
    found = build_provenance()
    assert found["codecs"] == codecs()
    assert found["codecs"]["libsndfile"] == soundfile.__libsndfile_version__
    assert found["codecs"]["libsoxr"] == soxr.__libsoxr_version__
    assert found["codecs"]["libavcodec"].count(".") == 2
    assert found["builds"] == builds()
    assert all(len(code) == 16 for code in found["builds"].values())
    assert any(name.startswith("libavcodec") for name in found["builds"])
    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[call-overload]
    assert found["processor"] == {
        "machine": platform.machine(), "byte_order": "little", "features": [*simd["baseline"], *simd.get("found", [])],
    }  # fmt: skip
    assert found["libc"] == "-".join(filter(None, platform.libc_ver()))
