import errno
import io
import json
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import (
    BadDocumentError,
    MissingFileError,
    NoSpaceLeftError,
    StillroomError,
    UnsafePathError,
    printable,
)
from manifests.io import json_yaml
from manifests.io.atomic import replacing
from manifests.io.yaml12 import MAX_DEPTH, parse_yaml


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "corpus.json"
    json_yaml.write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), replacing(target) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such_and_keeps_the_old_file(tmp_path, monkeypatch, number):
    target = tmp_path / "index.json"
    json_yaml.write_json(target, {"old": 1})

    def full(self, content):
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoSpaceLeftError, match="finished files stay"):
        json_yaml.write_json(target, {"new": 1})
    monkeypatch.undo()
    assert json.loads(target.read_text()) == {"old": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper"),
        (b"[" * 65 + b"]" * 65 + b",[]", "nested deeper"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
    ],
)
def test_hostile_json_is_one_clear_line(text, reason):
    with pytest.raises(BadDocumentError, match=reason) as problem:
        json_yaml.parse_json(text, where="x.json")
    assert "\n" not in str(problem.value)


def test_brackets_inside_strings_do_not_count_as_nesting():
    assert json_yaml.parse_json(json.dumps({"text": "[" * 500 + '\\"{'}).encode(), where="x")["text"].startswith("[[[")


def test_yaml_reads_scalars_by_version_1_2():
    text = b"a: 2e-4\nb: no\nc: 012\nd: 1.\ne: on\nf: -3\ng: ~\nh:\ni: 'yes'\nj: true\nk: 1_000\nl: 2026-11-23\nm: 0x1F\nn: 0o17\no: 1e3\np: .5\nq: 2E5\n"
    assert parse_yaml(text, where="x") == {
        "a": 2e-4, "b": "no", "c": 12, "d": 1.0, "e": "on", "f": -3, "g": None, "h": None, "i": "yes", "j": True,
        "k": "1_000", "l": "2026-11-23", "m": 31, "n": 15,
        "o": 1000.0, "p": 0.5, "q": 2e5,
    }  # fmt: skip


BOMB = "\n".join(
    ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    + [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]" for i in range(9)]
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB.encode(), "expands to more"),
        (b"a: &a [*a]", "expands to more"),
        (b"!!python/object/apply:os.system ['true']", "is not plain data"),
        (b"a: !!set {x}", "tag:yaml.org,2002:set is not plain data"),
        (b"a: !!timestamp 2026-11-23", "is not plain data"),
        (b"a: !!binary eA==", "is not plain data"),
        (b"b: 0\na: 1\nc: 0\na: 2", "^recipe.yaml:1: not valid YAML: key 'a' occurs twice$"),
        (b"a: 1\nb: [1", "^recipe.yaml:2: not valid YAML"),
        (b"a: 1\n\nb: 1e999", "^recipe.yaml:3: not valid YAML: number 1e999 is too large$"),
        (b"[" * 66 + b"]" * 66, "nested deeper than 64 levels"),
        (b"a: " + b"9" * 10_000, "more than 30 digits"),
        (b"a: 0x" + b"F" * 10_000, "more than 30 digits"),
        (b"a: 1e999", "too large"),
        (b"[" * 3000, "nested|not valid"),
        (b"a: [1", "not valid YAML"),
        (b"\x00", "not valid YAML"),
        (b"a: 1\n--- \nb: 2", "not valid YAML"),
    ],
)
def test_hostile_yaml_is_one_clear_line(text, reason):
    with pytest.raises(BadDocumentError, match=reason) as problem:
        parse_yaml(text, where="recipe.yaml")
    assert "\n" not in str(problem.value)


