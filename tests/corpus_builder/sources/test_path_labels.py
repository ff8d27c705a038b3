from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.sources.lhotse_manifest import utterances
from corpus_builder.sources.path_labels import plain_form, read_table, table_row
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import LeftOut, Refused, Utterance
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import voice, write_wave

COMPOSED = "pr\u00e9s.wav"
DECOMPOSED = "pre\u0301s.wav"


def found_with(folder: Path, table: str | bytes, *files: str, **options: Any) -> list[Any]:
    for number, name in enumerate(files):
        write_wave(folder / name, voice(number, 0.1))
    content = table.encode() if isinstance(table, str) else table
    (folder / "t.csv").write_bytes(content)
    source = SpeechSource.parse({"dir": str(folder), "table": "t.csv", **options}, where="test")
    return list(utterances(Located("train", "train", source, folder, table=folder / "t.csv")))


def texts(items: list[Any]) -> dict[str, str | None]:
    return {item.path: item.text for item in items if isinstance(item, Utterance)}


def reasons(items: list[Any]) -> dict[str, str]:
    return {item.id: item.reason for item in items if isinstance(item, Refused)}


@pytest.mark.parametrize(
    "table",
    [
        "path, text, speaker\na.wav, one, s\n",
        " path ,text\t,speaker \n a.wav ,one , s \n",
        '"path","text","speaker"\n"a.wav","one","s"\n',
        '"path", "text", "speaker"\n"a.wav" , "one" ,"s" \n',
        "\ufeffpath,text,speaker\r\na.wav,one,s\r\n",
        '\ufeff"path","text","speaker"\r\n\r\n"a.wav","one","s"\r\n,,\r\n',
        "path,text,speaker\ra.wav,one,s\r",
        "path,text,speaker,,\na.wav,one,s,,\n",
        "path,text,speaker\na.wav,one,s, \n",
        "path,text,speaker\n./a.wav,one,s\n",
        "path,text,speaker\n.//./a.wav,one,s",
    ],
)
def test_a_table_says_the_same_however_its_cells_are_spelt(tmp_path: Path, table: str) -> None:
    (item,) = found_with(tmp_path, table, "a.wav")
    assert (item.id, item.path, item.text, item.speaker, item.custom) == ("a", "a.wav", "one", "s", {})


def test_a_text_keeps_its_commas_quotes_and_inner_blanks_and_lines(tmp_path: Path) -> None:
    items = found_with(tmp_path, 'path,text\na.wav, "he said  ""no"" , \nand left" \n', "a.wav")
    assert texts(items) == {"a.wav": 'he said  "no" , \nand left'}


@pytest.mark.parametrize(
    ("spelling", "file"),
    [
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        (f"./{COMPOSED}", f"{DECOMPOSED}"),
        (f"x//{COMPOSED}", f"x/{DECOMPOSED}"),
        ("x\\y\\a.wav", "x/y/a.wav"),
        (".\\x\\a.wav", "x/a.wav"),
        ("x/./a.wav", "x/a.wav"),
        ("a:1.wav", "a:1.wav"),
        ("12:30:00.wav", "12:30:00.wav"),
        ("x/b:c/d:1.wav", "x/b:c/d:1.wav"),
        (" a.wav", " a.wav"),
    ],
)
def test_a_file_is_found_by_another_spelling_and_its_path_stays_as_it_is_on_the_disk(
    tmp_path: Path, spelling: str, file: str
) -> None:
    items = found_with(tmp_path, f'path,text\n"{spelling}",yes\n', file)
    assert texts(items) == {file: "yes"}
    assert [item.id for item in items] == [str(Path(file).with_suffix(""))]


@pytest.mark.parametrize("first", ["text,of composed", "text,of decomposed"])
def test_files_in_nfc_and_nfd_beside_each_other_have_each_their_own_row(tmp_path: Path, first: str) -> None:
    rows = [f"{COMPOSED},of composed", f"{DECOMPOSED},of decomposed"]
    ordered = rows if first.endswith(" composed") else rows[::-1]
    items = found_with(tmp_path, "path,text\n" + "\n".join(ordered), COMPOSED, DECOMPOSED)
    assert texts(items) == {COMPOSED: "of composed", DECOMPOSED: "of decomposed"}
    (tmp_path / "t.csv").write_text(f"path,text\n{COMPOSED},of composed\n")
    again = found_with(tmp_path, f"path,text\n{COMPOSED},of composed\n")
    assert texts(again) == {COMPOSED: "of composed"}
    assert [item for item in again if isinstance(item, LeftOut)] == [LeftOut("not in the table")]


