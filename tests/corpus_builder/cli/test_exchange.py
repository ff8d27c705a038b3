"""What `index`, `subset`, `unpack` and `lhotse` print, and with which code they end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from corpus_builder.exchange.index_webdataset import Indexed
from corpus_builder.exchange.lhotse_export import Written
from corpus_builder.exchange.unpack import Unpacked
from manifests.corpus.shard_index import Corpus
from manifests.plan.plan import Refusal
from stillroom.cli import stillroom

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def entry(name: str, samples: int) -> dict[str, Any]:
    return {"name": name, "samples": samples, "seconds": 1.0, "bytes": 5, "sha256": "0" * 64}


CORPUS = Corpus.parse(
    {
        "schema": "stillroom/corpus/1", "name": "x", "recipe_sha256": "0" * 64, "plan_sha256": "0" * 64, "sample_rate": 8000,
        "splits": {"train": [entry("a-000000", 5), entry("a-000001", 6)], "dev": [entry("b-000000", 8)]},
        "copies": {"train": {"noise": 2, "far": 1}, "dev": {}},
        "totals": {"samples": 19, "seconds": 7200.0, "bytes": 15, "shards": 3},
    },
    where="test",
)  # fmt: skip


def run(*words: object) -> Result:
    return CliRunner().invoke(stillroom, [str(word) for word in words])


def giving(result: Any) -> Callable[..., Any]:
    return lambda *_, **__: result


def test_an_index_tells_copies_what_is_left_out_and_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = Counter({f"reason {number}": number for number in range(1, 8)})
    refused = [Refusal(split="dev", id=f"u{number}", reason=f"why {number}") for number in range(7)]
    made = Indexed(Path("o"), CORPUS, left_out, refused)
    monkeypatch.setattr("corpus_builder.exchange.index_webdataset.index_shards", giving(made))
    result = run("index", "a.tar")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "o: 19 utterances, 2.00 h, 3 shards, 8000 Hz, 7 refused",
        "train: 2 noise, 1 far",
        "dev: no copies but the clean one",
        *(f"left out {number} times: reason {number}" for number in (7, 6, 5, 4, 3)),
        *(f"refused in dev: u{number}: why {number}" for number in range(5)),
        "... and 2 more refused; all are listed in refused.jsonl",
    ]
    for allowed, code in (("6", 1), ("7", 0), ("26%", 1), ("27%", 0)):  # 7 of 26
        assert run("index", "a.tar", "--max-refused", allowed).exit_code == code
    made.refused[5:] = []
    assert "more refused" not in run("index", "a.tar").stdout


def test_a_subset_tells_each_split_with_its_own_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus_builder.exchange.subset.subset", giving(CORPUS))
    assert run("subset", "c", "o", "--where", "split=dev").stdout.splitlines() == [
        "o: 19 utterances, 2.00 h",
        "train: 11 utterances; copies that each has: 2 noise, 1 far",
        "dev: 8 utterances; copies that each has: none",
    ]


def test_what_was_unpacked_linked_and_left_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    function = "corpus_builder.exchange.unpack.unpack"
    words = ("unpack", "c", "o", "--condition", "noise-1")
    monkeypatch.setattr(function, giving(Unpacked(21, 13, 34, 5, 8, ("hum", "din"), ("extra",))))
    result = run(*words)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "o: 13 files with 21 utterances of noise-1, 34 linked",
        "other files of the source were not linked; add --root hum=DIR --root din=DIR to link them",
    ]
    assert result.stderr.splitlines() == [
        "5 of the linked files are audio without such a copy: they are those of the source, undistorted",
        "8 utterances have no such copy: their files are those of the source, where --root is given",
        "--root extra: no utterance comes from there",
    ]
    monkeypatch.setattr(function, giving(Unpacked(21, 13, 0, 0, 0, (), ())))
    assert run(*words).output == "o: 13 files with 21 utterances of noise-1, 0 linked\n"


def test_an_export_tells_cuts_and_fields_of_each_split(monkeypatch: pytest.MonkeyPatch) -> None:
    written = {"train": Written(11, ("noise_0", "far_0")), "dev": Written(8, ())}
    monkeypatch.setattr("corpus_builder.exchange.lhotse_export.export_shar", giving(written))
    assert run("lhotse", "c", "o").stdout.splitlines() == [
        "train: 11 cuts; copies: noise_0, far_0",
        "dev: 8 cuts; copies: none",
    ]
