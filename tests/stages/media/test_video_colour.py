"""Matrix, range and transfer of a video are heeded: what was red is red."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from posedance.stages.media.video import Clip, read_frames

NTSC = Fraction(30000, 1001)


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


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((64, 480), 6), ((64, 576), 6), ((1278, 64), 6), ((64, 578), 1), ((1280, 544), 1), ((1920, 64), 1)],
)
def test_an_untagged_video_is_taken_as_players_take_it(tmp_path, size, matrix):
    path = flat_video(tmp_path / "v.mkv", size, coded(RED, matrix, False))
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