def test_yaml_is_bounded_by_nodes_and_read_no_further_than_the_bound(monkeypatch):
    monkeypatch.setattr("manifests.io.yaml12.MAX_YAML_NODES", 100)
    assert parse_yaml(b"[" + b"x, " * 99 + b"]", where="x") == ["x"] * 99
    assert len(parse_yaml(b"a: &a [x, x]\nb: [" + b"*a, " * 30 + b"]", where="x")["b"]) == 30
    for text in (b"[" + b"x, " * 100 + b"]", b"[" + b"x, " * 100 + b"}", b"a: &a [x, x]\nb: [" + b"*a, " * 32 + b"]"):
        with pytest.raises(BadDocumentError, match="expands to more than"):
            parse_yaml(text, where="x")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-999, 999) | st.text(alphabet="abc no:[]{}#&*!|>'\"%@`-1.e"),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(alphabet="abc", min_size=1), x, max_size=3),
        max_leaves=10,
    )
)
def test_what_we_write_as_yaml_reads_back(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    json_yaml.write_yaml(path, document)
    text = yaml.safe_load(path.read_text())
    assert text == document
    assert json_yaml.read_yaml(path, needed="test") == document


@pytest.mark.parametrize("text", ["2e4", "0o17", "0x1F", ".5e3", "no", "012", "1:30", "true", "2026-11-23", "~"])
def test_a_text_that_looks_like_a_number_in_either_version_is_written_as_text(tmp_path, text):
    json_yaml.write_yaml(tmp_path / "x.yaml", {"licence": text})
    assert json_yaml.read_yaml(tmp_path / "x.yaml", needed="test") == {"licence": text}
    assert yaml.safe_load((tmp_path / "x.yaml").read_text()) == {"licence": text}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "", "pipe:cat x", "s3://b/x", "C:\\x", "a\0b", "~/x", "c:/x", "c:"]
)
def test_a_path_that_could_leave_its_root_is_refused(path):
    with pytest.raises(UnsafePathError):
        json_yaml.safe_relative(path, where="shard.tar")


@pytest.mark.parametrize("path", ["a.flac", "c:x", "a/b c/ü.wav", "..a/b", "a/..b", "-x", "日本/語.wav"])
def test_an_ordinary_relative_path_is_kept(path):
    assert json_yaml.safe_relative(path, where="x") == path


def test_a_missing_file_says_what_it_was_needed_for(tmp_path):
    with pytest.raises(MissingFileError, match="it names the shards"):
        json_yaml.read_json(tmp_path / "corpus.json", needed="it names the shards")
    with pytest.raises(StillroomError):
        next(json_yaml.read_json_lines(tmp_path / "x.jsonl", needed="rows"))
    with pytest.raises(StillroomError, match="is a folder"):
        json_yaml.read_yaml(tmp_path, needed="a recipe")


def test_a_document_beyond_its_bound_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "big.json").write_bytes(b" " * 2000)
    with pytest.raises(BadDocumentError, match="larger than 1000 bytes"):
        json_yaml.read_bytes(tmp_path / "big.json", needed="x", limit=1000)
    monkeypatch.setattr(json_yaml, "MAX_LINE_BYTES", 100)
    (tmp_path / "long.jsonl").write_bytes(b"{}\n" + b" " * 200)
    with pytest.raises(BadDocumentError, match="line 2 is longer"):
        list(json_yaml.read_json_lines(tmp_path / "long.jsonl", needed="x"))


def test_what_is_exactly_as_large_or_as_deep_as_may_be_is_read(tmp_path, monkeypatch):
    (tmp_path / "big.json").write_bytes(b" " * 1000)
    assert json_yaml.read_bytes(tmp_path / "big.json", needed="x", limit=1000) == b" " * 1000
    monkeypatch.setattr(json_yaml, "MAX_LINE_BYTES", 100)
    (tmp_path / "long.jsonl").write_bytes(b"[1" + b" " * 96 + b"]\n" + b"[2]\n")
    assert list(json_yaml.read_json_lines(tmp_path / "long.jsonl", needed="x")) == [[1], [2]]
    assert json_yaml.parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, where="x") is not None
    assert json_yaml.parse_json(b"[[]," + b"[" * (MAX_DEPTH - 1) + b"]" * MAX_DEPTH, where="x") is not None
    with pytest.raises(BadDocumentError, match="nested deeper"):
        json_yaml.parse_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), where="x")


