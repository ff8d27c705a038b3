"""What `pack`, `rebuild`, `diff` and `audit` print, and with which code they end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from corpus_builder.build.build_corpus import Built
from corpus_builder.rebuild.rebuild_corpus import Rebuilt, SourcesDifferError
from corpus_builder.rebuild.report import Proof
from corpus_builder.rebuild.source_check import SourceProblem
from corpus_builder.rebuild.wave_verdict import Verdict, WaveVerdict
from stillroom.cli import stillroom
from tests.corpus_builder.rebuild.test_diff import ROW, plan_of

if TYPE_CHECKING:
    from manifests.plan.plan import Plan

NO_PLAN: Plan = SimpleNamespace(files=(1, 2, 3))  # type: ignore[assignment]  # of which only its files are counted


def run(*words: object) -> Result:
    return CliRunner().invoke(stillroom, [str(word) for word in words])


def proof_of(*verdicts: Verdict) -> Proof:
    proof = Proof()
    for number, verdict in enumerate(verdicts):
        condition, codec = (("phone", "opus"), ("noise", ""))[number % 2]
        proof.add(WaveVerdict("train", "u", f"{condition}-0", condition, codec, verdict, decoder_differs=number == 2))
    return proof


def rebuilding(monkeypatch: pytest.MonkeyPatch, result: Rebuilt | Exception, *words: str) -> Result:
    def rebuild(*_: object, **__: object) -> Rebuilt:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr("corpus_builder.rebuild.rebuild_corpus.rebuild", rebuild)
    return run("rebuild", "p.tar.gz", "c", *words)


@pytest.mark.parametrize(
    ("verdicts", "words", "code"),
    [
        (("identical", "identical", "identical"), (), 0),
        (("identical", "near"), (), 1),
        (("identical", "near"), ("--accept", "near"), 0),
        (("different", "near", "identical", "different", "identical", "identical"), (), 1),
        (("different", "near", "identical", "different", "identical", "identical"), ("--accept", "near"), 1),
        (("identical", "different"), ("--accept", "near"), 1),
    ],
)
def test_a_rebuild_ends_with_1_unless_all_waves_are_as_they_should_be(
    monkeypatch: pytest.MonkeyPatch, verdicts: tuple[Verdict, ...], words: tuple[str, ...], code: int
) -> None:
    made = Rebuilt(Built(NO_PLAN, None), proof_of(*verdicts), "0" * 64)
    result = rebuilding(monkeypatch, made, *words)
    assert result.exit_code == code, result.output
    counts = {verdict: verdicts.count(verdict) for verdict in ("identical", "near", "different")}
    last = f"c: {counts['identical']} waves identical, {counts['near']} near, {counts['different']} different"
    assert result.stdout.splitlines()[-1] == last
    assert ("listed in rebuilt.jsonl, each with the reason" in result.stderr) == (code == 1)
    as_json = rebuilding(monkeypatch, made, *words, "--json")
    assert as_json.exit_code == code
    assert {verdict: json.loads(as_json.stdout)[verdict] for verdict in counts} == counts


def test_the_table_of_a_rebuild_has_a_line_for_each_condition_and_codec() -> None:
    verdicts: tuple[Verdict, ...] = (
        "different", "near", "identical", "different", "identical", "identical", "near", "identical",
    )  # fmt: skip
    head, *lines = proof_of(*verdicts).table()
    assert head.split() == ["condition", "codec", "identical", "near", "different", "decoder", "differs"]
    assert [line.split() for line in lines] == [
        ["noise", "-", "2", "1", "1", "0"],
        ["phone", "opus", "2", "1", "1", "1"],
    ]
    report = Rebuilt(Built(NO_PLAN, None), proof_of(*verdicts), "0" * 64).plain()
    assert (report["identical"], report["near"], report["different"], report["decoder_differs"]) == (4, 2, 2, 1)


def test_sources_that_differ_are_listed_and_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [
        SourceProblem("train", "a.wav", "is missing"),
        SourceProblem("train", "b.wav", "is missing"),
        SourceProblem("hum", "n.wav", "is different: ...", other_bytes=True),
    ]
    result = rebuilding(monkeypatch, SourcesDifferError(problems, checked=17))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "train: a.wav is missing",
        "train: b.wav is missing",
        "hum: n.wav is different: ...",
    ]
    assert (
        "3 of 17 source files are not those of the pack (2 missing, 1 different); nothing was rendered" in result.stderr
    )


@pytest.mark.parametrize(("stopped", "code"), [("SIGTERM", 75), ("", 1)])
def test_a_rebuild_with_shards_left_ends_with_75_if_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, stopped: str, code: int
) -> None:
    built = Built(NO_PLAN, None, undone=(("train-000003", "MemoryError: "),), left=1, stopped=stopped)
    result = rebuilding(monkeypatch, Rebuilt(built, None, "0" * 64))
    assert result.exit_code == code
    assert "shard train-000003 was left undone: MemoryError: ; run the same command again" in result.stderr


def test_a_pack_is_described_by_what_it_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "p.tar.gz"
    path.write_bytes(bytes(2_300_000))
    held = SimpleNamespace(samples=11, waves=22, responses=33, sources=44)
    monkeypatch.setattr("manifests.pack.write.write_pack", lambda *_: (path, held))
    assert run("pack", "c", path).stdout.endswith(
        "p.tar.gz: 11 utterances, 22 waves, 33 responses, 44 sources, 2.3 MB\n"
    )


def test_a_difference_is_said_in_the_order_of_the_two_and_ends_with_1(tmp_path: Path) -> None:
    first, second = plan_of(tmp_path / "first", ROW), plan_of(tmp_path / "second", ROW | {"text": "other"})
    line = {"part": "parameters", "split": "train", "id": "u", "path": "text", "a": "words", "b": "other"}
    plain = run("diff", first, second)
    assert plain.exit_code == 1
    assert plain.stdout.splitlines()[0].startswith("A  ")
    assert plain.stdout.splitlines()[1].startswith("B  ")
    assert json.loads(plain.stdout.splitlines()[-1]) == line
    as_json = run("diff", first, second, "--json")
    assert as_json.exit_code == 1
    summary, difference = map(json.loads, as_json.stdout.splitlines())
    assert difference == line
    assert summary["parameters"] == {"same": 2, "different": 1}
    assert summary["utterances"] == {"same": 1, "different": 0}
    assert summary["a"] != summary["b"]
    assert run("diff", first, first).exit_code == 0


@pytest.mark.parametrize(("leaky", "code"), [(True, 1), (False, 0)])
def test_an_audit_ends_with_1_if_anything_was_found(monkeypatch: pytest.MonkeyPatch, leaky: bool, code: int) -> None:
    found: Any = SimpleNamespace(leaky=leaky, lines=lambda: ["one", "two"], plain=lambda: {"leaks": []})
    monkeypatch.setattr("corpus_builder.audit.audit_corpora.audit", lambda *_, **__: found)
    plain = run("audit", Path("a"))
    assert (plain.exit_code, plain.stdout) == (code, "one\ntwo\n")
    as_json = run("audit", Path("a"), "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (code, {"leaks": []})
