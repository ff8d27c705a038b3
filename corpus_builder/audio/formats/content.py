"""Tells the format of a file by its first bytes, never by its name: a closed list, each format with the decoder that reads it."""

from __future__ import annotations

from typing import Literal, TypeAlias

ChunkContent: TypeAlias = Literal["wav", "w64", "aiff", "au", "sphere", "caf"]
ContainerContent: TypeAlias = Literal["mov", "matroska", "amr", "asf", "mpegts", "wv", "ape", "tta", "ac3", "eac3"]
"""What PyAV decodes, by the names of ffmpeg's readers."""
Content: TypeAlias = Literal["flac", "ogg", "mpeg", "aac", "other"] | ChunkContent | ContainerContent

HEAD_BYTES = 4096
STARTS: tuple[tuple[int, bytes, Content], ...] = (
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", "w64"),
    (0, b".snd", "au"),
    (0, b"dns.", "au"),
    (0, b"NIST_1A\n", "sphere"),
    (0, b"caff", "caf"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"#!AMR\n", "amr"),
    (0, b"#!AMR-WB\n", "amr"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"TTA1", "tta"),
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"wide", "mov"),
    (4, b"free", "mov"),
    (4, b"skip", "mov"),
)  # fmt: skip
RIFF_STARTS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
PLAYLISTS = (
    b"#EXTM3U",
    b"ffconcat",
    b"<?xml",
    b"<MPD",
    b"v=0\r\n",
    b"v=0\n",
    b"[playlist]",
    b"<smil",
    b"<asx",
    b"file '",
)
TS_PACKETS = (188, 192, 204)  # plain, with a time stamp, with error correction
TS_SYNC = 0x47
NEWEST_AC3 = 10  # a higher number is Enhanced AC-3


def content_of(head: bytes) -> Content:
    """The format that a file's first bytes, after ID3 tags, belong to; `other` if they are of none that is listed."""
    if riff := twelve_byte_content(head):
        return riff
    for offset, start, content in STARTS:
        if head.startswith(start, offset):
            return content
    return frame_content(head) or ("mpegts" if is_transport_stream(head) else "other")


def twelve_byte_content(head: bytes) -> Content | None:
    """A format that begins with the name of its chunk, a size and a second name."""
    if head[:4] in RIFF_STARTS and head[8:12] == b"WAVE":
        return "wav"
    return "aiff" if head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"} else None


def frame_content(head: bytes) -> Content | None:
    """A format that begins with the header of a frame."""
    if head[:2] == b"\x0b\x77" and len(head) > 5:
        return "ac3" if head[5] >> 3 <= NEWEST_AC3 else "eac3"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "aac" if head[1] & 0xF6 == 0xF0 else "mpeg"
    return None


def is_transport_stream(head: bytes, sizes: tuple[int, ...] = TS_PACKETS) -> bool:
    """Whether the first packets of an MPEG transport stream, of one of some sizes, are where they should be."""
    for size in sizes:
        first = 4 if size == 192 else 0
        places = range(first, min(len(head), first + 5 * size), size)
        if len(places) > 1 and all(head[place] == TS_SYNC for place in places):
            return True
    return False


def is_playlist(head: bytes) -> bool:
    """Whether a file names other files instead of holding audio."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.lower().startswith(tuple(start.lower() for start in PLAYLISTS))
