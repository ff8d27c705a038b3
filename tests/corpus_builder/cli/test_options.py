"""Every option of a command reaches the function that does the work, with the value that was given."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from corpus_builder.build.build_corpus import Slice
from corpus_builder.build.dry_run import Estimate
from corpus_builder.cli.options import Allowance, parse_allowance
from corpus_builder.rebuild.plan_subset import Selection
from corpus_builder.workers.preemption import Stop
from manifests.io.url import Url
from stillroom.cli import stillroom

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReachedError(Exception):
    """The function that does the work was called."""

    def __init__(self, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        super().__init__()
        self.given, self.named = given, named


def reached(monkeypatch: pytest.MonkeyPatch, function: str, words: list[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a command calls its function with."""

    def called(*given: Any, **named: Any) -> None:
        raise ReachedError(given, named)

    monkeypatch.setattr(function, called)
    result = CliRunner().invoke(stillroom, words)
    assert isinstance(result.exception, ReachedError), (result.exception, result.output)
    return result.exception.given, result.exception.named


COMMANDS: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
    (
        "plan r.yaml p --root train=TMP --limit 3 --workers 2", "corpus_builder.plan.make_plan.plan",
        (Path("r.yaml"), Path("p")), {"roots": {"train": "TMP"}, "limit": 3, "workers": 2},
    ),
    (
        "build r.yaml c --root train=TMP --limit 3 --workers 2 --slice 2/3 --scratch s --stop-after 2m",
        "corpus_builder.build.build_corpus.build", (Path("r.yaml"), Path("c")),
        {
            "roots": {"train": "TMP"}, "limit": 3, "workers": 2, "part": Slice(2, 3), "only_rooms": False, "executor": None,
            "scratch": Path("s"), "stop": 120.0,
        },
    ),
    (
        "build r.yaml s3://b/c --rooms", "corpus_builder.build.build_corpus.build", (Path("r.yaml"), Url("s3://b/c")),
        {
            "roots": {}, "limit": None, "workers": 1, "part": None, "only_rooms": True, "executor": None, "scratch": None,
            "stop": None,
        },
    ),
    (
        "build r.yaml c --dry-run --root train=TMP --limit 3 --workers 2", "corpus_builder.build.dry_run.estimate",
        (Path("r.yaml"),), {"roots": {"train": "TMP"}, "limit": 3, "workers": 2, "remote": False},
    ),
    (
        "build r.yaml s3://b/c --dry-run", "corpus_builder.build.dry_run.estimate",
        (Path("r.yaml"),), {"roots": {}, "limit": None, "workers": 1, "remote": True},
    ),
    (
        "verify c --level physics --workers 2", "corpus_builder.verify.verify_corpus.verify",
        (Path("c"),), {"level": "physics", "workers": 2},
    ),
    (
        "index a.tar dev=b.tar --out o --split eval --clean clean.flac --name n --workers 2",
        "corpus_builder.exchange.index_webdataset.index_shards", (("a.tar", "dev=b.tar"),),
        {"out": Path("o"), "split": "eval", "clean": "clean.flac", "name": "n", "workers": 2},
    ),
    (
        "unpack c o --condition noise-1 --root train=TMP --split dev --split test", "corpus_builder.exchange.unpack.unpack",
        (Path("c"), Path("o")), {"condition": "noise-1", "roots": {"train": "TMP"}, "splits": ("dev", "test")},
    ),
    (
        "lhotse c o --split dev --split test --shard-size 7", "corpus_builder.exchange.lhotse_export.export_shar",
        (Path("c"), Path("o")), {"splits": ("dev", "test"), "shard_size": 7},
    ),
    ("pack c p.tar.gz", "manifests.pack.write.write_pack", (Path("c"), Path("p.tar.gz")), {}),
    (
        "rebuild p.tar.gz c --root train=TMP --workers 2 --split dev --condition far --condition phone --limit 4",
        "corpus_builder.rebuild.rebuild_corpus.rebuild", (Path("p.tar.gz"), Path("c")),
        {
            "roots": {"train": "TMP"}, "workers": 2, "selection": Selection(("dev",), ("far", "phone"), 4), "stop": None, "scratch": None,
        },
    ),
    ("diff a b", "corpus_builder.rebuild.diff.differences", (Path("a"), Path("b")), {}),
    (
        "audit a b --root B:train=TMP --sound all --cache k --editions --workers 2", "corpus_builder.audit.audit_corpora.audit",
        ((Path("a"), Path("b")),),
        {"roots": {"B:train": "TMP"}, "sound": "all", "cache": Path("k"), "editions": True, "workers": 2},
    ),
    (
        "audit a", "corpus_builder.audit.audit_corpora.audit", ((Path("a"),),),
        {"roots": {}, "sound": "noises", "cache": None, "editions": False, "workers": 1},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "function", "given", "named"), COMMANDS, ids=[words for words, *_ in COMMANDS])
