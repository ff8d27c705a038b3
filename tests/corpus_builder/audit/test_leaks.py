"""What two splits share is found, counted and told, and nothing is claimed that was not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.audit.leaks import HOW_TEXTS, NO_MATCH, Audit, Facts, Leaks, Unchecked
from manifests.results.reports import How, Kind

if TYPE_CHECKING:
    from pathlib import Path


def audited(facts: Facts, *, editions: bool = False) -> Audit:
    facts.join()
    return Audit(
        {"A": "one", "B": "two"}, facts.checked(), facts.leaks(editions=editions), facts.unchecked, facts.declared
    )


def told(leaks: Leaks, kind: str) -> list[tuple[str, str, str, int]]:
    return [(leak.how, str(leak.first), str(leak.second), leak.count) for leak in leaks.of(kind)]  # type: ignore[arg-type]


def test_a_renamed_noise_of_another_corpus_is_found_by_its_digest(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        train, test = facts.group("A", "train"), facts.group("B", "test")
        facts.add_sources(
            [("A", "musan", "noise-0001.wav", "f" * 64, None), ("B", "rirs", "point.wav", "f" * 64, None)]
        )
        facts.add_uses([("A", "musan", "noise-0001.wav", "noise", train, True, None, "noise-0001.wav in u")])
        facts.add_uses([("B", "rirs", "point.wav", "noise", test, False, None, "point.wav")])
        found = audited(facts)
    assert told(found.leaks, "noise") == [("file", "A:train", "B:test", 1)]
    leak = found.leaks.of("noise")[0]
    assert leak.used == 0
    assert leak.examples == [("noise-0001.wav in u", "point.wav")]
    assert found.leaky
    assert any("only assigned to both" in line for line in found.lines())


def test_the_same_path_in_two_corpora_is_no_match_without_a_digest(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for corpus in "AB":
            facts.add_uses([(corpus, "root", "a.wav", "noise", facts.group(corpus, "train"), True, None, "a.wav")])
        found = audited(facts)
    assert not found.leaky
    assert [(one.kind, one.corpus, one.count) for one in found.unchecked] == [("noise", "A", 1), ("noise", "B", 1)]
    assert "disjoint" not in "\n".join(found.lines())
    assert found.plain()["answer"] == NO_MATCH


def test_the_same_path_in_two_splits_of_one_corpus_is_a_leak_without_a_digest(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for split in ("train", "test"):
            facts.add_uses([("A", "root", "a.wav", "recording", facts.group("A", split), True, None, "a.wav")])
        found = audited(facts)
    assert told(found.leaks, "recording") == [("path", "A:train", "A:test", 1)]


def test_editions_may_share_within_a_split_and_not_across(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for corpus, split in (("A", "train"), ("B", "train"), ("B", "test")):
            facts.add([("utterance", "pcm", "0" * 64, facts.group(corpus, split), True, "u")])
        assert len(audited(facts).leaks.of("utterance")) == 3
        assert told(audited(facts, editions=True).leaks, "utterance") == [
            ("pcm", "A:train", "B:test", 1),
            ("pcm", "B:train", "B:test", 1),
        ]


def test_a_thing_that_is_heard_says_so_whatever_came_first(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for split in ("train", "test"):
            for heard in (False, True, False):
                facts.add([("room", "geometry", "g", facts.group("A", split), heard, "heard" if heard else "dealt")])
        leak = audited(facts).leaks.of("room")[0]
    assert (leak.count, leak.used, leak.examples) == (1, 1, [("heard", "heard")])


def test_a_strangers_names_stay_on_their_line(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for split in ("train", "test"):
            facts.add([("speaker", "label", "x", facts.group("A", split), True, "\x1b[2J\nno match found")])
        facts.unchecked.append(Unchecked("speaker", "A", "train", 1, 2, "utterances have no speaker label"))
        lines = list(audited(facts).lines())
    assert not any("\x1b" in line or "\n" in line for line in lines)
    assert "not checked  speaker, A:train: 1 of 2 utterances have no speaker label" in lines


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40))
def test_pairs_of_splits_share_what_their_sets_share(facts_of_splits: list[tuple[int, int]]) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, Facts(Path(folder) / "facts") as facts:
        groups = [facts.group("A", f"s{number}") for number in range(4)]
        facts.add(
            [("speaker", "label", str(value), groups[split], True, str(value)) for split, value in facts_of_splits]
        )
        found = {(leak.first.split, leak.second.split): leak.count for leak in audited(facts).leaks.of("speaker")}
    held = [{value for split, value in facts_of_splits if split == number} for number in range(4)]
    expected = {
        (f"s{one}", f"s{other}"): len(held[one] & held[other])
        for one in range(4)
        for other in range(one + 1, 4)
        if held[one] & held[other]
    }
    assert found == expected


@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_found_in_every_way_and_said_in_words(tmp_path: Path, kind: Any, how: Any) -> None:
    with Facts(tmp_path / "facts") as facts:
        first, second = facts.group("A", "train"), facts.group("A", "test")
        facts.add([(kind, how, "same", first, True, "x"), (kind, how, "same", second, False, "y")])
        facts.add([(kind, how, "own", first, True, "x"), (kind, how, "other", second, True, "y")])
        found = audited(facts)
    assert told(found.leaks, kind) == [(how, "A:train", "A:test", 1)]
    (leak,) = found.plain()["leaks"]
    assert (leak["kind"], leak["how"], leak["heard"], leak["examples"]) == (kind, how, 0, [["x", "y"]])
    lines = list(found.lines())
    assert f"{kind:<10} LEAK ({found.checked[kind]} compared)" in lines
    assert any(f"A:train and A:test: 1 the same by {HOW_TEXTS[how]}, 0 of them used in both" in line for line in lines)
    assert lines[-1] == "leaks were found"


@pytest.mark.parametrize("digest", ["file", "pcm"])
@pytest.mark.parametrize("kind", ["recording", "noise", "room"])
def test_two_files_of_one_digest_are_the_same_whatever_they_are_called(tmp_path: Path, kind: Any, digest: str) -> None:
    with Facts(tmp_path / "facts") as facts:
        for number, (split, path) in enumerate((("train", "a.wav"), ("test", "b.wav"))):
            own, same = str(number) * 64, "f" * 64
            facts.add_sources([("A", "r", path, same if digest == "file" else own, same if digest == "pcm" else own)])
            facts.add_uses([("A", "r", path, kind, facts.group("A", split), True, None, path)])
        assert told(audited(facts).leaks, kind) == [(digest, "A:train", "A:test", 1)]


def test_at_most_five_examples_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for split in ("train", "test"):
            group = facts.group("A", split)
            facts.add([("speaker", "label", f"s{number}", group, True, f"s{number}") for number in range(9)])
        (leak,) = audited(facts).leaks.of("speaker")
    assert (leak.count, leak.used, len(leak.examples)) == (9, 9, 5)


def test_files_are_given_once_with_their_digest_channel_and_splits(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        train, test = facts.group("A", "train"), facts.group("A", "test")
        facts.add_sources([("A", "r", "a.wav", "f" * 64, None)])
        facts.add_uses(
            [("A", "r", "a.wav", "noise", train, True, None, "x"), ("A", "r", "a.wav", "noise", test, True, None, "x")]
        )
        facts.add_uses([("A", "r", "b.wav", "recording", train, True, 1, "x")])
        for group in (train, test):  # the copies of a noise do not tell its channel, its levels do
            facts.add_uses([("A", "r", "a.wav", "noise", group, False, 2, "x")])
        assert list(facts.files(("noise",))) == [("A", "r", "a.wav", "f" * 64, 2, "noise", [train, test])]
        assert [one[2] for one in facts.files(("recording",))] == ["b.wav"]


def test_the_first_example_stays_unless_a_later_one_is_used(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        first, second = facts.group("A", "train"), facts.group("A", "test")
        for used, name in ((False, "assigned"), (True, "used"), (True, "later"), (False, "last")):
            facts.add([("speaker", "label", "x", first, used, name), ("speaker", "label", "x", second, True, "y")])
            facts.add_uses(
                [("A", "r", "a.wav", "noise", group, used, None, f"{name} in {group}") for group in (first, second)]
            )
        found = audited(facts)
    assert [leak.examples for kind in ("speaker", "noise") for leak in found.leaks.of(kind)] == [
        [("used", "y")], [(f"used in {first}", f"used in {second}")],
    ]  # fmt: skip


def test_leaks_are_in_the_order_of_their_splits(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        one, two, three = (facts.group("A", split) for split in ("train", "dev", "test"))
        for value, groups in (("a", (two, three)), ("b", (one, three)), ("c", (one, two)), ("d", (one, two, three))):
            facts.add([("speaker", "label", value, group, True, value) for group in groups])
        found = audited(facts)
    assert told(found.leaks, "speaker") == [
        ("label", "A:train", "A:dev", 2), ("label", "A:train", "A:test", 2), ("label", "A:dev", "A:test", 2),
    ]  # fmt: skip


def test_only_some_that_are_used_in_both_are_told_apart(tmp_path: Path) -> None:
    with Facts(tmp_path / "facts") as facts:
        for group in (facts.group("A", "train"), facts.group("A", "test")):
            facts.add([("speaker", "label", str(number), group, number < 2 or group == 0, "x") for number in range(3)])
        lines = list(audited(facts).lines())
    [text] = [line for line in lines if "the same by" in line]
    assert text.endswith(
        "3 the same by label: in two corpora it may name two people, 2 of them used in both, the others only assigned to both"
    )
