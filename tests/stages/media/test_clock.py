"""Clocks that jump within a file, dropped frames of AVI, packets that show nothing: counts and times hold."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from posedance.stages.media.audio import AudioSource
from posedance.stages.media.clock import Jump, Packets, jumps_of_sound, jumps_of_video
from posedance.stages.media.sound import read_sound
from posedance.stages.media.video import Clip, DecodeReport, probe

HOUR = 3600 * 30
RATE = 48000


def beeps(seconds: float) -> np.ndarray:
    """Low noise with a short tone at every half second."""
    sound = np.random.default_rng(0).normal(0, 0.01, round(seconds * RATE)).astype(np.float32)
    for start in range(RATE // 2, len(sound) - 960, RATE // 2):
        sound[start : start + 960] += 0.5 * np.sin(np.arange(960) / 8).astype(np.float32)
    return sound


def beep_times(path: Path) -> list[float]:
    sound = read_sound(AudioSource(path))
    assert sound is not None
    loud = np.flatnonzero(np.abs(sound.samples[0]) > 0.2)
    return (loud[np.diff(loud, prepend=-RATE) > RATE // 4] / sound.rate).tolist()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_the_clock_goes_on_where_it_jumps_ahead(tmp_path, make_video, numbers, suffix, bframes):
    pts = [index + HOUR * (index // 20) for index in range(60)]
    path = make_video(tmp_path / f"v{suffix}", 60, pts=pts, options={"bf": bframes, "g": "12"})
    report = DecodeReport()
    assert numbers(path, report=report) == list(range(60))
    assert probe(path).num_frames == 60
    assert report.lost == 0
    assert [note.split(": ", 1)[1] for note in report.notes] == [
        "its clock jumps (+3600 s, +3600 s): taken as going on without a break"
    ]
    assert numbers(path, Clip(start=Fraction(5, 6), duration=1)) == list(range(25, 55))


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_the_clock_goes_on_where_it_starts_anew(tmp_path, make_video, numbers, suffix):
    codecs = {"codec": "mpeg2video", "sound_codec": "mp2"} if suffix == ".mpg" else {}
    path = make_video(tmp_path / f"v{suffix}", 60, sound=beeps(2), **codecs)
    path.write_bytes(path.read_bytes() * 2)  # as `cat` joins such files
    report = DecodeReport()
    assert numbers(path, report=report) == [*range(60), *range(60)]
    assert probe(path).num_frames == 120
    assert report.lost == 0
    assert "its clock jumps (-2 s)" in report.notes[0]
    assert beep_times(path) == pytest.approx([0.5, 1, 1.5, 2.5, 3, 3.5], abs=0.03)


def test_the_sound_stays_with_the_pictures_over_a_jump(tmp_path, make_video):
    source = make_video(tmp_path / "in.mp4", 60, sound=beeps(2), options={"bf": "0"})
    for streams in (("video", "audio"), ("audio",), ("video",)):
        path = tmp_path / f"{'-'.join(streams)}.mkv"
        with av.open(str(source)) as given, av.open(str(path), "w") as output:
            copies = {stream.index: output.add_stream_from_template(stream) for stream in given.streams}
            for packet in given.demux():
                if packet.size and packet.dts is not None and packet.pts is not None:
                    late = packet.stream.type in streams and packet.pts * packet.time_base >= 1
                    ticks = int((3600 if late else 0) / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    packet.stream = copies[packet.stream.index]
                    output.mux(packet)
        assert probe(path).num_frames == 60
        assert beep_times(path) == pytest.approx([0.5, 1, 1.5], abs=0.03)


def test_a_pause_that_sound_fills_is_none_and_slides_are_far_apart():
    second = [30 * k for k in range(30)]
    video = Packets([*second, *(time + 20_000 for time in second)], [], [], Fraction(1, 900))
    sound = Packets([20 * k for k in range(1200)], [], [20] * 1200, Fraction(1, 900))
    assert jumps_of_video(video, sound) == ()
    assert jumps_of_video(video, None) == (Jump(30, Fraction(900 - 20_000, 900)),)
    assert jumps_of_sound(sound, video) == ()
    slides = [13_500 * k for k in range(6)]
    assert jumps_of_video(Packets(slides, slides, [13_500] * 6, Fraction(1, 900)), None) == ()


@pytest.mark.parametrize(
    ("back", "moved"), [((3, 3), (3, 3)), ((3, 0), (3, None)), ((0, 3), (None, None)), ((0, 20), (None, 20))]
)
def test_sound_that_overlaps_moves_with_the_pictures_alone(back, moved):
    """In tenths of a second: how far either stream goes back after a second, and what is added then."""
    pictures, words = ([k - (k >= 30) * 3 * each for k in range(60)] for each in back)
    video = Packets(pictures, pictures, [], Fraction(1, 30))
    sound = Packets(words, words, [], Fraction(1, 30))
    for found, tenths in zip(
        (jumps_of_video(video, sound), jumps_of_sound(sound, video)), moved, strict=True
    ):
        assert found == (() if tenths is None else (Jump(30, Fraction(tenths, 10)),))


@pytest.mark.parametrize(("codec", "bframes"), [("mpeg4", 0), ("mpeg4", 2), ("libx264", 2), ("mjpeg", 0)])
def test_dropped_frames_of_avi_are_held(tmp_path, make_video, numbers, codec, bframes):
    pts = [index for index in range(60) if index % 3 != 1]
    pix_fmt, options = ("yuvj420p", {"strict": "-1"}) if codec == "mjpeg" else ("yuv420p", {"g": "12"})
    if bframes:
        options |= {"bf": str(bframes)}
    path = make_video(
        tmp_path / "v.avi",
        40,
        pts=pts,
        codec=codec,
        pix_fmt=pix_fmt,
        options=options,
        sound=beeps(2),
        sound_codec="pcm_s16le",
    )
    info, report = probe(path), DecodeReport()
    assert (info.num_frames, info.fps, info.duration) == (60, 30, 2)
    found = numbers(path, report=report)
    assert len(found) == 60
    assert report.lost == 0
    held = [max(k for k, time in enumerate(pts) if time <= index) for index in range(60)]
    off = max(abs(a - b) for a, b in zip(found, held, strict=True))
    assert off <= (1 if bframes else 0)  # the places of frames that B-frames wait for are those of decoding
    assert beep_times(path) == pytest.approx([0.5, 1, 1.5], abs=0.002)


def test_a_fine_ruler_is_no_rate(tmp_path, make_video):
    path = make_video(tmp_path / "v.avi", 30, Fraction(120), pts=[4 * k for k in range(30)], codec="mpeg4")
    info = probe(path)
    assert (info.num_frames, info.fps) == (30, 30)


@pytest.mark.parametrize(("codec", "show"), [("libvpx", 1 << 4), ("libvpx-vp9", 1 << 1)])
def test_frames_that_are_not_shown_are_not_counted(tmp_path, make_video, numbers, codec, show):
    """Frames for prediction alone in packets of their own: key frames without the bit that shows them."""
    source = make_video(tmp_path / "in.webm", 30, codec=codec, options={"g": "1", "b": "400k", "speed": "8"})
    path, hidden = tmp_path / "v.mkv", 0
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(given.demux(stream)):
            if not packet.size:
                continue
            if number % 3 == 1 and packet.pts is not None:
                data = bytearray(bytes(packet))
                assert data[0] & show
                data[0] &= ~show
                other = av.Packet(bytes(data))
                other.pts = other.dts = packet.pts - 9
                other.time_base, other.stream = packet.time_base, copy
                output.mux(other)
                hidden += 1
            packet.stream = copy
            output.mux(packet)
    assert hidden == 10
    report = DecodeReport()
    assert numbers(path, report=report) == list(range(30))
    assert probe(path).num_frames == 30
    assert (report.decoded, report.lost) == (30, 0)
