from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result

from corpus_builder.cli.build import build_command, plan_command, refusals, show_command, verify_command
from manifests.errors import UsageError
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
