"""Videos that we write: exact times, true colours, sound in sync, the same bytes again, nothing torn."""

import os
import resource
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from videos import moving, write_video

from posedance.stages.errors import OutputError
from posedance.stages.media.encode import AudioSource, VideoWriter, side_by_side
from posedance.stages.media.video import Clip, probe, read_frames

NTSC = Fraction(30000, 1001)


def test_a_video_comes_back(tmp_path):
    frames = list(moving(40))
    path = write_video(tmp_path / "out.mp4", frames, crf=5)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    got = list(read_frames(path, Clip()))
    assert len(got) == 40
    for frame, expected in zip(got, frames, strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 6


def test_colours_survive(tmp_path):
    for colour in ((200, 60, 40), (30, 180, 60), (20, 40, 220), (255, 255, 255), (0, 0, 0)):
        path = write_video(tmp_path / "out.mp4", [np.full((64, 64, 3), colour, np.uint8)] * 3, crf=5)
        for frame in read_frames(path, Clip()):
            assert np.abs(frame[32, 32].astype(int) - colour).max() <= 4


def test_what_the_file_says_of_itself(tmp_path):
    path = write_video(tmp_path / "out.mp4", moving(20), NTSC)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        bt709, limited = 1, 1  # ITU-T H.273
        assert (context.color_primaries, context.color_trc, context.colorspace) == (bt709, bt709, bt709)
        assert context.color_range == limited
        assert stream.average_rate == NTSC
        assert not container.streams.audio


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_lossless_video_comes_back_to_the_bit(tmp_path, bit_depth):
    spread = np.arange(30, dtype=np.uint16) % 4
    frames = list(moving(30, 63, 47))
    if bit_depth == 10:
        frames = [4 * frame.astype(np.uint16) + extra for frame, extra in zip(frames, spread, strict=True)]
    path = write_video(tmp_path / "out.mkv", frames, NTSC, bit_depth=bit_depth, lossless=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
        kind = "rgb24" if bit_depth == 8 else "gbrp10le"
        for frame, expected in zip(container.decode(video=0), frames, strict=True):
            np.testing.assert_array_equal(frame.to_ndarray(format=kind), expected)
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (63, 47, NTSC, 30)
    shown = list(read_frames(path, Clip()))
    assert np.abs(shown[7] - frames[7] / (4 if bit_depth == 10 else 1)).max() <= 1
    again = write_video(tmp_path / "again.mkv", frames, NTSC, bit_depth=bit_depth, lossless=True)
    assert path.read_bytes() == again.read_bytes()


def test_ten_bits_hold_what_eight_do_not(tmp_path):
    """A slow ramp: of 64 levels eight bits have 16."""
    ramp = np.repeat(np.arange(400, 464, dtype=np.uint16), 2)
    frames = [np.broadcast_to(ramp[None, :, None], (48, 128, 3))] * 3
    path = write_video(tmp_path / "out.mp4", frames, crf=1, bit_depth=10)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
        got = next(container.decode(video=0)).to_ndarray(format="gbrp10le")
    assert len(np.unique(got[24])) > 40
    assert np.abs(got[24].astype(int) - frames[0][24]).mean() < 3
    with pytest.raises(ValueError, match="expected uint16"):
        write_video(tmp_path / "out.mp4", moving(2), bit_depth=10)


@pytest.mark.parametrize(
    "fps", [NTSC, Fraction(24000, 1001), Fraction(15), Fraction(30000, 2002), Fraction(17, 3)]
)
def test_every_frame_has_its_exact_time(tmp_path, fps):
    path = write_video(tmp_path / "out.mp4", moving(100), fps, preset="ultrafast")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(p.pts * stream.time_base for p in container.demux(stream) if p.size)
        assert times == [k / fps for k in range(100)]
        assert stream.duration * stream.time_base == 100 / fps
    info = probe(path)
    assert (info.fps, info.num_frames) == (fps, 100)


def test_an_odd_size_grows_by_its_last_row_and_column(tmp_path):
    frames = [np.full((33, 47, 3), 180, np.uint8)] * 4
    path = write_video(tmp_path / "out.mp4", frames, crf=5)
    info = probe(path)
    assert (info.width, info.height) == (48, 34)
    for frame in read_frames(path, Clip()):
        assert np.abs(frame.astype(int) - 180).max() <= 3


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = list(moving(80, 160, 128))
    one = write_video(tmp_path / "one.mp4", frames).read_bytes()
    assert one == write_video(tmp_path / "two.mp4", frames).read_bytes()
    frames[40] = 255 - frames[40]
    assert one != write_video(tmp_path / "three.mp4", frames).read_bytes()


def test_smooth_frames_give_the_same_bytes_again_and_again(tmp_path):
    """With x264's macroblock tree some of them differ on a processor with AVX-512."""
    y, x = np.mgrid[:96, :64]
    waves = [
        np.stack([np.sin((x + 2 * k) / 9), np.cos((y - k) / 11), np.sin((x + y + 3 * k) / 7)], -1)
        for k in range(8)
    ]
    frames = [(127 + 100 * wave).astype(np.uint8) for wave in waves]
    assert len({write_video(tmp_path / "out.mp4", frames).read_bytes() for _ in range(30)}) == 1


class Stopped(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt(), Stopped(), FileNotFoundError("other.png")]
)
@pytest.mark.parametrize("before", [0, 25])
def test_an_interrupted_block_leaves_nothing(tmp_path, error, before):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older result")
    with pytest.raises(type(error)) as caught, VideoWriter(path, 64, 48, Fraction(30)) as writer:
        for frame in moving(before):
            writer.write(frame)
        raise error
    assert caught.value is error
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_bytes() == b"an older result"


def test_a_video_without_frames_is_an_error(tmp_path):
    with (
        pytest.raises(OutputError, match=r"no frame .*out\.mp4"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, NTSC),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame", [np.zeros((48, 63, 3), np.uint8), np.zeros((48, 64, 3), np.float32)])
def test_a_frame_of_another_kind_is_refused(tmp_path, frame):
    with (
        pytest.raises(ValueError, match=r"expected uint8 \[48, 64, 3\]"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, NTSC) as writer,
    ):
        writer.write(frame)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in [
        (tmp_path / "nowhere" / "out.mp4", "No such file"),
        (tmp_path / "file" / "out.mp4", "Not a directory"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(OutputError, match=reason) as caught:
            write_video(path, moving(3))
        assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_video(tmp_path / "out.mp4", moving(3))


FULL_DISK = """
import resource, sys
from fractions import Fraction
import numpy as np
from posedance.stages.media.encode import VideoWriter
from posedance.stages.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
rng = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], 256, 256, Fraction(30), crf=1, preset="ultrafast") as writer:
        for _ in range(int(sys.argv[2])):
            writer.write(rng.integers(0, 255, (256, 256, 3), np.uint8))
except OutputError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("count", [1, 60])
def test_no_space_left_is_one_line_and_leaves_nothing(tmp_path, count):
    """A limit on the size of files stands for a full disk: the same calls fail, with EFBIG for ENOSPC."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.mp4"), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert "File too large" in done.stdout
    assert "out.mp4" in done.stdout
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_length(tmp_path, make_video):
    sound = np.random.default_rng(0).normal(0, 0.1, 48000 * 2)
    source = make_video(tmp_path / "in.mp4", 60, sound=sound)  # sound that ends long before the video
    frame = next(moving(1, 320, 240))
    with VideoWriter(tmp_path / "out.mp4", 320, 240, NTSC, AudioSource(source), preset="ultrafast") as writer:
        for _ in range(300):
            writer.write(frame)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(900):
            writer.write(frame)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 900 * frame.nbytes / 10


# Sound: a click and a white frame at the same moments, found again in the output.


def test_side_by_side_scales_to_one_height():
    panels = [np.full(shape, level, np.uint8) for level, shape in ((50, (90, 60, 3)), (150, (30, 41, 3)))]
    row = side_by_side(panels, 60)
    assert row.shape == (60, 40 + 82, 3)
    assert (row[:, :40] == 50).all()
    assert (row[:, 40:] == 150).all()
    labelled = side_by_side(panels, 60, ["driving", "pose"])
    assert labelled.shape == row.shape
    assert labelled.max() > 200
    assert (panels[0] == 50).all()
    with pytest.raises(ValueError, match="2 panels and 1 labels"):
        side_by_side(panels, 60, ["driving"])
