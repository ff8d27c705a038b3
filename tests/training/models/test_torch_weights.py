"""Files of `torch.save` are read as they are described, and refused where they claim more than they hold."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile

import pytest
import torch

from manifests.errors import BadDocumentError, MissingFileError
from training.models import torch_weights
from training.models.pickle_data import Made, Named, Reference
from training.models.torch_weights import Storage, StoredTensor, WeightsFile, described, kind_of_storage, read_weights

FLOATS = Named("torch", "FloatStorage")


def rebuilt(kind, *place, storage=FLOATS, key="7", count=24, module="torch._utils"):
    return Made(Named(module, kind), (Reference(("storage", storage, key, "cpu", count)), *place))


PLACE = (5, (2, 3), (4, 1))
FOUND = StoredTensor("7", torch.float32, 24, 5, (2, 3), (4, 1))
HALF = Named("torch", "float16")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (rebuilt("_rebuild_tensor", *PLACE), FOUND),
        (rebuilt("_rebuild_tensor_v2", *PLACE, False, {}), FOUND),
        (rebuilt("_rebuild_tensor_v2", *PLACE, storage=Named("torch", "HalfStorage")), FOUND._replace(dtype=torch.float16)),
        (rebuilt("_rebuild_tensor_v3", *PLACE, False, {}, HALF, None), FOUND._replace(dtype=torch.float16, size=12)),
        (rebuilt("_rebuild_tensor_v2", *PLACE, False, {}, HALF), FOUND),
        (Made(Named("torch._utils", "_rebuild_parameter"), (rebuilt("_rebuild_tensor_v2", *PLACE), True, {})), FOUND),
        (Made(Named("torch._utils", "_rebuild_parameter_with_state"), (rebuilt("_rebuild_tensor_v2", *PLACE), 1)), FOUND),
        (Made(Named("torch._utils", "_rebuild_parameter"), ()), None),
        (Made(Named("other", "_rebuild_parameter"), (rebuilt("_rebuild_tensor_v2", *PLACE), True)), None),
        (rebuilt("_rebuild_tensor_v2", *PLACE, module="other"), None),
        (rebuilt("_rebuild_sparse_tensor", *PLACE), None),
        (rebuilt("_rebuild_tensor_v2", *PLACE, storage=Named("torch", "QUInt8Storage")), None),
        (rebuilt("_rebuild_tensor_v3", *PLACE, False, {}, Named("torch", "save"), None), None),
        (rebuilt("_rebuild_tensor_v2", *PLACE, count=True), None),
        (rebuilt("_rebuild_tensor_v2", *PLACE, key=7), None),
        (rebuilt("_rebuild_tensor_v2", *PLACE[:2]), None),
        (rebuilt("_rebuild_tensor_v2", 5, [2, 3], (4, 1)), None),
        (rebuilt("_rebuild_tensor_v2", 5, (2, 3), [4, 1]), None),
        (Made(Named("torch._utils", "_rebuild_tensor_v2"), (Reference(("module", FLOATS, "7", "cpu", 24)), *PLACE)), None),
        (torch.ones(1), None),
    ],
)  # fmt: skip
def test_a_tensor_is_what_torchs_own_function_would_have_made(value, expected):
    assert described(value) == expected


def test_types_without_a_storage_of_their_own_are_read(tmp_path):
    """Torch counts their storage in bytes."""
    whole = torch.arange(10).to(torch.uint16)
    torch.save({"part": whole[3:7], "few": torch.tensor([1.5, 2.5]).to(torch.float8_e5m2)}, tmp_path / "w.pt")
    opened = read_weights(tmp_path / "w.pt", needed="a test")
    found = opened.tensors(opened.content)
    assert {name: tensor.dtype for name, tensor in found.items()} == {"part": torch.uint16, "few": torch.float8_e5m2}
    assert found["part"].tolist() == [3, 4, 5, 6]
    assert found["few"].float().tolist() == [1.5, 2.5]


def test_a_tensor_is_possible_where_its_last_number_is_in_its_storage():
    tensor = StoredTensor("0", torch.float32, 24, 5, (2, 3), (16, 1))
    assert tensor.is_possible  # 5 + 16 + 2 = 23, the last
    for change in (
        {"size": 23},
        {"offset": 6},
        {"shape": (2, 4)},
        {"strides": (17, 1)},
        {"strides": (16,)},
        {"offset": -1},
        {"size": 24.0},
    ):
        assert not tensor._replace(**change).is_possible, change
    assert tensor._replace(shape=(2, 0), size=0).is_possible


def weights_file(path, count, *, size=16):
    path.write_bytes(bytes(size))
    stored = rebuilt("_rebuild_tensor_v2", 0, (count,), (0,), count=4)
    return WeightsFile(path, {"x": stored}, {"7": Storage(0, size)})


def test_tensors_may_claim_four_times_what_a_file_holds_and_a_megabyte(tmp_path):
    most = (4 * 16 + (1 << 20)) // 4
    assert weights_file(tmp_path / "w", most).tensors({"x": rebuilt("_rebuild_tensor_v2", 0, (most,), (0,), count=4)})[
        "x"
    ].shape == (most,)
    opened = weights_file(tmp_path / "w", most + 1)
    with pytest.raises(BadDocumentError, match=rf"its tensors claim {4 * most + 4} bytes, it holds 16; refused"):
        opened.tensors(opened.content)
    shared = {str(number): rebuilt("_rebuild_tensor_v2", 0, (4,), (1,), count=4) for number in range(3)}
    assert opened.tensors(shared)["2"].tolist() == [0] * 4
    torch_weights_held = {
        str(number): rebuilt("_rebuild_tensor_v2", 0, (most // 2,), (0,), count=4) for number in range(3)
    }
    with pytest.raises(BadDocumentError, match="it holds 16; refused"):  # one storage counts once, whatever its names
        opened.tensors(torch_weights_held)


def test_of_a_mapping_that_is_not_of_tensors_by_name_there_are_none(tmp_path):
    opened = weights_file(tmp_path / "w", 4)
    for found in ([], {"x": 1}, {7: opened.content["x"]}, {**opened.content, "y": None}):
        assert opened.tensors(found) is None
    assert opened.tensors({}) == {}
    with pytest.raises(BadDocumentError, match="damaged"):
        opened.tensors({"x": rebuilt("_rebuild_tensor_v2", 0, (4,), (1,), count=4, key="8")})
    with pytest.raises(BadDocumentError, match="damaged"):
        opened.tensors({"x": rebuilt("_rebuild_tensor_v2", 0, (4,), (1,), count=5)})


def test_tensors_that_say_one_storage_is_of_different_sizes_are_read_by_the_largest(tmp_path):
    (tmp_path / "w").write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    opened = WeightsFile(tmp_path / "w", None, {"7": Storage(0, 16)})
    for counts in ((4, 2, 3), (2, 3, 4)):
        stored = {str(count): rebuilt("_rebuild_tensor_v2", 1, (count - 1,), (1,), count=count) for count in counts}
        found = opened.tensors(stored)
        assert {name: one.tolist() for name, one in found.items()} == {"4": [2, 3, 4], "3": [2, 3], "2": [2]}


def test_a_file_that_is_not_there_says_what_it_is_needed_for(tmp_path):
    with pytest.raises(MissingFileError, match=r"w\.pt.*for a test"):
        read_weights(tmp_path / "w.pt", needed="for a test")
    with pytest.raises(MissingFileError):
        read_weights(tmp_path, needed="for a test")


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist()}


def zipped(path, members, *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_zip_is_read_that_is_torchs_and_no_other(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"x": torch.tensor([1.0, 2.0])}, path)
    members = members_of(path)
    root = next(iter(members)).partition("/")[0]
    assert members[f"{root}/byteorder"] == b"little"
    elsewhere = {name.replace(root, "other", 1): content for name, content in members.items()}
    zipped(path, elsewhere)
    opened = read_weights(path, needed="a test")
    assert opened.tensors(opened.content)["x"].tolist() == [1, 2]
    without = {name: content for name, content in members.items() if not name.endswith("byteorder")}
    zipped(path, without)
    assert read_weights(path, needed="a test").tensors(opened.content)["x"].tolist() == [1, 2]
    for changed, message in (
        ({**members, **elsewhere}, "is not a file of weights, or is damaged"),
        ({f"{root}/version": b"3"}, "is not a file of weights, or is damaged"),
        ({**members, f"{root}/byteorder": b"big"}, "was written on a machine of the other byte order"),
    ):
        zipped(path, changed)
        with pytest.raises(BadDocumentError, match=message):
            read_weights(path, needed="a test")


def test_a_compressed_zip_is_refused_even_where_it_unpacks_to_no_more(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"x": torch.tensor([1.0, 2.0])}, path)
    members = {**members_of(path), "noise": os.urandom(5000)}
    zipped(path, members, compression=zipfile.ZIP_DEFLATED)
    unpacked = sum(map(len, members.values()))
    assert unpacked < path.stat().st_size
    expected = rf"unpacks to {unpacked} bytes from {path.stat().st_size}: a decompression bomb; refused"
    with pytest.raises(BadDocumentError, match=expected):
        read_weights(path, needed="a test")


def test_a_member_that_is_not_where_the_zip_says_is_damage(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"x": torch.tensor([1.0, 2.0])}, path)
    content = path.read_bytes()
    place = [found.start() for found in re.finditer(b"PK\x03\x04", content)][-1]
    path.write_bytes(content[:place] + b"PK\x07\x08" + content[place + 4 :])
    with pytest.raises(BadDocumentError, match="damaged"):
        read_weights(path, needed="a test")


def test_a_long_pickle_is_more_than_weights(tmp_path, monkeypatch):
    torch.save({"x": torch.tensor([1.0, 2.0])}, tmp_path / "w.pt")
    size = next(len(content) for name, content in members_of(tmp_path / "w.pt").items() if name.endswith("data.pkl"))
    monkeypatch.setattr(torch_weights, "MOST_PICKLE_BYTES", size)
    read_weights(tmp_path / "w.pt", needed="a test")
    monkeypatch.setattr(torch_weights, "MOST_PICKLE_BYTES", size - 1)
    with pytest.raises(
        BadDocumentError, match="holds more than 1000000 objects beside its weights; save the weights alone"
    ):
        read_weights(tmp_path / "w.pt", needed="a test")


def streamed(*, magic=0x1950A86A20F9469CFC6C, machine=None, keys=("0",), counts=(3,)):
    """The stream of before 1.6 by hand: an object with one tensor of three numbers, then a storage."""
    machine = {"protocol_version": 1001, "little_endian": True} if machine is None else machine
    content = (
        b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x03NtQK\x00K\x03\x85K\x01\x85\x89}tRs."
    )
    parts = [pickle.dumps(one, protocol=2) for one in (magic, 1001, machine)]
    numbers = [struct.pack("<q", count) + struct.pack("<3f", 1, 2, 3) for count in counts]
    return b"".join([*parts, content, pickle.dumps(list(keys), protocol=2), *numbers])


def test_the_old_stream_is_read_that_is_torchs_and_no_other(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(streamed())
    assert torch.load(io.BytesIO(path.read_bytes()), weights_only=True)["x"].tolist() == [1, 2, 3]
    opened = read_weights(path, needed="a test")
    assert opened.tensors(opened.content)["x"].tolist() == [1, 2, 3]
    for changed in (
        streamed(magic=0x1950A86A20F9469CFC6D),
        streamed(machine={"little_endian": False}),
        streamed(machine={"protocol_version": 1001}),
        streamed(machine=[True]),
        streamed(counts=(-1,)),
        streamed(keys=("1",)),
        streamed(keys=("0", "1"), counts=(3, 3)),
    ):
        path.write_bytes(changed)
        with pytest.raises(BadDocumentError, match="damaged"):
            read_weights(path, needed="a test")
    for changed in (streamed(counts=(2,)), streamed(keys=()), streamed()[:-1]):
        path.write_bytes(changed)
        opened = read_weights(path, needed="a test")
        with pytest.raises(BadDocumentError, match="damaged"):
            opened.tensors(opened.content)


def test_a_storage_of_a_known_type_has_a_key_and_that_type():
    assert kind_of_storage(Reference(("storage", Named("torch", "HalfStorage"), "3", "cpu", 2))) == ("3", torch.float16)
    for identity in (
        ("storage", Named("torch", "OddStorage"), "3"), ("module", FLOATS, "3"), ("storage", FLOATS, 3), ("storage", "FloatStorage", "3"), "3",
    ):  # fmt: skip
        assert kind_of_storage(Reference(identity)) is None
