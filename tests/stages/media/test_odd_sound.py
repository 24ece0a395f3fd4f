"""Sound of odd files: which of several tracks counts, stamps that jump or stand still, packets that lap."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from posedance.stages.media.audio import AudioSource
from posedance.stages.media.sound import read_sound

RATE = 48000


def tone(hertz: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(np.arange(round(RATE * seconds)) * 2 * np.pi * hertz / RATE).astype(np.float32)


def pitch(samples: np.ndarray) -> int:
    """The loudest frequency, Hz, rounded to 100."""
    spectrum = np.abs(np.fft.rfft(samples))
    return round(float(np.argmax(spectrum)) * RATE / len(samples), -2)


def with_tracks(path: Path, tracks: list[tuple[int, Disposition]]) -> Path:
    """Sound alone: a track of one pitch for each (hertz, disposition)."""
    with av.open(str(path), "w") as output:
        streams = []
        for _, disposition in tracks:
            streams.append(output.add_stream("pcm_s16le", rate=RATE, layout="mono"))
            streams[-1].disposition = disposition
        for stream, (hertz, _) in zip(streams, tracks, strict=True):
            block = (tone(hertz)[None] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, "s16", "mono")
            frame.sample_rate = RATE
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


NONE, DEFAULT = Disposition(0), Disposition.default


@pytest.mark.parametrize(
    ("tracks", "heard"),
    [
        ([(300, NONE), (700, DEFAULT)], 700),
        ([(300, NONE), (500, DEFAULT), (700, DEFAULT)], 500),
        ([(300, DEFAULT), (700, NONE)], 300),
        ([(300, NONE), (700, NONE)], 300),
    ],
)
def test_the_track_that_is_marked_as_default_is_heard(tmp_path, tracks, heard):
    sound = read_sound(AudioSource(with_tracks(tmp_path / "a.mkv", tracks)))
    assert sound is not None
    assert pitch(sound.samples[0]) == heard
