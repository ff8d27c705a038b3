"""What `show` and the card say of files and utterances that are not in a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.pages.summary import description, reason_lines
from manifests.plan.plan import Refusal

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
