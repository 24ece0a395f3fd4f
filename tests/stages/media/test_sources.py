"""Where frames come from: numbered pictures and animations as videos, and what is too large to decode."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorTrc
from PIL import Image

from posedance.stages.errors import ConfigError, VideoError
from posedance.stages.media.numbered import missing_numbers, numbered_pictures
from posedance.stages.media.video import Clip, DecodeReport, count_frames, probe, read_frames

FPS = Fraction(24)


def shade(index: int) -> np.ndarray:
    """uint8 [48, 64, 3]: a frame's number as its level of grey, and a white corner at the upper left."""
    image = np.full((48, 64, 3), 8 * index + 4, np.uint8)
    image[:8, :8] = 255
    return image


def shades(path: Path, clip: Clip, report: DecodeReport | None = None) -> list[int]:
    return [int(frame[40, 40].mean()) // 8 for frame in read_frames(path, clip, report)]


def folder_of(path: Path, numbers, name="frame_{}.png") -> Path:
    path.mkdir()
    for shown, number in enumerate(numbers):
        Image.fromarray(shade(shown)).save(path / name.format(number))
    return path


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([7, 8, 9, 10], ""),
        ([0, 2, 4, 6], ""),
        ([7, 8, 10, 13], "3 missing between 7 and 13: 9, 11 to 12"),
        ([0, 2, 4, 8], "1 missing between 0 and 8: 6"),
        ([20240101093012, 20240101093014, 20240101093115], ""),
        (range(0, 60, 3), ""),
        ([n for n in range(60) if n % 3], "19 missing between 1 and 59: 3, 6, 9, 12, 15, 18, 21, 24 and 11"),
    ],
)
def test_missing_numbers_are_counted_and_named(tmp_path, numbers, told):
    for name in ("{:05d}.png", "shot2_{:05d}.png", "frame{}-v3.png"):
        found = missing_numbers([tmp_path / name.format(number) for number in numbers])
        assert found.startswith(told) and bool(found) == bool(told)
    assert missing_numbers([tmp_path / "a.png", tmp_path / "b.png"]) == ""


def test_gaps_in_numbered_pictures_are_said(tmp_path):
    report = DecodeReport()
    folder = folder_of(tmp_path / "dance", [1, 2, 5])
    assert shades(folder, Clip(fps=FPS), report) == [0, 1, 2]
    (note,) = report.notes
    assert "2 missing between 1 and 5: 3 to 4; they are shown without a pause" in note


@pytest.mark.parametrize("name", ["frame_{}.png", "{:04d}.webp", "a 7 {}.bmp", "shot2-{:03d}-b.tif"])
def test_a_folder_is_a_video_in_the_order_of_its_numbers(tmp_path, name):
    path = folder_of(tmp_path / "dance", range(7, 21), name)
    (path / "notes.txt").write_text("not a picture")
    (path / ".hidden.png").write_bytes(b"")
    info = probe(path, Clip(fps=FPS))
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 48, FPS, 14)
    assert info.duration == Fraction(14, 24)
    assert not info.has_audio
    assert shades(path, Clip(fps=FPS)) == list(range(14))
    clip = Clip(Fraction(3, 24), Fraction(8, 24), 2, fps=FPS)
    assert shades(path, clip) == [3, 5, 7, 9]
    assert count_frames(info, clip) == 4


def test_a_pattern_names_the_pictures(tmp_path):
    path = folder_of(tmp_path / "dance", range(95, 105), "frame_{:02d}.png")
    Image.fromarray(shade(0)).save(path / "mask_99.png")
    Image.fromarray(shade(0)).save(path / "frame_99b.png")
    for pattern in ("frame_%02d.png", "frame_%d.png"):
        assert shades(path / pattern, Clip(fps=FPS)) == list(range(10))


