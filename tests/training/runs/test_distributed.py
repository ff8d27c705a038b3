"""Ranks under torchrun: one student, the same batches however many train it, and what was killed goes on bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from manifests.errors import UsageError
from manifests.io.json_yaml import read_json, write_yaml
from tests.training.conftest import write_corpus
from tests.training.test_loop import assert_same_run, config_of, journal, whole_lines
from training import loop
from training.config.schema import Adversary, Optimiser
from training.distillation.adversary import DomainAdversary
from training.distillation.critic import CriticInput
from training.runs import distributed as runs_distributed
from training.runs.distributed import AllReduce, RankLostError, Ranks, Timeouts, TooManyRanksError, joined_ranks
from training.runs.folder import failure_recorded
from training.stream import pairs

HOUSE = Path(__file__).parents[3]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_ranks_share_lanes_whole_and_leave_none(count):
    shares = [Ranks(number, count).lanes(4) for number in range(count)]
    assert sorted(lane for share in shares for lane in share) == [0, 1, 2, 3]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_ranks_than_lanes_are_one_line():
    with pytest.raises(TooManyRanksError, match=r"3 ranks and batch\.lanes: 2: .* start at most 2 ranks"):
        Ranks(0, 3).lanes(2)


def test_alone_nothing_changes():
    ranks = Ranks()
    parameter = torch.nn.Parameter(torch.ones(2))
    numbers = torch.tensor([0.1])
    assert AllReduce(ranks, [parameter])(numbers) is numbers
    assert parameter.grad is None
    assert ranks.broadcast([1]) == [1]


def test_half_of_torchruns_variables_are_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE is set and RANK is not"), joined_ranks():
        pass


@pytest.mark.parametrize(
    ("tasks", "world", "is_told"), [("4", None, True), ("1", None, False), ("4", "1", False), ("4(x2)", None, False)]
)
def test_tasks_of_slurm_without_ranks_are_told(monkeypatch, capsys, tasks, world, is_told):
    monkeypatch.setenv("SLURM_NTASKS", tasks)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    with joined_ranks() as ranks:
        assert ranks.count == 1
    said = capsys.readouterr().err
    assert ("SLURM_NTASKS is 4, but this process trains alone" in said) == is_told
    assert said.count("\n") == is_told


@pytest.mark.parametrize("silent", [(), (1,), (0, 3)])
def test_ranks_that_do_not_say_that_they_lost_one_are_named(monkeypatch, silent):
    monkeypatch.setattr(runs_distributed, "ANSWER_S", 0)
    store = torch.distributed.HashStore()
    lost = []
    for number in range(4):
        if number not in silent:
            with pytest.raises(RankLostError) as caught, Ranks(number, 4, store=store).connected():
                raise RuntimeError("Timed out waiting 5000ms for recv operation to complete\nmore")
            lost.append(str(caught.value))
    named = {(): "another rank", (1,): "rank 1", (0, 3): "ranks 0, 3"}[silent]
    last = 3 if 3 not in silent else 2
    assert lost[-1].startswith(
        f"rank {last} lost {named} (Timed out waiting 5000ms for recv operation to complete): look for"
    )
    assert "\n" not in lost[-1]


def test_a_run_that_lost_a_rank_has_the_state_that_is_requeued(tmp_path, monkeypatch):
    (tmp_path / "status.json").write_text('{"schema": "stillroom/status/1", "state": "running", "step": 6, "steps": 9}')
    monkeypatch.setattr("training.runs.folder.is_runs_own", lambda *_: True)
    for problem, state in ((RankLostError(rank=0, why="closed", lost=[2]), "preempted"), (UsageError("x"), "failed")):
        with pytest.raises(type(problem)), failure_recorded(tmp_path, None):
            raise problem
        status = read_json(tmp_path / "status.json", needed="test")
        assert (status["state"], status["step"]) == (state, 6)
        assert type(problem).__name__ in status["problem"]


@pytest.mark.slow
def test_a_rank_that_hangs_ends_all_within_the_timeout_with_its_number(tmp_path, torchrun, wide, teacher_folder):
    config = wide_config(wide, teacher_folder, steps=4000, checkpoint_every=2, validate_every=5000)
    process = torchrun("run", 2, config, "--gloo-timeout", "10")
    wait_for_step(tmp_path / "run", 3, process)
    hung = ranks_below(process)[-1]
    os.kill(hung, signal.SIGSTOP)
    began = time.monotonic()
    said = finish(process, tmp_path, code=1)
    assert time.monotonic() - began < 120  # torchrun gives the one that hangs 30 s
    lines = [line for line in said.splitlines() if line.startswith("stillroom: ")]
    told = "\n".join(line for line in lines if " lost rank " in line)
    assert told.startswith(("stillroom: rank 0 lost rank 1", "stillroom: rank 1 lost rank 0")), said
    status = read_json(tmp_path / "run" / "status.json", needed="test")
    assert status["state"] in {"preempted", "running"}  # rank 0 may be the one that hangs
    assert list((tmp_path / "run" / "checkpoints").glob("*.json"))


def test_gloo_and_nccl_have_timeouts_of_their_own(monkeypatch):
    """On a GPU that is not there: what torch would be given."""
    calls = {}

    def noted(name, found=None):
        return lambda *_, **options: calls.update({name: options}) or found

    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", noted("device"))
    monkeypatch.setattr("training.runs.distributed.rendezvous", noted("rendezvous", iter([("store", 1, 2)])))
    for name in ("init_process_group", "new_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, noted(name, name))
    with joined_ranks(Timeouts(timedelta(seconds=70), timedelta(seconds=80))) as ranks:
        assert (ranks.number, ranks.count, ranks.device.type, ranks.device_group) == (1, 2, "cuda", "new_group")
    assert calls["init_process_group"]["timeout"] == calls["rendezvous"]["timeout"] == timedelta(seconds=70)
    assert calls["new_group"] == {"backend": "nccl", "timeout": timedelta(seconds=80)}
    assert "barrier" in calls, "nobody leaves before all are done"
    assert (Timeouts().gloo, Timeouts().nccl) == (timedelta(hours=1), timedelta(minutes=30))


def test_a_rank_that_lost_another_gives_its_own_number_and_the_first_line_of_why():
    for problem, why in ((RuntimeError("reset\nat 0x1\nby peer"), "reset"), (OSError(), "OSError")):
        with pytest.raises(RankLostError, match=rf"^rank 3 lost another rank \({why}\): look"), Ranks(3, 4).connected():
            raise problem


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "1"}, "WORLD_SIZE is set and MASTER_ADDR is not: .* set RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set and RANK is not"),
        ({"WORLD_SIZE": "2", "RANK": "one", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK, WORLD_SIZE and LOCAL_RANK are numbers .*'one'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_torchruns_variables_is_named(monkeypatch, variables, message):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined_ranks() as ranks:
        assert (ranks.number, ranks.count) == (0, 1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message), joined_ranks():
        pass


def test_what_rank_0_sends_arrives_at_all(monkeypatch):
    """Two ranks in one process: rank 0 sends into a list from which rank 1 receives."""
    sent = []

    def broadcast(tensor, src, group=None):
        assert (src, group) == (0, None)
        if sending:
            sent.append(tensor.clone())
        else:
            tensor.copy_(sent.pop(0))

    def broadcast_object_list(box, src, device):
        assert (src, device.type) == (0, "cpu")
        if sending:
            sent.append(box[0])
        else:
            box[0] = sent.pop(0)

    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast_object_list)
    tensors = {"weight": torch.arange(6.0).reshape(2, 3).T, "step": torch.tensor(7, dtype=torch.int64)}
    with torch.random.fork_rng():
        modules = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)) for _ in range(2)]
    modules[0][1].running_mean += 1  # a buffer, such as the scaling of a critic
    for sending, own in ((True, tensors), (False, None)):
        ranks = Ranks(0 if sending else 1, 2)
        assert ranks.broadcast({"step": 3} if sending else None) == {"step": 3}
        found = ranks.broadcast_tensors(own)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], one) and found[name].dtype == one.dtype for name, one in tensors.items())
        ranks.broadcast_modules(modules[0] if sending else modules[1])
    first, second = (module.state_dict() for module in modules)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_whatever_the_number_of_ranks_the_global_batches_are_the_same_and_none_is_lost(tmp_path, count):
    write_corpus(tmp_path / "corpus", shards=9, samples=5)
    together = {}
    for number in range(count):
        stream = pairs(tmp_path / "corpus", views="cdm2", utterances=8, lanes=4, crop_s=0.6, epochs=2)
        stream.lanes = Ranks(number, count).lanes(4)
        for batch in stream:
            if batch.keys:
                together[batch.cursor, batch.lane] = (batch.keys, batch.student_copies, batch.global_lengths)
    alone = {
        (batch.cursor, batch.lane): (batch.keys, batch.student_copies, batch.global_lengths)
        for batch in pairs(tmp_path / "corpus", views="cdm2", utterances=8, lanes=4, crop_s=0.6, epochs=2)
    }
    assert together == alone
    for epoch in (0, 1):
        heard = [key for (cursor, _), (keys, _, _) in together.items() if cursor.epoch == epoch for key in keys]
        assert len(heard) == len(set(heard)) == 45


@pytest.fixture(name="other")
def other_rank(monkeypatch):
    """Ranks(0, 2) in one process: what the other one sends is in the list, and what this one sends is kept in it."""
    sent = []

    def all_reduce(buffer, group=None):
        assert group is None
        theirs = sent.pop(0)
        sent.append(buffer.clone())
        buffer += theirs

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    return sent


def test_gradients_and_numbers_are_one_message_and_what_nobody_has_a_gradient_for_stays_without(other):
    """The other rank has a gradient for the second parameter; then nobody has any: what the model reaches is known by then."""
    first, second, third = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 1), (1,), (3,)))
    reduce = AllReduce(Ranks(0, 2), [first, second, third])
    first.grad = torch.tensor([[1.0], [2.0]])
    other.append(torch.tensor([10, 20, 5, 0, 0, 0, 1, 1, 0, 7], dtype=torch.float32))
    assert reduce(torch.tensor([0.5])).tolist() == [7.5]
    assert other.pop().tolist() == [1, 2, 0, 0, 0, 0, 1, 0, 0, 0.5]
    assert first.grad.tolist() == [[11], [22]]
    assert second.grad.tolist() == [5]
    assert third.grad is None
    first.grad = second.grad = None
    other.append(torch.zeros(10))
    assert reduce(torch.tensor([2.0])).tolist() == [2]
    assert first.grad.tolist() == [[0], [0]]
    assert third.grad is None


def test_a_rank_that_has_not_seen_a_gradient_yet_looks_again(other):
    parameter = torch.nn.Parameter(torch.zeros(1))
    reduce = AllReduce(Ranks(0, 2), [parameter])
    for theirs, expected in (([0, 0, 0], None), ([4, 1, 0], [4])):
        other[:] = [torch.tensor(theirs, dtype=torch.float32)]
        reduce(torch.zeros(1))
        assert (None if parameter.grad is None else parameter.grad.tolist()) == expected
        parameter.grad = None


@pytest.mark.parametrize("objective", ["game", "confusion", "reversal"])
def test_the_critics_gradient_is_the_mean_over_the_rows_of_all_ranks(monkeypatch, objective):
    """Three rows here and four there, each rank's share weighed by its rows, give the gradient of all seven."""
    found = []
    rows = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    for part in (slice(0, 3), slice(3, 7), slice(0, 7)):
        adversary = DomainAdversary(
            Adversary(objective=objective, critic_steps=2 if objective == "reversal" else 1, learning_rate=1e-3),
            domains=("a", "b"), layers=(1,), num_features=3, optimiser=Optimiser(), seed=1, device=torch.device("cpu"),
        )  # fmt: skip
        gradients = []

        def kept(numbers, critic=adversary.critic, kept=gradients):
            kept.append([parameter.grad for parameter in critic.parameters()])
            return numbers

        adversary.all_reduce = kept
        monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: None)
        count = len(labels[part])
        adversary.inputs = [(CriticInput(rows[part], np.arange(count), None), labels[part])]
        adversary.classified = count
        adversary.update(utterances=torch.tensor(7.0))
        found.append([gradient.clone() for gradient in gradients[-1]])
    for first, second, whole in zip(*found, strict=True):
        assert torch.allclose(first + second, whole, atol=1e-6)


