"""Which files of a folder are found, in which order, and how the others are counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from corpus_builder.audio.decode import Header
from corpus_builder.sources.folder import files_below, folder_utterances, passed_over, suffix_of
from corpus_builder.sources.path_labels import pattern_of
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import LeftOut, Utterance
from manifests.plan.plan import PASSED_OVER
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path


def test_of_very_many_suffixes_the_commonest_are_named_and_the_rest_counted_together() -> None:
    counts = Counter({f".s{number}": 100 - number for number in range(45)} | {".gone": 0})
    lines = list(passed_over(counts))
    assert lines[0] == LeftOut(PASSED_OVER + ".s0", 100)
    assert len(lines) == 41
    assert lines[-1] == LeftOut(PASSED_OVER + "others", 60 + 59 + 58 + 57 + 56)
    assert list(passed_over(Counter({".a": 2, ".b": 0}))) == [LeftOut(PASSED_OVER + ".a", 2)]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a/b.TXT", ".txt"), ("README", "none"), ("a.tar.gz", ".gz"), ("a.b-c", "others"), ("a." + "x" * 11, "others"), ("a.x_1", ".x_1")],
)  # fmt: skip
def test_a_suffix_is_counted_in_lower_case_or_among_the_others(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


def test_files_are_listed_in_order_hidden_ones_left_out_and_others_counted_where_the_pattern_fits(
    tmp_path: Path,
) -> None:
    names = (
        "b.wav",
        "a.flac",
        "c/z.wav",
        "c/a.WAV",
        ".h/x.wav",
        "c/.y.wav",
        "c/.g/y.wav",
        "n.txt",
        "c/m.txt",
        "c/k.md",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    others: Counter[str] = Counter()
    assert list(files_below(tmp_path, others=others, pattern=pattern_of("c/*"))) == [
        "a.flac",
        "b.wav",
        "c/a.WAV",
        "c/z.wav",
    ]
    assert others == {".txt": 1, ".md": 1}
    every: Counter[str] = Counter()
    list(files_below(tmp_path, others=every))
    assert every == {".txt": 2, ".md": 1}


def test_a_table_is_no_other_file_and_known_headers_are_not_read_again(tmp_path: Path) -> None:
    """The table is below the folder; a header that is known says other than the file, and is believed."""
    for name in ("a", "b", "out/c"):
        write_wave(tmp_path / "f" / "x" / f"{name}.wav", voice(1, 0.1))
    (tmp_path / "f/x/t.csv").write_text(
        "path,text,language\na.wav,one,de\nb.wav,two,\nout/c.wav,three,\nout/gone.wav,4,\n"
    )
    (tmp_path / "f/x/more.csv").write_text("x")
    plain = {"dir": "f", "table": "t.csv", "pattern": "*"}
    source = SpeechSource.parse(plain, where="test")
    located = Located("dev", "voices", source, tmp_path / "f", prefix="x", table=tmp_path / "f/x/t.csv")
    items = list(folder_utterances(located, {"b.wav": Header(77, 8000, 1)}))
    taken = [item for item in items if isinstance(item, Utterance)]
    assert [(one.id, one.path, one.num_frames, one.rate_hz, one.text, one.language, one.custom) for one in taken] == [
        ("a", "x/a.wav", 1600, 16_000, "one", "de", {}), ("b", "x/b.wav", 77, 8000, "two", None, {}),
    ]  # fmt: skip
    assert [item for item in items if not isinstance(item, Utterance)] == [LeftOut(PASSED_OVER + ".csv", 1)]


def test_a_table_that_the_pattern_leaves_out_is_not_taken_off_the_others(tmp_path: Path) -> None:
    write_wave(tmp_path / "in" / "a.wav", voice(1, 0.1))
    (tmp_path / "in" / "more.csv").write_text("x")
    (tmp_path / "t.csv").write_text("path,text\nin/a.wav,one\n")
    source = SpeechSource.parse({"dir": "f", "table": "t.csv", "pattern": "in/*"}, where="test")
    items = list(folder_utterances(Located("dev", "voices", source, tmp_path, table=tmp_path / "t.csv")))
    assert [item for item in items if isinstance(item, LeftOut)] == [LeftOut(PASSED_OVER + ".csv", 1)]
