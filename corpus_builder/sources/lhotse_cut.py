"""Converts a lhotse cut to an utterance: file, channel, stretch in samples, text, speaker and custom fields; or gives a reason why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.decode import HIGHEST_HZ, LOWEST_HZ
from corpus_builder.sources.utterance import Found, Refused, UnfitTextError, Utterance, check_text
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from manifests.recipe.speech import Channel

CUT_THROUGH = "supervisions_cut_through"
TIMES_ROUNDED_S = 0.01
AS_FILES = "make plain files of it first (lhotse's cuts.save_audios(FOLDER) returns cuts of them)"


def cut_utterance(cut: Any, *, wanted_channel: Channel | None, whole: bool = False) -> Found:
    """One cut, or a reason why it cannot be used.

    Args:
        cut: Lhotse's, or already refused.
        wanted_channel: The recipe's channel.
        whole: Take the whole recording instead of the cut's stretch.
    """
    if isinstance(cut, Refused):
        return cut
    try:
        return checked_utterance(cut, wanted_channel=wanted_channel, whole=whole)
    except (TypeError, AttributeError, ValueError, ArithmeticError, LookupError) as problem:
        if isinstance(problem, StillroomError):
            raise
        # lhotse takes any type for any field, and fails where the field is used
        return Refused(printable(cut.id), f"a field of it has a wrong type or value: {printable(problem, limit=100)}")


def checked_utterance(cut: Any, *, wanted_channel: Channel | None, whole: bool) -> Found:
    """One cut whose fields are of the right types, or a reason why it cannot be used."""
    reason = unfit_reason(cut, wanted_channel)
    if reason is not None:
        return Refused(printable(cut.id), reason)
    recording = cut.recording
    channel = chosen_channel(cut, wanted_channel)
    first = cut_channels(cut)[0] if channel == "mix" else channel
    audio = next(source for source in recording.sources if first in source.channels)
    start = sample_number(cut.start, recording.sampling_rate)
    num_frames = sample_number(cut.duration, recording.sampling_rate)
    if whole:
        start, num_frames = 0, recording.num_samples
    elif start + num_frames == recording.num_samples + 1:  # lhotse rounds start and duration apart
        num_frames -= 1
    if num_frames < 1:
        return Refused(printable(cut.id), "has no samples")
    if start + num_frames > recording.num_samples:
        return Refused(printable(cut.id), f"ends after {recording.duration:g} s, where its recording ends")
    supervisions = supervisions_of(cut, channel)
    utterance = Utterance(
        id=str(cut.id),
        path=audio.source,
        start_s=start / recording.sampling_rate,
        num_frames=num_frames,
        rate_hz=recording.sampling_rate,
        channel=channel if channel == "mix" else audio.channels.index(channel) if len(audio.channels) > 1 else None,
        custom=custom_fields(cut, supervisions) | cut_through(cut, supervisions),
        **supervised(supervisions),
    )
    try:
        check_text(
            utterance.id, utterance.path, utterance.text or "", utterance.speaker or "", utterance.language or "",
            json.dumps(utterance.custom, ensure_ascii=False) if utterance.custom else "",
        )  # fmt: skip
    except UnfitTextError as problem:
        return Refused(printable(cut.id), str(problem))
    return utterance


def sample_number(seconds: float, rate_hz: int) -> int:
    """Seconds as a number of samples, halves up, as lhotse counts."""
    from lhotse.utils import compute_num_samples

    return int(compute_num_samples(seconds, rate_hz))


def unfit_reason(cut: Any, wanted_channel: Channel | None) -> str | None:
    """Why a cut cannot be used, or None."""
    if not isinstance(cut.id, str):
        return "its id is not text"
    if cut.recording is None:
        return "has no recording"
    if cut.start < 0:
        return f"starts at {cut.start:g} s"
    return transform_reason(cut.recording) or channel_reason(cut, wanted_channel)


def transform_reason(recording: Any) -> str | None:
    """Why a recording cannot be used, or None."""
    if recording.transforms:
        names = ", ".join(sorted({transform_name(transform) for transform in recording.transforms}))
        return (
            f"its recording is transformed ({printable(names, limit=80)}); {AS_FILES}, or name the untransformed cuts"
        )
    if not LOWEST_HZ <= recording.sampling_rate <= HIGHEST_HZ:
        return f"has a sample rate of {recording.sampling_rate} Hz; {LOWEST_HZ} to {HIGHEST_HZ} are read"
    return None


def channel_reason(cut: Any, wanted_channel: Channel | None) -> str | None:
    """Why no channel can be taken, or None."""
    channels = cut_channels(cut)
    if wanted_channel is None and len(channels) != 1:
        return (
            f"has {len(channels)} channels ({', '.join(map(str, channels[:8]))}); say which with channel: in the recipe, or mix for "
            "their mean"
        )
    if wanted_channel == "mix" and len(channels) > 1:
        holders = [set(source.channels) for source in cut.recording.sources if set(source.channels) & set(channels)]
        if holders == [set(channels)]:
            return None
        whole = f"of {len(holders)} files" if len(holders) != 1 else f"of the {len(holders[0])} of its file"
        return f"has {len(channels)} channels {whole}; channel: mix takes the mean of all channels of one file: name a number"
    if wanted_channel == "mix":
        wanted_channel = None
    if wanted_channel is not None and wanted_channel not in channels:
        return f"has no channel {wanted_channel}, which the recipe names; it has {', '.join(map(str, channels[:8]))}"
    channel = chosen_channel(cut, wanted_channel)
    if not any(channel in source.channels for source in cut.recording.sources):
        return f"no source of its recording has channel {channel}"
    return None


def transform_name(transform: Any) -> str:
    """What lhotse calls a transform."""
    return str(transform.get("name", "?")) if isinstance(transform, dict) else type(transform).__name__


def cut_channels(cut: Any) -> list[int]:
    """Channels that a cut takes from its recording; a plain recording with several has all of them."""
    if isinstance(cut.channel, int):
        return list(cut.recording.channel_ids) if cut.channel < 0 else [cut.channel]
    return list(cut.channel)


def chosen_channel(cut: Any, wanted_channel: Channel | None) -> Channel:
    """The channel to take, by lhotse's number; `mix` only where the cut has several."""
    channels = cut_channels(cut)
    if wanted_channel is None or (wanted_channel == "mix" and len(channels) == 1):
        return channels[0]
    return wanted_channel


