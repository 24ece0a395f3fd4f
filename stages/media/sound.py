"""Sound as samples: read from a file, and written to one from which a `VideoWriter` takes it."""

import os
import wave
from dataclasses import dataclass

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from ..atomic import atomic_path
from .audio import AudioSource, origin_of
from .container import moved_packets, open_container, sound_stream

LARGEST_16_BIT = 32767


@dataclass(frozen=True, slots=True)
class Sound:
    """`samples` float32 [C, N] from -1 to 1, of one channel or two; `rate` samples a second."""

    samples: np.ndarray
    rate: int


def read_sound(source: AudioSource) -> Sound | None:
    """The sound of a source, more than two channels mixed down; None where the file has none.

    It begins at `source.start` exactly, with silence where the file's sound begins later. Packets that do not
    decode are passed over. Raises VideoError for a file that cannot be read.
    """
    with open_container(source.path) as container:
        stream = sound_stream(container)
        if stream is None:
            return None
        rate = stream.sample_rate
        resampler = AudioResampler(
            format="fltp", layout="mono" if stream.channels == 1 else "stereo", rate=rate
        )
        origin, jumps = origin_of(container, stream, source.path)
        offset = origin + source.start
        pieces: list[np.ndarray] = []
        begin = offset
        for packet in moved_packets(container, stream, jumps):
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            for frame in frames:
                assert isinstance(frame, AudioFrame)
                if not pieces and frame.pts is not None and frame.time_base is not None:
                    begin = frame.pts * frame.time_base
                frame.pts = None
                pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
    channels = 1 if stream.channels == 1 else 2
    samples = np.concatenate([np.zeros((channels, 0), np.float32), *pieces], axis=1)
    skip = round((offset - begin) * rate)
    samples = samples[:, skip:] if skip >= 0 else np.pad(samples, ((0, 0), (-skip, 0)))
    stop = None if source.duration is None else round(source.duration * rate)
    return Sound(np.ascontiguousarray(samples[:, :stop]), rate)


def write_sound(path: str | os.PathLike[str], sound: Sound) -> None:
    """Write a WAV file of 16 bits, whole or not at all."""
    levels = np.rint(np.clip(sound.samples, -1, 1) * LARGEST_16_BIT).astype("<i2")
    with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(len(levels))
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(levels.T.tobytes())
