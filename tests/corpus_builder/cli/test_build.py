from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from corpus_builder.build.build_corpus import Built
from corpus_builder.cli.build import build_command, plan_command, refusals, show_command, verify_command
from corpus_builder.workers.preemption import Stop, StoppedError
from manifests.corpus.shard_index import Corpus
from manifests.errors import UsageError
from manifests.io.digest import file_digest
from manifests.plan.plan import PASSED_OVER, Plan
from tests.corpus_builder.conftest import Lab, write_wave

HOUSE = Path(__file__).resolve().parents[3]


def run(command: object, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])  # type: ignore[arg-type]


def test_plan_and_build_say_what_they_made_and_do_nothing_twice(lab: Lab) -> None:
    lab.without_rooms()
    recipe = lab.write_recipe()
    first = run(plan_command, recipe, lab.folder / "plan")
    assert first.exit_code == 0, first.output
    assert "train: 8 utterances, 0.00 h, " in first.stdout
    assert "nothing to do" in run(plan_command, recipe, lab.folder / "plan").stdout
    built = run(build_command, lab.folder / "plan", lab.folder / "corpus")
    assert built.exit_code == 0, built.output
    assert "12 utterances" in built.stdout
    assert "it was finished before" in run(build_command, lab.folder / "plan", lab.folder / "corpus").stdout


def test_refused_utterances_beyond_the_allowance_give_exit_1_and_a_sealed_corpus(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["white"]
    for name in ("zero", "void"):
        write_wave(lab.folder / "speech" / "train" / "s1" / f"{name}.wav", np.zeros(8000))
    for allowed, code in (("0", 1), ("1", 1), ("2", 0), ("10%", 1), ("50%", 0)):
        result = run(build_command, lab.write_recipe(), lab.folder / "corpus", "--max-refused", allowed)
        assert result.exit_code == code, result.output
        assert ("more than --max-refused" in result.stderr) == (code == 1)
        assert (lab.folder / "corpus" / "corpus.json").exists()


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "101%", "%", "nan%"])
def test_an_allowance_is_a_number_or_a_share(lab: Lab, text: str) -> None:
    result = run(build_command, lab.write_recipe(), lab.folder / "corpus", f"--max-refused={text}")
    assert isinstance(result.exception, UsageError)
    assert not (lab.folder / "corpus").exists()