def test_pictures_are_read_as_pictures_are(tmp_path):
    path = folder_of(tmp_path / "dance", range(3), "{}.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    for file in path.iterdir():
        Image.open(file).save(file, exif=exif, quality=95)
    info = probe(path, Clip(fps=FPS))
    assert (info.width, info.height) == (48, 64)
    assert next(read_frames(path, Clip(fps=FPS)))[3, 44].min() > 240  # the corner is now at the upper right


def test_a_damaged_picture_is_held_over_and_counted(tmp_path):
    path = folder_of(tmp_path / "dance", range(6))
    (path / "frame_3.png").write_bytes((path / "frame_3.png").read_bytes()[:60])
    report = DecodeReport()
    assert shades(path, Clip(fps=FPS), report) == [0, 1, 2, 2, 4, 5]
    assert (report.decoded, report.lost) == (5, 1)


def test_what_is_wrong_with_pictures_is_said(tmp_path, make_video):
    path = folder_of(tmp_path / "dance", range(3))
    with pytest.raises(ConfigError, match="--fps"):
        probe(path)
    with pytest.raises(ConfigError, match="--fps"):
        read_frames(path, Clip())
    video = make_video(tmp_path / "v.mp4", 3)
    with pytest.raises(ConfigError, match="times of its own"):
        probe(video, Clip(fps=FPS))
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "empty", tmp_path / "frame_%04d.png", tmp_path / "none" / "%d.png"):
        with pytest.raises(VideoError, match="no pictures"):
            probe(missing, Clip(fps=FPS))
    with pytest.raises(ConfigError, match="fps 0"):
        Clip(fps=Fraction(0))
    assert numbered_pictures(video) is None


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng"])
@pytest.mark.parametrize("start", [0, 4])
def test_an_animation_keeps_its_own_times(tmp_path, suffix, start):
    frames = [Image.fromarray(shade(index)) for index in range(8)]
    durations = [100, 100, 100, 300, 100, 100, 100, 100]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"dance{suffix}"
    frames[0].save(
        path,
        format="PNG" if suffix == ".apng" else None,
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        **options,
    )
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 48, 10, 10)
    assert shades(path, Clip(Fraction(start, 10))) == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7][start:]


def test_an_animation_without_times_runs_as_in_browsers(tmp_path):
    frames = [Image.fromarray(shade(index)) for index in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    assert probe(tmp_path / "a.gif").fps == 10


def test_transparent_parts_of_an_animation_are_white(tmp_path):
    frames = []
    for index in range(3):
        frame = Image.fromarray(shade(index)).convert("RGBA")
        frame.paste((0, 0, 0, 0), (32, 0, 64, 24))
        frames.append(frame)
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True, duration=40)
    for index, frame in enumerate(read_frames(tmp_path / "a.webp", Clip())):
        assert frame[10, 50].tolist() == [255, 255, 255]
        assert frame[40, 10].tolist() == [8 * index + 4] * 3


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_a_still_picture_is_no_video(tmp_path, suffix):
    Image.fromarray(shade(3)).save(tmp_path / f"a{suffix}")
    with pytest.raises(VideoError):
        probe(tmp_path / f"a{suffix}")


HUGE = """
import resource, sys
from posedance.stages.errors import VideoError
from posedance.stages.media.video import Clip, probe, read_frames
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for use in (probe, lambda path: read_frames(path, Clip())):
    try:
        use(sys.argv[1])
    except VideoError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_huge_frame_is_refused_by_its_header(tmp_path, make_video):
    def flat(index, width, height):
        return np.zeros((height, width, 3), np.uint8)

    coding = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"q": "9"}}
    path = make_video(tmp_path / "v.mov", 1, size=(9000, 8000), draw=flat, **coding)
    done = subprocess.run([sys.executable, "-c", HUGE, str(path)], capture_output=True, text=True, check=True)
    first, second, grown = done.stdout.splitlines()
    assert first == second
    assert "9000x8000" in first and "--max-pixels" in first
    assert int(grown) < 300


def test_the_limit_is_the_callers(tmp_path, make_video):
    path = make_video(tmp_path / "v.mp4", 3)
    assert probe(path, Clip(max_pixels=160 * 96)).num_frames == 3
    for source, clip in (
        (path, Clip(max_pixels=160 * 96 - 1)),
        (folder_of(tmp_path / "dance", range(2)), Clip(fps=FPS, max_pixels=64 * 48 - 1)),
    ):
        with pytest.raises(VideoError, match="--max-pixels"):
            probe(source, clip)
        with pytest.raises(VideoError, match="--max-pixels"):
            read_frames(source, clip)


FAST = {"preset": "ultrafast"}


@pytest.mark.parametrize("suffix", [".ts", ".h264"])
def test_frames_that_grow_after_the_header_are_refused(tmp_path, make_video, suffix):
    """Behind more small frames than a header's reader looks at."""
    flat = {"draw": lambda index, width, height: np.full((height, width, 3), 90, np.uint8)}
    parts = [
        make_video(tmp_path / f"{name}{suffix}", count, FPS, size=size, options=FAST, **flat)
        for name, count, size in (("small", 1000, (64, 48)), ("large", 2, (1280, 960)))
    ]
    path = tmp_path / f"grown{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = Clip(max_pixels=64 * 48)
    assert probe(path, clip).width == 64
    with pytest.raises(VideoError, match=r"grown.* has frames of 1280x960: .* need --max-pixels"):
        list(read_frames(path, clip))
    assert len(list(read_frames(parts[0], clip))) == 1000


