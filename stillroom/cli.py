"""The command: a lazy group, so that `stillroom --help` imports neither torch nor lhotse."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from stillroom import __version__


class Verb(NamedTuple):
    """Where a verb lives, and its line in the list."""

    module: str
    attribute: str
    help: str


VERBS = {
    "demo": Verb("stillroom.demo", "demo_command", "All of it in minutes, offline, on this machine."),
    "plan": Verb("corpus_builder.cli.build", "plan_command", "Only decide: a recipe's ranges become numbers."),
    "build": Verb("corpus_builder.cli.build", "build_command", "Render a recipe or plan into a sharded corpus."),
    "verify": Verb("corpus_builder.cli.build", "verify_command", "Check a corpus with independent code."),
    "pack": Verb(
        "corpus_builder.cli.share", "pack_command", "Everything of a corpus but its audio, in one file to share."
    ),
    "rebuild": Verb(
        "corpus_builder.cli.share", "rebuild_command", "Rebuild the corpus of a pack from your own sources."
    ),
    "diff": Verb("corpus_builder.cli.share", "diff_command", "What differs between two corpora, packs or plans."),
    "index": Verb(
        "corpus_builder.cli.exchange", "index_command", "Index any WebDataset of audio, to train on and verify."
    ),
    "subset": Verb(
        "corpus_builder.cli.exchange", "subset_command", "A part of a corpus as a manifest over the same shards."
    ),
    "unpack": Verb("corpus_builder.cli.exchange", "unpack_command", "One copy an utterance in the source's own tree."),
    "lhotse": Verb("corpus_builder.cli.exchange", "lhotse_command", "Export a corpus to Lhotse Shar."),
    "audit": Verb("corpus_builder.cli.share", "audit_command", "Leaks between splits and corpora."),
    "schema": Verb("stillroom.schema", "schema_command", "Print the JSON Schema of a document."),
    "show": Verb("corpus_builder.cli.build", "show_command", "Describe a corpus."),
    "teacher": Verb("training.cli", "teacher_command", "Fetch published weights on a node that has a network."),
    "targets": Verb("training.cli", "targets_command", "Keep what a teacher gives, so that training needs it no more."),
    "train": Verb("training.cli", "train_command", "Distil a student; resumes by itself."),
    "export": Verb("training.cli", "export_command", "Write a run's student for another library, and compare."),
    "evaluate": Verb("evaluation.cli", "evaluate_command", "Measure how robust models are."),
    "report": Verb("evaluation.cli", "report_command", "Print and write the table."),
}


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
    "2 bad input, 75 stopped: run again, 130 Ctrl-C.",
)
@click.version_option(__version__, prog_name="stillroom")
def stillroom() -> None:
    """The group itself does nothing."""
