"""Where containers end by their own headers, put together by hand, and streams of frames and pages with something wrong in them."""

import io
import struct

import pytest

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.adts_frames import check_adts
from corpus_builder.audio.formats.container_ends import check_whole
from corpus_builder.audio.formats.ogg_pages import Link, ogg_links


def box(name, content, *, wide=False):
    if wide:
        return struct.pack(">I", 1) + name + struct.pack(">Q", 16 + len(content)) + content
    return struct.pack(">I", 8 + len(content)) + name + content


def element(code, content, *, unknown=False):
    length = b"\xff" if unknown else bytes([0x80 | len(content)])
    return code + length + content


SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
ASF = b"\x30\x26\xb2\x75" + bytes(20)
FILE_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65" + bytes(24)


def asf(size, *, flags=2):
    return (ASF + FILE_PROPERTIES + struct.pack("<Q", size) + bytes(40) + struct.pack("<I", flags)).ljust(size, b"a")


def tta(sizes, *, rate_hz=245):
    """Frames of 256 samples at 245 Hz: the last one has one."""
    head = b"TTA1" + struct.pack("<HHHII", 1, 1, 16, rate_hz, 256 * (len(sizes) - 1) + 1) + bytes(4)
    return head + b"".join(struct.pack("<I", size) for size in sizes) + bytes(4) + b"t" * sum(sizes)


def transport(packet, count):
    """Packets with a byte of sync each; those of 192 bytes have a time stamp of four in front of it."""
    first = 4 if packet == 192 else 0
    return count * (bytes(first) + b"G" + b"t" * (packet - first - 1))


def ac3(size, rate, code):
    """A frame of AC-3 whose size follows from the codes of its rate and bit rate by table 5.18 of ATSC A/52."""
    return b"\x0b\x77\0\0" + bytes([rate << 6 | code, 8 << 3]) + b"a" * (size - 6)


def eac3(size):
    """A frame of Enhanced AC-3, which has half its size less one."""
    return b"\x0b\x77" + (size // 2 - 1).to_bytes(2) + bytes([0x3F, 16 << 3]) + b"a" * (size - 6)


def amr(*modes, wide=False):
    sizes = {True: {0: 17, 8: 60, 9: 5, 15: 0}, False: {0: 12, 7: 31, 8: 5, 15: 0}}[wide]
    return (b"#!AMR-WB\n" if wide else b"#!AMR\n") + b"".join(
        bytes([mode << 3 | 4]) + b"a" * sizes[mode] for mode in modes
    )


WHOLE = {
    "boxes": ("mov", box(b"ftyp", b"M4A ") + box(b"mdat", b"m" * 100, wide=True) + box(b"moov", b"o" * 30)),
    "elements": ("matroska", element(b"\x1a\x45\xdf\xa3", b"h" * 20) + element(SEGMENT, element(b"\xec", b"v" * 3) + element(CLUSTER, b"c" * 50))),
    "live elements": (
        "matroska",
        element(b"\x1a\x45\xdf\xa3", b"h" * 5) + element(SEGMENT, b"", unknown=True) + element(CLUSTER, b"", unknown=True) + element(b"\xa3", b"s" * 60),
    ),
    "asf": ("asf", asf(300)),
    "wavpack": ("wv", b"wvpk" + struct.pack("<I", 30) + b"w" * 30 + b"wvpk" + struct.pack("<I", 9) + b"w" * 9),
    "tta": ("tta", tta([40, 30, 21])),
    "amr": ("amr", amr(0, 15, 8, 7)),
    "wide amr": ("amr", amr(9, 15, 0, 8, wide=True)),
    "mpegts": ("mpegts", transport(188, 7)),
    "mpegts with time stamps": ("mpegts", transport(192, 30)),
    "mpegts with error correction": ("mpegts", transport(204, 3)),
    "ac3": ("ac3", ac3(128, 0, 0) + ac3(138, 1, 0) + ac3(140, 1, 1) + ac3(192, 2, 1) + ac3(2560, 0, 37) + ac3(2788, 1, 37) + ac3(3840, 2, 36)),
    "eac3": ("eac3", eac3(64) + ac3(128, 0, 1) + eac3(4096)),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_container_is_whole_up_to_its_last_byte(kind):
    name, content = WHOLE[kind]
    check_whole(name, io.BytesIO(content), len(content), name="a")
    for missing in (1, 5, 20):
        cut = content[:-missing]
        with pytest.raises(TruncatedAudioError, match=r"^a ends after 0 samples within a frame or a page"):
            check_whole(name, io.BytesIO(cut), len(cut), name="a")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mov", box(b"ftyp", b"M4A ") + struct.pack(">I", 0) + b"mdat" + b"m" * 50),  # to the end of the file
        ("mov", box(b"ftyp", b"M4A ") + b"\0\0\1\0\xff\xfe\xfd\xfc" + b"j" * 20),  # no name of a box: junk
        ("asf", asf(300, flags=3)[:250]),  # a broadcast, whose size means nothing
        ("asf", b"\x30\x26\xb2\x75" + bytes(200)),
        ("ac3", ac3(128, 0, 0) + ac3(128, 3, 0)[:20]),  # a rate, and a bit rate, that are reserved
        ("ac3", ac3(128, 0, 0) + ac3(128, 0, 38)[:20]),
        ("ape", b"MAC " + bytes(100)),  # of which nothing is known
        ("matroska", element(SEGMENT, element(b"\xec", b"v" * 50)) + b"\0\0\0"),
        ("matroska", element(b"\x1a\x45\xdf\xa3", b"h" * 9) + element(b"\xec", b"", unknown=True) + b"e" * 30),
    ],
)
def test_what_says_nothing_of_its_end_is_taken_as_it_is(name, content):
    check_whole(name, io.BytesIO(content), len(content), name="a")


