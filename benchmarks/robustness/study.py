#!/usr/bin/env python3
"""The robustness study: makes what is missing of its data, corpora and cells, and decides the claims when all cells are there.

    python benchmarks/robustness/study.py OUT                # the final cells, on the test set
    python benchmarks/robustness/study.py OUT --dev          # tuning: other seeds, dev voices, dev noises, dev kinds
    python benchmarks/robustness/study.py OUT --hours 8      # begins no cell that would not end within eight hours

It can be stopped anywhere and started again: a finished cell is one JSON file and is never made again unless its digest changes, and a
stopped run goes on from its checkpoint. README.md beside this file says what it does and how long that takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cells as study_cells
import data as study_data
import materials
from cells import ALL_TASKS, FULL, HOUSE, SMOKE, TEACHER, Cell, Scale, Side
from record import StudyCell, label_free, majority, student_facts, task_counts, voices_of

from evaluation.config import EvaluationConfig
from manifests.errors import StillroomError, UsageError
from manifests.io.digest import bytes_digest, digest
from manifests.io.json_yaml import write_yaml
from manifests.results.scores import Results
from training.config.load import merged, override_of

CLAIMS = Path(__file__).with_name("claims.md")
STOPPED = 75
TYPICAL_CELL_S = 600.0


class CommandFailedError(RuntimeError):
    """A command of the study did not end well."""

    def __init__(self, command: list[str], status: int, log: Path) -> None:
        super().__init__(f"`{' '.join(command[2:5])} ...` ended with {status}; the end of {log} says why")


class StoppedError(Exception):
    """The study was stopped."""


@dataclass
class Study:
    """Folders of the study, and what is requested.

    Attributes:
        out: Everything that is not committed.
        kept: Where finished cells go.
        children: Commands that run now.
    """

    out: Path
    data: Path
    kept: Path
    side: Side
    scale: Scale
    jobs: int
    children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def made(self) -> Path:
        """The study's own data."""
        return self.out / f"data-{self.scale.name}"

    def run(self, *words: str, log: str) -> float:
        """Run a command on one thread, its output in a file; gives the seconds of a core that it took.

        Raises:
            StoppedError: If the study was stopped meanwhile.
            CommandFailedError: If it failed.
        """
        path = self.out / "logs" / f"{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, (str(HOUSE), os.environ.get("PYTHONPATH"))))}  # fmt: skip
        with path.open("ab") as file:
            with self.lock:
                if self.stopped.is_set():
                    raise StoppedError
                child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
                self.children.add(child)
            _, status, usage = os.wait4(child.pid, 0)
            with self.lock:
                child.returncode = os.waitstatus_to_exitcode(status)
                self.children.discard(child)
        if self.stopped.is_set():
            raise StoppedError
        if child.returncode != 0:
            raise CommandFailedError(command, child.returncode, path)
        return usage.ru_utime + usage.ru_stime

    def stop(self) -> None:
        """Stop all commands; the trainer leaves a checkpoint."""
        self.stopped.set()
        with self.lock:
            for child in self.children:
                os.kill(child.pid, signal.SIGTERM)  # `terminate` may reap it, which `run` waits for


def corpus_of(study: Study, name: str, recipe: dict[str, Any], *, limit: int | None) -> Path:
    """Build a corpus once; gives its folder, named by what it is."""
    corpus = study.out / "corpora" / study.scale.name / f"{name}-{digest([recipe, limit])[:12]}"
    if (corpus / "corpus.json").exists():
        return corpus
    path = study.out / "recipes" / study.scale.name / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(path, json.loads(json.dumps(recipe)))  # no object twice, so no anchors
    roots = []
    for root, below in materials.roots_of(recipe).items():
        folder = (study.data if below.startswith("speech/") else study.made) / below
        roots += ["--root", f"{root}={folder}"]
    words = ["-m", "stillroom", "build", str(path), str(corpus), "--workers", str(study.jobs), *roots]
    began = time.monotonic()
    study.run(*words, *(["--limit", str(limit)] if limit is not None else []), log=f"build-{name}")
    say(f"corpus {name}: {time.monotonic() - began:.0f} s")
    return corpus


def training_corpus(study: Study, name: str) -> Path:
    """A corpus that cells are trained on."""
    return corpus_of(study, name, materials.training_recipe(name, rooms=study.scale.rooms), limit=study.scale.limit)


def targets_of(study: Study, cell: Cell) -> Path:
    """Run the teacher once over a cell's corpus, on its copies too, for all runs; gives the folder. A stopped command goes on."""
    corpus, config = training_corpus(study, cell.corpus), cell.config(study.scale)
    layers, crop_s = ",".join(map(str, config["teacher"]["layers"])), str(config["crop_s"])
    folder = study.out / "targets" / study.scale.name / f"{corpus.name}-{digest([layers, crop_s])[:12]}"
    if not (folder / "targets.json").exists():
        words = ["-m", "stillroom", "targets", str(corpus), str(folder), "--teacher", TEACHER, "--layers", layers]
        words += ["--conditions", ",".join(materials.SEEN), "--crop-s", crop_s, "--split", "train"]
        took = study.run(*words, log=f"targets-{cell.corpus}")
        say(f"targets of {cell.corpus}: {took:.0f} s of a core")
    return folder