def test_alone_the_critics_share_is_exactly_one(monkeypatch):
    """41 utterances: one over 41, times 41, is not one in float32."""
    found = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: None)
    rows = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
    for utterances in (None, torch.tensor(41.0)):
        adversary = DomainAdversary(
            Adversary(objective="game", critic_steps=1, learning_rate=1e-3),
            domains=("a", "b"), layers=(1,), num_features=3, optimiser=Optimiser(), seed=1, device=torch.device("cpu"),
        )  # fmt: skip
        adversary.inputs = [(CriticInput(rows, np.arange(10), None), torch.arange(10) % 2)]
        adversary.classified = 41
        adversary.optimiser.zero_grad = lambda **_: None
        adversary.update(utterances=utterances)
        found.append([parameter.grad for parameter in adversary.critic.parameters()])
    assert all(one.abs().sum() > 0 and torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.fixture(name="torchrun")
def by_torchrun(tmp_path):
    """`start(run, ranks, config, *options)`: the command, or a script that ends in it, on so many ranks."""
    started = []

    def start(run, ranks, config, *options, program=("-m", "stillroom")):
        path = tmp_path / f"{run}.yaml"
        write_yaml(path, config.model_dump(mode="json", by_alias=True))
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *program,
                 "train", path, tmp_path / run, *options]  # fmt: skip
        with (tmp_path / "said.txt").open("w") as said:
            process = subprocess.Popen(
                words,
                cwd=HOUSE,
                stderr=said,
                stdout=said,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)},
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def finish(process, tmp_path, code=0):
    assert process.wait(timeout=600) == code, (tmp_path / "said.txt").read_text()
    return (tmp_path / "said.txt").read_text()


