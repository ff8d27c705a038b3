"""What `show` and the card say of files and utterances that are not in a corpus."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.pages.corpus_page import split_row, unit_of, write_page
from corpus_builder.pages.summary import (
    Described,
    condition_lines,
    counted,
    description,
    linked_lines,
    reason_lines,
    reason_of,
    spread,
)  # fmt: skip
from manifests.corpus.shard_index import Corpus
from manifests.plan.plan import PlanRow, Refusal

if TYPE_CHECKING:
    from tests.corpus_builder.conftest import Lab


def test_refusals_are_counted_by_reason_with_one_example_each():
    refused = [
        Refusal(
            split="train",
            id=f"s/a{number}",
            reason=f"s/a{number}.wav ends after {number} samples where 170{number} are promised: it was cut off",
        )
        for number in range(3)
    ]
    refused += [
        Refusal(
            split="train", id="b c", reason="b c.m4a cannot be decoded: its content is of no audio format that is read"
        ),
        Refusal(
            split="train",
            id="other",
            reason="name.x.ogg cannot be decoded: its content is of no audio format that is read",
        ),
        Refusal(split="train", id="u1", reason="its id occurs 2 times; the one of a.wav is used, not that of b.wav"),
    ]
    lines = reason_lines(iter(refused))
    assert [line.split(";")[0].strip() for line in lines] == [
        "3 x ends after N samples where N are promised: it was cut off",
        "2 x cannot be decoded: its content is of no audio format that is read",
        "1 x its id occurs N times",
    ]
    assert lines[0].endswith("; one is s/a0: s/a0.wav ends after 0 samples where 1700 are promised: it was cut off")


def test_reasons_without_end_are_bounded():
    lines = reason_lines(Refusal(split="train", id=str(number), reason="odd " + "x" * number) for number in range(3000))
    assert len(lines) < 30
    assert sum(int(line.split()[0]) for line in lines) == 3000


def test_files_that_are_not_read_stand_in_the_summary_and_the_card(lab: Lab) -> None:
    lab.without_rooms()
    for name in ("a.txt", "b.txt"):
        (lab.folder / "speech" / "train" / "s0" / name).write_text("no audio")
    (lab.folder / "speech" / "train" / "s0" / "bad.wav").write_bytes(b"no audio")
    built = lab.build()
    assert built.corpus is not None
    shown = description(lab.folder / "corpus")
    assert "train: 2 files that end in .txt are not read" in shown
    assert (
        "1 x cannot be decoded: its content is of no audio format that is read; one is bad: s0/bad.wav cannot" in shown
    )
    assert "left out of" not in shown
    card = (lab.folder / "corpus" / "README.md").read_text()
    assert "- train&#58; 2 files that end in .txt are not read\n" in card


def row_of(name: str, speaker: str | None, num_samples: int, *copies: tuple[str, list[dict[str, Any]]]) -> PlanRow:
    file = {"root": "dev", "path": "a.wav", "num_frames": 9, "rate_hz": 8000}
    planned = [
        {"name": f"{condition}-{at}", "condition": condition, "steps": steps}
        for at, (condition, steps) in enumerate(copies)
    ]
    plain = {"id": name, "key": name, "split": "dev", "source": file, "num_samples": num_samples, "copies": planned}
    return PlanRow.model_validate(plain | ({} if speaker is None else {"speaker": speaker}))


def white(snr_db: float) -> dict[str, Any]:
    return {"kind": "noise", "form": "coloured", "source": "white", "colour": "white", "seed": 9, "snr_db": snr_db}


def room(number: int) -> dict[str, Any]:
    return {"kind": "room", "bank": "cell", "room": number, "position": 1, "response": f"cell-{number}-1"}


LOSS = {"percent": 10.0, "bad_percent": 90.0, "good_percent": 1.0, "conceal": "zeros", "seed": 4, "lost_packets": 2}
OPUS = {"kind": "codec", "codec": "opus", "bitrate_kbps": 16.0, "loss": LOSS}
PART = {"form": "coloured", "source": "pink", "colour": "pink", "seed": 1}
SEVERAL = {
    "kind": "noise",
    "form": "several",
    "snr_db": 3.0,
    "noises": [PART, {**PART, "source": "white", "colour": "white"}],
}


@pytest.fixture
def described() -> Described:
    found = Described()
    rows = [
        row_of("u1", "ann", 8000, ("noise", [white(1.0)]), ("noise", [white(2.0)]), ("far", [room(0), white(7.0)])),
        row_of("u2", "bob", 4000, ("noise", [white(6.0)]), ("phone", [OPUS])),
        row_of("u3", "ann", 2000, ("far", [room(1)]), ("mix", [SEVERAL])),
        row_of("u4", None, 1000),
    ]
    for row in rows:
        found.add(row, rate_hz=8000, t30_s={"cell-0-1": 0.25, "cell-1-1": 0.75, "cell-1-0": 9.0})
    return found


def test_what_was_drawn_is_added_up_by_condition_and_parameter(described: Described) -> None:
    """Seeds, positions and the like are no distributions; parts of a step count under its kind."""
    assert described.conditions == {"noise": 3, "far": 2, "phone": 1, "mix": 1}
    assert described.domains == {"white": 3, "cell+white": 1, "opus-loss": 1, "cell": 1, "pink+white": 1}
    assert described.seconds == [1.0, 0.5, 0.25, 0.125]
    assert described.speakers == {"ann", "bob"}
    assert described.numbers == {
        ("noise", "noise.snr_db"): [1.0, 2.0, 6.0],
        ("far", "room.rt60_s"): [0.25, 0.75],
        ("far", "noise.snr_db"): [7.0],
        ("phone", "codec.bitrate_kbps"): [16.0],
        ("phone", "codec.loss.percent"): [10.0],
        ("phone", "codec.loss.bad_percent"): [90.0],
        ("phone", "codec.loss.good_percent"): [1.0],
        ("phone", "codec.loss.lost_packets"): [2.0],
        ("mix", "noise.snr_db"): [3.0],
    }
    words = {name: dict(counts) for name, counts in described.words.items()}
    assert words["mix", "noise.source"] == {"pink": 1, "white": 1}
    assert words["noise", "noise.source"] == {"white": 3}
    assert words["far", "room.bank"] == {"cell": 2}
    assert words["phone", "codec.codec"] == {"opus": 1}
    assert words["phone", "codec.loss.conceal"] == {"zeros": 1}
    assert not [name for _, name in words if name.rpartition(".")[2] in {"form", "kind", "response", "seed"}]


def test_each_condition_has_a_line_of_its_own_numbers(described: Described) -> None:
    assert condition_lines(described) == [
        "  far: 2 copies, SNR 7.0 to 7.0 (mean 7.0) dB, RT60 0.25 to 0.75 (mean 0.50) s",
        "  mix: 1 copies, SNR 3.0 to 3.0 (mean 3.0) dB",
        "  noise: 3 copies, SNR 1.0 to 6.0 (mean 3.0) dB",
        (
            "  phone: 1 copies, codec.bitrate_kbps 16.00 to 16.00 (mean 16.00), codec.loss.bad_percent 90.00 to 90.00 (mean 90.00), "
            "codec.loss.good_percent 1.00 to 1.00 (mean 1.00), codec.loss.lost_packets 2.00 to 2.00 (mean 2.00), codec.loss.percent 10.00 to 10.00 (mean 10.00)"
        ),
    ]
    assert spread([5.0, -1.0, 2.0, 2.0], 2) == "-1.00 to 5.00 (mean 2.00)"


def test_the_commonest_are_counted_by_name_and_the_others_as_more() -> None:
    assert counted(Counter({"a": 1, "b": 3})) == "b 3, a 1"
    assert counted(Counter()) == "none"
    many = Counter({f"d{number}": 100 - number for number in range(30)})
    assert counted(many).endswith("d23 77, and 6 more")


def entry(name: str, samples: int, seconds: float, num_bytes: int) -> dict[str, Any]:
    return {"name": name, "samples": samples, "seconds": seconds, "bytes": num_bytes, "sha256": "0" * 64}


def sealed(**more: Any) -> Corpus:
    plain = {
        "schema": "stillroom/corpus/1", "name": "x", "recipe_sha256": "1" * 64, "plan_sha256": "2" * 64, "sample_rate": 8000,
        "splits": {
            "train": [entry("a-000000", 5, 3600.0, 10**9), entry("a-000001", 6, 1800.0, 5 * 10**8)],
            "dev": [entry("b-000000", 8, 900.0, 10**8)],
        },
        "copies": {"train": {"noise": 2, "far": 1}, "dev": {"noise": 1}}, "refused": {"dev": 3, "hum": 4},
        "totals": {"samples": 19, "seconds": 6300.0, "bytes": 1_600_000_000, "shards": 3},
    }  # fmt: skip
    return Corpus.parse(plain | more, where="test")


@pytest.mark.parametrize(
    ("borrowed", "lines"),
    [
        (
            {"where": ["split=dev", "seconds<10"]},
            ["x, a subset: 19 utterances, 1.75 h, 8000 Hz", "where split=dev, seconds<10"],
        ),
        ({"foreign": True, "root": "tars"}, ["x, an index of external shards: 19 utterances, 1.75 h, 8000 Hz"]),
    ],
)
def test_a_linked_corpus_says_what_it_is_of(borrowed: dict[str, Any], lines: list[str]) -> None:
    assert list(linked_lines(sealed(borrowed=borrowed))) == [
        *lines,
        "train: 11 utterances; copies that each has: 2 noise, 1 far",
        "dev: 8 utterances; copies that each has: 1 noise",
    ]


def test_a_split_on_a_page_has_the_sums_of_its_own_shards(described: Described) -> None:
    assert split_row(sealed(), "train", described) == {
        "name": "train", "samples": 11, "hours": 1.5, "speakers": 2, "shards": 2, "gigabytes": 1.5, "refused": 0,
        "copies": "noise 2, far 1",
    }  # fmt: skip
    assert split_row(sealed(), "dev", Described()) == {
        "name": "dev", "samples": 8, "hours": 0.25, "speakers": "", "shards": 1, "gigabytes": 0.1, "refused": 3,
        "copies": "noise 1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parameter", "unit"),
    [("noise.snr_db", "dB"), ("codec.bitrate_kbps", "kbit/s"), ("tilt.db_per_octave", ""), ("room.rt60_s", "s"), ("clip.percent", "")],
)  # fmt: skip
def test_a_plot_has_the_unit_that_a_parameter_ends_with(parameter: str, unit: str) -> None:
    assert unit_of(parameter) == unit


@pytest.mark.parametrize(
    ("name", "reason", "plain"),
    [
        ("d/u1", "d/u1.wav ends after 5 samples", "ends after N samples"),
        ("d/u1", "u1 lasts 3.5 s; at most 2e3", "lasts N s; at most N"),
        ("other", "name.x.ogg cannot be decoded", "cannot be decoded"),
        ("u", "its id occurs 2 times; the one of a.wav is used", "its id occurs N times; the one of a.wav is used"),
        ("u9", "has 2 channels", "has N channels"),
    ],
)
def test_a_reason_is_told_without_its_file_and_numbers(name: str, reason: str, plain: str) -> None:
    assert reason_of(Refusal(split="dev", id=name, reason=reason)) == plain


def test_reasons_are_sorted_by_how_often_each_with_its_first_example_and_the_rest_in_one_line() -> None:
    refused = [
        Refusal(split="dev", id=f"u{at}{times}", reason=f"odd {chr(97 + at)}")
        for at in range(23)
        for times in range(23 - at)
    ]
    lines = reason_lines(refused)
    assert lines[0] == "  23 x odd a; one is u00: odd a"
    assert lines[19] == "  4 x odd t; one is u190: odd t"
    assert lines[20:] == ["  6 x other reasons, which are in refused.jsonl"]


def test_the_description_of_a_corpus_adds_up_the_shards_of_each_split(built_lab: Lab) -> None:
    corpus = built_lab.folder / "corpus"
    sealed_corpus = Corpus.read(corpus / "corpus.json", needed="x")
    lines = description(corpus).splitlines()
    assert lines[1] == f"recipe {sealed_corpus.recipe_sha256[:16]}, plan {sealed_corpus.plan_sha256[:16]}"
    for split, count, speakers in (("train", 8, 4), ("test", 4, 2)):
        tars = sorted((corpus / "shards").glob(f"{split}-*.tar"))
        size = sum(path.stat().st_size for path in tars)
        (line,) = [line for line in lines if line.startswith(f"{split}: ")]
        assert (
            line == f"{split}: {count} utterances, 0.00 h, {len(tars)} shards, {size / 1e9:.3f} GB, {speakers} speakers"
        )
    assert sum("domains: " in line for line in lines) == 2
    totals = sealed_corpus.totals
    assert lines[0] == (
        f"small: 12 utterances, {totals.seconds / 3600:.2f} h, {totals.shards} shards, {totals.bytes / 1e9:.3f} GB, 16000 Hz"
    )


def test_a_page_has_what_was_left_out_and_how_many_waves_were_measured(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["copies"] = {"train": {"phone": 1}, "test": {}}
    lab.recipe["speech"]["train"]["min_s"] = 0.5
    (lab.folder / "speech" / "train" / "s0" / "bad.wav").write_bytes(b"no audio")
    lab.build()
    page = lab.folder / "page.html"
    assert write_page(lab.folder / "corpus", page, samples=4) == 4
    text = page.read_text()
    assert "left out of train: 2 shorter than 0.5 s" in text
    assert "refused: train 1" in text
    assert f"levels measured on {text.count('<audio')} decoded waves" in text
    assert text.count("<audio") > 4
