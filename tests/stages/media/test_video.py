"""Videos that we read: exact frames of clips, time stamps, rotations, depths, odd sizes."""

import math
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.stages.errors import ConfigError
from posedance.stages.media import container
from posedance.stages.media.video import (
    Clip,
    DecodeReport,
    clip_start,
    count_frames,
    output_rate,
    probe,
    read_frames,
)
from posedance.stages.types import VideoInfo

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi", ".h264"])
def test_a_constant_rate_is_exact_in_every_container(tmp_path, make_video, numbers, suffix):
    if suffix == ".h264":
        path = make_video(
            tmp_path / "v.h264", 100, NTSC, container="h264", options={"x264-params": "force-cfr=1"}
        )
    else:
        path = make_video(tmp_path / f"v{suffix}", 100, NTSC)
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (160, 96, NTSC, 100)
    assert info.duration == 100 / NTSC
    assert not info.has_audio
    report = DecodeReport()
    assert numbers(path, report=report) == list(range(100))
    assert (report.decoded, report.damaged, report.lost) == (100, 0, 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize(
    ("start", "duration", "stride"), [("0.5", "1", 1), ("1.9", None, 3), ("2", "0.7", 2)]
)
def test_a_clip_is_cut_at_the_exact_frame(tmp_path, make_video, numbers, suffix, start, duration, stride):
    path = make_video(tmp_path / f"v{suffix}", 90)
    clip = Clip(Fraction(start), duration and Fraction(duration), stride)
    first = int(Fraction(start) * 30)
    stop = 90 if duration is None else first + int(Fraction(duration) * 30)
    assert numbers(path, clip) == list(range(first, stop, stride))
    info = probe(path)
    assert count_frames(info, clip) == len(range(first, stop, stride))
    assert clip_start(info, clip) == Fraction(first, 30)
    assert output_rate(info, clip) == Fraction(30, stride)


SEEKING = {
    "v.mp4": ("libx264", None),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "v.mov": ("mpeg4", None),
    "v.mkv": ("libx264", None),
    "v.webm": ("libvpx-vp9", None),
    "v.avi": ("mpeg4", None),
    "v.flv": ("flv", None),
    "v.wmv": ("wmv2", None),
    "v.ts": ("libx264", None),
    "mpeg2.ts": ("mpeg2video", None),
    "v.mpg": ("mpeg1video", None),
    "v.vob": ("mpeg2video", None),
    "h264.vob": ("libx264", None),
}


@pytest.mark.parametrize("name", SEEKING)
def test_a_clip_from_anywhere_is_what_reading_from_the_start_gives(tmp_path, make_video, numbers, name):
    codec, muxing = SEEKING[name]
    options = {"g": "12", "b": "4000000"} | ({} if codec in ("flv", "wmv2", "libvpx-vp9") else {"bf": "2"})
    path = make_video(tmp_path / name, 60, Fraction(25), codec=codec, options=options, muxing=muxing)
    whole = numbers(path)
    assert whole == list(range(60))
    for first in range(0, 60, 4):
        clip = Clip(Fraction(first, 25), Fraction(2, 25))
        assert numbers(path, clip) == whole[first : first + 2]


def test_frames_are_counted_where_two_have_one_time_stamp(tmp_path, make_video, numbers):
    """Many small frames in one packet, with one time stamp for all: FFmpeg reckons the others', and errs."""
    path = make_video(tmp_path / "v.vob", 97, Fraction(25), codec="mpeg2video", container="vob")
    assert (probe(path).num_frames, probe(path).fps) == (97, 25)
    assert numbers(path) == list(range(97))
    assert numbers(path, Clip(Fraction(37, 25), Fraction(4, 25))) == [37, 38, 39, 40]


@pytest.mark.parametrize("rate", [NTSC, Fraction(24000, 1001), Fraction(30), Fraction(60000, 1001)])
def test_a_start_rounded_to_the_microsecond_is_the_frame_that_was_meant(rate):
    info = VideoInfo(64, 64, rate, 1000, 1000 / rate, False)
    for frame in range(1000):
        time = frame / rate
        down = Fraction(math.floor(time * 1_000_000), 1_000_000)
        assert clip_start(info, Clip(down)) == time
        if frame:
            assert clip_start(info, Clip(down - Fraction(2, 1_000_000))) == (frame - 1) / rate


@settings(max_examples=25, deadline=None)
@given(
    start=st.fractions(0, 3), duration=st.none() | st.fractions(Fraction(1, 100), 4), stride=st.integers(1, 7)
)
def test_a_clip_is_a_slice_of_the_whole(long_video, numbers, start, duration, stride):
    path, info, whole = long_video
    clip = Clip(start, duration, stride)
    got = numbers(path, clip)
    first = round(clip_start(info, clip) * info.fps)
    assert got == whole[first : first + (len(got) - 1) * stride + 1 : stride]
    assert len(got) == count_frames(info, clip)
    assert 0 <= clip.start - clip_start(info, clip) + Fraction(1, 10**6) <= 1 / info.fps + Fraction(1, 10**6)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory, make_video, numbers):
    path = make_video(tmp_path_factory.mktemp("video") / "v.mp4", 100, NTSC)
    return path, probe(path), numbers(path)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_variable_rate_is_resampled_by_time_stamps(tmp_path, make_video, numbers, suffix):
    # in ms: 30 a second, then a pause of half a second, then 15 a second, 7 ms off the grid
    times = [0, 33.3, 66.7, 100, 133.3, 166.7, 666.7, 700, 733.3, 766.7, 807, 873, 940, 1007]
    stamps = [round(time * 90) for time in times]
    path = make_video(tmp_path / f"v{suffix}", len(times), pts=stamps, tick=Fraction(1, 90000))
    info = probe(path)
    assert info.fps == 30
    got = numbers(path)
    shown = [max(i for i, t in enumerate(times) if t <= 1000 * k / 30 + 0.5) for k in range(len(got))]
    assert got == shown
    assert abs(info.duration - Fraction(1040, 1000)) <= Fraction(1, 30)
    assert got.count(5) == 15  # the pause is held
    assert numbers(path, Clip(start=0.4, duration=0.5)) == got[12:27]