def wait_for_step(run, step, process):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, (run.parent / "said.txt").read_text()
        if (run / "journal.jsonl").exists() and any(line["step"] >= step for line in whole_lines(run)):
            return
        time.sleep(0.02)
    raise TimeoutError


def ranks_below(process):
    """The processes of the ranks: children of torchrun that run the command."""
    words = ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)]
    listed = subprocess.run(words, capture_output=True, text=True, check=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "stillroom" in line]


@pytest.fixture(scope="module", name="wide")
def wide_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide") / "corpus"
    write_corpus(folder, shards=5, samples=7)
    return folder


def wide_config(wide, teacher_folder, **keys):
    batch = {"seconds": 4, "lanes": 4}
    return config_of(
        wide, teacher_folder, **{"batch": batch, "steps": 12, "log_every": 1, "checkpoint_every": 3, **keys}
    )


def losses(run):
    return [line["loss"] for line in journal(run) if "loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "workers", "adversary"),  # not every triple
    [
        (1, 1, {"objective": "game", "critic_steps": 3}),
        (2, 1, {}),
        (2, 0, {"domain": "view"}),
        (4, 0, {}),
        (4, 1, {"objective": "game", "critic_steps": 3}),
    ],
)
def test_any_number_of_ranks_and_workers_trains_the_same_student(
    tmp_path, torchrun, wide, teacher_folder, count, workers, adversary
):
    config = wide_config(wide, teacher_folder, workers=workers, adversary=adversary)
    assert loop.distil(config, tmp_path / "alone", report=str) == "done"
    finish(torchrun("run", count, config), tmp_path)
    ours, theirs = ([line for line in journal(tmp_path / name) if "loss" in line] for name in ("alone", "run"))
    for one, other in zip(ours, theirs, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=2e-4)
        assert other["domain_loss"] == pytest.approx(one["domain_loss"], rel=2e-3)
        for exact in ("step", "utterances", "epoch", "domain_majority", "learning_rate"):
            assert other[exact] == one[exact], exact
        assert other["audio_s"] == pytest.approx(one["audio_s"])
    if count == 1:
        assert_same_run(tmp_path / "alone", tmp_path / "run")