def test_verify_exits_0_when_all_is_well_and_1_when_not(built_lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(built_lab.folder / "corpus", tmp_path / "corpus")
    good = run(verify_command, tmp_path / "corpus")
    assert good.exit_code == 0
    assert "12 samples, 52 waves decoded: nothing is wrong" in good.stdout
    (tmp_path / "corpus" / "README.md").write_text("changed")
    (tmp_path / "corpus" / "shards" / "e\x1b[31mvil\n.tar").write_bytes(b"")
    bad = run(verify_command, tmp_path / "corpus", "--level", "bytes")
    assert bad.exit_code == 1
    assert "README.md: has another digest" in bad.stdout
    assert "\x1b" not in bad.stdout
    assert "e\\x1b[31mvil\\n.tar" in bad.stdout
    document = json.loads(run(verify_command, tmp_path / "corpus", "--level", "bytes", "--json").stdout)
    assert document["schema"] == "stillroom/verify/1"
    assert {finding["where"] for finding in document["findings"]} == {"README.md", "shards/e\x1b[31mvil\n.tar"}


def test_show_writes_a_page_of_so_many_utterances_as_are_wanted(built_lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = run(show_command, built_lab.folder / "corpus", "--html", page, "--samples", 1)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[-1] == f"{page}: 1 utterances shown"
    assert page.read_text().count("<audio") == 5, "the clean wave and four copies"


def test_show_tells_totals_conditions_domains_and_ranges(built_lab: Lab) -> None:
    shown = run(show_command, built_lab.folder / "corpus")
    assert shown.exit_code == 0, shown.output
    assert "small: 12 utterances" in shown.stdout
    assert "train: 8 utterances" in shown.stdout
    assert "4 speakers" in shown.stdout
    assert "far: 8 copies, SNR " in shown.stdout
    assert "RT60 0." in shown.stdout
    assert "cell+hum 8" in shown.stdout


def front_door(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stillroom", *map(str, words)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(HOUSE)},
    )  # fmt: skip


def test_the_front_door_prints_one_line_and_exits_2_for_bad_input(lab: Lab, tmp_path: Path) -> None:
    lab.recipe["conditions"]["noise"]["steps"][0]["snr_bd"] = 3
    wrong = front_door("build", lab.write_recipe(), tmp_path / "corpus")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "conditions.noise.steps.0.snr_bd: unknown key (did you mean 'snr_db'?)" in wrong.stderr
    assert not (tmp_path / "corpus").exists()
    for verb in ("verify", "show"):
        nothing = front_door(verb, tmp_path / "nowhere")
        assert nothing.returncode == 2
        assert nothing.stderr.count("\n") == 1
        assert "corpus.json does not exist" in nothing.stderr


def test_rooms_of_one_slice_are_refused(lab: Lab) -> None:
    result = run(build_command, lab.write_recipe(), lab.folder / "corpus", "--rooms", "--slice", "1/2")
    assert isinstance(result.exception, UsageError)
    assert "leave out --slice" in str(result.exception)
    assert not (lab.folder / "corpus").exists()


def test_help_of_every_verb_names_every_argument() -> None:
    for command, words in (
        (plan_command, ("RECIPE", "PLAN", "--root", "--limit", "--workers")),
        (
            build_command,
            ("RECIPE|PLAN", "CORPUS", "--root", "--limit", "--workers", "--slice", "--rooms", "--max-refused"),
        ),
        (verify_command, ("CORPUS", "--level", "--workers", "--json")),
        (show_command, ("CORPUS",)),
    ):
        text = run(command, "--help").stdout
        assert all(word in text for word in words)


def test_refused_utterances_are_counted_apart_from_what_else_was_refused():
    sealed = SimpleNamespace(splits={"train": (), "test": ()}, refused={"train": 2, "test": 1, "rooms": 4})
    assert refusals(sealed) == (3, 4)


def plan_of(*, refused: int = 7, limit: int | None = None) -> Plan:
    """Two shards of train, one of dev."""
    files = [
        {"name": f"{split}-00000{number}", "split": split, "rows": rows, "seconds": seconds, "sha256": "0" * 64}
        for split, number, rows, seconds in (("train", 0, 3, 5400.0), ("train", 1, 4, 1800.0), ("dev", 0, 5, 900.0))
    ]
    plain = {
        "schema": Plan.SCHEMA, "name": "x", "recipe_sha256": "0" * 64, "sample_rate": 16_000, "files": files,
        "levels_sha256": "0" * 64, "rooms_sha256": "0" * 64, "filtered": {
            "train": {PASSED_OVER + ".txt": 9, "longer than 3 s": 2, "shorter than 1 s": 1}, "hum": {PASSED_OVER + ".md": 8},
        },
        "refused": [{"split": "dev", "id": f"u{number}", "reason": f"why {number}"} for number in range(refused)],
    }  # fmt: skip
    return Plan.parse(plain if limit is None else plain | {"limit": limit}, where="test")


@pytest.mark.parametrize("existed", [True, False])
def test_a_plan_tells_each_split_by_its_own_shards_what_is_left_out_and_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    monkeypatch.setattr("corpus_builder.plan.make_plan.plan", lambda *_, **__: (plan_of(), existed))
    said = run(plan_command, "r.yaml", "p").stdout.splitlines()
    assert said == [
        *(["p has this plan already; nothing to do"] if existed else []),
        "train: 7 utterances, 2.00 h, 2 shards",
        "dev: 5 utterances, 0.25 h, 1 shards",
        "train: left out 2 (longer than 3 s), 1 (shorter than 1 s)",
        "train: 9 files that end in .txt are not read",
        "hum: 8 files that end in .md are not read",
        *(f"refused in dev: u{number}: why {number}" for number in range(5)),
        "... and 2 more refused; all are listed in plan.json",
    ]
    monkeypatch.setattr("corpus_builder.plan.make_plan.plan", lambda *_, **__: (plan_of(refused=5), existed))
    assert "more refused" not in run(plan_command, "r.yaml", "p").stdout


def sealed_of(**more: Any) -> Corpus:
    plain = {
        "schema": "stillroom/corpus/1", "name": "x", "recipe_sha256": "0" * 64, "plan_sha256": "0" * 64, "sample_rate": 16_000,
        "splits": {"train": [], "dev": []}, "copies": {},
        "totals": {"samples": 40, "seconds": 5400.0, "bytes": 2_500_000_000, "shards": 3},
        "filtered": {"train": {PASSED_OVER + ".txt": 9, "longer than 3 s": 2}},
    }  # fmt: skip
    return Corpus.parse(plain | more, where="test")


UNDONE = (("train-000001", "MemoryError: "),)
STOPPED = "stopped (SIGTERM), 2 of 3 shards are left; the same command continues from here"
SHARD_UNDONE = "shard train-000001 was left undone: MemoryError: ; run the same command again"
SLICE = "slice 2/3 is finished; when all are, the same command without --slice seals the corpus"
PASSED = "train: 9 files that end in .txt are not read"
TOTALS = "c: 40 utterances, 1.50 h, 3 shards, 2.500 GB"


@pytest.mark.parametrize(
    ("built", "words", "code", "out", "err"),
    [
        (Built(plan_of(), None, left=3), ["--rooms"], 0, ["the rooms of c are finished; 3 shards are left"], []),
        (Built(plan_of(), None, left=2), ["--slice", "2/3"], 0, [SLICE], []),
        (Built(plan_of(), None, undone=UNDONE, left=2), ["--slice", "2/3"], 1, [], [SHARD_UNDONE]),
        (Built(plan_of(), None, undone=UNDONE), [], 1, [], [SHARD_UNDONE]),
        (Built(plan_of(), None, left=2, stopped="SIGTERM"), [], 75, [], [STOPPED]),
        (Built(plan_of(), None, undone=UNDONE, left=2, stopped="SIGTERM"), [], 75, [], [SHARD_UNDONE, STOPPED]),
        (Built(plan_of(), sealed_of()), [], 0, [PASSED, f"{TOTALS}, 0 refused"], []),
        (
            Built(plan_of(), sealed_of(), was_sealed=True), [], 0,
            [PASSED, f"{TOTALS}, 0 refused (it was finished before)"], [],
        ),
        (
            Built(plan_of(), sealed_of(refused={"hum": 4, "dev": 10})), ["--max-refused", "20%"], 0,
            [PASSED, f"{TOTALS}, 10 refused, and 4 noises or room responses"], [],
        ),
        (
            Built(plan_of(), sealed_of(refused={"hum": 4, "dev": 7, "train": 4})), ["--max-refused", "20%"], 1,
            [PASSED, f"{TOTALS}, 11 refused, and 4 noises or room responses"],
            ["11 utterances were refused, more than --max-refused 20%; the reasons are in refused.jsonl"],
        ),
    ],
)  # fmt: skip
def test_a_build_tells_what_was_made_left_and_refused_and_ends_with_the_code_that_says_so(
    monkeypatch: pytest.MonkeyPatch, built: Built, words: list[str], code: int, out: list[str], err: list[str]
) -> None:
    monkeypatch.setattr("corpus_builder.build.build_corpus.build", lambda *_, **__: built)
    result = run(build_command, "r.yaml", "c", *words)
    assert (result.exit_code, result.stdout.splitlines(), result.stderr.splitlines()) == (code, out, err)


def test_a_build_that_is_stopped_while_it_plans_ends_with_75(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, stop: Stop, **__: object) -> None:
        stop.reason = "SIGUSR1"
        raise StoppedError

    monkeypatch.setattr("corpus_builder.build.build_corpus.build", stopped)
    result = run(build_command, "r.yaml", "c")
    assert result.exit_code == 75
    assert result.stderr == "stopped (SIGUSR1); the same command continues from here\n"


def test_a_corpus_that_differs_from_another_ends_with_1_though_nothing_is_wrong(built_lab: Lab, tmp_path: Path) -> None:
    """The other is a copy that names another digest of one noise."""
    corpus, other = built_lab.folder / "corpus", tmp_path / "other"
    shutil.copytree(corpus, other, ignore=shutil.ignore_patterns("*.tar"))
    sha256 = file_digest(built_lab.folder / "noise" / "n1.wav")
    for path in (other / "proof").glob("*.sources.jsonl"):
        path.write_text(path.read_text().replace(sha256, "0" * 64))
    difference = {"part": "sources", "root": "hum", "path": "n1.wav", "a": "0" * 64, "b": sha256}
    plain = run(verify_command, corpus, "--level", "bytes", "--against", other)
    assert plain.exit_code == 1, plain.output
    assert json.loads(plain.stdout.splitlines()[-1]) == difference
    as_json = run(verify_command, corpus, "--level", "bytes", "--against", other, "--json")
    assert as_json.exit_code == 1
    document = json.loads(as_json.stdout)
    assert document["findings"] == []
    assert document["against"]["differences"] == [difference]
    assert document["against"]["sources"] == {"same": 16, "different": 1}


def test_a_page_of_a_subset_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.mkdir()
    sealed_of(borrowed={"where": ["split=dev"]}).write(path / "corpus.json")
    result = run(show_command, path, "--html", tmp_path / "p.html", "--samples", "1")
    assert isinstance(result.exception, UsageError)
    assert "which a subset or an index does not have" in str(result.exception)
    assert not (tmp_path / "p.html").exists()
