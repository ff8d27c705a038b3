import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import BadTarError, StillroomError, UnsafePathError
from manifests.io import tar as tar_module
from manifests.io.tar import MAX_HEADER_BYTES, TarBuilder, entries, external_members, grouped, split_name

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
            assert (info.uname, info.gname) == ("stillroom", "stillroom")
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


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("u.flac", ("u", "flac")), ("u.noise-0.flac", ("u", "noise-0.flac")), ("a.b/c d.mix.wav", ("a.b/c d", "mix.wav")),
        ("README", None), ("u.", None), (".hidden", None), ("a/.hidden.flac", None),
    ],
)  # fmt: skip
def test_a_key_ends_at_the_first_dot_of_the_last_part(name, parts):
    assert split_name(name) == parts


def plain_tar(path, members):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("read", [entries, external_members], ids=["own", "external"])
def test_a_tar_that_ends_within_a_member_names_it(tmp_path, read):
    path = plain_tar(tmp_path / "x.tar", [("a.json", b"x" * 700), ("b.json", b"y" * 700)])
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 512 + 699])
    with pytest.raises(BadTarError, match=r"ends inside member 'b.json': the file was cut off"):
        list(read(path))


@pytest.mark.parametrize("read", [entries, external_members], ids=["own", "external"])
def test_a_header_as_large_as_a_file_is_refused_before_it_is_read(tmp_path, read):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, MAX_HEADER_BYTES + 1
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(BadTarError, match=r"cannot be read as a tar: a header of \d+ bytes; refused"):
        list(read(tmp_path / "x.tar"))


def test_other_tars_may_have_folders_long_names_and_letters_of_any_script(tmp_path):
    folder = tarfile.TarInfo("語")
    folder.type = tarfile.DIRTYPE
    names = ["語/é a.flac", "README", "語/é a.txt", "d" * 150 + "/" + "k" * 868 + ".flac", "b.x.wav"]
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(folder)
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = number
            tar.addfile(info, io.BytesIO(bytes([number]) * number))
    assert len(names[3]) == 1024
    found = list(external_members(path))
    content = path.read_bytes()
    assert [(one.key, one.suffix) for one in found] == [
        ("語/é a", "flac"), ("語/é a", "txt"), (names[3][:-5], "flac"), ("b", "x.wav"),
    ]  # fmt: skip
    assert [content[one.offset : one.offset + one.size] for one in found] == [bytes([n]) * n for n in (0, 2, 3, 4)]
    with pytest.raises(BadTarError, match=r"occurs twice, or its name is too long"):
        list(external_members(plain_tar(path, [("k" * 1025, b"")])))
    with pytest.raises(BadTarError, match=r"member 'a.wav' occurs twice"):
        list(external_members(plain_tar(path, [("a.wav", b""), ("b.wav", b""), ("a.wav", b"x")])))
    with pytest.raises(UnsafePathError):
        list(external_members(plain_tar(path, [("a/../../b.wav", b"")])))
    with pytest.raises(BadTarError, match=r"'a\\\\tb.wav' has a name that is not plain text"):
        list(external_members(plain_tar(path, [("a\tb.wav", b"")])))


@pytest.mark.parametrize(
    ("magic", "name"), [(b"\x1f\x8b", "gzip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")]
)
def test_a_compressed_tar_is_refused_by_what_compressed_it(tmp_path, magic, name):
    (tmp_path / "x.tar").write_bytes(magic + bytes(2000))
    with pytest.raises(BadTarError, match=rf"is compressed \({name}\)"):
        list(external_members(tmp_path / "x.tar"))


def test_members_are_grouped_as_they_follow_each_other(tmp_path):
    names = ["a.wav", "a.txt", "b.wav", "a.json", "c.wav", "c.json"]
    path = plain_tar(tmp_path / "x.tar", [(name, b"") for name in names])
    found = [(key, [one.suffix for one in group]) for key, group in grouped(external_members(path))]
    assert found == [("a", ["wav", "txt"]), ("b", ["wav"]), ("a", ["json"]), ("c", ["wav", "json"])]
    assert list(grouped(iter([]))) == []


@pytest.mark.parametrize("listing", [entries, external_members])
def test_a_tar_has_no_more_members_than_are_read(tmp_path, monkeypatch, listing):
    monkeypatch.setattr(tar_module, "MAX_MEMBERS", 3)
    path = tmp_path / "x.tar"
    for count in (3, 4):
        path.write_bytes(build([(f"a{number}.json", b"x") for number in range(count)])[0])
        if count == 3:
            assert len(list(listing(path))) == 3
        else:
            with pytest.raises(BadTarError, match=r"x.tar.* has more than 3 members; refused"):
                list(listing(path))


@pytest.mark.parametrize(
    ("listing", "what"), [(entries, "a link, a device or a folder"), (external_members, "a link or a device")]
)
def test_a_member_that_is_no_file_is_named(tmp_path, listing, what):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.json"))
        info = tarfile.TarInfo("b.json")
        info.type, info.linkname = tarfile.SYMTYPE, "a.json"
        tar.addfile(info)
    with pytest.raises(BadTarError, match=rf"x.tar: member 'b.json' is {what}; refused"):
        list(listing(path))
