"""The commands: what they pass on, and their exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner

from evaluation.cli import export_command
from manifests.io.json_yaml import read_json, write_yaml
from tests.oracles.updates import before_update
from tests.training.conftest import RATE_HZ, write_teacher
from tests.training.export.test_write import make_run, spoken
from tests.training.test_loop import config_of
from training.cli import targets_command, teacher_command, train_command
from training.precompute import TargetSettings
from training.runs.checkpoint import load_run
from training.runs.distributed import Ranks, Timeouts, TooManyRanksError
from training.teacher import load_teacher


@pytest.fixture(name="config")
def written_config(tmp_path, corpus, teacher_folder):
    config = config_of(corpus, teacher_folder, preset="cdm1", adversary=None, dev="none", steps=5, checkpoint_every=5)
    write_yaml(tmp_path / "config.yaml", config.model_dump(mode="json", by_alias=True))
    return str(tmp_path / "config.yaml")


@pytest.mark.parametrize(("number", "code"), [(None, 0), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_train_leaves_with_a_code_for_what_ended_it(tmp_path, config, number, code):
    with before_update(2, lambda: os.kill(os.getpid(), number) if number else None):
        done = CliRunner().invoke(train_command, [config, str(tmp_path / "run"), "--set", "steps=3", "--set", "seed=9"])
    assert done.exit_code == code, done.output
    status = read_json(tmp_path / "run/status.json", needed="test")
    assert (status["step"], status["steps"]) == (2 if number else 3, 3)
    assert load_run(tmp_path / "run").facts["seed"] == 9


class Store:
    """Counts errors as torch's store does, beginning with those of other ranks."""

    def __init__(self, others):
        self.counts = {"stillroom/errors/0": others}

    def add(self, key, number):
        self.counts[key] = self.counts.get(key, 0) + number
        return self.counts[key]


