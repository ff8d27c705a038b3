import copy

import pytest

from manifests.errors import BadDocumentError
from manifests.io.digest import digest
from manifests.io.yaml12 import parse_yaml
from manifests.recipe.recipe import Recipe
from manifests.recipe.steps import CodecStep

TEXT = b"""
schema: stillroom/recipe/1
name: tiny
seed: 7
sample_rate: 16000
speech:
  train: {cuts: train_cuts.jsonl.gz, strip: /old/prefix, channel: 0, min_s: 1, max_s: 30}
  test:  {dir: /data/test, pattern: "**/*.flac", fields: "{speaker}/{id}.flac"}
noises:
  musan:  {cuts: musan_cuts.jsonl.gz}
  wham:   {train: {dir: tr}, test: {dir: tt}}
  babble: {talkers: {uniform_int: [3, 7]}}
  white:  {colour: white}
rooms:
  office: {rooms: 200, size_m: [[3, 3, 2.4], [8, 6, 3.5]], rt60_s: {uniform: [0.2, 0.8]}, distance_m: {uniform: [0.5, 3]}}
conditions:
  noise: {steps: [{kind: noise, from: [musan, white], snr_db: {uniform: [0, 20]}}]}
  far:   {steps: [{kind: room, bank: office}, {kind: noise, from: [babble], snr_db: {uniform: [5, 20]}, in_room: true}]}
  phone: {steps: [{kind: codec, codec: {choice: [g711-mulaw, amr-nb]}}]}
  some:  {steps: [{choose: [[{kind: noise, from: [white], snr_db: 3}], []]}]}
copies:
  train: {noise: 1, far: 1, phone: 1}
  test:  {noise: 1, far: 1, phone: 1}
shards: {samples: 512}
"""


def recipe_data():
    return parse_yaml(TEXT, where="recipe.yaml")


def changed(path, value):
    data = copy.deepcopy(recipe_data())
    place = data
    *parents, last = path.split(".")
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    key = int(last) if isinstance(place, list) else last
    if value is KeyError:
        del place[key]
    else:
        place[key] = value
    return data


@pytest.mark.parametrize(
    "loss",
    [
        {"percent": 10},
        {"percent": {"uniform": [1, 20]}, "conceal": "repeat"},
        {"percent": 10, "burst_packets": 3},
        {"percent": 10, "burst_packets": 20, "bad_percent": 50, "good_percent": 1},
    ],
)
def test_lost_packets_are_read_and_written_back_the_same(loss):
    step = {"kind": "codec", "codec": "opus", "loss": loss}
    recipe = Recipe.parse(changed("conditions.phone.steps", [step]), where="recipe.yaml")
    assert Recipe.parse(recipe.plain(), where="published") == recipe


def test_shares_of_a_bad_state_without_bursts_are_refused():
    step = {"kind": "codec", "codec": "opus", "loss": {"percent": 10, "bad_percent": 50}}
    with pytest.raises(BadDocumentError, match="burst_packets is missing"):
        Recipe.parse(changed("conditions.phone.steps", [step]), where="recipe.yaml")


def test_the_designs_own_example_is_read_and_written_back_the_same():
    recipe = Recipe.parse(recipe_data(), where="recipe.yaml")
    again = Recipe.parse(recipe.plain(), where="again")
    assert again == recipe
    assert digest(again) == digest(recipe)
    assert set(recipe.source_roots()) == {"train", "test", "musan", "wham-train", "wham-test"}
    step = recipe.conditions["phone"].steps[0]
    assert isinstance(step, CodecStep)
    assert step.codec.values == ("g711-mulaw", "amr-nb")


