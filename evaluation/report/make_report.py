"""The report of results folders: its tables as Markdown, and as files where that is requested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.report.markdown import merged_models, outcomes_of, read_results, report_tables, text_of
from evaluation.report.robustness_table import robustness_tables
from evaluation.report.table import file_names
from manifests.errors import UsageError, printable
from manifests.io.atomic import write_text
from manifests.io.place import local_path, one_or_several

if TYPE_CHECKING:
    from collections.abc import Sequence


def report(
    results: str | Path | Sequence[str | Path],
    *,
    markdown: str | Path | None = None,
    html: str | Path | None = None,
    csv: str | Path | None = None,
    against: str | None = None,
) -> str:
    """Make the report of one or several results folders of the same data.

    Args:
        results: Folders that `evaluate` has finished, or one of them; models may differ.
        markdown: A file to write it to.
        html: A file to write it to as one self-contained HTML page, with plots and heat maps.
        csv: A folder to write every table to, each as a CSV file with unrounded numbers; pages then have the first twelve rows of
            longer tables, and name the file.
        against: The system that others are compared with; the plain student by default.

    Returns:
        The report as Markdown that also reads well in a terminal.

    Raises:
        MissingFileError: If a folder has no results.
        OtherDataError: If they were not measured on the same data and in the same way.
        TwoModelsError: If two models have one name.
        UnknownSystemError: If there is no system of the name `against`.
        UsageError: If the folder for CSV files has tables of another report.
    """
    folders = one_or_several(results)
    documents = [read_results(local_path(folder)) for folder in folders]
    names = [str(folder) for folder in folders]
    models = merged_models(documents, names=names)
    tables = report_tables(documents, models, against=against)
    files: dict[str, str] = {}
    if csv is not None:
        from evaluation.report.html import training_table

        written = [*tables, training_table(models)]
        named = file_names(written)
        refuse_other_tables(local_path(csv), named)
        for table, name in zip(written, named, strict=True):
            write_text(local_path(csv) / name, table.csv())
            files[table.title] = str(local_path(csv) / name)
        tables = [table.head(files[table.title]) for table in tables]
    text = text_of(documents, models, tables)
    if markdown is not None:
        write_text(Path(markdown), text)
    if html is not None:
        from evaluation.report.html import write_page
        from manifests.corpus.provenance import provenance

        write_page(Path(html), documents, names=names, against=against, command=provenance()["command"], files=files)
    return text


def refuse_other_tables(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder with CSV files of another report: nobody could tell which are of this one.

    Args:
        folder: Where tables are written; it may not exist.
        names: The files that are written or replaced.

    Raises:
        UsageError: If there are other ones.
    """
    found = (path.name for path in folder.glob("[0-9][0-9]-*.csv")) if folder.is_dir() else ()
    if others := sorted(set(found) - set(names)):
        raise UsageError(
            f"--csv {printable(folder)}: has tables of another report ({printable(others[0])}); remove its CSV files, or name another folder"
        )


def headline(results: Path) -> str:
    """The table of a report that needs no other: systems by clean, seen and new; empty if there is no task.

    Args:
        results: A folder that `evaluate` has finished.

    Raises:
        MissingFileError: If it has no results.
    """
    document = read_results(results)
    outcomes = outcomes_of([document], document.cells)
    tables = [] if outcomes is None else robustness_tables(outcomes)
    return "\n".join(tables[0].lines()) if tables else ""