def test_every_option_reaches_the_function_that_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    function: str,
    given: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    was_given, was_named = reached(monkeypatch, function, words.replace("TMP", str(tmp_path)).split())
    expected = dict(named)
    if "roots" in named:
        expected["roots"] = dict.fromkeys(named["roots"], tmp_path)
    if "stop" in named:
        stop = was_named.pop("stop")
        assert isinstance(stop, Stop)
        assert stop.after_s == expected.pop("stop")
    assert (was_given, was_named) == (given, expected)


def test_a_subset_is_given_every_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["subset", "c", "o", "--where", "split=dev", "--where", "seconds<10"]
    given, named = reached(monkeypatch, "corpus_builder.exchange.subset.subset", words)
    assert given == (Path("c"), Path("o"))
    assert [term.expression for term in named["where"].terms] == ["split=dev", "seconds<10"]


def test_shards_are_rendered_by_the_cluster_whose_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = object()
    addresses: list[str] = []

    @contextlib.contextmanager
    def connected(address: str) -> Iterator[object]:
        addresses.append(address)
        yield cluster

    monkeypatch.setattr("corpus_builder.build.dask_executor.dask_executor", connected)
    words = ["build", "r.yaml", "c", "--dask", "tcp://n:8786"]
    _, named = reached(monkeypatch, "corpus_builder.build.build_corpus.build", words)
    assert named["executor"] is cluster
    assert addresses == ["tcp://n:8786"]


def test_an_estimate_is_for_the_workers_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = Estimate(
        utterances=5, audio_s=7200.0, shards=1, corpus_bytes=1e9, files=7, temporary_bytes=1e9, core_s=14_400.0, room_s=0.0, sampled=5
    )  # fmt: skip
    monkeypatch.setattr("corpus_builder.build.dry_run.estimate", lambda *_, **__: cost)
    result = CliRunner().invoke(stillroom, ["build", "r.yaml", "c", "--dry-run", "--workers", "4"])
    assert "1h00m with 4 worker(s)" in result.stdout


@pytest.mark.parametrize(("words", "count"), [(["--samples", "9"], 9), ([], 6)])
def test_a_page_has_as_many_utterances_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, words: list[str], count: int
) -> None:
    monkeypatch.setattr("corpus_builder.pages.summary.description", lambda _: "described")
    monkeypatch.setattr("manifests.corpus.shard_index.read_corpus", lambda _: SimpleNamespace(borrowed=None))
    given, named = reached(
        monkeypatch, "corpus_builder.pages.corpus_page.write_page", ["show", "c", "--html", "p.html", *words]
    )
    assert (given, named) == ((Path("c"), Path("p.html")), {"samples": count})


@pytest.mark.parametrize(
    ("text", "most", "of", "shown"),
    [
        ("0", 0, 100, "0"),
        ("3", 3, 100, "3"),
        ("0%", 0, 100, "0%"),
        ("1.5%", 3, 200, "1.5%"),
        ("100%", 200, 200, "100%"),
    ],
)
def test_an_allowance_allows_so_many_and_no_more(text: str, most: int, of: int, shown: str) -> None:
    allowed = parse_allowance(text)
    assert allowed.allows(most, total=of)
    assert not allowed.allows(most + 1, total=of)
    assert str(allowed) == shown
    assert allowed == Allowance(float(text.rstrip("%")), text.endswith("%"))
