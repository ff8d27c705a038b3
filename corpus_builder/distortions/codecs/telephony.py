"""The codecs of telephony: G.711, G.722, G.726, GSM full rate and AMR-NB, in packets of 20 ms."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soundfile

from corpus_builder.distortions.codecs.ffmpeg import av_packets, av_samples
from corpus_builder.distortions.codecs.packets import Coded, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Pcm

NARROW_BAND_HZ = 8_000
WIDE_BAND_HZ = 16_000
NARROW_PACKET = 160
WIDE_PACKET = 320
AMR_NO_DATA = b"\x7c"  # frame type 15 of RFC 4867: the decoder conceals as 3GPP TS 26.091 says


def g711(samples: Pcm, *, law: Literal["ALAW", "ULAW"]) -> Coded:
    """Logarithmic PCM, 8 bits a sample (ITU-T G.711), by libsndfile; 64 kbit/s at 8 kHz, 300 to 3400 Hz in the network.

    Args:
        samples: At 8 kHz, shape (time,).
        law: `ALAW` as in Europe, `ULAW` as in North America and Japan.
    """
    stream = raw_bytes(padded(samples, NARROW_PACKET), subtype=law)
    return Coded(split(stream, NARROW_PACKET), partial(raw_samples, subtype=law), NARROW_PACKET)


def gsm_full_rate(samples: Pcm) -> Coded:
    """Regular pulse excitation with long-term prediction (GSM 06.10, ETSI EN 300 961), by libgsm in libsndfile; 13 kbit/s at 8 kHz.

    Args:
        samples: At 8 kHz, shape (time,).
    """
    stream = raw_bytes(padded(samples, NARROW_PACKET), subtype="GSM610")
    return Coded(split(stream, 33), partial(raw_samples, subtype="GSM610"), NARROW_PACKET)


def g726(samples: Pcm, *, bitrate_kbps: float) -> Coded:
    """Adaptive differential PCM of 2 to 5 bits a sample (ITU-T G.726), by FFmpeg; 16 to 40 kbit/s at 8 kHz.

    FFmpeg, coder and decoder alike, rounds otherwise than the reference in the last bits, and at 40 kbit/s does not decode
    libsndfile's G.723 at 40 as it does; the noise it leaves is that of libsndfile's to half a decibel.

    Args:
        samples: At 8 kHz, shape (time,).
        bitrate_kbps: 16, 24, 32 or 40.
    """
    bits = int(bitrate_kbps) // 8
    # FFmpeg codes frames of other lengths; the bits of a sample follow one another through them all
    packets, _ = av_packets(
        padded(samples, NARROW_PACKET),
        coder="g726",
        sample_format="s16",
        bitrate_kbps=bitrate_kbps,
        rate_hz=NARROW_BAND_HZ,
    )
    decode = partial(joined, decoder="g726", rate_hz=NARROW_BAND_HZ, options={"bits_per_coded_sample": str(bits)})
    return Coded(split(b"".join(packets), NARROW_PACKET * bits // 8), decode, NARROW_PACKET)


def g722(samples: Pcm, *, bitrate_kbps: float) -> Coded:
    """Two bands of adaptive differential PCM (ITU-T G.722), by FFmpeg; 64 kbit/s at 16 kHz, 50 to 7000 Hz.

    The 56 and 48 kbit/s of the standard are decoder modes: the coder sends 64, and one or two bits of the lower band go to data.

    Args:
        samples: At 16 kHz, shape (time,).
        bitrate_kbps: 48, 56 or 64.
    """
    packets, _ = av_packets(
        padded(samples, WIDE_PACKET), coder="g722", sample_format="s16", bitrate_kbps=64, rate_hz=WIDE_BAND_HZ
    )
    options = {"bits_per_codeword": str(int(bitrate_kbps) // 8)}
    decode = partial(joined, decoder="g722", rate_hz=WIDE_BAND_HZ, options=options)
    return Coded(split(b"".join(packets), 160), decode, WIDE_PACKET)


def amr_narrow_band(samples: Pcm, *, bitrate_kbps: float, conceals_itself: bool) -> Coded:
    """Algebraic code-excited linear prediction (AMR-NB, 3GPP TS 26.090), coded by OpenCORE; 4.75 to 12.2 kbit/s at 8 kHz.

    Args:
        samples: At 8 kHz, shape (time,).
        bitrate_kbps: One of the eight modes.
        conceals_itself: Decode with OpenCORE, which knows lost frames, and not with FFmpeg, which does not.
    """
    packets, _ = av_packets(
        samples, coder="libopencore_amrnb", sample_format="s16", bitrate_kbps=bitrate_kbps, rate_hz=NARROW_BAND_HZ
    )
    decoder = "libopencore_amrnb" if conceals_itself else "amrnb"
    decode = partial(av_samples, decoder=decoder, rate_hz=NARROW_BAND_HZ)
    return Coded(packets, decode, NARROW_PACKET, stand_in=lambda _: AMR_NO_DATA)


def padded(samples: Pcm, packet: int) -> Pcm:
    """Samples with silence to the end of the last packet."""
    return np.concatenate([samples, np.zeros(-samples.size % packet, samples.dtype)])


def joined(packets: list[bytes], **options: Any) -> NDArray[Any]:
    """Decode packets of a codec that has no frames as one."""
    return av_samples([b"".join(packets)], **options)


def raw_bytes(samples: Pcm, *, subtype: str) -> bytes:
    """Samples coded by libsndfile, without a header."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, NARROW_BAND_HZ, format="RAW", subtype=subtype)
    return stream.getvalue()


def raw_samples(packets: list[bytes], *, subtype: str) -> Pcm:
    """Packets decoded by libsndfile, shape (time,)."""
    stream = io.BytesIO(b"".join(packets))
    pcm, _ = soundfile.read(stream, dtype="int16", samplerate=NARROW_BAND_HZ, channels=1, format="RAW", subtype=subtype)
    return np.asarray(pcm)