def test_a_picture_that_is_larger_than_the_first_is_refused(tmp_path):
    folder = folder_of(tmp_path / "dance", range(3))
    Image.new("RGB", (640, 480)).save(folder / "frame_2.png")
    with pytest.raises(VideoError, match=r"frame_2\.png has frames of 640x480: .* need --max-pixels"):
        list(read_frames(folder, Clip(fps=FPS, max_pixels=64 * 48)))


HDR = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:max-cll=1000,400"
CODED = {
    "b-frames.mp4": ("libx264", "yuv420p", {"bf": "3", "g": "9"}),
    "open.mkv": ("libx264", "yuv420p", {"bf": "2", "g": "9", "x264-params": "open-gop=1"}),
    "hevc.mov": ("libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "9"}),
    "422.mov": ("prores_ks", "yuv422p10le", {}),
    "old.mpg": ("mpeg2video", "yuv420p", {"bf": "2", "b": "4000000"}),
    "camera.avi": ("mjpeg", "yuvj420p", {"q": "5"}),
    "av1.mp4": ("libsvtav1", "yuv420p10le", {"preset": "12", "svtav1-params": "keyint=9"}),
    "hdr.mp4": ("libx265", "yuv420p10le", {"x265-params": f"log-level=none:{HDR}"}),
    "fragments.mp4": ("libx264", "yuv420p", {"bf": "2", "g": "9"}),
    "edits.mov": ("libx264", "yuv420p", {"bf": "2", "g": "9"}),
    "long.mp4": ("libx264", "yuv420p", FAST),
}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
MARKS = {"fragments.mp4": b"moof", "edits.mov": b"elst", "av1.mp4": b"av01"}
"""What is in a file that is what its name says (ISO 14496-12)."""
LATE = 7
"""Frames before the first one: .mov tells them by an empty edit."""


@pytest.mark.parametrize("name", CODED)
def test_counts_sizes_and_rates_are_those_of_a_full_decode(tmp_path, make_video, name):
    codec, pix_fmt, options = CODED[name]
    count = 3000 if name == "long.mp4" else 43
    muxing = FRAGMENTS if name == "fragments.mp4" else None
    pts = range(LATE, LATE + count) if name == "edits.mov" else None
    path = make_video(
        tmp_path / name, count, FPS, codec=codec, pix_fmt=pix_fmt, options=options, muxing=muxing, pts=pts
    )
    assert MARKS.get(name, b"") in path.read_bytes()
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        rate = container.streams.video[0].average_rate
    assert (decoded[0].color_trc == ColorTrc.SMPTE2084) == (name == "hdr.mp4")
    info = probe(path)
    assert info.num_frames == len(decoded) == count
    assert (info.width, info.height) == (decoded[0].width, decoded[0].height)
    assert info.fps == rate == FPS
    report = DecodeReport()
    assert sum(1 for _ in read_frames(path, Clip(), report)) == count
    assert (report.decoded, report.damaged, report.lost) == (count, 0, 0)