def adts(size, *, blocks=1, second=0xF1):
    head = bytes([0xFF, second, 0x50, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC | blocks - 1])
    return head + b"a" * (size - 7)


def test_each_frame_of_aac_must_be_there_and_only_zeros_may_follow():
    def check(content, start=0):
        check_adts(io.BytesIO(content), start, len(content), name="a.aac")

    whole = adts(100) + adts(2500) + adts(7, second=0xF9) + adts(300, blocks=4)
    check(whole)
    check(whole + bytes(50))
    check(b"tag" + whole, start=3)
    with pytest.raises(TruncatedAudioError, match=rf"ends after {3 * 1024} samples within a frame"):
        check(whole[:-1])
    with pytest.raises(TruncatedAudioError, match=rf"ends after {7 * 1024} samples within a frame"):
        check(whole + adts(100)[:50])
    with pytest.raises(UnreadableAudioError, match=rf"it is damaged: no frame begins at byte {len(whole)}"):
        check(whole + bytes(3) + b"x" * 20)
    with pytest.raises(UnreadableAudioError, match="no frame begins at byte 100"):
        check(adts(100) + b"\xff\xe1" + adts(100)[2:])


def crc32(page):
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x104C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def page(content, *, flags=0, granule=0, serial=1):
    lacing = bytes([255] * (len(content) // 255) + [len(content) % 255])
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qIII", granule, serial, 0, 0) + bytes([len(lacing)]) + lacing
    whole = head + content
    return whole[:22] + struct.pack("<I", crc32(whole)) + whole[26:]


def links_of(content, start=0):
    return ogg_links(io.BytesIO(content), start, len(content), name="a.ogg")


def test_each_link_of_an_ogg_has_its_streams_its_end_and_its_highest_number_of_samples():
    first = (
        page(b"\x01vorbis and more", flags=2)
        + page(b"Other  ", flags=2, serial=2)
        + page(b"a" * 600, granule=900)
        + page(b"b", granule=-1, flags=4)
    )
    second = page(b"OpusHead", flags=2) + page(b"c", granule=500) + page(b"d", granule=300, flags=4)
    content = b"tag" + first + second
    middle = 3 + len(first)
    expected = [
        Link(3, middle, ["vorbis", ""], 900, has_audio=True),
        Link(middle, len(content), ["opus"], 500, has_audio=True),
    ]
    assert links_of(content, 3) == expected
    assert links_of(content + b"TAG and more", 3) == expected
    assert [link.codecs for link in links_of(page(b"\x7fFLAC", flags=2) + page(b"Speex   1", flags=2))] == [
        ["flac", "speex"]
    ]


def test_a_damaged_or_missing_page_of_an_ogg_is_named_with_its_place():
    begin, middle = page(b"\x01vorbis", flags=2), page(b"a" * 40, granule=900)
    end = page(b"b" * 30, granule=1200, flags=4)
    with pytest.raises(UnreadableAudioError, match=rf"no Ogg page begins at byte {len(begin + middle)}"):
        links_of(begin + middle + b"junk" + end)
    changed = middle[:-1] + b"z"
    with pytest.raises(UnreadableAudioError, match=rf"the Ogg page at byte {len(begin)} is not what was written"):
        links_of(begin + changed + end)
    for cut in (1, 30, len(end) - 3):
        with pytest.raises(TruncatedAudioError, match="ends after 900 samples within a frame or a page"):
            links_of(begin + middle + end[:-cut])
    with pytest.raises(TruncatedAudioError, match="ends after 0 samples"):
        links_of(begin[:-1])
    with pytest.raises(UnreadableAudioError, match="its first Ogg page does not begin a stream"):
        links_of(middle + end)
