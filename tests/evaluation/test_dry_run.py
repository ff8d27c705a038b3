"""What an evaluation takes is known before it runs."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from evaluation.config import CtcTask, EvaluationConfig
from evaluation.data.transcripts import TextTask
from evaluation.dry_run import NotEnoughSpaceError, check_disk, frame_bytes
from evaluation.evaluate_models import dry_run, evaluate, inspected, set_up
from evaluation.tasks import frame_probes
from manifests.errors import OtherRecipeError
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_corpus import tiny_split, write_corpus


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.models.load_teacher", lambda _: FakeEncoder())
    splits = {name: tiny_split(name, count=count) for name, count in (("train", 8), ("dev", 4), ("test", 4))}
    corpus = write_corpus(tmp_path / "corpus", splits)
    task = {"kind": "ctc", "label": "word", "features": "sum", "unseen": "errors", "updates": 3}
    data = {"corpus": str(corpus), "models": {"one": "fake"}, "tasks": [task], "measures": [], "efficiency": False}
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(data))
    return EvaluationConfig.read(tmp_path / "evaluation.yaml")


def test_the_size_of_frames_is_known_before_a_model_runs(config, tmp_path, monkeypatch):
    sizes, removed = [], []
    real = tempfile.TemporaryDirectory.cleanup

    def seen(folder):
        removed.append(folder.name)
        sizes.append(sum(path.stat().st_size for path in Path(folder.name).glob("*.f16")))
        real(folder)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", seen)
    monkeypatch.setattr(frame_probes, "LEARNING_RATES", (1e-2,))
    lines = []
    evaluate(config, tmp_path / "out", log=lines.append)
    [size] = [size for size in sizes if size]
    setup = set_up(config)[1]
    assert frame_bytes(inspected(config, setup), setup) == size
    assert f"take {size / 1e9:.3g} GB" in "\n".join(lines)


def test_frames_that_abx_compares_are_counted_and_every_member_of_them(tmp_path, monkeypatch):
    """Two phones of 150 ms in four utterances: at most 8 frames each (7 or 8 are there), clean and in two conditions, of one layer of two bytes a number."""
    monkeypatch.setattr("evaluation.models.load_teacher", lambda _: FakeEncoder())
    splits = {name: tiny_split(name, count=4) for name in ("train", "test")}
    for utterance in splits["test"]:
        utterance.custom["phones"] = [[0.0, 0.15, "a"], [0.15, 0.3, "b"]]
        utterance.speaker = "one"
    corpus = write_corpus(tmp_path / "corpus", splits)
    config = EvaluationConfig.model_validate(
        {"corpus": str(corpus), "models": {"one": "fake"}, "measures": ("abx",), "layers": (2,)}
    )
    setup = set_up(config)[1]
    models = inspected(config, setup)
    assert frame_bytes(models, setup) == 4 * 2 * 8 * 3 * 16 * 2
    whole = setup.config.model_copy(update={"layers": None})
    assert frame_bytes(models, dataclasses.replace(setup, config=whole)) == 3 * 4 * 2 * 8 * 3 * 16 * 2


def test_a_disk_that_is_too_small_is_refused_before_a_model_runs(config, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(FakeEncoder, "layers", None)
    for run in (evaluate, dry_run):
        with pytest.raises(
            NotEnoughSpaceError, match=r"1e-06 GB are free on its disk: choose results on a larger disk"
        ):
            run(config, tmp_path / "out", log=str)


def test_a_dry_run_writes_nothing_and_says_what_the_evaluation_takes(config, tmp_path):
    lines = []
    dry_run(config, tmp_path / "out", log=lines.append)
    assert not (tmp_path / "out").exists()
    assert lines[0].startswith("1 models, each processes ")
    assert lines[-1] == "nothing was written"


def test_scores_by_frames_that_were_stored_otherwise_are_not_mixed_with_these(config, tmp_path):
    """Before, every frame was stored, in single precision, and the protocol said nothing of it."""
    protocol = set_up(config)[0]
    assert protocol.settings["stored_frames"] == {"train": 3000, "dev": 200, "bits": 16}
    before = {name: value for name, value in protocol.settings.items() if name != "stored_frames"}
    (tmp_path / "out").mkdir()
    protocol.model_copy(update={"settings": before}).write(tmp_path / "out/protocol.json")
    with pytest.raises(OtherRecipeError):
        evaluate(config, tmp_path / "out", log=str)


def test_where_no_task_reads_frames_results_go_on_as_before(config):
    assert "stored_frames" not in set_up(config.model_copy(update={"tasks": ()}))[0].settings


def a_model(*, layers, heads, width, hop):
    """A model of one frame a `hop` samples, from the first on."""
    clock = SimpleNamespace(num_frames=lambda count: count // hop)
    return SimpleNamespace(facts=SimpleNamespace(layers=layers), num_heads=heads, num_features=width, clock=clock)


@pytest.mark.parametrize(
    ("features", "states"), [("last", (1, 1)), ("sum", (2, 5)), ("sum+heads", (4, 5))]
)  # of a model with heads, and of one with more layers
def test_the_frames_of_the_largest_model_are_counted_in_half_precision(features, states):
    task = TextTask("t", CtcTask(kind="ctc", features=features), {}, {}, {}, (), ("a",))
    lengths = {"train": {"a": 100, "b": 37}, "dev": {"x": 200}}
    roles = {
        role: {key: SimpleNamespace(sample=SimpleNamespace(num_samples=count)) for key, count in found.items()}
        for role, found in lengths.items()
    }
    stored = {"train": {("a", "clean"), ("a", "noise-0"), ("b", "clean")}, "dev": {("x", "clean")}}
    setup = SimpleNamespace(
        tasks=[task], dataset=SimpleNamespace(of=roles.get), plan=SimpleNamespace(frames=stored, abx=None), config=None
    )
    models = {
        "heads": a_model(layers=2, heads=2, width=8, hop=10),
        "deep": a_model(layers=5, heads=0, width=3, hop=20),
    }
    due = {
        "heads": 2 * states[0] * 8 * (10 + 10 + 3 + 20),
        "deep": 2 * states[1] * 3 * (5 + 5 + 1 + 10),
    }
    for names in (("heads",), ("deep",), ("heads", "deep"), ("deep", "heads")):
        assert frame_bytes({name: models[name] for name in names}, setup) == max(due[name] for name in names)
    assert frame_bytes(models, SimpleNamespace(**{**vars(setup), "tasks": []})) == 0
    assert frame_bytes({}, SimpleNamespace(**{**vars(setup), "tasks": []})) == 0


def test_space_is_looked_for_on_the_disk_of_the_nearest_folder_that_is_there(tmp_path, monkeypatch):
    looked = []
    sizes = SimpleNamespace(total=9 * 10**9, used=6 * 10**9, free=3 * 10**9)
    monkeypatch.setattr("shutil.disk_usage", lambda place: looked.append(place) or sizes)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    lines = []
    for folder in (Path("there"), Path("there/new/newer"), tmp_path / "new"):
        check_disk(folder, 3 * 10**9, log=lines.append)
    assert looked == [tmp_path / "there", tmp_path / "there", tmp_path]
    assert lines[1] == "frames of one model at a time take 3 GB in there/new/newer, 3 GB are free"
    with pytest.raises(NotEnoughSpaceError) as caught:
        check_disk(Path("there"), 3 * 10**9 + 10**7, log=lines.append)
    assert str(caught.value).startswith("there: frames of one model take 3.01 GB, 3 GB are free on its disk: ")
    assert lines[3] == "frames of one model at a time take 3.01 GB in there, 3 GB are free"
    check_disk(Path("there"), 0, log=lines.append)
    assert (len(lines), len(looked)) == (4, 4)
