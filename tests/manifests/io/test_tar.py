import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import StillroomError
from manifests.io.tar import TarBuilder, entries

names = st.lists(st.text(alphabet="abcXYZ019_-", min_size=1, max_size=20), unique=True, max_size=5)


def build(members):
    stream = io.BytesIO()
    builder = TarBuilder(stream)
    placed = [builder.add(name, content) for name, content in members]
    builder.close()
    return stream.getvalue(), placed


@given(names, st.data())
def test_plain_tar_finds_every_member_where_we_say_it_lies(tmp_path_factory, members, data):
    contents = {f"{name}.json": data.draw(st.binary(max_size=2000)) for name in members}
    content, placed = build(contents.items())
    with tarfile.open(fileobj=io.BytesIO(content)) as plain:
        for info, entry in zip(plain, placed, strict=True):
            assert (info.name, info.offset_data, info.size) == entry
            assert content[entry.offset : entry.offset + entry.size] == contents[entry.name]
            assert (info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o444)
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    path.write_bytes(content)
    assert list(entries(path)) == placed if placed else True
    assert build(contents.items())[0] == content


def test_a_tar_cut_anywhere_is_refused(tmp_path):
    content, placed = build([("a.json", b"x" * 700), ("a.clean.flac", b"y" * 512)])
    end = placed[-1].offset + 512 + 1024
    path = tmp_path / "x.tar"
    for length in [*range(0, end, 256), end - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(StillroomError):
            list(entries(path))
    path.write_bytes(content[:end])
    assert list(entries(path)) == placed


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_devices_and_folders_are_refused(tmp_path, kind):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(StillroomError, match="link, a device or a folder"):
        list(entries(path))


@pytest.mark.parametrize("name", ["/a.json", "../a.json", "a/../../b.json"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(StillroomError, match="refused"):
        list(entries(path))


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.json"))
        tar.addfile(tarfile.TarInfo("a.json"))
    with pytest.raises(StillroomError, match="occurs twice"):
        list(entries(path))


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_refused_or_read_never_worse(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    path.write_bytes(content)
    try:
        found = list(entries(path))
    except StillroomError as problem:
        assert len(str(problem).splitlines()) == 1
    else:
        assert all(entry.offset + entry.size <= len(content) for entry in found)
