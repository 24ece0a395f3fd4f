"""Sound of odd files: which of several tracks counts, stamps that jump or stand still, packets that lap."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from videos import moving, write_video

from posedance.stages.errors import VideoError
from posedance.stages.media import audio
from posedance.stages.media.audio import AudioSource, try_sound
from posedance.stages.media.sound import read_sound

RATE = 48000


def tone(hertz: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(np.arange(round(RATE * seconds)) * 2 * np.pi * hertz / RATE).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
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


def shift_packet(path: Path, number: int, milliseconds: int) -> None:
    """Give an audio packet of a Matroska file another time: the int16 before its bytes, after the flags."""
    with av.open(str(path)) as container:
        coded = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    data = bytearray(path.read_bytes())
    place = data.index(coded[number]) - 3
    time = int.from_bytes(data[place : place + 2], signed=True) + milliseconds
    data[place : place + 2] = time.to_bytes(2, signed=True)
    path.write_bytes(data)


def beeps(seconds: float) -> np.ndarray:
    """Low noise with a short tone at every half second."""
    sound = np.random.default_rng(0).normal(0, 0.01, round(seconds * RATE)).astype(np.float32)
    for start in range(RATE // 2, len(sound), RATE // 2):
        sound[start : start + 960] = tone(1000, 0.02)[: len(sound) - start]
    return sound


def beep_times(path: Path) -> list[float]:
    sound = read_sound(AudioSource(path))
    assert sound is not None
    loud = np.flatnonzero(np.abs(sound.samples[0]) > 0.2)
    return (loud[np.diff(loud, prepend=-RATE) > RATE // 4] / sound.rate).tolist()


@pytest.mark.parametrize(
    "shifts",
    [{40: -21}, {40: -21, 41: -42}, {39: 21}, {20: -21, 30: -21, 50: -21}, {40: -15}],
    ids=["one stamp", "one stamp thrice", "as the next", "several pairs", "overlap"],
)
def test_packets_that_share_a_stamp_are_written_and_the_rest_stays_in_time(tmp_path, make_video, shifts):
    source = make_video(tmp_path / "in.mkv", 60, sound=beeps(2))
    before = beep_times(source)
    for number, milliseconds in shifts.items():
        shift_packet(source, number, milliseconds)
    try_sound(AudioSource(source))
    out = write_video(tmp_path / "out.mp4", moving(60), audio=AudioSource(source), preset="ultrafast")
    assert beep_times(out) == pytest.approx(before, abs=0.003)
    with av.open(str(out)) as container:
        stamps = [packet.pts or 0 for packet in container.demux(audio=0) if packet.size]
    assert min(np.diff(stamps)) > 0


def test_sound_that_cannot_be_written_is_the_sources_fault(tmp_path, make_video, monkeypatch):
    source = make_video(tmp_path / "in.mkv", 20, sound=beeps(1))
    monkeypatch.setattr(audio, "_one_after_another", lambda packets: packets)
    shift_packet(source, 20, -42)
    for use in (
        lambda: try_sound(AudioSource(source)),
        lambda: write_video(tmp_path / "out.mp4", moving(60), audio=AudioSource(source)),
    ):
        with pytest.raises(VideoError, match=r"the sound of .*in\.mkv cannot be written .*encode\.no-audio"):
            use()