@pytest.fixture(name="calls")
def torchrun_that_is_not_there(monkeypatch):
    """What torch.distributed would be given in rank 1 of 2 on CPUs; `calls["store"]` is the ranks' store."""
    calls = {"store": Store(0)}
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        "training.runs.distributed.rendezvous",
        lambda *_, **options: calls.update(rendezvous=options) or iter([(calls["store"], 1, 2)]),
    )
    for name in ("init_process_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *_, name=name, **options: calls.update({name: options}))
    return calls


@pytest.mark.parametrize(("others", "attempt", "is_shown"), [(0, None, True), (1, None, False), (1, "1", True)])
def test_train_on_ranks_shows_the_first_error_alone_and_waits_as_long_as_configured(
    tmp_path, monkeypatch, config, calls, others, attempt, is_shown
):
    """Two ranks are too many for one lane; whoever finds it first shows it, in each attempt of torchrun anew."""
    calls["store"] = Store(others)
    if attempt is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
    words = [config, str(tmp_path / "run"), "--set", "batch.lanes=1", "--gloo-timeout", "70", "--nccl-timeout", "80"]
    done = CliRunner().invoke(train_command, words)
    assert calls["rendezvous"]["timeout"] == calls["init_process_group"]["timeout"] == timedelta(seconds=70)
    assert "barrier" not in calls, "nobody waits for the others after an error"
    assert not (tmp_path / "run").exists(), "rank 1 writes nothing"
    if is_shown:
        assert isinstance(done.exception, TooManyRanksError)
        assert "2 ranks and batch.lanes: 1: a rank takes whole lanes, so start at most 1 ranks, or set batch.lanes to 2" in str(
            done.exception
        )  # fmt: skip
    else:
        assert (done.exit_code, done.output) == (2, "")


def test_train_waits_an_hour_on_the_cpu_unless_configured(tmp_path, config, calls):
    CliRunner().invoke(train_command, [config, str(tmp_path / "run"), "--set", "batch.lanes=1"])
    assert calls["rendezvous"]["timeout"] == timedelta(hours=1)


@pytest.fixture(name="steps")
def parts_of_train(monkeypatch):
    """What `train` does, in its order; `steps.ranks` and `steps.outcome` are what its parts give."""

    class Steps(list):
        ranks, outcome = Ranks(), "done"

    steps = Steps()
    monkeypatch.setattr(
        "training.config.load.load_config",
        lambda path, *, overrides: steps.append(("config", path, overrides)) or "read",
    )
    monkeypatch.setattr(
        "training.runs.distributed.joined_ranks",
        lambda timeouts: steps.append(("join", timeouts)) or contextlib.nullcontext(steps.ranks),
    )
    monkeypatch.setattr(
        "training.loop.distil", lambda config, run, *, ranks: steps.append((config, run, ranks)) or steps.outcome
    )
    return steps


@pytest.mark.parametrize("rank", [None, "0"])
def test_train_alone_reads_its_config_before_torch_and_ranks_read_it_together(monkeypatch, steps, rank):
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    words = ["mine.yaml", "run", "--set", "a=1", "--set", "b=2", "--gloo-timeout", "70", "--nccl-timeout", "80"]
    for given, timeouts in ((words, (70, 80)), (words[:6], (3600, 1800))):
        assert CliRunner().invoke(train_command, given).exit_code == 0
        read = ("config", Path("mine.yaml"), ("a=1", "b=2"))
        gloo, nccl = (timedelta(seconds=seconds) for seconds in timeouts)
        together = [("join", Timeouts(gloo=gloo, nccl=nccl)), read, ("read", Path("run"), steps.ranks)]
        assert steps == (together if rank else [read, *together])
        steps.clear()


@pytest.mark.parametrize(
    ("number", "outcome", "code", "is_said"),
    [(0, "done", 0, False), (0, "preempted", 75, True), (1, "interrupted", 130, False), (1, "done", 0, False)],
)
def test_the_first_rank_alone_says_that_the_run_goes_on(steps, number, outcome, code, is_said):
    steps.ranks, steps.outcome = Ranks(number, 2), outcome
    done = CliRunner().invoke(train_command, ["mine.yaml", "run"])
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr == ("stopped, with a checkpoint; the same command goes on from it\n" if is_said else "")


@pytest.mark.parametrize(("stopped", "code"), [(None, 0), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_targets_has_its_own_defaults_and_says_when_it_was_stopped(monkeypatch, stopped, code):
    given = []

    def compute(corpus, out, settings, *, part, report):
        given.append((corpus, out, settings, part))
        report("a line")
        return stopped

    monkeypatch.setattr("training.precompute.compute_targets", compute)
    done = CliRunner().invoke(targets_command, ["corpus", "out", "--teacher", "nano", "--condition", ",room,"])
    assert given == [("corpus", Path("out"), TargetSettings("nano", conditions=("room",)), (1, 1))]
    assert (done.exit_code, done.stdout) == (code, "a line\n")
    assert done.stderr == ("stopped; the same command goes on with the shards that are left\n" if stopped else "")
    words = [
        "--layers",
        "2,1",
        "--split",
        "b",
        "--split",
        "a",
        "--conditions",
        "x,y",
        "--condition",
        "z",
        "--crop-s",
        "2.5",
    ]
    words += ["--crops", "3", "--seed", "4", "--precision", "bfloat16", "--slice", "3/3"]
    CliRunner().invoke(targets_command, ["corpus", "out", "--teacher", "nano", *words])
    assert given[1][2:] == (TargetSettings("nano", (2, 1), ("b", "a"), ("x", "y", "z"), 2.5, 3, 4, "bfloat16"), (3, 3))
    refused = CliRunner().invoke(targets_command, ["corpus", "out", "--teacher", "nano", "--layers", "four"])
    assert refused.exit_code == 2
    assert "Error: Invalid value for '--layers': 'four' is none of 4,8,12 (numbers), thirds, all" in refused.stderr


def test_teacher_describes_what_it_read(teacher_folder):
    teacher = load_teacher(teacher_folder)
    done = CliRunner().invoke(teacher_command, [str(teacher_folder)])
    millions = f"{teacher.num_parameters / 1_000_000:.1f}"
    assert done.output == (
        f"small: {millions} M parameters, 3 layers of 24, 16000 Hz, 50 frames a second, waves not normalised, "
        f"digest {teacher.digest[:16]}, in {teacher_folder}\n"
    )
    nano = CliRunner().invoke(teacher_command, ["nano"]).output
    assert nano.startswith(f"nano: {load_teacher('nano').num_parameters / 1_000_000:.1f} M parameters, ")
    assert nano.endswith("/nano\n")


def test_targets_passes_on_every_word(tmp_path, corpus, teacher_folder):
    words = [str(corpus), str(tmp_path / "out"), "--teacher", str(teacher_folder), "--crop-s", "0.4"]
    more = ["--condition", "room,noise", "--condition", "phone", "--crops", "2", "--seed", "5", "--layers", "all"]
    for number in (1, 2, 3, 4):
        done = CliRunner().invoke(targets_command, [*words, *more, "--slice", f"{number}/4"])
        assert done.exit_code == 0, done.output
        names = sorted(path.stem for path in (tmp_path / "out/shards").glob("*.json"))
        assert names == sorted(["train-000000", "train-000001", "train-000002", "dev-000000"][:number])
        assert (tmp_path / "out/targets.json").exists() == (number == 4)
    plan = read_json(tmp_path / "out/targets.json", needed="test")["plan"]
    assert {key: plan[key] for key in ("layers", "conditions", "crop_samples", "crop_sets", "crop_seed", "precision")} == {
        "layers": [1, 2, 3], "conditions": ["noise", "phone", "room"], "crop_samples": 6400, "crop_sets": 2, "crop_seed": 5,
        "precision": "float32",
    }  # fmt: skip
    rough = [*words[:1], str(tmp_path / "rough"), *words[2:], "--split", "dev", "--precision", "bfloat16"]
    assert CliRunner().invoke(targets_command, rough).exit_code == 0
    document = read_json(tmp_path / "rough/targets.json", needed="test")
    assert (document["plan"]["precision"], list(document["splits"])) == ("bfloat16", ["dev"])
    for wrong in ("0/2", "3/2", "1", "a/b"):
        done = CliRunner().invoke(targets_command, [*words, "--slice", wrong])
        assert done.exit_code == 2
        assert f"'{wrong}' is not I/N, such as 3/40" in done.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_targets_leaves_with_a_code_for_what_stopped_it(tmp_path, corpus, teacher_folder, number, code):
    """It comes once, while the teacher runs on the first shard; a second Ctrl-C would end it at once."""
    left = [number]
    handle = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda *_: os.kill(os.getpid(), left.pop()) if left else None
    )
    try:
        words = [str(corpus), str(tmp_path / "out"), "--teacher", str(teacher_folder)]
        done = CliRunner().invoke(targets_command, words)
    finally:
        handle.remove()
    assert done.exit_code == code, done.output
    assert not (tmp_path / "out/targets.json").exists()


@pytest.fixture(name="run", scope="module")
def run_with_another_best(tmp_path_factory, corpus):
    """A run whose best student is another one than its last."""
    folder = tmp_path_factory.mktemp("cli")
    teacher = write_teacher(folder / "teacher", mode="layer_norm", first=True, normalise=True)
    run, other = (
        make_run(folder / name, corpus, teacher=teacher, layers=layers) for name, layers in (("run", 1), ("other", 2))
    )
    (run / "best").rename(folder / "unused")
    (other / "best").rename(run / "best")
    return run


def test_export_passes_on_every_word(tmp_path, run):
    audio = []
    for seed, seconds in ((1, 1.0), (2, 1.5)):
        soundfile.write(tmp_path / f"{seed}.wav", spoken(int(seconds * RATE_HZ), seed=seed).numpy(), RATE_HZ)
        audio += ["--audio", str(tmp_path / f"{seed}.wav")]
    for checkpoint, words in (("last", []), ("best", ["--checkpoint", "best"])):
        out = tmp_path / checkpoint
        done = CliRunner().invoke(export_command, [str(run), str(out), "--to", "torchaudio", *words, *audio])
        assert done.exit_code == 0, done.output
        first, second = done.output.splitlines()
        assert first == f"{out}: load() of {out}/load.py"
        assert "from the run over 2 utterances (2.5 s): " in second
        assert second.endswith("(at most 0.0001)")
        assert load_teacher(out).digest == load_run(run, checkpoint=checkpoint).digest
    assert load_run(run).digest != load_run(run, checkpoint="best").digest


def test_export_shows_what_else_a_user_must_know(tmp_path, run):
    """A layer-norm model's wave is normalised with 1e-5 here and with 1e-7 by Hugging Face's extractor."""
    pytest.importorskip("transformers")
    done = CliRunner().invoke(export_command, [str(run), str(tmp_path / "out"), "--to", "huggingface"])
    *_, note = done.output.splitlines()
    assert note == (
        "its extractor adds 1e-07 to a wave's variance before it divides, the run 1e-05: of quiet speech the features differ a little more"
    )
