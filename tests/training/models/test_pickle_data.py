"""A pickle is read as data: plain values as Python reads them, objects as records, code not at all, in bounded memory."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import tracemalloc
import zipfile

import pytest
import torch

from manifests.errors import BadDocumentError
from training.models import pickle_data
from training.models.pickle_data import (
    ForbiddenNameError,
    Made,
    Named,
    NotDataError,
    Reference,
    TooManyObjectsError,
    plain,
    read_pickle,
)
from training.models.torch_weights import PickledCodeError, read_weights

VALUES = [
    {"a": [1, -2, 3.5, None, True, False, "é", b"\0", 2**40, -(2**62)], 3: ("x", ("y",), (), (1, 2, 3, 4))},
    collections.OrderedDict([("b", 1), ("a", 2)]),
    [["shared"] * 3, {"k": {}}, "long" * 100],
]


def read(content):
    return read_pickle(io.BytesIO(content))[0]


def listed(value):
    """Tuples as lists, which is how a configuration is given."""
    if isinstance(value, dict):
        return {key: listed(part) for key, part in value.items()}
    return [listed(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=["plain", "ordered", "shared"])
def test_plain_values_are_those_that_python_reads(value, protocol):
    if protocol < 3 and value is VALUES[0]:
        value = {**value, "a": value["a"][:7] + value["a"][8:]}  # there bytes are a call of a codec
    content = pickle.dumps(value, protocol=protocol)
    assert plain(read(content)) == listed(pickle.loads(content))


class Ran:
    """Says so when anything of it is called."""

    calls = 0

    def __init__(self, *_, **__):
        Ran.calls += 1

    __setstate__ = __setitem__ = append = extend = __call__ = __reduce__ = __init__

    def __new__(cls, *_, **__):
        Ran.calls += 1
        return super().__new__(cls)


NAME = b"ctests.training.models.test_pickle_data\nRan\n"


@pytest.mark.parametrize(
    "content",
    [
        NAME + b"(I1\ntR.",
        NAME + b")\x81.",
        NAME + b")}\x92.",
        NAME + b")\x81}b.",
        NAME + b")\x81I1\na.",
        NAME + b")\x81I1\nI2\ns.",
        b"(itests.training.models.test_pickle_data\nRan\n.",
        b"(" + NAME + b"o.",
        NAME + b")R(tR.",
    ],
    ids=["call", "new", "new with names", "state", "append", "set", "inst", "obj", "call of a result"],
)
def test_nothing_that_a_pickle_names_is_run(content):
    Ran.calls = 0
    assert isinstance(read(content), Made)
    assert Ran.calls == 0


@pytest.mark.parametrize(
    "name",
    ["os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "builtins.getattr", "__builtin__.eval",
     "importlib.import_module", "ctypes.CDLL", "runpy.run_path", "shutil.rmtree", "pathlib.Path.unlink", "functools.reduce", "operator.attrgetter",
     "commands.getoutput", "argparse._sys.modules", "pickle.loads", "collections.abc.sys"],
)  # fmt: skip
def test_names_of_python_that_no_checkpoint_needs_are_refused_by_name(name):
    module, _, last = name.rpartition(".")
    if name in {"pathlib.Path.unlink", "argparse._sys.modules"}:
        module, _, last = name.partition(".")
    if name == "collections.abc.sys":
        module, last = "collections", "abc.sys"
    old = f"c{module}\n{last}\n(S'touch OWNED'\ntR.".encode()
    parts = [b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, last)]
    new = b"\x80\x04" + b"".join(parts) + b"\x93."
    for content in (old, new):
        with pytest.raises(ForbiddenNameError, match=last.replace(".", r"\.")):
            read(content)


def test_a_checkpoint_that_names_os_system_is_one_line(tmp_path):
    data = b"\x80\x02}X\x05\x00\x00\x00modelcos\nsystem\nX\x05\x00\x00\x00touch\x85Rs."
    with zipfile.ZipFile(tmp_path / "hubert.pt", "w") as archive:
        archive.writestr("hubert/data.pkl", data)
    with pytest.raises(PickledCodeError, match=r"hubert\.pt names os\.system, .* nothing of it was run") as caught:
        read_weights(tmp_path / "hubert.pt", needed="a test")
    assert "\n" not in str(caught.value)


def nested(levels):
    """Tuples of the same tuple twice: a few bytes of which a hash, or a copy, takes 2 ** levels steps."""
    return b")" + b"2\x86" * levels


@pytest.mark.parametrize(
    "content",
    [
        b"r\xff\xff\xff\x7f.",
        b"Nr\xff\xff\xff\x7f" * 3 + b".",
        b"\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x8b" + struct.pack("<i", 1 << 30) + b"x.",
        b"}" + nested(60) + b"Ns.",
        b"\x8f(" + nested(60) + b"\x90.",
        b"c__builtin__\nbytearray\n\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x85R.",
        b"c__builtin__\nlist\nc__builtin__\nrange\n\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x85R\x85R.",
        b"(" * 100_000 + b".",
        b"]" + b"]a" * 0 + b"2" * 1000 + b"a" * 1000 + b".",
        b"L" + b"9" * 10_000 + b"L\n.",
        b"\x8b" + struct.pack("<i", 5000) + b"\x7f" * 5000 + b".",
    ],
    ids=[
        "no memo",
        "memo",
        "string",
        "bytearray",
        "int",
        "hash",
        "set",
        "call",
        "range",
        "marks",
        "itself",
        "digits",
        "large int",
    ],
)
def test_a_pickle_that_asks_for_more_than_it_holds_gets_none(content):
    tracemalloc.start()
    try:
        plain(read(content))
    except (NotDataError, TooManyObjectsError):
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 20_000_000


def test_a_configuration_that_doubles_at_each_level_is_refused():
    with pytest.raises(TooManyObjectsError):
        plain(read(nested(30) + b"."))
    with pytest.raises(TooManyObjectsError):
        plain(read(b"]" * 60 + b"a" * 59 + b"."))


def test_more_objects_than_a_checkpoint_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_data, "MOST_OPCODES", 1000)
    torch.save({"a": list(range(2000))}, tmp_path / "many.pt")
    with pytest.raises(BadDocumentError, match="objects beside its weights"):
        read_weights(tmp_path / "many.pt", needed="a test")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"0.",
        b"a.",
        b"}s.",
        b"N(s.",
        b"g5\n.",
        b"I.",
        b"(1(1.",
        b"cos\n.",
        b"\xff.",
        b"NN",
        b"Nb.",
        b"}(I1\nu.",
        b"(I1\nd.",
        b"}I1\na.",
        b"]I1\nI2\ns.",
        b"I1\nt.",
    ],
)
def test_a_damaged_pickle_is_said(content):
    with pytest.raises(NotDataError):
        read(content)


def test_tensors_are_those_that_torch_reads_and_nothing_else_is_read(tmp_path):
    whole = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    weights = {
        "view": whole.t()[2:5], "shared": whole[1], "half": torch.ones(3, dtype=torch.bfloat16), "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2, dtype=torch.int64), "empty": torch.zeros(0, 4), "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    for is_zip in (True, False):
        torch.save(
            {"model": weights, "optimizer": {0: {"m": torch.zeros(1000)}}},
            tmp_path / "w.pt",
            _use_new_zipfile_serialization=is_zip,
        )
        opened = read_weights(tmp_path / "w.pt", needed="a test")
        found = opened.tensors(opened.content["model"])
        assert found.keys() == weights.keys()
        for name, tensor in weights.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
        assert isinstance(opened.content["optimizer"][0]["m"], Made)
        assert opened.tensors(opened.content) is None
        assert opened.tensors({"a": torch.ones(1).to_sparse()}) is None


def forged(path, **change):
    """A file of one tensor whose description is changed."""
    given = {"count": 4, "offset": 0, "shape": (4,), "strides": (1,), "key": "0", **change}
    numbers = {key: pickle.dumps(value, protocol=2)[2:-1] for key, value in given.items()}
    data = (
        b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        + numbers["key"] + b"X\x03\x00\x00\x00cpu" + numbers["count"] + b"tQ" + numbers["offset"] + numbers["shape"] + numbers["strides"]
        + b"\x89}tRs."
    )  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", data)
        archive.writestr("w/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return path


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    opened = read_weights(forged(tmp_path / "w.pt"), needed="a test")
    assert opened.tensors(opened.content)["x"].tolist() == [1, 2, 3, 4]
    for change in (
        {"count": 5}, {"offset": 1}, {"offset": -1}, {"shape": (5,)}, {"shape": (-4,)}, {"strides": (2,)}, {"strides": (-1,)},
        {"shape": (4, 1)}, {"key": "1"}, {"count": 1 << 60}, {"shape": (2.0,)}, {"offset": None},
    ):  # fmt: skip
        opened = read_weights(forged(tmp_path / "w.pt", **change), needed="a test")
        with pytest.raises(BadDocumentError, match="damaged"):
            opened.tensors(opened.content)
    opened = read_weights(forged(tmp_path / "w.pt", shape=(1 << 30,), strides=(0,)), needed="a test")
    with pytest.raises(BadDocumentError, match="its tensors claim"):
        opened.tensors(opened.content)


def test_names_are_shown_and_not_looked_up():
    assert repr(Named("fairseq.data", "Dictionary")) == "fairseq.data.Dictionary"
    assert read(b"cno.such.module\nThing\n.") == Named("no.such.module", "Thing")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"I1\nI2\n0.", 1),
        (b"I1\n(I2\nI3\n1.", 1),
        (b"I1\n2\x86.", (1, 1)),
        (b"I1\n(I2\nI3\nt\x86.", (1, (2, 3))),
        (b"(I1\n(I2\nltI3\n\x86.", ((1, [2]), 3)),
        (b"]Nb.", []),
        (b"}I1\n)s.", {1: ()}),
        (b"})I1\ns.", {}),
        (b"(I1\nI2\n)I3\nd.", {1: 2}),
        (b"ccollections\nOrderedDict\n]I1\nI2\n\x86aI3\nI4\n\x86a\x85R.", {1: 2, 3: 4}),
        (b"ccollections\nOrderedDict\n)R.", {}),
        (b"I1\nI2\nI3\n\x87p0\n0g0\n.", (1, 2, 3)),
        (b"I1\n\x94I2\n\x94\x86\x94h\x01h\x00\x86\x86.", ((1, 2), (2, 1))),
        (b"\x8a\x10" + b"\xff" * 15 + b"\x7f.", 2**127 - 1),
    ],
)  # fmt: skip
def test_an_opcode_does_what_python_does(content, expected):
    """Of keys that are tuples, which Python takes, this reader passes over what they stand for."""
    found = read(content)
    assert (type(found), found) == (type(expected), expected)


def test_an_integer_has_at_most_128_bits():
    for value in (2**128 - 1, -(2**128 - 1)):
        assert read(pickle.dumps(value)) == value
    with pytest.raises(NotDataError):
        read(pickle.dumps(2**128))


OF = b"cno.such\nThing\n"


@pytest.mark.parametrize(
    ("content", "arguments", "state", "items", "elements"),
    [
        (OF + b"(I1\nI2\ntR.", (1, 2), None, {}, []),
        (OF + b"I1\n\x85}\x92.", (1,), None, {}, []),
        (OF + b"I1\n\x85\x81.", (1,), None, {}, []),
        (b"(I1\nI2\nino.such\nThing\n.", (1, 2), None, {}, []),
        (b"(" + OF + b"I1\nI2\no.", (1, 2), None, {}, []),
        (OF + b")RI7\nb.", (), 7, {}, []),
        (OF + b")RI7\nI8\ns.", (), None, {7: 8}, []),
        (OF + b")R(I7\nI8\nI9\nI10\nu.", (), None, {7: 8, 9: 10}, []),
        (OF + b")RI7\naI8\na.", (), None, {}, [7, 8]),
        (OF + b")R(I7\nI8\ne(I9\n\x90.", (), None, {}, [7, 8, 9]),
    ],
)
def test_an_object_is_recorded_with_all_that_would_be_done_to_it(content, arguments, state, items, elements):
    found = read(content)
    assert (found.of, found.arguments) == (Named("no.such", "Thing"), arguments)
    assert (found.state, found.items, found.elements) == (state, items, elements)
    assert repr(found) == "an object of no.such.Thing"
    assert repr(Made(7, ())) == "an object"


def test_references_are_given_in_their_order_and_stand_where_they_were():
    stream = io.BytesIO(b"Pone\nI2\nQ\x86.I5\n.")
    found, references = read_pickle(stream)
    assert references == [Reference("one"), Reference(2)]
    assert found == tuple(references)
    assert read_pickle(stream) == (5, [])


def test_as_many_opcodes_as_allowed_are_read(monkeypatch):
    for most, expected in ((4, 1), (3, None)):
        monkeypatch.setattr(pickle_data, "MOST_OPCODES", most)
        if expected is not None:
            assert read(b"I1\nI2\n0.") == expected
        else:
            with pytest.raises(TooManyObjectsError):
                read(b"I1\nI2\n0.")


def test_as_many_parts_and_levels_as_allowed_are_copied(monkeypatch):
    monkeypatch.setattr(pickle_data, "MOST_PARTS", 6)
    assert plain({"a": [1, 2], "b": 3}) == {"a": [1, 2], "b": 3}
    assert plain([[1, 2], [3]]) == [[1, 2], [3]]
    with pytest.raises(TooManyObjectsError):
        plain([[1, 2], [3], 4])
    monkeypatch.setattr(pickle_data, "MOST_DEPTH", 2)
    assert plain([(1, {})]) == [[1, {}]]
    for deep in ([[[1]]], ([{"a": 1}],), {"a": {"b": {"c": 1}}}):
        with pytest.raises(TooManyObjectsError):
            plain(deep)


def object_with(*, arguments=(), state=None, items=(), elements=()):
    found = Made(Named("no.such", "Thing"), arguments)
    found.state = state
    found.items.update(items)
    found.elements.extend(elements)
    return found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (object_with(state={"a": 1}, items={"b": 2}, arguments=(3,)), {"a": 1}),
        (object_with(state=({"a": 1}, {"slot": 2})), {"a": 1}),
        (object_with(state=(7, {"slot": 2})), None),
        (object_with(state={"_metadata": 1, "_content": {"x": 1}, "_val": 2}), {"x": 1}),
        (object_with(state={"_metadata": 1, "_val": 5}), 5),
        (object_with(state={"_content": None, "_val": 5}), None),
        (object_with(state={}, items={"b": 2}, elements=[3]), {"b": 2}),
        (object_with(items={"b": 2}, elements=[3], arguments=(4,)), {"b": 2}),
        (object_with(elements=[3], arguments=(4,)), [3]),
        (object_with(arguments=("chosen",)), "chosen"),
        (object_with(arguments=(4, 5)), None),
        (object_with(arguments=([4],)), None),
        (object_with(arguments=[4]), None),
        (object_with(), None),
        (Named("a", "b"), None),
        (Reference(4), None),
    ],
)
def test_what_an_object_of_a_configuration_holds(found, expected):
    assert plain(found) == expected
    assert plain([found]) == [expected]


def test_a_reference_to_another_key_is_its_value():
    config = {
        "rate": "${task.rate}", "task": {"rate": 50, "up": "${rate}", "none": "${gone.x}", "whole": "${task}"}, "self": "${self}",
        "words": ["${rate}"], "open": "${rate", "shut": "rate}",
    }  # fmt: skip
    task = {"rate": 50, "up": "${task.rate}", "none": None, "whole": None}
    assert plain(config) == {**config, "rate": 50, "task": task, "self": None}


def test_names_of_types_are_allowed_and_others_of_python_only_where_listed():
    for module, name in (
        ("typing", "Any"), ("collections.abc", "Callable"), ("collections", "OrderedDict"), ("copyreg", "_reconstructor"),
        ("numpy.core.multiarray", "scalar"), ("builtins", "set"), ("pathlib._local", "PosixPath"),
    ):  # fmt: skip
        assert pickle_data.named(module, name) == Named(module, name)
    for module, name in (
        ("os.path", "join"),
        ("collections", "abc"),
        ("builtins", "exec"),
        ("copy_reg", "add"),
        ("commands", "getoutput"),
    ):
        with pytest.raises(ForbiddenNameError, match=rf"^{module}\.{name}$"):
            pickle_data.named(module, name)
    for module, name in ((1, "x"), ("x", 1)):
        with pytest.raises(NotDataError):
            pickle_data.named(module, name)
