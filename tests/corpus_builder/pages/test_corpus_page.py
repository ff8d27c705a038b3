"""The page of a corpus needs no network, runs nothing, and holds the corpus's own sound."""

import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from corpus_builder.pages import corpus_page
from corpus_builder.pages.audio_clips import Candidate, chosen, decibels
from corpus_builder.pages.corpus_page import in_order, write_page
from corpus_builder.pages.plots import bars, histograms
from corpus_builder.pages.summary import Described
from manifests.corpus.shard_index import ShardIndex
from manifests.plan.plan import PlanRow
from tests.oracles.browser import check_width, opened

RATE = 16_000
HOSTILE = "<script>alert(1)</script>\"' onload=x \x1b[31m\u202e$\\frac{1}{0}$ {{ 7*7 }}"


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.handlers = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "action"}:
                self.sources.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


def page_of(built_lab, tmp_path, **options):
    path = tmp_path / "page.html"
    shown = write_page(built_lab.folder / "corpus", path, **({"samples": 3} | options))
    return path.read_text(), shown


def test_the_page_holds_the_very_flac_of_the_corpus(built_lab, tmp_path):
    text, shown = page_of(built_lab, tmp_path)
    assert shown == 3
    clips = [base64.b64decode(found) for found in re.findall(r'src="data:audio/flac;base64,([^"]+)"', text)]
    tars = b"".join(path.read_bytes() for path in sorted((built_lab.folder / "corpus" / "shards").glob("*.tar")))
    assert len(clips) >= 3 * 3
    assert all(clip in tars for clip in clips)
    assert all(soundfile.read(io.BytesIO(clip))[1] == 16_000 for clip in clips)


def test_the_page_asks_for_nothing_from_anywhere(built_lab, tmp_path):
    text, _ = page_of(built_lab, tmp_path)
    seen = Seen()
    seen.feed(text)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(seen.tags)
    assert not seen.handlers
    assert all(source.startswith(("data:", "#")) for source in seen.sources)
    assert "default-src 'none'" in text
    assert seen.tags.count("audio") == seen.tags.count("img") >= 9
    assert seen.tags.count("svg") >= 4


def test_a_page_without_clips_has_its_totals_and_plots(built_lab, tmp_path):
    text, shown = page_of(built_lab, tmp_path, samples=0)
    assert shown == 0
    assert "<audio" not in text
    assert "<svg" in text


def test_only_the_first_utterances_of_a_shard_may_be_shown(built_lab, tmp_path, monkeypatch):
    """Of a corpus of millions not every utterance is ranked; here of each shard none."""
    monkeypatch.setattr(corpus_page, "CANDIDATES_A_SHARD", 0)
    with pytest.raises(corpus_page.NothingToShowError, match=r"/corpus has no utterance to show$"):
        write_page(built_lab.folder / "corpus", tmp_path / "page.html", samples=3)
    assert list(tmp_path.iterdir()) == []


def test_the_same_corpus_gives_the_same_page(built_lab, tmp_path):
    assert page_of(built_lab, tmp_path)[0] == page_of(built_lab, tmp_path)[0]


def test_hostile_texts_stay_text(lab, tmp_path):
    table = lab.folder / "speech" / "train" / "labels.csv"
    waves = sorted((lab.folder / "speech" / "train").rglob("*.wav"))
    with table.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "id", "text", "speaker"])
        rows.writerows(
            [wave.relative_to(table.parent), f"{HOSTILE}{at}", HOSTILE, f"{HOSTILE}{at % 3}"]
            for at, wave in enumerate(waves)
        )
    lab.recipe["speech"]["train"] = {"dir": "speech/train", "table": "labels.csv"}
    lab.build()
    path = tmp_path / "page.html"
    write_page(lab.folder / "corpus", path, samples=6)
    text = path.read_text()
    seen = Seen()
    seen.feed(text)
    assert "script" not in seen.tags
    assert not seen.handlers
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in text


