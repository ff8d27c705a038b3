"""Which format a file's first bytes are of, by the bytes that each format's own standard gives."""

import pytest

from corpus_builder.audio.formats.content import content_of, is_playlist

SIZE = b"\x24\0\0\0"


@pytest.mark.parametrize(
    ("head", "content"),
    [
        (b"RIFF" + SIZE + b"WAVE", "wav"), (b"RIFX" + SIZE + b"WAVE", "wav"), (b"RF64\xff\xff\xff\xffWAVE", "wav"),
        (b"BW64\xff\xff\xff\xffWAVE", "wav"), (b"RIFF" + SIZE + b"AVI ", "other"), (b"FORM" + SIZE + b"AIFF", "aiff"),
        (b"FORM" + SIZE + b"AIFC", "aiff"), (b"FORM" + SIZE + b"ILBM", "other"), (b"fLaC" + bytes(8), "flac"), (b"OggS" + bytes(8), "ogg"),
        (b".snd" + bytes(8), "au"), (b"dns." + bytes(8), "au"), (b"NIST_1A\n   1024", "sphere"), (b"caff\0\1\0\0", "caf"),
        (b"\x1a\x45\xdf\xa3" + bytes(8), "matroska"), (b"#!AMR\n\x3c", "amr"), (b"#!AMR-WB\n\x3c", "amr"), (b"wvpk" + bytes(8), "wv"),
        (b"MAC " + bytes(8), "ape"), (b"TTA1" + bytes(8), "tta"), (b"\0\0\0\x20ftypM4A ", "mov"), (b"\0\0\0\x20moov", "mov"),
        (b"\0\0\0\x20mdat", "mov"), (b"\0\0\0\x08wide", "mov"), (b"\0\0\0\x08free", "mov"), (b"\0\0\0\x08skip", "mov"),
        (b"\x0b\x77\0\0\0\x40\0", "ac3"), (b"\x0b\x77\0\0\0\x50\0", "ac3"), (b"\x0b\x77\0\0\0\x58\0", "eac3"), (b"\x0b\x77\0\0\0\x80\0", "eac3"),
        (b"\xff\xfb\x90\0", "mpeg"), (b"\xff\xf3\x80\0", "mpeg"), (b"\xff\xe3\x80\0", "mpeg"), (b"\xff\xf1\x50\x80", "aac"),
        (b"\xff\xf9\x50\x80", "aac"), (b"\xff\xdb\x90\0", "other"), (b"words", "other"), (b"\xff", "other"),
    ],
)  # fmt: skip
def test_a_format_is_told_by_its_first_bytes(head, content):
    assert content_of(head) == content


@pytest.mark.parametrize(("packet", "first"), [(188, 0), (192, 4), (204, 0)])
def test_a_transport_stream_has_a_sync_byte_in_every_packet(packet, first):
    stream = bytearray(b"\x01" * 5 * packet)
    stream[first::packet] = b"\x47" * 5
    assert content_of(bytes(stream)) == "mpegts"
    assert content_of(bytes(stream[: packet + first + 1])) == "mpegts"
    assert content_of(bytes(stream[: packet + first])) == "other"  # one packet alone is no evidence
    stream[first + 2 * packet] = 0x46
    assert content_of(bytes(stream)) == "other"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"#EXTM3U\n", True), (b"#extm3u\n", True), (b"\xef\xbb\xbf#EXTM3U", True), (b"\n ffconcat version 1.0", True),
        (b"<?XML version", True), (b"<MPD ", True), (b"<mpd ", True), (b"v=0\r\no=", True), (b"v=0\no=", True), (b"[Playlist]", True),
        (b"<SMIL>", True), (b"<asx>", True), (b"file 'a.wav'", True), (b"a file 'a.wav'", False), (b"#EXTINF", False), (b"", False),
    ],
)  # fmt: skip
def test_a_file_that_names_others_is_known_whatever_its_case_and_mark(head, expected):
    assert is_playlist(head) is expected
