import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.stages.errors import ConfigError, VideoError
from posedance.stages.timeline import make_timeline
from posedance.stages.video import (
    Clip,
    DecodeReport,
    clip_start,
    count_frames,
    output_rate,
    probe,
    read_frames,
)

NTSC = Fraction(30000, 1001)


def numbers(read_number, path, clip=None, report=None):
    return [read_number(frame) for frame in read_frames(path, clip or Clip(), report)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi", ".h264"])
def test_a_constant_rate_is_exact_in_every_container(tmp_path, make_video, read_number, suffix):
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
    assert numbers(read_number, path, report=report) == list(range(100))
    assert (report.decoded, report.damaged, report.lost) == (100, 0, 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize(
    ("start", "duration", "stride"), [("0.5", "1", 1), ("1.9", None, 3), ("2", "0.7", 2)]
)
def test_a_clip_is_cut_at_the_exact_frame(tmp_path, make_video, read_number, suffix, start, duration, stride):
    path = make_video(tmp_path / f"v{suffix}", 90)
    clip = Clip(Fraction(start), duration and Fraction(duration), stride)
    first = int(Fraction(start) * 30)
    stop = 90 if duration is None else first + int(Fraction(duration) * 30)
    assert numbers(read_number, path, clip) == list(range(first, stop, stride))
    info = probe(path)
    assert count_frames(info, clip) == len(range(first, stop, stride))
    assert clip_start(info, clip) == Fraction(first, 30)
    assert output_rate(info, clip) == Fraction(30, stride)


@settings(max_examples=25, deadline=None)
@given(
    start=st.fractions(0, 3), duration=st.none() | st.fractions(Fraction(1, 100), 4), stride=st.integers(1, 7)
)
def test_a_clip_is_a_slice_of_the_whole(long_video, read_number, start, duration, stride):
    path, info, whole = long_video
    clip = Clip(start, duration, stride)
    got = numbers(read_number, path, clip)
    first = round(clip_start(info, clip) * info.fps)
    assert got == whole[first : first + (len(got) - 1) * stride + 1 : stride]
    assert len(got) == count_frames(info, clip)
    assert 0 <= clip.start - clip_start(info, clip) + Fraction(1, 10**6) <= 1 / info.fps + Fraction(1, 10**6)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory, make_video, read_number):
    path = make_video(tmp_path_factory.mktemp("video") / "v.mp4", 100, NTSC)
    return path, probe(path), numbers(read_number, path)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_variable_rate_is_resampled_by_time_stamps(tmp_path, make_video, read_number, suffix):
    # in ms: 30 a second, then a pause of half a second, then 15 a second, 7 ms off the grid
    times = [0, 33.3, 66.7, 100, 133.3, 166.7, 666.7, 700, 733.3, 766.7, 807, 873, 940, 1007]
    stamps = [round(time * 90) for time in times]
    path = make_video(tmp_path / f"v{suffix}", len(times), pts=stamps, tick=Fraction(1, 90000))
    info = probe(path)
    assert info.fps == 30
    got = numbers(read_number, path)
    shown = [max(i for i, t in enumerate(times) if t <= 1000 * k / 30 + 0.5) for k in range(len(got))]
    assert got == shown
    assert abs(info.duration - Fraction(1040, 1000)) <= Fraction(1, 30)
    assert got.count(5) == 15  # the pause is held
    assert numbers(read_number, path, Clip(start=0.4, duration=0.5)) == got[12:27]


def test_time_zero_is_the_first_frame(tmp_path, make_video, read_number):
    path = make_video(tmp_path / "v.mkv", 30, pts=range(300, 330))
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time * container.streams.video[0].time_base == 10
    assert probe(path).num_frames == 30
    assert numbers(read_number, path, Clip(start=Fraction(1, 2))) == list(range(15, 30))


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


RED = (200, 60, 40)
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # ITU-R BT.709, BT.601, BT.2020


def flat_video(
    path: Path, size, *frames, pix_fmt="yuv420p", matrix=2, span=1, transfer=2, primaries=2
) -> Path:
    """Flat colours given as Y, Cb, Cr codes, one for each frame, stored without loss under the given tags."""
    kind = "<u2" if pix_fmt.endswith("10le") else "u1"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, span
        context.color_trc, context.color_primaries = transfer, primaries
        for index, codes in enumerate(frames):
            frame = av.VideoFrame(*size, pix_fmt)
            for plane, code in zip(frame.planes, codes, strict=True):
                plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, code, kind).tobytes())
            frame.colorspace, frame.color_range = matrix, span
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def coded(rgb, matrix: int, full: bool) -> list[int]:
    red, green, blue = (value / 255 for value in rgb)
    kr, kb = WEIGHTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    if full:
        return [round(255 * luma), *(round(128 + 255 * value) for value in chroma)]
    return [round(16 + 219 * luma), *(round(128 + 224 * value) for value in chroma)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_matrix_and_range_are_heeded(tmp_path, matrix, full):
    planes = coded(RED, matrix, full)
    path = flat_video(tmp_path / "v.mkv", (64, 64), planes, matrix=matrix, span=2 if full else 1)
    assert np.abs(next(read_frames(path, Clip()))[32, 32].astype(int) - RED).max() <= 3


@pytest.mark.parametrize(("height", "matrix"), [(480, 6), (720, 1)])
def test_an_untagged_video_is_taken_as_players_take_it(tmp_path, height, matrix):
    path = flat_video(tmp_path / "v.mkv", (64, height), coded(RED, matrix, False))
    assert np.abs(next(read_frames(path, Clip()))[32, 32].astype(int) - RED).max() <= 3


@pytest.mark.parametrize(
    ("transfer", "white"), [(16, 0.5806), pytest.param(18, 0.75, marks=pytest.mark.slow)], ids=["PQ", "HLG"]
)
def test_hdr_reference_white_becomes_white(tmp_path, transfer, white):
    """203 cd/m2 is 58 % of PQ and 75 % of HLG (ITU-R BT.2408)."""
    levels = [[round(64 + 876 * level), 512, 512] for level in (white / 2, white, 1.0)]
    path = flat_video(
        tmp_path / "v.mkv", (64, 64), *levels, pix_fmt="yuv420p10le", matrix=9, transfer=transfer, primaries=9
    )
    dark, middle, bright = (frame[32, 32].astype(int) for frame in read_frames(path, Clip()))
    assert dark.max() < 150
    assert middle.min() >= 250
    assert bright.min() == 255


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


def test_a_truncated_file_gives_what_decodes_and_counts_the_rest(tmp_path, make_video, read_number):
    path = make_video(tmp_path / "v.mp4", 120, muxing={"movflags": "+faststart"})
    data = path.read_bytes()
    for share in (0.5, 0.8):
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(data[: len(data) - int((len(data) - data.index(b"mdat")) * share)])
        report = DecodeReport()
        got = numbers(read_number, cut, report=report)
        assert 0 < len(got) < 120
        assert got[:-3] == list(range(len(got) - 3))  # the last may be patched up by the decoder
        assert report.decoded + report.lost == 120
        assert report.lost >= 120 - len(got)
        assert probe(cut).num_frames < 120


def test_a_truncated_matroska_is_noticed_too(tmp_path, make_video, read_number):
    path = make_video(tmp_path / "v.mkv", 120)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = DecodeReport()
    got = numbers(read_number, cut, report=report)
    assert 0 < len(got) < 110
    assert report.decoded + report.lost == 120


def test_packets_that_do_not_decode_are_held_over_and_counted(tmp_path, make_video, read_number):
    path = make_video(tmp_path / "v.avi", 60, codec="mjpeg", pix_fmt="yuvj420p", options={"strict": "-1"})
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for index in (20, 21, 40):
        position, size = places[index]
        data[position + 16 : position + size - 16] = bytes(size - 32)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(data)
    report = DecodeReport()
    got = numbers(read_number, broken, report=report)
    assert report.lost == 3
    assert report.decoded == 57
    assert len(got) >= 57


def test_damage_in_the_middle_keeps_the_other_frames_in_their_places(tmp_path, make_video, read_number):
    path = make_video(tmp_path / "v.mp4", 90, options={"g": "10", "bf": "0", "keyint_min": "10"})
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places[30:40]:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    report = DecodeReport()
    got = numbers(read_number, path, report=report)
    assert len(got) == 90
    assert got[:30] == list(range(30))
    assert got[40:] == list(range(40, 90))
    assert report.lost + report.damaged == 10
    later = DecodeReport()
    assert numbers(read_number, path, Clip(start=2), later) == list(range(60, 90))
    assert later.lost == 0


def sound_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def cut_before_index(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(3000))


BAD_FILES = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "not a file"),
    "empty": (lambda path: path.touch(), "empty"),
    "text": (lambda path: path.write_text("not a video\n" * 200), "cannot be read as a video"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:5,\n/etc/hosts\n"), "cannot be read"),
    "sound": (sound_only, "only sound"),
    "picture": (lambda path: cv2.imwrite(str(path) + ".png", np.zeros((64, 64, 3))), "does not exist"),
    "no index": (cut_before_index, "cannot be read as a video"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_no_video_says_why(tmp_path, kind):
    make, reason = BAD_FILES[kind]
    path = tmp_path / "dance.mp4"
    make(path)
    for use in (probe, lambda path: read_frames(path, Clip())):
        with pytest.raises(VideoError, match=reason) as caught:
            use(path)
        assert "dance.mp4" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_picture_is_no_video(tmp_path):
    path = tmp_path / "dance.mp4"
    path.write_bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    with pytest.raises(VideoError, match="picture"):
        probe(path)


def test_a_video_without_a_frame_that_decodes(tmp_path, make_video):
    path = make_video(tmp_path / "v.mp4", 20)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"no frame of .* can be decoded"):
        probe(path)
    with pytest.raises(VideoError, match=r"no frame of .* can be decoded"):
        list(read_frames(path, Clip()))


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


RATES = [
    Fraction(24000, 1001),
    Fraction(25),
    NTSC,
    Fraction(30),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
]


@given(
    rate=st.sampled_from(RATES),
    tick=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 600), None]),
    count=st.integers(3, 400),
    origin=st.integers(-1000, 1000),
)
def test_rounded_time_stamps_give_each_frame_its_own_slot(rate, tick, count, origin):
    tick = tick or 1 / rate
    pts = [origin + math.floor(k / (rate * tick) + Fraction(1, 2)) for k in range(count)]
    timeline = make_timeline(pts, 0, tick, [rate])
    assert timeline.rate == rate
    assert timeline.constant
    assert [timeline.slot(stamp) for stamp in pts] == list(range(count))
    assert timeline.num_frames == count


@given(rate=st.sampled_from(RATES), dropped=st.sets(st.integers(1, 98), max_size=30))
def test_dropped_frames_leave_holes_in_a_constant_rate(rate, dropped):
    slots = [k for k in range(100) if k not in dropped]
    pts = [round(k * 1000 / rate) for k in slots]
    timeline = make_timeline(pts, 0, Fraction(1, 1000), [rate])
    assert timeline.rate == rate
    assert [timeline.slot(stamp) for stamp in pts] == slots


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_a_variable_rate_shows_the_last_frame_that_is_due(steps):
    tick = Fraction(1, 1000)
    pts = np.cumsum([0, *steps]).tolist()
    timeline = make_timeline(pts, steps[-1], tick, [])
    slots = [timeline.slot(stamp) for stamp in pts]
    assert slots == sorted(slots)
    assert slots[0] == 0
    half_frame = Fraction(1, 2) / timeline.rate
    for stamp, slot in zip(pts, slots, strict=True):
        late = slot / timeline.rate - stamp * tick
        if timeline.constant:
            assert abs(late) <= half_frame
        else:
            assert -tick <= late < 1 / timeline.rate
    assert abs(timeline.num_frames / timeline.rate - timeline.end * tick) <= 2 / timeline.rate + tick