def supervisions_of(cut: Any, channel: Channel) -> list[Any]:
    """Supervisions that belong to what is taken: those of the chosen channel, where the cut has several, that overlap its stretch."""
    several = channel != "mix" and len(cut_channels(cut)) > 1
    instant_s = 0.5 / cut.recording.sampling_rate
    return [
        segment
        for segment in cut.supervisions
        if segment.start + segment.duration > instant_s
        and segment.start < cut.duration - instant_s
        and (
            not several
            or channel == segment.channel
            or (isinstance(segment.channel, list) and channel in segment.channel)
        )
    ]


def cut_through(cut: Any, supervisions: Sequence[Any]) -> dict[str, int]:
    """How many supervisions reach beyond the cut, so that their text says more than its audio; empty if none does."""
    count = sum(
        segment.start < -TIMES_ROUNDED_S or segment.start + segment.duration > cut.duration + TIMES_ROUNDED_S
        for segment in supervisions
    )
    return {CUT_THROUGH: count} if count else {}


def supervised(supervisions: Iterable[Any]) -> dict[str, str | None]:
    """Text, speaker and language of a cut; texts of several supervisions are joined, labels that differ are left out."""
    segments = sorted(supervisions, key=lambda segment: segment.start)
    texts = [segment.text for segment in segments if segment.text]
    speakers = {segment.speaker for segment in segments}
    languages = {segment.language for segment in segments}
    return {
        "text": " ".join(texts) or None,
        "speaker": speakers.pop() if len(speakers) == 1 else None,
        "language": languages.pop() if len(languages) == 1 else None,
    }


def custom_fields(cut: Any, supervisions: Sequence[Any]) -> dict[str, Any]:
    """Custom fields of a cut and of its only supervision that are plain data (manifests of other audio are not), and lhotse's gender."""
    genders = {segment.gender for segment in supervisions} - {None}
    fields: dict[str, Any] = {"gender": genders.pop()} if len(genders) == 1 else {}
    for owner in (*(supervisions if len(supervisions) == 1 else ()), cut):
        fields.update(owner.custom or {})
    return {name: value for name, value in fields.items() if is_plain(value)}


def is_plain(value: Any) -> bool:
    """Whether a value is JSON and no manifest."""
    if isinstance(value, dict):
        return "sources" not in value and all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
