"""The recipes of the study, as data: what students are trained on, and what they are measured on.

Noises come divided (`data.py`), so that no recording is on two sides whatever the seed. Rooms of a corpus are drawn by its own
seed; the evaluation corpora draw theirs by seeds of their own, so a tested room is never a trained one.
"""

from __future__ import annotations

from typing import Any

Recipe = dict[str, Any]

NOISY = {"kind": "noise", "from": ["ambience", "white"], "snr_db": {"uniform": [0, 15]}}
NEAR = {"kind": "room", "bank": "home"}
PHONE = {"kind": "codec", "codec": {"choice": ["g711-mulaw", "gsm-fr", "amr-nb"]}}
SEEN: Recipe = {
    "noise": {"steps": [NOISY]},
    "room": {"steps": [NEAR]},
    "roomy": {"steps": [NEAR, {**NOISY, "in_room": True}]},
    "phone": {"steps": [PHONE]},
}
NEW = {
    "dev": {
        "pink": {"steps": [{"kind": "noise", "from": ["pink"], "snr_db": {"uniform": [0, 15]}}]},
        "tilt": {"steps": [{"kind": "tilt", "db_per_octave": {"choice": [-9, -6, 6, 9]}}]},
        "resample": {"steps": [{"kind": "resample", "rate_hz": {"choice": [4000, 6000]}}]},
        "opus": {"steps": [{"kind": "codec", "codec": "opus", "bitrate_kbps": 24}]},
    },
    "test": {
        "music": {"steps": [{"kind": "noise", "from": ["music"], "snr_db": {"uniform": [0, 15]}}]},
        "babble": {"steps": [{"kind": "noise", "from": ["babble"], "snr_db": {"uniform": [0, 15]}}]},
        "far": {"steps": [{"kind": "room", "bank": "hall"}]},
        "lowrate": {"steps": [{"choose": [
            [{"kind": "codec", "codec": "opus", "bitrate_kbps": 6}],
            [{"kind": "codec", "codec": "vorbis", "bitrate_kbps": 24}],
        ]}]},
        "clip": {"steps": [{"kind": "clip", "percent": {"uniform": [5, 30]}}]},
        "band": {"steps": [{"choose": [
            [{"kind": "lowpass", "cutoff_hz": {"uniform": [1000, 2000]}}],
            [{"kind": "highpass", "cutoff_hz": {"uniform": [600, 1200]}}],
        ]}]},
    },
}  # fmt: skip
NEW_NAMES = {side: tuple(conditions) for side, conditions in NEW.items()}
CORPUS_SEEDS = {"main-a": 101, "main-b": 202}
EVALUATION_SEEDS = {"dev": 303, "test": 404}
HOME = {"rooms": 60, "size_m": [[3, 3, 2.4], [8, 6, 3.5]], "rt60_s": {"uniform": [0.2, 0.6]}, "distance_m": {"uniform": [0.5, 3]}}  # fmt: skip
HALL = {"rooms": 24, "size_m": [[6, 5, 3], [12, 9, 4.5]], "rt60_s": {"uniform": [0.7, 1.0]}, "distance_m": {"uniform": [2, 4]}}  # fmt: skip


def table(folder: str) -> Recipe:
    """A split's folder with its labels."""
    return {"dir": folder, "table": "labels.csv", "min_s": 0.2, "max_s": 20}


def base(name: str, *, seed: int, splits: dict[str, Recipe]) -> Recipe:
    """What every recipe of the study has."""
    noises = {
        "ambience": {split: {"dir": f"noise/{split}"} for split in splits},
        "white": {"colour": "white"},
    }
    return {"schema": "stillroom/recipe/1", "name": name, "seed": seed, "sample_rate": 16_000, "speech": splits,
            "noises": noises, "rooms": {"home": HOME}, "shards": {"samples": 128}}  # fmt: skip


def training_recipe(corpus: str, *, rooms: int | None = None) -> Recipe:
    """`main-a`, `main-b`: one copy of each seen kind."""
    splits = {split: table(f"speech/{split}") for split in ("train", "dev")}
    recipe = base(f"robustness-{corpus}", seed=CORPUS_SEEDS[corpus], splits=splits)
    recipe["conditions"] = SEEN
    recipe["copies"] = dict.fromkeys(splits, dict.fromkeys(SEEN, 1))
    return with_rooms(recipe, rooms)


def evaluation_recipe(side: str, *, rooms: int | None = None) -> Recipe:
    """What is measured: clean train for the probes, and the tested split with one copy of each condition.

    Train has one copy of each utterance too, of the mixture of seen kinds (`matched`), for probes that are trained on distorted speech; its
    noises are those of training. `dev` has dev voices, noises and kinds, for tuning; `test` has test's, and dev's clean speech to choose the
    probes by.
    """
    names = ("train", "dev") if side == "dev" else ("train", "dev", "test")
    recipe = base(
        f"robustness-{side}", seed=EVALUATION_SEEDS[side], splits={name: table(f"eval/{name}") for name in names}
    )
    recipe["noises"]["ambience"] = {split: {"dir": f"noise/{split}"} for split in ("train", side)}
    if side == "dev":
        recipe["noises"]["pink"] = {"colour": "pink"}
    else:
        recipe["noises"] |= {"music": {"test": {"dir": "music/test"}}, "babble": {"talkers": {"uniform_int": [3, 7]}}}
        recipe["rooms"] = {"home": HOME, "hall": HALL}
    tested = {**SEEN, **NEW[side]}
    recipe["conditions"] = {**tested, "matched": {"steps": [{"choose": [one["steps"] for one in SEEN.values()]}]}}
    recipe["copies"] = {side: dict.fromkeys(tested, 1), "train": {"matched": 1}}
    return with_rooms(recipe, rooms)


def with_rooms(recipe: Recipe, rooms: int | None) -> Recipe:
    """Fewer rooms, for the smoke test."""
    if rooms is None:
        return recipe
    return {**recipe, "rooms": {name: {**bank, "rooms": rooms} for name, bank in recipe["rooms"].items()}}


def roots_of(recipe: Recipe) -> dict[str, str]:
    """Folder below the study's data, or below the prepared data for students' speech, by the name of each root."""
    roots = {split: source["dir"] for split, source in recipe["speech"].items()}
    for name, noise in recipe["noises"].items():
        roots |= {f"{name}-{split}": source["dir"] for split, source in noise.items() if isinstance(source, dict) and "dir" in source}  # fmt: skip
    return roots
