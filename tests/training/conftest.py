"""A tiny sealed corpus written from the manifests alone, and a tiny teacher, so that these tests need no builder."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from manifests.corpus.sample import Sample, sample_key
from manifests.corpus.shard_index import Corpus, IndexedSample, Member, ShardEntry, ShardIndex, Totals
from manifests.io.digest import bytes_digest, canonical_json
from manifests.io.tar import TarBuilder

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16000
NOUGHT = "0" * 64
# Of a copy by its name, or by its condition; all else is noise.
FAMILIES = {"phone": "codec", "room": "room", "pitch": "channel", "double-1": "room", "double-2": "clean"}
CONV = [[16, 10, 5], [16, 3, 2], [16, 3, 2], [16, 3, 2], [16, 3, 2], [16, 2, 2], [16, 2, 2]]


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models are faster on one thread, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flac(pcm):
    content = io.BytesIO()
    soundfile.write(content, pcm, RATE_HZ, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def write_corpus(
    folder: Path,
    *,
    shards=3,
    samples=8,
    copies=("noise-0", "phone-0", "room-0"),
    splits=("train", "dev"),
    lengths_s=(0.3, 1.2),
    seed=0,
    distort=True,
    volume=1.0,
):
    """Noise with a tone per utterance; copies are the clean wave with noise, quieter or smeared. PCM is kept for comparison."""
    random = np.random.RandomState(seed)
    pcm = {}
    entries = {split: [] for split in splits}
    (folder / "shards").mkdir(parents=True)
    for split in splits:
        for number in range(shards if split == "train" else 1):
            name = f"{split}-{number:06d}"
            indexed = []
            total = 0
            with (folder / "shards" / f"{name}.tar").open("wb") as stream:
                tar = TarBuilder(stream)
                for place in range(samples):
                    identity = f"{split}/{number}/utt.{place}"
                    length = int(RATE_HZ * random.uniform(*lengths_s))
                    total += length
                    time = np.arange(length) / RATE_HZ
                    clean = 0.2 * np.sin(2 * np.pi * random.uniform(80, 400) * time) + 0.02 * random.standard_normal(
                        length
                    )
                    waves = {"clean": clean}
                    for copy in copies:
                        noise = np.random.RandomState(length).standard_normal(length)
                        if not distort:
                            waves[copy] = clean
                            continue
                        waves[copy] = {"noise": clean + 0.1 * noise, "phone": 0.5 * np.clip(clean, -0.1, 0.1)}.get(
                            copy.split("-")[0], clean + 0.5 * np.roll(clean, 400 + int(copy[-1]))
                        )
                    waves = {key: (np.clip(volume * wave, -1, 1) * 32767).astype("<i2") for key, wave in waves.items()}
                    indexed.append(add_sample(tar, identity, split, waves, pcm))
                tar.close()
            content = (folder / "shards" / f"{name}.tar").read_bytes()
            index = ShardIndex(
                schema=ShardIndex.SCHEMA,
                name=name,
                split=split,
                sample_rate=RATE_HZ,
                bytes=len(content),
                sha256=bytes_digest(content),
                plan_sha256=NOUGHT,
                samples=tuple(indexed),
            )
            index.write(folder / "shards" / f"{name}.json")
            entries[split].append(
                ShardEntry(name=name, samples=samples, seconds=total / RATE_HZ, bytes=len(content), sha256=index.sha256)
            )
    conditions = [copy.rpartition("-")[0] for copy in copies]
    every = [entry for split in splits for entry in entries[split]]
    Corpus(
        schema=Corpus.SCHEMA,
        name="tiny",
        recipe_sha256=NOUGHT,
        plan_sha256=hashlib.sha256(repr((seed, copies)).encode()).hexdigest(),
        sample_rate=RATE_HZ,
        splits={split: tuple(entries[split]) for split in splits},
        copies={split: {condition: conditions.count(condition) for condition in conditions} for split in splits},
        totals=Totals(
            samples=sum(entry.samples for entry in every),
            seconds=sum(entry.seconds for entry in every),
            bytes=sum(entry.bytes for entry in every),
            shards=len(every),
        ),
    ).write(folder / "corpus.json")
    return pcm


def add_sample(tar, identity, split, waves, pcm):
    key = sample_key(identity)
    length = len(waves["clean"])
    record = Sample.parse(
        {
            "schema": "stillroom/sample/1",
            "id": identity,
            "split": split,
            "num_samples": length,
            "sample_rate": RATE_HZ,
            "source": {"root": "train", "path": f"{identity}.flac", "rate_hz": RATE_HZ},
            "copies": [
                {
                    "name": name,
                    "condition": name.rpartition("-")[0],
                    "domain": "clean",
                    "family": FAMILIES.get(name) or FAMILIES.get(name.rpartition("-")[0], "noise"),
                    "gain_db": 0.0,
                    "steps": [{"kind": "pitch", "cents": 300.0}] if name.startswith("pitch") else [],
                }
                for name in waves
                if name != "clean"
            ],
        },
        where="test",
    )
    entry = tar.add(f"{key}.json", canonical_json(record))
    members = {"json": Member(offset=entry.offset, size=entry.size)}
    for name, wave in waves.items():
        entry = tar.add(f"{key}.{name}.flac", flac(wave))
        members[name] = Member(offset=entry.offset, size=entry.size, pcm_sha256=bytes_digest(wave.tobytes()))
        pcm[key, name] = wave
    return IndexedSample(key=key, num_samples=length, members=members)


def encoder_config(*, layers=3, family="wav2vec2", mode="group_norm", first=False, normalise=False):
    return {
        "family": family,
        "sample_rate": RATE_HZ,
        "normalize_waveform": normalise,
        "extractor_mode": mode,
        "extractor_conv_layer_config": CONV,
        "extractor_conv_bias": mode == "layer_norm",
        "encoder_embed_dim": 24,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": layers,
        "encoder_num_heads": 2,
        "encoder_num_buckets": 32 if family == "wavlm" else None,
        "encoder_max_distance": 64 if family == "wavlm" else None,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 48,
        "encoder_ff_interm_dropout": 0.1,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": first,
        "encoder_layer_drop": 0.05,
        "aux_num_out": None,
    }


def write_teacher(folder: Path, *, seed=0, **shape):
    """A teacher's folder with random weights, large enough to tell inputs apart."""
    from training.models.encoder import EncoderConfig

    config = encoder_config(**shape)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = EncoderConfig.parse(config, where="test").build()
        for name, parameter in trunk.named_parameters():
            if parameter.ndim > 1 and "pos_conv" not in name:
                torch.nn.init.xavier_normal_(parameter)
    safetensors.torch.save_file(trunk.state_dict(), folder / "weights.safetensors")
    (folder / "heard.txt").write_text("0123456789abcdef\n")
    return folder


def random_encoder(*, changes=(), trained_on=(), facts=None, name="made", seed=0, **shape):
    """An encoder of a shape of `encoder_config` with some keys changed, its weights as those of a teacher."""
    from training.models.encoder import Encoder, EncoderConfig

    config = EncoderConfig.parse({**encoder_config(**shape), **dict(changes)}, where="test")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = config.build()
        for key, parameter in trunk.named_parameters():
            if parameter.ndim > 1 and "pos_conv" not in key:
                torch.nn.init.xavier_normal_(parameter)
    return Encoder(trunk, config, name=name, trained_on=frozenset(trained_on), facts=facts)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "tiny"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher") / "small")
