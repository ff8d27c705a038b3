"""Two labs: one builds and packs, the other rebuilds from its own copy of the sources, and each wave is proved."""

from __future__ import annotations

import copy
import gzip
import io
import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audit.audit_corpora import audit
from corpus_builder.build.build_corpus import build
from corpus_builder.rebuild.diff import differences
from corpus_builder.rebuild.plan_subset import Selection
from corpus_builder.rebuild.rebuild_corpus import SourcesDifferError, rebuild
from corpus_builder.rooms import image_source
from corpus_builder.rooms.build_banks import planned_rooms
from corpus_builder.rooms.rir_bank import write_bank, write_room
from corpus_builder.verify.verify_corpus import verify
from manifests.corpus.provenance import public_argument
from manifests.errors import MissingFileError, OtherRecipeError, UsageError
from manifests.io.digest import bytes_digest, file_digest
from manifests.pack.read import open_pack
from manifests.pack.write import NamesThisMachineError, write_pack

if TYPE_CHECKING:
    from pathlib import Path

    from corpus_builder.rebuild.report import Proof


@pytest.fixture(scope="session")
def packed_lab(built_lab: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The built lab and a pack of its corpus; not to be changed."""
    path, _ = write_pack(built_lab.folder / "corpus", tmp_path_factory.mktemp("pack"), progress=False)
    return built_lab, path


@pytest.fixture
def other_lab(packed_lab: tuple[Any, Path], tmp_path: Path) -> dict[str, Path]:
    """The sources elsewhere, in other folders; by root."""
    lab, _ = packed_lab
    roots = {"train": tmp_path / "ours/a", "test": tmp_path / "ours/b", "hum": tmp_path / "noises/c"}
    for name, source in (("train", "speech/train"), ("test", "speech/test"), ("hum", "noise")):
        shutil.copytree(lab.folder / source, roots[name])
    return roots


def rebuilt(pack: Path, target: Path, roots: dict[str, Path], **options: Any) -> Any:
    return rebuild(pack, target, roots=roots, progress=False, **options)


def counts(proof: Proof) -> tuple[int, int, int]:
    return proof.total("identical"), proof.total("near"), proof.total("different")


def repacked(pack: Path, target: Path, edit: Any) -> Path:
    """The pack unpacked by plain tarfile, edited, its digests put right, and packed again by plain tarfile."""
    folder = target.parent / "unpacked"
    with tarfile.open(pack) as tar:
        tar.extractall(folder, filter="data")
    top = next(folder.iterdir())
    for path in top.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    edit(top)
    names = sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())
    sums = "".join(f"{file_digest(top / name)}  {name}\n" for name in names if name != "SHA256SUMS")
    (top / "SHA256SUMS").write_text(sums)
    with tarfile.open(target, "w:gz") as tar:
        tar.add(top, arcname=top.name)
    return target


@pytest.mark.parametrize("workers", [1, 2])
def test_every_copy_is_identical_elsewhere_with_other_workers(packed_lab, other_lab, tmp_path, workers):
    lab, pack = packed_lab
    told = rebuilt(pack, tmp_path / "theirs", other_lab, workers=workers)
    assert counts(told.proof) == (52, 0, 0)
    assert sum(told.proof.decoder_differs.values()) == 0
    assert (tmp_path / "theirs/SHA256SUMS").read_text() == (lab.folder / "corpus/SHA256SUMS").read_text()
    assert not verify(tmp_path / "theirs", progress=False).findings
    report = json.loads((tmp_path / "theirs/rebuilt.json").read_text())
    assert report["identical"] == 52
    assert {row["codec"] for row in report["by_condition"] if row["condition"] == "phone"} <= {"g711-mulaw", "mp3"}


def test_rebuilding_again_renders_nothing_again(packed_lab, other_lab, tmp_path):
    _, pack = packed_lab
    rebuilt(pack, tmp_path / "theirs", other_lab)
    tars = {path: path.stat().st_mtime_ns for path in (tmp_path / "theirs/shards").glob("*.tar")}
    first = next(iter(tars))
    first.with_suffix(".json").unlink()
    again = rebuilt(pack, tmp_path / "theirs", {})
    assert counts(again.proof) == (52, 0, 0)
    assert {path for path in tars if path.stat().st_mtime_ns != tars[path]} == {first}


def test_sources_that_are_missing_or_one_sample_off_are_all_named_before_anything_is_rendered(
    packed_lab, other_lab, tmp_path
):
    _, pack = packed_lab
    changed = next(other_lab["train"].rglob("*.wav"))
    wave, rate_hz = soundfile.read(changed, dtype="int16")
    wave[100] += 1
    soundfile.write(changed, wave, rate_hz)
    (other_lab["hum"] / "n1.wav").unlink()
    with pytest.raises(SourcesDifferError, match=r"2 of 17 .*1 missing, 1 different") as caught:
        rebuilt(pack, tmp_path / "theirs", other_lab)
    named = {(problem.root, problem.path) for problem in caught.value.problems}
    assert named == {("train", changed.relative_to(other_lab["train"]).as_posix()), ("hum", "n1.wav")}
    assert not (tmp_path / "theirs").exists()


def test_a_source_that_was_coded_otherwise_is_told_from_one_that_sounds_otherwise(packed_lab, other_lab, tmp_path):
    _, pack = packed_lab
    first, second = sorted(other_lab["train"].rglob("*.wav"))[:2]
    wave, rate_hz = soundfile.read(first, dtype="int16")
    soundfile.write(first, wave, rate_hz, format="WAVEX", subtype="PCM_16")
    wave, rate_hz = soundfile.read(second, dtype="int16")
    wave[100] += 1
    soundfile.write(second, wave, rate_hz)
    (other_lab["hum"] / "n1.wav").write_bytes(b"RIFF")
    with pytest.raises(SourcesDifferError) as caught:
        rebuilt(pack, tmp_path / "theirs", other_lab)
    told = {problem.path: problem.what for problem in caught.value.problems}
    assert told.pop(first.relative_to(other_lab["train"]).as_posix()).endswith("in another coding: its PCM is the same")
    assert told.pop(second.relative_to(other_lab["train"]).as_posix()).endswith("its PCM is different too")
    assert "cannot be decoded" in told["n1.wav"]


def test_copies_through_several_codecs_are_counted_by_all_of_them(lab, tmp_path):
    lab.without_rooms()
    lab.recipe["conditions"]["phone"]["steps"] = [{"kind": "codec", "codec": name} for name in ("gsm-fr", "g711-alaw")]
    lab.build()
    pack, _ = write_pack(lab.folder / "corpus", tmp_path / "tandem.tar.gz", progress=False)
    only = Selection(splits=("train",), conditions=("phone",), limit=2)
    told = rebuilt(pack, tmp_path / "theirs", {"train": lab.folder / "speech/train"}, selection=only)
    assert {row["codec"] for row in told.proof.rows() if row["condition"] == "phone"} == {"gsm-fr+g711-alaw"}
    assert "gsm-fr+g711-alaw " in told.proof.table()[-1]


def test_a_root_that_is_not_given_or_not_known_is_named(packed_lab, other_lab, tmp_path):
    _, pack = packed_lab
    with pytest.raises(UsageError, match="add --root hum=DIR"):
        rebuilt(pack, tmp_path / "theirs", {name: place for name, place in other_lab.items() if name != "hum"})
    with pytest.raises(UsageError, match="no such root"):
        rebuilt(pack, tmp_path / "theirs", other_lab | {"musan": tmp_path})
    assert not (tmp_path / "theirs").exists()


def test_a_part_is_rebuilt_with_the_sources_of_that_part_alone(packed_lab, other_lab, tmp_path, capfd):
    lab, pack = packed_lab
    only = Selection(splits=("train",), conditions=("phone",), limit=3)
    told = rebuilt(pack, tmp_path / "theirs", {"train": other_lab["train"]}, selection=only)
    assert capfd.readouterr() == ("", "")  # without progress nothing is shown, at no stage
    assert counts(told.proof) == (6, 0, 0)
    assert {row["condition"] for row in told.proof.rows()} == {"clean", "phone"}
    assert not verify(tmp_path / "theirs", progress=False).findings
    with differences(lab.folder / "corpus", tmp_path / "theirs") as found:
        assert found.pcm == {"identical": 6}
    with pytest.raises(OtherRecipeError):
        rebuilt(pack, tmp_path / "theirs", other_lab)
    with pytest.raises(UsageError, match="it has train, test"):
        rebuilt(pack, tmp_path / "new", other_lab, selection=Selection(splits=("dev",)))
    with pytest.raises(UsageError, match="select nothing of the pack"):
        rebuilt(pack, tmp_path / "new", other_lab, selection=Selection(splits=("test",), conditions=("phone",)))


def test_responses_of_another_thread_count_are_found_and_told_as_near(packed_lab, other_lab, tmp_path, monkeypatch):
    lab, pack = packed_lab

    def with_two_threads(top: Path) -> None:
        monkeypatch.setitem(image_source.PINNED, "num_threads", 2)
        for bank, planned in planned_rooms(lab.folder / "corpus").items():
            rows = [row for room in planned for row in write_room(top / "rooms", room, rate_hz=16_000)]
            write_bank(top / "rooms", bank, rows)

    told = rebuilt(repacked(pack, tmp_path / "two.tar.gz", with_two_threads), tmp_path / "theirs", other_lab)
    identical, near, different = counts(told.proof)
    assert (identical + near, different) == (52, 0)
    assert near > 0
    assert {row["condition"] for row in told.proof.rows() if row["near"]} == {"far"}
    lines = [json.loads(line) for line in (tmp_path / "theirs/rebuilt.jsonl").read_text().splitlines()]
    assert len(lines) == near
    assert all(line["deviation_lsb"] <= 0.5 for line in lines)
    assert not any("off by 0 LSB" in line["why"] or "within 0" in line["why"] for line in lines)


def test_other_numbers_in_the_plan_come_out_as_different(built_lab, tmp_path):
    """The fingerprints of one corpus held against another that has every SNR half a decibel higher."""
    from tests.oracles.tiny_corpus import RATE_HZ

    assert RATE_HZ == 16_000
    lab = copy.deepcopy(built_lab)
    steps = lab.recipe["conditions"]["noise"]["steps"][0]
    steps["snr_db"] = {"uniform": [0.5, 20.5]}
    lab.build(str(tmp_path / "louder"))
    with differences(built_lab.folder / "corpus", tmp_path / "louder") as found:
        assert found.pcm["near"] == 0
        assert found.pcm["different"] == 20
        assert found.counts["parameters"] > 0
        assert found.counts["recipe"] == 2


def test_a_decoder_that_gives_another_pcm_is_told_apart(packed_lab, other_lab, tmp_path, monkeypatch):
    from corpus_builder.render import corpus_waves

    _, pack = packed_lab
    plain = corpus_waves.read_stretch

    def rounded_otherwise(path: Path, **options: Any) -> Any:
        wave = plain(path, **options)
        return wave + 2.0**-17 if path.name == "u1.wav" else wave

    monkeypatch.setattr(corpus_waves, "read_stretch", rounded_otherwise)
    from tests.corpus_builder.conftest import Inline

    told = rebuilt(pack, tmp_path / "theirs", other_lab, executor=Inline())
    assert sum(told.proof.decoder_differs.values()) > 0
    lines = [json.loads(line) for line in (tmp_path / "theirs/rebuilt.jsonl").read_text().splitlines()]
    assert lines
    assert all(line["decoder_differs"] for line in lines)
    assert {line["verdict"] for line in lines} <= {"near", "different"}


def test_a_corpus_packs_to_the_same_bytes_without_a_time_name_or_path_in_it(packed_lab, tmp_path):
    lab, pack = packed_lab
    again, _ = write_pack(lab.folder / "corpus", tmp_path / "again.tar.gz", progress=False)
    assert again.read_bytes() == pack.read_bytes()
    assert pack.name == "small.tar.gz"
    content = gzip.decompress(pack.read_bytes())
    assert str(lab.folder).encode() not in content
    with tarfile.open(pack) as tar:
        infos = tar.getmembers()
    assert {(info.mtime, info.uid, info.uname, info.mode) for info in infos} == {(0, 0, "stillroom", 0o444)}
    assert not [info.name for info in infos if info.name.endswith((".tar", ".flac", ".wav"))]
    assert {"small/croissant.json", "small/README.md", "small/provenance.json"} <= {info.name for info in infos}


def test_a_moved_corpus_packs_to_the_same_bytes(packed_lab, tmp_path):
    lab, pack = packed_lab
    shutil.copytree(lab.folder / "corpus", tmp_path / "moved")
    again, _ = write_pack(tmp_path / "moved", tmp_path / "again.tar.gz", progress=False)
    assert again.read_bytes() == pack.read_bytes()


def test_the_source_list_has_both_digests_of_every_source(packed_lab, tmp_path):
    lab, pack = packed_lab
    opened = open_pack(pack, tmp_path / "open")
    found = {(one.root, one.path): one for one in opened.sources()}
    folders = {"train": "speech/train", "test": "speech/test", "hum": "noise"}
    assert len(found) == 17
    for (root, path), one in found.items():
        file = lab.folder / folders[root] / path
        wave, rate_hz = soundfile.read(file, dtype="float32")
        assert one.sha256 == file_digest(file)
        assert one.pcm_sha256 == bytes_digest(wave.astype("<f4").tobytes())
        assert (one.num_frames, one.rate_hz) == (wave.size, rate_hz)


@pytest.mark.parametrize("by", ["folder", "link"])
def test_a_text_that_names_a_folder_of_this_machine_is_not_packed(lab, tmp_path, by):
    lab.without_rooms()
    if by == "link":  # the root is a link, and the text says where it leads
        (lab.folder / "linked").symlink_to(lab.folder / "speech/train")
        lab.recipe["speech"]["train"]["dir"] = "linked"
    lab.build()
    corpus = lab.folder / "corpus"
    path = next((corpus / "plan").glob("train-*.jsonl"))
    content = path.read_bytes().replace(
        b'"copies":', b'"text":"%s/x.wav","copies":' % bytes(lab.folder / "speech/train"), 1
    )
    path.write_bytes(content)
    sums = (corpus / "SHA256SUMS").read_text().splitlines()
    new = [
        f"{file_digest(path)}  plan/{path.name}" if line.endswith(path.name) and "plan/" in line else line
        for line in sums
    ]
    (corpus / "SHA256SUMS").write_text("\n".join(new) + "\n")
    with pytest.raises(NamesThisMachineError, match="folder of this machine"):
        write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
    assert not (tmp_path / "p.tar.gz").exists()


def test_a_corpus_without_fingerprints_or_seal_is_not_packed(packed_lab, tmp_path):
    lab, _ = packed_lab
    shutil.copytree(lab.folder / "corpus", tmp_path / "old")
    shutil.rmtree(tmp_path / "old/proof")
    with pytest.raises(MissingFileError, match="build it again"):
        write_pack(tmp_path / "old", tmp_path / "p.tar.gz", progress=False)
    (tmp_path / "old/corpus.json").unlink()
    with pytest.raises(MissingFileError, match="a sealed corpus is needed"):
        write_pack(tmp_path / "old", tmp_path / "p.tar.gz", progress=False)
    with pytest.raises(UsageError, match="in the corpus itself"):
        write_pack(lab.folder / "corpus", lab.folder / "corpus/p.tar.gz", progress=False)


def test_differences_of_recipe_sources_and_utterances_are_lines_of_json(packed_lab, lab, tmp_path):
    built, pack = packed_lab
    lab.recipe["copies"]["train"].pop("phone")
    lab.speech("train", "s9", "new", seed=77)
    (lab.folder / "noise/n2.wav").write_bytes((lab.folder / "noise/n3.wav").read_bytes())
    lab.plan()
    with differences(pack, lab.folder / "plan") as found:
        lines = [json.loads(line) for line in found.every()]
        summary = found.summary()
    assert len(summary) <= 24
    assert {"part": "recipe", "path": "copies.train.phone", "a": 1, "b": "absent"} in lines
    assert {"part": "utterances", "split": "train", "id": "new", "only": "b"} in lines
    assert any(line["part"] == "sources" and line["path"] == "n2.wav" and line["a"] != line["b"] for line in lines)
    assert sum(line["part"] == "conditions" and line["only"] == "a" for line in lines) == 8
    assert found.pcm is None
    with differences(pack, built.folder / "corpus") as same:
        assert not same.any
        assert same.pcm == {"identical": 52}


def test_waves_held_against_themselves_moved_by_a_sample_are_different(packed_lab, tmp_path):
    """A corpus whose copies all come one sample late, with indexes and fingerprints that say so."""
    from corpus_builder.rebuild.wave_verdict import Indexed, compared
    from corpus_builder.shards.fingerprint import fingerprint, signs

    lab, _ = packed_lab
    from corpus_builder.rebuild.wave_verdict import shard_samples
    from manifests.corpus.layout import plain_rows

    corpus = lab.folder / "corpus"
    told = []
    for row in plain_rows(corpus, "train-000000"):
        first = shard_samples(corpus, "train-000000", tars=corpus)[row["key"]]
        names = [name for name in first.sample.members if name != "json"]
        moved = {name: np.roll(first.pcm(name), 1) for name in names}
        prints = {}
        for name in names:
            # a coded copy keeps its fingerprint from before the codec: only what came after was late
            uncoded = moved[name] / 32768.0 if len(first.prints[name]) > 44 else None
            prints[name] = fingerprint(moved[name], signs(row["key"], moved[name].size), uncoded=uncoded)
        members = {
            name: member if name == "json" else member.model_copy(update={"pcm_sha256": "0" * 64})
            for name, member in first.sample.members.items()
        }
        second = Indexed(first.sample.model_copy(update={"members": members}), prints)
        told += list(compared(row, first, second))
    assert told
    assert {one.verdict for one in told} == {"different"}


def test_the_command_lists_what_is_wrong_and_leaves_with_1(packed_lab, other_lab, tmp_path):
    from click.testing import CliRunner

    from stillroom.cli import stillroom

    _, pack = packed_lab
    (other_lab["hum"] / "n1.wav").unlink()
    roots = [f"--root={name}={place}" for name, place in other_lab.items()]
    told = CliRunner().invoke(stillroom, ["rebuild", str(pack), str(tmp_path / "theirs"), *roots])
    assert told.exit_code == 1
    assert "hum: n1.wav is missing" in told.output
    same = CliRunner().invoke(stillroom, ["diff", str(pack), str(pack)])
    assert same.exit_code == 0
    assert "52 identical" in same.output
    stream = io.StringIO(same.output)
    assert len(stream.readlines()) <= 24


def test_recorded_responses_are_sources_and_not_packed(lab, tmp_path):
    from tests.oracles.measured_response import measured_response

    lab.recipe["rooms"] = {"taken": {"responses": {"dir": "rirs", "fields": "{room}/{place}.wav"}}}
    lab.recipe["conditions"]["far"]["steps"][0]["bank"] = "taken"
    lab.recipe["copies"] = {"train": {"far": 1}, "test": {"noise": 1}}
    for room in range(4):
        for place in range(2):
            wave = 0.5 * measured_response(seed=10 * room + place, t60_s=0.2, tail=0.05, seconds=0.5)[0]
            path = lab.folder / f"rirs/room{room}/{place}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wave, 16_000, subtype="FLOAT")
    lab.build()
    pack, held = write_pack(lab.folder / "corpus", tmp_path / "p.tar.gz", progress=False)
    assert held.responses == 0
    with tarfile.open(pack) as tar:
        assert not [name for name in tar.getnames() if name.endswith(".npy")]
    roots = {"train": "speech/train", "test": "speech/test", "hum": "noise", "taken": "rirs"}
    places = {name: lab.folder / folder for name, folder in roots.items()}
    assert counts(rebuilt(pack, tmp_path / "theirs", places).proof) == (24, 0, 0)
    alone = rebuilt(
        pack, tmp_path / "part", {"test": places["test"], "hum": places["hum"]}, selection=Selection(splits=("test",))
    )
    assert counts(alone.proof) == (8, 0, 0)
    content = bytearray((lab.folder / "rirs/room1/0.wav").read_bytes())
    content[-1] ^= 1
    (lab.folder / "rirs/room1/0.wav").write_bytes(content)
    with pytest.raises(SourcesDifferError) as caught:
        rebuilt(pack, tmp_path / "again", places)
    assert [problem.path for problem in caught.value.problems] == ["room1/0.wav"]


def test_what_is_compared_with_something_that_is_not_there_is_named_as_it_was_typed(built_lab, tmp_path):
    with pytest.raises(MissingFileError) as raised, differences(built_lab.folder / "corpus", tmp_path / "gone.tar.gz"):
        pass
    assert str(raised.value).startswith(f"{tmp_path / 'gone.tar.gz'} does not exist: ")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "packs", "x.gz"])
def test_a_pack_under_a_name_that_says_something_else_is_refused(packed_lab, tmp_path, name):
    lab, _ = packed_lab
    with pytest.raises(UsageError, match=r"ends in \.tar\.gz, or an existing folder") as told:
        write_pack(lab.folder / "corpus", tmp_path / name, progress=False)
    assert name in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_user_without_a_folder_of_their_own_packs_and_seals(packed_lab, tmp_path, monkeypatch):
    """As in a container whose user has no name."""

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", nobody)
    lab, pack = packed_lab
    again, _ = write_pack(lab.folder / "corpus", tmp_path / "again.tgz", progress=False)
    assert again.read_bytes() == pack.read_bytes()
    assert public_argument("--root=x=/srv/data") == "--root=x=data"


def test_an_unpacked_pack_tells_the_digests_of_its_sources(packed_lab, tmp_path):
    """To `diff` and to `audit`; one of its sources is then said to be another file."""

    _, pack = packed_lab
    repacked(pack, tmp_path / "edited.tar.gz", lambda top: None)
    folder = next((tmp_path / "unpacked").iterdir())
    with differences(pack, folder) as same:
        assert not same.any
    lines = (folder / "sources.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    (folder / "sources.jsonl").write_text("\n".join([json.dumps(first | {"sha256": 64 * "0"}), *lines[1:]]) + "\n")
    with differences(pack, folder) as found:
        (told,) = map(json.loads, found.every())
    assert (told["part"], told["root"], told["path"], told["b"]) == ("sources", first["root"], first["path"], 64 * "0")
    told = audit((folder,), roots={}, sound="none", progress=False)
    assert [one for one in told.unchecked if one.kind == "recording"] == []


def test_a_part_without_its_roots_is_built_with_those_alone_that_it_reads(packed_lab, other_lab, tmp_path):
    """What the recipe names besides is not asked for."""
    _, pack = packed_lab
    only = Selection(splits=("train",), conditions=("phone",), limit=2)
    rebuilt(pack, tmp_path / "part", {"train": other_lab["train"]}, selection=only)
    shutil.copytree(tmp_path / "part", tmp_path / "plan")
    for name in ("roots.local.json", "corpus.json"):
        (tmp_path / "plan" / name).unlink()
    shutil.rmtree(tmp_path / "plan" / "shards")
    with pytest.raises(UsageError, match=r"add --root train=DIR$"):
        build(tmp_path / "plan", tmp_path / "again", progress=False)
    made = build(tmp_path / "plan", tmp_path / "again", roots={"train": other_lab["train"]}, progress=False)
    assert made.corpus is not None
    with differences(tmp_path / "part", tmp_path / "again") as found:
        assert not found.any


def test_what_cannot_be_compared_is_said_before_a_long_look(built_lab, tmp_path):
    from click.testing import CliRunner

    from stillroom.cli import stillroom

    told = CliRunner().invoke(
        stillroom, ["verify", str(built_lab.folder / "corpus"), "--against", str(tmp_path / "gone.tar.gz")]
    )
    assert isinstance(told.exception, MissingFileError)
    assert "as it should be" not in told.output


@pytest.mark.parametrize("verb", ["subset", "unpack", "lhotse", "plan", "index"])
def test_a_url_where_only_a_disk_is_written_is_refused_and_no_folder_of_its_name_made(
    packed_lab, tmp_path, monkeypatch, verb
):
    from click.testing import CliRunner

    from stillroom.cli import stillroom

    lab, _ = packed_lab
    monkeypatch.chdir(tmp_path)
    corpus, url = str(lab.folder / "corpus"), "s3://bucket/there"
    words = {
        "subset": [corpus, url, "--where", "split=test"],
        "unpack": [corpus, url, "--condition", "noise"], "lhotse": [corpus, url], "plan": [str(lab.folder / "recipe.yaml"), url],
        "index": [f"{corpus}/shards", "--out", url],
    }  # fmt: skip
    told = CliRunner().invoke(stillroom, [verb, *words[verb]])
    assert isinstance(told.exception, UsageError)
    assert f"got the URL {url}" in str(told.exception)
    assert not list(tmp_path.glob("s3*"))
