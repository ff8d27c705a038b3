"""An export with its model card: as another library, a model hub and a report find it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner

from evaluation.cli import export_command
from evaluation.config import RunSource
from evaluation.exposure.training_set import exposure_of
from evaluation.report import model_card
from evaluation.report.model_card import (
    Licence,
    card,
    export_with_card,
    licence_of,
    own_table,
    teacher_of,
    text_of,
    training_rows,
)
from evaluation.report.table import Table
from manifests.errors import UsageError
from manifests.results.training_exposure import TrainedOn
from tests.evaluation.report.test_html import ONE, TEACHER, document
from tests.training.export.test_write import layers_of, make_run, spoken
from training.config.load import resolved
from training.export.format import Written
from training.export.write import Exported
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


def config_of(**changes):
    return resolved({"corpus": "corpus", "teacher": {"name": "nano"}, **changes}, where="test")


def student(**facts):
    return SimpleNamespace(
        config=SimpleNamespace(hop_samples=120), num_layers=3, num_parameters=12_345_678, sample_rate=8000, facts=facts,
        digest="3" * 64,
    )  # fmt: skip


WRITTEN = Written("model.pt", "loads", "first = 1\nlayers = [wave]", lambda wave: wave)
TABLE = Table("The table", ("system", "clean"), (("mine", "12.5"),))


def card_of(*, encoder=None, config=None, **changes):
    given = {
        "name": "my*run", "library": "torchaudio", "trained": None, "unknown": "", "licence": Licence(None, "Ask them."), "table": None,
    }  # fmt: skip
    return card(encoder or student(), config or config_of(), WRITTEN, **{**given, **changes})


def test_a_card_tells_shape_rate_frames_code_training_table_and_licence():
    trained = TrainedOn.model_validate(
        {"schema": TrainedOn.SCHEMA, "kinds": {"codec opus": {"count": 1}, "noise recorded": {"count": 3}}}
    )
    config = config_of(views={"kind": "cdm2"}, adversary={"strength": 0.1})
    text = card_of(
        encoder=student(teacher="hubert_base", steps=9), config=config, library="huggingface", trained=trained, table=TABLE,
        licence=Licence("mit", "Theirs."), unknown="not shown",
    )  # fmt: skip
    assert yaml.safe_load(text.split("---\n")[1]) == {
        "license": "mit", "library_name": "transformers", "pipeline_tag": "feature-extraction",
        "tags": ["speech", "self-supervised", "distillation", "robustness", "stillroom"],
    }  # fmt: skip
    assert "\n# my\\*run\n" in text
    assert (
        "of 3 transformer layers and 12.3 million parameters, distilled from hubert_base with Stillroom: cross-distortion mapping "
        "(arXiv 2210.07978), teacher and student get differently distorted copies, with domain adversarial training. It\n"
        "takes mono speech of 8000 Hz and gives the output of each layer, 15 ms a frame."
    ) in text
    assert "```python\nfirst = 1\nlayers = [wave]\n```" in text
    assert "\n| steps | 9 of " in text
    assert "Distortions in training (all in `trained.json`): codec opus, noise recorded." in text
    assert "\n".join(TABLE.lines()) in text
    assert text.endswith("## Licence\n\nTheirs.\n")
    assert not [words for words in ("not shown", "Not measured", "clean speech alone") if words in text]


@pytest.mark.parametrize(
    ("views", "method"),
    [
        ("none", "distillation on clean speech (DistilHuBERT, arXiv 2110.01900)"),
        ("same", "teacher and student get the same distorted copy"),
        (
            "cdm1",
            "cross-distortion mapping (arXiv 2210.07978), the student gets a distorted copy, the teacher the clean utterance",
        ),
    ],
)
def test_a_card_tells_by_its_views_how_a_student_was_trained(views, method):
    text = card_of(config=config_of(views={"kind": views}))
    assert f"distilled from nano with Stillroom: {method}. It" in text
    assert "license:" not in text
    assert "library_name: torchaudio" in text
    assert "are not known: the run has no record of them." in text
    assert "\nNot measured.\n" in text
    assert "are not known: gone\\*." in card_of(unknown="gone*")
    assert "It was trained on clean speech alone." in card_of(trained=TrainedOn.clean())


def test_how_a_student_was_trained_is_told_by_its_record_before_its_config():
    config = config_of(
        teacher={"name": "nano", "layers": [4, 8]},
        student={"init": "hubert_base"},
        batch={"utterances": 24},
        steps=7,
        seed=5,
    )
    assert training_rows({}, config) == [
        ("teacher", "nano, layers 4, 8"), ("first weights", "hubert_base"), ("steps", "7 of 24 utterances"), ("seed", "5"),
    ]  # fmt: skip
    facts = {
        "teacher": "mine", "teacher_layers": [1, 2, 3], "corpus": "lab", "corpus_sha256": "c" * 64, "steps": 3, "audio_s": 5400,
    }  # fmt: skip
    usual = config_of(preset="cdm2-dat", batch={"seconds": 32.5})
    assert training_rows(facts, usual) == [
        ("teacher", "mine, layers 1, 2, 3"), ("preset", "cdm2-dat"), ("corpus", f"lab (SHA-256 of its corpus.json {'c' * 64})"),
        ("steps", "3 of 32.5 seconds"), ("speech", "1.5 h"), ("seed", str(usual.seed)),
    ]  # fmt: skip
    assert training_rows({}, config_of())[0] == ("teacher", "nano, layers thirds")
    assert teacher_of({"teacher": "first"}, usual) == "first"
    assert teacher_of({}, config_of(teacher={"name": "/home/me/models/mine"})) == "mine"


@pytest.fixture(name="exported")
def exports_that_are_only_noted(tmp_path, monkeypatch):
    """What an export and its card were given, in place of writing a model; `gone` makes its training unknown."""
    noted = SimpleNamespace(gone=None, options=[], cards=[], tables=[])

    def export_run(run, out, *, beside, **options):
        noted.options.append((run, out, options))
        Path(out).mkdir()
        beside(Path(out), "the student", WRITTEN)
        return Exported(Path(out), loads="so", difference=0.5, utterances=2, seconds=3.0, note="first", int8=True)

    def run_exposure(run):
        if noted.gone is not None:
            raise noted.gone
        return TrainedOn.clean()

    monkeypatch.setattr(model_card, "export_run", export_run)
    monkeypatch.setattr(model_card, "run_exposure", run_exposure)
    monkeypatch.setattr(
        model_card, "run_config", lambda path, **given: (config_of(), noted.options.append((path, given)))[0]
    )
    monkeypatch.setattr(model_card, "own_table", lambda *given: noted.tables.append(given) or TABLE)
    monkeypatch.setattr(model_card, "card", lambda *given, **named: noted.cards.append((given, named)) or "a card")
    return noted


def test_an_export_has_its_options_and_its_card_name_table_licence_and_record(tmp_path, exported):
    run, out = tmp_path / "runs/mine", tmp_path / "out"
    done = export_with_card(
        str(run), str(out), form="onnx", checkpoint="best", audio=(Path("a.wav"),), int8=True, results=["one", "two"]
    )
    asked, read = exported.options
    assert asked == (run, str(out), {"form": "onnx", "checkpoint": "best", "audio": (Path("a.wav"),), "int8": True})
    assert read == (run / "config.yaml", {"any_version": True})
    assert exported.tables == [("the student", ["one", "two"])]
    [(given, named)] = exported.cards
    assert (given, named["name"], named["library"]) == (("the student", config_of(), WRITTEN), "mine in int8", "onnx")
    assert named["table"] == Table(
        "The table; of the student in float32, before it was rounded", TABLE.header, TABLE.rows
    )
    assert (named["trained"], named["unknown"], named["licence"]) == (TrainedOn.clean(), "", licence_of("nano"))
    assert (out / "README.md").read_text() == "a card"
    assert (out / "LICENSE").read_bytes() == licence_of("nano").file.read_bytes()
    assert TrainedOn.read(out / "trained.json", needed="") == TrainedOn.clean()
    assert (done.note, done.difference, done.path) == ("first", 0.5, out)


@pytest.mark.parametrize(
    "problem", [OSError("disk"), UsageError("odd"), model_card.TrainingUnknownError("mine", "no record")]
)
def test_an_export_whose_training_is_not_known_says_so_in_its_card_and_to_its_user(tmp_path, exported, problem):
    exported.gone = problem
    done = export_with_card(tmp_path / "mine", tmp_path / "out", form="torchaudio")
    [(_, named)] = exported.cards
    why = f"trained.json is left out: {problem}"
    assert (named["trained"], named["unknown"], named["name"], named["table"]) == (None, why, "mine", TABLE)
    assert done.note == f"first; {why}"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["LICENSE", "README.md"]
    assert exported.options[0][2] == {"form": "torchaudio", "checkpoint": "last", "audio": (), "int8": False}


def test_only_the_beginning_of_a_card_is_read_and_none_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "MOST_CARD_BYTES", 4)
    (tmp_path / "README.md").write_bytes(b"ab\xffcdef")
    assert text_of(tmp_path / "README.md") == "ab\ufffdc"
    assert text_of(tmp_path) == text_of(tmp_path / "none") == ""


def test_without_a_task_or_results_there_is_no_table_of_ones_own(tmp_path):
    encoder = student()
    assert own_table(encoder, []) is None
    document(TEACHER, ONE).model_copy(update={"roll": None}).write(tmp_path / "a.json")
    assert own_table(encoder, [tmp_path / "a.json"]) is None
    document(TEACHER, ONE).write(tmp_path / "b.json")
    assert [row[0] for row in own_table(encoder, [tmp_path / "a.json", tmp_path / "b.json"]).rows] == ["teacher", "cdm"]
    document(TEACHER).write(tmp_path / "c.json")
    with pytest.raises(
        UsageError, match=f"^--results {tmp_path}/c.json: no model there has the weights of this student; evaluate"
    ):
        own_table(encoder, [tmp_path / "c.json"])


def test_a_licence_of_weights_without_a_card_is_that_of_whoever_they_come_from(tmp_path):
    snapshot = tmp_path / "a_b"
    snapshot.mkdir()
    found = licence_of(str(snapshot))
    assert (found.name, found.file) == (None, None)
    assert found.text == "The weights come from a_b; their licence holds for these too."
    (snapshot / "README.md").write_text("---\nlicense: MIT\n---\n")
    assert licence_of(str(snapshot)) == Licence("mit", f"{found.text} Its own card says: MIT.", None)
    nano = licence_of("NANO")
    assert (nano.name, nano.file.name) == ("cc-by-sa-4.0", "LICENSE")
    assert nano.text.startswith(
        "The weights come from the teacher nano and are under its licence, CC BY-SA 4.0 (`LICENSE`). "
    )
    assert "Section 4(b)" not in nano.text
    bundle = licence_of("hubert_base").text
    assert bundle.startswith(
        "The weights come from hubert_base; their licence holds for these too. Originally published by"
    )
    assert not {"`", "\\"} & set(bundle)
    assert "[License: <https://github.com/" in bundle