@pytest.mark.slow
def test_ranks_killed_twice_go_on_bit_for_bit(tmp_path, torchrun, wide, teacher_folder):
    config = wide_config(wide, teacher_folder, workers=1)
    finish(torchrun("straight", 2, config), tmp_path)
    for step in (4, 8):
        process = torchrun("run", 2, config)
        wait_for_step(tmp_path / "run", step, process)
        for rank in ranks_below(process):
            os.kill(rank, signal.SIGKILL)
        assert process.wait(timeout=600) != 0
    finish(torchrun("run", 2, config), tmp_path)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


KILLED_IN_A_CHECKPOINT = """
import os, signal
from stillroom.__main__ import main
from training.runs import checkpoint

plain = checkpoint.Mark.write

def write(mark, path):
    if mark.step == 6 and path.parent.name == "checkpoints":
        os.kill(os.getpid(), signal.SIGKILL)
    plain(mark, path)

checkpoint.Mark.write = write
main()
"""


@pytest.mark.slow
def test_a_rank_lost_between_the_tensors_of_a_checkpoint_and_their_mark_costs_that_checkpoint_alone(
    tmp_path, torchrun, wide, teacher_folder
):
    config = wide_config(wide, teacher_folder)
    finish(torchrun("straight", 2, config), tmp_path)
    (tmp_path / "killed.py").write_text(KILLED_IN_A_CHECKPOINT)
    process = torchrun("run", 2, config, program=(str(tmp_path / "killed.py"),))
    assert process.wait(timeout=600) != 0
    checkpoints = tmp_path / "run/checkpoints"
    assert [path.stem for path in checkpoints.glob("*.json")] == ["step-000000003"]
    assert (checkpoints / "step-000000006.safetensors").exists()
    finish(torchrun("run", 2, config), tmp_path)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_stops_all_with_a_checkpoint_and_other_ranks_go_on(
    tmp_path, torchrun, wide, teacher_folder, number
):
    config = wide_config(wide, teacher_folder, steps=40, checkpoint_every=100)
    assert loop.distil(config, tmp_path / "alone", report=str) == "done"
    process = torchrun("run", 2, config)
    wait_for_step(tmp_path / "run", 3, process)
    os.kill(ranks_below(process)[-1], number)
    said = finish(process, tmp_path, code=1)
    assert "exitcode  : 75" in said, "torchrun tells of its ranks in its own words"
    status = read_json(tmp_path / "run" / "status.json", needed="test")
    assert status["state"] == "preempted"
    assert 3 <= status["step"] < 40
    assert max((tmp_path / "run/checkpoints").glob("*.json")).stem == f"step-{status['step']:09d}"
    assert not (tmp_path / "run" / ".lock").exists()
    finish(torchrun("run", 4, config), tmp_path)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