def test_sources_of_one_root_are_known_by_it_and_not_by_their_names():
    data = changed("speech.train.root", "libri")
    data["speech"]["test"]["root"] = "libri"
    data["noises"]["wham"]["test"]["root"] = "whamset"
    roots = Recipe.parse(data, where="recipe.yaml").source_roots()
    assert set(roots) == {"libri", "musan", "wham-train", "whamset"}
    assert roots["whamset"].dir == data["noises"]["wham"]["test"]["dir"]


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("sede", 1, "sede: unknown key (did you mean 'seed'?)"),
        ("conditions.noise.steps.0.snr", 3, "conditions.noise.steps.0.snr: unknown key (did you mean 'snr_db'?)"),
        ("conditions.noise.steps.0.snr_db", {"uniform": [20, 0]}, "conditions.noise.steps.0.snr_db: uniform: [20, 0] is upside down; write [0, 20]"),
        ("conditions.noise.steps.0.snr_db", {"uniform": [0]}, "uniform needs two numbers"),
        ("conditions.noise.steps.0.snr_db", "loud", "expected numbers, got 'loud'"),
        ("conditions.noise.steps.0.snr_db", 500, "500 is outside [-60, 100]"),
        ("conditions.noise.steps.0.snr_db", True, "got a boolean"),
        ("conditions.noise.steps.0.snr_db", KeyError, "conditions.noise.steps.0.snr_db: this key is missing"),
        ("conditions.noise.steps.0.from", ["wahm"], "no noise source 'wahm'"),
        ("conditions.noise.steps.0.in_room", True, "no room step comes before"),
        ("conditions.far.steps.0.bank", "hall", "no bank 'hall'"),
        ("rooms.office.positions", 1, "has one position"),
        ("rooms.office.distance_m", 19, "19 m does not fit into the largest room"),
        ("rooms.office.size_m", [[9, 3, 2], [8, 6, 3]], "write the smallest size first"),
        ("rooms.office.rt60_s", 9, "9 is outside [0.1, 3]"),
        ("conditions.phone.steps.0.codec", "mp4", "unknown codec 'mp4'"),
        ("conditions.phone.steps.0.kind", "codex", "kind: expected one of noise, room, codec"),
        ("conditions.Loud", {"steps": [{"kind": "codec", "codec": "opus"}]}, "conditions.Loud"),
        ("conditions.clean", {"steps": [{"kind": "codec", "codec": "opus"}]}, "'clean' is reserved"),
        ("copies.valid", {"noise": 1}, "copies.valid: no such split"),
        ("copies.train.nois", 1, "copies.train.nois: no such condition"),
        ("copies.train.noise", -1, "copies.train.noise"),
        ("noises.white.color", "red", "noises.white.color: unknown key (did you mean 'colour'?)"),
        ("noises.white", {"color": "white"}, "noises.white.color: unknown key (did you mean 'colour'?)"),
        ("noises.babble", {"talker": 3}, "noises.babble.talker: unknown key (did you mean 'talkers'?)"),
        ("noises.wham.valid", {"dir": "x"}, "noises.wham.valid"),
        ("noises.train", {"colour": "white"}, "'train' names both"),
        ("noises.babble.talkers", {"uniform": [3, 7]}, "use uniform_int"),
        ("speech.train", {}, "exactly one of cuts"),
        ("speech.test.fields", "(?P<x>a+)+", "a template such as"),
        ("speech.test.pattern", "../*.wav", "speech.test.pattern: expected a pattern below dir, such as '**/*.flac', got '../*.wav'"),
        ("speech.train.min_s", 99, "min_s 99 is above max_s 30"),
        ("schema", "stillroom/recipe/2", "install a newer one"),
        ("schema", "stillroom/plan/1", "expected 'stillroom/recipe/1'"),
        ("schema", KeyError, "schema: this key is missing, expected 'stillroom/recipe/1'"),
        ("seed", "x", "seed: expected a whole number, got 'x'"),
        ("seed", 7.5, "seed: expected a whole number, got '7.5'"),
        ("seed", -1, "seed: expected a number >= 0, got '-1'"),
        ("conditions.noise.steps.0.snr_db", {"choice": [5, "loud"]}, "expected numbers, got 'loud'"),
        ("conditions.noise.steps.0.from", [], "conditions.noise.steps.0.from: expected a length of at least 1, got '[]'"),
        ("conditions.noise.steps.0.from", "musan", "conditions.noise.steps.0.from: expected a list, got 'musan'"),
        ("rooms.office.size_m", [3, 3, 3], "rooms.office.size_m: expected a length of at most 2"),
        ("name", "a/b", "name: expected a text that matches ^[A-Za-z][A-Za-z0-9_-]{0,63}$, got 'a/b'"),
        ("speech.train.max_s", 0, "speech.train.max_s: expected a number > 0, got '0'"),
        ("copies.train", 3, "copies.train: expected a mapping, got '3'"),
        ("sample_rate", 4000, "sample_rate"),
        ("seed", 2**63, f"seed: expected a number < {2**63}, got '{2**63}'"),
        ("seed", "7", "seed: expected a whole number, got '7'"),
        ("copies.valid", {"noise": 1}, "copies.valid: no such split under speech; known are train, test"),
        ("copies.train.nois", 1, "copies.train.nois: no such condition; known are noise, far, phone, some"),
        ("conditions.far.steps.0.bank", "hall", "conditions.far.steps.0.bank: no bank 'hall' under rooms; known are office"),
        ("conditions.noise.steps.0.from", ["white", "wahm"], "conditions.noise.steps.0.from: no noise source 'wahm' under noises; known are musan, wham, babble, white"),
        ("conditions.some.steps.0.choose.1", [{"kind": "codec", "codec": "opus"}, {"kind": "room", "bank": "hall"}], "conditions.some.steps.0.choose.1.1.bank: no bank 'hall'"),
        ("conditions.some.steps.0.choose.0.0.from", ["hum"], "conditions.some.steps.0.choose.0.0.from: no noise source 'hum'"),
        ("noises.wham.valid", {"dir": "tv"}, "noises.wham.valid: neither a key of a noise source (dir, cuts, colour, talkers) nor a split under speech (train, test)"),
        ("conditions.noise.steps.0.snr_db", False, "got a boolean"),
        ("conditions.noise.steps.0.snr_db", {"uniform": ["a", 3]}, "uniform needs two numbers, [low, high]"),
        ("conditions.noise.steps.0.snr_db", {"log_uniform": [0, 9]}, "log_uniform needs numbers above 0, found 0"),
        ("conditions.noise.steps.0.snr_db", {"choice": "x"}, "choice needs a list, such as choice: [1, 2]"),
        ("rooms.office.microphone_height_m", 3.4, "microphone_height_m: 3.4 m does not fit under the highest ceiling, 3.5 m"),
        ("rooms.office.distance_m", {"uniform": [1, 19]}, "distance_m: 19 m does not fit into the largest room, [8.0, 6.0, 3.5] m (diagonal 10.6 m)"),
        ("rooms.office.size_m", [[9, 3, 2], [8, 6, 3]], "size_m: [9.0, 3.0, 2.0] is larger than [8.0, 6.0, 3.0]; write the smallest size first"),
        ("speech.train.min_s", 40, "min_s 40 is above max_s 30"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_one_line_with_the_path(path, value, line):
    with pytest.raises(BadDocumentError) as problem:
        Recipe.parse(changed(path, value), where="recipe.yaml")
    message = str(problem.value)
    assert message.startswith("recipe.yaml: ")
    assert line in message
    assert "\n" not in message


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_something_that_is_no_recipe_is_said_to_be_none(data):
    with pytest.raises(BadDocumentError, match="expected a mapping"):
        Recipe.parse(data, where="x.yaml")


@pytest.mark.parametrize("version", ["0", "00", "x", "-1", "1.0", ""])
def test_a_version_counts_from_1(version):
    with pytest.raises(BadDocumentError, match="has no version"):
        Recipe.parse({"schema": f"stillroom/recipe/{version}"}, where="x.yaml")


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_the_first_three_faults_are_told_and_how_many_more_there_are(count):
    with pytest.raises(BadDocumentError) as problem:
        Recipe.parse(
            {"schema": "stillroom/recipe/1", "name": "x", "speech": {"train": {"dir": "x"}}}
            | {f"zz{number}": 1 for number in range(count)},
            where="x.yaml",
        )
    assert str(problem.value).count("unknown key") == min(count, 3)
    assert str(problem.value).partition("; and ")[2] == (f"{count - 3} more" if count > 3 else "")
