"""Subsets, indexes, unpacked roots and lhotse, from a built corpus and from tars of strangers."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile

from corpus_builder.exchange.index_webdataset import NothingToIndexError, index_shards
from corpus_builder.exchange.lhotse_export import cut_sets, export_shar
from corpus_builder.exchange.subset import subset
from corpus_builder.exchange.unpack import CollidingFilesError, CutFileError, unpack
from corpus_builder.pages.summary import description
from corpus_builder.verify.verify_corpus import verify
from manifests.corpus.filter import BadWhereError, parse_where
from manifests.corpus.reader import NoSuchSplitError, OpenCorpus, UnknownRootError
from manifests.errors import BadDocumentError, BadTarError, UsageError
from manifests.pack.write import write_pack

RATE = 16_000


def tone(seed, count=4000):
    return (3000 * np.random.RandomState(seed).standard_normal(count)).astype(np.int16)


def coded(pcm, kind="FLAC", rate_hz=RATE):
    content = io.BytesIO()
    soundfile.write(content, pcm, rate_hz, format=kind)
    return content.getvalue()


def write_tar(path, members, **extra):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, kind in extra.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    return path


def chosen(corpus, out, *expressions):
    return subset(corpus, out, where=parse_where(expressions))


def test_a_subset_has_what_was_asked_for_and_no_audio(built_lab, tmp_path, capfd):
    corpus = built_lab.folder / "corpus"
    sealed = chosen(corpus, tmp_path / "part", "split=train", "speaker=s1,s2", "condition=noise", "seconds<0.7")
    every = list(OpenCorpus(corpus).utterances("train"))
    due = {h.record.id for h in every if h.record.speaker in {"s1", "s2"} and h.sample.num_samples < 0.7 * RATE}
    held = list(OpenCorpus(tmp_path / "part").utterances())
    assert due
    assert len(due) < len(every)
    assert {one.record.id for one in held} == due
    assert all([copy.name for copy in one.record.copies] == ["noise-0", "noise-1"] for one in held)
    assert sealed.copies == {"train": {"noise": 2}}
    assert not list((tmp_path / "part").rglob("*.tar"))
    assert str(tmp_path) not in (tmp_path / "part" / "corpus.json").read_text()
    capfd.readouterr()
    report = verify(tmp_path / "part", progress=False)
    assert capfd.readouterr() == ("", "")
    assert report.findings == []
    assert report.waves == 3 * len(due)


def test_a_file_that_a_subset_lists_twice_is_found_and_the_first_digest_counts(built_lab, tmp_path):
    chosen(built_lab.folder / "corpus", tmp_path / "part", "split=test")
    sums = tmp_path / "part/SHA256SUMS"
    lines = sums.read_text().splitlines()
    last = lines[-1].partition("  ")[2]
    sums.write_text("\n".join([*lines, f"{'0' * 64}  {last}"]) + "\n")
    found = verify(tmp_path / "part", level="bytes", progress=False).findings
    assert [(one.where, one.what) for one in found] == [
        (f"SHA256SUMS:{len(lines) + 1}", "expected a digest and the name of a file that is not listed above")
    ]


def test_a_subset_by_snr_keeps_the_copies_that_hold(built_lab, tmp_path):
    chosen(built_lab.folder / "corpus", tmp_path / "loud", "snr_db>=10")
    for held in OpenCorpus(tmp_path / "loud").utterances():
        assert held.record.copies
        for copy in held.record.copies:
            assert all(step.snr_db >= 10 for step in copy.steps if step.kind == "noise")
            assert any(step.kind == "noise" for step in copy.steps)


def test_a_subset_of_a_subset_remembers_both_choices(built_lab, tmp_path):
    chosen(built_lab.folder / "corpus", tmp_path / "one", "split=train")
    sealed = chosen(tmp_path / "one", tmp_path / "two", "condition=phone")
    assert sealed.borrowed.where == ("split=train", "condition=phone")
    assert verify(tmp_path / "two", progress=False).findings == []
    assert "where split=train, condition=phone" in description(tmp_path / "two")


def test_a_subset_whose_corpus_moved_says_where_to_write_it(built_lab, tmp_path):
    chosen(built_lab.folder / "corpus", tmp_path / "part", "split=test")
    (tmp_path / "part" / "roots.local.json").unlink()
    with pytest.raises(UnknownRootError, match=r"roots\.local\.json"):
        OpenCorpus(tmp_path / "part")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seconds",
        "secnds<3",
        "speaker<3",
        "seconds<x",
        "seconds<nan",
        "seconds<1,2",
        "split=",
        "__import__('os')=1",
        "split=@",
    ],
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(BadWhereError):
        parse_where([text])


def test_a_subset_cannot_be_packed_and_says_what_can(built_lab, tmp_path):
    subset(built_lab.folder / "corpus", tmp_path / "part", where=parse_where(["split=train"]))
    with pytest.raises(UsageError, match="pack a whole corpus"):
        write_pack(tmp_path / "part", tmp_path / "part.tar.gz")


def test_a_subset_of_nothing_or_of_an_unknown_split_is_refused(built_lab, tmp_path):
    corpus = built_lab.folder / "corpus"
    for expression, kind in (
        ("split=trian", NoSuchSplitError),
        ("condition=nois", UsageError),
        ("seconds>999", UsageError),
    ):
        with pytest.raises(kind):
            chosen(corpus, tmp_path / "none", expression)
    assert list(tmp_path.iterdir()) == []


def test_a_strangers_tars_become_a_corpus_that_verify_checks(tmp_path):
    first = [(f"a/utt {n}.flac", coded(tone(n))) for n in range(3)]
    about = json.dumps({"transcript": "HE SAID", "speaker_id": 7, "snr": 3.5}).encode()
    second = [
        ("u9.json", about),
        ("u9.wav", coded(tone(9), "WAV")),
        ("u9.cls", b"4"),
        ("u8.ogg", coded(tone(8), "OGG")),
    ]
    write_tar(tmp_path / "set" / "x-0.tar", first)
    write_tar(tmp_path / "set" / "x-1.tar", second)
    made = index_shards([str(tmp_path / "set" / "x-0.tar"), f"dev={tmp_path}/set/x-1*"])
    assert (made.corpus.totals.samples, made.refused) == (5, [])
    assert str(tmp_path) not in (tmp_path / "set" / "corpus.json").read_text()
    held = {one.sample.key: one.record for one in OpenCorpus(tmp_path / "set").utterances("dev")}
    assert (held["u9"].text, held["u9"].speaker, held["u9"].custom) == ("HE SAID", "7", {"snr": 3.5, "cls": 4})
    report = verify(tmp_path / "set", progress=False)
    assert (report.findings, report.waves) == ([], 5)
    with (tmp_path / "set" / "x-0.tar").open("r+b") as stream:
        stream.seek(1500)
        stream.write(b"\x55\xaa\x55")
    assert any("x-0.tar" in finding.where for finding in verify(tmp_path / "set", progress=False).findings)


def test_several_audio_members_become_copies_of_the_clean_one(tmp_path):
    members = [
        ("k.clean.flac", coded(tone(1))),
        ("k.Mix.wav", coded(tone(2), "WAV")),
        ("k.short.wav", coded(tone(3, 99), "WAV")),
    ]
    tar = write_tar(tmp_path / "t" / "s.tar", members)
    made = index_shards([str(tar)], out=tmp_path / "index")
    (held,) = OpenCorpus(tmp_path / "index").utterances()
    assert held.sample.copies == ["mix-0"]
    assert made.corpus.copies == {"train": {"mix": 1}}
    assert sum(made.left_out.values()) == 1
    assert verify(tmp_path / "index", progress=False).findings == []
    again = index_shards([str(tar)], out=tmp_path / "index", clean="mix.wav")
    assert again.corpus.copies == {"train": {"copy_clean": 1}}


def test_what_cannot_be_streamed_is_refused_with_its_reason(tmp_path):
    members = [
        ("good.flac", coded(tone(1))),
        ("stereo.flac", coded(np.stack([tone(1), tone(2)], 1))),
        ("silent.flac", coded(np.zeros(100, np.int16))),
        ("rate.flac", coded(tone(1), rate_hz=8000)),
        ("noise.flac", b"no audio"),
        ("none.json", b"{}"),
        ("two.a.flac", coded(tone(1))),
        ("two.b.flac", coded(tone(2))),
        ("good.wav", coded(tone(1), "WAV")),
    ]
    made = index_shards([str(write_tar(tmp_path / "t.tar", members))])
    reasons = {one.id: one.reason for one in made.refused}
    assert made.corpus.totals.samples == 1
    assert "most have 16000" in reasons["rate"]
    for key, word in {
        "stereo": "2 channels",
        "silent": "is silent: under -80 dBFS without its mean",
        "noise": "decoded",
        "none": "no member",
        "two": "--clean",
        "good": "side by side",
    }.items():
        assert word in reasons[key]


@pytest.mark.parametrize("extra", [{"link": tarfile.SYMTYPE}, {"hard": tarfile.LNKTYPE}, {"device": tarfile.CHRTYPE}])
def test_a_tar_with_links_or_devices_is_refused(tmp_path, extra):
    with pytest.raises(BadTarError, match="link or a device"):
        index_shards([str(write_tar(tmp_path / "t.tar", [("a.flac", coded(tone(1)))], **extra))])


def test_a_compressed_tar_a_wrong_tar_and_another_corpus_are_refused(tmp_path, built_lab):
    (tmp_path / "z.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(BadTarError, match="compressed"):
        index_shards([str(tmp_path / "z.tar")])
    write_tar(tmp_path / "e.tar", [("readme", b"x")])
    with pytest.raises(NothingToIndexError):
        index_shards([str(tmp_path / "e.tar")])
    with pytest.raises(UsageError, match="has a corpus already"):
        index_shards([str(built_lab.folder / "corpus" / "shards")], out=built_lab.folder / "corpus")


def test_the_index_of_another_shard_is_not_read_in_its_place(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        write_tar(tmp_path / f"{name}.tar", [("a.flac", coded(tone(seed)))])
    index_shards([str(tmp_path)], progress=False)
    assert {one.entry.name for one in OpenCorpus(tmp_path).utterances()} == {"one", "two"}
    first, second = (tmp_path / f"shards/{name}.json" for name in ("one", "two"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(BadDocumentError, match=r"shards/one\.json: is the index of the shard 'two'"):
        list(OpenCorpus(tmp_path).utterances())


def test_an_index_is_made_again_but_does_not_replace_a_subset_of_one(tmp_path):
    tars = write_tar(tmp_path / "t.tar", [("a.flac", coded(tone(1))), ("b.flac", coded(tone(2)))])
    first = index_shards([str(tars)], out=tmp_path / "index", progress=False)
    assert index_shards([str(tars)], out=tmp_path / "index", progress=False).corpus == first.corpus
    chosen(tmp_path / "index", tmp_path / "part", "id=a")
    before = (tmp_path / "part/corpus.json").read_bytes()
    with pytest.raises(UsageError, match="has a corpus already"):
        index_shards([str(tars)], out=tmp_path / "part", progress=False)
    assert (tmp_path / "part/corpus.json").read_bytes() == before


def test_shards_of_stillroom_are_indexed_as_they_were(built_lab, tmp_path):
    made = index_shards([f"{built_lab.folder}/corpus/shards/train-*.tar"], out=tmp_path / "again")
    whole = OpenCorpus(built_lab.folder / "corpus")
    again = {one.sample.key: one for one in OpenCorpus(tmp_path / "again").utterances()}
    assert made.corpus.copies["train"] == whole.sealed.copies["train"]
    for held in whole.utterances("train"):
        assert again[held.sample.key].record == held.record
        for name, member in held.sample.members.items():
            assert again[held.sample.key].sample.members[name].pcm_sha256 == member.pcm_sha256


def test_an_unpacked_root_has_the_sources_tree(built_lab, tmp_path):
    speech = built_lab.folder / "speech" / "train"
    (speech / "LABELS.txt").write_text("x")
    soundfile.write(speech / "refused.WAV", np.zeros(99, np.int16), RATE)
    done = unpack(
        built_lab.folder / "corpus", tmp_path / "new", condition="phone", roots={"train": speech}, splits=("train",)
    )
    assert (done.utterances, done.files, done.linked, done.linked_audio, done.without) == (8, 8, 2, 1, 0)
    opened = OpenCorpus(built_lab.folder / "corpus")
    for held in opened.utterances("train"):
        path = tmp_path / "new" / "train" / held.record.source.path
        pcm, rate_hz = soundfile.read(path, dtype="int16")
        member = opened.contents(held.entry, held.sample, ["phone-0"])["phone-0"]
        assert np.array_equal(pcm, soundfile.read(io.BytesIO(member), dtype="int16")[0])
        assert (rate_hz, path.suffix, path.is_symlink()) == (RATE, ".wav", False)
        assert soundfile.info(path).format == "WAV"
    assert (tmp_path / "new" / "train" / "LABELS.txt").resolve() == (speech / "LABELS.txt").resolve()
    assert not (tmp_path / "new" / "test").exists()
    (speech / "LABELS.txt").unlink()
    (speech / "refused.WAV").unlink()


def test_only_roots_that_a_file_was_written_below_are_asked_for(built_lab, tmp_path):
    corpus = built_lab.folder / "corpus"
    part = unpack(corpus, tmp_path / "part", condition="phone", roots={}, splits=("train",))
    assert part.missing_roots == ("train",)
    assert set(unpack(corpus, tmp_path / "all", condition="clean", roots={}).missing_roots) > {"train"}


def test_an_unknown_condition_and_a_folder_in_use_are_refused(built_lab, tmp_path):
    corpus = built_lab.folder / "corpus"
    with pytest.raises(UsageError, match="no utterance has a copy"):
        unpack(corpus, tmp_path / "new", condition="nois", roots={})
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(UsageError, match="exists already"):
        unpack(corpus, tmp_path / "used", condition="noise", roots={})
    with pytest.raises(UsageError, match="is inside --root"):
        unpack(
            corpus,
            built_lab.folder / "speech/train/new",
            condition="noise",
            roots={"train": built_lab.folder / "speech/train"},
        )


def cut_corpus(lab, spans):
    """A corpus of stretches of one long file."""
    long = lab.folder / "long" / "talk.flac"
    long.parent.mkdir()
    soundfile.write(long, tone(5, 3 * RATE), RATE)
    recording = {
        "id": "talk", "sources": [{"type": "file", "channels": [0], "source": str(long)}], "sampling_rate": RATE,
        "num_samples": 3 * RATE, "duration": 3.0, "channel_ids": [0],
    }  # fmt: skip
    cuts = [
        {
            "id": f"c{n}",
            "start": start,
            "duration": end - start,
            "channel": 0,
            "supervisions": [],
            "recording": recording,
            "type": "MonoCut",
        }
        for n, (start, end) in enumerate(spans)
    ]
    (lab.folder / "cuts.jsonl").write_text("\n".join(map(json.dumps, cuts)))
    lab.without_rooms()
    lab.recipe["speech"] = {"train": {"cuts": "cuts.jsonl", "strip": str(long.parent)}}
    lab.recipe["noises"] = {"white": {"colour": "white"}}
    lab.recipe["conditions"] = {"noise": {"steps": [{"kind": "noise", "from": ["white"], "snr_db": 5}]}}
    lab.recipe["copies"] = {"train": {"noise": 1}}
    assert lab.build().corpus is not None
    return long


def test_stretches_of_a_long_file_are_put_back_into_it(lab, tmp_path):
    long = cut_corpus(lab, [(0.5, 1.0), (1.5, 2.0)])
    with pytest.raises(CutFileError, match="--root train=DIR"):
        unpack(lab.folder / "corpus", tmp_path / "new", condition="noise", roots={})
    unpack(lab.folder / "corpus", tmp_path / "new", condition="noise", roots={"train": long.parent})
    before, after = (soundfile.read(path, dtype="int16")[0] for path in (long, tmp_path / "new" / "talk.flac"))
    changed = np.flatnonzero(before != after)
    assert before.size == after.size
    inside = np.r_[RATE // 2 : RATE, 3 * RATE // 2 : 2 * RATE]
    assert set(changed) <= set(inside)
    assert changed.size > 0.9 * inside.size


def test_overlapping_stretches_are_refused_by_name(lab, tmp_path):
    long = cut_corpus(lab, [(0.5, 1.5), (1.0, 2.0)])
    with pytest.raises(CollidingFilesError, match="overlap"):
        unpack(lab.folder / "corpus", tmp_path / "new", condition="noise", roots={"train": long.parent})
    assert not (tmp_path / "new").exists()


def test_lhotse_reads_every_copy_in_parallel_order(built_lab):
    sets = cut_sets(built_lab.folder / "corpus", split="train")
    assert sorted(sets) == ["clean", "far-0", "noise-0", "noise-1", "phone-0"]
    opened = OpenCorpus(built_lab.folder / "corpus")
    for held, *cuts in zip(opened.utterances("train"), *sets.values(), strict=True):
        for name, cut in zip(sets, cuts, strict=True):
            content = opened.contents(held.entry, held.sample, [name])[name]
            assert cut.id == held.record.id
            assert cut.supervisions[0].speaker == held.record.speaker
            assert np.array_equal(cut.load_audio()[0], soundfile.read(io.BytesIO(content), dtype="float32")[0])
            assert cut.custom["stillroom"]["copy"] == name


@pytest.mark.filterwarnings("ignore")
def test_plain_lhotse_reads_the_shar_back(built_lab, tmp_path):
    from lhotse import CutSet

    written = export_shar(built_lab.folder / "corpus", tmp_path / "shar", splits=("train",), shard_size=3)
    assert written["train"].cuts == 8
    sets = cut_sets(built_lab.folder / "corpus", split="train")
    again = list(CutSet.from_shar(in_dir=str(tmp_path / "shar" / "train")))
    assert [cut.id for cut in again] == [cut.id for cut in sets["clean"]]
    for cut, clean, noisy in zip(again, sets["clean"], sets["noise-1"], strict=True):
        assert np.abs(cut.load_audio() - clean.load_audio()).max() < 1 / 32768
        assert np.abs(cut.load_noise_1() - noisy.load_audio()).max() < 1 / 32768
        assert cut.custom["stillroom"]["copies"]["noise_1"]["condition"] == "noise"
        assert cut.supervisions[0].speaker == clean.supervisions[0].speaker


@pytest.mark.filterwarnings("ignore")
def test_gender_and_custom_fields_go_through_a_corpus_and_back_to_lhotse(lab, tmp_path):
    """A custom field named as ours is, as it comes from an export of a corpus, is not written over."""
    long = cut_corpus(lab, [(0.5, 1.0)])
    cut = json.loads((lab.folder / "cuts.jsonl").read_text())
    supervision = {"id": "s", "recording_id": "talk", "start": 0, "duration": 0.5, "speaker": "ann", "gender": "female"}
    cut |= {"supervisions": [supervision], "custom": {"start": 3, "stillroom": {"split": "old"}, "höhe": [1, None]}}
    (lab.folder / "cuts.jsonl").write_text(json.dumps(cut))
    lab.recipe["name"] = "told"
    lab.build("again")
    assert long.exists()
    export_shar(lab.folder / "again", tmp_path / "shar")
    from lhotse import CutSet

    (read,) = CutSet.from_shar(in_dir=str(tmp_path / "shar" / "train"))
    (noisy,) = cut_sets(lab.folder / "again", split="train")["noise-0"]
    for one in (read, noisy):
        assert (one.supervisions[0].speaker, one.supervisions[0].gender) == ("ann", "female")
        assert (one.custom["start"], one.custom["höhe"]) == (3, [1, None])
        assert (one.custom["stillroom"]["split"], one.custom["stillroom"]["before"]) == ("train", {"split": "old"})
