"""The command `stillroom`: a lazy click group, so that `stillroom --help` imports neither torch nor lhotse."""

from __future__ import annotations

import difflib
import importlib
from typing import NamedTuple

import click

from manifests.errors import printable
from stillroom import __version__


class Verb(NamedTuple):
    """The module and function of a verb, and its line in the list."""

    module: str
    attribute: str
    help: str


VERBS = {
    "demo": Verb("stillroom.demo", "demo_command", "All of it in minutes, offline, on this machine."),
    "init": Verb("stillroom.init", "init_command", "Write a commented recipe or config to begin with."),
    "plan": Verb("corpus_builder.cli.build", "plan_command", "Draw all numbers of a recipe, and write them as a plan."),
    "build": Verb("corpus_builder.cli.build", "build_command", "Render a recipe or plan into a sharded corpus."),
    "verify": Verb(
        "corpus_builder.cli.build", "verify_command", "Check a corpus with code independent of the builder."
    ),
    "pack": Verb(
        "corpus_builder.cli.share", "pack_command", "Everything of a corpus except its audio, in one file to share."
    ),
    "rebuild": Verb(
        "corpus_builder.cli.share",
        "rebuild_command",
        "Build the corpus of a pack from your own sources, and compare every wave.",
    ),
    "diff": Verb("corpus_builder.cli.share", "diff_command", "Differences between two corpora, packs or plans."),
    "index": Verb(
        "corpus_builder.cli.exchange", "index_command", "Index any WebDataset of audio, to train on and verify."
    ),
    "subset": Verb(
        "corpus_builder.cli.exchange", "subset_command", "A part of a corpus as a manifest over the same shards."
    ),
    "unpack": Verb(
        "corpus_builder.cli.exchange",
        "unpack_command",
        "One copy of each utterance as files in the tree of the source.",
    ),
    "lhotse": Verb("corpus_builder.cli.exchange", "lhotse_command", "Export a corpus to Lhotse Shar."),
    "audit": Verb("corpus_builder.cli.share", "audit_command", "Find leaks between splits and corpora."),
    "schema": Verb("stillroom.schema", "schema_command", "Print the JSON Schema of a document."),
    "show": Verb("corpus_builder.cli.build", "show_command", "Print what a corpus holds."),
    "teacher": Verb("training.cli", "teacher_command", "Fetch published weights on a node that has a network."),
    "targets": Verb(
        "training.cli", "targets_command", "Save a teacher's targets, so that training does not need the teacher."
    ),
    "train": Verb("training.cli", "train_command", "Distil a student; resumes a run that was stopped."),
    "export": Verb("evaluation.cli", "export_command", "Write the student of a run for another library, and compare."),
    "evaluate": Verb("evaluation.cli", "evaluate_command", "Measure the robustness of models."),
    "report": Verb("evaluation.cli", "report_command", "Print and write the tables of an evaluation."),
}


OTHER_VERBS = {  # what other programs call a step
    "eval": "evaluate", "test": "evaluate", "score": "evaluate", "distil": "train", "distill": "train", "fit": "train", "prepare": "build",
    "create": "build", "render": "build", "make": "build", "generate": "build", "download": "teacher", "fetch": "teacher", "check": "verify",
    "validate": "verify", "info": "show", "inspect": "show", "describe": "show", "new": "init", "convert": "export", "filter": "subset",
    "precompute": "targets", "compare": "diff",
}  # fmt: skip


class LazyGroup(click.Group):
    """A group that imports a verb's module only when the verb runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which they are used."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        del ctx
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command = getattr(importlib.import_module(verb.module), verb.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb of a command line; of a name that is none, the verb that may be meant."""
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            close = [OTHER_VERBS[name]] if name in OTHER_VERBS else difflib.get_close_matches(name, VERBS, n=1)
            ctx.fail(f"No such command {printable(name)!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from their lines here, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Distil large speech models into small ones that keep working when the speech is distorted.\n\n"
    "recipe -> plan -> build -> verify -> train -> evaluate -> report. Exit codes: 0 done, 1 a check found something, "
    "2 bad input, 75 stopped: run again, 130 Ctrl-C, 143 SIGTERM.",
)
@click.version_option(__version__, prog_name="stillroom")
def stillroom() -> None:
    """The group itself does nothing."""