def test_time_zero_is_the_first_frame(tmp_path, make_video, numbers):
    path = make_video(tmp_path / "v.mkv", 30, pts=range(300, 330))
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time * container.streams.video[0].time_base == 10
    assert probe(path).num_frames == 30
    assert numbers(path, Clip(start=Fraction(1, 2))) == list(range(15, 30))


# The display matrix of ISO 14496-12 as stored in a file: x' = a x + c y, y' = b x + d y, y down.
MATRICES = {
    "quarter turn clockwise": ((0, 1, -1, 0), lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
    "quarter turn back": ((0, -1, 1, 0), lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)),
    "half turn": ((-1, 0, 0, -1), lambda image: cv2.rotate(image, cv2.ROTATE_180)),
    "mirror": ((-1, 0, 0, 1), lambda image: cv2.flip(image, 1)),
    "transposed": ((0, 1, 1, 0), lambda image: cv2.transpose(image)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_display_matrix_is_applied(tmp_path, make_video, name):
    (a, b, c, d), turn = MATRICES[name]
    matrix = [v * 65536 for v in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]
    path = make_video(
        tmp_path / "v.mp4", 3, prepare=lambda stream: stream.set_display_matrix(matrix), draw=corner_marks
    )
    expected = turn(corner_marks(0, 160, 96))
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    for frame in read_frames(path, Clip()):
        assert frame.flags.c_contiguous
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 4


def corner_marks(index: int, width: int, height: int) -> np.ndarray:
    image = np.full((height, width, 3), 60, np.uint8)
    image[: height // 2, : width // 2] = 220
    image[height // 2 :, : width // 4] = 140
    return image


@pytest.mark.parametrize(
    ("rotation", "turn"),
    [(-90, cv2.ROTATE_90_CLOCKWISE), (90, cv2.ROTATE_90_COUNTERCLOCKWISE), (180, cv2.ROTATE_180)],
)
def test_a_phone_held_upright_is_turned_as_players_do(tmp_path, make_video, rotation, turn):
    path = make_video(
        tmp_path / "v.mov", 2, prepare=lambda stream: stream.set_display_rotation(rotation), draw=corner_marks
    )
    with av.open(str(path)) as container:
        assert abs(next(container.decode(video=0)).rotation) == abs(rotation)
    frame = next(read_frames(path, Clip()))
    assert np.abs(frame.astype(int) - cv2.rotate(corner_marks(0, 160, 96), turn)).mean() < 4


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size", "suffix"),
    [
        ("libx264", "yuv420p10le", (160, 96), ".mp4"),
        ("libx265", "yuv420p10le", (160, 96), ".mp4"),
        ("libx264", "yuv444p", (161, 97), ".mkv"),
        ("ffv1", "yuv420p", (161, 97), ".mkv"),
        ("libvpx-vp9", "yuv420p", (161, 97), ".webm"),
        ("ffv1", "bgr0", (160, 96), ".mkv"),
        ("prores_ks", "yuv422p10le", (160, 96), ".mov"),
    ],
)
def test_depths_and_odd_sizes(tmp_path, make_video, read_number, codec, pix_fmt, size, suffix):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"g": "12"}
    path = make_video(tmp_path / f"v{suffix}", 5, codec=codec, pix_fmt=pix_fmt, size=size, options=options)
    info = probe(path)
    assert (info.width, info.height) == size
    frames = list(read_frames(path, Clip()))
    assert frames[0].shape == (size[1], size[0], 3)
    assert frames[0].dtype == np.uint8
    assert [read_number(frame) for frame in frames] == list(range(5))


def test_a_consumer_that_stops_early_closes_the_file(tmp_path, make_video):
    path = make_video(tmp_path / "v.mp4", 60)
    frames = read_frames(path, Clip())
    next(frames)
    opened = Path("/proc/self/fd")
    if not opened.is_dir():
        pytest.skip("no /proc: open files cannot be listed")

    def holds() -> bool:
        return any(link.is_symlink() and link.resolve() == path for link in opened.iterdir())

    assert holds()
    frames.close()
    assert not holds()


def test_frames_belong_to_the_caller(tmp_path, make_video, read_number):
    times = [0, 3, 4, 5, 6]
    path = make_video(tmp_path / "v.mkv", 5, pts=times, codec="ffv1", pix_fmt="bgr0", options={"g": "1"})
    got = []
    for frame in read_frames(path, Clip()):
        got.append(read_number(frame))
        frame[:] = 255
    assert got == [0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start": -1}, "start -1 is negative"),
        ({"start": "soon"}, "start soon is not a number"),
        ({"start": float("nan")}, "start nan"),
        ({"duration": 0}, "duration 0 is not positive"),
        ({"duration": Fraction(-1, 2)}, "duration -0.5 is not positive"),
        ({"stride": 0}, "stride 0"),
        ({"stride": 1.5}, "stride 1.5"),
    ],
)
def test_a_clip_that_makes_no_sense(fields, reason):
    with pytest.raises(ConfigError, match=reason):
        Clip(**fields)


def test_a_start_past_the_end_says_the_length(tmp_path, make_video):
    path = make_video(tmp_path / "v.mp4", 45)
    with pytest.raises(ConfigError, match=r"start 2 s .* 1\.5 s long"):
        read_frames(path, Clip(start=2))
    with pytest.raises(ConfigError, match=r"1\.5 s long"):
        count_frames(probe(path), Clip(start=Fraction(3, 2)))


def test_a_float_start_is_taken_to_the_microsecond():
    assert Clip(start=0.3).start == Fraction(3, 10)


def test_a_real_clip(samples):
    path = samples / "driving_02.mp4"
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (576, 1024, 30, 228)
    assert not info.has_audio
    report = DecodeReport()
    frames = list(read_frames(path, Clip(start=5, stride=8), report))
    assert len(frames) == count_frames(info, Clip(start=5, stride=8)) == 10
    assert report.lost == report.damaged == 0


def test_a_scan_is_kept_until_the_file_changes(tmp_path, make_video, monkeypatch):
    """Opening a long video for each of its clips must not read all of it each time."""
    path, opened, real = make_video(tmp_path / "v.mp4", 12, NTSC), [], container.open_container
    monkeypatch.setattr(container, "open_container", lambda path: opened.append(path) or real(path))
    assert container.scan(path) is container.scan(path) and len(opened) == 1
    assert container.scan(path).timeline.num_frames == 12
    shutil.copy(make_video(tmp_path / "longer.mp4", 15, NTSC), path)
    assert container.scan(path).timeline.num_frames == 15