@pytest.mark.slow
def test_torchrun_told_to_stop_leaves_a_checkpoint(tmp_path, torchrun, wide, teacher_folder):
    process = torchrun("run", 2, wide_config(wide, teacher_folder, steps=400, checkpoint_every=1000))
    wait_for_step(tmp_path / "run", 2, process)
    process.terminate()
    process.wait(timeout=600)
    assert read_json(tmp_path / "run" / "status.json", needed="test")["state"] == "preempted"
    assert list((tmp_path / "run/checkpoints").glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "batch.lanes=1"), "2 ranks and batch.lanes: 1"),
        (("--set", "views.kind=cdm7"), "views.kind"),
        (("--set", "teacher.name=/nowhere/teacher"), "/nowhere/teacher"),
    ],
)
def test_what_all_ranks_find_wrong_is_said_once(tmp_path, torchrun, wide, teacher_folder, options, message):
    said = finish(torchrun("run", 2, wide_config(wide, teacher_folder), *options), tmp_path, code=1)
    lines = [line for line in said.splitlines() if line.startswith("stillroom: ")]
    assert len(lines) == 1, said
    assert message in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_one_rank_cannot_read_ends_all_with_its_line(tmp_path, torchrun, wide, teacher_folder, workers):
    shutil.copytree(wide, tmp_path / "corpus")
    config = wide_config(tmp_path / "corpus", teacher_folder, steps=200, workers=workers)
    process = torchrun("run", 2, config)
    wait_for_step(tmp_path / "run", 3, process)
    for path in (tmp_path / "corpus/shards").glob("train-*.tar"):
        os.truncate(path, 100)
    said = finish(process, tmp_path, code=1)
    lines = [line for line in said.splitlines() if line.startswith("stillroom: ")]
    start, question, *rest = lines
    assert start.startswith("stillroom: training on 2 ranks of cpu")
    assert question.startswith("stillroom: before the first step")
    errors = [line for line in rest if "to the end, without validations" not in line]
    assert len(errors) == 1, said
    assert ".tar" in errors[0]