@given(st.text())
def test_printable_text_stays_on_its_line_and_moves_no_cursor(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert len(shown) <= 200


def test_yaml_may_be_nested_as_deep_as_json_and_keeps_order_and_letters(tmp_path):
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_yaml(deepest, where="x") == json_yaml.parse_json(deepest, where="x")
    json_yaml.write_yaml(tmp_path / "x.yaml", {"b": "ü", "a": "語", "c": [1]})
    assert (tmp_path / "x.yaml").read_text(encoding="utf-8").startswith("b: ü\na: 語\nc:")
    assert list(json_yaml.read_yaml(tmp_path / "x.yaml", needed="x")) == ["b", "a", "c"]


def test_the_bound_of_letters_beyond_ascii_is_that_of_their_memory(monkeypatch):
    monkeypatch.setattr(json_yaml, "MAX_JSON_BYTES", 100)
    monkeypatch.setattr(json_yaml, "MAX_UNICODE_JSON_BYTES", 50)
    for text in (b'"' + b"a" * 98 + b'"', '"é"'.encode() + b" " * 46):
        json_yaml.parse_json(text, where="x")
    for text, most in ((b'"' + b"a" * 99 + b'"', 100), ('"é"'.encode() + b" " * 47, 50)):
        with pytest.raises(BadDocumentError, match=f"^x: JSON of more than {most} bytes"):
            json_yaml.parse_json(text, where="x")


@pytest.mark.parametrize(("token", "most"), [(b"{", 279_620), (b"[", 559_240), (b",", 786_432)])
def test_the_bound_of_values_is_that_of_their_memory(token, most):
    """240 MiB, at 900 bytes a mapping, 450 a list and 320 another value."""
    json_yaml.refuse_heavy_json(token * most, where="x")
    with pytest.raises(BadDocumentError, match="could take more than 240 MB"):
        json_yaml.refuse_heavy_json(token * (most + 1), where="x")


def test_many_brackets_side_by_side_are_not_deep():
    assert len(json_yaml.parse_json(b"[" + b"[{}]," * 200 + b"[]]", where="x")) == 201


def test_documents_are_called_as_is_wanted(tmp_path):
    path = tmp_path / "x"
    path.write_text('{"a": ]')
    lines = tmp_path / "lines"
    lines.write_text('1\n\n \n{"a": ]\n')
    for where, called in ((None, tmp_path / "x"), ("a pack: x", "a pack: x")):
        for read in (json_yaml.read_json, json_yaml.read_yaml):
            with pytest.raises(BadDocumentError, match=rf"^{called}(:1)?: not valid"):
                read(path, needed="x", where=where)
    for where, called in ((None, lines), ("a pack: lines", "a pack: lines")):
        rows = json_yaml.read_json_lines(lines, needed="x", where=where)
        assert next(rows) == 1
        with pytest.raises(BadDocumentError, match=f"^{called}:4: not valid"):
            next(rows)


def test_a_line_too_long_is_called_as_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(json_yaml, "MAX_LINE_BYTES", 10)
    (tmp_path / "x").write_bytes(b" " * 11)
    with pytest.raises(BadDocumentError, match=r"^a pack: x: line 1 is longer than 10 bytes"):
        list(json_yaml.read_json_lines(tmp_path / "x", needed="x", where="a pack: x"))


def test_yaml_is_read_to_four_megabytes(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"a: 1\n#" + b" " * ((4 << 20) - 5))
    with pytest.raises(BadDocumentError, match="is larger than 4194304 bytes"):
        json_yaml.read_yaml(tmp_path / "x.yaml", needed="x")


def test_a_device_is_no_document():
    with pytest.raises(BadDocumentError, match=r"^/dev/zero: is a device, which may never end; a recipe"):
        json_yaml.read_bytes(Path("/dev/zero"), needed="a recipe", limit=10)


def test_a_stream_that_comes_in_bits_is_read_as_far_as_is_wanted():
    class Bits(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 3))

    for most in (1, 3, 10, 20):
        assert b"".join(json_yaml.pieces(Bits(b"0123456789abcdef"), most)) == b"0123456789abcdef"[:most]


def test_no_number_is_written_that_json_has_not(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_yaml.write_json(tmp_path / "x.json", {"snr_db": float("inf")})
    assert list(tmp_path.iterdir()) == []
    json_yaml.write_json(tmp_path / "x.json", {"b": "ü", "a": 1})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n "b": "ü",\n "a": 1\n}\n'


def test_escapes_and_bidi_marks_become_visible():
    assert printable("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"
    assert printable("Ünï <b> 語") == "Ünï <b> 語"
