"""Runs of an older Stillroom go on; those of a newer one are left alone."""

from __future__ import annotations

import pytest

from manifests.errors import NewerSchemaError
from manifests.io.yaml12 import parse_yaml
from training import loop
from training.config.load import load_config, resolved
from training.runs.checkpoint import load_run
from training.runs.folder import OtherConfigError

FIRST_VERSION = """
schema: stillroom/train/1
preset: cdm2
corpus: {corpus}
teacher: {{name: nano, layers: [1, 3]}}
student: {{layers: 1, dropout: 0.1, cnn_gradient: 0.1}}
batch: {{seconds: 6.0, utterances: null, lanes: 2}}
crop_s: 1.0
views: {{kind: cdm2, clean_share: 0.0625}}
adversary: null
steps: 2
checkpoint_every: 1
workers: 0
"""


@pytest.fixture(name="run")
def finished_run(tmp_path, corpus):
    """As the first version left it: a student with its teacher's norm, views without sides."""
    data = parse_yaml(FIRST_VERSION.format(corpus=corpus).encode(), where="test")
    data["student"]["projection_norm"] = True
    loop.distil(resolved(data, where="test", over_preset=False), tmp_path / "run", say=str)
    (tmp_path / "run/config.yaml").write_text(FIRST_VERSION.format(corpus=corpus))
    return tmp_path / "run"


def test_a_run_of_the_first_version_goes_on_with_its_own_config(tmp_path, run):
    config = load_config(run / "config.yaml")
    assert config.views.student.clean_share == config.views.teacher.clean_share == 0, "its preset sets both today"
    assert config.student.projection_norm, "there was no key for it"
    assert load_config(run / "config.yaml", overrides=("workers=1",)).workers == 1
    newest = max((run / "checkpoints").glob("*.safetensors"))
    before = newest.read_bytes()
    newest.unlink()
    newest.with_suffix(".json").unlink()
    assert loop.distil(config, run, say=str) == "done"
    assert newest.read_bytes() == before
    copied = tmp_path / "mine.yaml"
    copied.write_text((run / "config.yaml").read_text())
    with pytest.raises(OtherConfigError, match=r"go on with its own config\.yaml"):
        loop.distil(load_config(copied), run, say=str)


def test_a_checkpoint_of_a_newer_version_is_refused_and_nothing_overwritten(run):
    """It is whole, so it is not torn: to begin anew would train over it."""
    for path in (run / "checkpoints").glob("*.json"):
        path.write_text(path.read_text().replace("stillroom/checkpoint/1", "stillroom/checkpoint/2"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(NewerSchemaError, match=r"stillroom/checkpoint/2.*install a newer one"):
        loop.distil(load_config(run / "config.yaml"), run, say=str)
    with pytest.raises(NewerSchemaError):
        load_run(run)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