PLACE = {
    "WORLD_SIZE": "6", "RANK": "4", "LOCAL_RANK": "5", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "TORCHELASTIC_RESTART_COUNT": "3",
}  # fmt: skip


class Store:
    """Counts as torch's store does; it can end with the rank that held it."""

    def __init__(self, error=None):
        self.counts, self.error = {}, error

    def add(self, key, number):
        if self.error is not None:
            raise self.error
        self.counts[key] = self.counts.get(key, 0) + number
        return self.counts[key]


@pytest.fixture(name="events")
def of_three_gpus_that_are_not_there(monkeypatch):
    """What torch would be given by rank 4 of 6, the sixth process of its machine, in order; the first is the store."""
    events = [Store()]
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: events.append(("set_device", device)))
    monkeypatch.setattr(
        "training.runs.distributed.rendezvous",
        lambda *given, timeout: events.append(("rendezvous", *given)) or iter([(events[0], 4, 6)]),
    )

    def begun(backend, *, timeout, **given):
        events.append(("begun", backend, given))

    monkeypatch.setattr(torch.distributed, "init_process_group", begun)
    monkeypatch.setattr(torch.distributed, "new_group", lambda **_: events.append("group") or "nccl group")
    monkeypatch.setattr(torch.distributed, "barrier", lambda: events.append("all are done"))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: events.append("left"))
    return events


def test_a_rank_takes_its_place_and_its_gpu_and_leaves_when_all_are_done(events):
    device = torch.device("cuda", 2)
    with joined_ranks() as ranks:
        assert ranks == Ranks(4, 6, device, "nccl group", events[0])
        events.append("trained")
    assert events[1:] == [
        ("rendezvous", "env://", 4, 6), ("begun", "gloo", {"store": events[0], "rank": 4, "world_size": 6}),
        ("set_device", device), "group", "trained", "all are done", "left",
    ]  # fmt: skip