def test_plots_take_a_strangers_names_as_they_are():
    assert "<svg" in bars({HOSTILE: 3, "b": 1}, title=HOSTILE)
    assert "<svg" in histograms({HOSTILE: [1.0, 2.0], "b": [1.0]}, title="x", unit="dB", styles={})


@pytest.mark.filterwarnings("error")
def test_a_plot_of_very_many_conditions_has_room_for_its_legend():
    drawn = histograms(
        {f"c{number:03d}": [1.0, 2.0 + number] for number in range(140)}, title="x", unit="dB", styles={}
    )
    assert drawn.count('id="legend') == 1
    assert drawn.count('id="patch') < 40
    assert "script>" not in bars({HOSTILE: 3}, title=HOSTILE)


def test_what_is_looked_for_first_stands_first():
    found = in_order(
        ["bandreject.low_hz", "room.rt60_s", "codec.bitrate_kbps", "noise.snr_db", "codec.codec", "tilt.db"]
    )
    assert set(found[:4]) == {"noise.snr_db", "room.rt60_s", "codec.codec", "codec.bitrate_kbps"}
    assert found[4:] == ["bandreject.low_hz", "tilt.db"]


def test_who_was_heard_is_no_distribution():
    file = {"root": "train", "path": "a.wav", "num_frames": 9, "rate_hz": RATE}
    talker = {"id": "a", "speaker": "s", "file": file, "offset": 3}
    step = {
        "kind": "noise",
        "form": "babble",
        "source": "talker",
        "talkers": [talker],
        "spare": [talker],
        "snr_db": 5.0,
    }
    copy = {"name": "talker-0", "condition": "talker", "steps": [step]}
    document = {"id": "u", "key": "u", "split": "train", "source": file, "num_samples": 9, "copies": [copy]}
    described = Described()
    described.add(PlanRow.model_validate(document), rate_hz=RATE, t30_s={})
    assert {name for _, name in described.numbers} == {"noise.snr_db"}
    assert {name for _, name in described.words} == {"noise.source", "noise.over"}


def test_the_choice_brings_as_many_kinds_as_it_can():
    candidates = [Candidate(f"k{at}", "s", 3.0, frozenset({"white"}), bytes([at])) for at in range(20)]
    candidates += [Candidate("rare", "s", 3.0, frozenset({"opus", "room"}), b"\xff")]
    candidates += [Candidate("long", "s", 60.0, frozenset({"mp3"}), b"\xff")]
    assert {one.key for one in chosen(candidates, most=3)} == {"rare", "long", "k0"}
    assert len(chosen(candidates, most=100)) == 22


def test_a_tone_stands_at_its_place_in_the_spectrogram():
    wave = np.sin(2 * np.pi * 2000 * np.arange(16_000) / 16_000).astype(np.float32)
    shown = decibels(wave, rate_hz=16_000)
    assert np.argmax(shown.mean(axis=1)) == round(2000 / 8000 * (shown.shape[0] - 1))


@pytest.mark.slow
def test_the_page_opens_from_a_file_in_a_real_browser_and_is_as_narrow_as_a_phone(built_lab, tmp_path):
    path = tmp_path / "page.html"
    write_page(built_lab.folder / "corpus", path, samples=2)
    opened(path, "--virtual-time-budget=4000", f"--screenshot={tmp_path / 'shot.png'}", scratch=tmp_path)
    import matplotlib.image

    shot = matplotlib.image.imread(tmp_path / "shot.png")
    assert shot[..., :3].std() > 0.05
    check_width(path, width=390, scratch=tmp_path)


def test_a_member_that_lies_about_its_size_is_one_line(built_lab, tmp_path):
    from manifests.errors import BadTarError

    corpus = tmp_path / "copy"
    shutil.copytree(built_lab.folder / "corpus", corpus)
    for path in (corpus / "shards").glob("*.json"):
        document = json.loads(path.read_text())
        for sample in document["samples"]:
            sample["members"]["clean"]["size"] = 1 << 40
        path.write_text(json.dumps(document))
        assert ShardIndex.read(path, needed="x")
    with pytest.raises(BadTarError, match="clean"):
        write_page(corpus, tmp_path / "page.html", samples=2)
