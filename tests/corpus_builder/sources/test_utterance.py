"""The bounds of an utterance's id, text and length."""

from __future__ import annotations

import pytest

from corpus_builder.sources.utterance import UnfitTextError, Utterance, check_text, too_long


def test_ids_have_a_length_and_texts_are_unicode() -> None:
    check_text("x" * 4096, "text")
    for name in ("", "x" * 4097):
        with pytest.raises(UnfitTextError, match=f"its id has {len(name)} characters; 1 to 4096 are allowed"):
            check_text(name)
    with pytest.raises(UnfitTextError, match="is not valid Unicode text"):
        check_text("u", "fine", "\ud800")


@pytest.mark.parametrize(("rate_hz", "most_s"), [(16_000, 120), (240_000, 120), (480_000, 60)])
def test_an_utterance_may_be_as_long_as_a_worker_can_hold(rate_hz: int, most_s: int) -> None:
    assert too_long(Utterance("u", "u.wav", 0.0, most_s * rate_hz, rate_hz), in_manifest=True) is None
    longer = Utterance("u", "u.wav", 0.0, (most_s + 1) * rate_hz, rate_hz)
    assert too_long(longer, in_manifest=True) == (
        f"lasts {most_s + 1} s; utterances of up to {most_s} s are rendered: cut the manifest with lhotse's "
        f"cut_into_windows({most_s}), or leave longer ones out with max_s: {most_s}"
    )
    assert "rendered: cut it into utterances, or" in str(too_long(longer, in_manifest=False))