def evaluation_corpus(study: Study) -> Path:
    """The corpus that cells are measured on; its size is decided by the data."""
    return corpus_of(study, study.side, materials.evaluation_recipe(study.side, rooms=study.scale.rooms), limit=None)


def make_data(study: Study) -> None:
    """Real speech and noise, and what the study makes of them, unless they are there."""
    if not (study.data / "metadata.jsonl").exists():
        study.run(str(HOUSE / "recipes/realdata/prepare.py"), str(study.data), "--more-voices", log="prepare")
    study_data.prepare(study.data, study.made, voices=None if study.scale == FULL else 2)


def make_cell(study: Study, cell: Cell) -> StudyCell:
    """Train, if there is something to train, and measure; gives the record."""
    run = study.out / "runs" / study.side / f"{cell.name}-{cell.digest(study.side, study.scale)[:12]}"
    run.parent.mkdir(parents=True, exist_ok=True)
    seconds = {"training": 0.0}
    if cell.corpus:
        places = {"corpus": str(training_corpus(study, cell.corpus)), "targets": str(targets_of(study, cell))}
        config = run.with_suffix(".yaml")
        write_yaml(config, json.loads(json.dumps(cell.config(study.scale) | places)))
        seconds["training"] = study.run("-m", "stillroom", "train", str(config), str(run), log=f"train-{cell.name}")
    results = run.parent / f"{run.name}.results"
    requested = evaluation_of(study, cell, run)
    config = results.with_suffix(".evaluation.yaml")
    write_yaml(config, json.loads(json.dumps(requested)))
    words = ("-m", "stillroom", "evaluate", str(config), str(results))
    seconds["evaluation"] = study.run(*words, log=f"evaluate-{cell.name}")
    tasks = EvaluationConfig.parse(requested, where=config).tasks
    names = {task.name: name for name, task in zip(ALL_TASKS, tasks, strict=True)}
    record = record_of(
        study, cell, Results.read(results / "results.json", needed="what evaluate wrote"), names, seconds
    )
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(results, ignore_errors=True)
    return record


def evaluation_of(study: Study, cell: Cell, run: Path) -> dict[str, Any]:
    """The config of a cell's evaluation."""
    tasks = [
        {**task, "table": str(study.made / task["table"])} if "table" in task else task for task in ALL_TASKS.values()
    ]
    splits = {"train": "train", "test": "dev"}
    if study.side == "test":
        splits = {"train": "train", "dev": "dev", "test": "test"}
    return {
        "corpus": str(evaluation_corpus(study)),
        "models": {"model": {"run": str(run), "system": cell.system} if cell.corpus else TEACHER},
        "splits": splits,
        "tasks": tasks,
        "measures": ["cosine"],
        "probes": 2,
        "seed": 0,
        "efficiency": False,
    }


def record_of(
    study: Study, cell: Cell, results: Results, names: dict[str, str], seconds: dict[str, float]
) -> StudyCell:
    """A finished cell from what `evaluate` wrote; `names` are the study's of its tasks."""
    [measured] = results.cells
    assert results.roll is not None
    voices = voices_of(measured, results.roll, names)
    phones = study_data.commonest_phone_share(study.made / "phones.csv", study.side)
    tasks = {}
    for task, name in names.items():
        chance = majority(measured, task)
        tasks[name] = task_counts(measured, results.roll, task, voices=voices, chance=round(phones if chance is None else chance, 5))  # fmt: skip
    return StudyCell.model_validate(
        {
            "schema": StudyCell.SCHEMA,
            "name": cell.name, "system": cell.system, "side": study.side, "seed": cell.seed, "corpus": cell.corpus,
            "digest": cell.digest(study.side, study.scale), "decided": cell.decided(study.side, study.scale),
            "claims_sha256": bytes_digest(CLAIMS.read_bytes()), "data_sha256": measured.data_sha256,
            "student": student_facts(measured.facts), "seconds": {name: round(took, 1) for name, took in seconds.items()},
            "voices": voices, "tasks": tasks, "label_free": label_free(measured), "notes": measured.notes, "software": results.software,
        }
    )  # fmt: skip


def is_finished(study: Study, cell: Cell) -> bool:
    """Whether the cell's file is there and of this digest."""
    path = study.kept / f"{cell.name}.json"
    if not path.exists():
        return False
    return StudyCell.read(path, needed="a finished cell").digest == cell.digest(study.side, study.scale)