def test_ranks_that_cannot_be_reached_at_the_start_are_lost_ones(events, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Connection refused")

    monkeypatch.setattr("training.runs.distributed.rendezvous", fail)
    with pytest.raises(RankLostError, match=r"^rank 4 lost another rank \(Connection refused\)"), joined_ranks():
        pass


@pytest.mark.parametrize("error", [UsageError("wrong"), OSError("disk")])
@pytest.mark.parametrize("place", ["first", "second", "without a store"])
def test_an_error_is_raised_in_the_first_rank_that_meets_it_and_the_others_leave_with_code_2(events, error, place):
    if place == "second":
        events[0].add("stillroom/errors/3", 1)
    elif place == "without a store":
        events[0].error = RuntimeError("gone") if isinstance(error, OSError) else OSError("gone")
    with pytest.raises(SystemExit if place == "second" else type(error)) as caught, joined_ranks():
        raise error
    assert (caught.value.code == 2) if place == "second" else (caught.value is error)
    assert events[-1] == "group", "nobody waits for the others, which may be gone"
    assert events[0].counts == ({} if place == "without a store" else {"stillroom/errors/3": 1 + (place == "second")})


def test_what_ranks_send_goes_over_the_group_of_their_devices(monkeypatch):
    groups = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda _, group: groups.append(("sum", group)))
    monkeypatch.setattr(
        torch.distributed, "broadcast", lambda _, src, group=None: groups.append(("weights", src, group))
    )
    ranks = Ranks(1, 2, device_group="nccl group")
    parameter = torch.nn.Parameter(torch.zeros(50))
    numbers = AllReduce(ranks, [parameter])(torch.zeros(2))
    assert numbers.untyped_storage().nbytes() == 8, "it does not hold the buffer of all gradients"
    ranks.broadcast_modules(torch.nn.Linear(2, 2))
    ranks.broadcast_modules()
    assert groups == [("sum", "nccl group"), ("weights", 0, "nccl group"), ("weights", 0, "nccl group")]


@pytest.mark.parametrize("problem", [RuntimeError("reset"), OSError("reset")])
def test_whatever_does_not_arrive_is_a_rank_that_is_lost(monkeypatch, problem):
    def fail(*_, **__):
        raise problem

    for name in ("broadcast", "broadcast_object_list", "all_reduce", "barrier"):
        monkeypatch.setattr(torch.distributed, name, fail)
    ranks = Ranks(3, 4)
    for send in (
        lambda: ranks.broadcast(1),
        lambda: ranks.broadcast_modules(torch.nn.Linear(1, 1)),
        ranks.wait,
        lambda: AllReduce(ranks, [])(torch.zeros(1)),
        lambda: Ranks(0, 4).broadcast_tensors({}),
    ):
        with pytest.raises(RankLostError, match=r"^rank [03] lost another rank \(reset\)"):
            send()
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda *_, **__: None)
    with pytest.raises(RankLostError, match=r"^rank 0 lost another rank \(reset\)"):
        Ranks(0, 4).broadcast_tensors({"weight": torch.zeros(1)})


def test_ranks_are_waited_for_until_one_alone_is_silent_and_each_attempt_of_torchrun_anew(monkeypatch):
    """One more of five ranks has answered each time: after the fourth look rank 4 alone has not."""
    waits, answered, named = [], {0}, set()
    monkeypatch.setattr(
        runs_distributed.time, "sleep", lambda wait_s: waits.append(wait_s) or answered.add(len(answered))
    )
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "7")

    class Answers:
        def set(self, name, _):
            named.add(name)

        def check(self, names):
            (name,) = names
            assert name.startswith("stillroom/lost/7/")
            return int(name.rpartition("/")[2]) in answered

    assert Ranks(2, 5, store=Answers()).silent_ranks() == [4]
    assert waits == [0.5] * 3
    assert named == {"stillroom/lost/7/2"}
    waits.clear()
    answered = set()
    monkeypatch.setattr(runs_distributed.time, "sleep", waits.append)
    assert Ranks(2, 3, store=Answers()).silent_ranks() == [0, 1, 2]
    assert len(waits) == 20, "ten seconds, and no longer"


@pytest.mark.parametrize("problem", [RuntimeError("gone"), OSError("gone")])
def test_where_the_store_is_gone_too_nobody_knows_which_rank_is_lost(problem):
    class Gone:
        def set(self, *_):
            raise problem

    assert Ranks(2, 5, store=Gone()).silent_ranks() == []
    assert Ranks(2, 5).silent_ranks() == []


@pytest.mark.parametrize(("is_there", "device"), [(True, "cuda"), (False, "cpu")])
def test_alone_a_run_computes_on_the_gpu_if_there_is_one(monkeypatch, is_there, device):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    with joined_ranks() as ranks:
        assert ranks == Ranks(0, 1, torch.device(device))