@pytest.mark.parametrize(
    ("row", "name", "said"),
    [
        ("bad.wav,x,y,z", "t.csv:3", "has 4 cells, the head of the table has 2"),
        ("bad.wav", "t.csv:3", "has 1 cells, the head of the table has 2"),
        ('"bad.wav"x,y', "t.csv:3", "is no row of a CSV table: ',' expected after '\"'; mend its quotation marks"),
        ('"bad.wav,y', "t.csv:3", "is no row of a CSV table: unexpected end of data"),
        ("bad.wav," + "x" * 200_000, "t.csv:3", "field larger than field limit"),
        ("../bad.wav,y", "t.csv:3", "leaves its root"),
        ("..\\bad.wav,y", "t.csv:3", "leaves its root"),
        ("/etc/bad.wav,y", "t.csv:3", "is absolute; write it relative to"),
        ("C:\\bad.wav,y", "t.csv:3", "leaves its root"),
        ("\\\\server\\bad.wav,y", "t.csv:3", "is absolute; write it relative to"),
        (",y", "t.csv:3", "leaves its root"),
        ("bad\0.wav,y", "t.csv:3", "holds a NUL character"),
        (b"bad.wav,sp\xe9ech", "t.csv:3", "is not UTF-8 text"),
        ("one.wav,y", "t.csv:3", "path 'one.wav' occurs twice; line 2 is used"),
        ("./one.wav,y", "./one.wav", "line 3 of the table: another row names the same file"),
        ("gone.wav,y", "gone.wav", "line 3 of the table: there is no such audio file"),
        ("x\\gone.wav,y", "x\\gone.wav", "line 3 of the table: there is no such audio file"),
        ("notes.doc,y", "notes.doc", ".doc is not among the suffixes that are read; convert it"),
        (".old/a.wav,y", ".old/a.wav", "hidden files are not read"),
        ("x" * 300 + ".wav,y", "x" * 199 + "…", "there is no such audio file"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_a_bad_row_refuses_one_row_in_one_line_and_the_others_stay(
    tmp_path: Path, row: str | bytes, name: str, said: str
) -> None:
    (tmp_path / "notes.doc").write_bytes(b"x")
    table = b"path,text\none.wav,1\n" + (row.encode() if isinstance(row, str) else row) + b"\ntwo.wav,2\nthree.wav,3\n"
    items = found_with(tmp_path, table, "one.wav", "two.wav", "three.wav", ".old/a.wav")
    assert texts(items) == {"one.wav": "1", "two.wav": "2", "three.wav": "3"}
    assert list(reasons(items)) == [name]
    assert said in reasons(items)[name]
    assert "\n" not in reasons(items)[name]
    assert str(tmp_path) not in reasons(items)[name]


def test_a_row_that_the_pattern_leaves_out_is_not_missed(tmp_path: Path) -> None:
    items = found_with(tmp_path, "path,text\na/one.wav,1\n./b/two.wav,2\n", "a/one.wav", pattern="a/*")
    assert texts(items) == {"a/one.wav": "1"}
    assert not reasons(items)


def test_a_table_in_utf_16_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is UTF-16 text; expected a CSV table in UTF-8"):
        found_with(tmp_path, "path,text\na.wav,x\n".encode("utf-16"), "a.wav")


@given(
    st.lists(
        st.lists(st.text(alphabet="ab\"', .\n\r", min_size=0, max_size=6), min_size=2, max_size=2),
        min_size=1,
        max_size=6,
    )
)
def test_what_csv_writes_is_read_as_it_was_but_for_blanks_around_it(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    rows = [(f"{number}.wav", *row) for number, row in enumerate(texts)]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("path", "text", "mood"), *rows])
    path.write_bytes(stream.getvalue().encode())
    table = read_table(path)
    assert not table.refused
    assert {name: row[1] for name, row in table.rows.items()} == {
        name: {key: value.strip() for key, value in (("text", text), ("mood", mood)) if value.strip()}
        for name, text, mood in rows
    }


@given(st.text(alphabet="a\u0301\u00e9./\\ ", max_size=12))
def test_the_plain_form_of_a_path_is_its_own_and_that_of_its_other_spellings(path: str) -> None:
    plain = plain_form(path)
    assert plain_form(plain) == plain_form(unicodedata.normalize("NFD", plain)) == plain_form(f"./{plain}")
    assert plain_form(plain.replace("/", "\\")) == plain_form(plain.replace("/", "//")) == plain_form(plain)


def test_a_column_without_a_name_may_only_be_empty() -> None:
    assert table_row(["path", "", "speaker"], ["a.wav", " ", " ann "]) == ("a.wav", {"speaker": "ann"})
    with pytest.raises(ValueError, match=r"^has a cell in a column without a name$"):
        table_row(["path", "", "speaker"], ["a.wav", "x", "ann"])
