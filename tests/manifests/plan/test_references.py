"""What a planned row refers to, held against a row whose references are written out by hand."""

from manifests.plan.references import RESPONSES, codecs_of, files_of, references, waves_of_row


def span(path, **more):
    return {"root": "train", "path": path, "start": 0.0, "rate_hz": 16000, **more}


def talker(name, path, speaker="s9"):
    return {"id": name, "speaker": speaker, "file": span(path), "offset": 0}


ROW = {
    "id": "u1",
    "split": "train",
    "speaker": "s1",
    "custom": {"root": "train", "path": "not a file of the plan", "response": "x-1-1"},
    "source": span("a.flac", channel=1),
    "copies": [
        {
            "name": "far-0",
            "condition": "far",
            "steps": [
                {"kind": "room", "bank": "office", "response": "office-0-0"},
                {
                    "kind": "noise",
                    "form": "recorded",
                    "source": "musan",
                    "root": "musan",
                    "recording": "n.wav",
                    "offset": 3,
                    "response": "office-0-1",
                },
                {"kind": "codec", "codec": "gsm-fr"},
            ],
        },
        {
            "name": "mixed-0",
            "condition": "mixed",
            "steps": [
                {
                    "kind": "noise",
                    "form": "several",
                    "noises": [
                        {"form": "coloured", "source": "white", "colour": "white", "seed": 1},
                        {
                            "form": "babble",
                            "source": "babble",
                            "talkers": [talker("u2", "b.flac"), talker("u3", "c.flac", speaker=None)],
                            "spare": [talker("u4", "d.flac")],
                            "response": "office-1-2",
                        },
                        {"form": "recorded", "source": "wham", "root": "wham", "recording": "w.wav", "offset": 0},
                    ],
                },
                {"kind": "codec", "codec": "opus"},
                {"kind": "lowpass", "cutoff_hz": 3000.0},
                {"kind": "codec", "codec": "mp3"},
            ],
        },
    ],
}
WRITTEN_OUT = {
    ("speech", "train", "a.flac"),
    ("response", RESPONSES, "office-0-0"),
    ("noise", "musan", "n.wav"),
    ("response", RESPONSES, "office-0-1"),
    ("codec", "", "gsm-fr"),
    ("talker", "train", "b.flac"),
    ("talker", "train", "c.flac"),
    ("spare", "train", "d.flac"),
    ("response", RESPONSES, "office-1-2"),
    ("noise", "wham", "w.wav"),
    ("codec", "", "opus"),
    ("codec", "", "mp3"),
}


def test_a_row_refers_to_what_is_written_out_and_to_nothing_in_its_custom_fields():
    found = [(one.role, one.root, one.name) for one in references(ROW)]
    assert set(found) == WRITTEN_OUT
    assert len(found) == len(WRITTEN_OUT)


def test_a_file_has_its_span_and_a_talker_its_speaker():
    by_name = {one.name: one for one in references(ROW)}
    assert by_name["a.flac"].part["channel"] == 1
    assert by_name["n.wav"].part["offset"] == 3
    assert (by_name["b.flac"].speaker, by_name["c.flac"].speaker, by_name["a.flac"].speaker) == ("s9", None, None)


def test_files_are_told_from_responses_and_codecs():
    expected = {(root, name) for role, root, name in WRITTEN_OUT if role not in {"response", "codec"}}
    assert set(files_of(ROW)) == expected
    assert list(files_of(ROW["source"])) == [("train", "a.flac")]


def test_codecs_keep_their_order():
    assert [codecs_of(copy["steps"]) for copy in ROW["copies"]] == ["gsm-fr", "opus+mp3"]
    assert codecs_of([]) == ""


def test_a_recorded_room_refers_to_the_files_of_its_responses():
    room = {"bank": "real", "room": 0, "label": "hall", "responses": [{"place": 0, "file": span("r.wav", sha256="f"), "t30_s": 0.4}]}  # fmt: skip
    (found,) = references(room)
    assert (found.role, found.name, found.part["sha256"]) == ("recorded", "r.wav", "f")


def test_what_is_no_plan_refers_to_nothing():
    for junk in (None, 3, "x", [[]], {"source": 3, "copies": "x"}, {"root": 3, "path": "x"}, {"response": 4}):
        assert list(references(junk)) == []


def test_waves_of_a_row_are_the_clean_one_and_its_copies():
    assert [(name, condition) for name, condition, _ in waves_of_row(ROW)] == [
        ("clean", "clean"), ("far-0", "far"), ("mixed-0", "mixed"),
    ]  # fmt: skip
