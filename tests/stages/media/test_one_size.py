"""Streams whose frames change their size on the way: each picture keeps its shape, and the change is said."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from posedance.stages.media.one_size import between_bars
from posedance.stages.media.video import Clip, DecodeReport, probe, read_frames


def changing(path: Path, sizes: list[tuple[int, int]], each: int = 5) -> Path:
    """Motion JPEG of some frames of each size: a white disc of half the shorter side on grey."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuvj420p"
        index = 0
        for width, height in sizes:
            coder = av.CodecContext.create("mjpeg", "w")
            coder.width, coder.height, coder.pix_fmt = width, height, "yuvj420p"
            coder.time_base = Fraction(1, 10)
            y, x = np.mgrid[:height, :width]
            disc = np.hypot(x - width / 2, y - height / 2) < min(width, height) / 4
            picture = np.repeat(np.where(disc, 255, 60).astype(np.uint8)[..., None], 3, 2)
            for _ in range(each):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                index += 1
                for packet in coder.encode(frame):
                    packet.stream = stream
                    output.mux(packet)
    return path


def disc_of(frame: np.ndarray) -> tuple[int, int]:
    """Width and height of what is white in a frame."""
    white = frame[..., 0] > 160
    return int(white.any(0).sum()), int(white.any(1).sum())


@pytest.mark.parametrize(
    ("sizes", "disc"),
    [
        ([(72, 128), (128, 72)], 20),
        ([(128, 72), (72, 128)], 20),
        ([(128, 72), (256, 144)], 36),
        ([(128, 72), (64, 36), (128, 72)], 36),
    ],
)
def test_a_frame_of_another_size_keeps_its_shape(tmp_path, sizes, disc):
    path = changing(tmp_path / "a.mkv", sizes)
    report = DecodeReport()
    frames = list(read_frames(path, Clip(), report))
    assert len(frames) == 5 * len(sizes) == probe(path).num_frames
    assert {frame.shape[1::-1] for frame in frames} == {sizes[0]}
    assert disc_of(frames[7]) == pytest.approx((disc, disc), abs=2)
    first, other = ("x".join(map(str, size)) for size in sizes[:2])
    assert [note.split(": ", 1)[1] for note in report.notes] == [
        f"its frames change from {first} to {other}: the later ones are scaled as a whole"
    ]


def test_a_smaller_reading_keeps_the_shape_too(tmp_path):
    path = changing(tmp_path / "a.mkv", [(72, 128), (128, 72)])
    frames = list(read_frames(path, Clip(), longest_side=64))
    assert {frame.shape for frame in frames} == {(64, 36, 3)}
    assert disc_of(frames[7]) == pytest.approx((10, 10), abs=2)


def test_the_same_shape_fills_the_picture():
    white = np.full((36, 64, 3), 255, np.uint8)
    assert between_bars(white, (101, 57)).min() == 255
