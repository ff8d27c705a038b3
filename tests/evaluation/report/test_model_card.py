"""An export with its model card: as another library, a model hub and a report find it."""

from __future__ import annotations

import json
import re
import sys

import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner

from evaluation.cli import export_command
from evaluation.config import RunSource
from evaluation.exposure.training_set import exposure_of
from evaluation.report import model_card
from evaluation.report.model_card import export_with_card, licence_of, own_table
from manifests.errors import UsageError
from manifests.results.training_exposure import TrainedOn
from tests.evaluation.report.test_html import ONE, TEACHER, document
from tests.training.export.test_write import layers_of, make_run, spoken
from training.runs.checkpoint import load_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Support for mismatched")


@pytest.fixture(name="run", scope="module")
def run_of_clean_speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    soundfile.write(folder / "speech.wav", spoken(20_000).numpy(), 16_000)
    return make_run(folder / "run", folder / "gone")


@pytest.mark.parametrize("form", ["huggingface", "s3prl", "torchaudio", "onnx"])
def test_an_export_loads_by_the_three_lines_of_its_card_and_a_report_knows_what_it_was_trained_on(
    form, run, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    export_with_card(run, out, form=form, audio=(run.parent / "speech.wav",))
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == {"huggingface": "transformers"}.get(form, form)
    assert front["license"] == "cc-by-sa-4.0"  # its config says nano
    assert "2006-2008 June Wallack" in text
    assert (out / "LICENSE").read_text().startswith("The weights in this folder")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) == 3
    monkeypatch.chdir(out)
    monkeypatch.syspath_prepend(out)
    found = {"wave": spoken()[None]}
    with torch.no_grad():
        exec(code, found)
    sys.modules.pop("load", None)
    expected = layers_of(load_run(run), spoken())[0]
    assert len(found["layers"]) == len(expected) == 2
    for layer, wanted in zip(found["layers"], expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(layer)[0], wanted, atol=1e-4, rtol=1e-3)
    assert "It was trained on clean speech alone." in text
    assert exposure_of("out", str(out), {}) == TrainedOn.clean() == exposure_of("run", RunSource(run=str(run)), {})
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in out.iterdir()} == {(tmp_path / "any").stat().st_mode}


def test_of_a_run_whose_corpus_is_gone_the_card_and_the_command_say_that_its_distortions_are_not_known(run, tmp_path):
    other = make_run(tmp_path / "other", tmp_path / "gone")
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["views"]["kind"] = "cdm2"
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    speech = ["--audio", str(run.parent / "speech.wav")]
    done = CliRunner().invoke(export_command, [str(other), str(tmp_path / "out"), "--to", "torchaudio", *speech])
    assert done.exit_code == 0, done.output
    assert "trained.json is left out: " in done.output
    assert not (tmp_path / "out/trained.json").exists()
    assert "are not known: trained.json is left out" in (tmp_path / "out/README.md").read_text()
    TrainedOn.model_validate({"schema": TrainedOn.SCHEMA, "kinds": {"noise recorded": {"count": 3}}}).write(
        other / "trained.json"
    )
    export_with_card(other, tmp_path / "again", form="torchaudio", audio=(run.parent / "speech.wav",))
    assert (
        "Distortions in training (all in `trained.json`): noise recorded." in (tmp_path / "again/README.md").read_text()
    )


def test_the_card_has_the_students_own_rows_of_the_robustness_table_and_its_teachers(run, tmp_path):
    student = load_run(run)
    own = json.loads(json.dumps(ONE))
    own["facts"]["digest"] = student.digest
    other = json.loads(json.dumps(ONE))
    other["model"], other["facts"]["digest"] = "other", "9" * 64
    other["facts"].pop("system", None)
    document(TEACHER, own, other).write(tmp_path / "results.json")
    table = own_table(student, [tmp_path / "results.json"])
    assert [row[0] for row in table.rows] == ["teacher", own["facts"].get("system") or own["model"]]
    export_with_card(
        run,
        tmp_path / "out",
        form="torchaudio",
        audio=(run.parent / "speech.wav",),
        results=[tmp_path / "results.json"],
    )
    text = (tmp_path / "out/README.md").read_text()
    assert "\n".join(table.lines()) in text
    assert "Not measured" not in text
    document(TEACHER, other).write(tmp_path / "others.json")
    with pytest.raises(UsageError, match="no model there has the weights of this student"):
        export_with_card(
            run,
            tmp_path / "no",
            form="torchaudio",
            audio=(run.parent / "speech.wav",),
            results=[tmp_path / "others.json"],
        )
    assert not (tmp_path / "no").exists()


def test_the_licence_of_a_teacher_is_what_its_weights_came_with(run, tmp_path):
    published = licence_of("HUBERT_BASE")
    assert published.name == "mit"
    assert "by the authors of *HuBERT* under MIT License" in published.text
    assert "https://github.com/pytorch/fairseq/" in published.text
    assert licence_of("voxpopuli_asr_base_10k_de").name == "cc-by-nc-4.0"
    snapshot = tmp_path / "hubert-base-ls960"
    snapshot.mkdir()
    assert (licence_of(str(snapshot)).name, licence_of(str(snapshot)).file) == (None, None)
    (snapshot / "README.md").write_text("---\nlanguage: en\nlicense: Apache-2.0\n---\n# A model\nlicense: mine\n")
    (snapshot / "LICENSE").write_text("words")
    found = licence_of(str(snapshot))
    assert (found.name, found.file) == ("apache-2.0", snapshot / "LICENSE")
    assert "hubert-base-ls960" in found.text
    assert str(tmp_path) not in found.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_card, "snapshot_of", {"facebook/hubert-base-ls960": snapshot}.get)
        of_hub = licence_of("facebook/hubert-base-ls960")
    assert (of_hub.name, of_hub.file) == ("apache-2.0", snapshot / "LICENSE")
    assert licence_of(str(run)) == licence_of("nano")  # a student that teaches: its own teacher's