def make_all(study: Study, pending: list[Cell], *, hours: float | None) -> bool:
    """Make cells, `jobs` at a time; gives whether all were made."""
    deadline = None if hours is None else time.monotonic() + 3600 * hours
    typical_s, finished = TYPICAL_CELL_S, 0
    waiting = list(pending)
    with ThreadPoolExecutor(study.jobs) as pool:
        running: dict[Future[StudyCell], tuple[Cell, float]] = {}
        while waiting or running:
            while waiting and len(running) < study.jobs:
                if deadline is not None and time.monotonic() + typical_s > deadline:
                    say(f"{len(waiting)} cells are left for another time")
                    waiting = []
                    break
                cell = waiting.pop(0)
                running[pool.submit(make_cell, study, cell)] = cell, time.monotonic()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                cell, began = running.pop(future)
                record = future.result()
                study.kept.mkdir(parents=True, exist_ok=True)
                record.write_line(study.kept / f"{cell.name}.json")
                finished += 1
                took = time.monotonic() - began
                typical_s = took if finished == 1 else max(took, 0.8 * typical_s + 0.2 * took)
                say(f"{cell.name}: {took:.0f} s, {finished} of {len(pending)}")
    return finished == len(pending)


def say(line: str) -> None:
    """A line with the time."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def wanted(given: argparse.Namespace, side: Side, change: dict[str, Any]) -> list[Cell]:
    """The requested cells; a changed one has another name."""
    chosen = study_cells.cells(side)
    if given.only:
        known = {name for cell in chosen for name in (cell.system, cell.name)}
        if unknown := [name for name in given.only if name not in known]:
            raise UsageError(f"--only {unknown[0]}: there is no such system or cell; cells.py lists them")
        chosen = [cell for cell in chosen if cell.system in given.only or cell.name in given.only]
    if change:
        mark = "-".join(given.set).replace("=", "-").replace(".", "-").replace("/", "-")
        chosen = [
            replace(cell, system=study_cells.changed_name(cell.system, mark), change=merged(cell.change, change))
            for cell in chosen
            if cell.corpus
        ]
    return chosen


def change_of(words: list[str]) -> dict[str, Any]:
    """What `--set` changes of every run's config.

    Raises:
        UsageError: If a word is not KEY=VALUE.
        BadDocumentError: If a value is not YAML.
    """
    change: dict[str, Any] = {}
    for word in words:
        if not word.partition("=")[2]:
            raise UsageError(f"--set takes KEY=VALUE, found {word!r}; such as steps=1400")
        change = merged(change, override_of(word))
    return change


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for data, corpora and runs; cells go to docs/results/cells")
    parser.add_argument(
        "--dev", action="store_true", help="tune: cells go to OUT/cells-dev-full, the test set is not used"
    )
    parser.add_argument("--hours", type=float, help="begin no cell that would end later")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, one thread each")
    parser.add_argument("--data", type=Path, help="what recipes/realdata/prepare.py wrote; OUT/prepared by default")
    parser.add_argument("--cells", type=Path, help="where finished cells go")
    parser.add_argument("--only", nargs="+", default=[], help="systems or cells")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="change every run's config; with --dev"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny: to see that all of it runs")
    given = parser.parse_args()
    if given.set and not given.dev:
        parser.error("--set goes with --dev: final cells are those of cells.py")
    return given


def main() -> int:
    """The command."""
    given = arguments()
    side: Side = "dev" if given.dev else "test"
    scale = SMOKE if given.smoke else FULL
    out = given.out.resolve()
    data = (given.data or out / "prepared").resolve()
    kept = given.cells or (
        out / f"cells-{side}-{scale.name}" if given.dev or given.smoke else HOUSE / "docs/results/cells"
    )
    try:
        change = change_of(given.set)
        chosen = wanted(given, side, change)
    except StillroomError as problem:
        print(problem, file=sys.stderr)
        return 2
    study = Study(out, data, kept, side, scale, given.jobs)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: study.stop())
    try:
        pending = [cell for cell in chosen if not is_finished(study, cell)]
        say(f"{len(chosen)} cells, {len(pending)} to be made")
        if pending:
            make_data(study)
            evaluation_corpus(study)
            for cell in pending:  # before two of them need the same
                if cell.corpus:
                    targets_of(study, cell)
        is_whole = make_all(study, pending, hours=given.hours)
    except StoppedError:
        say("stopped; run the same command again to go on")
        return STOPPED
    except (StillroomError, CommandFailedError) as problem:
        study.stop()
        print(problem, file=sys.stderr)
        return 2
    if not is_whole:
        return STOPPED
    if side == "test" and not (given.smoke or given.only):
        study.run(str(Path(__file__).with_name("analysis.py")), str(kept), str(HOUSE / "docs/results"), log="analysis")
        say(f"the claims are decided: {HOUSE / 'docs/results/claims.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
